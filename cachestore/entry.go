// Package cachestore holds the vocabulary that all tiers of the cache share: what
// is stored (Entry), under which name (Key and variant), and what a tier must be
// able to do (Store). It holds no policy: what may be stored, and when it may be
// used, is decided in package proxy.
package cachestore

import "time"

// Entry is one stored response. It never changes once it has been handed to a
// Store, and is read by many goroutines without locks; an update is a new Entry.
type Entry struct {
	Key  Key
	Vary *Vary // nil for a response to every request of its key

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

// Vary says which requests of its key a response is for, when it is not for all
// (RFC 9111 section 4.1). Most are for all, and an Entry carries nothing for it then
// but a nil pointer.
type Vary struct {
	On      []string // lower-case, sorted names of the request fields that selected the response; never empty
	Variant string   // identifies the values that those fields had; never empty
}

// Valid reports whether v says all that it must. A nil v does.
func (v *Vary) Valid() bool { return v == nil || len(v.On) > 0 && v.Variant != "" }

func (v *Vary) cost() int64 {
	if v == nil {
		return 0
	}
	n := 48 + len(v.Variant)
	for _, name := range v.On {
		n += len(name) + 16
	}
	return int64(n)
}

// Variant returns what identifies the requests of its key that the entry is for, ""
// when it is for all.
func (e *Entry) Variant() string {
	if e.Vary == nil {
		return ""
	}
	return e.Vary.Variant
}

// VaryOn returns the names of the request fields that selected the entry, nil when
// it is for all requests of its key. They are shared and must not be changed.
func (e *Entry) VaryOn() []string {
	if e.Vary == nil {
		return nil
	}
	return e.Vary.On
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
	return overhead + int64(len(e.Key)+4*len(e.Tags)) + e.Vary.cost() +
		e.Head.Bytes() + 16*int64(e.Head.Len()) + e.Body.Held()
}
