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
	"time"

	"edge/cachestore"
)

// Options configure a Store.
type Options struct {
	Memory cachestore.Store // asked first; must not block
	Shared cachestore.Store // asked on a miss there; bounds its own calls; may be a Looker

	// Patience is how long a request waits for the shared tier; zero is for as long as
	// that one takes. Its calls go on, and what they bring is there for the next.
	Patience time.Duration

	// Abandoned is how many look-ups may go on that no request waits for any more;
	// zero means 16. Past it none is made: they would only stand in each other's way.
	Abandoned int

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

	mu        sync.Mutex // guards what follows; nothing waits under it
	closed    bool       // and with it the queues
	busy      map[cachestore.Key]*traffic
	under     int    // look-ups under way
	abandoned int    // those of them that nobody waits for
	heard     uint64 // look-ups that were answered so far
	silent    bool   // one was waited for in vain, and none has been answered since it began

	ctx     context.Context // of the calls; ends when Close has waited for long enough
	cancel  context.CancelFunc
	callers sync.WaitGroup // the writers, and look-ups under way
}

// traffic is what is under way between a key and the shared tier. Its fields are
// guarded by Store.mu; with the last of them it goes.
type traffic struct {
	writes int              // that the shared tier does not show yet
	looks  map[string]*look // that others may join, by variant
}

// write is an entry to be put into the shared tier, or deleted there.
type write struct {
	entry  *cachestore.Entry
	remove bool
	large  bool // memory has no room for it
}

type counts struct {
	hits, misses, suspect, overdue, skipped, dropped, written, failed atomic.Int64
}

// New returns a Store and starts its writers. Close ends them.
func New(o Options) *Store {
	if o.Memory == nil || o.Shared == nil {
		panic("tiered: two tiers are needed")
	}
	if o.Patience < 0 || o.Abandoned < 0 {
		panic("tiered: options out of range")
	}
	if o.Abandoned == 0 {
		o.Abandoned = 16
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
	s := &Store{options: o, seed: maphash.MakeSeed(), busy: make(map[cachestore.Key]*traffic)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	for range o.Writers {
		queue := make(chan write, max(1, o.Queue/o.Writers))
		s.queues = append(s.queues, queue)
		s.callers.Go(func() { s.writeAll(queue) })
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
// after Put has returned. A write that the queue has no room for is dropped: memory
// hides what the shared tier has, for as long as it holds the entry itself.
func (s *Store) Put(ctx context.Context, e *cachestore.Entry) error {
	s.announce(e.Key)
	err := s.options.Memory.Put(ctx, e)
	if errors.Is(err, cachestore.ErrOlder) {
		s.withdraw(e.Key)
		return err
	}
	s.enqueue(write{entry: e, large: errors.Is(err, cachestore.ErrTooLarge)})
	return err
}

// Delete implements cachestore.Store. When the queue has no room for it, the entry
// may be found in the shared tier again, and is to be judged again.
func (s *Store) Delete(ctx context.Context, e *cachestore.Entry) {
	s.announce(e.Key)
	s.options.Memory.Delete(ctx, e)
	s.enqueue(write{entry: e, remove: true})
}

// announce says that the key is about to be written to, before memory is. From now
// on, until the write has reached the shared tier, nothing is looked up there, and
// what look-ups under way bring along stays out of memory.
func (s *Store) announce(key cachestore.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.trafficLocked(key)
	t.writes++
	for _, l := range t.looks {
		l.late = true
	}
	t.looks = nil // nobody joins them any more
}

// withdraw is the end of an announced write.
func (s *Store) withdraw(key cachestore.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.withdrawLocked(key)
}

func (s *Store) withdrawLocked(key cachestore.Key) {
	t := s.busy[key]
	t.writes--
	s.idleLocked(key, t)
}

func (s *Store) trafficLocked(key cachestore.Key) *traffic {
	t := s.busy[key]
	if t == nil {
		t = &traffic{}
		s.busy[key] = t
	}
	return t
}

func (s *Store) idleLocked(key cachestore.Key, t *traffic) {
	if t.writes == 0 && len(t.looks) == 0 {
		delete(s.busy, key)
	}
}

// enqueue hands an announced write to the key's writer, or drops it when there are
// too many.
func (s *Store) enqueue(w write) {
	key, size := w.entry.Key, w.size()
	queue := s.queues[maphash.String(s.seed, string(key))%uint64(len(s.queues))]
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed && s.queued.Load()+size <= s.options.QueueBytes {
		select {
		case queue <- w:
			s.queued.Add(size)
			return
		default:
		}
	}
	s.counts.dropped.Add(1)
	s.withdrawLocked(key)
}

// size is what the write holds.
func (w *write) size() int64 {
	if w.remove {
		return 0
	}
	return w.entry.Cost()
}

func (s *Store) writeAll(queue <-chan write) {
	for w := range queue {
		switch {
		case s.ctx.Err() != nil:
			s.counts.dropped.Add(1)
		case w.remove:
			s.options.Shared.Delete(s.ctx, w.entry)
		default:
			s.put(&w)
		}
		s.queued.Add(-w.size())
		s.withdraw(w.entry.Key)
	}
}

func (s *Store) put(w *write) {
	switch err := s.options.Shared.Put(s.ctx, w.entry); {
	case err == nil:
		s.counts.written.Add(1)
		if w.large {
			s.uncover(w.entry)
		}
	case errors.Is(err, cachestore.ErrOlder): // another node was faster: as good
	default:
		s.counts.failed.Add(1)
	}
}

// uncover deletes from memory what the entry has taken the place of. Memory could
// not, and what it has would hide the shared tier's for as long as it is there.
func (s *Store) uncover(e *cachestore.Entry) {
	for _, variant := range []string{"", e.Variant()} {
		old := s.options.Memory.Get(s.ctx, e.Key, variant).Entry
		if old != nil && (old.Sequence < e.Sequence || old.Sequence == e.Sequence && !old.Received.After(e.Received)) {
			s.options.Memory.Delete(s.ctx, old)
		}
	}
}

// Close writes what waits until ctx ends, and waits for the calls under way. It closes
// neither tier. Writes that come later are dropped.
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
		s.cancel()
	}
	stop := context.AfterFunc(ctx, s.cancel)
	defer stop()
	s.callers.Wait()
	s.cancel()
	return ctx.Err()
}

// Stats are the store's counters since it was opened, and its gauges.
type Stats struct {
	Hits    int64 `json:"hits"`         // entries found in the shared tier and not in memory
	Suspect int64 `json:"suspect"`      // entries found there that must be revalidated first
	Misses  int64 `json:"misses"`       // look-ups there that found nothing
	Overdue int64 `json:"overdue"`      // look-ups there that a request has waited for in vain
	Skipped int64 `json:"skipped"`      // that none was made or waited for, since answers are overdue
	Written int64 `json:"written"`      // entries taken by the shared tier
	Failed  int64 `json:"failed"`       // entries that it did not take
	Dropped int64 `json:"dropped"`      // writes for which the queue had no room, or that came after Close
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
		Overdue: s.counts.overdue.Load(),
		Skipped: s.counts.skipped.Load(),
		Written: s.counts.written.Load(),
		Failed:  s.counts.failed.Load(),
		Dropped: s.counts.dropped.Load(),
		Waiting: int64(waiting),
		Bytes:   s.queued.Load(),
	}
}
