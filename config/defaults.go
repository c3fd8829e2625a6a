package config

import "time"

const (
	kib = 1 << 10
	mib = 1 << 20
)

// defaults is the one place where defaults are written. It returns a node without
// origins and sites, an origin without name and address, and the cache policy that
// each named policy starts from. What depends on another line of the file
// (the largest object of a small memory tier) is lowered when that line is known.
func defaults() (node Config, origin Origin, policies map[string]Cache) {
	node = Config{
		Node:   "edge",
		Listen: []string{":8080"},
		Admin:  Admin{Listen: "127.0.0.1:9090"},
		Log:    Log{Level: "info", Format: "auto", Access: true},
		Server: Server{
			HeaderTimeout:        10 * time.Second,
			BodyTimeout:          30 * time.Second,
			IdleTimeout:          75 * time.Second,
			WriteTimeout:         60 * time.Second,
			MinBodyRate:          100,
			MaxHeaderBytes:       8 * kib,
			MaxTargetBytes:       4 * kib,
			MaxFields:            100,
			MaxFieldBytes:        4 * kib,
			Underscores:          "drop",
			ConnectionsPerClient: 16384,
			Quick:                true,
			ShutdownGrace:        30 * time.Second,
		},
		Memory:  Memory{Size: 256 * mib, MaxObject: 8 * mib, MaxVariants: 32},
		Fill:    Fill{Budget: 64 * mib, Window: 1 * mib, Wait: 10 * time.Second, Stall: 30 * time.Second},
		Refresh: Refresh{Workers: 16, Queue: 1024, Attempts: 3, Backoff: 500 * time.Millisecond},
	}
	origin = Origin{
		ConnectTimeout: 2 * time.Second,
		FirstByte:      30 * time.Second,
		BetweenBytes:   30 * time.Second,
		IdleTimeout:    4 * time.Second,
		MaxHeaderBytes: 64 * kib,
	}
	safe := Cache{
		Enabled:                true,
		Policy:                 "safe",
		Targets:                []string{"CDN-Cache-Control"},
		Cookies:                "permission",
		DefaultWhileRevalidate: 60 * time.Second,
		IfUnreachable:          time.Hour,
		Keep:                   time.Hour,
		NegativeMax:            10 * time.Second,
		HitForMiss:             10 * time.Second,
		MaxRanges:              8,
	}
	rfc := safe
	rfc.Policy = "rfc"
	rfc.Cookies = "ignore"
	rfc.StoreSetCookie = true
	rfc.Heuristic = true
	return node, origin, map[string]Cache{"safe": safe, "rfc": rfc}
}

// defaultRedis is what a block redis { } begins with.
func defaultRedis() Redis {
	return Redis{
		Prefix: "edge:", Patience: 5 * time.Millisecond, Timeout: 20 * time.Millisecond, Fence: 10 * time.Minute,
		MaxObject: 8 * mib, Queue: 1024, QueueSize: 64 * mib,
	}
}

// defaultRateLimit is what a block rate_limit begins with.
func defaultRateLimit() RateLimit {
	return RateLimit{Algorithm: "token_bucket", IPv6Prefix: 64, Count: "all", OnStoreError: "local", MaxKeys: 1_000_000}
}

// defaultPolicy is the policy where the file names none.
const defaultPolicy = "safe"

// memoryShare is the largest part of the memory tier that one object may take.
const memoryShare = 16

// policyNames are the policies that a file may name, in the order of the manual.
var policyNames = []string{"safe", "rfc"}
