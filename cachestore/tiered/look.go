package tiered

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"edge/cachestore"
)

// Looker is a shared tier that tells when it has begun to answer: to bring the rest of
// a large entry takes its time, and is no sign of trouble.
type Looker interface {
	// Look is Get, and calls answered once there is an answer, with how long the rest
	// of it may take. Where there is none in time, it does not call it.
	Look(ctx context.Context, key cachestore.Key, variant string, answered func(rest time.Duration)) cachestore.Found
}

// look is a look-up in the shared tier that is under way.
type look struct {
	key     cachestore.Key
	variant string
	heard   uint64 // Store.heard when it began

	// Guarded by Store.mu:
	late    bool // the key was written to since it began
	overdue bool // somebody has waited for it in vain
	waiting int  // requests that wait for it
	ended   bool

	answered chan struct{} // closed when the shared tier has begun to answer
	rest     time.Duration // once answered is closed: how long the rest may take
	done     chan struct{}
	found    cachestore.Found // once done is closed
	problem  error            // likewise: what it has panicked with
}

// look asks the shared tier, once for all who ask at the same time. While a write of
// the key is on its way there, only memory knows what holds.
//
// A request waits no longer than its patience. As soon as one has waited in vain, and
// until the shared tier answers again, no other waits at all: then one look-up at a
// time is made, to find out.
func (s *Store) look(ctx context.Context, key cachestore.Key, variant string) cachestore.Found {
	l, lead, wait := s.join(key, variant)
	if lead {
		go s.run(l)
	}
	if !wait {
		return cachestore.Found{}
	}
	if !s.await(ctx, l) {
		return cachestore.Found{}
	}
	if lead && l.problem != nil {
		panic(l.problem) // where it would be seen if the request had asked by itself
	}
	return l.found
}

// join returns the look-up under way, or a new one for the caller to run, or nil where
// the shared tier must not be asked; and whether to wait for it.
func (s *Store) join(key cachestore.Key, variant string) (l *look, lead, wait bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, false, false
	}
	t := s.busy[key]
	if t != nil && t.writes > 0 {
		return nil, false, false
	}
	if t != nil {
		l = t.looks[variant]
	}
	switch {
	case l != nil:
		wait = !l.overdue && !s.silent
	case s.abandoned >= s.options.Abandoned, s.silent && s.under > 0:
	default:
		wait = !s.silent
		l, lead = s.beginLocked(key, variant), true
	}
	if !wait {
		s.counts.skipped.Add(1)
		return l, lead, false
	}
	if l.waiting == 0 {
		s.abandoned--
	}
	l.waiting++
	return l, lead, true
}

func (s *Store) beginLocked(key cachestore.Key, variant string) *look {
	l := &look{key: key, variant: variant, heard: s.heard, answered: make(chan struct{}), done: make(chan struct{})}
	t := s.trafficLocked(key)
	if t.looks == nil {
		t.looks = make(map[string]*look)
	}
	t.looks[variant] = l
	s.under++
	s.abandoned++ // until somebody waits for it
	s.callers.Add(1)
	return l
}

// await waits for the look-up, and reports whether it is done.
func (s *Store) await(ctx context.Context, l *look) bool {
	defer s.leave(l)
	expired, stop := s.patience(0)
	defer stop()
	select {
	case <-l.done:
		return true
	case <-l.answered:
	case <-expired:
		select {
		case <-l.answered: // at the same time
		default:
			s.giveUp(l)
			return false
		}
	case <-ctx.Done():
		return false
	}
	expired, stop = s.patience(l.rest)
	defer stop()
	select {
	case <-l.done:
		return true
	case <-expired:
		s.giveUp(l)
	case <-ctx.Done():
	}
	return false
}

// patience returns what fires when a request has waited for long enough, for what
// may take so long by itself.
func (s *Store) patience(rest time.Duration) (expired <-chan time.Time, stop func() bool) {
	if s.options.Patience == 0 {
		return nil, func() bool { return false }
	}
	timer := time.NewTimer(s.options.Patience + rest)
	return timer.C, timer.Stop
}

// leave is the end of one request's wait.
func (s *Store) leave(l *look) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.waiting--; l.waiting == 0 && !l.ended {
		s.abandoned++
	}
}

// giveUp notes that the look-up was waited for in vain. That says something about the
// shared tier only if it has answered no other meanwhile.
func (s *Store) giveUp(l *look) {
	s.counts.overdue.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	l.overdue = true
	if l.heard == s.heard {
		s.silent = true
	}
}

// hear notes that the shared tier has begun to answer.
func (s *Store) hear(l *look, rest time.Duration) {
	s.mu.Lock()
	s.heard++
	s.silent = false
	s.mu.Unlock()
	l.rest = rest
	close(l.answered)
}

// run makes the look-up. Whoever waits for it may leave, it does not end with them.
func (s *Store) run(l *look) {
	defer s.callers.Done()
	defer s.end(l)
	defer func() {
		if problem := recover(); problem != nil {
			// For the request that leads; there is nobody to tell when it has left.
			l.problem = fmt.Errorf("tiered: a look-up panicked: %v\n%s", problem, debug.Stack())
		}
	}()
	l.found = s.fetch(l)
}

// end lets go those who wait for the look-up.
func (s *Store) end(l *look) {
	s.mu.Lock()
	s.under--
	if l.ended = true; l.waiting == 0 {
		s.abandoned--
	}
	if t := s.busy[l.key]; t != nil && t.looks[l.variant] == l {
		delete(t.looks, l.variant)
		s.idleLocked(l.key, t)
	}
	s.mu.Unlock()
	close(l.done)
}

// fetch asks the shared tier, and brings what it has into memory. A suspect entry
// stays outside: memory has no place to say so. So does one that has been replaced or
// deleted since.
func (s *Store) fetch(l *look) cachestore.Found {
	if found := s.options.Memory.Get(s.ctx, l.key, l.variant); found.Entry != nil || found.VaryOn != nil {
		return found // brought by a look-up that has ended since memory was asked
	}
	found := s.ask(l)
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
	late := s.isLate(l)
	var err error
	if !late { // else it may be what was written, which must not be deleted below
		err = s.options.Memory.Put(s.ctx, found.Entry)
		late = s.isLate(l)
		if late && err == nil {
			// The write may have been through with memory before this.
			s.options.Memory.Delete(s.ctx, found.Entry)
		}
	}
	inMemory := s.options.Memory.Get(s.ctx, l.key, l.variant) // with the marks that all others see
	if late || errors.Is(err, cachestore.ErrOlder) || inMemory.Entry != nil {
		return inMemory
	}
	return found // memory had no room
}

// isLate reports whether the key was written to since the look-up began.
func (s *Store) isLate(l *look) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return l.late
}

// ask is the call itself. Of a tier that does not tell when it answers, any return is
// an answer.
func (s *Store) ask(l *look) cachestore.Found {
	if shared, ok := s.options.Shared.(Looker); ok {
		return shared.Look(s.ctx, l.key, l.variant, func(rest time.Duration) { s.hear(l, rest) })
	}
	found := s.options.Shared.Get(s.ctx, l.key, l.variant)
	s.hear(l, 0)
	return found
}
