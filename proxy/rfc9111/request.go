package rfc9111

import (
	"math"
	"net/http"
	"time"
)

// Limit is a length of time that a client may have named. The zero Limit is none.
type Limit struct {
	Given  bool
	Length time.Duration // never negative
}

// AnyStale is the Length of a max-stale without a value: stale for however long.
const AnyStale time.Duration = math.MaxInt64

// Directives is what a client asks of caches (RFC 9111 section 5.2.1), parsed
// once for each request. The zero Directives asks for nothing.
type Directives struct {
	NoCache      bool  // ask the origin before anything stored is used
	NoStore      bool  // do not store the response; what is stored already may be used
	OnlyIfCached bool  // answer from what is stored, or with 504
	MaxAge       Limit // oldest response that will do; stale ones only if MaxStale is given too
	MinFresh     Limit // for how long the response must stay fresh
	MaxStale     Limit // how stale the response may be, or AnyStale
	IfError      Limit // how stale the response may be where an error is the alternative (RFC 5861 section 4)
}

// ParseRequest reads a request's Cache-Control or, when it has none, Pragma (RFC
// 9111 sections 5.2.1 and 5.4). A directive that cannot be read is left out and
// takes no other with it; of two values the one that allows less use counts. It
// does not allocate.
func ParseRequest(h http.Header) Directives {
	var q Directives
	lines := h["Cache-Control"]
	if len(lines) == 0 {
		for _, line := range h["Pragma"] {
			q.pragma(line)
		}
		return q
	}
	for _, line := range lines {
		for d, left, ok := nextDirective(line); ok; d, left, ok = nextDirective(left) {
			q.add(&d)
		}
	}
	return q
}

func (q *Directives) pragma(line string) {
	for d, left, ok := nextDirective(line); ok; d, left, ok = nextDirective(left) {
		if equalFold(d.name, "no-cache") {
			q.NoCache = true
		}
	}
}

func (q *Directives) add(d *directive) {
	switch {
	case equalFold(d.name, "no-cache"):
		q.NoCache = true
	case equalFold(d.name, "no-store"):
		q.NoStore = true
	case equalFold(d.name, "only-if-cached"):
		q.OnlyIfCached = true
	case equalFold(d.name, "max-age"):
		q.MaxAge.lower(d)
	case equalFold(d.name, "min-fresh"):
		q.MinFresh.raise(d)
	case equalFold(d.name, "max-stale"):
		if !d.hasArg && !d.broken {
			q.MaxStale.lowerTo(AnyStale)
			return
		}
		q.MaxStale.lower(d)
	case equalFold(d.name, "stale-if-error"):
		q.IfError.lower(d)
	}
}

func (l *Limit) lower(d *directive) {
	if n, ok := deltaSeconds(d.arg); ok && !d.broken {
		l.lowerTo(n)
	}
}

func (l *Limit) lowerTo(n time.Duration) {
	if l.Given {
		n = min(n, l.Length)
	}
	*l = Limit{Given: true, Length: n}
}

func (l *Limit) raise(d *directive) {
	if n, ok := deltaSeconds(d.arg); ok && !d.broken {
		*l = Limit{Given: true, Length: max(n, l.Length)}
	}
}
