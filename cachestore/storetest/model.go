package storetest

import (
	"errors"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"edge/cachestore"
)

// model is the contract of a Store as plainly as it can be written, for keys that
// vary in one way only.
type model map[cachestore.Key]*modelKey

type modelKey struct {
	plain    *cachestore.Entry
	variants map[string]*cachestore.Entry
}

// newer reports whether a is to stay when b comes.
func newer(a, b *cachestore.Entry) bool {
	return a != nil && (a.Sequence > b.Sequence || a.Sequence == b.Sequence && a.Received.After(b.Received))
}

func (m model) put(e *cachestore.Entry) error {
	k := m[e.Key]
	if k == nil {
		k = &modelKey{}
		m[e.Key] = k
	}
	if newer(k.plain, e) || newer(k.variants[e.Variant()], e) {
		return cachestore.ErrOlder
	}
	if e.Variant() == "" {
		for _, v := range k.variants {
			if newer(v, e) {
				return cachestore.ErrOlder
			}
		}
		k.plain, k.variants = e, nil
		return nil
	}
	k.plain = nil
	if k.variants == nil {
		k.variants = make(map[string]*cachestore.Entry)
	}
	k.variants[e.Variant()] = e
	return nil
}

func (m model) get(key cachestore.Key, variant string) *cachestore.Entry {
	switch k := m[key]; {
	case k == nil:
		return nil
	case variant == "":
		return k.plain
	default:
		return k.variants[variant]
	}
}

func (m model) delete(e *cachestore.Entry) {
	if m.get(e.Key, e.Variant()) != e {
		return
	}
	if e.Variant() == "" {
		m[e.Key].plain = nil
		return
	}
	// A store may go on remembering how new the newest of the variants was, so the
	// whole key is cleared together (by asTheModel).
	delete(m[e.Key].variants, e.Variant())
}

func (u suite) asTheModel(t *testing.T, s cachestore.Store) {
	const keys = 8
	steps := u.times(4000)
	random := rand.New(rand.NewPCG(3, 5))
	variants := []string{"", "de", "en", "fr"}
	m := make(model)
	same := func(step int, key cachestore.Key) {
		t.Helper()
		for _, variant := range variants {
			want := m.get(key, variant)
			found := s.Get(background, key, variant)
			switch {
			case (want == nil) != (found.Entry == nil):
				t.Fatalf("step %d: %q %q found %v, not %v", step, key, variant, found.Entry, want)
			case want != nil && text(t, found.Entry) != text(t, want):
				t.Fatalf("step %d: %q %q found %q, not %q", step, key, variant, text(t, found.Entry), text(t, want))
			case variant == "" && len(found.VaryOn) == 0 && m[key] != nil && len(m[key].variants) > 0:
				t.Fatalf("step %d: %q has variants, and says nothing of it", step, key)
			}
		}
	}
	for step := range steps {
		k := key(random.IntN(keys))
		if random.IntN(5) > 0 {
			variant := variants[max(0, random.IntN(6)-2)]
			e := entry(k, strconv.Itoa(step))
			if variant != "" {
				e = varied(k, strconv.Itoa(step), variant, "accept-language")
			}
			e.Sequence = uint64(step/20 + random.IntN(3))
			e.Received = e.Received.Add(time.Duration(random.IntN(3)) * time.Second)
			if got, want := s.Put(background, e), m.put(e); !errors.Is(got, want) {
				t.Fatalf("step %d: Put answered %v, not %v", step, got, want)
			}
		} else {
			for _, variant := range variants {
				if e := m.get(k, variant); e != nil {
					s.Delete(background, e)
					m.delete(e)
				}
			}
		}
		same(step, k)
		if step%100 == 0 {
			for n := range keys {
				same(step, key(n))
			}
		}
	}
}
