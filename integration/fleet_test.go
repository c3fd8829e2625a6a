package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edge/cachestore/redis/redistest"
	"edge/integration/internal/link"
	"edge/integration/internal/node"
	"edge/integration/internal/origin"
)

// fleet is some nodes over one Redis, each with a link of its own to it.
type fleet struct {
	tb      testing.TB
	redis   *redistest.Server
	url     string // of the origin
	more    string // lines of redis { }
	token   string // of the admin listeners; "" is none
	members []*member
}

type member struct {
	*node.Node
	name  string
	redis string     // URL
	link  *link.Link // to Redis; nil for none of its own
	token string
}

// startFleet starts a Redis and so many nodes before the origin, and waits until
// they know of one another.
func startFleet(tb testing.TB, nodes int, url, more string) *fleet {
	tb.Helper()
	f := &fleet{tb: tb, redis: redistest.Start(tb), url: url, more: more}
	for range nodes {
		l := link.Start(tb, f.redis.Addr)
		f.add("redis://" + l.Addr).link = l
	}
	for _, m := range f.members {
		f.together(m)
	}
	return f
}

// add starts one more node.
func (f *fleet) add(redis string) *member {
	f.tb.Helper()
	m := &member{redis: redis, name: fmt.Sprintf("edge%d", len(f.members))}
	m.Node = f.start(m)
	f.members = append(f.members, m)
	return m
}

func (f *fleet) start(m *member) *node.Node {
	f.tb.Helper()
	m.token = f.token
	admin := ""
	if f.token != "" {
		admin = fmt.Sprintf("token \"test\" {\n    secret = %q\n    scopes = [\"all\"]\n  }", f.token)
	}
	text := fmt.Sprintf("server {\n  listen = [\"127.0.0.1:0\"]\n  name = %q\n}\nadmin {\n  listen = \"127.0.0.1:0\"\n  %s\n}\nredis {\n  url = %q\n  %s\n}\n",
		m.name, admin, m.redis, f.more)
	return node.Start(f.tb, node.Options{Binary: built(f.tb, raceBinary), Config: text + site(f.url, `"*"`, ""), Token: f.token})
}

// together waits until a purge on the member reaches all nodes.
func (f *fleet) together(m *member) {
	f.tb.Helper()
	until(f.tb, "a complete receipt from all", func() (receipt, bool) {
		r, status := m.purge(f.tb, `{"surrogate_keys":["nothing-has-this-key"],"wait":"cluster","timeout":"5s"}`)
		return r, status == http.StatusOK && len(r.Nodes) >= len(f.members)
	})
}

// receipt is what a purge is answered with.
type receipt struct {
	ID       string `json:"id"`
	Complete bool   `json:"complete"`
	Nodes    []struct {
		ID      string  `json:"id"`
		Applied bool    `json:"applied"`
		State   string  `json:"state"`
		Latency float64 `json:"latency_ms"`
	} `json:"nodes"`
}

// purged purges until the log has taken it and all nodes have applied it: a machine
// that is busy for a moment may be taken for a Redis that is away, and a purge is safe
// to repeat.
func (m *member) purged(tb testing.TB, body string) receipt {
	tb.Helper()
	return until(tb, "a complete receipt for "+body, func() (receipt, bool) {
		r, status := m.purge(tb, body)
		return r, status == http.StatusOK && r.Complete
	})
}

// purge sends a purge to the member's admin listener.
func (m *member) purge(tb testing.TB, body string) (receipt, int) {
	tb.Helper()
	r, err := http.NewRequest(http.MethodPost, m.Admin+"/purge", strings.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if m.token != "" {
		r.Header.Set("Authorization", "Bearer "+m.token)
	}
	a := exchange(m.Node, r)
	var got receipt
	if a.Status == http.StatusOK || a.Status == http.StatusAccepted {
		if err := json.Unmarshal([]byte(a.Body), &got); err != nil {
			tb.Errorf("a purge was answered with %q: %v", a.Body, err)
		}
	}
	return got, a.Status
}

// versions is an origin whose pages have versions. A page is "/0" and so on; it has
// the keys "page-N" and "all".
type versions struct {
	*origin.Origin
	now [8]atomic.Int64
}

func startVersions(tb testing.TB) *versions {
	v := new(versions)
	v.Origin = origin.Start(tb, func(w http.ResponseWriter, r *http.Request) {
		page, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		if err != nil || page >= len(v.now) {
			http.NotFound(w, r)
			return
		}
		body := strconv.FormatInt(v.now[page].Load(), 10)
		w.Header().Set("Cache-Control", "max-age=600, stale-while-revalidate=600, stale-if-error=600")
		w.Header().Set("Surrogate-Key", fmt.Sprintf("page-%d all", page))
		w.Header().Set("Etag", strconv.Quote(body))
		if page%2 == 1 {
			w.Header().Set("Vary", "Accept-Language")
		}
		if r.Header.Get("If-None-Match") == strconv.Quote(body) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		if r.URL.Query().Get("slow") != "" {
			time.Sleep(20 * time.Millisecond) // makes it likelier that a purge comes between; nothing is expected of it
		}
		io.WriteString(w, body)
	})
	return v
}

func path(page int) string { return "/" + strconv.Itoa(page) }

// version reads what a node serves.
func (a answer) version(tb testing.TB) int64 {
	tb.Helper()
	n, err := strconv.ParseInt(a.Body, 10, 64)
	if err != nil || a.Status != http.StatusOK || a.Err != nil {
		tb.Fatalf("status %d, %q, %v", a.Status, a.Body, a.Err)
	}
	return n
}

func TestFleetShares(t *testing.T) {
	t.Parallel()
	v := startVersions(t)
	f := startFleet(t, 2, v.URL, "timeout = \"2s\"\n  patience = \"2s\"") // a machine that is busy for a moment is no reason to ask the origin
	warm(t, f.members[0].Node, "/0", "Host", "any.test")
	// The other node finds it in Redis a moment later, and never asks the origin.
	until(t, "the entry in Redis", func() (int, bool) {
		n := len(f.redis.Keys("edge:v1:*"))
		return n, n > 0
	})
	a := get(t, f.members[1].Node, "/0", "Host", "any.test")
	if !a.hit() || v.Count("/0") != 1 {
		t.Errorf("Cache-Status %q, %d requests to the origin", a.Header.Get("Cache-Status"), v.Count("/0"))
	}
	// A new node does, too.
	late := f.add(f.redis.URL)
	until(t, "a hit of the late node", func() (answer, bool) {
		a := get(t, late.Node, "/0", "Host", "any.test")
		return a, a.hit() && v.Count("/0") == 1
	})
}

func TestFleetPurges(t *testing.T) {
	t.Parallel()
	v := startVersions(t)
	f := startFleet(t, 3, v.URL, "")
	for name, body := range map[string]string{
		"key":    `"surrogate_keys":["page-1"]`,
		"url":    `"urls":["http://any.test/1"]`,
		"prefix": `"prefixes":["http://any.test/"]`,
		"host":   `"hosts":["any.test"]`,
		"all":    `"all":true`,
	} {
		for _, m := range f.members {
			for _, language := range []string{"de", "fr"} {
				until(t, "a hit", func() (answer, bool) {
					a := get(t, m.Node, "/1", "Host", "any.test", "Accept-Language", language)
					return a, a.hit()
				})
			}
		}
		now := v.now[1].Add(1)
		if r := f.members[0].purged(t, "{"+body+`,"wait":"cluster","timeout":"20s"}`); len(r.Nodes) < 3 {
			t.Fatalf("%s: %+v", name, r)
		}
		for i, m := range f.members {
			for _, language := range []string{"de", "fr"} {
				if got := get(t, m.Node, "/1", "Host", "any.test", "Accept-Language", language).version(t); got != now {
					t.Errorf("%s: node %d serves version %d after the receipt, want %d", name, i, got, now)
				}
			}
		}
	}
}

// TestFleetPurgesWhatIsInFlight: old content that is on its way when its purge
// comes is never served after the receipt, by this node or another.
func TestFleetPurgesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	gates := []*origin.Gate{origin.NewGate(t), origin.NewGate(t)}
	var versions [2]atomic.Int64
	o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
		page, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/")) // ours are 0 and 1
		now := versions[page].Load()
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("Surrogate-Key", "k")
		if now == 0 {
			gates[page].Pass(r)
		}
		fmt.Fprint(w, now)
	})
	f := startFleet(t, 2, o.URL, "")
	for page, purger := range f.members { // on the node that fetches, and on the other
		early := make(chan answer)
		go func() {
			r, _ := request(f.members[0].Node, "GET", path(page), "", "Host", "any.test")
			early <- exchange(f.members[0].Node, r)
		}()
		gates[page].Await(t, 1)
		versions[page].Store(1)
		purger.purged(t, `{"surrogate_keys":["k"],"wait":"cluster","timeout":"20s"}`)
		gates[page].Open()
		if a := <-early; a.version(t) != 0 {
			t.Errorf("the request from before the purge got %q", a.Body)
		}
		for i, m := range f.members {
			if got := get(t, m.Node, path(page), "Host", "any.test").version(t); got != 1 {
				t.Errorf("purged by %s: node %d serves version %d", purger.name, i, got)
			}
		}
	}
}

// TestFleetInvalidates: an unsafe request through one node reaches what the others
// have stored.
func TestFleetInvalidates(t *testing.T) {
	t.Parallel()
	var version atomic.Int64
	o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			version.Add(1)
			w.Header().Set("Cache-Group-Invalidation", `"lists"`)
			return
		}
		w.Header().Set("Cache-Control", "max-age=600")
		if r.URL.Path == "/list" {
			w.Header().Set("Cache-Groups", `"lists"`)
		}
		fmt.Fprint(w, version.Load())
	})
	f := startFleet(t, 2, o.URL, "")
	for _, target := range []string{"/item", "/list"} {
		for _, m := range f.members {
			// The authority takes part in the key: one for all nodes.
			until(t, "a hit", func() (answer, bool) {
				a := get(t, m.Node, target, "Host", "shop.test")
				return a, a.hit()
			})
		}
	}
	if a := ask(t, f.members[0].Node, "POST", "/item", "x", "Host", "shop.test"); a.Status != http.StatusOK {
		t.Fatalf("status %d, %v", a.Status, a.Err)
	}
	for _, target := range []string{"/item", "/list"} {
		if got := get(t, f.members[0].Node, target, "Host", "shop.test").version(t); got != 1 {
			t.Errorf("the node itself serves version %d of %s", got, target)
		}
		until(t, "the other node has heard", func() (answer, bool) {
			a := get(t, f.members[1].Node, target, "Host", "shop.test")
			return a, a.Body == "1"
		})
	}
}

// TestApplicationPurges: an application on Node tells the fleet what has changed, as
// the manual shows it, and then nobody gets the old any more.
func TestApplicationPurges(t *testing.T) {
	t.Parallel()
	app := startNodeShop(t)
	const secret = "a secret of the test, long enough"
	f := &fleet{tb: t, redis: redistest.Start(t), url: app, token: strings.ReplaceAll(secret, " ", "-")}
	f.add(f.redis.URL)
	f.add(f.redis.URL)
	for _, m := range f.members {
		f.together(m)
	}
	client := node.NewClient()
	tell := func(method, target, body string) answer {
		t.Helper()
		r, err := http.NewRequest(method, app+target, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		return exchange(&node.Node{Client: client}, r)
	}
	defer client.CloseIdleConnections()
	if a := tell("POST", "/-/edge", fmt.Sprintf(`{"url":%q,"token":%q}`, f.members[0].Admin, f.token)); a.Status != http.StatusNoContent {
		t.Fatalf("status %d, %v", a.Status, a.Err)
	}
	product := func(m *member) (version int, hit bool) {
		t.Helper()
		a := get(t, m.Node, "/products/7", "Host", "shop.test", "Accept-Language", "de")
		var p struct{ Version int }
		if err := json.Unmarshal([]byte(a.Body), &p); err != nil {
			t.Fatalf("%q: %v", a.Body, err)
		}
		return p.Version, a.hit()
	}
	for want := 1; want < 4; want++ {
		for _, m := range f.members {
			until(t, "a hit", func() (int, bool) { return product(m) })
		}
		if a := tell("PUT", "/products/7", `{"name":"new"}`); a.Status != http.StatusOK {
			t.Fatalf("status %d, %q, %v", a.Status, a.Body, a.Err)
		}
		for _, m := range f.members {
			if got, _ := product(m); got != want+1 {
				t.Errorf("%s serves version %d after the update to %d", m.name, got, want+1)
			}
		}
	}
}

// TestSentinelFailover: the master dies, and its successor lacks a purge that had a
// complete receipt. No node, old or new, serves what was purged, from either tier.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	v := startVersions(t)
	master := redistest.Start(t)
	replica := master.StartReplica()
	sentinels := master.StartSentinels(replica)
	f := &fleet{tb: t, redis: master, url: v.URL}
	f.add(sentinels.URL)
	f.add(sentinels.URL)
	for _, m := range f.members {
		f.together(m)
	}
	for page := range v.now {
		for _, m := range f.members {
			until(t, "a hit", func() (answer, bool) {
				a := get(t, m.Node, path(page), "Host", "any.test", "Accept-Language", "de")
				return a, a.hit()
			})
		}
	}
	until(t, "the pages are in Redis, and its replica", func() (int, bool) {
		n := len(replica.Keys("edge:v1:*"))
		return n, n >= len(v.now)
	})

	replica.Do("REPLICAOF", "127.0.0.1", 1) // nobody is there: from now on it learns nothing
	var want [len(v.now)]int64
	for page := range v.now {
		want[page] = v.now[page].Add(1)
	}
	f.members[0].purged(t, `{"surrogate_keys":["all"],"wait":"cluster","timeout":"20s"}`)
	master.Stop()
	check := func(when string) {
		t.Helper()
		for page := range v.now {
			for _, m := range f.members {
				if got := get(t, m.Node, path(page), "Host", "any.test", "Accept-Language", "de").version(t); got != want[page] {
					t.Errorf("%s: %s serves version %d of page %d, want %d", when, m.name, got, page, want[page])
				}
			}
		}
	}
	check("without a master")
	sentinels.AwaitMaster(replica)
	check("with the new master")
	f.add(sentinels.URL)
	check("with a new node")
	for _, m := range f.members {
		f.together(m)
	}
	check("in the end")
}

// TestMemoryHitsLeaveRedisAlone: what is in memory is served without a word to Redis.
func TestMemoryHitsLeaveRedisAlone(t *testing.T) {
	t.Parallel()
	v := startVersions(t)
	f := startFleet(t, 1, v.URL, "")
	m := f.members[0].Node
	for _, page := range []int{0, 1} {
		until(t, "a hit", func() (answer, bool) {
			a := get(t, m, path(page), "Accept-Language", "de")
			return a, a.hit()
		})
	}
	until(t, "both in Redis", func() (int, bool) {
		n := len(f.redis.Keys("edge:v1:*"))
		return n, n >= 3 // a page, and one that varies with its index
	})
	// The log of purges goes on being read, by scripts. A look-up is none of those.
	f.redis.Do("CONFIG", "RESETSTAT")
	for range 500 {
		for _, page := range []int{0, 1} {
			if a := get(t, m, path(page), "Accept-Language", "de"); !a.hit() {
				t.Fatalf("Cache-Status %q", a.Header.Get("Cache-Status"))
			}
		}
	}
	for _, command := range []string{"get", "getrange"} {
		if calls := f.redis.Info("commandstats", "cmdstat_"+command); calls != "" {
			t.Errorf("%s: %s", command, calls)
		}
	}
	// A look-up that does go to Redis shows, or this test would prove nothing.
	get(t, m, "/3", "Accept-Language", "de")
	until(t, "the look-ups of a miss among the commands that are counted", func() (string, bool) {
		for _, command := range []string{"get", "getrange"} {
			if calls := f.redis.Info("commandstats", "cmdstat_"+command); calls != "" {
				return calls, true
			}
		}
		return "none", false
	})
}

// TestRedisTrouble: whatever becomes of Redis, no client notices, and purges made
// meanwhile are honoured.
func TestRedisTrouble(t *testing.T) {
	for name, trouble := range map[string]struct {
		begin, end func(*redistest.Server)
	}{
		"stopped":         {(*redistest.Server).Freeze, (*redistest.Server).Thaw},
		"killed":          {(*redistest.Server).Stop, (*redistest.Server).Restart},
		"restarted empty": {(*redistest.Server).Stop, (*redistest.Server).RestartEmpty},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := startVersions(t)
			f := startFleet(t, 2, v.URL, "")
			stop := make(chan struct{})
			var clients sync.WaitGroup
			var requests, failed atomic.Int64
			for i := range 8 {
				m := f.members[i%2]
				clients.Go(func() {
					for n := 0; ; n++ {
						select {
						case <-stop:
							return
						default:
						}
						r, _ := request(m.Node, "GET", path(n%len(v.now)), "", "Host", "any.test")
						if a := exchange(m.Node, r); a.Status != http.StatusOK || a.Err != nil {
							failed.Add(1)
						}
						requests.Add(1)
					}
				})
			}
			served := func(more int64) {
				t.Helper()
				from := requests.Load()
				until(t, "more requests", func() (int64, bool) { return requests.Load(), requests.Load() >= from+more })
			}
			served(100)
			trouble.begin(f.redis)
			served(200)
			now := v.now[2].Add(1)
			if _, status := f.members[0].purge(t, `{"surrogate_keys":["page-2"],"wait":"cluster","timeout":"1s"}`); status != http.StatusServiceUnavailable {
				t.Errorf("a purge that could not be recorded was answered with %d", status)
			}
			if got := get(t, f.members[0].Node, path(2), "Host", "any.test").version(t); got != now {
				t.Errorf("the node that was asked serves version %d", got)
			}
			served(200)
			trouble.end(f.redis)
			until(t, "the purge has reached the other node", func() (answer, bool) {
				a := get(t, f.members[1].Node, path(2), "Host", "any.test")
				return a, a.version(t) == now
			})
			f.together(f.members[1])
			for _, m := range f.members {
				if got := get(t, m.Node, path(2), "Host", "any.test").version(t); got != now {
					t.Errorf("%s serves version %d in the end", m.name, got)
				}
			}
			served(100)
			close(stop)
			clients.Wait()
			if n := failed.Load(); n > 0 {
				t.Errorf("%d of %d requests failed", n, requests.Load())
			}
		})
	}
}

// TestFleetModel plays fetches, purges and failures at random, and holds every
// answer against the receipts that were complete when its request was sent.
func TestFleetModel(t *testing.T) {
	seeds, steps := 5, 60
	if soaking() {
		seeds, steps = 100, 120
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			if !soaking() {
				t.Parallel()
			}
			play(t, uint64(seed), steps)
		})
	}
}

func play(t *testing.T, seed uint64, steps int) {
	random := rand.New(rand.NewPCG(seed, 1))
	v := startVersions(t)
	f := startFleet(t, 4, v.URL, `fence = "3s"`)
	var floor [len(v.now)]atomic.Int64 // version that a request must get at least
	var reading sync.WaitGroup
	defer reading.Wait()
	var trouble []string // what happened, for the reader of a failure
	complete, purges := 0, 0
	note := func(format string, args ...any) { trouble = append(trouble, fmt.Sprintf(format, args...)) }

	read := func(m *member, page int, more string) {
		least := floor[page].Load()
		r, err := request(m.Node, "GET", path(page)+more, "", "Host", "any.test", "Accept-Language", []string{"de", "fr"}[random.IntN(2)])
		if err != nil {
			t.Error(err)
			return
		}
		check := func() {
			a := exchange(m.Node, r)
			if got, err := strconv.ParseInt(a.Body, 10, 64); err != nil || a.Status != http.StatusOK || a.Err != nil || got < least {
				t.Errorf("page %d of %s: status %d, %q, %v, want version %d at least", page, m.name, a.Status, a.Body, a.Err, least)
			}
		}
		if more == "" {
			check()
		} else {
			reading.Go(check) // a purge may come while it is on its way
		}
	}
	purge := func(m *member, page int, soft bool) {
		now := v.now[page].Add(1)
		selector := []string{
			fmt.Sprintf(`"surrogate_keys":["page-%d"]`, page),
			fmt.Sprintf(`"urls":["http://any.test/%d"],"ignore_query":true`, page),
			fmt.Sprintf(`"prefixes":["http://any.test/%d"]`, page),
			`"hosts":["any.test"]`,
			`"all":true`,
		}[random.IntN(5)]
		r, status := m.purge(t, fmt.Sprintf(`{%s,"soft":%v,"wait":"cluster","timeout":"8s"}`, selector, soft))
		purges++
		if r.Complete {
			complete++
		}
		note("%s purges page %d (%s, soft %v): %d %v", m.name, page, selector, soft, status, r.Complete)
		switch {
		case status == http.StatusOK && r.Complete && !soft:
			for old := floor[page].Load(); old < now && !floor[page].CompareAndSwap(old, now); old = floor[page].Load() {
			}
		case status != http.StatusOK && status != http.StatusAccepted && status != http.StatusServiceUnavailable:
			t.Errorf("a purge was answered with %d", status)
		}
	}

	away := -1 // the member that is cut off
	down := false
	for range steps {
		m := f.members[random.IntN(len(f.members))]
		page := random.IntN(len(v.now))
		switch n := random.IntN(100); {
		case n < 50:
			read(m, page, "")
		case n < 60:
			read(m, page, "?slow=1")
		case n < 82:
			purge(m, page, false)
			for _, m := range f.members {
				read(m, page, "")
			}
		case n < 86:
			purge(m, page, true)
		case n < 89:
			reading.Wait() // what is under way there must not fail
			note("%s is killed", m.name)
			m.Kill(t)
			m.Node = f.start(m)
		case n < 92 && !down:
			down = true
			note("Redis is killed")
			f.redis.Stop()
		case n < 95 && down:
			down = false
			if random.IntN(2) == 0 {
				note("Redis is back, empty")
				f.redis.RestartEmpty()
			} else {
				note("Redis is back")
				f.redis.Restart()
			}
		case n < 98 && away < 0:
			away = random.IntN(len(f.members))
			note("%s is cut off", f.members[away].name)
			f.members[away].link.Cut()
		case away >= 0:
			note("%s is connected again", f.members[away].name)
			f.members[away].link.Mend()
			away = -1
		}
		if t.Failed() {
			break
		}
	}
	reading.Wait()
	if down && !t.Failed() {
		f.redis.Restart()
	}
	if away >= 0 {
		f.members[away].link.Mend()
	}
	// In the end everything is as it should be again.
	for page := range v.now {
		if t.Failed() {
			break
		}
		now := v.now[page].Load()
		until(t, "a complete receipt", func() (receipt, bool) {
			r, status := f.members[0].purge(t, fmt.Sprintf(`{"surrogate_keys":["page-%d"],"wait":"cluster","timeout":"8s"}`, page))
			return r, status == http.StatusOK && r.Complete
		})
		for _, m := range f.members {
			if got := get(t, m.Node, path(page), "Host", "any.test").version(t); got != now {
				t.Errorf("in the end %s serves version %d of page %d, want %d", m.name, got, page, now)
			}
		}
	}
	t.Logf("%d of %d receipts were complete", complete, purges)
	if t.Failed() {
		t.Logf("seed %d:\n%s", seed, strings.Join(trouble, "\n"))
	}
}
