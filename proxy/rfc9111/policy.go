// Package rfc9111 answers the questions that HTTP's caching rules ask, as pure
// functions of header fields and times: nothing here has a clock, does I/O or
// keeps state, and every function names the section it follows. It covers RFC
// 9111, and what a cache needs of RFC 9110 (conditional requests and ranges),
// RFC 9213 (targeted fields), RFC 5861 (stale windows) and RFC 8246 (immutable).
//
// Every header is taken with canonical names (http.CanonicalHeaderKey) and is
// left unchanged unless the function says otherwise. All functions may be called
// by many goroutines at once.
package rfc9111

import "time"

// Policy is what the operator may decide. The zero value is the letter of RFC
// 9111 without heuristics, without targeted fields and without any stale use
// that the origin does not ask for. It is read only.
type Policy struct {
	Targets          []string // targeted fields in order of precedence (RFC 9213 section 2.2), e.g. CDN-Cache-Control
	SurrogateControl bool     // honour Surrogate-Control before Targets

	StrictSMaxAge          bool          // s-maxage forbids all stale use, explicit windows included (RFC 9111 section 5.2.2.10)
	Heuristic              bool          // heuristic freshness where nothing explicit is said (RFC 9111 section 4.2.2)
	HeuristicMax           time.Duration // upper bound of a heuristic lifetime; zero means 24h
	CookiesNeedPermission  bool          // a response to a request with Cookie is stored only if it says so for shared caches
	StoreSetCookie         bool          // store explicitly fresh responses that carry Set-Cookie
	DefaultWhileRevalidate time.Duration // meaning of a stale-while-revalidate without a value; zero ignores it
	IfUnreachable          time.Duration // stale use when the origin cannot be reached and nothing forbids it
	Keep                   time.Duration // how long after its last use an entry with a validator is kept for revalidation

	TTL             *time.Duration        // replaces whatever lifetime the response gives, no-store, private and no-cache excepted; nil leaves it
	DefaultTTL      *time.Duration        // lifetime where the response gives none
	MinTTL          time.Duration         // lower bound of an explicit, non-zero lifetime; zero is no bound
	MaxTTL          time.Duration         // upper bound of every lifetime; zero is no bound
	WhileRevalidate *time.Duration        // replaces the response's stale-while-revalidate window
	IfError         *time.Duration        // replaces the response's stale-if-error window
	Negative        map[int]time.Duration // statuses of 400 and above that are stored without explicit freshness, and for how long
	NegativeMax     time.Duration         // upper bound of Negative; zero means 10s
}

// forever is the longest time that is told apart from longer ones: 2^31-1 s, as
// RFC 9111 section 1.2.2 has it. Three of them can be added without overflow.
const forever = (1<<31 - 1) * time.Second

// bounded brings a length of time into what the arithmetic here can add up.
func bounded(d time.Duration) time.Duration { return min(max(d, 0), forever) }
