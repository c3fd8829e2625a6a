package tiered

import (
	"context"
	"errors"
	"net/http"
	"strings"
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

// roomy is a queue that drops nothing of the suite, which writes as fast as it can:
// of a delete that was dropped, what the shared tier has would come back.
const roomy = 1 << 17

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) cachestore.Store {
		return open(t, Options{Shared: openMemory(t), Queue: roomy, QueueBytes: 1 << 30})
	})
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

// between does something once, after memory was asked and before its answer is known.
type between struct {
	cachestore.Store
	done atomic.Bool
	do   func()
}

func (b *between) Get(ctx context.Context, key cachestore.Key, variant string) cachestore.Found {
	found := b.Store.Get(ctx, key, variant)
	if b.done.CompareAndSwap(false, true) {
		b.do()
	}
	return found
}

// TestLookUpThatJustEnded: what it has brought is not looked up once more by who has
// missed it in memory just before.
func TestLookUpThatJustEnded(t *testing.T) {
	far := &shared{Store: openMemory(t)}
	far.Store.Put(t.Context(), entry("/", "there", 1))
	near := &between{Store: openMemory(t)}
	s := open(t, Options{Memory: near, Shared: far})
	near.do = func() {
		if got := text(s.look(t.Context(), key("/"), "")); got != "there" {
			t.Errorf("got %q", got)
		}
	}
	if got := text(s.Get(t.Context(), key("/"), "")); got != "there" {
		t.Errorf("got %q", got)
	}
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

// near is a memory tier that can be looked into between its steps.
type near struct {
	cachestore.Store
	put, deleted func() // if set: called before an entry is put, after one was deleted
	large        int64  // if set: size of bodies for which there is no room
	refuses      error  // if set: for all entries
}

func (n *near) Put(ctx context.Context, e *cachestore.Entry) error {
	if n.put != nil {
		n.put()
	}
	if n.refuses != nil {
		return n.refuses
	}
	if n.large > 0 && e.Body.Size() >= n.large {
		return cachestore.ErrTooLarge
	}
	return n.Store.Put(ctx, e)
}

func (n *near) Delete(ctx context.Context, e *cachestore.Entry) {
	n.Store.Delete(ctx, e)
	if n.deleted != nil {
		n.deleted()
	}
}

// TestDeletesOvertakeLookUps: a look-up that ends in the middle of a Delete does not
// bring the entry back.
func TestDeletesOvertakeLookUps(t *testing.T) {
	memory := &near{Store: openMemory(t)}
	far := &shared{Store: openMemory(t), get: make(chan struct{}), entered: make(chan struct{}, 1)}
	old := entry("/", "old", 1)
	far.Store.Put(t.Context(), old)
	s := open(t, Options{Memory: memory, Shared: far})
	done := make(chan string, 1)
	go func() { done <- text(s.Get(t.Context(), key("/"), "")) }()
	<-far.entered
	memory.deleted = func() { // by the test's Delete: the look-up is held up
		memory.deleted = nil
		close(far.get)
		if got := <-done; got != "" {
			t.Errorf("got %q while it was being deleted", got)
		}
	}
	s.Delete(t.Context(), old)
	if got := text(memory.Get(t.Context(), key("/"), "")); got != "" {
		t.Errorf("memory has %q, which was deleted", got)
	}
}

// TestNothingIsLookedUpUnderAWrite: what the shared tier has is of before the write,
// from the moment that memory may be of after it.
func TestNothingIsLookedUpUnderAWrite(t *testing.T) {
	memory := &near{Store: openMemory(t)}
	far := &shared{Store: openMemory(t)}
	far.Store.Put(t.Context(), entry("/", "old", 1))
	s := open(t, Options{Memory: memory, Shared: far})
	memory.put = func() {
		memory.put = nil
		if got := text(s.Get(t.Context(), key("/"), "")); got != "" {
			t.Errorf("got %q", got)
		}
	}
	if err := s.Put(t.Context(), entry("/", "new", 2)); err != nil {
		t.Fatal(err)
	}
	if n := far.gets.Load(); n != 0 {
		t.Errorf("%d look-ups", n)
	}
}

// TestMemoryKnowsBetter: when memory has got something newer while the shared tier
// was asked, that is the answer.
func TestMemoryKnowsBetter(t *testing.T) {
	memory := openMemory(t)
	far := &shared{Store: openMemory(t), get: make(chan struct{}), entered: make(chan struct{}, 1)}
	far.Store.Put(t.Context(), entry("/", "old", 1))
	s := open(t, Options{Memory: memory, Shared: far})
	got := make(chan string, 1)
	go func() { got <- text(s.Get(t.Context(), key("/"), "")) }()
	<-far.entered
	memory.Put(t.Context(), entry("/", "new", 2))
	close(far.get)
	if got := <-got; got != "new" {
		t.Errorf("got %q", got)
	}
}

// TestMemoryKnowsThatThereIsNothing: what is older than what memory has seen is no
// answer, though memory has no other.
func TestMemoryKnowsThatThereIsNothing(t *testing.T) {
	far := &shared{Store: openMemory(t)}
	far.Store.Put(t.Context(), entry("/", "old", 1))
	s := open(t, Options{Memory: &near{Store: openMemory(t), refuses: cachestore.ErrOlder}, Shared: far})
	if got := text(s.Get(t.Context(), key("/"), "")); got != "" {
		t.Errorf("got %q", got)
	}
	s.options.Memory = &near{Store: openMemory(t), refuses: cachestore.ErrTooLarge}
	if got := text(s.Get(t.Context(), key("/"), "")); got != "old" {
		t.Errorf("got %q, where memory has no room for it", got)
	}
}

// TestNobodyJoinsALateLookUp: whoever asks after a write has been through asks anew,
// though an older look-up is still under way.
func TestNobodyJoinsALateLookUp(t *testing.T) {
	memory := openMemory(t)
	far := &shared{Store: openMemory(t), get: make(chan struct{}), entered: make(chan struct{}, 2)}
	far.Store.Put(t.Context(), entry("/", "old", 1))
	s := open(t, Options{Memory: memory, Shared: far})
	var wg sync.WaitGroup
	wg.Go(func() { s.Get(t.Context(), key("/"), "") })
	<-far.entered
	e := entry("/", "new", 2)
	s.Put(t.Context(), e)
	eventually(t, "the write is through", func() bool { return len(busy(s)) == 0 })
	memory.Delete(t.Context(), e) // evicted
	wg.Go(func() {
		if got := text(s.Get(t.Context(), key("/"), "")); got != "new" {
			t.Errorf("got %q", got)
		}
	})
	<-far.entered
	close(far.get)
	wg.Wait()
}

// TestAnotherVariantIsWritten: of a look-up that a write of another variant has
// overtaken nothing stays in memory, and what memory has is found.
func TestAnotherVariantIsWritten(t *testing.T) {
	variant := func(name string) *cachestore.Entry {
		e := entry("/", name, 1)
		e.Vary = &cachestore.Vary{On: []string{"accept-language"}, Variant: name}
		return e
	}
	far := &shared{Store: openMemory(t), get: make(chan struct{}), entered: make(chan struct{}, 1)}
	far.Store.Put(t.Context(), variant("de"))
	s := open(t, Options{Shared: far})
	got := make(chan string, 1)
	go func() { got <- text(s.Get(t.Context(), key("/"), "de")) }()
	<-far.entered
	s.Put(t.Context(), variant("en"))
	close(far.get)
	<-got // found or not: nobody has promised
	far.entered = nil
	for _, name := range []string{"de", "en"} {
		// Until the write has reached the shared tier, that one is not asked.
		eventually(t, name+" is found", func() bool { return text(s.Get(t.Context(), key("/"), name)) == name })
	}
}

// TestPanicsAreNotForever: a look-up that panics lets go those who wait for it, and
// the next is made anew.
func TestPanicsAreNotForever(t *testing.T) {
	far := &shared{Store: openMemory(t), get: make(chan struct{}), entered: make(chan struct{}, 1)}
	s := open(t, Options{Memory: &near{Store: openMemory(t), put: func() { panic("memory") }}, Shared: far})
	far.Store.Put(t.Context(), entry("/", "there", 1))
	led, joined := make(chan any, 1), make(chan struct{})
	go func() {
		defer func() { led <- recover() }()
		s.Get(t.Context(), key("/"), "")
	}()
	<-far.entered
	l, lead, _ := s.join(key("/"), "")
	if lead {
		t.Fatal("the look-up under way is not joined")
	}
	go func() {
		<-l.done
		close(joined)
	}()
	close(far.get)
	if got, ok := (<-led).(error); !ok || !strings.Contains(got.Error(), "memory") {
		t.Errorf("recovered %v", got)
	}
	<-joined
	if keys := busy(s); len(keys) > 0 {
		t.Errorf("left behind: %q", keys)
	}
}

// TestLargeEntriesAreUncovered: an entry that only the shared tier has room for is
// found there, also where memory has an older one.
func TestLargeEntriesAreUncovered(t *testing.T) {
	memory := &near{Store: openMemory(t), large: 5}
	far := &shared{Store: openMemory(t)}
	s := open(t, Options{Memory: memory, Shared: far})
	if err := s.Put(t.Context(), entry("/", "old", 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), entry("/", "large", 2)); !errors.Is(err, cachestore.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	if err := s.Put(t.Context(), entry("/", "large but old", 1)); !errors.Is(err, cachestore.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	eventually(t, "all is written", func() bool { return len(busy(s)) == 0 })
	for range 2 {
		if got := text(s.Get(t.Context(), key("/"), "")); got != "large" {
			t.Errorf("got %q", got)
		}
	}
}

// eventually waits for what comes true on its own.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited for too long until %s", what)
		}
	}
}

// busy returns the keys for which something is under way.
func busy(s *Store) (keys []cachestore.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.busy {
		keys = append(keys, key)
	}
	return keys
}

// TestNothingIsLeftBehind: keys do not stay in the tables.
func TestNothingIsLeftBehind(t *testing.T) {
	s := open(t, Options{Shared: openMemory(t), Queue: 2, Writers: 1})
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for n := range 500 {
				e := entry("/"+string(rune('a'+n%20)), "text", uint64(n*worker))
				s.Get(t.Context(), e.Key, "")
				s.Put(t.Context(), e)
				s.Delete(t.Context(), e)
			}
		})
	}
	wg.Wait()
	s.Put(t.Context(), entry("/", "new", 2))
	if err := s.Put(t.Context(), entry("/", "old", 1)); !errors.Is(err, cachestore.ErrOlder) {
		t.Errorf("got %v", err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Put(t.Context(), entry("/late", "late", 1))
	if keys := busy(s); len(keys) > 0 {
		t.Errorf("left behind: %q", keys)
	}
	if stats := s.Stats(); stats.Waiting != 0 || stats.Bytes != 0 || stats.Dropped == 0 {
		t.Errorf("%+v", stats)
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
