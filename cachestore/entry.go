// Package cachestore holds the vocabulary that all tiers of the cache share: what
// is stored (Entry), under which name (Key and variant), and what a tier must be
// able to do (Store). It holds no policy: what may be stored, and when it may be
// used, is decided in package proxy.
package cachestore

import "time"

// Entry is one stored response. It never changes once it has been handed to a
// Store, and is read by many goroutines without locks; an update is a new Entry.
type Entry struct {
	Key     Key
	Variant string   // "" exactly when VaryOn is empty; else identifies the request headers selected by VaryOn
	VaryOn  []string // lower-case, sorted names of the request fields that selected this response (RFC 9111 section 4.1)

	Status int
	Head   Head // as stored: no hop-by-hop fields; Date is always there
	Body   Body

	Received   time.Time     // when the response head arrived, by this node's clock (RFC 9111 section 4.2.3 response_time)
	InitialAge time.Duration // corrected_initial_age of RFC 9111 section 4.2.3, at Received
	Life       Life

	Sequence uint64   // purge sequence applied before the look-up that led to this response
	Rules    uint64   // digest of the rules that allowed it to be stored
	Tags     []uint32 // hashes of its surrogate keys: short, since an entry may have hundreds, and two of one hash are only purged together
}

// Life is how long an entry may be used, and how. All lengths are counted from
// the moment the response was generated (age zero); zero means not at all.
type Life struct {
	Fresh           time.Duration // freshness lifetime
	WhileRevalidate time.Duration // after Fresh: may be served while a refresh runs (RFC 5861 section 3)
	IfError         time.Duration // after Fresh: may be served instead of an error (RFC 5861 section 4)
	IfUnreachable   time.Duration // after Fresh: may be served when the origin cannot be reached (RFC 9111 section 4.2.4)
	Keep            time.Duration // after Fresh: may be kept for revalidation

	AlwaysRevalidate bool // no-cache: never used without the origin's word (RFC 9111 section 5.2.2.4)
	NeverStale       bool // must-revalidate and its kin: no stale use but within the windows above, whatever the client says
}

// Whole returns the age at which the entry can be of no more use.
func (l Life) Whole() time.Duration {
	return l.Fresh + max(l.WhileRevalidate, l.IfError, l.IfUnreachable, l.Keep)
}

// Age returns the entry's current age (RFC 9111 section 4.2.3), never negative:
// clocks of nodes that share entries may differ.
func (e *Entry) Age(now time.Time) time.Duration {
	return max(0, e.InitialAge+max(0, now.Sub(e.Received)))
}

// Remaining returns how long the entry stays of any use after now; zero or less
// means that it may be dropped.
func (e *Entry) Remaining(now time.Time) time.Duration { return e.Life.Whole() - e.Age(now) }

// overhead is what one entry costs in memory beside its bytes: the Entry itself,
// slice headers, its marks with a stamp, the memory tier's tables and the admission
// sketch. A test of package memory holds it against the heap.
const overhead = 700

// Cost returns the bytes of memory that the entry takes.
func (e *Entry) Cost() int64 {
	vary := 0
	for _, name := range e.VaryOn {
		vary += len(name) + 16
	}
	return overhead + int64(len(e.Key)+len(e.Variant)+vary+4*len(e.Tags)) +
		e.Head.Bytes() + 16*int64(e.Head.Len()) + e.Body.Held()
}
