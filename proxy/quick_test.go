package proxy

import (
	"bufio"
	"context"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edge/cachestore"
	"edge/cachestore/memory"
	"edge/proxy/wire"
)

// entrance is a listener in front of a rig, and what it last told the observer.
type entrance struct {
	t       *testing.T
	address string
	done    chan Record
	quick   atomic.Int64 // requests answered at the door
}

// enter opens a listener in front of a router, with or without answers at the door.
func enter(t *testing.T, router *Router, quick bool) *entrance {
	t.Helper()
	e := &entrance{t: t, done: make(chan Record, 1)}
	observer := &Observer{Done: func(rec *Record) { e.done <- *rec }}
	var o wire.Options
	if quick {
		door := &Door{Router: router, Observer: observer, Client: func(a *wire.Answer) string { return a.Remote() }}
		o.Prefetch, o.Answered = door.Prefetch, door.Answered
		o.Answer = func(a *wire.Answer) bool {
			answered := door.Answer(a)
			if answered {
				e.quick.Add(1)
			}
			return answered
		}
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := wire.NewListener(inner, o)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: observer.Observe(router), ConnState: func(c net.Conn, state http.ConnState) {
		if state == http.StateIdle {
			c.(*wire.Conn).Idle()
		}
	}}
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve(l)
	}()
	t.Cleanup(func() {
		server.Close()
		<-served
		if err := l.Drain(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	e.address = l.Addr().String()
	return e
}

// ask sends one request and returns its answer, without the fields that are of the
// connection, and what was recorded.
func (e *entrance) ask(request string) (got answer, rec Record) {
	e.t.Helper()
	c, err := net.Dial("tcp", e.address)
	if err != nil {
		e.t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, request)
	method, _, _ := strings.Cut(request, " ")
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		e.t.Fatalf("%q: %v", request, err)
	}
	body, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(body), err}, <-e.done
}

// TestQuickIsTheSame: what is answered at the door is answered as it would be
// otherwise, to the last byte and the last field of the record.
func TestQuickIsTheSame(t *testing.T) {
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Cache-Control", "max-age=60")
		switch r.URL.Path {
		case "/vary":
			header.Set("Vary", "Accept-Language, x-shop, Accept-Encoding")
		case "/private":
			header.Set("Cache-Control", "private")
		case "/stale":
			header.Set("Age", "100")
			header.Set("Cache-Control", "max-age=60, stale-while-revalidate=600")
		case "/empty":
			w.WriteHeader(http.StatusNoContent)
			return
		case "/odd":
			header.Set("Content-Length", "0")
			w.WriteHeader(299)
			return
		case "/large":
			io.WriteString(w, strings.Repeat("large ", 50_000))
			return
		case "/many":
			header["Link"] = []string{"</a>", "</b>"}
			header["Cache-Status"] = []string{"inner; hit"}
			header.Set("Age", "5")
		}
		header.Set("Etag", `"one"`)
		header.Set("Surrogate-Key", "a b")
		header.Set("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
		io.WriteString(w, "hello "+r.Header.Get("Accept-Language")+" "+r.URL.RawQuery)
	}, func(h *Handler) {
		h.Cache.Memory = h.Cache.Store.(*memory.Store)
		h.Rules.KeyDenyQuery = []string{"utm"}
		h.Rules.Response = HeaderRules{Remove: []string{"Last-Modified"},
			Set: []HeaderRule{constantly("X-Frame-Options", "DENY"), constantly("Link", "</c>")}, Add: []HeaderRule{constantly("Vary", "Origin")}}
	})
	ruled := &Handler{Cache: rg.cache, Site: "site", Route: "ruled", OriginURL: rg.handler.OriginURL, Origin: rg.handler.Origin, Rules: rg.handler.Rules}
	ruled.Rules.Response = HeaderRules{Set: []HeaderRule{{Name: "X-Path", Value: func(r *http.Request) string { return r.URL.Path }}}}
	if err := ruled.Open(); err != nil {
		t.Fatal(err)
	}
	router, err := NewRouter("edge", []Site{{Name: "site", Hosts: []string{"shop.test"}, Routes: []Route{
		{Name: "posts", Path: "/*", Methods: []string{"POST"}, Handler: rg.handler},
		{Name: "when", Path: "/when/*", When: func(r *http.Request) bool { return r.Header["X-When"] != nil }, Handler: rg.handler},
		{Name: "ruled", Path: "/ruled", Handler: ruled},
		{Name: "route", Path: "/*", Handler: rg.handler},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	long, short := enter(t, router, false), enter(t, router, true)

	for _, test := range []struct {
		name, line, fields string
		quick              bool
	}{
		{"plain", "GET /", "", true},
		{"query", "GET /?a=1&b", "", true},
		{"denied query", "GET /?utm=1", "", true},
		{"partly denied query", "GET /?a=1&utm=1", "", true},
		{"empty query", "GET /?", "", true},
		{"head", "HEAD /", "", true},
		{"user agent", "GET /", "User-Agent: test/1\r\n", true},
		{"etag", "GET /", "If-None-Match: W/\"one\"\r\n", true},
		{"etag and head", "HEAD /", "if-none-match: \"one\"\r\n", true},
		{"other etag", "GET /", "If-None-Match: \"two\"\r\n", true},
		{"modified", "GET /", "If-Modified-Since: Mon, 01 Jan 2024 00:00:00 GMT\r\n", true},
		{"encoded path", "GET /%7euser/%C3%A9", "", true},
		{"upper-case host", "GET /", "", true},
		{"vary", "GET /vary", "Accept-Language: de\r\nX-Shop: a\r\nx-shop: b\r\nAccept-Encoding: br;q=1, gzip\r\n", true},
		{"vary, nothing sent", "GET /vary", "", true},
		{"empty", "GET /empty", "", true},
		{"odd status", "GET /odd", "", true},
		{"large", "GET /large", "", true},
		{"many", "GET /many", "", true},
		{"cookie", "GET /", "Cookie: a=b\r\nX-Forwarded-Host: evil\r\n", true},
		{"min-fresh", "GET /", "Cache-Control: min-fresh=1\r\n", true},
		{"range", "GET /", "Range: bytes=1-3\r\n", false},
		{"dots", "GET /a/../b", "", false},
		{"no-cache", "GET /", "Cache-Control: no-cache\r\n", false},
		{"pragma", "GET /", "Pragma: no-cache\r\n", false},
		{"max-age", "GET /", "Cache-Control: max-age=0\r\n", false},
		{"private", "GET /private", "", false},
		{"stale", "GET /stale", "", false},
		{"loop", "GET /", "Cdn-Loop: edge\r\n", false},
		{"post", "POST /", "", false},
		{"event stream", "GET /", "Accept: text/event-stream\r\n", false},
		{"depends on more", "GET /when/a", "", false},
		{"rule of the request", "GET /ruled", "", false},
		{"old", "GET /", "TE: trailers\r\n", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			request := test.line + " HTTP/1.1\r\nHost: shop.test\r\n" + test.fields + "\r\n"
			if test.name == "upper-case host" {
				request = strings.Replace(request, "shop", "Shop", 1)
			}
			first := strings.Replace(request, "HEAD ", "GET ", 1)
			long.ask(first) // stores it
			var want, got answer
			var slow, fast Record
			for range 3 { // the age may tick between the two
				want, slow = long.ask(request)
				short.quick.Store(0)
				got, fast = short.ask(request)
				if got.header.Get("Age") == want.header.Get("Age") {
					break
				}
			}
			if quick := short.quick.Load() == 1; quick != test.quick {
				t.Errorf("answered at the door: %v; the long way it is a %v", quick, slow.Outcome)
			}
			if got.status != want.status || got.body != want.body || !maps.EqualFunc(got.header, want.header, slices.Equal) {
				t.Errorf("got %d %v %.40q, want %d %v %.40q", got.status, got.header, got.body, want.status, want.header, want.body)
			}
			if test.quick && (fast.FirstByte <= 0 || fast.Total < fast.FirstByte || fast.Client == "" || time.Since(fast.Started) > time.Minute) {
				t.Errorf("recorded %+v", fast)
			}
			for _, rec := range []*Record{&slow, &fast} {
				rec.FirstByte, rec.Total, rec.Origin, rec.Started, rec.Client = 0, 0, 0, time.Time{}, ""
			}
			if slow != fast {
				t.Errorf("recorded %+v, want %+v", fast, slow)
			}
		})
	}
}

func constantly(name, value string) HeaderRule {
	return HeaderRule{Name: name, Value: func(*http.Request) string { return value }, Constant: &value}
}

// shelf is a rig with 40 pages in memory, page n under the surrogate key kn, and a door to
// them that belongs to no connection.
func shelf(t *testing.T) (rg *rig, door *Door, request func(n int) *wire.Answer) {
	rg = newRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("Surrogate-Key", "k"+r.URL.Path[1:])
		if strings.HasSuffix(r.URL.Path, "3") {
			w.Header().Set("Vary", "Accept-Language")
		}
		io.WriteString(w, "page "+r.URL.Path)
	}, func(h *Handler) { h.Cache.Memory = h.Cache.Store.(*memory.Store) })
	for n := range 40 {
		rg.get("/" + strconv.Itoa(n))
	}
	host := strings.TrimPrefix(rg.url, "http://")
	return rg, &Door{Router: rg.router, Observer: &Observer{Done: func(*Record) {}}}, func(n int) *wire.Answer {
		a := &wire.Answer{Started: time.Now()}
		a.Method, a.Target, a.Host = http.MethodGet, "/"+strconv.Itoa(n), host
		return a
	}
}

// TestNoAnswerOutlivesItsPurge: of requests that are answered at the door while pages are
// purged each gets its own page, and none that comes after a purge gets what was purged,
// whether it was looked ahead to or not, and whatever was asked before it.
func TestNoAnswerOutlivesItsPurge(t *testing.T) {
	rg, door, request := shelf(t)
	stop := make(chan struct{})
	var asking sync.WaitGroup
	defer asking.Wait()
	defer close(stop)
	for range 2 {
		asking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				var all, coming []*wire.Answer
				for range 16 {
					a := request(rand.IntN(40))
					if rand.IntN(8) == 0 {
						a.Target = "/../" // not for the door
					}
					if all = append(all, a); rand.IntN(3) > 0 {
						coming = append(coming, a)
					}
				}
				door.Prefetch(coming)
				for _, a := range all {
					if !door.Answer(a) {
						if a.State != nil {
							t.Error("something is left of a request that was not answered")
						}
						continue
					}
					if body := string(slices.Concat(a.Body...)); body != "page "+a.Target {
						t.Errorf("%s got %q", a.Target, body)
					}
					door.Answered(a, 1)
				}
				runtime.Gosched() // there may be one processor for all
			}
		})
	}
	for range 200 {
		n := rand.IntN(40)
		rg.ledger.purge(testPurge{tag: hashOf("k" + strconv.Itoa(n))})
		a := request(n)
		if n%2 == 0 {
			door.Prefetch([]*wire.Answer{a})
		}
		if door.Answer(a) {
			t.Fatalf("%s was answered behind its purge", a.Target)
		}
		rg.get(a.Target)
	}
}

// during is a memory that something happens to while it is asked.
type during struct {
	Memory
	f func()
}

func (m during) Seek(keys []cachestore.Key, spots []cachestore.Spot) {
	m.f()
	m.Memory.Seek(keys, spots)
}

// TestTrustBeforeTheLook: what was looked for while the log of purges was lost is not
// answered with, though the log has come back before the answer.
func TestTrustBeforeTheLook(t *testing.T) {
	rg, door, request := shelf(t)
	cache := rg.handler.Cache
	cache.Memory = &during{cache.Memory, func() { rg.ledger.fence(false) }}
	for _, ahead := range []bool{true, false} {
		rg.ledger.fence(true)
		a := request(1)
		if ahead {
			door.Prefetch([]*wire.Answer{a})
		}
		if door.Answer(a) {
			t.Errorf("answered, looked ahead to: %v", ahead)
		}
		if a = request(1); !door.Answer(a) {
			t.Error("not answered with the log there")
		}
	}
}

// TestAQuickHitAllocatesNothing counts what the whole process allocates while requests
// are answered at the door, over a real connection.
func TestAQuickHitAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("with the race detector, pools lose things on purpose")
	}
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("Etag", `"one"`)
		if r.URL.Path == "/vary" {
			w.Header().Set("Vary", "Accept-Encoding, Accept-Language")
		}
		io.WriteString(w, strings.Repeat("x", 1024))
	}, func(h *Handler) { h.Cache.Memory = h.Cache.Store.(*memory.Store) })
	door := &Door{Router: rg.router, Observer: &Observer{Done: func(*Record) {}}}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := wire.NewListener(inner, wire.Options{Prefetch: door.Prefetch, Answer: door.Answer, Answered: door.Answered})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		l.Close()
		l.Drain(context.Background())
	}()
	for name, fields := range map[string]string{
		"/": "", "/vary": "Accept-Language: de, en;q=0.5\r\nAccept-Encoding: gzip, br\r\n", "/?browser": "User-Agent: Mozilla/5.0\r\nAccept: */*\r\n" +
			"Accept-Language: en\r\nAccept-Encoding: gzip, deflate, br\r\nReferer: http://a/\r\nSec-Fetch-Mode: navigate\r\nConnection: keep-alive\r\n",
		"/?again": "If-None-Match: \"one\"\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			host := strings.TrimPrefix(rg.url, "http://")
			request := []byte("GET " + name + " HTTP/1.1\r\nHost: " + host + "\r\n" + fields + "\r\n")
			pairs := []string{}
			for line := range strings.SplitSeq(fields, "\r\n") {
				if field, value, ok := strings.Cut(line, ": "); ok && field != "If-None-Match" && field != "Connection" {
					pairs = append(pairs, field, value)
				}
			}
			rg.eventually("a hit", func() bool {
				return strings.Contains(rg.get(name, pairs...).header.Get("Cache-Status"), "hit")
			})
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(20 * time.Second))
			buffer := make([]byte, 4096)
			size := 0 // of an answer
			ask := func() {
				if _, err := c.Write(request); err != nil {
					t.Fatal(err)
				}
				for n := 0; n == 0 || n < size; {
					m, err := c.Read(buffer[n:])
					if err != nil {
						t.Fatal(err)
					}
					n += m
					if size == 0 {
						size = n
					}
				}
			}
			for range 100 {
				ask()
			}
			if got := testing.AllocsPerRun(500, ask); got > 0 {
				t.Errorf("%v allocations for one hit at the door", got)
			}
		})
	}
}
