package ratelimit

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"edge/cachestore/redis/conn"
	"edge/cachestore/redis/counter"
	"edge/cachestore/redis/redistest"
)

// node is one of several that count together, under the clock of Redis.
func node(t *testing.T, o Options) *rig {
	t.Helper()
	rg := &rig{t: t}
	var names []string
	for i := range o.Policies {
		o.Policies[i].Key = func(r *http.Request) string { return r.Header.Get("Key") }
		names = append(names, o.Policies[i].Name)
	}
	o.Prefix = "edge:"
	rg.open(o, names)
	return rg
}

// TestNodesCountTogether: by the clock of Redis, whatever theirs say.
func TestNodesCountTogether(t *testing.T) {
	server := redistest.Start(t)
	var nodes []*rig
	for n := range 4 {
		nodes = append(nodes, node(t, Options{
			Redis: dial(t, server.URL), Patience: 10 * time.Second,
			Now:      func() time.Time { return epoch.Add(time.Duration(n) * time.Hour) },
			Policies: []Policy{{Name: "p", Shared: true, Rate: Rate{Limit: 50, Period: time.Hour}}},
		}))
	}
	var wg sync.WaitGroup
	passed := make([]int, len(nodes))
	for n, rg := range nodes {
		wg.Go(func() { passed[n] = rg.allowed(40, "k") })
	}
	wg.Wait()
	if sum := passed[0] + passed[1] + passed[2] + passed[3]; sum != 50 {
		t.Errorf("%v passed, together %d of 50", passed, sum)
	}
}

// TestOneCommand: a decision is one command, whatever the number of policies and keys,
// and whoever refuses. Each key goes by itself.
func TestOneCommand(t *testing.T) {
	server := redistest.Start(t)
	redis := dial(t, server.URL)
	here := Policy{Name: "here", Rate: Rate{Limit: 7, Period: time.Minute}}
	loose := Policy{Name: "loose", Shared: true, Rate: Rate{Limit: 1000, Period: time.Hour}} // its keys live for seconds, however slow the machine
	block := Policy{Name: "block", Shared: true, Rate: Rate{Limit: 5, Period: time.Minute}, BlockFor: time.Minute}
	policies := []Policy{here, loose, block}
	for _, algorithm := range rates {
		policies = append(policies, Policy{Name: algorithm.String(), Shared: true, Algorithm: algorithm, Rate: Rate{Limit: 5, Period: time.Minute}})
	}
	rg := node(t, Options{Redis: redis, Patience: 10 * time.Second, Policies: policies})
	rg.check("first") // brings the script
	calls := func() string {
		calls, _, _ := strings.Cut(server.Info("commandstats", "cmdstat_evalsha"), ",")
		return calls + " and evals: " + server.Info("commandstats", "cmdstat_eval")[:7]
	}
	for n := range 30 { // ten for each, of which Redis refuses five
		rg.check(fmt.Sprint(n % 3))
	}
	for range 9 { // the memory of this node refuses what comes next
		rg.limit.Front("here").Get(t.Context(), "3")
	}
	if d := rg.check("3").Decisions; d[0].Allowed || d[1].Remaining != 1000 {
		t.Errorf("%+v", d)
	}
	if got := calls(); got != "calls=32 and evals: calls=1" {
		t.Errorf("for 32 decisions: %s", got)
	}
	keys := server.Keys("*")
	if len(keys) != 4*5 {
		t.Errorf("%d keys: %q", len(keys), keys)
	}
	for _, key := range keys {
		if !strings.HasPrefix(key, "edge:rl:{") {
			t.Errorf("a key %q", key)
		}
		if ttl := server.Do("PTTL", key).(int64); ttl <= 0 || ttl > 2*60_000+2 {
			t.Errorf("%s lives for %dms", key, ttl)
		}
	}
	server.Do("SCRIPT", "FLUSH")
	if d := rg.check("9").Decisions[0]; !d.Counted {
		t.Errorf("without its script: %+v", d)
	}
}

// TestDamagedCounts: what is not ours is as good as nothing, and is replaced.
func TestDamagedCounts(t *testing.T) {
	server := redistest.Start(t)
	rg := node(t, Options{Redis: dial(t, server.URL), Patience: 10 * time.Second, Policies: []Policy{
		{Name: "p", Shared: true, Rate: Rate{Limit: 3, Period: time.Hour}},
		{Name: "q", Shared: true, Algorithm: SlidingWindow, Rate: Rate{Limit: 3, Period: 300 * 24 * time.Hour}},
	}})
	rg.check("k")
	keys := server.Keys("*")
	for value, want := range map[string]int{"": 3, "x": 3, "1 2 3": 3, "-1 0 0 0": 3, strings.Repeat("9", 400) + " 1 1 1": 0} {
		for _, key := range keys {
			server.Do("SET", key, value)
		}
		if n := rg.allowed(9, "k"); n != want {
			t.Errorf("over %q: %d passed, want %d", value, n, want)
		}
	}
	for _, key := range keys {
		server.Do("DEL", key)
		server.Do("RPUSH", key, "a list")
	}
	if n := rg.allowed(9, "k"); n != 3 {
		t.Errorf("over lists: %d passed, want 3", n)
	}
	if errors := rg.limit.Stats()[0].StoreErrors; errors != 0 {
		t.Errorf("%d errors", errors)
	}
}

// TestClockSetBack: Retry-After stays true when the clock of Redis is set back by a
// day, and when a limit is another one than before.
func TestClockSetBack(t *testing.T) {
	redis := shared(t)
	for _, algorithm := range rates {
		for _, block := range []time.Duration{0, 20 * time.Second} {
			p := Policy{Name: fmt.Sprint(algorithm, block), Algorithm: algorithm, Rate: Rate{Limit: 40, Period: time.Minute}, BlockFor: block}
			rg := start(t, redis, p)
			rg.allowed(100, "k")
			try := func(what string) {
				t.Helper()
				v := rg.check("k")
				if v.Allowed {
					return
				}
				wait := v.Refusal().RetryAfter
				if wait > 2*time.Minute {
					t.Errorf("%s, %s: Retry-After %v", p.Name, what, wait)
				}
				rg.now = rg.now.Add(wait)
				if v := rg.check("k"); !v.Allowed {
					t.Errorf("%s, %s: refused after waiting: %+v", p.Name, what, v.Decisions)
				}
			}
			rg.now = rg.now.Add(-24 * time.Hour)
			try("set back")
			rg.allowed(100, "k")
			p.Rate, p.BlockFor = Rate{Limit: 4, Period: 10 * time.Second}, p.BlockFor/4
			then := rg.now
			rg = start(t, redis, p)
			rg.now = then
			try("another rule")
		}
	}
}

// TestCluster: all or none, over keys that lie on several servers.
func TestCluster(t *testing.T) {
	cluster := redistest.StartCluster(t)
	key := func(of string) func(*http.Request) string {
		return func(r *http.Request) string { return of + r.Header.Get("Key") }
	}
	rg := start(t, dial(t, cluster.URL),
		Policy{Name: "a", Key: key("a"), Rate: Rate{Limit: 20, Period: time.Hour}},
		Policy{Name: "b", Key: key("b"), Algorithm: SlidingWindow, Rate: Rate{Limit: 4, Period: time.Hour}},
		Policy{Name: "c", Key: key("c"), Algorithm: FixedWindow, Rate: Rate{Limit: 20, Period: time.Hour}},
		Policy{Name: "too", Key: key("c"), Rate: Rate{Limit: 20, Period: time.Hour}})
	for n := range 12 {
		client := fmt.Sprint(n)
		if n := rg.allowed(8, client); n != 4 {
			t.Errorf("%d passed, want 4", n)
		}
		for _, d := range rg.check(client).Decisions {
			if want := max(0, d.Limit-4); d.Policy != "b" && d.Remaining != want-0 || !d.Counted {
				t.Errorf("%+v, want %d remaining", d, want)
			}
		}
	}
}

// TestRedisGone: nobody waits for it, and verdicts are as the policy says until it is
// back.
func TestRedisGone(t *testing.T) {
	server := redistest.Start(t)
	var log lines
	policies := func() (all []Policy) {
		for _, on := range []OnError{Local, Allow, Deny} {
			all = append(all, Policy{Name: on.String(), Shared: true, OnError: on, Rate: Rate{Limit: 20, Period: time.Hour}})
		}
		return all
	}
	open := func(p Policy) *rig {
		c, err := conn.Open(conn.Options{URL: server.URL})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		// Patience enough for a machine that is busy: what is late is not counted there.
		return node(t, Options{Redis: c, Patience: 300 * time.Millisecond, Nodes: func() int { return 4 }, Policies: []Policy{p}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	}
	gates := make(map[string]*rig)
	for _, p := range policies() {
		gates[p.Name] = open(p)
	}
	second := open(policies()[0])
	counted := func(rg *rig) bool {
		d := rg.check("probe").Decisions[0]
		return d.Counted && d.Window == time.Hour // not this node's share of it
	}
	away := func(key string) {
		t.Helper()
		for name, want := range map[string]int{"local": 5, "allow": 15, "deny": 0} {
			rg, passed, slowest := gates[name], 0, time.Duration(0)
			for range 15 {
				began := time.Now()
				if rg.check(key).Allowed {
					passed++
				}
				slowest = max(slowest, time.Since(began))
			}
			// One waits for as long as there is patience, and nobody after that.
			if slowest > 2*time.Second {
				t.Errorf("%s: a decision took %v", name, slowest)
			}
			t.Logf("%s, %s: the slowest decision took %v", key, name, slowest)
			s := rg.limit.Stats()[0]
			if passed != want || !s.FallbackNow || s.StoreErrors < 15 {
				t.Errorf("%s, %s: %d passed, want %d; %+v", key, name, passed, want, s)
			}
		}
	}
	await := func(what string, reached func() bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !reached(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("waited in vain for %s", what)
			}
		}
	}
	back := func(key string) {
		t.Helper()
		for name, rg := range gates {
			await(name+" to be counted in Redis", func() bool { return counted(rg) })
		}
		// Each call may miss its deadline on a busy machine; then it is counted in
		// both places, and neither lets more pass.
		await("the second node to be counted in Redis", func() bool { return counted(second) })
		if n := gates["local"].allowed(12, key) + second.allowed(20, key); n > 20+5+5 || n < 12 {
			t.Errorf("%s: %d passed on two nodes", key, n)
		}
	}
	back("before")
	server.Freeze()
	away("frozen")
	server.Thaw()
	back("thawed")
	server.Stop()
	away("stopped")
	await("a line of the log for each", func() bool {
		for _, rg := range gates {
			counted(rg)
		}
		return strings.Count(log.String(), "cannot be counted") == len(gates)
	})
	server.Restart()
	back("restarted")

	w := newRecorder()
	server.Stop()
	await("the fault", func() bool { return !counted(gates["deny"]) })
	gates["deny"].gate.Handler(nil).ServeHTTP(w, request("k"))
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "1" || w.Header()["Ratelimit"] != nil || !strings.Contains(w.Body.String(), typeReduced) {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	for _, want := range []string{`level=WARN msg="a limit cannot be counted in Redis" policy=local on_store_error=local`, `level=INFO msg="a limit is counted in Redis again" policy=local`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no line %s:\n%s", want, &log)
		}
	}
}

// TestSilenceIsNoFreshLimit: when Redis is silent, a node has its share of what was
// left there. What is late counts there in the end, unless it was refused here.
func TestSilenceIsNoFreshLimit(t *testing.T) {
	server := redistest.Start(t)
	for _, algorithm := range rates {
		var rg *rig
		for attempt := 0; rg == nil || rg.limit.Stats()[0].StoreErrors > 0; attempt++ { // on a machine that is busy just then
			if attempt == 10 {
				t.Fatal("Redis is late without being stopped")
			}
			rg = node(t, Options{Redis: dial(t, server.URL), Patience: 400 * time.Millisecond, Nodes: func() int { return 4 }, Policies: []Policy{
				{Name: fmt.Sprint(algorithm, attempt), Shared: true, Algorithm: algorithm, Rate: Rate{Limit: 20, Period: 24 * time.Hour}},
			}})
			rg.allowed(30, "spent")
			rg.allowed(8, "partly")
		}
		server.Freeze()
		for key, want := range map[string]int{"spent": 0, "partly": 3, "fresh": 5} {
			if n := rg.allowed(6, key); n != want {
				t.Errorf("%v, %s: %d passed, want %d", algorithm, key, n, want)
			}
		}
		server.Thaw()
		rg.limit.Close()
		front := rg.limit.Front(rg.limit.policies[0].Name)
		if got, err := front.Peek(t.Context(), "spent"); err != nil || got.Remaining != 0 {
			t.Errorf("%v: %+v, %v", algorithm, got, err)
		}
		left := int64(0)
		for _, key := range []string{"partly", "fresh"} {
			got, err := front.Peek(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			left += got.Remaining
		}
		// No more than so many questions go on in a silence; which do is of no matter.
		if want := int64(20 + 12 - 3 - 5); left < want || left > want+2 {
			t.Errorf("%v: %d are left, want %d", algorithm, left, want)
		}
	}
}

// TestDelaysLetNoMorePass: what a node lets pass by its share, while Redis is late and
// has no room, is owed there, and paid before anybody passes again.
func TestDelaysLetNoMorePass(t *testing.T) {
	server := redistest.Start(t)
	for _, algorithm := range rates {
		open := func(patience time.Duration) *rig {
			return node(t, Options{Redis: dial(t, server.URL), Patience: patience, Nodes: func() int { return 4 }, Policies: []Policy{
				{Name: algorithm.String(), Shared: true, Algorithm: algorithm, Rate: Rate{Limit: 20, Period: 24 * time.Hour}},
				{Name: algorithm.String() + " dry", Shared: true, DryRun: true, Algorithm: algorithm, Rate: Rate{Limit: 20, Period: 24 * time.Hour}},
			}})
		}
		patient := open(10 * time.Second)
		if n := patient.allowed(30, "k"); n != 20 {
			t.Fatalf("%v: %d passed", algorithm, n)
		}
		late := open(time.Millisecond) // and has not heard of the key
		server.Freeze()
		passed := int64(late.allowed(9, "k"))
		server.Thaw()
		late.limit.Close()
		if passed != 5 {
			t.Fatalf("%v: %d passed by the share of a quarter", algorithm, passed)
		}
		for name, owed := range map[string]int64{algorithm.String(): passed, algorithm.String() + " dry": 0} {
			p := patient.limit.find(name)
			items := []counter.Item{{Tag: tag([]byte("k")), Name: p.names[0], Args: p.texts[0]}}
			if patient.limit.run(t.Context(), modePeek, 0, items); items[0].Err != nil {
				t.Fatal(items[0].Err)
			}
			d := demand{policy: p, rule: p.rule}
			d.read(&items[0])
			taken := d.state.used + d.state.before
			if algorithm == TokenBucket {
				taken = (d.state.at - d.now + p.rule.cost(1).whole - 1) / p.rule.cost(1).whole
			}
			if taken != 20+owed {
				t.Errorf("%s: %d are taken, want 20 and %d", name, taken, owed)
			}
			if n := d.rule.remaining(d.state, d.now); n != 0 {
				t.Errorf("%s: room for %d", name, n)
			}
		}
	}
}

// TestOwing: Redis and the rules say the same of those who owe, and a debt is bounded.
func TestOwing(t *testing.T) {
	redis := shared(t)
	rnd := random(5)
	for trial := range 60 {
		p := randomPolicy(rnd, rates[trial%len(rates)])
		p.Name, p.BlockFor = fmt.Sprint(trial), 0
		rg := start(t, redis, p)
		r := rg.limit.policies[0].rule
		var want state
		for range 40 {
			rg.now = rg.now.Add(randomStep(rnd, rg.now, &p))
			now := rg.now.UnixMicro()
			want = r.settle(want, now)
			if rnd.IntN(2) == 0 {
				want = r.settle(r.take(want, 1), now)
				rg.limit.owe(now, []counter.Item{{Tag: tag([]byte("k")), Name: rg.limit.policies[0].names[0], Args: rg.limit.policies[0].texts[0]}})
				continue
			}
			left, wait := r.remaining(want, now), int64(0)
			if left > 0 {
				want = r.take(want, 1)
				left--
			} else {
				wait = r.wait(want, now, 1)
			}
			if d := rg.check("k").Decisions[0]; d.Remaining != left || d.RetryAfter != micros(wait) {
				t.Fatalf("%+v: %+v, want %d left, or to wait %d", r, d, left, wait)
			}
			if longest := r.span.whole + r.cost(1).whole + 2; r.algorithm == TokenBucket && wait > longest || wait > 0 && r.algorithm != TokenBucket && wait > 2*r.period {
				t.Fatalf("%+v: to wait %d", r, wait)
			}
		}
	}
}

// TestRetryAfterWithoutRedis: a client that was over the limit when Redis went, and
// waits for as long as it is told, alone, gets through; and not sooner.
func TestRetryAfterWithoutRedis(t *testing.T) {
	server := redistest.Start(t)
	rg := &rig{t: t, now: epoch}
	o := Options{Redis: dial(t, server.URL), Prefix: "edge:", Patience: 10 * time.Second, Nodes: func() int { return 3 }, Now: func() time.Time { return rg.now }}
	var gates []*Gate
	for _, algorithm := range rates {
		for _, block := range []time.Duration{0, 9 * time.Second} {
			o.Policies = append(o.Policies, Policy{
				Name: fmt.Sprint(algorithm, block), Shared: true, Algorithm: algorithm, Rate: Rate{Limit: 12, Period: 7 * time.Second}, BlockFor: block,
				Key: func(r *http.Request) string { return r.Header.Get("Key") },
			})
		}
	}
	rg.open(o, []string{o.Policies[0].Name})
	rg.limit.ownClock = true
	for _, p := range o.Policies {
		g, err := rg.limit.Gate(CountAll, p.Name)
		if err != nil {
			t.Fatal(err)
		}
		rg.gate = g
		if got := rg.allowed(20, "k"); got != 12 {
			t.Fatalf("%s: %d passed", p.Name, got)
		}
		gates = append(gates, g)
	}
	server.Stop()
	for i, p := range o.Policies {
		rg.gate, rg.now = gates[i], epoch
		for range 4 {
			v := rg.check("k")
			if v.Allowed {
				t.Fatalf("%s: a fresh limit: %+v", p.Name, v.Decisions)
			}
			wait := v.Refusal().RetryAfter
			rg.now = rg.now.Add(wait - time.Microsecond)
			if v := rg.check("k"); v.Allowed {
				t.Fatalf("%s: let pass before %v", p.Name, wait)
			}
			rg.now = rg.now.Add(time.Microsecond)
			if got := rg.allowed(20, "k"); got < 1 || got > 4 {
				t.Fatalf("%s: %d passed after %v", p.Name, got, wait)
			}
		}
	}
}

// TestDelaysAreNotLogged: only that Redis could not count for a second, and the end of
// that.
func TestDelaysAreNotLogged(t *testing.T) {
	var log lines
	rg := &rig{t: t, now: epoch}
	rg.open(Options{
		Now:      func() time.Time { return rg.now },
		Log:      slog.New(slog.NewTextHandler(&log, nil)),
		Policies: []Policy{{Name: "p", Rate: Rate{Limit: 2, Period: time.Hour}}},
	}, []string{"p"})
	p := rg.limit.policies[0]
	note := func(err error, times int) {
		for range times {
			rg.limit.noteStore(p, err)
			if s := rg.limit.Stats()[0]; s.FallbackNow != (err != nil) {
				t.Errorf("%+v after %v", s, err)
			}
			rg.now = rg.now.Add(400 * time.Millisecond)
		}
	}
	for range 5 {
		note(counter.ErrLate, 3)
		note(nil, 1)
	}
	if log.String() != "" {
		t.Errorf("delays are logged:\n%s", &log)
	}
	note(counter.ErrLate, 9)
	note(nil, 9)
	away, back := strings.Count(log.String(), `level=WARN msg="a limit cannot be counted in Redis" policy=p on_store_error=local`), strings.Count(log.String(), `level=INFO msg="a limit is counted in Redis again" policy=p store_errors=24`)
	if away != 1 || back != 1 {
		t.Errorf("%s", &log)
	}
}

// lines is a log.
type lines struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
