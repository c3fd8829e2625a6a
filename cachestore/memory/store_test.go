package memory

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dgraph-io/ristretto/v2"

	"edge/cachestore"
	"edge/cachestore/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) cachestore.Store { return open(t, Options{Size: 64 << 20}) })
}

// TestStoreCrowded is the suite on one lock stripe and few ids, so that other keys
// keep taking each other's slots: then misses are right, and anything else found is
// not. Only what bears misses is run.
func TestStoreCrowded(t *testing.T) {
	for name, keep := range map[string]func(id) id{
		"same ids":      func(i id) id { return id{i.hi % 3, 7} },
		"same halves":   func(i id) id { return id{i.hi % 3, i.lo % 5} },
		"all in a heap": func(id) id { return id{1, 1} },
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Options{Size: 64 << 20})
			s.hash.keep = keep
			var running sync.WaitGroup
			for worker := range 4 {
				running.Go(func() {
					for step := range 500 {
						e := sized((step*7+worker)%20, 100)
						if step%3 == 0 {
							variantOf(e, strconv.Itoa(step%4))
						}
						if err := s.Put(t.Context(), e); err != nil && !errors.Is(err, cachestore.ErrOlder) {
							t.Errorf("Put: %v", err)
						}
						for n := range 20 {
							for _, variant := range []string{"", "0", "3"} {
								got := s.Get(t.Context(), keyOf(n), variant).Entry
								if got != nil && (got.Key != keyOf(n) || got.Variant() != variant) {
									t.Errorf("asked for %d %q, found %q %q", n, variant, got.Key, got.Variant())
								}
							}
						}
						if step%5 == 0 {
							s.Delete(t.Context(), e)
						}
					}
				})
			}
			running.Wait()
			quiet(t, s)
			last := sized(1, 100)
			put(t, s, last)
			// Ristretto refuses a name that shares half of its hash with what it holds.
			if got := s.Get(t.Context(), last.Key, "").Entry; got != nil && !same(got, last) {
				t.Error("found what was there before the last put")
			}
		})
	}
}

// TestSettled looks at what ristretto has made of writes, once the table no longer
// hides it.
func TestSettled(t *testing.T) {
	s := open(t, Options{Size: 64 << 20})
	const keys = 2000
	for n := range keys {
		put(t, s, sized(n, 100))
		put(t, s, sized(n, 200))
	}
	quiet(t, s)
	bytes := int64(0)
	for n := range keys {
		bytes += sized(n, 200).Cost()
		if e := s.Get(t.Context(), keyOf(n), "").Entry; e == nil || e.Body.Size() != 200 {
			t.Fatalf("entry %d: %+v", n, e)
		}
	}
	stats := s.Stats()
	if stats.Entries != keys || stats.Pending != 0 || stats.Rejected != 0 || stats.Bytes != bytes {
		t.Errorf("%+v", stats)
	}
	for n := range keys {
		s.Delete(t.Context(), s.Get(t.Context(), keyOf(n), "").Entry)
	}
	quiet(t, s)
	if stats := s.Stats(); stats.Entries != 0 || stats.Bytes != 0 {
		t.Errorf("after all was deleted: %+v", stats)
	}
}

// TestBound writes many times what there is room for, first new keys, then keys
// that grow where they stand.
func TestBound(t *testing.T) {
	const size = 4 << 20
	s := open(t, Options{Size: size})
	bounded := func() {
		t.Helper()
		if stats := s.Stats(); stats.Bytes > stats.Capacity || stats.Capacity > size {
			t.Fatalf("past the bound: %+v", stats)
		}
		s.table.mu.Lock()
		defer s.table.mu.Unlock()
		if s.table.bytes > s.table.limit {
			t.Fatalf("%d bytes under way, of %d", s.table.bytes, s.table.limit)
		}
	}
	for n := range 10_000 {
		put(t, s, sized(n, 1000))
		bounded()
	}
	for n := range 1500 {
		put(t, s, sized(10_000-n, 50_000))
		bounded()
	}
	quiet(t, s)
	stats := s.Stats()
	// A write that was overtaken before ristretto saw it counts as neither.
	if stats.Admitted+stats.Rejected > 11_500 || stats.Entries == 0 || stats.Evicted == 0 {
		t.Errorf("%+v", stats)
	}
	if s.table.bytes != 0 {
		t.Errorf("%d bytes never released", s.table.bytes)
	}
	found := 0
	s.Range(func(e *cachestore.Entry) bool {
		found++
		return true
	})
	if int64(found) != stats.Entries {
		t.Errorf("Range found %d entries of %d", found, stats.Entries)
	}
}

func TestCostIsTrue(t *testing.T) {
	const entries = 20_000
	s := open(t, Options{Size: 128 << 20, MeanObject: 2 << 10})
	before := live()
	for n := range entries {
		put(t, s, sized(n, 1024))
	}
	quiet(t, s)
	for n := range entries {
		found := s.Get(t.Context(), keyOf(n), "")
		if found.Entry == nil {
			t.Fatal("missed")
		}
		lines := fmt.Sprint(n, "; the lines of a hit that was served once, as they are remembered")
		found.Marks.Stamp.Store(&cachestore.Stamp{Lines: [2]string{lines[:2], lines[2:]}})
	}
	held, accounted := live()-before, s.Stats().Bytes
	if ratio := float64(held) / float64(accounted); ratio < 0.85 || ratio > 1.05 {
		t.Errorf("%d entries hold %d bytes (%d each), and are accounted for as %d", entries, held, held/entries, accounted)
	}
	runtime.KeepAlive(s)
}

func live() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestTooLarge(t *testing.T) {
	s := open(t, Options{Size: 1 << 20, MaxObject: 10_000})
	if err := s.Put(t.Context(), sized(1, 10_000)); err != nil {
		t.Errorf("an entry of the largest size: %v", err)
	}
	if err := s.Put(t.Context(), sized(2, 10_001)); !errors.Is(err, cachestore.ErrTooLarge) {
		t.Errorf("one byte more: %v", err)
	}
	all := open(t, Options{Size: 1 << 20})
	if err := all.Put(t.Context(), sized(1, 60<<10)); err != nil {
		t.Errorf("an entry within the share: %v", err)
	}
	if err := all.Put(t.Context(), sized(2, 64<<10)); !errors.Is(err, cachestore.ErrTooLarge) {
		t.Errorf("an entry past the share: %v", err)
	}
	if got := all.Stats().TooLarge; got != 1 {
		t.Errorf("%d counted", got)
	}
}

func TestVariantBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Options{Size: 1 << 20, MaxVariants: 3})
		store := func(variant string) error { return s.Put(t.Context(), variantOf(sized(1, 100), variant)) }
		stored := func(variant string) bool { return s.Get(t.Context(), keyOf(1), variant).Entry != nil }
		for _, variant := range []string{"a", "b", "c"} {
			if err := store(variant); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 {
			if err := store("d"); !errors.Is(err, cachestore.ErrVariants) {
				t.Fatalf("displaced a variant that was used this moment: %v", err)
			}
		}
		if err := store("a"); err != nil {
			t.Fatalf("a variant that is known already: %v", err)
		}
		time.Sleep(time.Minute)
		if !stored("a") || !stored("c") { // uses, so that b is the least recently used
			t.Fatal("missed")
		}
		if err := store("e"); !errors.Is(err, cachestore.ErrVariants) {
			t.Fatalf("a newcomer that was never asked for: %v", err)
		}
		if err := store("d"); err != nil {
			t.Fatalf("a newcomer asked for again, with an idle variant: %v", err)
		}
		for variant, want := range map[string]bool{"a": true, "b": false, "c": true, "d": true, "e": false} {
			if stored(variant) != want {
				t.Errorf("%s stored: %v", variant, !want)
			}
		}
		if err := store("e"); !errors.Is(err, cachestore.ErrVariants) {
			t.Fatalf("all others were used this moment: %v", err)
		}
		if got := s.Stats().VariantsRefused; got != 5 {
			t.Errorf("%d refused", got)
		}

		// One that ristretto has evicted makes room at once.
		synctest.Wait()
		s.remove(s.hash.variant(s.hash.primary(keyOf(1)), "c"))
		if err := store("f"); err != nil {
			t.Fatalf("with room for one: %v", err)
		}
	})
}

// TestAskedIsBounded has many strangers ask once each: they must neither be
// remembered for ever nor displace anything.
func TestAskedIsBounded(t *testing.T) {
	s := open(t, Options{Size: 1 << 20, MaxVariants: 2})
	put(t, s, variantOf(sized(1, 100), "a"))
	put(t, s, variantOf(sized(1, 100), "b"))
	for n := range 1000 {
		if err := s.Put(t.Context(), variantOf(sized(1, 100), "stranger "+strconv.Itoa(n))); !errors.Is(err, cachestore.ErrVariants) {
			t.Fatal(err)
		}
	}
	at := s.peek(s.hash.primary(keyOf(1)))
	if n := len(at.index().asked); n != 2 {
		t.Errorf("%d are remembered", n)
	}
}

// TestIndexEvicted: variants whose index is gone cannot be found, and are cleared.
func TestIndexEvicted(t *testing.T) {
	s := open(t, Options{Size: 1 << 20})
	for _, variant := range []string{"a", "b"} {
		put(t, s, variantOf(sized(1, 100), variant))
	}
	put(t, s, variantOf(sized(2, 100), "a"))
	quiet(t, s)
	primary := s.hash.primary(keyOf(1))
	at := s.peek(primary)
	s.remove(primary)
	if s.Get(t.Context(), keyOf(1), "a").Entry != nil {
		t.Error("found a variant without its index")
	}
	put(t, s, variantOf(sized(1, 100), "b")) // under a new index, before the old one is buried
	if s.Get(t.Context(), keyOf(1), "a").Entry != nil {
		t.Error("found a variant of the index of before")
	}
	s.evicted(&ristretto.Item[*slot]{Value: at})
	for s.Stats().Entries != 2 {
		runtime.Gosched()
	}
	if s.Get(t.Context(), keyOf(1), "b").Entry == nil || s.Get(t.Context(), keyOf(2), "a").Entry == nil {
		t.Error("a variant of another index was cleared too")
	}
	quiet(t, s)
}

// TestReplacedVariantsGo: what an entry without Vary has replaced takes no room.
func TestReplacedVariantsGo(t *testing.T) {
	s := open(t, Options{Size: 1 << 20})
	for n := range 20 {
		put(t, s, variantOf(sized(1, 100), strconv.Itoa(n)))
	}
	quiet(t, s)
	plain := sized(1, 100)
	put(t, s, plain)
	quiet(t, s)
	if stats := s.Stats(); stats.Entries != 1 || stats.Bytes != plain.Cost() {
		t.Errorf("%+v", stats)
	}
}

func TestSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Options{Size: 32 << 20})
		for n := range 2500 {
			e := sized(n, 100)
			e.Life.Fresh = time.Minute
			put(t, s, e)
			v := variantOf(sized(n+10_000, 100), "a")
			v.Life.Fresh = time.Minute
			put(t, s, v)
		}
		kept := sized(-1, 100)
		put(t, s, kept)
		synctest.Wait()
		if got := s.Stats().Entries; got != 5001 {
			t.Fatalf("%d entries", got)
		}
		time.Sleep(time.Minute + 2*sweepEvery)
		synctest.Wait()
		stats := s.Stats()
		if stats.Entries != 1 || stats.Expired != 5000 || stats.Bytes != kept.Cost() || stats.Pending != 0 {
			t.Errorf("%+v", stats)
		}
		if !same(s.Get(t.Context(), kept.Key, "").Entry, kept) {
			t.Error("missed what is of use")
		}

		// The next sweeps know when there is something to find, from before and since.
		short := sized(-2, 100)
		short.Life.Fresh = time.Minute
		put(t, s, short)
		for _, next := range []struct {
			after time.Duration
			left  int64
		}{{time.Minute, 1}, {time.Hour, 0}} {
			time.Sleep(next.after + 2*sweepEvery)
			synctest.Wait()
			if got := s.Stats().Entries; got != next.left {
				t.Errorf("%d entries after %v, want %d", got, next.after, next.left)
			}
		}
	})
}

// TestExpiry: between two sweeps what is of no more use is a miss all the same, and
// room for what comes in its place.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Options{Size: 1 << 20})
		short := sized(1, 100)
		short.Life = cachestore.Life{Fresh: time.Second, Keep: time.Second}
		put(t, s, short)
		synctest.Wait()
		time.Sleep(2*time.Second - 1)
		if s.Get(t.Context(), short.Key, "").Entry == nil {
			t.Error("missed an entry that may still be revalidated")
		}
		time.Sleep(time.Nanosecond)
		if s.Get(t.Context(), short.Key, "").Entry != nil {
			t.Error("found an entry of no more use")
		}
		again := sized(1, 50_000)
		put(t, s, again)
		synctest.Wait()
		if !same(s.Get(t.Context(), short.Key, "").Entry, again) || s.Stats().Bytes != again.Cost() {
			t.Errorf("%+v", s.Stats())
		}
	})
}

// TestBackPressure: what is under way is bounded, and who waits for room can leave.
func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table table
		table.init(100)
		ctx, cancel := context.WithCancel(t.Context())
		if err := table.reserve(ctx, 150); err != nil {
			t.Fatalf("into an empty table: %v", err)
		}
		answers := make(chan error, 2)
		go func() { answers <- table.reserve(t.Context(), 60) }()
		go func() { answers <- table.reserve(ctx, 60) }()
		synctest.Wait()
		if len(answers) != 0 {
			t.Fatal("did not wait for room")
		}
		cancel()
		if err := <-answers; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		table.release(50)
		synctest.Wait()
		if len(answers) != 0 {
			t.Fatal("did not wait for enough room")
		}
		table.release(60)
		if err := <-answers; err != nil {
			t.Fatal(err)
		}
		go func() { answers <- table.reserve(t.Context(), 60) }()
		synctest.Wait()
		table.close()
		if err := <-answers; !errors.Is(err, ErrClosed) {
			t.Fatal(err)
		}
	})
}

func TestRange(t *testing.T) {
	s := open(t, Options{Size: 8 << 20})
	for round := range 3 {
		for n := range 300 {
			put(t, s, sized(n, 100+round))
			put(t, s, variantOf(sized(n+1000, 100+round), strconv.Itoa(n)))
		}
		seen := make(map[cachestore.Key]int)
		s.Range(func(e *cachestore.Entry) bool {
			seen[e.Key]++
			s.Get(t.Context(), e.Key, "") // no lock is held
			return true
		})
		if len(seen) != 600 {
			t.Errorf("saw %d of 600 entries", len(seen))
		}
		for key, times := range seen {
			if times != 1 {
				t.Errorf("saw %q %d times", key, times)
			}
		}
		if round == 1 {
			quiet(t, s)
		}
	}
	calls := 0
	s.Range(func(e *cachestore.Entry) bool {
		calls++
		s.Delete(t.Context(), e)
		return calls < 10
	})
	quiet(t, s)
	if got := s.Stats().Entries; calls != 10 || got != 590 {
		t.Errorf("%d calls, %d entries left", calls, got)
	}
}

func TestMarksStayWithTheEntry(t *testing.T) {
	s := open(t, Options{Size: 1 << 20})
	for _, e := range []*cachestore.Entry{sized(1, 10), variantOf(sized(2, 10), "a")} {
		put(t, s, e)
		s.Get(t.Context(), e.Key, e.Variant()).Marks.Checked.Store(7)
		quiet(t, s)
		if got := s.Get(t.Context(), e.Key, e.Variant()).Marks.Checked.Load(); got != 7 {
			t.Errorf("marked with 7, found %d", got)
		}
		again := *e
		put(t, s, &again)
		if got := s.Get(t.Context(), e.Key, e.Variant()).Marks.Checked.Load(); got != 0 {
			t.Errorf("a new entry bears the old mark %d", got)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{}, {Size: MinSize - 1}, {Size: MinSize, MaxObject: -1}, {Size: MinSize, MaxVariants: -1}, {Size: MinSize, MeanObject: -1},
	} {
		if s, err := New(o); err == nil {
			s.Close()
			t.Errorf("%+v was taken", o)
		}
	}
	s := open(t, Options{Size: MinSize})
	put(t, s, sized(1, 1000))
	quiet(t, s)
	if s.Get(t.Context(), keyOf(1), "").Entry == nil {
		t.Error("the smallest store stores nothing")
	}
}

// TestStatsWhileClosing: gauges may be read at any time.
func TestStatsWhileClosing(t *testing.T) {
	s := open(t, Options{Size: 1 << 20})
	for n := range 100 {
		put(t, s, sized(n, 100))
	}
	var running sync.WaitGroup
	running.Go(s.Close)
	running.Go(func() {
		for range 100 {
			s.Stats()
			s.Range(func(*cachestore.Entry) bool { return true })
		}
	})
	running.Wait()
	if stats := s.Stats(); stats.Entries != 0 {
		t.Errorf("after Close: %+v", stats)
	}
}

func open(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func put(t testing.TB, s *Store, e *cachestore.Entry) {
	t.Helper()
	if err := s.Put(t.Context(), e); err != nil {
		t.Fatal(err)
	}
}
