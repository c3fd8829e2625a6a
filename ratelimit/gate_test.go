package ratelimit

import (
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"edge/cachestore/redis/conn"
)

// TestSameVerdicts: one trace through memory and through Redis, every answer the same
// to the microsecond.
func TestSameVerdicts(t *testing.T) {
	server := shared(t)
	for _, algorithm := range rates {
		t.Run(algorithm.String(), func(t *testing.T) {
			rnd := random(4)
			for n := range 40 {
				p := randomPolicy(rnd, algorithm)
				p.Name = fmt.Sprint(algorithm, n)
				gold := randomPolicy(rnd, algorithm)
				p.Plans = []Plan{{"gold", func(r *http.Request) bool { return r.Header.Get("Key") == "c" }, gold.Rate, gold.Burst}}
				second := randomPolicy(rnd, rates[rnd.IntN(3)])
				second.Name, second.DryRun = fmt.Sprint(algorithm, n, " too"), rnd.IntN(3) == 0
				here, there := start(t, nil, p, second), start(t, server, p, second)
				for step := range 60 {
					here.now = here.now.Add(randomStep(rnd, here.now, &p))
					there.now = here.now
					key := string(rune('a' + rnd.IntN(3)))
					want, got := here.check(key), there.check(key)
					for i := range want.Decisions {
						a, b := want.Decisions[i], got.Decisions[i]
						a.policy, b.policy = nil, nil
						if a != b || want.Allowed != got.Allowed {
							t.Fatalf("policy %d, step %d: %+v in memory, %+v in Redis", n, step, a, b)
						}
					}
				}
				if a, b := here.limit.Stats(), there.limit.Stats(); !slices.Equal(a, b) {
					t.Fatalf("%+v in memory, %+v in Redis", a, b)
				}
			}
		})
	}
}

// TestRetryAfterIsTrue: a client that waits for exactly as long as it was told, alone,
// gets through; one that comes a microsecond sooner does not.
func TestRetryAfterIsTrue(t *testing.T) {
	both(t, func(t *testing.T, redis *conn.Conn) {
		rnd, refused := random(5), 0
		for n := range 60 {
			var policies []Policy
			for i := range 1 + rnd.IntN(3) {
				p := randomPolicy(rnd, rates[rnd.IntN(3)])
				if p.Rate.Limit > 1000 {
					p.Rate.Limit = 7 // else nobody gets to the end of it
				}
				p.Name = fmt.Sprint(n, "-", i)
				policies = append(policies, p)
			}
			rg := start(t, redis, policies...)
			for range 120 {
				rg.now = rg.now.Add(randomStep(rnd, rg.now, &policies[0]) / 4)
				if v := rg.check("k"); !v.Allowed {
					refused++
					// The answer is in whole seconds, rounded up; the decision itself is
					// to the microsecond.
					wait := v.Refusal().RetryAfter
					if wait <= 0 {
						t.Fatalf("refused for %v by %+v", wait, v.Decisions)
					}
					if rnd.IntN(2) == 0 && !slices.ContainsFunc(policies, func(p Policy) bool { return p.BlockFor > 0 }) {
						rg.now = rg.now.Add(wait - time.Microsecond)
						if v := rg.check("k"); v.Allowed {
							t.Fatalf("let pass a microsecond before %v", wait)
						}
						wait = time.Microsecond
					}
					rg.now = rg.now.Add(wait)
					if again := rg.check("k"); !again.Allowed {
						t.Fatalf("refused again after %v: %+v, then %+v", wait, v.Decisions, again.Decisions)
					}
				}
			}
		}
		if refused < 1000 {
			t.Errorf("%d were refused: that proves little", refused)
		}
	})
}

// TestAroundABoundary: who spends all he has just before a window ends has nothing
// more just after.
func TestAroundABoundary(t *testing.T) {
	both(t, func(t *testing.T, redis *conn.Conn) {
		for _, algorithm := range rates {
			rg := start(t, redis, Policy{Name: algorithm.String(), Algorithm: algorithm, Rate: Rate{Limit: 100, Period: time.Second}})
			rg.now = epoch.Truncate(time.Second).Add(time.Second - time.Millisecond)
			before := rg.allowed(300, "k")
			rg.now = rg.now.Add(2 * time.Millisecond)
			after := rg.allowed(300, "k")
			want := 0
			if algorithm == FixedWindow {
				want = 100 // what the other two are for
			}
			if before != 100 || after != want {
				t.Errorf("%v: %d before the boundary and %d after", algorithm, before, after)
			}
		}
	})
}

// TestLate: a request whose time was read before that of another, in the window before,
// undoes nothing.
func TestLate(t *testing.T) {
	for _, algorithm := range rates[1:] {
		rg := start(t, nil, Policy{Name: "p", Algorithm: algorithm, Rate: Rate{Limit: 10, Period: time.Second}})
		end := epoch.Truncate(time.Second).Add(time.Second)
		rg.now = end.Add(-time.Microsecond)
		rg.allowed(9, "k")
		rg.now = end.Add(time.Microsecond)
		rg.allowed(1, "k")
		for _, when := range []time.Duration{-time.Microsecond, time.Microsecond} {
			rg.now = end.Add(when)
			rg.allowed(1, "k")
		}
		want := int64(0) // nine count for almost nine still
		if algorithm == FixedWindow {
			want = 10 - 4
		}
		if got := rg.check("k").Decisions[0].Remaining; got != want {
			t.Errorf("%v: %d remaining, want %d", algorithm, got, want)
		}
	}
}

// TestHammered: whatever is tried, so much passes as the rate allows, and the burst.
func TestHammered(t *testing.T) {
	both(t, func(t *testing.T, redis *conn.Conn) {
		for _, algorithm := range rates[:2] {
			rg := start(t, redis, Policy{Name: algorithm.String(), Algorithm: algorithm, Rate: Rate{Limit: 100, Period: time.Second}, Burst: 20})
			burst := int64(20)
			if algorithm == SlidingWindow {
				burst = 100
			}
			passed := int64(0)
			for range 4000 { // for 4 seconds, at 1000/s
				rg.now = rg.now.Add(time.Millisecond)
				passed += int64(rg.allowed(1, "k"))
			}
			if passed > 400+burst+4 || passed < 400-4 {
				t.Errorf("%v: %d in 4s at 100/s", algorithm, passed)
			}
		}
	})
}

// TestRefusedConsumesNothing: neither from those who refuse, nor from the others.
func TestRefusedConsumesNothing(t *testing.T) {
	both(t, func(t *testing.T, redis *conn.Conn) {
		tight := Policy{Name: "tight", Rate: Rate{Limit: 2, Period: time.Minute}}
		loose := Policy{Name: "loose", Algorithm: FixedWindow, Rate: Rate{Limit: 10, Period: time.Hour}}
		for n, policies := range [][]Policy{{tight, loose}, {loose, tight}} {
			for i := range policies {
				policies[i].Name += fmt.Sprint(n)
			}
			rg := start(t, redis, policies...)
			if n := rg.allowed(20, "k"); n != 2 {
				t.Fatalf("%d passed, want 2", n)
			}
			for _, d := range rg.check("k").Decisions {
				want := int64(0)
				if d.Limit == 10 {
					want = 8
				}
				if d.Remaining != want {
					t.Errorf("%s: %d remaining, want %d", d.Policy, d.Remaining, want)
				}
			}
		}
	})
}

// TestRefusedElsewhere: a request that passes and is refused by something after that
// is as if it had never been, whatever others do meanwhile; and what has come back by
// itself does not come back twice.
func TestRefusedElsewhere(t *testing.T) {
	both(t, func(t *testing.T, redis *conn.Conn) {
		const second = time.Second
		for n, test := range []struct {
			algorithm Algorithm
			dry       bool
			ends      time.Duration // after it came
			meanwhile int           // others who come just before it ends
			want      int           // who pass when it has ended
		}{
			{TokenBucket, false, 0, 0, 10},
			{TokenBucket, true, 0, 0, 10},
			{TokenBucket, false, second / 20, 3, 7}, // half of its unit would have come back
			{TokenBucket, false, second, 10, 0},     // all were back
			{SlidingWindow, false, 0, 0, 10},
			{SlidingWindow, false, second, 0, 10}, // the window is another one
			{SlidingWindow, false, second, 4, 6},
			{SlidingWindow, false, 2 * second, 4, 6},
			{FixedWindow, false, 0, 4, 6},
			{FixedWindow, false, second, 4, 6}, // it counts no longer
		} {
			rg := start(t, redis, Policy{Name: fmt.Sprint(n), Algorithm: test.algorithm, Rate: Rate{Limit: 10, Period: second}, DryRun: test.dry},
				Policy{Name: fmt.Sprint(n, " running"), Algorithm: Concurrent, Rate: Rate{Limit: 100}})
			rg.now = epoch.Truncate(second)
			leave, err := rg.gate.Admit(make(http.Header), request("k"))
			if err != nil {
				t.Fatal(err)
			}
			rg.now = rg.now.Add(test.ends)
			if got := rg.allowed(test.meanwhile, "k"); got != test.meanwhile {
				t.Fatalf("%+v: %d passed meanwhile", test, got)
			}
			leave(true)
			if d := rg.check("k").Decisions; test.want > 0 && d[0].Remaining != int64(test.want)-1 || d[1].Remaining < 99 {
				t.Errorf("%+v: %+v", test, d)
			}
			if got := rg.allowed(20, "k"); !test.dry && got != max(0, test.want-1) {
				t.Errorf("%+v: %d passed after the one that looked", test, got)
			}
		}
	})
}

// TestRefusedElsewhereWhileBlocked: giving back lifts no block.
func TestRefusedElsewhereWhileBlocked(t *testing.T) {
	both(t, func(t *testing.T, redis *conn.Conn) {
		for _, algorithm := range rates {
			rg := start(t, redis, Policy{Name: algorithm.String(), Algorithm: algorithm, Rate: Rate{Limit: 2, Period: time.Hour}, BlockFor: time.Minute})
			rg.allowed(1, "k")
			v := rg.check("k")
			if n := rg.allowed(1, "k"); n != 0 || !v.Allowed {
				t.Fatalf("%d passed", n)
			}
			v.Leave(true)
			if d := rg.check("k").Decisions[0]; d.Allowed || d.RetryAfter != time.Minute {
				t.Errorf("%v: %+v", algorithm, d)
			}
			rg.now = rg.now.Add(time.Minute)
			if n := rg.allowed(3, "k"); n != 1 {
				t.Errorf("%v: %d passed when the block was over, want what was given back", algorithm, n)
			}
		}
	})
}

// TestMixedStores: all or none, also when one limit is counted in Redis, one here, and
// one is on what runs.
func TestMixedStores(t *testing.T) {
	redis := shared(t)
	policies := []Policy{
		{Name: "shared", Shared: true, Rate: Rate{Limit: 4, Period: time.Hour}},
		{Name: "here", Rate: Rate{Limit: 4, Period: time.Hour}},
		{Name: "running", Algorithm: Concurrent, Rate: Rate{Limit: 4}},
	}
	for i := range policies {
		t.Run(policies[i].Name, func(t *testing.T) {
			mine := slices.Clone(policies)
			mine[i].Rate.Limit = 2
			var names []string
			for j := range mine {
				mine[j].Name += fmt.Sprint(i)
				names = append(names, mine[j].Name)
			}
			rg := &rig{t: t, now: epoch}
			rg.open(Options{Policies: mine, Redis: redis, Prefix: "mixed:", Patience: 10 * time.Second, Now: func() time.Time { return rg.now }}, names)
			var inside []func(bool)
			for range 2 {
				v := rg.check("k")
				if !v.Allowed {
					t.Fatalf("%+v", v.Decisions)
				}
				inside = append(inside, v.Leave)
			}
			for range 5 {
				v := rg.check("k")
				if v.Allowed {
					t.Fatalf("%+v", v.Decisions)
				}
				for j, d := range v.Decisions {
					if d.Allowed != (j != i) || j != i && d.Remaining != 2 {
						t.Errorf("%+v", d)
					}
				}
			}
			for _, leave := range inside {
				leave(false)
			}
			if v := rg.check("k"); v.Allowed != (i == 2) {
				t.Errorf("when all have left: %+v", v.Decisions)
			}
		})
	}
}

// TestBlock: once over the limit, refused for as long as it says, however the client
// behaves meanwhile.
func TestBlock(t *testing.T) {
	both(t, func(t *testing.T, redis *conn.Conn) {
		rg := start(t, redis, Policy{Name: "p", Rate: Rate{Limit: 2, Period: 2 * time.Second}, BlockFor: time.Minute})
		if n := rg.allowed(3, "k"); n != 2 {
			t.Fatalf("%d passed", n)
		}
		for range 59 {
			rg.now = rg.now.Add(time.Second)
			if n := rg.allowed(1, "k"); n != 0 {
				t.Fatal("passed while blocked")
			}
		}
		if d := rg.check("k").Decisions[0]; d.RetryAfter != time.Second || d.Remaining != 0 {
			t.Errorf("%+v", d)
		}
		if n := rg.allowed(1, "other"); n != 1 {
			t.Error("another client is blocked, too")
		}
		rg.now = rg.now.Add(time.Second)
		if n := rg.allowed(2, "k"); n != 2 {
			t.Errorf("%d passed after the block", n)
		}
	})
}

func TestPlans(t *testing.T) {
	both(t, func(t *testing.T, redis *conn.Conn) {
		plan := func(name string) func(*http.Request) bool {
			return func(r *http.Request) bool { return r.Header.Get("Plan") == name }
		}
		rg := start(t, redis, Policy{
			Name: "p", Rate: Rate{Limit: 1, Period: time.Minute},
			Plans: []Plan{{"gold", plan("gold"), Rate{Limit: 50, Period: time.Second}, 5}, {"silver", plan("silver"), Rate{Limit: 3, Period: time.Second}, 0}, {"late", plan("gold"), Rate{Limit: 9, Period: time.Second}, 0}},
		})
		for name, want := range map[string]int{"": 1, "gold": 5, "silver": 3} {
			r, passed := request("k"), 0
			r.Header.Set("Plan", name)
			for range 20 {
				if v := rg.gate.Check(r); v.Allowed {
					passed++
				}
			}
			if d := rg.gate.Check(r).Decisions[0]; passed != want || d.Plan != name {
				t.Errorf("plan %q: %d passed, want %d; %+v", name, passed, want, d)
			}
		}
	})
}

// TestNamesDoNotMix: a plan's count is no other policy's.
func TestNamesDoNotMix(t *testing.T) {
	always := func(*http.Request) bool { return true }
	rate := Rate{Limit: 1, Period: time.Hour}
	redis := shared(t)
	for _, p := range []Policy{
		{Name: "a/b"}, {Name: "a", Plans: []Plan{{"b", always, rate, 0}}}, {Name: "a"}, {Name: `a"`}, {Name: `a""b`},
		{Name: `a`, Plans: []Plan{{`"b`, always, rate, 0}}}, {Name: "a:fixed_window", Algorithm: FixedWindow},
	} {
		p.Rate = rate
		if n := start(t, redis, p).allowed(2, "k"); n != 1 {
			t.Errorf("%q: %d passed, want 1", p.Name, n)
		}
	}
}

func TestDryRun(t *testing.T) {
	both(t, func(t *testing.T, redis *conn.Conn) {
		rg := start(t, redis,
			Policy{Name: "dry", DryRun: true, Headers: true, Legacy: true, Rate: Rate{Limit: 2, Period: time.Minute}},
			Policy{Name: "wet", Rate: Rate{Limit: 5, Period: time.Minute}})
		if n := rg.allowed(9, "k"); n != 5 {
			t.Errorf("%d passed, want 5", n)
		}
		h := make(http.Header)
		leave, err := rg.gate.Admit(h, request("else"))
		if err != nil || len(h) != 0 {
			t.Errorf("%v, %v", err, h)
		}
		leave(false)
		want := []Stats{{Policy: "dry", Allowed: 3, WouldRefuse: 7}, {Policy: "wet", Allowed: 6, Refused: 4}}
		if got := rg.limit.Stats(); !slices.Equal(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

// TestLog: a policy that refuses says so once a minute.
func TestLog(t *testing.T) {
	var log lines
	rg := &rig{t: t, now: epoch}
	rg.open(Options{
		Now: func() time.Time { return rg.now },
		Log: slog.New(slog.NewTextHandler(&log, nil)),
		Policies: []Policy{
			{Name: "wet", Rate: Rate{Limit: 2, Period: time.Hour}},
			{Name: "dry", DryRun: true, Rate: Rate{Limit: 1, Period: time.Hour}},
		},
	}, []string{"wet", "dry"})
	for range 3 {
		rg.allowed(5, "k")
		rg.now = rg.now.Add(40 * time.Second)
	}
	for line, want := range map[string]int{
		`msg="a limit refuses requests" policy=wet`:                                          2,
		`msg="a limit would refuse requests" policy=dry allowed=1 refused=0 would_refuse=10`: 1,
		`msg="a limit refuses requests" policy=wet allowed=2 refused=9 would_refuse=0`:       1,
	} {
		if got := strings.Count(log.String(), line); got != want {
			t.Errorf("%d lines %s, want %d:\n%s", got, line, want, &log)
		}
	}
}

// TestConcurrent: so many at a time, for each key; who is refused holds no place.
func TestConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rg := start(t, nil, Policy{Name: "p", Algorithm: Concurrent, Rate: Rate{Limit: 3}, Headers: true})
		var wg sync.WaitGroup
		end := make(chan struct{})
		h := rg.gate.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-end
			if r.Header.Get("Panic") != "" {
				panic(http.ErrAbortHandler)
			}
		}))
		answers := make([]*recorder, 8)
		for i := range answers {
			answers[i] = newRecorder()
			wg.Go(func() {
				defer func() { _ = recover() }()
				r := request([]string{"a", "b"}[i/6])
				if i%2 == 0 {
					r.Header.Set("Panic", "1")
				}
				h.ServeHTTP(answers[i], r)
			})
		}
		synctest.Wait()
		over := 0
		for _, a := range answers {
			if a.Code == http.StatusTooManyRequests {
				over++
				if got := a.Header().Get("Retry-After"); got != "1" {
					t.Errorf("Retry-After: %q", got)
				}
				if got := a.Header()["Ratelimit-Policy"]; !slices.Equal(got, []string{`"p";q=3;qu="concurrent-requests"`}) {
					t.Errorf("%q", got)
				}
			}
		}
		if over != 3 {
			t.Errorf("%d refused of 6 of one key and 2 of another, want 3", over)
		}
		close(end)
		wg.Wait()
		if n := rg.allowed(3, "a"); n != 3 || len(rg.limit.policies[0].running.count) != 0 {
			t.Errorf("%d pass when all have left, %d keys held", n, len(rg.limit.policies[0].running.count))
		}
	})
}

// TestTogether: however many ask at once, no more pass than may, and nothing hangs
// when they ask for several keys in all orders.
func TestTogether(t *testing.T) {
	both(t, func(t *testing.T, redis *conn.Conn) {
		odd := func(r *http.Request) string { return r.Header.Get("Key")[:1] }
		rg := start(t, redis,
			Policy{Name: "each", Algorithm: FixedWindow, Rate: Rate{Limit: 20, Period: time.Hour}},
			Policy{Name: "first", Key: odd, Rate: Rate{Limit: 30, Period: time.Hour}},
			Policy{Name: "all", Key: func(*http.Request) string { return "" }, Algorithm: SlidingWindow, Rate: Rate{Limit: 50, Period: time.Hour}})
		var wg sync.WaitGroup
		var mu sync.Mutex
		passed := make(map[string]int)
		for worker := range 8 {
			wg.Go(func() {
				for n := range 60 {
					key := []string{"ax", "ay", "bx", "by"}[(worker+n)%4]
					if rg.check(key).Allowed {
						mu.Lock()
						passed[key]++
						passed[key[:1]]++
						passed[""]++
						mu.Unlock()
					}
				}
			})
		}
		wg.Wait()
		if passed[""] != 50 || passed["a"] > 30 || passed["b"] > 30 {
			t.Errorf("%v", passed)
		}
		for _, key := range []string{"ax", "ay", "bx", "by"} {
			if passed[key] > 20 {
				t.Errorf("%v", passed)
			}
		}
		last := rg.check("ax").Decisions
		if last[0].Remaining != int64(20-passed["ax"]) || last[1].Remaining != int64(30-passed["a"]) {
			t.Errorf("%+v after %v", last, passed)
		}
	})
}

// TestGates: a policy counts for all its gates together, and only where it says.
func TestGates(t *testing.T) {
	rg := start(t, nil,
		Policy{Name: "all", Rate: Rate{Limit: 3, Period: time.Hour}},
		Policy{Name: "misses", Count: CountMisses, Rate: Rate{Limit: 3, Period: time.Hour}})
	second, err := rg.limit.Gate(CountAll, "misses", "all", "all")
	if err != nil || len(second.policies) != 1 {
		t.Fatalf("%+v, %v", second, err)
	}
	misses, err := rg.limit.Gate(CountMisses, "misses", "all")
	if err != nil || len(misses.policies) != 1 {
		t.Fatalf("%+v, %v", misses, err)
	}
	passed := 0
	for range 5 {
		for _, g := range []*Gate{rg.gate, second} {
			if g.Check(request("k")).Allowed {
				passed++
			}
		}
	}
	if passed != 3 || !misses.Check(request("k")).Allowed {
		t.Errorf("%d passed two gates of one policy of 3", passed)
	}
	if g, err := rg.limit.Gate(CountMisses, "all"); g != nil || err != nil {
		t.Errorf("%v, %v", g, err)
	}
	if _, err := rg.limit.Gate(CountAll, "none"); err == nil {
		t.Error("a gate of an unknown policy")
	}
}

// TestPoliciesRefused: what cannot be right is an error that names the policy.
func TestPoliciesRefused(t *testing.T) {
	rate := Rate{Limit: 1, Period: time.Second}
	plan := Plan{"gold", func(*http.Request) bool { return true }, rate, 0}
	for name, policies := range map[string][]Policy{
		"no name":              {{Rate: rate}},
		"no rate":              {{Name: "p"}},
		"no period":            {{Name: "p", Rate: Rate{Limit: 1}}},
		"too fine a period":    {{Name: "p", Rate: Rate{Limit: 1, Period: 1500}}},
		"too long a period":    {{Name: "p", Rate: Rate{Limit: 1, Period: maxPeriod + time.Second}}},
		"too high a limit":     {{Name: "p", Rate: Rate{Limit: maxLimit + 1, Period: time.Second}}},
		"a negative burst":     {{Name: "p", Rate: rate, Burst: -1}},
		"a burst of millennia": {{Name: "p", Rate: Rate{Limit: 1, Period: time.Hour}, Burst: maxLimit}},
		"past 128 bits":        {{Name: "p", Rate: Rate{Limit: 1, Period: maxPeriod}, Burst: maxLimit}},
		"a negative block":     {{Name: "p", Rate: rate, BlockFor: -1}},
		"no Redis":             {{Name: "p", Rate: rate, Shared: true}},
		"a name like another":  {{Name: "p", Rate: rate}, {Name: "p", Rate: rate}},
		"a name not of ASCII":  {{Name: "é", Rate: rate}},
		"an unknown algorithm": {{Name: "p", Rate: rate, Algorithm: 9}},
		"a prefix of 129 bits": {{Name: "p", Rate: rate, IPv6Prefix: 129}},
		"running, shared":      {{Name: "p", Algorithm: Concurrent, Rate: rate, Shared: true}},
		"running, blocking":    {{Name: "p", Algorithm: Concurrent, Rate: rate, BlockFor: time.Second}},
		"two plans alike":      {{Name: "p", Rate: rate, Plans: []Plan{plan, plan}}},
		"a plan without rate":  {{Name: "p", Rate: rate, Plans: []Plan{{Name: "gold", When: plan.When}}}},
		"a plan for nobody":    {{Name: "p", Rate: rate, Plans: []Plan{{Name: "gold", Rate: rate}}}},
	} {
		if _, err := New(Options{Policies: policies}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
