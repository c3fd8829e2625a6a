package node

import (
	"runtime"
	"runtime/debug"
	"time"

	"edge/cachestore/memory"
	"edge/proxy"
	"edge/proxy/upstream"
	"edge/purge"
	"edge/ratelimit"
)

// Stats is what the node knows about itself, as /stats shows it. Counts are since
// the start.
type Stats struct {
	Version    string                    `json:"version"`
	Node       string                    `json:"node"`
	Phase      string                    `json:"phase"` // "starting", "ready", "draining" or "closed"
	Uptime     float64                   `json:"uptime_seconds"`
	Goroutines int                       `json:"goroutines"`
	Memory     MemoryStats               `json:"memory"`
	Requests   RequestStats              `json:"requests"`
	Door       DoorStats                 `json:"door"`
	Cache      proxy.CacheStats          `json:"cache"`
	Store      memory.Stats              `json:"store"`
	Purge      purge.Stats               `json:"purge"`
	PurgeCalls purge.HandlerStats        `json:"purge_calls"`
	Limits     []ratelimit.Stats         `json:"limits"`
	Fleet      *FleetStats               `json:"fleet,omitempty"` // nil: this node is alone
	Origins    map[string]upstream.Stats `json:"origins"`         // by name
}

// MemoryStats are the process's, in bytes.
type MemoryStats struct {
	Resident int64 `json:"resident"`
	Heap     int64 `json:"heap"`
	Limit    int64 `json:"limit"` // the collector's soft limit
}

// RequestStats count requests on the public listeners.
type RequestStats struct {
	Active      int64            `json:"active"`
	Connections int64            `json:"connections"` // open now, idle ones included
	Outcomes    map[string]int64 `json:"outcomes"`
}

// DoorStats count what was refused for what it is: at the door, where it never became a
// request, and by the router, where it is one of the outcomes, too.
type DoorStats struct {
	Refused map[string]int64 `json:"refused"` // by reason
}

// Stats returns the node's counters as they stand. It may be called at any time
// after Open, by any number of goroutines.
func (n *Node) Stats() Stats {
	origins := make(map[string]upstream.Stats)
	for _, o := range n.origins {
		origins[o.name] = o.pool.Stats()
	}
	stats := Stats{
		Version:    Version(),
		Node:       n.config.Node,
		Phase:      n.phase().String(),
		Uptime:     time.Since(n.opened).Seconds(),
		Goroutines: runtime.NumGoroutine(),
		Memory: MemoryStats{
			Resident: residentBytes(),
			Heap:     heapBytes(),
			Limit:    debug.SetMemoryLimit(-1),
		},
		Requests: RequestStats{
			Active:      n.tally.active.Load(),
			Connections: int64(n.connections()),
			Outcomes:    n.tally.outcomes(),
		},
		Door:       DoorStats{Refused: n.refusals.counts()},
		Cache:      n.cache.Stats(),
		Store:      n.store.Stats(),
		Purge:      n.ledger.Stats(),
		PurgeCalls: n.purges.Stats(),
		Origins:    origins,
		Limits:     n.limiter.Stats(),
	}
	if n.fleet != nil {
		stats.Fleet = n.fleet.stats()
	}
	return stats
}
