package memory

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
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
	defer looking.Wait()
	defer close(stop)
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
			d.enter(slots[n])
		} else {
			d.leave(slots[n])
		}
	}
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
	if found < entered*95/100 {
		t.Errorf("found %d of %d", found, entered)
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

// TestSeek: each key gets what is its own, also where all look alike to the directory and
// some do not fit into it, whether there is plenty of room or not.
func TestSeek(t *testing.T) {
	for _, plenty := range []bool{true, false} {
		s := open(t, Options{Size: 1 << 20})
		if !plenty {
			s.plenty = -1
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
