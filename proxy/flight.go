package proxy

import (
	"errors"
	"sync"
	"time"

	"edge/cachestore"
)

// flights is the table of fills that may be joined: one for each key, variant and
// class of request. Lock order: flights.mu before fill.mu.
type flights struct {
	mu       sync.Mutex
	byKey    map[string]*fill       // some under two: see expose
	underWay map[cachestore.Key]int // fills by primary key, those that cannot be joined included
}

var errUnled = errors.New("proxy: the request that led the fetch was not let through to the origin")

var errStalledLeader = errors.New("proxy: the request that leads the fetch waits for too long")

// current returns the fill under way for the key, or nil.
func (t *flights) current(key string) *fill {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byKey[key]
}

// lead puts f in the table in place of old, which may be nil, and returns its
// leader's reader. It returns nil when the table no longer holds old: somebody
// else was first, and may be joined.
func (t *flights) lead(f, old *fill) *reader {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byKey[f.key] != old {
		return nil
	}
	t.byKey[f.key] = f
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.joinLocked(true)
}

// expose lets f be found under the key of the variant that its response has turned
// out to be. Those who learn from the store how responses vary look there, and would
// fetch beside f what it is about to bring.
func (t *flights) expose(f *fill, key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byKey[f.key] == f && t.byKey[key] == nil {
		t.byKey[key], f.variantKey = f, key
	}
}

// land takes f out of the table: no request joins it any more.
func (t *flights) land(f *fill) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, key := range [...]string{f.key, f.variantKey} {
		if t.byKey[key] == f {
			delete(t.byKey, key)
		}
	}
}

// begin and end count the fills whose response may yet be stored under a key.
func (t *flights) begin(key cachestore.Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.underWay[key]++
}

func (t *flights) end(key cachestore.Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.underWay[key]--; t.underWay[key] == 0 {
		delete(t.underWay, key)
	}
}

// concern tells whether a response is on its way that may be stored under key.
func (t *flights) concern(key cachestore.Key) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.underWay[key] > 0
}

func (t *flights) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for key, f := range t.byKey {
		if key == f.key || t.byKey[f.key] != f {
			n++
		}
	}
	return n
}

// join takes a place in the fill, or returns nil when it takes no newcomers: it
// has become a window, it has ended without an answer that may be shared, or it
// has waited for its head for longer than patience.
func (f *fill) join(now time.Time, patience time.Duration) *reader {
	f.mu.Lock()
	defer f.mu.Unlock()
	stalled := f.state == waiting && now.Sub(f.started) >= patience
	if stalled || f.window || f.state == private || f.state == failed {
		return nil
	}
	return f.joinLocked(false)
}
