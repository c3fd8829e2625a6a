package proxy

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"edge/cachestore"
)

// Cache is what all routes of a node share: the store, the fetches under way, the
// memory they may take and the queue of background refreshes. Set the fields,
// call Open, and after the last request call Close.
type Cache struct {
	Node   string // our name in Cache-Status, Via and CDN-Loop: a token
	Store  cachestore.Store
	Memory Memory                        // the part of Store that Door asks; nil: it finds nothing
	Ledger Ledger                        // nil: nothing is ever purged
	Tag    func(site, key string) uint32 // hash of a surrogate key, or of a Cache-Group with scheme://authority for the site; nil: responses carry none
	Fleet  bool                          // other nodes have caches of their own, of which the store does not tell
	Log    *slog.Logger

	FillBudget int64         // bytes that all fills together may hold; zero means 64 MiB
	FillWindow int64         // bytes a fill holds once it is not kept whole; zero means 1 MiB
	FillWait   time.Duration // how long a request waits for another's response head; zero means 10s
	FillStall  time.Duration // how long one reader may hold up others; zero means 30s

	RefreshWorkers  int           // background fetches at a time; zero means 16
	RefreshQueue    int           // refreshes that may wait; zero means 1024
	RefreshAttempts int           // tries before a refresh has failed for good; zero means 3
	RefreshBackoff  time.Duration // before the second try, doubled each time, jittered; zero means 500ms

	ctx     context.Context // ends with Close
	end     context.CancelFunc
	budget  budget
	flights flights
	marks   marks
	refresh refreshQueue
	counts  counts

	mu     sync.Mutex // guards what follows, and starting a goroutine against Close
	closed bool
	bends  map[string]bool // sites with routes whose keys are not the plain ones of their URLs
	wg     sync.WaitGroup
}

// Memory is a store that can be asked without waiting.
type Memory interface {
	// Seek is the first half of a look-up, for many keys at once: it writes to spots, of
	// which there are as many, where each has its place. Nil is nowhere.
	Seek(keys []cachestore.Key, spots []cachestore.Spot)

	// Find is the other half: Store.Get at this time, of what was at the spot. It may be
	// called for several variants.
	Find(now time.Time, at cachestore.Spot, key cachestore.Key, variant string) cachestore.Found

	// Peek is Store.Get, but a look-up that finds nothing leaves no trace: it will
	// be made again.
	Peek(key cachestore.Key, variant string) cachestore.Found
}

// near looks only where a fetch of this node leaves its response at once: to ask the
// shared tier again would cost each miss another wait.
func (c *Cache) near(ctx context.Context, key cachestore.Key, variant string) cachestore.Found {
	if _, none := c.Memory.(noMemory); none {
		return c.Store.Get(ctx, key, variant)
	}
	return c.Memory.Peek(key, variant)
}

// noMemory holds nothing.
type noMemory struct{}

func (noMemory) Seek(_ []cachestore.Key, spots []cachestore.Spot) { clear(spots) }

func (noMemory) Find(time.Time, cachestore.Spot, cachestore.Key, string) cachestore.Found {
	return cachestore.Found{}
}
func (noMemory) Peek(cachestore.Key, string) cachestore.Found { return cachestore.Found{} }

// Ledger tells what purges say about entries. Its methods are called on the
// request path: they must be quick and never block.
type Ledger interface {
	// Sequence returns that of the latest purge applied.
	Sequence() uint64
	// Judge tells what purges later than since say about the entry.
	Judge(e *cachestore.Entry, since uint64) cachestore.Verdict
	// Trusted is false while purges may have been made that are not known here:
	// every entry is then suspect.
	Trusted() bool
	// Invalidate purges the URL of this key, all variants (RFC 9111 section 4.4).
	Invalidate(key cachestore.Key)
	// InvalidateGroup purges the Cache-Group of a URI origin, scheme://authority (RFC
	// 9875 section 3).
	InvalidateGroup(origin, group string)
}

// counts are the cache's own counters; each is monotonic.
type counts struct {
	stored, storeRefused              atomic.Int64
	fillsFailed, windows, deadEntries atomic.Int64
	shrunk                            atomic.Int64
	refreshed, refreshFailed          atomic.Int64
	refreshDropped, refreshRetried    atomic.Int64
	invalidated                       atomic.Int64
}

// CacheStats is a snapshot of a Cache. Gauges are named for what is now, the rest
// only grows.
type CacheStats struct {
	FlightsNow     int   `json:"flights_now"`     // fetches that may be joined
	FillBytesNow   int64 `json:"fill_bytes_now"`  // held by fetches under way
	MarksNow       int   `json:"marks_now"`       // hit-for-miss marks, expired ones included
	RefreshesNow   int   `json:"refreshes_now"`   // background refreshes waiting or running
	Stored         int64 `json:"stored"`          // responses handed to the store
	Shrunk         int64 `json:"shrunk"`          // empty answers that did not take the place of a large body
	StoreRefused   int64 `json:"store_refused"`   // responses that the store did not take
	FillsFailed    int64 `json:"fills_failed"`    // fetches that broke off or were never answered
	Windows        int64 `json:"windows"`         // bodies that outgrew what is kept
	DeadEntries    int64 `json:"dead_entries"`    // entries found dead under the ledger
	Invalidated    int64 `json:"invalidated"`     // URLs invalidated by unsafe methods
	Refreshed      int64 `json:"refreshed"`       // background refreshes that succeeded
	RefreshRetried int64 `json:"refresh_retried"` // tries that failed and were put off
	RefreshFailed  int64 `json:"refresh_failed"`  // refreshes given up
	RefreshDropped int64 `json:"refresh_dropped"` // refreshes for which the queue had no room
}

var errClosed = errors.New("proxy: the cache is closed")

// Open fills in defaults and starts the refresh workers. It panics when Store is
// missing.
func (c *Cache) Open() {
	if c.Store == nil {
		panic("proxy: a Cache needs a Store")
	}
	c.FillBudget = orDefault(c.FillBudget, 64<<20)
	c.FillWindow = orDefault(c.FillWindow, 1<<20)
	c.FillWait = orDefault(c.FillWait, 10*time.Second)
	c.FillStall = orDefault(c.FillStall, 30*time.Second)
	c.RefreshWorkers = orDefault(c.RefreshWorkers, 16)
	c.RefreshQueue = orDefault(c.RefreshQueue, 1024)
	c.RefreshAttempts = orDefault(c.RefreshAttempts, 3)
	c.RefreshBackoff = orDefault(c.RefreshBackoff, 500*time.Millisecond)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Ledger == nil {
		c.Ledger = noLedger{}
	}
	if c.Memory == nil {
		c.Memory = noMemory{}
	}
	c.ctx, c.end = context.WithCancel(context.Background())
	c.budget.limit = c.FillBudget
	c.flights.byKey = make(map[string]*fill)
	c.flights.underWay = make(map[cachestore.Key]int)
	c.marks = newMarks()
	c.refresh.open(c.RefreshQueue)
	for range c.RefreshWorkers {
		c.wg.Go(c.refreshWorker)
	}
}

func orDefault[T int | int64 | time.Duration](value, otherwise T) T {
	if value == 0 {
		return otherwise
	}
	return value
}

// Close breaks off refreshes and fetches under way and waits until every
// goroutine has ended, or ctx has. It does not close the Store.
func (c *Cache) Close(ctx context.Context) error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.end()
	done := make(chan struct{})
	go func() {
		c.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// start runs f in a goroutine that Close waits for. It returns false, and runs
// nothing, once the cache is closed.
func (c *Cache) start(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.wg.Go(f)
	return true
}

// bent notes that a route of the site keys by more than the URL.
func (c *Cache) bent(site string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bends == nil {
		c.bends = make(map[string]bool)
	}
	c.bends[site] = true
}

// holds tells whether anything may be stored for the URL of a plain key, or be on
// its way. Where a site's keys are not plain, or other nodes have caches of their
// own, that cannot be ruled out.
func (c *Cache) holds(ctx context.Context, site string, key cachestore.Key) bool {
	c.mu.Lock()
	bent := c.bends[site]
	c.mu.Unlock()
	if bent || c.Fleet || c.flights.concern(key) {
		return true
	}
	found := c.Store.Get(ctx, key, "")
	return found.Entry != nil || found.VaryOn != nil
}

// Stats returns the counters and gauges as they stand.
func (c *Cache) Stats() CacheStats {
	return CacheStats{
		FlightsNow:     c.flights.len(),
		FillBytesNow:   c.budget.held.Load(),
		MarksNow:       c.marks.len(),
		RefreshesNow:   c.refresh.len(),
		Stored:         c.counts.stored.Load(),
		Shrunk:         c.counts.shrunk.Load(),
		StoreRefused:   c.counts.storeRefused.Load(),
		FillsFailed:    c.counts.fillsFailed.Load(),
		Windows:        c.counts.windows.Load(),
		DeadEntries:    c.counts.deadEntries.Load(),
		Invalidated:    c.counts.invalidated.Load(),
		Refreshed:      c.counts.refreshed.Load(),
		RefreshRetried: c.counts.refreshRetried.Load(),
		RefreshFailed:  c.counts.refreshFailed.Load(),
		RefreshDropped: c.counts.refreshDropped.Load(),
	}
}

// noLedger never purges anything.
type noLedger struct{}

func (noLedger) Sequence() uint64                                   { return 0 }
func (noLedger) Judge(*cachestore.Entry, uint64) cachestore.Verdict { return cachestore.Verdict{} }
func (noLedger) Trusted() bool                                      { return true }
func (noLedger) Invalidate(cachestore.Key)                          {}
func (noLedger) InvalidateGroup(string, string)                     {}
