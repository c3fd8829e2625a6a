package cachestore

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// Store is one tier of the cache, or several behind one face. Every method may be
// called by any number of goroutines. A Store never blocks a request for long and
// never fails one: what it cannot do is a miss, or an error that the caller
// counts.
type Store interface {
	// Get returns what is stored under the key for this variant.
	//
	// Variant "" asks for the primary slot. It holds either the one entry of a
	// response without Vary, or, when responses under this key vary, the lists of
	// field names they vary by (Found.VaryOn); the caller then works out the
	// variant for its request and asks again. A miss is the zero Found.
	Get(ctx context.Context, key Key, variant string) Found

	// Put stores the entry in place of any with the same key and variant that is
	// not newer (by Sequence, then Received), and is visible to every Get that
	// starts after Put has returned. An entry without Vary replaces all variants
	// of its key, and the other way round. An entry of no remaining use still takes
	// its place in the order, but leaves the slot empty. Put returns nil when the
	// entry was taken, ErrTooLarge, ErrVariants or ErrOlder when it was not; tiers
	// may add errors of their own. The entry must not change afterwards; what Get
	// returns later may be a copy of it.
	Put(ctx context.Context, e *Entry) error

	// Delete removes exactly this entry, known by its key, variant, Sequence and
	// Received, if it is the one that is stored. That it is gone, or another has
	// taken its place, is no error.
	Delete(ctx context.Context, e *Entry)
}

// Found is the answer of a look-up. At most one of Entry and VaryOn is set.
type Found struct {
	Entry   *Entry
	Marks   *Marks     // what changes beside the entry; never nil when Entry is set
	Suspect bool       // the tier cannot say which purges the entry has outlived: it must be revalidated before any use
	VaryOn  [][]string // lists of lower-case, sorted field names, newest first; shared, not to be changed
}

// Marks is what may change about a stored entry while the entry itself does not.
type Marks struct {
	// Checked is the purge sequence up to which the entry was found alive.
	Checked atomic.Uint64

	// StaleAt is when a soft purge made the entry stale, in Unix nanoseconds;
	// zero when none has. It takes in all records up to Checked.
	StaleAt atomic.Int64

	// Stamp is the header lines that change from second to second, as they were
	// last written for a fresh hit; nil before the first.
	Stamp atomic.Pointer[Stamp]
}

// EndAt notes a soft purge. The earliest of several holds.
func (m *Marks) EndAt(at time.Time) {
	for {
		earlier := m.StaleAt.Load()
		if earlier != 0 && earlier <= at.UnixNano() || m.StaleAt.CompareAndSwap(earlier, at.UnixNano()) {
			return
		}
	}
}

// Stamp is the lines of a fresh hit at one second of the entry's age. It never
// changes; its slices may be handed to responses.
type Stamp struct {
	Age, TTL int64 // seconds
	Lines    [2]string
}

// AgeLine returns the value of Age, ready for a header.
func (s *Stamp) AgeLine() []string { return s.Lines[0:1:1] }

// StatusLine returns our member of Cache-Status, ready for a header.
func (s *Stamp) StatusLine() []string { return s.Lines[1:2:2] }

var (
	// ErrTooLarge says that the entry is larger than the store's share for one
	// object. Nothing was changed.
	ErrTooLarge = errors.New("cachestore: entry larger than the store takes")

	// ErrVariants says that the key has as many variants as it may have, all of
	// them in use. A second Put of the same variant may succeed.
	ErrVariants = errors.New("cachestore: too many variants of one key")

	// ErrOlder says that what is stored is newer than the entry.
	ErrOlder = errors.New("cachestore: a newer entry is stored")
)
