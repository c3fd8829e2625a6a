package memory

import (
	"sync/atomic"

	"github.com/dgraph-io/ristretto/v2"
)

// Stats are the store's counters since it was opened, and its gauges.
type Stats struct {
	Entries         int64 `json:"entries"`          // stored now, those on their way in not counted
	Bytes           int64 `json:"bytes"`            // that they take, indexes of variants included
	Capacity        int64 `json:"capacity"`         // that Bytes can reach
	Pending         int64 `json:"pending"`          // writes on their way in now
	Admitted        int64 `json:"admitted"`         // entries that were taken
	Rejected        int64 `json:"rejected"`         // entries that were weighed and found less worth than what they would have displaced
	Evicted         int64 `json:"evicted"`          // entries that made room for others
	Expired         int64 `json:"expired"`          // entries dropped because they could be of no more use
	TooLarge        int64 `json:"too_large"`        // entries refused for their size
	VariantsRefused int64 `json:"variants_refused"` // entries refused because their key had enough variants
}

type counts struct {
	bytes, entries, offered, rejected, evicted, expired, tooLarge, variantsRefused atomic.Int64
}

// entered is told of a slot that is handed to ristretto, and how often what it replaces
// was found; each leaves again by exited, once.
func (s *Store) entered(at *slot, uses uint64) {
	s.directory.enter(at, uses)
	s.counts.bytes.Add(at.cost)
	if at.entry != nil {
		s.counts.entries.Add(1)
		s.counts.offered.Add(1)
	}
}

// Stats returns the state of the store. The figures are read one after another, so
// that sums may be out by what changed meanwhile.
func (s *Store) Stats() Stats {
	c := &s.counts
	rejected := c.rejected.Load()
	return Stats{
		Entries:         c.entries.Load(),
		Bytes:           s.cache.MaxCost() - s.cache.RemainingCost(),
		Capacity:        s.cache.MaxCost(),
		Pending:         s.table.len(),
		Admitted:        max(0, c.offered.Load()-rejected),
		Rejected:        rejected,
		Evicted:         c.evicted.Load(),
		Expired:         c.expired.Load(),
		TooLarge:        c.tooLarge.Load(),
		VariantsRefused: c.variantsRefused.Load(),
	}
}

func (t *table) len() int64 {
	n := 0
	for i := range t.parts {
		p := &t.parts[i]
		p.mu.RLock()
		n += len(p.rows)
		p.mu.RUnlock()
	}
	return int64(n)
}

// The three callbacks run inside ristretto, some of them under its locks: they
// must neither call it nor wait.

// evicted is told of what was dropped to make room. The value is nil where a Del
// came first.
func (s *Store) evicted(item *ristretto.Item[*slot]) {
	switch at := item.Value; {
	case at == nil:
	case at.entry == nil:
		s.table.orphaned(at.index())
	default:
		s.counts.evicted.Add(1)
	}
}

// rejected is told of what was not admitted.
func (s *Store) rejected(item *ristretto.Item[*slot]) {
	if item.Value.entry == nil {
		s.table.orphaned(item.Value.index())
		return
	}
	s.counts.rejected.Add(1)
}

// exited is told of every slot that has left ristretto, however it did, and of nil
// where there was nothing to delete.
func (s *Store) exited(at *slot) {
	if at == nil {
		return
	}
	s.directory.leave(at)
	s.counts.bytes.Add(-at.cost)
	if at.entry != nil {
		s.counts.entries.Add(-1)
	}
}
