package proxy

import (
	"time"

	"edge/cachestore"
	"edge/proxy/rfc9111"
)

// search is a look for what is stored for a request, and what has come of it.
type search struct {
	h          *Handler
	now        time.Time // when the request came
	key        cachestore.Key
	directives rfc9111.Directives
	sequence   uint64 // of the ledger, before the look-up

	stored     *cachestore.Entry // what the look-up found for this request, dead or unfit ones left out
	marks      *cachestore.Marks // beside stored
	life       cachestore.Life   // of stored, as purges have left it
	varyOn     []string          // field names that responses under this key lately varied by
	why        rfc9111.Reason    // why the answer is what it is, or why the origin is asked
	suspect    bool              // what is stored may have been purged without our knowledge
	refreshing bool              // stored is stale, and to be refreshed
}

// lookup finds what is stored for the request and decides what is done with it:
// Hit or Stale to serve it, Refused when only a stored response was wanted, Miss
// to ask the origin. The ledger's sequence is read first: whatever comes of this
// look-up is judged by every purge after it.
func (x *exchange) lookup() Outcome {
	x.consult()
	found := x.find(x.get, x.variant)
	if found.Entry != nil && !x.alive(found) {
		x.h.Cache.counts.deadEntries.Add(1)
		x.h.Cache.Store.Delete(x.r.Context(), found.Entry)
		found.Entry, x.why = nil, reasonPurged
	}
	outcome := Miss
	if found.Entry != nil {
		x.stored, x.marks = found.Entry, found.Marks
		outcome = x.judge(found.Entry)
	}
	if outcome == Miss && x.directives.OnlyIfCached {
		return Refused
	}
	return outcome
}

// consult asks how far the ledger is, before the store is asked. The order matters: a
// ledger that is caught up between the two questions would be trusted by a sequence
// from when it was not.
func (x *search) consult() {
	x.suspect = !x.h.Cache.Ledger.Trusted()
	x.sequence = x.h.Cache.Ledger.Sequence()
}

// find asks a store: first for what stands under the key itself, then, where
// responses vary, for the newest that this request selects. Variant identifies the
// request among those that a list of fields tells apart.
func (x *search) find(get func(variant string) cachestore.Found, variant func(varyOn []string) string) cachestore.Found {
	found := get("")
	if found.VaryOn == nil {
		if found.Entry == nil {
			x.why = reasonNotStored
		}
		return found
	}
	x.varyOn, x.why = found.VaryOn[0], reasonVariant
	var newest cachestore.Found
	for _, varyOn := range found.VaryOn {
		candidate := get(variant(varyOn))
		if candidate.Entry != nil && (newest.Entry == nil || candidate.Entry.Received.After(newest.Entry.Received)) {
			newest = candidate
		}
	}
	return newest
}

func (x *exchange) get(variant string) cachestore.Found {
	return x.h.Cache.Store.Get(x.r.Context(), x.key, variant)
}

// alive asks the ledger about an entry, and notes how long it may now be used.
// The common case, nothing purged since it was last asked, is two integers
// compared.
func (x *search) alive(found cachestore.Found) bool {
	e, marks := found.Entry, found.Marks
	x.life = e.Life
	x.suspect = x.suspect || found.Suspect
	if since := max(marks.Checked.Load(), e.Sequence); since < x.sequence {
		verdict := x.h.Cache.Ledger.Judge(e, since)
		if verdict.Dead {
			return false
		}
		// Noted before Checked: whoever sees the one must see the other.
		if !verdict.StaleAt.IsZero() {
			marks.EndAt(verdict.StaleAt)
		}
		if verdict.Suspect {
			x.suspect = true
		} else {
			marks.Checked.Store(x.sequence)
		}
	}
	if at := marks.StaleAt.Load(); at != 0 {
		x.life = endAt(x.life, e.Age(time.Unix(0, at)))
	}
	return true
}

// endAt ends freshness at this age; the stale windows follow from there.
func endAt(life cachestore.Life, age time.Duration) cachestore.Life {
	life.Fresh = min(life.Fresh, age)
	return life
}

// judge decides what may be done with a live entry.
func (x *search) judge(e *cachestore.Entry) Outcome {
	if e.Rules != x.h.Rules.Digest || x.suspect {
		x.why = reasonRulesChanged
		if x.suspect {
			x.why = reasonSuspect
		}
		x.life = cachestore.Life{AlwaysRevalidate: true, NeverStale: true} // no window helps either
		return Miss
	}
	use, why := rfc9111.Judge(x.directives, x.life, e.Age(x.now))
	x.why = why
	switch use {
	case rfc9111.UseFresh:
		return Hit
	case rfc9111.UseWhileRevalidate:
		x.refreshing = true
		return Stale
	case rfc9111.UseStaleAsked:
		return Stale
	case rfc9111.UseRevalidate:
		return Miss
	default:
		panic("proxy: unknown use of a stored entry")
	}
}

// ttl is what remains of the freshness of a stored entry; negative when stale.
func (x *search) ttl(e *cachestore.Entry, life cachestore.Life) time.Duration {
	return life.Fresh - e.Age(x.now)
}
