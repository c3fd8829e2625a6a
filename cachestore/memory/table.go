package memory

import (
	"context"
	"sync"
)

// table holds every write from the moment its Put returns until ristretto has
// applied or refused it. One goroutine (Store.settle) hands the writes on, in
// batches: it alone changes ristretto, with at most one write of an id under way,
// so that no later write can be lost to an earlier one; it may wait for ristretto,
// which no request ever does; and it knows when a batch has been dealt with.
type table struct {
	parts [256]part

	mu      sync.Mutex
	limit   int64         // of bytes
	bytes   int64         // guarded by mu: cost of the entries in rows, and of those about to be
	queue   []*row        // guarded by mu: rows to hand on, in order
	orphans []*index      // guarded by mu: indexes that ristretto has dropped
	waiting int           // guarded by mu: Puts that wait for room
	room    chan struct{} // guarded by mu: closed and made anew when bytes has shrunk and someone waits
	closed  bool          // guarded by mu

	work chan struct{} // holds a token when there is work for Store.settle
	stop chan struct{} // closed when the table is
}

// part is a share of the rows. Its lock is held only around look-ups and changes
// of the map, never while ristretto makes anyone wait.
type part struct {
	mu     sync.RWMutex
	rows   map[id]*row // guarded by mu
	closed bool        // guarded by mu: ristretto must not be touched any more
	_      [24]byte    // to fill a cache line: a busy lock must not slow its neighbours
}

// row is the write that is to be seen under an id. Its fields are guarded by the
// part's lock.
type row struct {
	id     id
	slot   *slot // nil: nothing is stored
	queued bool  // stands in table.queue
}

func (t *table) init(limit int64) {
	t.limit = limit
	t.room = make(chan struct{})
	t.work = make(chan struct{}, 1)
	t.stop = make(chan struct{})
	for i := range t.parts {
		t.parts[i].rows = make(map[id]*row)
	}
}

// part returns the share that the id falls into. Ristretto divides by the low
// bits.
func (t *table) part(id id) *part { return &t.parts[id.hi>>56] }

// reserve waits until an entry of this cost may enter the table. One that is
// larger than the limit enters an empty table.
func (t *table) reserve(ctx context.Context, cost int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t.mu.Lock()
	for !t.closed && t.bytes > 0 && t.bytes+cost > t.limit {
		room := t.room
		t.waiting++
		t.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
		}
		t.mu.Lock()
		t.waiting--
		if err := ctx.Err(); err != nil {
			t.mu.Unlock()
			return err
		}
	}
	defer t.mu.Unlock()
	if t.closed {
		return ErrClosed
	}
	t.bytes += cost
	return nil
}

// release gives back what reserve took.
func (t *table) release(cost int64) {
	if cost == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bytes -= cost
	if t.bytes < 0 {
		panic("memory: more released than was reserved")
	}
	if t.waiting > 0 {
		close(t.room)
		t.room = make(chan struct{})
	}
}

// place puts at (nil for nothing) into the id's row. An entry's cost has been
// reserved.
func (t *table) place(id id, at *slot) error {
	p := t.part(id)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	r := p.rows[id]
	if r == nil {
		r = &row{id: id}
		p.rows[id] = r
	}
	t.release(r.slot.reserved())
	r.slot = at
	if !r.queued {
		r.queued = true
		t.mu.Lock()
		t.queue = append(t.queue, r)
		t.mu.Unlock()
		t.wake()
	}
	return nil
}

// reserved returns what the slot holds of the table's limit. Indexes are small,
// and come with an entry.
func (at *slot) reserved() int64 {
	if at == nil || at.entry == nil {
		return 0
	}
	return at.cost
}

func (t *table) wake() {
	select {
	case t.work <- struct{}{}:
	default: // a token is there, and whoever takes it sees this work too
	}
}

// take returns the work there is; none of it may be.
func (t *table) take() (rows []*row, orphans []*index) {
	t.mu.Lock()
	defer t.mu.Unlock()
	rows, orphans = t.queue, t.orphans
	t.queue, t.orphans = nil, nil
	return rows, orphans
}

// orphaned notes that ristretto has dropped an index. It is called from within
// ristretto, and must not wait for anything that waits for it.
func (t *table) orphaned(x *index) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	t.orphans = append(t.orphans, x)
	t.wake()
}

// has reports whether a write of the id is under way.
func (t *table) has(id id) bool {
	p := t.part(id)
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.rows[id] != nil
}

// pending returns what all rows hold.
func (t *table) pending() map[id]*slot {
	all := make(map[id]*slot)
	for i := range t.parts {
		p := &t.parts[i]
		p.mu.RLock()
		for id, r := range p.rows {
			all[id] = r.slot
		}
		p.mu.RUnlock()
	}
	return all
}

// close empties the table and refuses all that comes later.
func (t *table) close() {
	for i := range t.parts {
		p := &t.parts[i]
		p.mu.Lock()
		p.closed = true
		clear(p.rows)
		p.mu.Unlock()
	}
	t.mu.Lock()
	t.closed = true
	close(t.room)
	t.room = make(chan struct{})
	t.mu.Unlock()
	close(t.stop)
}

// settled takes the row out of the table, unless something else has been written
// to it since it was handed on. From then on ristretto alone says what is there.
func (t *table) settled(r *row) {
	p := t.part(r.id)
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.queued || p.closed {
		return
	}
	delete(p.rows, r.id)
	t.release(r.slot.reserved())
}
