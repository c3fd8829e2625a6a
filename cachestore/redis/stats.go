package redis

import "sync/atomic"

type counts struct {
	gets, hits, misses, suspect, damaged, foreign     atomic.Int64
	puts, stored, older, tooLarge, variants, unshared atomic.Int64
	errors, unavailable                               atomic.Int64
}

// Stats are the store's counters since it was made.
type Stats struct {
	Gets    int64 `json:"gets"`    // look-ups
	Hits    int64 `json:"hits"`    // that found an entry, or how the key varies
	Misses  int64 `json:"misses"`  // that found nothing, for whatever reason
	Suspect int64 `json:"suspect"` // hits whose purges nobody here can tell
	Damaged int64 `json:"damaged"` // misses for values that were not whole
	Foreign int64 `json:"foreign"` // misses for values that were not ours

	Puts     int64 `json:"puts"`      // writes asked for
	Stored   int64 `json:"stored"`    // that were taken
	Older    int64 `json:"older"`     // refused, since something newer was stored
	TooLarge int64 `json:"too_large"` // refused for their size
	Variants int64 `json:"variants"`  // refused, since the key has too many variants
	Unshared int64 `json:"unshared"`  // refused, since the purge log cannot place them

	Errors      int64 `json:"errors"`      // calls that failed
	Unavailable int64 `json:"unavailable"` // calls not made, since Redis was down
}

// Stats returns the counters.
func (s *Store) Stats() Stats {
	c := &s.counts
	return Stats{
		Gets: c.gets.Load(), Hits: c.hits.Load(), Misses: c.misses.Load(), Suspect: c.suspect.Load(),
		Damaged: c.damaged.Load(), Foreign: c.foreign.Load(),
		Puts: c.puts.Load(), Stored: c.stored.Load(), Older: c.older.Load(), TooLarge: c.tooLarge.Load(),
		Variants: c.variants.Load(), Unshared: c.unshared.Load(),
		Errors: c.errors.Load(), Unavailable: c.unavailable.Load(),
	}
}
