package memory

import (
	"slices"
	"sync/atomic"
	"time"

	"edge/cachestore"
)

// maxVaryOn bounds the lists of field names of one key: origins that keep changing
// their Vary must not make each look-up try them all.
const maxVaryOn = 4

// variantIdle is how long a variant must not have been asked for before a newcomer
// may take its place. Without it, two quick requests of a stranger would suffice to
// displace any of them.
const variantIdle = 10 * time.Second

// index is what a primary slot holds when the responses under its key vary. Beside
// varyOn it is guarded by the key's writer lock. It stays the same object while its
// key varies: a variant is valid only together with the index it was stored under,
// so that variants of before the key was replaced or evicted can never come back.
type index struct {
	key    cachestore.Key
	id     id
	varyOn atomic.Pointer[[][]string] // as in lists; read by look-ups

	lists   []list // newest first, at most maxVaryOn
	members map[string]*member
	asked   []id // newcomers that were refused, oldest first, at most as many as there may be variants

	cost  int64     // that its slot was placed with
	until time.Time // likewise
}

// list is one of the ways that the responses under a key vary.
type list struct {
	names  []string
	newest stamp // of the entries that vary like this
}

// member is what an index knows of a variant.
type member struct {
	variant string
	id      id
	varyOn  []string
	last    atomic.Int64 // when it was last put or found, in Unix nanoseconds
}

// used notes that the member was found. Second precision is enough, and keeps a
// hot variant from being written to by every core.
func (m *member) used(now time.Time) {
	if at := now.UnixNano(); at-m.last.Load() > int64(time.Second) {
		m.last.Store(at)
	}
}

// putVariant stores an entry with Vary. The caller holds the key's writer lock and
// has reserved the cost.
func (s *Store) putVariant(primary id, e *cachestore.Entry, cost int64) error {
	now := time.Now()
	at := s.lookup(s.hash.variant(primary, e.Variant())) // a use of it: it was asked for under another name, or not at all
	old := s.peek(primary)
	var x *index
	switch {
	case old == nil || !old.holds(e.Key, ""):
		x = newIndex(e.Key, primary)
	case old.entry != nil:
		if old.stamp().after(stampOf(e)) {
			return cachestore.ErrOlder
		}
		x = newIndex(e.Key, primary)
	default:
		x = old.index()
		if at != nil && at.index() == x && at.holds(e.Key, e.Variant()) && at.stamp().after(stampOf(e)) {
			return cachestore.ErrOlder
		}
	}
	lists, ok := withList(x.lists, e)
	if !ok {
		return cachestore.ErrOlder
	}
	m, err := s.join(x, e, now)
	if err != nil {
		return err
	}
	m.last.Store(now.UnixNano())
	m.varyOn = e.VaryOn()
	if err := s.place(m.id, newSlot(e, cost, &vary{index: x, member: m})); err != nil {
		return err
	}
	s.relist(x, lists)

	// The variant is there before a look-up can learn of it.
	useful := e.Remaining(now)
	if fresh := old == nil || old.index() != x; fresh || x.weight() > x.cost || now.Add(useful).After(x.until) {
		x.cost = x.weight()
		// Longer than needed, so that a refresh seldom has to place the index anew.
		if until := now.Add(useful + min(useful, 24*time.Hour)); until.After(x.until) {
			x.until = until
		}
		return s.place(primary, &slot{cost: x.cost, vary: &vary{index: x, until: x.until}})
	}
	return nil
}

func newIndex(key cachestore.Key, primary id) *index {
	x := &index{key: key, id: primary, members: make(map[string]*member)}
	x.varyOn.Store(new([][]string))
	return x
}

// withList returns lists with the entry's, in order of their newest entries. It
// returns false when there are too many and the entry's is the oldest.
func withList(lists []list, e *cachestore.Entry) ([]list, bool) {
	lists = slices.Clone(lists)
	newest := stampOf(e)
	if i := slices.IndexFunc(lists, func(l list) bool { return slices.Equal(l.names, e.VaryOn()) }); i >= 0 {
		if lists[i].newest.after(newest) {
			return lists, true
		}
		lists = slices.Delete(lists, i, i+1)
	}
	at := slices.IndexFunc(lists, func(l list) bool { return !l.newest.after(newest) })
	if at < 0 {
		at = len(lists)
	}
	if at >= maxVaryOn {
		return nil, false
	}
	lists = slices.Insert(lists, at, list{e.VaryOn(), newest})
	return lists[:min(len(lists), maxVaryOn)], true
}

// relist gives the index its new lists, and clears the variants of a list that had
// to go: nobody will ask for them again.
func (s *Store) relist(x *index, lists []list) {
	names := make([][]string, len(lists))
	for i, l := range lists {
		names[i] = l.names
	}
	x.lists = lists
	x.varyOn.Store(&names)
	for variant, m := range x.members {
		if !slices.ContainsFunc(names, func(n []string) bool { return slices.Equal(n, m.varyOn) }) {
			delete(x.members, variant)
			s.clear(m.id)
		}
	}
}

// join returns the index's member for the entry. When the index is full, a newcomer
// that was refused before takes the place of the variant that was not used for the
// longest time, if that is idle.
func (s *Store) join(x *index, e *cachestore.Entry, now time.Time) (*member, error) {
	if m, ok := x.members[e.Variant()]; ok {
		return m, nil
	}
	m := &member{variant: e.Variant(), id: s.hash.variant(x.id, e.Variant())}
	if len(x.members) >= s.maxVariants {
		s.dropGone(x)
	}
	if len(x.members) >= s.maxVariants {
		again := slices.Index(x.asked, m.id)
		if again < 0 {
			x.asked = append(x.asked, m.id)
			if len(x.asked) > s.maxVariants {
				x.asked = slices.Delete(x.asked, 0, 1)
			}
		}
		idle := x.leastUsed()
		if again < 0 || now.UnixNano()-idle.last.Load() < int64(variantIdle) {
			s.counts.variantsRefused.Add(1)
			return nil, cachestore.ErrVariants
		}
		x.asked = slices.Delete(x.asked, again, again+1)
		delete(x.members, idle.variant)
		s.clear(idle.id)
	}
	x.members[e.Variant()] = m
	return m, nil
}

// dropGone takes out the members that ristretto has evicted or refused meanwhile.
func (s *Store) dropGone(x *index) {
	for variant, m := range x.members {
		if at := s.peek(m.id); at == nil || at.member() != m {
			delete(x.members, variant)
		}
	}
}

func (x *index) leastUsed() *member {
	var idle *member
	for _, m := range x.members {
		if idle == nil || m.last.Load() < idle.last.Load() {
			idle = m
		}
	}
	return idle
}

// leave takes a deleted variant out of its index, and clears the index with the
// last of them. The caller holds the key's writer lock.
func (s *Store) leave(x *index, m *member) {
	if x.members[m.variant] == m {
		delete(x.members, m.variant)
	}
	if at := s.peek(x.id); len(x.members) == 0 && at != nil && at.index() == x {
		s.clear(x.id)
	}
}

// abandon clears the variants of an index that is not in its primary slot any more.
// They cannot be found without it, and would only take room. The caller holds the
// key's writer lock.
func (s *Store) abandon(x *index) {
	for _, m := range x.members {
		if at := s.peek(m.id); at != nil && at.index() == x {
			s.clear(m.id)
		}
	}
	clear(x.members)
}

// bury abandons an index that ristretto has dropped, unless it was placed again.
func (s *Store) bury(x *index) {
	writer := s.writer(x.id)
	writer.Lock()
	defer writer.Unlock()
	if at := s.peek(x.id); at == nil || at.index() != x {
		s.abandon(x)
	}
}

// weight returns what the index costs in memory: the members with their part of
// the map, and the strings, which outlive the entries that they came with.
func (x *index) weight() int64 {
	n := indexOverhead + int64(len(x.key))
	for variant := range x.members {
		n += memberOverhead + int64(len(variant))
	}
	return n
}

const (
	indexOverhead  = 700
	memberOverhead = 200
)

// stamp is an entry's place in the order of writes.
type stamp struct {
	sequence uint64
	received int64 // Unix nanoseconds
}

func stampOf(e *cachestore.Entry) stamp { return stamp{e.Sequence, e.Received.UnixNano()} }

func (a stamp) after(b stamp) bool {
	return a.sequence > b.sequence || a.sequence == b.sequence && a.received > b.received
}

// stamp returns the place of the entry, or of the newest of the variants.
func (at *slot) stamp() stamp {
	if at.entry != nil {
		return stampOf(at.entry)
	}
	if len(at.index().lists) == 0 {
		return stamp{}
	}
	return at.index().lists[0].newest
}
