package purge

import (
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"edge/cachestore/redis/stream"
)

// outgoing is what this node has applied alone, until it was read back from the log.
type outgoing struct {
	record   stream.Record
	action   *action
	sequence uint64 // under which it was applied
}

// outbox holds what is to be written to the log. It is bounded: invalidations become
// coarse, and of purges, whose callers were told that they were not recorded, the
// oldest are dropped and counted.
type outbox struct {
	bound int

	// floor is the oldest sequence of all that is held. An entry from another node
	// may not be taken to be newer than that: that node need not have known of it.
	floor atomic.Uint64

	mu      sync.Mutex  // guards all below; no other lock is taken under it
	items   []*outgoing // in order
	byID    map[stream.ID]*outgoing
	sets    map[string]*changeSet // by site
	sealed  map[string]stream.ID  // by site: the item that was made of its last set
	dropped uint64
	folded  uint64
}

func newOutbox(bound int) *outbox {
	o := &outbox{bound: bound, byID: make(map[stream.ID]*outgoing), sets: make(map[string]*changeSet), sealed: make(map[string]stream.ID)}
	o.floor.Store(math.MaxUint64)
	return o
}

// add takes what was applied alone.
func (o *outbox) add(out *outgoing) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.put(out)
	if len(o.items) > o.bound {
		// Its sequence stays in the floor until the log has taken the others.
		i := slices.IndexFunc(o.items, func(out *outgoing) bool { return len(out.action.changes) == 0 })
		delete(o.byID, o.items[i].record.ID)
		o.items = slices.Delete(o.items, i, i+1)
		o.dropped++
	}
	o.floor.Store(min(o.floor.Load(), out.sequence))
}

func (o *outbox) put(out *outgoing) {
	o.items = append(o.items, out)
	o.byID[out.record.ID] = out
}

// change takes an invalidation. It reports whether it is the first to be gathered.
func (o *outbox) change(c change) (first bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	set := o.sets[c.site]
	if set == nil {
		first = true
		set = &changeSet{oldest: c.sequence}
		o.sets[c.site] = set
	}
	if set.add(c) {
		o.folded++
	}
	o.floor.Store(min(o.floor.Load(), c.sequence))
	return first
}

// seal makes items of the invalidations gathered so far. A site whose last item was
// not read back yet gathers on.
func (o *outbox) seal(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for site, set := range o.sets {
		if _, busy := o.sealed[site]; busy {
			continue
		}
		out := &outgoing{record: stream.Record{ID: stream.NewID(), Time: now}, action: set.action(site), sequence: set.oldest}
		out.record.Payload = out.action.append(nil)
		o.put(out)
		o.sealed[site] = out.record.ID
		delete(o.sets, site)
	}
}

// gathered reports whether there are invalidations to seal.
func (o *outbox) gathered() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for site := range o.sets {
		if _, busy := o.sealed[site]; !busy {
			return true
		}
	}
	return false
}

// next returns what is to be written, the oldest first.
func (o *outbox) next(most int) (records []stream.Record) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, out := range o.items[:min(most, len(o.items))] {
		records = append(records, out.record)
	}
	return records
}

// seen takes out what was read from the log and applied at its place there.
func (o *outbox) seen(ids []stream.ID) {
	if len(ids) == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, id := range ids {
		delete(o.byID, id)
	}
	floor := uint64(math.MaxUint64)
	o.items = slices.DeleteFunc(o.items, func(out *outgoing) bool {
		if o.byID[out.record.ID] == nil {
			return true
		}
		floor = min(floor, out.sequence)
		return false
	})
	maps.DeleteFunc(o.sealed, func(_ string, id stream.ID) bool { return o.byID[id] == nil })
	for _, set := range o.sets {
		floor = min(floor, set.oldest)
	}
	o.floor.Store(floor)
}

func (o *outbox) stats() (waiting int, dropped, folded uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.items) + len(o.sets), o.dropped, o.folded
}
