package memory

import "time"

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
// at every entry now and then.
func (s *Store) settle() {
	sweep := time.NewTimer(sweepEvery)
	defer sweep.Stop()
	var dead []*slot
	for {
		if len(dead) > 0 {
			s.table.wake() // there is work, whoever else brings some
		}
		select {
		case <-s.table.stop:
			return
		case <-sweep.C:
			began := time.Now()
			dead = s.useless(began)
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
				s.hand(r)
			}
			s.cache.Wait()
			for _, r := range part {
				s.table.settled(r)
			}
			clear(part) // what is settled must not stay reachable until all are
		}
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

// hand gives a row's write to ristretto.
func (s *Store) hand(r *row) {
	p := s.table.part(r.id)
	p.mu.Lock()
	at := r.slot
	r.queued = false
	p.mu.Unlock()

	// Ristretto lets what is stored already grow past its bound without evicting
	// anything. So what was there goes first, and the newcomer is weighed like any
	// other.
	s.remove(r.id)
	if at == nil || at.remaining(time.Now()) <= 0 {
		return
	}
	name := s.hash.name(r.id)
	defer s.hash.reuse(name)
	s.counts.entered(at)
	if !s.cache.Set(name[:], at, at.cost) {
		s.counts.rejected.Add(1)
		s.exited(at)
	}
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

// useless returns what can be of no more use, whatever it is asked for.
func (s *Store) useless(now time.Time) []*slot {
	var dead []*slot
	s.cache.IterValues(func(at *slot) (stop bool) {
		if at.remaining(now) <= 0 {
			dead = append(dead, at)
		}
		return false
	})
	return dead
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
