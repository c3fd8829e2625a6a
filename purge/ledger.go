package purge

import (
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"edge/cachestore"
)

// Options configure a Ledger. The zero value is ready for use.
type Options struct {
	// MaxSelectors bounds the selectors remembered; at the bound the oldest
	// collapse into Stats.Floor. Default 262,144, at least 8.
	MaxSelectors int

	// InvalidateRate and InvalidateBurst are the budget of exact invalidations a
	// site has, per second and at once. Past it they are coarser, never lost (see
	// Ledger.Invalidate). Defaults 100 and 1,000.
	InvalidateRate, InvalidateBurst int

	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Ledger is the ordered list of purges that this node has applied, reduced to what
// can still matter: for each selector the latest hard and the latest soft record.
// All methods may be called by any number of goroutines.
type Ledger struct {
	options  Options
	sequence atomic.Uint64 // of the latest record; raised after that record can be seen under mu
	spent    atomic.Bool   // there are no more sequences

	mu       sync.RWMutex // guards all below
	timeline timeline
	latest   [kinds]uint64
	floor    uint64 // entries of a lower sequence are suspect
	purges   cells  // by operators
	changes  cells  // by unsafe requests, from anyone
	coarse   coarse // what changes collapse into
	budgets  map[string]*bucket
	appended uint64
	folded   uint64
}

// New returns an empty Ledger: nothing was ever purged.
func New(o Options) *Ledger {
	if o.MaxSelectors == 0 {
		o.MaxSelectors = 262_144
	}
	if o.InvalidateRate == 0 {
		o.InvalidateRate = 100
	}
	if o.InvalidateBurst == 0 {
		o.InvalidateBurst = 1000
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxSelectors < 8 || o.InvalidateRate < 0 || o.InvalidateBurst < 0 {
		panic("purge: a bound of the ledger is out of range")
	}
	return &Ledger{options: o, coarse: make(coarse), budgets: make(map[string]*bucket)}
}

// Sequence returns the sequence of the latest record applied; zero is none. It is
// one atomic load. A caller that is about to look up and perhaps fetch reads it
// first, and gives it to the entry that comes of it.
func (l *Ledger) Sequence() uint64 { return l.sequence.Load() }

// Append applies a record and returns its sequence. From the return on, every
// Judge sees it.
func (l *Ledger) Append(r Record) uint64 {
	hash := r.Selector.hash()
	if r.Time.IsZero() {
		r.Time = l.options.Now()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	sequence := l.next()
	l.purgeLocked(sequence, r.Selector.Kind, hash, r.Time, r.Soft)
	l.sequence.Store(sequence)
	return sequence
}

// purgeLocked notes a purge. The caller stores the sequence in l.sequence when all
// of its records can be found.
func (l *Ledger) purgeLocked(sequence uint64, kind Kind, hash uint64, at time.Time, soft bool) {
	l.appended++
	l.latest[kind] = sequence
	l.purges.record(hash, sequence, at, soft)
	// The selectors that nobody renewed for longest go first: the fewest entries
	// are older than they are.
	for l.purges.len() > l.options.MaxSelectors-l.maxChanges() {
		old := l.purges.dropOldest()
		l.floor = max(l.floor, old.newest())
		l.folded++
	}
}

// next gives out a sequence for a record that this node knows alone. The caller
// holds mu.
func (l *Ledger) next() uint64 { return l.orSpent(l.timeline.after(l.sequence.Load())) }

// orSpent is the sequence, or the last one there is when there are no more: from
// then on nothing is trusted.
func (l *Ledger) orSpent(sequence uint64, ok bool) uint64 {
	if !ok || l.spent.Load() {
		l.spent.Store(true)
		return endOfTime
	}
	return sequence
}

// Judge says what the records after since mean for the entry. It is dead when a
// matching hard record has a higher sequence than the entry, and suspect when it
// is older than the records that are still remembered. A matching soft record
// makes it stale at StaleAt, at most.
//
// since is a sequence up to which the same entry was judged before, zero from the
// start. A caller that remembers it must have read Sequence before that Judge, not
// after, and must keep the earliest staleAt beside it: records up to since may or
// may not be reported again. When nothing is newer than since, this is one atomic
// load.
func (l *Ledger) Judge(e *cachestore.Entry, since uint64) cachestore.Verdict {
	if l.sequence.Load() <= since {
		return cachestore.Verdict{}
	}
	parts, ok := e.Key.Parts()
	if !ok {
		return cachestore.Verdict{Dead: true} // nothing can be said about it, so it must not be served
	}
	v := verdict{ledger: l, sequence: e.Sequence, since: max(since, e.Sequence), staleAt: math.MaxInt64}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if v.convicts(&parts, e.Tags) {
		return cachestore.Verdict{Dead: true}
	}
	verdict := cachestore.Verdict{Suspect: e.Sequence < l.floor}
	if v.staleAt != math.MaxInt64 {
		verdict.StaleAt = time.Unix(0, v.staleAt)
	}
	return verdict
}

// Trusted implements proxy.Ledger: what one node purges, it knows.
func (l *Ledger) Trusted() bool { return !l.spent.Load() }

// verdict collects what the ledger has against one entry.
type verdict struct {
	ledger   *Ledger
	sequence uint64 // of the entry
	since    uint64 // kinds without a newer record are passed over
	staleAt  int64  // Unix nanoseconds
}

// convicts reports whether a hard record kills the entry, and notes the earliest
// of the soft ones.
func (v *verdict) convicts(p *cachestore.KeyParts, tags []uint32) bool {
	path, _, _ := strings.Cut(p.Target, "?")
	switch {
	case v.news(Everything) && (v.hit(hash(Everything, "", "", "")) || v.hit(hash(Everything, p.Site, "", ""))):
		return true
	case v.news(Host) && v.hit(hash(Host, p.Site, p.Authority, "")):
		return true
	case v.news(URL) && v.hitURL(p):
		return true
	case v.news(URLAnyQuery) && v.hit(hash(URLAnyQuery, p.Site, p.Authority, path)):
		return true
	case v.news(Prefix) && v.hitPrefix(p, path):
		return true
	case v.news(Key):
		for _, tag := range tags {
			if h := uint64(tag); v.hit(h) || v.changed(h, groups) {
				return true
			}
		}
	}
	return false
}

// news reports whether a record of the kind is newer than what was checked. It
// must stand before each look-up of that kind: it is what makes a check cheap.
func (v *verdict) news(k Kind) bool { return v.ledger.latest[k] > v.since }

func (v *verdict) hit(hash uint64) bool {
	c, ok := v.ledger.purges.get(hash)
	if !ok {
		return false
	}
	if c.soft > v.sequence {
		v.staleAt = min(v.staleAt, c.softTime)
	}
	return c.hard > v.sequence
}

func (v *verdict) hitURL(p *cachestore.KeyParts) bool {
	h := hash(URL, p.Site, p.Authority, p.Target)
	return v.hit(h) || v.changed(h, p.Site)
}

// changed asks for invalidations of a URL of the site, or of a group. Where they
// have become coarse, keys that are no groups are hit with them.
func (v *verdict) changed(hash uint64, site string) bool {
	if c, ok := v.ledger.changes.get(hash); ok && c.hard > v.sequence {
		return true
	}
	return len(v.ledger.coarse) > 0 && v.ledger.coarse[partOf(site, hash)] > v.sequence
}

// hitPrefix asks for the path itself and for every shorter one that ends where a
// segment ends. The hash runs along the path once, so that a path of many slashes
// costs no more than its length.
func (v *verdict) hitPrefix(p *cachestore.KeyParts, path string) bool {
	d := begin(Prefix, p.Site, p.Authority)
	if v.hit(d.Sum64()) {
		return true
	}
	for len(path) > 0 {
		end := 1 + strings.IndexByte(path[1:], '/')
		if end == 0 {
			end = len(path)
		}
		d.WriteString(path[:end])
		if v.hit(d.Sum64()) {
			return true
		}
		path = path[end:]
	}
	return false
}

// Forget drops the records that no entry can be older than. The caller warrants
// that every entry that exists, and every one that a fetch under way may still
// bring, carries at least the sequence oldest.
func (l *Ledger) Forget(oldest uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.purges.dropUpTo(oldest)
	l.changes.dropUpTo(oldest)
	l.coarse.dropUpTo(oldest)
}

// Stats are the ledger's counters and gauges.
type Stats struct {
	Sequence  uint64 `json:"sequence"`  // latest record applied, as this node counts
	Selectors int    `json:"selectors"` // remembered now
	Appended  uint64 `json:"appended"`  // records since the start, invalidations by unsafe requests included
	Folded    uint64 `json:"folded"`    // selectors given up for a coarser one, for want of room or budget
	Floor     uint64 `json:"floor"`     // entries of a lower sequence are suspect; zero is none
}

// Stats returns the ledger's state at one moment.
func (l *Ledger) Stats() Stats {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return Stats{
		Sequence:  l.sequence.Load(),
		Selectors: l.purges.len() + l.changes.len() + len(l.coarse),
		Appended:  l.appended,
		Folded:    l.folded,
		Floor:     l.floor,
	}
}
