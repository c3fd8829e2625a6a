//go:build !race

package memory

import (
	"testing"
	"testing/synctest"
	"time"

	"edge/cachestore"
)

// These are not for the race detector, under which pools forget, and ristretto with them.

func TestHitAllocatesNothing(t *testing.T) {
	s := open(t, Options{Size: 1 << 20})
	plain, varied := sized(1, 100), variantOf(sized(2, 100), "a")
	put(t, s, plain)
	put(t, s, varied)
	quiet(t, s)
	ctx := t.Context()
	allocs := testing.AllocsPerRun(1000, func() {
		if !same(s.Get(ctx, plain.Key, "").Entry, plain) || !same(s.Get(ctx, varied.Key, "a").Entry, varied) {
			t.Error("missed")
		}
	})
	if allocs != 0 {
		t.Errorf("two hits allocate %v times", allocs)
	}
}

// TestPopularStays: what was asked for often while there was room is not displaced by what
// comes once there is none, though nobody has asked for it since, and it was renewed.
func TestPopularStays(t *testing.T) {
	for name, newcomers := range map[string]struct{ number, size int }{
		"a few large ones": {40, 1900 << 10},
		"many":             {4000, 16 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t, Options{Size: 32 << 20})
				for round := range 2 { // the second time it has been full before
					popularStays(t, s, round*100_000, newcomers.number, newcomers.size)
				}
			})
		})
	}
}

// popularStays fills the store with what is asked for, from that number on, and then with
// newcomers of such a number and size, and leaves it empty.
func popularStays(t *testing.T, s *Store, first, number, size int) {
	const popular = 1250
	for n := range popular {
		put(t, s, sized(first+n, 16<<10))
	}
	time.Sleep(time.Second)
	if !s.roomy.Load() {
		t.Fatal("there is no room")
	}
	for range 20 {
		for n := range popular {
			if s.Get(t.Context(), keyOf(first+n), "").Entry == nil {
				t.Fatal("missed")
			}
		}
	}
	for n := range popular { // a newer response to the same
		e := sized(first+n, 16<<10)
		e.Sequence = 1
		put(t, s, e)
	}
	time.Sleep(time.Second)
	for n := range number {
		e := sized(first+popular+n, size)
		for range 2 {
			s.Get(t.Context(), e.Key, "")
		}
		put(t, s, e)
	}
	time.Sleep(time.Second)
	if s.roomy.Load() {
		t.Fatal("there is room")
	}
	kept := 0
	for n := range popular {
		if s.Peek(keyOf(first+n), "").Entry != nil {
			kept++
		}
	}
	if kept < popular*9/10 {
		t.Errorf("%d of %d are there still", kept, popular)
	}
	s.Range(func(e *cachestore.Entry) bool {
		s.Delete(t.Context(), e)
		return true
	})
	time.Sleep(time.Second)
}
