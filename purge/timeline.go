package purge

import (
	"math"
	"sort"
)

// Generation names one unbroken run of a fleet's log. Positions compare within one
// generation only. The zero Generation is none: the log was never reached.
type Generation = [16]byte

// A sequence orders everything that this node has applied, the fleet's records and
// those it knows alone. From the top:
//
//	14 bits  index of the span
//	30 bits  position in the log, counted from where the span began
//	20 bits  records known to this node alone that it applied after that position
//
// When a part overflows, the next span begins. A span costs a few bytes, so that
// this takes nothing from anyone; only with the last span is the ledger exhausted.
const (
	localBits    = 20
	positionBits = 30
	indexBits    = 64 - positionBits - localBits

	maxLocal    = 1<<localBits - 1
	maxPosition = 1<<positionBits - 1
	maxSpans    = 1 << indexBits
)

// span is a stretch of this node's life in which it followed one generation.
type span struct {
	generation Generation
	start      uint64 // position in the log that the span's positions count from
}

// lineage is what the node can say about places in one generation.
type lineage struct {
	first, last int    // spans, side by side
	from        uint64 // records after this position were all applied within these spans
	settled     bool   // all that was applied before is in the log, up to from
}

// timeline translates between sequences and places in logs. The zero value is one
// span without a log, in which the local part has the bits of the position too.
type timeline struct {
	spans    []span
	lineages map[Generation]*lineage
}

func sequenceOf(index int, position, local uint64) uint64 {
	return uint64(index)<<(positionBits+localBits) | position<<localBits | local
}

func indexOf(sequence uint64) int { return int(sequence >> (positionBits + localBits)) }

func relativeOf(sequence uint64) uint64 { return sequence >> localBits & maxPosition }

// begin starts a span in which the node follows a generation from a position on.
// It returns the span's first sequence; false when there are no more spans.
func (t *timeline) begin(g Generation, position uint64) (uint64, bool) {
	if t.spans == nil {
		t.spans = make([]span, 1) // the one without a log
		t.lineages = make(map[Generation]*lineage)
	}
	index := len(t.spans)
	if index == maxSpans {
		return 0, false
	}
	t.spans = append(t.spans, span{g, position})
	// Of a generation that was left and comes back, only the new stretch is known
	// without a gap.
	t.lineages[g] = &lineage{first: index, last: index, from: position}
	return sequenceOf(index, 0, 0), true
}

// extend starts another span of the same generation.
func (t *timeline) extend(position uint64) (uint64, bool) {
	index := len(t.spans)
	if index == maxSpans {
		return 0, false
	}
	g := t.spans[index-1].generation
	t.spans = append(t.spans, span{g, position})
	t.lineages[g].last = index
	return sequenceOf(index, 0, 0), true
}

// following reports whether the node has ever reached a log.
func (t *timeline) following() bool { return len(t.spans) > 1 }

// current returns the place that a sequence of the last span stands for.
func (t *timeline) current(sequence uint64) uint64 {
	return t.spans[len(t.spans)-1].start + relativeOf(sequence)
}

// at returns the sequence of a position of the current generation that was not
// reached before.
func (t *timeline) at(position uint64) (uint64, bool) {
	index := len(t.spans) - 1
	relative := position - t.spans[index].start
	if relative > maxPosition {
		if _, ok := t.extend(position - 1); !ok {
			return 0, false
		}
		index, relative = index+1, 1
	}
	return sequenceOf(index, relative, 0), true
}

// after returns the sequence of the next record that this node knows alone.
func (t *timeline) after(sequence uint64) (uint64, bool) {
	if !t.following() {
		// Bits of a position are unused: no more than 2^50 in a lifetime.
		return sequence + 1, true
	}
	if sequence&maxLocal == maxLocal {
		return t.extend(t.current(sequence))
	}
	return sequence + 1, true
}

// encode returns the place of a sequence in a log; false when it was before any.
// What the node knew beyond that place is left out: the place is never too new.
func (t *timeline) encode(sequence uint64) (Generation, uint64, bool) {
	index := indexOf(sequence)
	if index == 0 || index >= len(t.spans) {
		return Generation{}, 0, false
	}
	s := &t.spans[index]
	return s.generation, s.start + relativeOf(sequence), true
}

// decode returns the sequence of a place in a log: not every record that this node
// applied later need be later than the place, but every record later than the place
// has a higher sequence. It returns false when that cannot be said.
func (t *timeline) decode(g Generation, position uint64) (uint64, bool) {
	l, ok := t.lineages[g]
	if !ok || !l.settled || position < l.from {
		return 0, false
	}
	// The first of the spans that reached the position: those after it begin with
	// records that may be later.
	index := l.first + sort.Search(l.last-l.first, func(i int) bool {
		return t.spans[l.first+i+1].start >= position
	})
	return sequenceOf(index, min(position-t.spans[index].start, maxPosition), 0), true
}

// generation returns the current generation; the zero one before any.
func (t *timeline) generation() Generation {
	if !t.following() {
		return Generation{}
	}
	return t.spans[len(t.spans)-1].generation
}

// lineage returns that of the current generation.
func (t *timeline) lineage() *lineage { return t.lineages[t.spans[len(t.spans)-1].generation] }

// skipped notes that a record of the current generation was not applied at its
// position but before: what is older than this position cannot be placed.
func (t *timeline) skipped(position uint64) {
	l := t.lineage()
	l.from = max(l.from, position)
}

// settle notes that all that was applied before the current generation was met again
// in its log. Until then a record may yet come that is to be skipped, and nothing can
// be placed.
func (t *timeline) settle() { t.lineage().settled = true }

// endOfTime is the sequence of an exhausted ledger.
const endOfTime = math.MaxUint64
