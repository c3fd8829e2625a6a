package memory

import (
	"math"
	"slices"
	"time"
)

// batch bounds the changes handed on before ristretto is waited for. It must stay
// well below ristretto's buffer of 32,768, two for each write: only then does
// ristretto never drop one.
const batch = 1024

// sweepEvery is how often what is of no more use is looked for. Until then it is a
// miss that takes room.
const sweepEvery = 30 * time.Second

// settle does all that changes ristretto, until the table is closed.
//
// Ristretto could drop entries by itself after a time to live. It keeps those of
// each five seconds in a map, though, and a Go map never gives memory back: while
// entries that live for hours are evicted after minutes, the empty maps come to
// take more than the entries. So nothing is given a time to live, and a sweep looks
// at every entry now and then, when one may have become useless since the last.
func (s *Store) settle() {
	var soonest time.Time // before this nothing of what was handed to ristretto is useless; zero: there is nothing
	sweep := time.NewTimer(sweepEvery)
	defer sweep.Stop()
	var dead []*slot
	told := 0
	for {
		if len(dead) > 0 {
			s.table.wake() // there is work, whoever else brings some
		}
		select {
		case <-s.table.stop:
			return
		case <-sweep.C:
			began := time.Now()
			if !soonest.IsZero() && !began.Before(soonest) {
				dead, soonest = s.useless(began)
			}
			// However many entries there are, a sweep takes at most a hundredth of the
			// time.
			sweep.Reset(max(sweepEvery, 100*time.Since(began)))
		case <-s.table.work:
		}
		rows, orphans := s.table.take()
		for len(rows) > 0 {
			part := rows[:min(batch, len(rows))]
			rows = rows[len(part):]
			for _, r := range part {
				soonest = earlier(soonest, s.hand(r))
			}
			s.cache.Wait()
			for _, r := range part {
				s.table.settled(r)
			}
			clear(part) // what is settled must not stay reachable until all are
		}
		told = s.measure(told)
		for _, x := range orphans {
			s.bury(x)
		}
		part := dead[:min(batch, len(dead))]
		dead = dead[len(part):]
		for _, at := range part {
			s.reap(at)
		}
		clear(part)
	}
}

// measure finds out whether there is room, and what ristretto has to hear when there is
// little: all uses that are counted by the time that half of the last quarter is full.
// What is on its way here at one time is little more than a quarter of it. It takes and
// returns how many parts of the directory have been told of.
func (s *Store) measure(told int) int {
	bytes, most := s.counts.bytes.Load(), s.cache.MaxCost()
	if bytes < most/2 { // to and fro around three quarters would be nothing but telling
		s.roomy.Store(true)
		return 0
	}
	plenty, parts := most/4*3, s.directory.parts[:]
	if bytes <= plenty {
		return told
	}
	s.roomy.Store(false)
	for due := int64(len(parts)) * (bytes - plenty) / (most / 8); told < len(parts) && int64(told) <= due; told++ {
		s.tell(parts[told].counted())
	}
	return told
}

// tell has ristretto hear of uses. It takes them in by a goroutine, 64 at a time, and drops
// what comes faster than that runs: so they come with pauses, and some hundreds of slots
// take turns, of which none then loses all.
func (s *Store) tell(found []count) {
	told := 0
	for some := range slices.Chunk(found, 512) {
		for round := range uint64(enough) {
			for _, c := range some {
				if c.uses <= round {
					continue
				}
				name := s.hash.name(c.id)
				s.cache.Get(name[:])
				s.hash.reuse(name)
				if told++; told%128 > 0 {
					continue
				}
				select {
				case <-s.table.stop:
					return
				case <-time.After(50 * time.Microsecond):
				}
			}
		}
	}
}

// hand gives a row's write to ristretto. It returns when what is written becomes useless;
// the zero time when nothing is.
func (s *Store) hand(r *row) (end time.Time) {
	p := s.table.part(r.id)
	p.mu.Lock()
	at := r.slot
	r.queued = false
	p.mu.Unlock()

	// Ristretto lets what is stored already grow past its bound without evicting
	// anything. So what was there goes first, and the newcomer is weighed like any
	// other.
	uses := s.directory.usesOf(r.id)
	s.remove(r.id)
	if at == nil {
		return time.Time{}
	}
	now := time.Now()
	remaining := at.remaining(now)
	if remaining <= 0 {
		return time.Time{}
	}
	name := s.hash.name(r.id)
	defer s.hash.reuse(name)
	s.entered(at, uses)
	if !s.cache.Set(name[:], at, at.cost) {
		s.counts.rejected.Add(1)
		s.exited(at)
	}
	return now.Add(remaining)
}

// earlier returns the earlier of two times, of which the zero time is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// remove deletes from ristretto, if there is something: a Del for another name
// with half of the same hash would free what it does not remove.
func (s *Store) remove(id id) {
	name := s.hash.name(id)
	defer s.hash.reuse(name)
	if _, ok := s.cache.GetTTL(name[:]); ok {
		s.cache.Del(name[:])
	}
}

// useless returns what can be of no more use, whatever it is asked for, and when the
// first of the others becomes so.
func (s *Store) useless(now time.Time) (dead []*slot, soonest time.Time) {
	least := time.Duration(math.MaxInt64)
	s.cache.IterValues(func(at *slot) (stop bool) {
		remaining := at.remaining(now)
		if remaining <= 0 {
			dead = append(dead, at)
		} else {
			least = min(least, remaining)
		}
		return false
	})
	if least < math.MaxInt64 {
		soonest = now.Add(least)
	}
	return dead, soonest
}

// reap removes a useless slot, unless it has gone or been written to meanwhile. It
// was a miss before, so no row has to hide it.
func (s *Store) reap(at *slot) {
	primary := at.id
	if at.index() != nil {
		primary = at.index().id
	}
	writer := s.writer(primary)
	writer.Lock()
	defer writer.Unlock()
	if s.peek(at.id) != at || s.table.has(at.id) {
		return
	}
	s.remove(at.id)
	switch {
	case at.entry == nil:
		s.abandon(at.index())
	case at.member() != nil:
		s.leave(at.index(), at.member())
		fallthrough
	default:
		s.counts.expired.Add(1)
	}
}
