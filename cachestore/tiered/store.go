// Package tiered puts the memory tier before the shared one: a cachestore.Store made
// of two. What is in memory is answered from there without a word to the shared tier.
// What is only in the shared tier is brought into memory on its way to the request.
// What is stored goes to memory at once, and to the shared tier a moment later, off
// the path of any request.
package tiered

import (
	"context"
	"errors"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"edge/cachestore"
)

// Options configure a Store.
type Options struct {
	Memory cachestore.Store // asked first; must not block
	Shared cachestore.Store // asked on a miss there; bounds its own calls

	// Ready tells whether the shared tier may be read: false while purges may be
	// missing here. Nil is always.
	Ready func() bool

	Queue      int   // writes that may wait for the shared tier; zero means 1024
	QueueBytes int64 // that their entries may hold together; zero means 64 MiB
	Writers    int   // writes to the shared tier at a time; zero means 4
}

// Store implements cachestore.Store.
type Store struct {
	options Options
	seed    maphash.Seed
	queues  []chan write // one for each writer: the writes of a key keep their order
	queued  atomic.Int64 // bytes
	counts  counts

	mu      sync.Mutex             // guards what follows; nothing waits under it
	closed  bool                   // and with it the queues
	waiting map[cachestore.Key]int // writes that the shared tier does not show yet
	looks   map[lookKey]*look      // look-ups in the shared tier under way

	ctx     context.Context // of the writers; ends when Close has waited for long enough
	end     context.CancelFunc
	writers sync.WaitGroup
}

// write is an entry to be put into the shared tier, or deleted there.
type write struct {
	entry  *cachestore.Entry
	remove bool
}

type counts struct {
	hits, misses, suspect, dropped, written, failed atomic.Int64
}

// New returns a Store and starts its writers. Close ends them.
func New(o Options) *Store {
	if o.Memory == nil || o.Shared == nil {
		panic("tiered: two tiers are needed")
	}
	if o.Queue == 0 {
		o.Queue = 1024
	}
	if o.QueueBytes == 0 {
		o.QueueBytes = 64 << 20
	}
	if o.Writers == 0 {
		o.Writers = 4
	}
	if o.Ready == nil {
		o.Ready = func() bool { return true }
	}
	s := &Store{options: o, seed: maphash.MakeSeed(),
		waiting: make(map[cachestore.Key]int), looks: make(map[lookKey]*look)}
	s.ctx, s.end = context.WithCancel(context.Background())
	for range o.Writers {
		queue := make(chan write, max(1, o.Queue/o.Writers))
		s.queues = append(s.queues, queue)
		s.writers.Go(func() { s.writeAll(queue) })
	}
	return s
}

// Get implements cachestore.Store. Of a key whose responses vary, memory may know
// fewer lists of field names than the shared tier does; then what only the others
// would find is fetched anew.
func (s *Store) Get(ctx context.Context, key cachestore.Key, variant string) cachestore.Found {
	found := s.options.Memory.Get(ctx, key, variant)
	if found.Entry != nil || found.VaryOn != nil || ctx.Err() != nil || !s.options.Ready() {
		return found
	}
	return s.look(ctx, key, variant)
}

// Put implements cachestore.Store. The error is the memory tier's. What that one
// had no room for goes to the shared tier all the same, where it is found some time
// after Put has returned.
func (s *Store) Put(ctx context.Context, e *cachestore.Entry) error {
	err := s.options.Memory.Put(ctx, e)
	if !errors.Is(err, cachestore.ErrOlder) {
		s.enqueue(write{entry: e})
	}
	return err
}

// Delete implements cachestore.Store.
func (s *Store) Delete(ctx context.Context, e *cachestore.Entry) {
	s.options.Memory.Delete(ctx, e)
	s.enqueue(write{entry: e, remove: true})
}

// lookKey names a look-up in the shared tier.
type lookKey struct {
	key     cachestore.Key
	variant string
}

// look is one under way, which others wait for.
type look struct {
	done  chan struct{}
	late  bool             // guarded by Store.mu: the key was written to meanwhile
	found cachestore.Found // once done is closed
}

// look asks the shared tier, once for all who ask at the same time. While a write
// of the key is on its way there, only memory knows what holds.
func (s *Store) look(ctx context.Context, key cachestore.Key, variant string) cachestore.Found {
	name := lookKey{key, variant}
	s.mu.Lock()
	if s.closed || s.waiting[key] > 0 {
		s.mu.Unlock()
		return cachestore.Found{}
	}
	if l := s.looks[name]; l != nil {
		s.mu.Unlock()
		select {
		case <-l.done:
			return l.found
		case <-ctx.Done():
			return cachestore.Found{}
		}
	}
	l := &look{done: make(chan struct{})}
	s.looks[name] = l
	s.mu.Unlock()
	// Others wait for it: it must not end with the one client that came first.
	l.found = s.fetch(context.WithoutCancel(ctx), l, key, variant)
	s.mu.Lock()
	if s.looks[name] == l {
		delete(s.looks, name)
	}
	s.mu.Unlock()
	close(l.done)
	return l.found
}

// fetch asks the shared tier, and brings what it has into memory. A suspect entry
// stays outside: memory has no place to say so. So does one that has been replaced
// or deleted since.
func (s *Store) fetch(ctx context.Context, l *look, key cachestore.Key, variant string) cachestore.Found {
	found := s.options.Shared.Get(ctx, key, variant)
	switch {
	case found.Entry == nil:
		if found.VaryOn == nil {
			s.counts.misses.Add(1)
		}
		return found
	case found.Suspect:
		s.counts.suspect.Add(1)
		return found
	}
	s.counts.hits.Add(1)
	if s.options.Memory.Put(ctx, found.Entry) != nil {
		return found
	}
	s.mu.Lock()
	late := l.late
	s.mu.Unlock()
	if late {
		// Memory had been written to before, or the write would have hidden this one.
		s.options.Memory.Delete(ctx, found.Entry)
		return cachestore.Found{}
	}
	if inMemory := s.options.Memory.Get(ctx, key, variant); inMemory.Entry != nil {
		return inMemory // with the marks that all others see
	}
	return found
}

// enqueue hands a write to the key's writer, or drops it when there are too many.
// Look-ups of the key that are under way bring nothing into memory any more.
func (s *Store) enqueue(w write) {
	key, size := w.entry.Key, w.size()
	queue := s.queues[maphash.String(s.seed, string(key))%uint64(len(s.queues))]
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, l := range s.looks {
		if name.key == key {
			l.late = true
			delete(s.looks, name) // and nobody joins them
		}
	}
	if s.closed {
		return
	}
	if s.queued.Load()+size > s.options.QueueBytes {
		s.counts.dropped.Add(1)
		return
	}
	select {
	case queue <- w:
		s.queued.Add(size)
		s.waiting[key]++
	default:
		s.counts.dropped.Add(1)
	}
}

// size is what the write holds.
func (w *write) size() int64 {
	if w.remove {
		return 0
	}
	return w.entry.Cost()
}

// written takes a write off those that wait.
func (s *Store) written(w *write) {
	s.queued.Add(-w.size())
	key := w.entry.Key
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting[key]--; s.waiting[key] == 0 {
		delete(s.waiting, key)
	}
}

func (s *Store) writeAll(queue <-chan write) {
	for w := range queue {
		switch {
		case s.ctx.Err() != nil:
			s.counts.dropped.Add(1)
		case w.remove:
			s.options.Shared.Delete(s.ctx, w.entry)
		default:
			s.put(w.entry)
		}
		s.written(&w)
	}
}

func (s *Store) put(e *cachestore.Entry) {
	switch err := s.options.Shared.Put(s.ctx, e); {
	case err == nil:
		s.counts.written.Add(1)
	case errors.Is(err, cachestore.ErrOlder): // another node was faster: as good
	default:
		s.counts.failed.Add(1)
	}
}

// Close writes what waits until ctx ends, and ends the writers. It closes neither
// tier. Writes that come later are dropped.
func (s *Store) Close(ctx context.Context) error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		for _, queue := range s.queues {
			close(queue)
		}
	}
	s.mu.Unlock()
	if ctx.Err() != nil {
		s.end()
	}
	stop := context.AfterFunc(ctx, s.end)
	defer stop()
	s.writers.Wait()
	s.end()
	return ctx.Err()
}

// Stats are the store's counters since it was opened, and its gauges.
type Stats struct {
	Hits    int64 `json:"hits"`         // entries found in the shared tier and not in memory
	Suspect int64 `json:"suspect"`      // entries found there that must be revalidated first
	Misses  int64 `json:"misses"`       // look-ups there that found nothing
	Written int64 `json:"written"`      // entries taken by the shared tier
	Failed  int64 `json:"failed"`       // entries that it did not take
	Dropped int64 `json:"dropped"`      // writes for which the queue had no room
	Waiting int64 `json:"waiting"`      // writes that wait now
	Bytes   int64 `json:"waiting_size"` // that their entries hold
}

// Stats returns the state of the store.
func (s *Store) Stats() Stats {
	waiting := 0
	for _, queue := range s.queues {
		waiting += len(queue)
	}
	return Stats{
		Hits:    s.counts.hits.Load(),
		Suspect: s.counts.suspect.Load(),
		Misses:  s.counts.misses.Load(),
		Written: s.counts.written.Load(),
		Failed:  s.counts.failed.Load(),
		Dropped: s.counts.dropped.Load(),
		Waiting: int64(waiting),
		Bytes:   s.queued.Load(),
	}
}
