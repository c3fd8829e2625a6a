package purge

import "time"

// What follows makes a Ledger follow a log that other nodes write to as well. The
// caller reads the log and applies it record by record; no two of these methods run
// at the same time, but every other method of the Ledger may run beside them.

// begin turns to a generation of the log in which all up to position has been
// applied, or is not to be. When purges may have been missed before, everything
// older becomes suspect.
func (l *Ledger) begin(g Generation, position uint64, missed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	sequence := l.orSpent(l.timeline.begin(g, position))
	if missed {
		l.floor = max(l.floor, sequence)
	}
	l.sequence.Store(sequence)
}

// applyAt applies what stands at a position of the log.
func (l *Ledger) applyAt(position uint64, a *action) {
	now := l.options.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	sequence := l.orSpent(l.timeline.at(position))
	l.applyLocked(sequence, a, now)
	l.sequence.Store(sequence)
}

// applyAlone applies what this node knows alone, and returns its sequence.
func (l *Ledger) applyAlone(a *action) uint64 {
	now := l.options.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	sequence := l.next()
	l.applyLocked(sequence, a, now)
	l.sequence.Store(sequence)
	return sequence
}

func (l *Ledger) applyLocked(sequence uint64, a *action, now time.Time) {
	for _, c := range a.changes {
		c.sequence = sequence
		l.changeLocked(c)
	}
	if len(a.changes) > 0 {
		return
	}
	at := a.record.Time
	if at.After(now) {
		at = now // by a clock that is ahead of ours, the purge would wait for ours to come
	}
	l.purgeLocked(sequence, a.record.Selector.Kind, a.record.Selector.hash(), at, a.record.Soft)
}

// skip passes over a record at a position of the log that was applied before.
func (l *Ledger) skip(position uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	sequence := l.orSpent(l.timeline.at(position))
	l.timeline.skipped(position)
	l.sequence.Store(sequence)
}

// settle notes that the log holds all that was applied, each at its place.
func (l *Ledger) settle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timeline.settle()
}

// distrust makes everything suspect that came before: purges were made that are not
// known here.
func (l *Ledger) distrust() {
	l.mu.Lock()
	defer l.mu.Unlock()
	sequence := l.next()
	l.floor = max(l.floor, sequence)
	l.sequence.Store(sequence)
}

// leap is distrust when the log does not hold the records up to a position any more.
func (l *Ledger) leap(position uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	sequence := l.orSpent(l.timeline.at(position))
	l.timeline.skipped(position)
	l.floor = max(l.floor, sequence)
	l.sequence.Store(sequence)
}

// encode returns the place in the log up to which the records before this sequence
// are known to have been applied; false when there was no log yet.
func (l *Ledger) encode(sequence uint64) (Generation, uint64, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.timeline.encode(sequence)
}

// generation returns that of the log which is followed.
func (l *Ledger) generation() Generation {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.timeline.generation()
}

// decode returns a sequence such that every record later than the place in the log
// has a higher one. It returns false when the records from there on are not all
// known. A place that this node has yet to reach counts as the one where it is: what it
// applies alone meanwhile need not have been known there.
func (l *Ledger) decode(g Generation, position uint64) (uint64, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.timeline.following() && g == l.timeline.generation() {
		position = min(position, l.timeline.current(l.sequence.Load()))
	}
	return l.timeline.decode(g, position)
}
