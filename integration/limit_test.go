package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edge/cachestore/redis/redistest"
	"edge/integration/internal/node"
	"edge/integration/internal/origin"
)

// limited starts a node whose site is under these limits.
func limited(tb testing.TB, url, limits string, names ...string) *node.Node {
	tb.Helper()
	return configured(tb, limits+site(url, `"*"`, fmt.Sprintf("  rate_limits = [%s]", quotedList(names))))
}

func quotedList(names []string) string {
	var quoted []string
	for _, name := range names {
		quoted = append(quoted, fmt.Sprintf("%q", name))
	}
	return strings.Join(quoted, ", ")
}

func fresh(tb testing.TB) *origin.Origin {
	return origin.Start(tb, fields("page", "Cache-Control", "max-age=600"))
}

func TestLimitRefuses(t *testing.T) {
	t.Parallel()
	o := fresh(t)
	n := limited(t, o.URL, "rate_limit \"api\" {\n  rate = \"5/1h\"\n  legacy_headers = true\n}\n", "api")
	for i := range 5 { // hits count, too
		if a := get(t, n, "/"); a.Status != http.StatusOK || a.Header.Get("Retry-After") != "" {
			t.Fatalf("request %d: %d %v", i, a.Status, a.Header)
		}
	}
	a := get(t, n, "/", "X-Forwarded-For", "203.0.113.1", "Forwarded", "for=203.0.113.1") // which changes nothing
	equal(t, "status", a.Status, http.StatusTooManyRequests)
	if wait := a.number(t, "Retry-After"); wait < 1 || wait > 720 {
		t.Errorf("Retry-After %d, want the time of one request in five an hour", wait)
	}
	equal(t, "Content-Type", a.Header.Get("Content-Type"), "application/problem+json")
	equal(t, "Cache-Control", a.Header.Get("Cache-Control"), "no-store")
	var problem struct {
		Status int
		Title  string
		Policy string
	}
	if err := json.Unmarshal([]byte(a.Body), &problem); err != nil || problem.Status != 429 || !strings.Contains(a.Body, "api") {
		t.Errorf("body %q, %v", a.Body, err)
	}
	if policy, limit := a.Header.Get("RateLimit-Policy"), a.Header.Get("RateLimit"); !strings.HasPrefix(policy, `"api";q=5`) || !strings.HasPrefix(limit, `"api";r=0`) {
		t.Errorf("RateLimit-Policy %q, RateLimit %q", policy, limit)
	}
	equal(t, "X-RateLimit-Limit", a.Header.Get("X-RateLimit-Limit"), "5")
	equal(t, "Cache-Status", a.Header.Get("Cache-Status"), "edge; detail=limit")
	equal(t, "requests to the origin", o.Count(""), 1)
}

func TestLimitOnMissesLetsHitsPass(t *testing.T) {
	t.Parallel()
	o := fresh(t)
	n := limited(t, o.URL, "rate_limit \"origin\" {\n  rate = \"2/1h\"\n  count = \"misses\"\n}\n", "origin")
	get(t, n, "/a")
	get(t, n, "/b")
	for range 20 {
		equal(t, "a hit", get(t, n, "/a").Status, http.StatusOK)
	}
	equal(t, "a third miss", get(t, n, "/c").Status, http.StatusTooManyRequests)
	equal(t, "requests to the origin", o.Count(""), 2)
}

func TestLimitOnlyPretends(t *testing.T) {
	t.Parallel()
	o := fresh(t)
	n := limited(t, o.URL, "rate_limit \"api\" {\n  rate = \"1/1h\"\n  dry_run = true\n}\n", "api")
	for range 5 {
		equal(t, "status", get(t, n, "/").Status, http.StatusOK)
	}
	metrics := adminGet(t, n, "/metrics")
	if !strings.Contains(metrics, `edge_limit_would_refuse_total{limit="api"} 4`) {
		t.Errorf("the metrics do not tell of 4 refusals:\n%s", metrics)
	}
}

func adminGet(tb testing.TB, n *node.Node, path string) string {
	tb.Helper()
	res, err := http.Get(n.Admin + path)
	if err != nil {
		tb.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return string(body)
}

func TestLimitOnWhatRunsAtATime(t *testing.T) {
	t.Parallel()
	gate := origin.NewGate(t)
	o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
		gate.Pass(r)
		w.Header().Set("Cache-Control", "no-store")
		io.WriteString(w, "page")
	})
	n := limited(t, o.URL, "rate_limit \"few\" {\n  concurrent = 2\n}\n", "few")
	answers := make(chan answer, 2)
	for range 2 {
		go func() {
			r, _ := request(n, "GET", "/", "")
			answers <- exchange(n, r)
		}()
	}
	gate.Await(t, 2)
	equal(t, "a third", get(t, n, "/").Status, http.StatusTooManyRequests)
	gate.Open()
	for range 2 {
		equal(t, "status", (<-answers).Status, http.StatusOK)
	}
	until(t, "room again", func() (int, bool) {
		status := get(t, n, "/").Status
		return status, status == http.StatusOK
	})
}

// TestLimitOnMissesCostsNothingElse: what it refuses counts for no other limit, in
// memory and in Redis.
func TestLimitOnMissesCostsNothingElse(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for name, fleet := range map[string]string{"memory": "", "redis": fmt.Sprintf("redis {\n  url = %q\n  timeout = \"10s\"\n}\n", server.URL)} {
		for _, algorithm := range []string{"token_bucket", "sliding_window", "fixed_window"} {
			o := fresh(t)
			limits := fmt.Sprintf("rate_limit \"all\" {\n  rate = \"10/24h\"\n  algorithm = %q\n  key = %q\n  headers = true\n}\n", algorithm, algorithm) +
				fmt.Sprintf("rate_limit \"origin\" {\n  rate = \"1/24h\"\n  key = %q\n  count = \"misses\"\n}\n", algorithm)
			n := limited(t, o.URL, fleet+limits, "all", "origin")
			get(t, n, "/")
			for range 20 {
				equal(t, name+", a miss", get(t, n, "/else").Status, http.StatusTooManyRequests)
			}
			for i := range 9 {
				equal(t, fmt.Sprint(name, ", ", algorithm, ", hit ", i), get(t, n, "/").Status, http.StatusOK)
			}
			equal(t, name+", the eleventh", get(t, n, "/").Status, http.StatusTooManyRequests)
		}
	}
}

func TestLimitIsTheFleets(t *testing.T) {
	t.Parallel()
	o := fresh(t)
	server := redistest.Start(t)
	// A machine that is busy for a moment must not look like a Redis that is away.
	text := fmt.Sprintf("redis {\n  url = %q\n  timeout = \"4s\"\n}\nrate_limit \"api\" {\n  rate = \"40/1h\"\n}\n", server.URL)
	var nodes []*node.Node
	for range 3 {
		nodes = append(nodes, limited(t, o.URL, text, "api"))
	}
	var allowed atomic.Int64
	var clients sync.WaitGroup
	for _, n := range nodes {
		clients.Go(func() {
			for range 40 {
				r, _ := request(n, "GET", "/", "", "Host", "shop.test")
				if a := exchange(n, r); a.Status == http.StatusOK {
					allowed.Add(1)
				} else if a.Status != http.StatusTooManyRequests {
					t.Errorf("status %d, %v", a.Status, a.Err)
				}
			}
		})
	}
	clients.Wait()
	equal(t, "let through by all nodes together", allowed.Load(), 40)

	// Without Redis no request fails or waits: each node has its share.
	server.Stop()
	began := time.Now()
	for _, n := range nodes {
		for range 20 {
			if a := get(t, n, "/", "Host", "shop.test"); a.Status != http.StatusOK && a.Status != http.StatusTooManyRequests {
				t.Errorf("without Redis: %d", a.Status)
			}
		}
	}
	if took := time.Since(began); took > patience/2 {
		t.Errorf("60 requests without Redis took %v", took)
	}
}

// TestLimitHoldsInTime: four nodes, hammered at twenty times what the limit allows.
func TestLimitHoldsInTime(t *testing.T) {
	if !soaking() {
		t.Skip("takes 10 seconds of a machine that does nothing else: make soak")
	}
	const length, limit, burst, pace = 10 * time.Second, 100, 100, 2000
	for _, algorithm := range []string{"token_bucket", "sliding_window"} {
		o := fresh(t)
		server := redistest.Start(t)
		text := fmt.Sprintf("log {\n  access = false\n}\nredis {\n  url = %q\n}\nrate_limit \"api\" {\n  rate = \"%d/1s\"\n  algorithm = %q\n  key = \"${req.host}\"\n}\n", server.URL, limit, algorithm)
		var nodes []*node.Node
		for range 4 {
			nodes = append(nodes, node.Start(t, node.Options{Binary: built(t, plainBinary), Config: configuration(text + site(o.URL, `"*"`, `  rate_limits = ["api"]`))}))
		}
		var allowed, refused, failed atomic.Int64
		var clients sync.WaitGroup
		began := time.Now()
		const each = 16
		for c := range 4 * each {
			n := nodes[c%4]
			clients.Go(func() {
				for tick := time.NewTicker(time.Second * 4 * each / pace); time.Since(began) < length; <-tick.C {
					r, _ := request(n, "GET", "/", "", "Host", "shop.test")
					switch a := exchange(n, r); a.Status {
					case http.StatusOK:
						allowed.Add(1)
					case http.StatusTooManyRequests:
						refused.Add(1)
					default:
						failed.Add(1)
					}
				}
			})
		}
		clients.Wait()
		took := time.Since(began).Seconds()
		want := limit*took + burst
		if algorithm == "sliding_window" {
			// The part of the first window that was over before anybody asked is as good as
			// a bucket filled in it.
			want = limit * (took + float64(began.UnixMicro()%1e6)/1e6)
		}
		errors := 0 // requests that were counted by a node alone
		for _, n := range nodes {
			metrics := adminGet(t, n, "/metrics")
			_, after, _ := strings.Cut(metrics, "\nedge_limit_store_errors_total{limit=\"api\"} ")
			count, _, _ := strings.Cut(after, "\n")
			n, err := strconv.Atoi(count)
			if err != nil {
				t.Fatalf("store errors: %v", err)
			}
			errors += n
		}
		t.Logf("%s: %d let through in %.2f s, the limit is %.0f; %d refused; Redis could not count %d", algorithm, allowed.Load(), took, want, refused.Load(), errors)
		if got := float64(allowed.Load()); got > want*1.01 || got < want*0.99 || failed.Load() > 0 {
			t.Errorf("%s: %v let through, want %v within 1 %%; %d failed", algorithm, got, want, failed.Load())
		}
	}
}

// TestLimitWithoutRedisInTime: no request waits for a Redis that stands still, not even
// those that ask before anybody can know it; and when it goes on, so does the count.
func TestLimitWithoutRedisInTime(t *testing.T) {
	if !soaking() {
		t.Skip("has a limit of 10 ms, on a machine that does nothing else: make soak")
	}
	const clients, pace, length = 32, 2000, 3 * time.Second
	o := fresh(t)
	server := redistest.Start(t)
	text := fmt.Sprintf("log {\n  access = false\n}\nredis {\n  url = %q\n}\nrate_limit \"api\" {\n  rate = \"1000000/1s\"\n}\n", server.URL)
	n := node.Start(t, node.Options{Binary: built(t, plainBinary), Config: configuration(text + site(o.URL, `"*"`, `  rate_limits = ["api"]`))})
	get(t, n, "/", "Host", "shop.test")
	var phase atomic.Int64
	var took [3][clients][]time.Duration
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			tick := time.NewTicker(time.Second * clients / pace)
			defer tick.Stop()
			for ; phase.Load() < 3; <-tick.C {
				r, _ := request(n, "GET", "/", "", "Host", "shop.test")
				p, began := phase.Load(), time.Now()
				a := exchange(n, r)
				if p < 3 {
					took[p][c] = append(took[p][c], time.Since(began))
				}
				if a.Status != http.StatusOK {
					t.Errorf("status %d, %v", a.Status, a.Err)
				}
			}
		})
	}
	time.Sleep(length) // the length of each phase is a measure of load, and orders nothing
	server.Freeze()
	phase.Store(1)
	time.Sleep(length)
	if !strings.Contains(adminGet(t, n, "/metrics"), `edge_limit_fallback{limit="api"} 1`) {
		t.Error("the node does not say that it counts alone")
	}
	server.Thaw()
	phase.Store(2)
	time.Sleep(length)
	if !strings.Contains(adminGet(t, n, "/metrics"), `edge_limit_fallback{limit="api"} 0`) {
		t.Error("the node does not count in Redis again")
	}
	phase.Store(3)
	wg.Wait()
	for p, name := range []string{"with Redis", "stopped", "back"} {
		var all []time.Duration
		for _, some := range took[p] {
			all = append(all, some...)
		}
		slices.Sort(all)
		longest := all[len(all)-1]
		t.Logf("%s: %d requests, p50 %v, p99 %v, longest %v", name, len(all), all[len(all)/2], all[len(all)*99/100], longest)
		if p == 1 && longest > 10*time.Millisecond {
			t.Errorf("%s: the longest took %v", name, longest)
		}
	}
}
