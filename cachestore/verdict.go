package cachestore

import "time"

// Verdict is what purges say about an entry. The zero Verdict is that it may be
// used as its Life says.
type Verdict struct {
	// Dead: a hard purge matches it. It must not be used, and may be deleted.
	Dead bool
	// Suspect: it is older than what is known about purges. It may be used only
	// after the origin has revalidated it, and never stale.
	Suspect bool
	// StaleAt is when a soft purge made it stale; the zero time is no such purge.
	StaleAt time.Time
}
