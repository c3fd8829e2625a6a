package purge

import "time"

// cell is what is remembered of one selector.
type cell struct {
	hash     uint64
	hard     uint64 // sequence of the latest hard record; zero is none
	soft     uint64 // sequence of the latest soft record; zero is none
	softTime int64  // Unix nanoseconds of that soft record
	part     uint64 // of an invalidation: what it can become; else zero

	older, newer uint32 // neighbours in order of the newest record; zero is the end
}

func (c *cell) newest() uint64 { return max(c.hard, c.soft) }

// cells are selectors by hash, and in the order of their newest record. Cells lie
// in one slice without pointers and are linked by index: a quarter of a million of
// them then cost the garbage collector nothing. The zero value is empty.
type cells struct {
	index  map[uint64]uint32
	slab   []cell // slab[0] is the list's head: slab[0].newer is the oldest, slab[0].older the newest
	unused []uint32
}

func (t *cells) len() int { return len(t.index) }

func (t *cells) get(hash uint64) (*cell, bool) {
	at, ok := t.index[hash]
	if !ok {
		return nil, false
	}
	return &t.slab[at], true
}

// record notes the newest record of all under hash, and returns its cell, good
// until the next record.
func (t *cells) record(hash, sequence uint64, at time.Time, soft bool) *cell {
	if t.index == nil {
		t.index = make(map[uint64]uint32)
		t.slab = make([]cell, 1)
	}
	i, ok := t.index[hash]
	if ok {
		t.unlink(i)
	} else {
		i = t.take()
		t.index[hash] = i
		t.slab[i] = cell{hash: hash}
	}
	c := &t.slab[i]
	if soft {
		c.soft, c.softTime = sequence, at.UnixNano()
	} else {
		c.hard = sequence
	}
	t.linkNewest(i)
	return c
}

// dropOldest takes out the cell whose newest record is the oldest.
func (t *cells) dropOldest() cell {
	i := t.slab[0].newer
	if i == 0 {
		panic("purge: dropping from an empty ledger")
	}
	return t.drop(i)
}

func (t *cells) dropUpTo(sequence uint64) {
	for t.len() > 0 && t.slab[t.slab[0].newer].newest() <= sequence {
		t.drop(t.slab[0].newer)
	}
}

func (t *cells) drop(i uint32) cell {
	c := t.slab[i]
	t.unlink(i)
	delete(t.index, c.hash)
	t.slab[i] = cell{}
	t.unused = append(t.unused, i)
	return c
}

func (t *cells) take() uint32 {
	if n := len(t.unused); n > 0 {
		i := t.unused[n-1]
		t.unused = t.unused[:n-1]
		return i
	}
	t.slab = append(t.slab, cell{})
	return uint32(len(t.slab) - 1)
}

func (t *cells) unlink(i uint32) {
	c := &t.slab[i]
	t.slab[c.older].newer = c.newer
	t.slab[c.newer].older = c.older
	c.older, c.newer = 0, 0
}

func (t *cells) linkNewest(i uint32) {
	last := t.slab[0].older
	t.slab[i].older, t.slab[i].newer = last, 0
	t.slab[last].newer = i
	t.slab[0].older = i
}
