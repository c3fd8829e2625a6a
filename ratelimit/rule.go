package ratelimit

import (
	"fmt"
	"math/bits"
	"strconv"
	"time"
)

// This file is the arithmetic of the limits: pure, and in whole numbers, so that it
// gives the same verdicts wherever it is done. script.go says the same in Lua, whose
// numbers are floats: the bounds below keep all of them exact there. Times are in
// microseconds since 1970.
//
// The token bucket is kept as GCRA keeps it, by the one time at which it will be full
// again. A unit takes period/limit to come back, which is seldom a whole number of
// microseconds: the rest is kept in parts of which limit make one.
//
// The windows begin at multiples of the period. The sliding window counts those of
// its own and, of the window before, the share that still lies within one period of
// now.
//
// A key may owe: what was let pass while its count could not be asked is taken
// afterwards, whether there is room or not. That is at most a burst more, and there is
// no room until it is paid. What is owed in a fixed window ends with it.

const (
	maxLimit  = 1_000_000_000               // of units; below 2^30
	maxPeriod = 400 * 24 * time.Hour        // below 2^45 microseconds
	maxSpan   = 100 * 365 * 24 * 1e6 * 3600 // microseconds; with the time of day below 2^53
)

// Algorithm is how a policy counts.
type Algorithm uint8

const (
	TokenBucket   Algorithm = iota // so many at once, and then as they come back, evenly
	SlidingWindow                  // so many in this period and the share of the one before that is not yet over
	FixedWindow                    // so many in each period; up to twice as many around a boundary
	Concurrent                     // so many at a time, on this node
)

var algorithmNames = [...]string{
	TokenBucket:   "token_bucket",
	SlidingWindow: "sliding_window",
	FixedWindow:   "fixed_window",
	Concurrent:    "concurrent",
}

// String returns the algorithm's name in the configuration.
func (a Algorithm) String() string {
	if int(a) >= len(algorithmNames) {
		panic("ratelimit: unknown algorithm " + strconv.Itoa(int(a)))
	}
	return algorithmNames[a]
}

// rule is what is counted by.
type rule struct {
	algorithm Algorithm
	limit     int64 // units in each period
	period    int64
	burst     int64 // most units at once; of a window its limit
	span      span  // token bucket: how long all of the burst takes to come back
	block     int64 // once exceeded, refuse for so long; zero is until there is room
}

// span is a time: whole microseconds, and parts of one, of which the rule's limit
// make a whole.
type span struct{ whole, part int64 }

// state is what is known of one key. The zero state is that of a key never seen.
type state struct {
	at     int64 // token bucket: when it is full; windows: number of the window that used is about
	used   int64 // token bucket: parts beyond at; windows: units taken in this window
	before int64 // sliding window: units taken in the window before
	until  int64 // refused until then; zero is not
}

// newRule checks what a policy or a plan says. A zero burst is the limit.
func newRule(algorithm Algorithm, rate Rate, burst int64, block time.Duration) (rule, error) {
	r := rule{algorithm: algorithm, limit: rate.Limit, period: rate.Period.Microseconds(), burst: burst, block: block.Microseconds()}
	if burst == 0 || algorithm != TokenBucket {
		r.burst = r.limit
	}
	switch {
	case r.limit < 1 || r.limit > maxLimit:
		return r, fmt.Errorf("a limit of %d: it must be from 1 to %d", r.limit, maxLimit)
	case algorithm == Concurrent:
		return r, nil
	case rate.Period < time.Microsecond || rate.Period > maxPeriod || rate.Period%time.Microsecond != 0:
		return r, fmt.Errorf("a period of %v: it must be whole microseconds, up to %v", rate.Period, maxPeriod)
	case r.burst < 1 || r.burst > maxLimit:
		return r, fmt.Errorf("a burst of %d: it must be from 1 to %d", r.burst, maxLimit)
	case block < 0 || block > maxPeriod || block%time.Microsecond != 0:
		return r, fmt.Errorf("a block of %v: it must be whole microseconds, up to %v", block, maxPeriod)
	}
	if algorithm == TokenBucket {
		// The quotient fits when that of the bits above 64 does.
		if hi, _ := bits.Mul64(uint64(r.burst), uint64(r.period)); hi >= uint64(r.limit) || r.cost(r.burst).whole > maxSpan {
			return r, fmt.Errorf("a burst of %d that takes more than a century to come back", r.burst)
		}
		r.span = r.cost(r.burst)
	}
	return r, nil
}

// share returns the part of the rule that is left for one of so many nodes, when
// each counts for itself.
func (r *rule) share(nodes int64) rule {
	if nodes <= 1 {
		return *r
	}
	s := *r
	if r.algorithm != TokenBucket {
		s.limit = max(1, r.limit/nodes)
		s.burst = s.limit
		return s
	}
	s.period *= nodes
	s.burst = max(1, r.burst/nodes)
	s.span = s.cost(s.burst)
	return s
}

// part returns what a state is for one of so many nodes that has its share of the rule:
// as far from the limit, in proportion.
func (r *rule) part(s state, share *rule, nodes int64) state {
	if r.algorithm == TokenBucket { // each is full when all are
		if s.used > 0 { // parts, of which another number make one
			s.at, s.used = s.at+1, 0
		}
		return s
	}
	s.used = share.limit - (r.limit-s.used)/nodes
	s.before = (s.before + nodes - 1) / nodes
	return s
}

// stricter returns of two settled states what leaves less room.
func (r *rule) stricter(a, b state) state {
	a.until = max(a.until, b.until)
	if r.algorithm != TokenBucket {
		a.used, a.before = max(a.used, b.used), max(a.before, b.before)
	} else if a.at < b.at || a.at == b.at && a.used < b.used {
		a.at, a.used = b.at, b.used
	}
	return a
}

// cost is how long n units take to come back to the bucket.
func (r *rule) cost(n int64) span {
	whole, part := divide(n, r.period, r.limit)
	return span{whole, part}
}

// divide returns a*b/c and the remainder.
func divide(a, b, c int64) (quotient, remainder int64) {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	q, rest := bits.Div64(hi, lo, uint64(c))
	return int64(q), int64(rest)
}

// settle returns what is left of a state by now. A state that cannot be, since the
// clock was set back or the rule is another one now, becomes the nearest that can.
func (r *rule) settle(s state, now int64) state {
	s.until = min(s.until, now+r.block)
	if s.until <= now {
		s.until = 0
	}
	if r.algorithm == TokenBucket {
		s.before = 0
		s.used = min(s.used, r.limit-1)
		switch ahead := s.at - now; {
		case ahead < 0:
			s.at, s.used = now, 0
		case ahead > 2*r.span.whole || ahead == 2*r.span.whole && s.used > r.span.part:
			s.at, s.used = now+2*r.span.whole, r.span.part
		}
		return s
	}
	switch window := now / r.period; {
	case s.at >= window:
		s.at = window
	case s.at == window-1:
		s.at, s.used, s.before = window, 0, s.used
	default:
		s.at, s.used, s.before = window, 0, 0
	}
	if r.algorithm == FixedWindow {
		s.before = 0
	}
	most := min(2*r.limit, maxLimit)
	s.used, s.before = min(s.used, most), min(s.before, most)
	return s
}

// changes reports whether a settled state must be stored even if nothing is taken:
// the one it was made from could not be, and would not get nearer by waiting.
func (settled state) changes(stored state) bool {
	return settled.at < stored.at || settled.until != 0 && settled.until < stored.until
}

// remaining is how many units a settled state has room for now.
func (r *rule) remaining(s state, now int64) int64 {
	if s.until != 0 {
		return 0
	}
	if r.algorithm == TokenBucket {
		if ahead := s.at - now; ahead > r.span.whole || ahead == r.span.whole && s.used > r.span.part {
			return 0 // it owes
		}
		hi, lo := bits.Mul64(uint64(r.span.whole-(s.at-now)), uint64(r.limit))
		var carry uint64
		if part := r.span.part - s.used; part < 0 {
			lo, carry = bits.Sub64(lo, uint64(-part), 0)
			hi -= carry
		} else {
			lo, carry = bits.Add64(lo, uint64(part), 0)
			hi += carry
		}
		n, _ := bits.Div64(hi, lo, uint64(r.period))
		return int64(n)
	}
	return max(0, r.limit-s.used-r.weight(s, now))
}

// weight is what the window before counts for now, rounded up.
func (r *rule) weight(s state, now int64) int64 {
	n, rest := divide(s.before, r.period-(now-s.at*r.period), r.period)
	if rest > 0 {
		n++
	}
	return n
}

// wait is for how long a settled state has no room for n units, at most the burst,
// if nobody takes any.
func (r *rule) wait(s state, now, n int64) int64 {
	blocked := max(0, s.until-now)
	s.until = 0
	if r.remaining(s, now) >= n {
		return blocked
	}
	if r.algorithm == TokenBucket {
		cost := r.cost(n)
		whole := s.at + cost.whole - r.span.whole - now
		part := s.used + cost.part - r.span.part
		switch {
		case part > r.limit:
			whole += 2
		case part > 0:
			whole++
		}
		return max(blocked, whole)
	}
	into := now - s.at*r.period
	before, room, begin := s.before, r.limit-s.used-n, int64(0)
	if room < 0 { // not in this window any more
		before, room, begin = s.used, r.limit-n, r.period
	}
	if r.algorithm == SlidingWindow && before > 0 {
		gone, _ := divide(room, r.period, before)
		begin += max(0, r.period-gone)
	}
	return max(blocked, begin-into)
}

// take returns the state with n units taken, for which it has room, or which it is to
// owe.
func (r *rule) take(s state, n int64) state {
	if r.algorithm != TokenBucket {
		s.used += n
		return s
	}
	cost := r.cost(n)
	s.at, s.used = s.at+cost.whole, s.used+cost.part
	if s.used >= r.limit {
		s.at, s.used = s.at+1, s.used-r.limit
	}
	return s
}

// give returns the settled state without n units that were taken, after which at was
// what the state had. What has come back by itself meanwhile is not given once more:
// of a bucket that may have been full since, or of a window that counts no longer.
func (r *rule) give(s state, now, at, n int64) state {
	if r.algorithm != TokenBucket {
		switch at {
		case s.at:
			s.used = max(0, s.used-n)
		case s.at - 1:
			s.before = max(0, s.before-n)
		}
		return s
	}
	if at < now {
		return s
	}
	cost := r.cost(n)
	s.at, s.used = s.at-cost.whole, s.used-cost.part
	if s.used < 0 {
		s.at, s.used = s.at-1, s.used+r.limit
	}
	return s
}

// expires is when the state will be as good as none.
func (r *rule) expires(s state) int64 {
	switch r.algorithm {
	case TokenBucket:
		return max(s.until, s.at+1)
	case SlidingWindow:
		return max(s.until, (s.at+2)*r.period)
	default:
		return max(s.until, (s.at+1)*r.period)
	}
}

// drained is when what a state counts will have come back at the policy's rate: the
// later, the more a client gains when it is forgotten. That is at the latest when
// it expires.
func (r *rule) drained(s state, now int64) int64 {
	if r.algorithm == TokenBucket {
		return r.expires(s)
	}
	back, _ := divide(s.used+s.before, r.period, r.limit)
	return max(s.until, min(now+back, r.expires(s)))
}
