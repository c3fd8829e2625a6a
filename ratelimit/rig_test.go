package ratelimit

import (
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"edge/cachestore/redis/conn"
	"edge/cachestore/redis/redistest"
)

// rig is a limiter under a clock that the test sets.
type rig struct {
	t     testing.TB
	now   time.Time
	limit *Limiter
	gate  *Gate
}

// epoch is when tests begin: not at the beginning of any window.
var epoch = time.Date(2030, 1, 2, 3, 4, 5, 678_901_000, time.UTC)

// start returns a rig with a gate of all the policies. With a connection all of them
// are shared, and Redis is told the time.
func start(t testing.TB, redis *conn.Conn, policies ...Policy) *rig {
	t.Helper()
	rg := &rig{t: t, now: epoch}
	o := Options{Now: func() time.Time { return rg.now }, Patience: 10 * time.Second}
	if redis != nil {
		o.Redis, o.Prefix = redis, "edge:"
	}
	var names []string
	for i := range policies {
		p := policies[i]
		p.Shared = redis != nil && p.Algorithm != Concurrent
		if p.Key == nil {
			p.Key = func(r *http.Request) string { return r.Header.Get("Key") }
		}
		o.Policies = append(o.Policies, p)
		names = append(names, p.Name)
	}
	rg.open(o, names)
	rg.limit.ownClock = true
	return rg
}

func (rg *rig) open(o Options, names []string) {
	rg.t.Helper()
	var err error
	if rg.limit, err = New(o); err != nil {
		rg.t.Fatal(err)
	}
	if rg.gate, err = rg.limit.Gate(CountAll, names...); err != nil {
		rg.t.Fatal(err)
	}
}

// check asks for one request with this key.
func (rg *rig) check(key string) Verdict { return rg.gate.Check(request(key)) }

// allowed is how many of n requests with this key pass now.
func (rg *rig) allowed(n int, key string) (passed int) {
	r := request(key)
	for range n {
		if v := rg.gate.Check(r); v.Allowed {
			passed++
			v.Leave(false)
		}
	}
	return passed
}

func request(key string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Key", key)
	return r
}

// dial connects to the server with time enough for a machine that is busy.
func dial(t testing.TB, url string) *conn.Conn {
	t.Helper()
	c, err := conn.Open(conn.Options{URL: url, Timeout: 10 * time.Second, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// both runs the test over each place to count.
func both(t *testing.T, test func(t *testing.T, redis *conn.Conn)) {
	t.Run("memory", func(t *testing.T) { test(t, nil) })
	t.Run("redis", func(t *testing.T) { test(t, dial(t, redistest.Start(t).URL)) })
}

var rates = []Algorithm{TokenBucket, SlidingWindow, FixedWindow}

// random returns numbers that are the same in each run.
func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }

// randomPolicy returns a policy of any size, most of them small.
func randomPolicy(rnd *rand.Rand, algorithm Algorithm) Policy {
	periods := []time.Duration{time.Second, 1_234_567 * time.Microsecond, 7 * time.Second, time.Minute, 24 * time.Hour, 400 * 24 * time.Hour}
	p := Policy{
		Name: "p", Algorithm: algorithm,
		Rate: Rate{Limit: 1 + rnd.Int64N(1+rnd.Int64N(40)), Period: periods[rnd.IntN(len(periods))]},
	}
	if rnd.IntN(4) == 0 {
		p.Rate.Limit = maxLimit - rnd.Int64N(1000)
	}
	if algorithm == TokenBucket {
		p.Burst = 1 + rnd.Int64N(12)
	}
	if rnd.IntN(3) == 0 {
		p.BlockFor = time.Duration(1+rnd.IntN(90)) * time.Second
	}
	return p
}

// randomStep is a pause that is short or long for the rate, and often ends where
// something begins.
func randomStep(rnd *rand.Rand, now time.Time, p *Policy) time.Duration {
	unit := p.Rate.Period / time.Duration(p.Rate.Limit)
	switch rnd.IntN(6) {
	case 0:
		return 0
	case 1:
		return (p.Rate.Period - time.Duration(now.UnixMicro()%p.Rate.Period.Microseconds())*time.Microsecond) + time.Duration(rnd.IntN(3)-1)*time.Microsecond
	case 2:
		return unit + time.Duration(rnd.IntN(3))*time.Microsecond
	case 3:
		return time.Duration(rnd.Int64N(int64(p.Rate.Period) + 1)).Truncate(time.Microsecond)
	case 4:
		return time.Duration(rnd.Int64N(3*int64(unit) + 1)).Truncate(time.Microsecond)
	default:
		return time.Duration(rnd.IntN(5)) * time.Microsecond
	}
}

type recorder = httptest.ResponseRecorder

func newRecorder() *recorder { return httptest.NewRecorder() }

// shared returns a connection to a server of the test's own.
func shared(t testing.TB) *conn.Conn {
	t.Helper()
	return dial(t, redistest.Start(t).URL)
}
