package ratelimit

import (
	"hash/maphash"
	"math/bits"
	"sync"
)

// table holds the states of one policy's keys in memory, a bounded number of them,
// without a pointer in it that the garbage collector would follow.
//
// A key has its place in one of a shard's rows, by a hash that nobody outside can
// foresee. A shard begins with one row and doubles when a row is full of states that
// still matter; once it may not grow, a newcomer takes the place of the state in its
// row that has the least to say. So who sends ever new keys displaces what he has
// sent before rather than a client that is busy.
type table struct {
	seeds  [2]maphash.Seed
	shards []shard
}

// id is what a key is found by; keys themselves are not kept.
type id struct{ hi, lo uint64 }

type shard struct {
	mu     sync.Mutex // guards all below
	rows   []row
	most   int      // rows that there may be
	latest int64    // time that was last asked about
	_      [24]byte // keeps the locks of two shards apart
}

type row [8]entry

// entry is one key's state: one line of the processor's cache. A zero expires is an
// entry that is free.
type entry struct {
	id      id
	state   state
	expires int64
	drained int64 // the least is the first to be displaced
}

const rowEntries = len(row{})

// newTable returns a table for at most so many keys, rounded up to fill its rows.
func newTable(keys int) *table {
	t := &table{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
	shards := 1
	for shards < 256 && shards*16*rowEntries <= keys {
		shards *= 2
	}
	t.shards = make([]shard, shards)
	for i := range t.shards {
		t.shards[i].most = max(1, (keys+shards*rowEntries-1)/(shards*rowEntries))
	}
	return t
}

// id returns the place of a key, of those of one plan.
func (t *table) id(plan int, key []byte) id {
	hi := maphash.Bytes(t.seeds[0], key) + uint64(plan)*0x9e3779b97f4a7c15
	return id{hi, maphash.Bytes(t.seeds[1], key)}
}

// shard returns the shard that holds the id.
func (t *table) shard(id id) *shard { return &t.shards[id.hi%uint64(len(t.shards))] }

// loadLocked returns the entry of the id, or nil.
func (s *shard) loadLocked(id id) *entry {
	if s.rows == nil {
		return nil
	}
	row := s.rowLocked(id)
	for i := range row {
		if e := &row[i]; e.id == id && e.expires != 0 {
			return e
		}
	}
	return nil
}

// storeLocked writes the state of the id.
func (s *shard) storeLocked(id id, r *rule, st state, now int64) {
	e := s.loadLocked(id)
	if e == nil {
		e = s.placeLocked(id, now)
	}
	*e = entry{id, st, r.expires(st), r.drained(st, now)}
}

// placeLocked finds a place for a newcomer.
func (s *shard) placeLocked(id id, now int64) *entry {
	for {
		if e := s.leastLocked(id, now); e != nil && (e.expires <= now || len(s.rows) == s.most) {
			return e
		}
		s.growLocked(now)
	}
}

// leastLocked returns an entry of the id's row that is free or expired, else the one
// that is drained first.
func (s *shard) leastLocked(id id, now int64) *entry {
	if s.rows == nil {
		return nil
	}
	row := s.rowLocked(id)
	least := &row[0]
	for i := range row {
		e := &row[i]
		if e.expires <= now {
			return e
		}
		if e.drained < least.drained {
			least = e
		}
	}
	return least
}

func (s *shard) rowLocked(id id) *row {
	at, _ := bits.Mul64(id.lo, uint64(len(s.rows)))
	return &s.rows[at]
}

// growLocked doubles the rows, as far as they may, and lets go of what has expired.
func (s *shard) growLocked(now int64) {
	old := s.rows
	s.rows = make([]row, min(s.most, max(1, 2*len(old))))
	for i := range old {
		for j := range old[i] {
			if e := &old[i][j]; e.expires > now {
				*s.leastLocked(e.id, now) = *e
			}
		}
	}
}

// len counts the entries that still matter, for statistics.
func (t *table) len(now int64) (n int) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for j := range s.rows {
			for k := range s.rows[j] {
				if s.rows[j][k].expires > now {
					n++
				}
			}
		}
		s.mu.Unlock()
	}
	return n
}

// nowLocked returns the time, or that of who had the lock before, if it is later: the
// end of a window must not be undone.
func (s *shard) nowLocked(now int64) int64 {
	s.latest = max(s.latest, now)
	return s.latest
}

// stateLocked returns what is known of the id.
func (s *shard) stateLocked(id id) state {
	if e := s.loadLocked(id); e != nil {
		return e.state
	}
	return state{}
}
