// Package config reads the one file that describes a node and turns it into a
// Config: plain data, checked, with every default filled in and every reference
// resolved. It has no behaviour and holds nothing live; the only functions inside
// a Config are expressions, compiled when the file was read.
package config

import (
	"fmt"
	"net/http"
	"time"
)

// Value is a string expression compiled into a closure over the request. It must
// not change the request, and may be called by many goroutines.
type Value func(*http.Request) string

// Condition is a boolean expression compiled into a closure over the request. It
// must not change the request, and may be called by many goroutines.
type Condition func(*http.Request) bool

// Config describes one node. Load and Default return it complete: a reader never
// has to know a default. It is not changed after that: routes share the lists, maps
// and lifetimes that they inherit.
type Config struct {
	Warnings []Diagnostic // what is allowed but looks like a mistake; nil for none

	Node    string   // name in Cache-Status and Via; default "edge"
	Listen  []string // addresses of the public HTTP listeners; default ":8080"
	Admin   Admin
	Log     Log
	Server  Server
	Memory  Memory
	Fill    Fill
	Refresh Refresh
	Redis   *Redis // nil: this node is alone

	RateLimits []RateLimit
	Origins    []Origin
	Sites      []Site
}

// Admin is the operator's own listener.
type Admin struct {
	Listen string   // default "127.0.0.1:9090"; "off" for none
	Hosts  []string // names it is reached by, beside its address and localhost; lower case, no port; default none
	Tokens []Token  // who may ask; default none, and then only this machine may, for everything
}

// Token is a bearer token of the admin listener.
type Token struct {
	Name   string   // for logs
	Secret string   `json:"-"` // 16 bytes or more; never shown
	Scopes []string // of "purge", "read", "debug", "all"; at least one
	Sites  []string // names of the sites that it may purge; nil is every one
}

// String leaves the secret out, so that no print of a Config gives it away.
func (t Token) String() string {
	return fmt.Sprintf("{%s %v %v}", t.Name, t.Scopes, t.Sites)
}

// GoString is String, for %#v.
func (t Token) GoString() string { return t.String() }

// Log says what is logged, and how.
type Log struct {
	Level  string // "debug", "info", "warn", "error"; default "info"
	Format string // "json", "text", or "auto" (text on a terminal); default "auto"
	Access bool   // one line for each request; default true
}

// Server bounds what clients may take of the public listeners.
type Server struct {
	HeaderTimeout time.Duration // for a whole request head; default 10s
	BodyTimeout   time.Duration // silence while a request body is read; default 30s
	IdleTimeout   time.Duration // between two requests; default 75s
	WriteTimeout  time.Duration // silence of a client that takes nothing of its answer; default 60s
	MinBodyRate   int64         // bytes a second of a request body, over each BodyTimeout; default 100B, zero is no bound

	MaxHeaderBytes int64  // request head; default 8KiB
	MaxTargetBytes int64  // request target; default 4KiB, and at most MaxHeaderBytes
	MaxFields      int    // fields of a request head; default 100
	MaxFieldBytes  int64  // one field, name and value; default 4KiB, and at most MaxHeaderBytes
	Underscores    string // "drop" (the default), or "pass": request fields with "_" in their names

	ConnectionsPerClient int  // at a time; of IPv6 the first 64 bits are one client; default 16384, zero is no bound
	Quick                bool // answer plain hits on the connection itself; default true

	ShutdownGrace  time.Duration // how long SIGTERM waits for requests under way; default 30s
	TrustedProxies []string      // CIDRs whose X-Forwarded-For and Forwarded are believed; default none
	ProxyProtocol  []string      // CIDRs whose connections begin with a header of the PROXY protocol; default none
}

// Memory is the memory tier.
type Memory struct {
	Size        int64 // bytes, overhead included; default 256MiB
	MaxObject   int64 // largest object stored; default 8MiB, and at most Size/16
	MaxVariants int   // variants of one key; default 32
}

// Fill bounds responses while they are being fetched.
type Fill struct {
	Budget int64         // bytes that all fills together may hold; default 64MiB
	Window int64         // bytes a fill holds once it can no longer be stored; default 1MiB
	Wait   time.Duration // how long a request waits for another's response head before it asks for itself; default 10s
	Stall  time.Duration // how long a reader that holds others up may take nothing; default 30s
}

// Refresh is the background queue of stale-while-revalidate.
type Refresh struct {
	Workers  int           // fetches at a time; default 16
	Queue    int           // waiting refreshes; more are dropped and counted; default 1024
	Attempts int           // tries before a refresh has failed for good; default 3
	Backoff  time.Duration // wait before the second try, doubled each time, jittered; default 500ms
}

// Redis is what the nodes of a fleet share.
type Redis struct {
	URL       string        `json:"-"` // redis:// or rediss://, may hold a password; several hosts with ?cluster=true or ?sentinel=NAME
	Username  string        // default none
	Password  string        `json:"-"` // default none; never shown
	CAFile    string        // PEM; default the system's authorities
	CertFile  string        // PEM, of this node; default none
	KeyFile   string        // PEM
	Prefix    string        // of all keys; default "edge:"
	Patience  time.Duration // of a request for a look-up; default 5ms, and at most Timeout
	Timeout   time.Duration // of a command, before it counts as a failure; default 20ms
	Fence     time.Duration // silence of the purge log after which nothing stored is used unasked; default 10m, zero is never
	MaxObject int64         // largest object shared; default 8MiB
	Queue     int           // entries that may wait to be written; default 1024
	QueueSize int64         // bytes that they may hold; default 64MiB
}

// String leaves out what is secret, so that no print of a Config gives it away.
func (r *Redis) String() string { return fmt.Sprintf("{%s %s}", r.Username, r.Prefix) }

// GoString is String, for %#v.
func (r *Redis) GoString() string { return r.String() }

// RateLimit is a limit that sites and routes name.
type RateLimit struct {
	Name          string
	Limit         int64         // requests in each Period; zero where Concurrent is set
	Period        time.Duration // from 1s to 24h
	Concurrent    int64         // requests at a time, on each node alone; zero where Limit is set
	Algorithm     string        // "token_bucket", "sliding_window", "fixed_window"; default "token_bucket"
	Burst         int64         // of a token bucket: how many at once; default Limit
	Key           Value         // what is counted apart; nil is the client's address
	KeyText       string        // Key as text, like Route.WhenText
	IPv6Prefix    int           // bits of an IPv6 address that count as one client; default 64
	BlockFor      time.Duration // once exceeded, refuse for so long; default zero: until there is room
	Plans         []RatePlan    // the first that holds takes the place of Limit, Period and Burst
	Count         string        // "all", or "misses": what reaches the origin; default "all"
	Store         string        // "memory" or "redis"; default "redis" in a fleet
	OnStoreError  string        // "local" (this node's share), "allow", "deny"; default "local"
	MaxKeys       int           // counted apart in memory; default 1,000,000
	DryRun        bool          // decide and count, never refuse
	Headers       bool          // RateLimit fields on what is let through, too
	LegacyHeaders bool          // X-RateLimit fields as well
}

// RatePlan is another rate for some requests.
type RatePlan struct {
	Name     string
	When     Condition
	WhenText string // When as text, like Route.WhenText
	Limit    int64
	Period   time.Duration
	Burst    int64
}

// Origin is where a site's content comes from.
type Origin struct {
	Name           string
	URL            string        // scheme://host[:port], no path
	ConnectTimeout time.Duration // default 2s
	FirstByte      time.Duration // from the request sent to the response head; default 30s
	BetweenBytes   time.Duration // silence in the middle of a body; default 30s
	IdleTimeout    time.Duration // unused connections; default 4s, since Node closes its own at 5
	MaxConnections int           // to the origin at a time; default 0, no bound
	MaxHeaderBytes int64         // response head; default 64KiB
	Host           string        // Host sent to the origin; "" passes the client's
}

// Site is a set of authorities served alike.
type Site struct {
	Name   string
	Hosts  []string // authorities, lower case, without the scheme's own port; "*" alone is any
	Routes []Route  // most specific first; the last matches everything
}

// Route is what is done with the requests of a site that match it.
type Route struct {
	Name     string
	Path     string    // "/exact", "/prefix/*" or "/*"; matched on the normalised path
	Methods  []string  // upper case; GET brings HEAD with it; nil is any
	When     Condition // nil is always
	WhenText string    // When as text, in one spelling, constants folded; for digests, not for logs: it may hold what env gave
	Origin   string    // name of an Origin
	Upgrade  bool      // let WebSocket upgrades through; default true
	Cache    Cache
	Request  Headers // towards the origin
	Response Headers // towards the client

	RateLimits []string // names; every one must let a request pass
}

// Cache is the cache policy of one route, site and named policy already merged in.
type Cache struct {
	Enabled bool
	Policy  string // "safe" or "rfc": what the rest was filled from

	Targets          []string
	SurrogateControl bool
	StrictSMaxAge    bool
	Heuristic        bool
	StoreSetCookie   bool   // store explicitly fresh responses with their Set-Cookie (rfc only by default)
	StripSetCookie   bool   // remove Set-Cookie, and store
	Cookies          string // "permission" (safe), "ignore" (rfc), "strip": what a request's Cookie does
	ShowKeys         bool   // leave Surrogate-Key, Cache-Tag and xkey in client responses

	TTL                    *time.Duration
	DefaultTTL             *time.Duration
	MinTTL                 time.Duration
	MaxTTL                 time.Duration
	WhileRevalidate        *time.Duration
	IfError                *time.Duration
	DefaultWhileRevalidate time.Duration // default 60s
	IfUnreachable          time.Duration // default 1h
	Keep                   time.Duration // default 1h
	Negative               map[int]time.Duration
	NegativeMax            time.Duration // default 10s
	HitForMiss             time.Duration // default 10s
	MaxObject              int64         // default Memory.MaxObject
	MaxRanges              int           // default 8
	ShrinkGuard            int64         // bytes of stored body that an empty answer does not replace; default 0, no guard
	StaticType             string        // a rule that forces caching by path names the media type it expects, e.g. "text/css"; "" is no guard

	Key Key
}

// Key is what takes part in the cache key beside site, scheme, authority and path.
type Key struct {
	SortQuery  bool
	AllowQuery []string // only these parameters are kept, in key and request; nil keeps all
	DenyQuery  []string // these are dropped, from key and request
	Headers    []string // canonical names
	Cookies    []string
	Value      Value  // nil adds nothing
	ValueText  string // Value as text, like Route.WhenText
}

// Headers changes a header section: Remove, then Set, then Add.
type Headers struct {
	Remove []string
	Set    []Header
	Add    []Header
}

// Header is one field to write.
type Header struct {
	Name  string // canonical
	Value Value  // never returns a byte that may not stand in a field value: control characters of the request are left out
	Text  string // Value as text, like Route.WhenText

	Constant bool // Value does not ask the request, which may be nil
}
