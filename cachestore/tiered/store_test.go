package tiered

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edge/cachestore"
	"edge/cachestore/memory"
	"edge/cachestore/storetest"
)

func openMemory(t testing.TB) *memory.Store {
	s, err := memory.New(memory.Options{Size: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func open(t testing.TB, o Options) *Store {
	if o.Memory == nil {
		o.Memory = openMemory(t)
	}
	s := New(o)
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) cachestore.Store { return open(t, Options{Shared: openMemory(t)}) })
}

func key(target string) cachestore.Key {
	return cachestore.NewKey(cachestore.KeyParts{Site: "shop", Scheme: "http", Authority: "a", Target: target})
}

func entry(target, body string, sequence uint64) *cachestore.Entry {
	return &cachestore.Entry{
		Key: key(target), Status: http.StatusOK, Received: time.Now(), Sequence: sequence,
		Life: cachestore.Life{Fresh: time.Hour}, Body: cachestore.NewBody([]byte(body)),
	}
}

func text(found cachestore.Found) string {
	if found.Entry == nil {
		return ""
	}
	body := ""
	for chunk := range found.Entry.Body.Chunks() {
		body += string(chunk)
	}
	return body
}

// shared is a shared tier that can be held up, and counts.
type shared struct {
	cachestore.Store
	gets, puts, deletes atomic.Int64
	get, put            chan struct{} // if set, each call takes a token
	suspect             bool
	entered             chan struct{} // if set, each Get says that it has begun
}

func (s *shared) Get(ctx context.Context, key cachestore.Key, variant string) cachestore.Found {
	s.gets.Add(1)
	found := s.Store.Get(ctx, key, variant)
	if s.entered != nil {
		s.entered <- struct{}{}
	}
	if s.get != nil {
		<-s.get
	}
	found.Suspect = s.suspect
	return found
}

func (s *shared) Put(ctx context.Context, e *cachestore.Entry) error {
	s.puts.Add(1)
	if s.put != nil {
		<-s.put
	}
	return s.Store.Put(ctx, e)
}

func (s *shared) Delete(ctx context.Context, e *cachestore.Entry) {
	s.deletes.Add(1)
	s.Store.Delete(ctx, e)
}

func TestMemoryHitsAskNobody(t *testing.T) {
	far := &shared{Store: openMemory(t)}
	s := open(t, Options{Shared: far})
	if err := s.Put(t.Context(), entry("/", "here", 1)); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if got := text(s.Get(t.Context(), key("/"), "")); got != "here" {
			t.Fatalf("got %q", got)
		}
	}
	if n := far.gets.Load(); n != 0 {
		t.Errorf("%d look-ups in the shared tier for what is in memory", n)
	}
}

func TestSharedHitsMoveIntoMemory(t *testing.T) {
	far := &shared{Store: openMemory(t)}
	far.Store.Put(t.Context(), entry("/", "there", 1))
	s := open(t, Options{Shared: far})
	first := s.Get(t.Context(), key("/"), "")
	again := s.Get(t.Context(), key("/"), "")
	if text(first) != "there" || text(again) != "there" || far.gets.Load() != 1 {
		t.Errorf("got %q and %q with %d look-ups", text(first), text(again), far.gets.Load())
	}
	if first.Marks == nil || first.Marks != again.Marks {
		t.Error("the first request's marks are lost")
	}
	if far.puts.Load() != 0 {
		t.Error("what came from the shared tier was written back to it")
	}
}

func TestSuspectEntriesStayOutside(t *testing.T) {
	far := &shared{Store: openMemory(t), suspect: true}
	far.Store.Put(t.Context(), entry("/", "old", 1))
	s := open(t, Options{Shared: far})
	for range 2 {
		if found := s.Get(t.Context(), key("/"), ""); text(found) != "old" || !found.Suspect || found.Marks == nil {
			t.Errorf("got %+v", found)
		}
	}
	if far.gets.Load() != 2 {
		t.Error("a suspect entry was brought into memory")
	}
}

func TestNotReady(t *testing.T) {
	var ready atomic.Bool
	far := &shared{Store: openMemory(t)}
	far.Store.Put(t.Context(), entry("/", "there", 1))
	s := open(t, Options{Shared: far, Ready: ready.Load})
	if found := s.Get(t.Context(), key("/"), ""); found.Entry != nil || far.gets.Load() != 0 {
		t.Error("the shared tier was read before it may be")
	}
	ready.Store(true)
	if got := text(s.Get(t.Context(), key("/"), "")); got != "there" {
		t.Errorf("got %q", got)
	}
}

func TestOneLookUpForAll(t *testing.T) {
	const clients = 50
	far := &shared{Store: openMemory(t), get: make(chan struct{}), entered: make(chan struct{}, clients)}
	far.Store.Put(t.Context(), entry("/", "there", 1))
	s := open(t, Options{Shared: far})
	var wg sync.WaitGroup
	// The one who leads may leave: the others still get their answer.
	ctx, leave := context.WithCancel(t.Context())
	wg.Go(func() { s.Get(ctx, key("/"), "") })
	<-far.entered
	leave()
	for range clients {
		wg.Go(func() {
			if got := text(s.Get(t.Context(), key("/"), "")); got != "there" {
				t.Errorf("got %q", got)
			}
		})
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if found := s.Get(gone, key("/"), ""); found.Entry != nil {
		t.Error("an answer for a client that has left")
	}
	close(far.get)
	wg.Wait()
	if n := far.gets.Load(); n != 1 {
		t.Errorf("%d look-ups, want 1", n)
	}
}

// TestWritesOvertakeLookUps: what was looked up before a write never comes back
// after it.
func TestWritesOvertakeLookUps(t *testing.T) {
	for _, remove := range []bool{false, true} {
		near := openMemory(t)
		far := &shared{Store: openMemory(t), get: make(chan struct{}), entered: make(chan struct{}, 1)}
		old := entry("/", "old", 1)
		far.Store.Put(t.Context(), old)
		s := open(t, Options{Memory: near, Shared: far})
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.Get(t.Context(), key("/"), "")
		}()
		<-far.entered // it has read the old one
		want := ""
		if remove {
			s.Delete(t.Context(), old)
		} else {
			want = "new"
			s.Put(t.Context(), entry("/", want, 2))
		}
		close(far.get)
		<-done
		if got := text(near.Get(t.Context(), key("/"), "")); got != want {
			t.Errorf("remove %v: memory has %q, want %q", remove, got, want)
		}
		far.entered = nil
		if got := text(s.Get(t.Context(), key("/"), "")); got != want {
			t.Errorf("remove %v: got %q, want %q", remove, got, want)
		}
	}
}

// TestQueueIsBounded: a shared tier that stands still holds nobody up, and costs no
// more than the queue.
func TestQueueIsBounded(t *testing.T) {
	for name, o := range map[string]Options{
		"by number": {Queue: 4, Writers: 1},
		"by size":   {QueueBytes: 5 * entry("/0", "text", 1).Cost(), Writers: 1},
	} {
		t.Run(name, func(t *testing.T) {
			far := &shared{Store: openMemory(t), put: make(chan struct{})}
			o.Shared = far
			s := open(t, o)
			for range 20 {
				if err := s.Put(t.Context(), entry("/"+string(rune('a'+far.puts.Load())), "text", 1)); err != nil {
					t.Fatal(err)
				}
			}
			stats := s.Stats()
			if stats.Waiting > 5 || stats.Dropped < 14 || stats.Bytes > 6*entry("/0", "text", 1).Cost() {
				t.Errorf("%+v", stats)
			}
			close(far.put)
			if err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
			if stats := s.Stats(); stats.Written+stats.Failed+stats.Dropped != 20 || stats.Bytes != 0 {
				t.Errorf("after all: %+v", stats)
			}
		})
	}
}

func TestCloseGivesUp(t *testing.T) {
	far := &shared{Store: openMemory(t), put: make(chan struct{})}
	s := New(Options{Memory: openMemory(t), Shared: far, Writers: 1})
	for range 5 {
		s.Put(t.Context(), entry("/", "text", 1))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for far.puts.Load() == 0 {
		time.Sleep(time.Millisecond) // until a write is under way
	}
	closed := make(chan error)
	go func() { closed <- s.Close(ctx) }()
	<-s.ctx.Done()
	far.put <- struct{}{} // that one is waited for
	if err := <-closed; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if stats := s.Stats(); stats.Dropped != 4 || stats.Waiting != 0 {
		t.Errorf("%+v", stats)
	}
}

func BenchmarkMemoryHit(b *testing.B) {
	near := openMemory(b)
	s := New(Options{Memory: near, Shared: near})
	defer s.Close(context.Background())
	near.Put(b.Context(), entry("/", "here", 1))
	k, ctx := key("/"), context.Background()
	for name, store := range map[string]cachestore.Store{"memory": near, "tiered": s} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if store.Get(ctx, k, "").Entry == nil {
					b.Fatal("gone")
				}
			}
		})
	}
}
