package proxy

import (
	"hash/maphash"
	"sync"
	"time"
)

// marks remembers for a short while which flights are not worth joining, because
// their answer was not to be shared (hit-for-miss): their requests go to the
// origin at once, side by side. Marks are bounded, and carry the purge sequence
// under which they were made.
type marks struct {
	seed  maphash.Seed
	mu    sync.Mutex
	byKey map[markKey]mark // guarded by mu
	order []markKey        // guarded by mu: ring, oldest at next
	next  int              // guarded by mu
}

// markKey stands for the key of a flight, which can be long. Two flights of one
// hash share a mark: then one of them is not collapsed for a while.
type markKey uint64

func newMarks() marks { return marks{seed: maphash.MakeSeed(), byKey: make(map[markKey]mark)} }

func (m *marks) key(flight string) markKey { return markKey(maphash.String(m.seed, flight)) }

type mark struct {
	until    time.Time
	sequence uint64
}

const maxMarks = 1 << 16

// set marks the flight until the given time.
func (m *marks) set(flight string, until time.Time, sequence uint64) {
	key := m.key(flight)
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.byKey[key]; !known {
		if len(m.order) < maxMarks {
			m.order = append(m.order, key)
		} else {
			delete(m.byKey, m.order[m.next])
			m.order[m.next] = key
			m.next = (m.next + 1) % maxMarks
		}
	}
	m.byKey[key] = mark{until, sequence}
}

// get returns the sequence of a mark that still counts.
func (m *marks) get(flight string, now time.Time) (sequence uint64, ok bool) {
	key := m.key(flight)
	m.mu.Lock()
	defer m.mu.Unlock()
	found, ok := m.byKey[key]
	return found.sequence, ok && now.Before(found.until)
}

// clear forgets the mark: the flight's answers may be shared after all.
func (m *marks) clear(flight string) {
	key := m.key(flight)
	m.mu.Lock()
	defer m.mu.Unlock()
	if found, ok := m.byKey[key]; ok {
		found.until = time.Time{} // the ring still names the key
		m.byKey[key] = found
	}
}

func (m *marks) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.byKey)
}
