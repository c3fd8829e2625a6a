package purge

import (
	"maps"
	"time"

	"edge/cachestore"
)

// Invalidate kills all variants of the key's URL, as RFC 9111 section 4.4 asks
// after an unsafe request has succeeded. From the return on, every Judge sees it.
//
// Anyone who may send a POST can cause this, so it is bounded in two ways, and
// neither loses an invalidation. A site has a budget of exact ones: past it, a
// record kills the 1/1,024 of the site's URLs that share the low bits of the URL's
// hash. And the exact ones take at most an eighth of Options.MaxSelectors, apart
// from the operators' purges, which they can never displace: past it the oldest
// become coarse likewise. Repeated invalidations of one URL take one place. They
// are not skipped, even when no record came between: an entry whose look-up began
// after the first is as old as the second says it is.
func (l *Ledger) Invalidate(key cachestore.Key) { l.change(key) }

// InvalidateGroup kills all members of a Cache-Group of a URI origin, in the form
// scheme://authority, as RFC 9875 section 3 asks after an unsafe request. It is
// bounded like Invalidate, by a budget that all origins share.
func (l *Ledger) InvalidateGroup(origin, group string) { l.changeGroup(origin, group) }

// change is one invalidation as it was applied.
type change struct {
	sequence uint64
	site     string // or groups
	url      uint64 // hash of the URL, or of the group; when coarse, only its part counts
	coarse   bool
}

// groups stands for a site in what is said of Cache-Groups. No site has a name like
// this.
const groups = "://"

func (l *Ledger) change(key cachestore.Key) change {
	p, ok := key.Parts()
	if !ok {
		panic("purge: invalidating a key that was not made by cachestore")
	}
	return l.invalidate(p.Site, hash(URL, p.Site, p.Authority, p.Target))
}

func (l *Ledger) changeGroup(origin, group string) change {
	return l.invalidate(groups, uint64(HashKey(origin, group)))
}

func (l *Ledger) invalidate(site string, hash uint64) change {
	now := l.options.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	c := change{sequence: l.next(), site: site, url: hash, coarse: !l.affords(site, now)}
	l.changeLocked(c)
	l.sequence.Store(c.sequence)
	return c
}

// changeLocked notes an invalidation. The caller holds mu, and stores the sequence
// in l.sequence when all of its records can be found.
func (l *Ledger) changeLocked(c change) {
	l.appended++
	if c.site == groups {
		l.latest[Key] = c.sequence
	} else {
		l.latest[URL] = c.sequence
	}
	if c.coarse {
		l.coarse.record(partOf(c.site, c.url), c.sequence)
		l.folded++
		return
	}
	l.changes.record(c.url, c.sequence, time.Time{}, false).part = partOf(c.site, c.url)
	for l.changes.len() > l.maxChanges() {
		old := l.changes.dropOldest()
		l.coarse.record(old.part, old.hard)
		l.folded++
	}
}

func (l *Ledger) maxChanges() int { return l.options.MaxSelectors / 8 }

// bucket is a site's budget: tokens that come back with time.
type bucket struct {
	tokens float64
	filled time.Time
}

// affords takes one token of the site's budget, if there is one. The caller holds
// mu. Sites are named by the configuration, so there are few of them.
func (l *Ledger) affords(site string, now time.Time) bool {
	b := l.budgets[site]
	if b == nil {
		b = &bucket{tokens: float64(l.options.InvalidateBurst), filled: now}
		l.budgets[site] = b
	}
	if passed := now.Sub(b.filled); passed > 0 { // a clock set back brings nothing
		b.tokens = min(float64(l.options.InvalidateBurst), b.tokens+passed.Seconds()*float64(l.options.InvalidateRate))
	}
	b.filled = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// coarse holds the latest hard record for each part of each site's URLs.
type coarse map[uint64]uint64

// parts is how many a site's URLs are divided into.
const parts = 1024

// partOf names the part that a URL's hash falls into.
func partOf(site string, url uint64) uint64 {
	return hash(kinds, site, "", "")&^(parts-1) | url&(parts-1)
}

func (c coarse) record(part, sequence uint64) { c[part] = max(c[part], sequence) }

func (c coarse) dropUpTo(oldest uint64) {
	maps.DeleteFunc(c, func(_, sequence uint64) bool { return sequence <= oldest })
}
