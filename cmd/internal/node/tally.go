package node

import (
	"sync/atomic"
	"time"

	"edge/proxy"
)

// tally counts requests by site and outcome. Its sites are fixed when it is made,
// so that counting is two look-ups and a few atomic additions, and so that no
// client can add to what is kept.
type tally struct {
	sites  map[string]*siteTally
	names  []string   // of sites, in the configuration's order
	nobody *siteTally // requests for which no site was found
	active atomic.Int64
}

// siteTally are the counters of one site.
type siteTally struct {
	outcomes []atomic.Int64 // by proxy.Outcome
	bytes    atomic.Int64   // of bodies written to clients
	total    histogram      // of whole requests
	origin   histogram      // of waits for the origin's response head
}

func newTally(sites []string) *tally {
	t := &tally{sites: make(map[string]*siteTally), names: sites, nobody: newSiteTally()}
	for _, name := range sites {
		t.sites[name] = newSiteTally()
	}
	return t
}

func newSiteTally() *siteTally {
	return &siteTally{outcomes: make([]atomic.Int64, len(proxy.Outcomes()))}
}

// add counts a request that has ended.
func (t *tally) add(rec *proxy.Record) {
	site := t.sites[rec.Site]
	if site == nil {
		site = t.nobody
	}
	site.outcomes[rec.Outcome].Add(1)
	site.bytes.Add(rec.Bytes)
	site.total.observe(rec.Total)
	if rec.Origin > 0 {
		site.origin.observe(rec.Origin)
	}
}

// each calls f for every site's counters; the name is "" for requests without one.
func (t *tally) each(f func(name string, s *siteTally)) {
	for _, name := range t.names {
		f(name, t.sites[name])
	}
	f("", t.nobody)
}

// outcomes returns the number of requests of each outcome, over all sites.
func (t *tally) outcomes() map[string]int64 {
	sums := make(map[string]int64)
	t.each(func(_ string, s *siteTally) {
		for _, o := range proxy.Outcomes() {
			sums[o.String()] += s.outcomes[o].Load()
		}
	})
	return sums
}

// bounds are the upper ends of a histogram's buckets.
var bounds = [...]time.Duration{
	250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second,
}

// histogram counts durations by size.
type histogram struct {
	buckets [len(bounds) + 1]atomic.Int64 // not cumulated; the last takes the rest
	sum     atomic.Int64                  // nanoseconds
}

func (h *histogram) observe(d time.Duration) {
	i := 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.sum.Add(int64(d))
}
