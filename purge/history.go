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
// them is given again, and how a record that comes again is told from a new one. The
// caller holds a lock.
type history struct {
	bound  int
	ring   []*remembered // the oldest first
	byID   map[stream.ID]*remembered
	oldest int // index in ring
}

func newHistory(bound int) *history {
	return &history{bound: bound, byID: make(map[stream.ID]*remembered)}
}

func (h *history) add(r *remembered) {
	h.byID[r.id] = r
	h.ring = append(h.ring, r)
	for len(h.ring)-h.oldest > h.bound {
		delete(h.byID, h.ring[h.oldest].id)
		h.ring[h.oldest] = nil
		h.oldest++
	}
	if h.oldest > h.bound { // half of the slice is unused
		h.ring = append(make([]*remembered, 0, 2*h.bound+1), h.ring[h.oldest:]...)
		h.oldest = 0
	}
}

func (h *history) all() []*remembered { return h.ring[h.oldest:] }

// turn notes that another generation is followed, which has in common with the one
// before all up to a position.
func (h *history) turn(common uint64) {
	for _, r := range h.all() {
		if r.position > common {
			r.position = 0
		}
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

// at returns the record at a place: where it is now, or where it was first.
func (h *history) at(matches func(Generation) bool, now Generation, position uint64) *remembered {
	all := h.all()
	for i := len(all) - 1; i >= 0; i-- {
		r := all[i]
		if r.position == position && matches(now) || r.first.Position == position && matches(r.first.Generation) {
			return r
		}
	}
	return nil
}
