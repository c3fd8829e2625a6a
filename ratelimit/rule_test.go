package ratelimit

import (
	"math/big"
	"math/rand/v2"
	"testing"
	"time"
)

// model says by fractions what the rules say by whole numbers.
type model struct {
	rule   *rule
	full   *big.Rat // token bucket
	counts map[int64]int64
}

func rat(a, b int64) *big.Rat { return big.NewRat(a, b) }

// room reports whether n units fit at this time.
func (m *model) room(now, n int64) bool {
	r := m.rule
	if r.algorithm == TokenBucket {
		unit := rat(r.period, r.limit)
		full := m.after(now)
		full.Add(full, new(big.Rat).Mul(unit, rat(n, 1)))
		latest := new(big.Rat).Mul(unit, rat(r.burst, 1))
		return full.Cmp(latest.Add(latest, rat(now, 1))) <= 0
	}
	window := now / r.period
	count := rat(m.counts[window]+n, 1)
	if r.algorithm == SlidingWindow {
		share := rat((window+1)*r.period-now, r.period)
		count.Add(count, share.Mul(share, rat(m.counts[window-1], 1)))
	}
	return count.Cmp(rat(r.limit, 1)) <= 0
}

func (m *model) after(now int64) *big.Rat {
	if m.full == nil || m.full.Cmp(rat(now, 1)) < 0 {
		return rat(now, 1)
	}
	return new(big.Rat).Set(m.full)
}

func (m *model) take(now, n int64) {
	if m.rule.algorithm == TokenBucket {
		m.full = m.after(now)
		m.full.Add(m.full, rat(n*m.rule.period, m.rule.limit))
		return
	}
	m.counts[now/m.rule.period] += n
}

// TestRulesAreExact: what remains, and how long to wait for more, to the microsecond.
func TestRulesAreExact(t *testing.T) {
	for _, algorithm := range rates {
		t.Run(algorithm.String(), func(t *testing.T) {
			rnd := random(1)
			for range 150 {
				exact(t, rnd, randomPolicy(rnd, algorithm))
			}
		})
	}
}

func exact(t *testing.T, rnd *rand.Rand, p Policy) {
	r, err := newRule(p.Algorithm, p.Rate, p.Burst, 0)
	if err != nil {
		t.Fatal(err)
	}
	m := &model{rule: &r, counts: make(map[int64]int64)}
	var s state
	now := epoch
	for range 40 {
		now = now.Add(randomStep(rnd, now, &p))
		at := now.UnixMicro()
		s = r.settle(s, at)
		left := r.remaining(s, at)
		if left > 0 && !m.room(at, left) || m.room(at, left+1) {
			t.Fatalf("%+v at %d: %+v has room for %d", r, at, s, left)
		}
		if n := left + 1; n <= r.burst {
			wait := r.wait(s, at, n)
			if wait <= 0 || m.room(at+wait-1, n) || !m.room(at+wait, n) {
				t.Fatalf("%+v at %d: %+v has room for %d after %d", r, at, s, n, wait)
			}
		}
		if left > 0 && rnd.IntN(8) > 0 {
			n := 1 + rnd.Int64N(left)
			s = r.take(s, n)
			m.take(at, n)
		}
	}
}

// TestGiveTakesBack: what was taken and given back is as if it had never been.
func TestGiveTakesBack(t *testing.T) {
	rnd := random(2)
	for range 3000 {
		p := randomPolicy(rnd, rates[rnd.IntN(3)])
		r, err := newRule(p.Algorithm, p.Rate, p.Burst, p.BlockFor)
		if err != nil {
			t.Fatal(err)
		}
		now := epoch.UnixMicro() + rnd.Int64N(1e12)
		s := r.settle(state{}, now)
		for range rnd.IntN(5) {
			if n := r.remaining(s, now); n > 0 {
				s = r.take(s, 1+rnd.Int64N(n))
			}
		}
		n := r.remaining(s, now)
		if n == 0 {
			continue
		}
		n = 1 + rnd.Int64N(n)
		if got := r.give(r.take(s, n), now, r.take(s, n).at, n); got != s {
			t.Fatalf("%+v: %d taken from %+v and given back: %+v", r, n, s, got)
		}
		if later := r.expires(r.take(s, n)); r.settle(r.take(s, n), later) != r.settle(state{}, later) {
			t.Fatalf("%+v: %+v is not forgotten when it expires", r, s)
		}
	}
}

// TestStatesThatCannotBe: after the clock was set back, or under another rule, a key
// waits no longer than one that owes all it can.
func TestStatesThatCannotBe(t *testing.T) {
	rnd := random(3)
	for range 3000 {
		p := randomPolicy(rnd, rates[rnd.IntN(3)])
		r, err := newRule(p.Algorithm, p.Rate, p.Burst, p.BlockFor)
		if err != nil {
			t.Fatal(err)
		}
		now := epoch.UnixMicro()
		s := r.settle(state{at: rnd.Int64() >> rnd.IntN(63), used: rnd.Int64() >> rnd.IntN(63), before: rnd.Int64() >> rnd.IntN(63), until: rnd.Int64() >> rnd.IntN(63)}, now)
		if r.settle(s, now) != s {
			t.Fatalf("%+v: %+v is not settled", r, s)
		}
		if n := r.remaining(s, now); n < 0 || n > r.burst {
			t.Fatalf("%+v: %+v has room for %d", r, s, n)
		}
		longest := r.span.whole + r.cost(1).whole + 2
		if p.Algorithm != TokenBucket {
			longest = 2 * r.period
		}
		if wait := r.wait(s, now, 1); wait < 0 || wait > max(longest, r.block) {
			t.Fatalf("%+v: %+v waits %d", r, s, wait)
		}
	}
}

// TestShare: the nodes together take no more than the limit, unless it is less than
// one each.
func TestShare(t *testing.T) {
	for _, algorithm := range rates {
		r, err := newRule(algorithm, Rate{Limit: 100, Period: time.Minute}, 20, 0)
		if err != nil {
			t.Fatal(err)
		}
		for nodes, want := range map[int64]int64{0: 100, 1: 100, 3: 33, 4: 25, 1000: 1} {
			s := r.share(nodes)
			now := epoch.Truncate(time.Minute).UnixMicro()
			var st state
			burst, taken := int64(0), int64(0)
			for at := now; at < now+60e6; at += 10e3 {
				for st = s.settle(st, at); s.remaining(st, at) > 0; taken++ {
					st = s.take(st, 1)
				}
				if at == now {
					burst = taken
				}
			}
			if algorithm == TokenBucket {
				wantBurst := max(1, 20/max(1, nodes))
				if rate := taken - burst; burst != wantBurst || rate > max(1, want) || rate < want-1 {
					t.Errorf("%v, %d nodes: %d at once and %d more in a minute", algorithm, nodes, burst, rate)
				}
			} else if taken != want {
				t.Errorf("%v, %d nodes: %d in a minute, want %d", algorithm, nodes, taken, want)
			}
		}
	}
}
