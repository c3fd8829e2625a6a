package purge

import (
	"time"

	"edge/cachestore/redis/stream"
)

// remembered is a record of the log that this node has applied.
type remembered struct {
	id      stream.ID
	payload []byte
	time    time.Time
	soft    bool
	first   stream.Place // where it was first written, as far as this node knows

	position uint64 // in the generation that is followed now; zero: not there (yet)
	chain    stream.Chain

	// Of those recorded here:
	asked   time.Duration            // by the node's clock
	latency map[string]time.Duration // until each node was seen to have applied it; nil elsewhere
}

// history is the last records that were applied. They are what a log that has lost
// them is given again, how a record that comes again is told from a new one, and what
// receipts are about: many may be asked for at once, so each is found without a
// search. The caller holds a lock.
type history struct {
	bound      int
	generation Generation    // that positions are of
	ring       []*remembered // the oldest first
	oldest     int           // index in ring
	byID       map[stream.ID]*remembered
	byName     map[receiptName]*remembered // where it is now, and where it was first
}

// receiptName is what a receipt calls a record: a place, of whose generation it has
// the start.
type receiptName struct {
	generation [4]byte
	position   uint64
}

func nameOf(p stream.Place) receiptName {
	return receiptName{[4]byte(p.Generation[:]), p.Position}
}

func newHistory(bound int) *history {
	return &history{bound: bound, byID: make(map[stream.ID]*remembered), byName: make(map[receiptName]*remembered)}
}

func (h *history) add(r *remembered) {
	h.byID[r.id] = r
	h.name(r)
	h.ring = append(h.ring, r)
	for len(h.ring)-h.oldest > h.bound {
		h.forget(h.ring[h.oldest])
		h.ring[h.oldest] = nil
		h.oldest++
	}
	if h.oldest > h.bound { // half of the slice is unused
		h.ring = append(make([]*remembered, 0, 2*h.bound+1), h.ring[h.oldest:]...)
		h.oldest = 0
	}
}

// move notes that a record stands at another place now.
func (h *history) move(r *remembered, position uint64, chain stream.Chain) {
	h.unname(r)
	r.position, r.chain = position, chain
	h.name(r)
}

func (h *history) forget(r *remembered) {
	delete(h.byID, r.id)
	h.unname(r)
}

func (h *history) names(r *remembered) [2]receiptName {
	return [2]receiptName{nameOf(r.first), nameOf(stream.Place{Generation: h.generation, Position: r.position})}
}

func (h *history) name(r *remembered) {
	for _, name := range h.names(r) {
		if name.position > 0 {
			h.byName[name] = r
		}
	}
}

func (h *history) unname(r *remembered) {
	for _, name := range h.names(r) {
		if h.byName[name] == r {
			delete(h.byName, name)
		}
	}
}

func (h *history) all() []*remembered { return h.ring[h.oldest:] }

// turn notes that another generation is followed, which has in common with the one
// before all up to a position.
func (h *history) turn(to Generation, common uint64) {
	clear(h.byName)
	h.generation = to
	for _, r := range h.all() {
		if r.position > common {
			r.position = 0
		}
		h.name(r)
	}
}

// lost returns some of the records that the log does not have, the oldest first.
func (h *history) lost(most int) (lost []*remembered) {
	for _, r := range h.all() {
		if r.position == 0 {
			if lost = append(lost, r); len(lost) == most {
				break
			}
		}
	}
	return lost
}

// anchor returns the oldest record that is in the log.
func (h *history) anchor() (stream.Known, bool) {
	for _, r := range h.all() {
		if r.position > 0 {
			return stream.Known{Position: r.position, Chain: r.chain}, true
		}
	}
	return stream.Known{}, false
}

// called returns the record that a receipt calls so, or nil.
func (h *history) called(name receiptName) *remembered { return h.byName[name] }
