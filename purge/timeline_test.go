package purge

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

func generation(n int) (g Generation) {
	g[0] = byte(n)
	return g
}

// TestTimelineOverflow: each part of a sequence that overflows begins another span,
// and nothing gets out of order by it.
func TestTimelineOverflow(t *testing.T) {
	var tl timeline
	g := generation(1)
	s, _ := tl.begin(g, 10)
	if got := sequenceOf(1, 0, 0); s != got {
		t.Fatalf("begins at %x", s)
	}
	tl.settle()
	s, _ = tl.at(12)
	alone := s | maxLocal // as many as there may be
	next, ok := tl.after(alone)
	if !ok || next <= alone || indexOf(next) != 2 {
		t.Fatalf("after %x comes %x", alone, next)
	}
	for _, sequence := range []uint64{s, alone, next} {
		if got, position, ok := tl.encode(sequence); !ok || got != g || position != 12 {
			t.Errorf("%x stands for position %d", sequence, position)
		}
	}
	// What came to position 12 may have come before all that this node knows alone.
	if got, ok := tl.decode(g, 12); !ok || got != s {
		t.Errorf("position 12 is %x, not %x", got, s)
	}
	far, ok := tl.at(12 + maxPosition + 1)
	if !ok || indexOf(far) != 3 || far <= next {
		t.Fatalf("far away is %x", far)
	}
	for _, position := range []uint64{12 + maxPosition, 13 + maxPosition} {
		got, ok := tl.decode(g, position)
		_, back, _ := tl.encode(got)
		if !ok || back != position {
			t.Errorf("position %d is %x, which is position %d", position, got, back)
		}
	}
	if _, ok := tl.decode(g, 9); ok {
		t.Error("what was before the beginning is known")
	}
	if _, ok := tl.decode(generation(2), 12); ok {
		t.Error("a generation that was never followed is known")
	}
	if _, _, ok := tl.encode(5); ok {
		t.Error("a sequence without a log has a place in one")
	}
}

// TestSpent: with the last sequence gone, nothing is trusted and nothing breaks.
func TestSpent(t *testing.T) {
	l := New(Options{Now: still})
	l.begin(generation(1), 0, false)
	for len(l.timeline.spans) < maxSpans {
		l.begin(generation(1), 0, false)
	}
	if !l.Trusted() {
		t.Fatal("spent too early")
	}
	l.sequence.Store(l.sequence.Load() | maxLocal)
	l.Append(Record{Selector: Selector{Kind: Everything}})
	if l.Trusted() {
		t.Error("a ledger that cannot tell old from new is trusted")
	}
	l.Append(Record{Selector: Selector{Kind: Everything}})
	l.Invalidate(form(1))
	l.begin(generation(2), 7, true)
	l.applyAt(9, &action{record: Record{Selector: Selector{Kind: Everything}}})
	if l.Trusted() {
		t.Error("trusted again")
	}
}

// TestTimelineModel plays a node's life among others against the plain order of what
// it applied. A place in a log that is decoded must lie before every record that it
// may be older than.
func TestTimelineModel(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			type record struct {
				id       int
				sequence uint64
			}
			logs := [][]int{nil} // by generation: the ids of its records, in order
			applied := map[int]uint64{}
			var alone []record
			ids := 0
			var tl timeline
			current, position := 0, uint64(0)
			sequence, _ := tl.begin(generation(0), 0)
			step := func(s uint64, ok bool) uint64 {
				t.Helper()
				if !ok || s <= sequence {
					t.Fatalf("from %x to %x", sequence, s)
				}
				sequence = s
				return s
			}
			for range 400 {
				switch random.IntN(12) {
				case 0, 1, 2, 3: // someone purges
					ids++
					logs[current] = append(logs[current], ids)
				case 4, 5, 6: // we read
					if position == uint64(len(logs[current])) {
						// As the node does: what the log has lost is given back.
						settled := true
						for id := range ids + 1 {
							if _, ok := applied[id]; ok && !slices.Contains(logs[current], id) {
								logs[current] = append(logs[current], id)
								settled = false
							}
						}
						if settled {
							tl.settle()
						}
					}
					if position < uint64(len(logs[current])) {
						id := logs[current][position]
						position++
						if _, again := applied[id]; again {
							step(tl.at(position))
							tl.skipped(position)
						} else {
							applied[id] = step(tl.at(position))
						}
					}
				case 7, 8: // we purge alone
					if random.IntN(4) == 0 {
						sequence |= maxLocal
					}
					s := step(tl.after(sequence))
					alone = append(alone, record{0, s})
				case 9:
					if random.IntN(3) > 0 {
						continue
					}
					// Another generation: some of the log is lost, and some of that is
					// given back.
					old := logs[current]
					kept := random.IntN(len(old) + 1)
					fresh := append([]int(nil), old[:kept]...)
					for _, id := range old[kept:] {
						if random.IntN(2) == 0 {
							fresh = append(fresh, id)
						}
					}
					logs = append(logs, fresh)
					current++
					position = uint64(random.IntN(min(kept, int(position)) + 1))
					step(tl.begin(generation(current), position))
				default:
					// An entry of another node, which had read this much of that log.
					g := random.IntN(len(logs))
					at := uint64(random.IntN(len(logs[g]) + 1))
					s, known := tl.decode(generation(g), at)
					if !known {
						continue
					}
					for i, id := range logs[g] {
						if uint64(i) < at {
							continue
						}
						if when, ok := applied[id]; ok && when <= s {
							t.Fatalf("an entry of %d in log %d is %x, but record %d, which came later, is %x", at, g, s, id, when)
						}
					}
					if g == current && at == position && len(alone) > 0 && random.IntN(2) == 0 && s > sequence {
						t.Fatalf("%x is ahead of %x", s, sequence)
					}
				}
			}
			for _, r := range alone {
				if g, at, ok := tl.encode(r.sequence); ok {
					if s, known := tl.decode(g, at); known && s > r.sequence {
						t.Fatalf("%x became newer on its way: %x", r.sequence, s)
					}
				}
			}
		})
	}
}

// TestAheadOfUs: an entry from a node that has read more of the log than this one need
// not have known of what this node applies alone from now on.
func TestAheadOfUs(t *testing.T) {
	for name, alone := range map[string]func(*Ledger){
		"invalidation": func(l *Ledger) { l.Invalidate(key("shop", "a", "/")) },
		"purge": func(l *Ledger) {
			l.applyAlone(&action{record: Record{Selector: Selector{Kind: Host, Site: "shop", Authority: "a"}}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := New(Options{Now: still})
			g := generation(1)
			if _, known := l.decode(Generation{}, 1); known {
				t.Error("a place in no log is known")
			}
			l.begin(g, 0, false)
			l.settle()
			other := &action{record: Record{Selector: Selector{Kind: Host, Site: "shop", Authority: "b"}}}
			l.applyAt(1, other)
			sequence, known := l.decode(g, 5)
			if !known {
				t.Fatal("a place in the log is not known")
			}
			e := entry(key("shop", "a", "/"), sequence)
			alone(l)
			if !l.Judge(e, e.Sequence).Dead {
				t.Error("an entry from another node outlives what that node cannot have known")
			}
			l.applyAt(2, other)
			if again, _ := l.decode(g, 2); l.Judge(entry(e.Key, again), 0).Dead {
				t.Error("what has been read counts for nothing")
			}
		})
	}
}

// TestAnInvalidationOnItsWayIsNeverUnknown: between applying it and noting that others
// may not know of it, no record of the log is applied. With one, an entry from another
// node could be taken to be newer than both.
func TestAnInvalidationOnItsWayIsNeverUnknown(t *testing.T) {
	for name, invalidate := range map[string]func(*Log){
		"url":   func(l *Log) { l.Invalidate(key("shop", "a", "/")) },
		"group": func(l *Log) { l.InvalidateGroup("https://a", "red") },
	} {
		t.Run(name, func(t *testing.T) {
			l := &Log{Ledger: New(Options{}), outbox: newOutbox(1)}
			l.outbox.mu.Lock()
			var wg sync.WaitGroup
			wg.Go(func() { invalidate(l) })
			for l.Sequence() == 0 {
				time.Sleep(time.Millisecond)
			}
			if l.mu.TryLock() {
				t.Error("a record of the log could be applied")
				l.mu.Unlock()
			}
			l.outbox.mu.Unlock()
			wg.Wait()
			if floor := l.outbox.floor.Load(); floor != l.Sequence() {
				t.Errorf("the floor is %d", floor)
			}
		})
	}
}
