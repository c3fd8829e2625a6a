package memory

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"edge/cachestore"
)

// TestDirectory: whatever enters and leaves, it never has what has left, is sure when it
// says so, and has nearly all that it should, also while it changes.
func TestDirectory(t *testing.T) {
	var d directory
	var slots []*slot
	for n := range 20_000 {
		slots = append(slots, &slot{id: id{rand.Uint64(), rand.Uint64()}, cost: int64(n)})
	}
	stop := make(chan struct{})
	var looking sync.WaitGroup
	looking.Go(func() {
		for n := 0; ; n = (n + 1) % len(slots) {
			select {
			case <-stop:
				return
			default:
			}
			if at := d.find(slots[n].id, true); at != nil && at != slots[n] {
				t.Error("found another, and was sure")
				return
			}
		}
	})
	there := make([]bool, len(slots))
	for range 200_000 {
		n := rand.IntN(len(slots))
		if there[n] = !there[n]; there[n] {
			d.enter(slots[n], 0)
		} else {
			d.leave(slots[n])
		}
	}
	close(stop)
	looking.Wait()
	found, entered := 0, 0
	for n, at := range slots {
		got := d.find(at.id, true)
		switch {
		case there[n]:
			if entered++; got == at {
				found++
			}
		case got != nil:
			t.Fatal("found what has left")
		}
	}
	if found < entered*97/100 {
		t.Errorf("found %d of %d", found, entered)
	}
	told := 0
	for i := range d.parts {
		for _, c := range d.parts[i].counted() {
			if c.uses == 0 || c.uses > 2*enough {
				t.Errorf("used %d times", c.uses)
			}
			told++
		}
		if again := d.parts[i].counted(); len(again) > 0 {
			t.Errorf("%d are told of twice", len(again))
		}
	}
	if told < found {
		t.Errorf("%d were used, %d are told of", found, told)
	}
	for _, at := range slots {
		d.leave(at)
	}
	for i := range d.parts {
		if d.parts[i].entered != 0 {
			t.Errorf("%d are left of none", d.parts[i].entered)
		}
	}
}

// TestDirectoryFollows: behind all kinds of changes, some of them by eviction, it has what
// ristretto has and nothing else, and so do the counters. Nobody finds meanwhile what is
// another key's, or was there before the last write.
func TestDirectoryFollows(t *testing.T) {
	for name, test := range map[string]struct {
		size int64
		keep func(id) id
	}{
		"roomy":           {32 << 20, nil},
		"full":            {1 << 20, nil},
		"one hash":        {1 << 20, func(i id) id { return id{i.hi, 1} }},
		"the other":       {1 << 20, func(i id) id { return id{i.hi % 8 << 56, i.lo} }},
		"some bits of it": {1 << 20, func(i id) id { return id{i.hi % 8 << 56, i.lo % 8} }},
	} {
		t.Run(name, func(t *testing.T) {
			const number = 400
			s := open(t, Options{Size: test.size})
			s.hash.keep = test.keep
			stop := make(chan struct{})
			var looking sync.WaitGroup
			looking.Go(func() {
				keys, spots := make([]cachestore.Key, 8), make([]cachestore.Spot, 8)
				for {
					select {
					case <-stop:
						return
					default:
					}
					for i := range keys {
						keys[i] = keyOf(rand.IntN(number))
					}
					s.Seek(keys, spots)
					for i, key := range keys {
						found := s.Find(time.Now(), spots[i], key, "")
						if found.VaryOn != nil {
							found = s.Find(time.Now(), spots[i], key, "a")
						}
						if found.Entry != nil && found.Entry.Key != key {
							t.Errorf("asked for %q, got %q", key, found.Entry.Key)
							return
						}
					}
				}
			})
			for step := range 20_000 {
				e := sized(rand.IntN(number), 100+rand.IntN(3000))
				e.Sequence = uint64(step)
				if rand.IntN(4) == 0 {
					variantOf(e, "a")
				}
				if rand.IntN(4) > 0 {
					put(t, s, e)
				} else if found := s.Peek(e.Key, e.Variant()).Entry; found != nil {
					s.Delete(t.Context(), found)
					e.Sequence = number * 20_000 // nothing is right
				}
				if found := s.Peek(e.Key, e.Variant()).Entry; found != nil && found.Sequence < e.Sequence {
					t.Fatal("found what was there before a write")
				}
			}
			close(stop)
			looking.Wait()
			quiet(t, s)
			there, cost := make(map[*slot]bool), int64(0)
			s.cache.IterValues(func(at *slot) (stop bool) {
				there[at], cost = true, cost+at.cost
				return false
			})
			listed := 0
			for i := range s.directory.parts {
				buckets := s.directory.parts[i].buckets.Load()
				if buckets == nil {
					continue
				}
				for j := range *buckets {
					b := &(*buckets)[j]
					for k := range b.slots {
						switch at := b.slots[k].Load(); {
						case at == nil:
						case !there[at]:
							t.Errorf("%v is listed twice, or has left", at.id)
						default:
							delete(there, at)
							listed++
						}
					}
				}
			}
			if got := s.counts.bytes.Load(); got != cost {
				t.Errorf("%d bytes are counted, %d stored", got, cost)
			}
			if test.keep == nil && len(there) > listed/30 {
				t.Errorf("%d are listed, %d are not", listed, len(there))
			}
		})
	}
}

// TestSeek: each key gets what is its own, also where all look alike to the directory and
// some do not fit into it, whether there is plenty of room or not.
func TestSeek(t *testing.T) {
	for _, plenty := range []bool{true, false} {
		s := open(t, Options{Size: 1 << 20})
		if !plenty {
			s.roomy.Store(false)
		}
		s.hash.keep = func(i id) id { return id{i.hi % (1 << 40) * 255, 1} } // one bucket, one tag
		const number = 30
		entries := make([]*cachestore.Entry, number)
		keys := make([]cachestore.Key, number+2)
		for n := range entries {
			if entries[n] = sized(n, 100); n%7 == 3 {
				entries[n] = variantOf(entries[n], "a")
			}
			put(t, s, entries[n])
		}
		quiet(t, s)
		for n := range keys {
			keys[n] = keyOf(n)
		}
		spots := make([]cachestore.Spot, len(keys))
		s.Seek(keys, spots)
		now := time.Now()
		for n, key := range keys {
			found := s.Find(now, spots[n], key, "")
			if found.VaryOn != nil {
				found = s.Find(now, spots[n], key, "a")
			}
			want := s.Get(context.Background(), key, "").Entry
			if n < number && n%7 == 3 {
				want = s.Get(context.Background(), key, "a").Entry
			}
			if found.Entry != want || n >= number && want != nil || n < number && !same(want, entries[n]) {
				t.Errorf("with plenty of room %v, key %d: %+v", plenty, n, found)
			}
		}
	}
}

// TestReplacedMeanwhile: what was sought before a write is what was there then, and what
// is sought after it is not.
func TestReplacedMeanwhile(t *testing.T) {
	s := open(t, Options{Size: 1 << 20})
	old, young := sized(1, 100), sized(1, 200)
	put(t, s, old)
	quiet(t, s)
	spots := make([]cachestore.Spot, 1)
	keys := []cachestore.Key{old.Key}
	s.Seek(keys, spots)
	put(t, s, young)
	for range 2 { // before and after ristretto has heard of it
		if found := s.Find(time.Now(), spots[0], old.Key, ""); !same(found.Entry, old) {
			t.Error("what was sought before the write has changed")
		}
		again := make([]cachestore.Spot, 1)
		s.Seek(keys, again)
		if found := s.Find(time.Now(), again[0], old.Key, ""); !same(found.Entry, young) {
			t.Error("what was sought after the write is from before it")
		}
		quiet(t, s)
	}
	s.Delete(context.Background(), young)
	for range 2 {
		if s.Seek(keys, spots); spots[0] != nil && s.Find(time.Now(), spots[0], old.Key, "").Entry != nil {
			t.Error("found what was deleted")
		}
		quiet(t, s)
	}
}

// TestTellingEndsWithTheStore: who closes it does not wait until all is told.
func TestTellingEndsWithTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Options{Size: 1 << 20})
		s.Close()
		began := time.Now()
		found := make([]count, 1000)
		for i := range found {
			found[i] = count{id{uint64(i), 1}, enough}
		}
		s.tell(found)
		if took := time.Since(began); took > 0 {
			t.Errorf("told for %v", took)
		}
	})
}
