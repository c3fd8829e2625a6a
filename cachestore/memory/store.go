// Package memory is the tier of the cache inside the process: a cachestore.Store
// on ristretto.
//
// Ristretto decides what is admitted and what is evicted, and is never the
// authority on what is stored. It applies a write some time after it was handed
// one, may refuse it, and keeps the older of two writes to a new key. So every
// write stands in a table of our own (see table) until ristretto has applied or
// refused it, and every look-up asks that table first.
//
// One key has a primary slot, which holds either the entry of a response without
// Vary or an index of the variants; each variant is an item of its own, and can be
// evicted alone.
package memory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/ristretto/v2"

	"edge/cachestore"
)

// ErrClosed says that the store was closed before the entry was taken.
var ErrClosed = errors.New("memory: the store is closed")

// Options configure a Store.
type Options struct {
	// Size is the memory that all entries together may take, in bytes, by
	// cachestore.Entry.Cost. At least MinSize. A sixteenth of it is for entries
	// that are on their way into ristretto.
	Size int64

	// MaxObject is the largest body stored, in bytes. Zero leaves only the bound
	// that always holds: no entry may cost more than Size/16, since a large
	// newcomer evicts many before it is known whether it is taken itself.
	MaxObject int64

	// MaxVariants bounds the variants of one key. Default 32.
	MaxVariants int

	// MeanObject is what an entry is expected to cost on average, in bytes. The
	// admission filter has ten counters for each entry that then fits; with far
	// too few it confuses the popular with the others. Default 16 KiB.
	MeanObject int64
}

// MinSize is the smallest Options.Size.
const MinSize = 64 << 10

// share is the part of the size that one entry may take, and the part that is kept
// for writes under way; the second must not be smaller than the first.
const share = 16

// Store is the memory tier. It implements cachestore.Store.
type Store struct {
	maxObject, maxCost int64
	maxVariants        int

	hash      hasher
	cache     *ristretto.Cache[[]byte, *slot]
	table     table
	directory directory
	roomy     atomic.Bool    // nothing is going to be evicted soon; written by settle alone
	writers   [64]sync.Mutex // one for each Put and Delete of a primary slot and its variants, by id
	counts    counts

	closing sync.Once
	settler sync.WaitGroup
}

// New returns an empty Store. Close it to end its goroutines.
func New(o Options) (*Store, error) {
	if o.MaxVariants == 0 {
		o.MaxVariants = 32
	}
	if o.MeanObject == 0 {
		o.MeanObject = 16 << 10
	}
	if o.Size < MinSize || o.MaxObject < 0 || o.MaxVariants < 0 || o.MeanObject < 0 {
		return nil, fmt.Errorf("memory: options out of range: %+v", o)
	}
	s := &Store{maxObject: o.MaxObject, maxCost: o.Size / share, maxVariants: o.MaxVariants, hash: newHasher()}
	if s.maxObject == 0 {
		s.maxObject = s.maxCost
	}
	s.table.init(o.Size / share)
	cache, err := ristretto.NewCache(&ristretto.Config[[]byte, *slot]{
		NumCounters:        max(1024, 10*(o.Size/o.MeanObject)),
		MaxCost:            o.Size - o.Size/share,
		BufferItems:        64,
		KeyToHash:          idOf,
		IgnoreInternalCost: true, // costs are bytes, overhead included
		OnEvict:            s.evicted,
		OnReject:           s.rejected,
		OnExit:             s.exited,
	})
	if err != nil {
		return nil, fmt.Errorf("memory: starting ristretto: %w", err)
	}
	s.cache = cache
	s.roomy.Store(true)
	s.settler.Go(s.settle)
	return s, nil
}

// slot is what is stored under one id: an entry, or the index of a key's variants.
// There may be millions of them, most of entries without Vary.
type slot struct {
	id    id
	entry *cachestore.Entry // nil in the slot of an index
	marks cachestore.Marks
	cost  int64
	vary  *vary // nil for an entry without Vary
}

// Entry implements cachestore.Spot.
func (at *slot) Entry() *cachestore.Entry { return at.entry }

// newSlot returns a slot with a copy of the entry right behind it: who comes to read
// the one has then waited for most of the other.
func newSlot(e *cachestore.Entry, cost int64, v *vary) *slot {
	both := &struct {
		slot
		entry cachestore.Entry
	}{entry: *e}
	both.slot.entry, both.cost, both.vary = &both.entry, cost, v
	return &both.slot
}

// vary is what the slots of an index and of its variants have beside the others.
type vary struct {
	index  *index    // itself, or the one that a variant belongs to
	member *member   // what the index knows of this variant; nil in the slot of an index
	until  time.Time // in the slot of an index: when the last of its variants is of no more use
}

// index returns the index that the slot is, or belongs to, or nil.
func (at *slot) index() *index {
	if at.vary == nil {
		return nil
	}
	return at.vary.index
}

// member returns what an index knows of this variant, or nil.
func (at *slot) member() *member {
	if at.vary == nil {
		return nil
	}
	return at.vary.member
}

// remaining returns how long the slot can be of use.
func (at *slot) remaining(now time.Time) time.Duration {
	if at.entry != nil {
		return at.entry.Remaining(now)
	}
	return at.vary.until.Sub(now)
}

// Get implements cachestore.Store. A hit allocates nothing. What ctx is for is
// over when it has ended: that is a miss.
func (s *Store) Get(ctx context.Context, key cachestore.Key, variant string) cachestore.Found {
	if ctx.Err() != nil {
		return cachestore.Found{}
	}
	return s.find(time.Now(), s.lookup(s.hash.primary(key)).held(key), key, variant, (*Store).lookup)
}

// Seek is the first half of Get, for many keys at once: it writes to spots where each
// probably has its place, nil for nowhere. All that Find then takes is read ahead. It
// allocates nothing for up to 32 keys.
func (s *Store) Seek(keys []cachestore.Key, spots []cachestore.Spot) {
	var room [32]id
	ids := room[:0]
	for _, key := range keys {
		id := s.hash.primary(key)
		if s.roomy.Load() {
			s.directory.touch(id)
		}
		ids = append(ids, id)
	}
	for i, id := range ids {
		spots[i] = nil
		if at := s.locate(id, false); at != nil {
			spots[i] = at
		}
	}
	cachestore.Prefetch(spots)
}

// Find is the other half: Get, at this time, of what was at the spot when it was found. If
// that is another key's, it looks again, now.
func (s *Store) Find(now time.Time, spot cachestore.Spot, key cachestore.Key, variant string) cachestore.Found {
	if spot == nil {
		return cachestore.Found{}
	}
	at := spot.(*slot).held(key)
	if at == nil { // another key's
		at = s.lookup(s.hash.primary(key)).held(key)
	}
	return s.find(now, at, key, variant, (*Store).lookup)
}

// Peek is Get for those who will ask again if there is nothing: a miss does not
// count as demand for what is missing.
func (s *Store) Peek(key cachestore.Key, variant string) cachestore.Found {
	return s.find(time.Now(), s.peek(s.hash.primary(key)).held(key), key, variant, (*Store).peek)
}

// find returns what is in a key's primary slot, or in that of one of its variants.
func (s *Store) find(now time.Time, at *slot, key cachestore.Key, variant string, look func(*Store, id) *slot) cachestore.Found {
	switch {
	case at == nil:
		return cachestore.Found{}
	case variant == "" && at.entry == nil:
		return cachestore.Found{VaryOn: *at.index().varyOn.Load()}
	case variant == "":
		return at.found(now)
	case at.entry != nil:
		return cachestore.Found{} // an entry without Vary has replaced the variants
	}
	v := look(s, s.hash.variant(at.id, variant))
	if v == nil || !v.holds(key, variant) || v.index() != at.index() {
		return cachestore.Found{} // of another index: of before its key was replaced or evicted
	}
	v.member().used(now)
	return v.found(now)
}

// held returns the slot if it is the primary one of the key, or nil.
func (at *slot) held(key cachestore.Key) *slot {
	if at == nil || !at.holds(key, "") {
		return nil
	}
	return at
}

// holds compares the full names: equal hashes prove nothing.
func (at *slot) holds(key cachestore.Key, variant string) bool {
	if at.entry == nil {
		return variant == "" && at.index().key == key
	}
	return at.entry.Key == key && at.entry.Variant() == variant
}

func (at *slot) found(now time.Time) cachestore.Found {
	if at.entry.Remaining(now) <= 0 {
		return cachestore.Found{}
	}
	return cachestore.Found{Entry: at.entry, Marks: &at.marks}
}

// Put implements cachestore.Store. Beside the errors named there it returns
// ErrClosed, and the context's error when ctx ended before the entry was taken:
// when more is being written than ristretto can apply, Put waits. An entry that is
// of no use any more takes its place in the order like any other, but leaves the
// slot empty.
func (s *Store) Put(ctx context.Context, e *cachestore.Entry) error {
	if !e.Vary.Valid() {
		panic("memory: an entry has a variant exactly when it varies")
	}
	cost := e.Cost()
	if e.Body.Size() > s.maxObject || cost > s.maxCost {
		s.counts.tooLarge.Add(1)
		return cachestore.ErrTooLarge
	}
	if err := s.table.reserve(ctx, cost); err != nil {
		return err
	}
	primary := s.hash.primary(e.Key)
	writer := s.writer(primary)
	writer.Lock()
	defer writer.Unlock()
	var err error
	if e.Variant() == "" {
		err = s.putPlain(primary, e, cost)
	} else {
		err = s.putVariant(primary, e, cost)
	}
	if err != nil {
		s.table.release(cost)
	}
	return err
}

// putPlain stores an entry without Vary. The caller holds the key's writer lock
// and has reserved the cost.
func (s *Store) putPlain(primary id, e *cachestore.Entry, cost int64) error {
	old := s.peek(primary)
	if old != nil && old.holds(e.Key, "") && old.stamp().after(stampOf(e)) {
		return cachestore.ErrOlder
	}
	if err := s.place(primary, newSlot(e, cost, nil)); err != nil {
		return err
	}
	if old != nil && old.entry == nil {
		s.abandon(old.index())
	}
	return nil
}

// Delete implements cachestore.Store. An entry is known by its names, Sequence and
// Received, so that one that was decoded twice is still the same. It is done
// whether or not ctx has ended.
func (s *Store) Delete(_ context.Context, e *cachestore.Entry) {
	primary := s.hash.primary(e.Key)
	writer := s.writer(primary)
	writer.Lock()
	defer writer.Unlock()
	where := primary
	if e.Variant() != "" {
		where = s.hash.variant(primary, e.Variant())
	}
	at := s.peek(where)
	if at == nil || at.entry == nil || !at.holds(e.Key, e.Variant()) || at.stamp() != stampOf(e) {
		return
	}
	s.clear(where)
	if at.member() != nil {
		s.leave(at.index(), at.member())
	}
}

// Range calls f for each entry that is stored until f returns false. It holds no
// lock meanwhile, so f may call the Store. Entries that come or go while it runs
// may be missed, or be seen though they are gone, but none is seen twice. Variants
// that can no longer be reached are seen too.
func (s *Store) Range(f func(*cachestore.Entry) bool) {
	pending := s.table.pending()
	slots := make([]*slot, 0, s.counts.entries.Load())
	s.cache.IterValues(func(at *slot) (stop bool) {
		if _, ok := pending[at.id]; !ok && at.entry != nil {
			slots = append(slots, at)
		}
		return false
	})
	for _, at := range pending {
		if at != nil && at.entry != nil {
			slots = append(slots, at)
		}
	}
	for _, at := range slots {
		if !f(at.entry) {
			return
		}
	}
}

// Close ends the store's goroutines and drops everything. Look-ups that still come
// are misses, and Puts return ErrClosed. It may be called more than once, and while
// other methods run.
func (s *Store) Close() {
	s.closing.Do(func() {
		// From here on nobody else touches ristretto, which panics when it is used
		// while it closes.
		s.table.close()
		s.settler.Wait()
		s.cache.Close()
	})
}

// writer returns the lock that orders the writes of one key.
func (s *Store) writer(primary id) *sync.Mutex { return &s.writers[primary.hi%uint64(len(s.writers))] }

// lookup returns what is stored under id, or nil. It counts as a use of it.
func (s *Store) lookup(id id) *slot { return s.locate(id, true) }

// locate is lookup, but where it need not be sure it may return what another id has. The
// table and what is behind it are asked under one read lock, so that a write between the
// two cannot hide what both the old and the new state have.
//
// As long as there is room the directory has the answer, and keeps for ristretto how often
// (see Store.measure).
func (s *Store) locate(id id, sure bool) *slot {
	part := s.table.part(id)
	part.mu.RLock()
	defer part.mu.RUnlock()
	if row, ok := part.rows[id]; ok {
		return row.slot
	}
	if part.closed {
		return nil
	}
	if s.roomy.Load() {
		if at := s.directory.find(id, sure); at != nil {
			return at
		}
	}
	name := s.hash.name(id)
	at, _ := s.cache.Get(name[:])
	s.hash.reuse(name)
	return at
}

// peek is lookup, but does not count as a use unless there is something.
func (s *Store) peek(id id) *slot {
	part := s.table.part(id)
	part.mu.RLock()
	defer part.mu.RUnlock()
	if row, ok := part.rows[id]; ok {
		return row.slot
	}
	if part.closed {
		return nil
	}
	name := s.hash.name(id)
	defer s.hash.reuse(name)
	if _, ok := s.cache.GetTTL(name[:]); !ok {
		return nil
	}
	at, _ := s.cache.Get(name[:])
	return at
}

// place makes at what every look-up of id finds from now on.
func (s *Store) place(id id, at *slot) error {
	at.id = id
	return s.table.place(id, at)
}

// clear makes every look-up of id a miss from now on.
func (s *Store) clear(id id) {
	// A closed table is as good as cleared.
	_ = s.table.place(id, nil)
}
