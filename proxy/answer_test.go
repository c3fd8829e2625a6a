package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"edge/cachestore"
)

// RFC 9211 section 2.2: "stale" says that there was a response to select.
func TestCacheStatusTellsWhyTheOriginWasAsked(t *testing.T) {
	const clients = 5
	first := make(chan struct{})
	var fetches atomic.Int64
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		if fetches.Add(1) == 1 {
			<-first
		}
		w.Header().Set("Cache-Control", "private")
	}, nil)
	go func() {
		rg.eventually("all wait for one flight", func() bool { return rg.fillReaders() == clients })
		close(first)
	}()
	for _, got := range together(clients, func(int) answer { return rg.get("/") }) {
		if status := got.header.Get("Cache-Status"); strings.Contains(status, "fwd=stale") {
			t.Errorf("nothing was ever stored, and Cache-Status says %q", status)
		}
	}
}

// upgradeOrigin answers a WebSocket upgrade with 101 and echoes one line, or
// refuses it.
func upgradeOrigin(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/refused" || r.Header.Get("Upgrade") == "" {
		io.WriteString(w, "no tunnel")
		return
	}
	conn, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	io.WriteString(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	rw.Flush()
	line, _ := rw.ReadString('\n')
	io.WriteString(rw, line)
	rw.Flush()
}

func TestAnUpgradeIsATunnelAndIsRecorded(t *testing.T) {
	rg := newRig(t, upgradeOrigin, nil)
	conn, err := net.Dial("tcp", strings.TrimPrefix(rg.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	reader := bufio.NewReader(conn)
	res, err := http.ReadResponse(reader, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%+v, %v", res, err)
	}
	io.WriteString(conn, "echo\n")
	if line, err := reader.ReadString('\n'); line != "echo\n" {
		t.Fatalf("%q, %v", line, err)
	}
	conn.Close()
	rg.eventually("the tunnel has ended", func() bool { return len(rg.observed()) == 1 })
	if rec := rg.observed()[0]; rec.Status != http.StatusSwitchingProtocols {
		t.Errorf("recorded with status %d", rec.Status)
	}
}

// What follows an upgrade on the connection may have been meant for a tunnel.
func TestAConnectionEndsWithARefusedUpgrade(t *testing.T) {
	rg := newRig(t, upgradeOrigin, nil)
	got := rg.raw("GET /refused HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" +
		"GET /second HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	if got.status != 200 || got.header.Get("Connection") != "close" {
		t.Errorf("answered %d with Connection %q", got.status, got.header.Get("Connection"))
	}
}

func TestTrailersDoNotBringFieldsBackIn(t *testing.T) {
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "private")
		w.Header().Set("Trailer", "X-Sum, Set-Cookie, Cache-Control, Surrogate-Key")
		io.WriteString(w, "body")
		w.(http.Flusher).Flush()
		for _, name := range []string{"X-Sum", "Set-Cookie", "Surrogate-Key"} {
			w.Header().Set(name, "1")
		}
		w.Header().Set("Cache-Control", "public, max-age=60")
	}, nil)
	res, err := http.Get(rg.url + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	io.Copy(io.Discard, res.Body)
	if res.Trailer.Get("X-Sum") != "1" {
		t.Errorf("an honest trailer was lost: %v", res.Trailer)
	}
	for _, name := range []string{"Set-Cookie", "Cache-Control", "Surrogate-Key"} {
		if res.Trailer.Get(name) != "" {
			t.Errorf("trailer %s: %s", name, res.Trailer.Get(name))
		}
	}
}

// A stale answer that took the origin's time-out to come is that much older.
func TestAgeCountsTheWaitForTheOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		origin := roundTrip(func(r *http.Request) (*http.Response, error) {
			if down.Load() {
				time.Sleep(30 * time.Second) // of the bubble's clock
				return &http.Response{StatusCode: 503, Header: http.Header{}, Body: http.NoBody}, nil
			}
			return &http.Response{StatusCode: 200, Header: http.Header{"Cache-Control": {"max-age=60, stale-if-error=600"}}, Body: http.NoBody}, nil
		})
		cache := &Cache{Node: "edge", Store: new(oneEntry)}
		cache.Open()
		defer cache.Close(context.Background())
		h := &Handler{Cache: cache, Site: "s", OriginURL: &url.URL{Scheme: "http", Host: "o"}, Origin: origin, Rules: Rules{Cache: true}}
		if err := h.Open(); err != nil {
			t.Fatal(err)
		}
		ask := func() *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
			synctest.Wait()
			return w
		}
		ask()
		time.Sleep(100 * time.Second)
		down.Store(true)
		w := ask()
		if age, _ := strconv.Atoi(w.Header().Get("Age")); w.Code != 200 || age < 130 {
			t.Errorf("answered %d with Age %d, 130 seconds after the response was made", w.Code, age)
		}
	})
}

// oneEntry is a Store of one entry without Vary, with no goroutine of its own.
type oneEntry struct {
	entry atomic.Pointer[cachestore.Entry]
	marks cachestore.Marks
}

func (s *oneEntry) Get(_ context.Context, key cachestore.Key, _ string) cachestore.Found {
	if e := s.entry.Load(); e != nil && e.Key == key {
		return cachestore.Found{Entry: e, Marks: &s.marks}
	}
	return cachestore.Found{}
}

func (s *oneEntry) Put(_ context.Context, e *cachestore.Entry) error { s.entry.Store(e); return nil }
func (s *oneEntry) Delete(_ context.Context, e *cachestore.Entry)    { s.entry.CompareAndSwap(e, nil) }

// With no-store the answer is for this client alone: when it leaves, the origin's
// work is in vain.
func TestAFetchForOneClientEndsWithIt(t *testing.T) {
	began, left := make(chan struct{}), make(chan struct{})
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		close(left)
	}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, rg.url+"/", nil)
	req.Header.Set("Cache-Control", "no-store")
	gone := make(chan struct{})
	go func() {
		http.DefaultTransport.RoundTrip(req)
		close(gone)
	}()
	<-began
	cancel()
	<-gone
	select {
	case <-left:
	case <-time.After(2 * time.Second): // only when it is never to end
		t.Error("the origin works on for a client that has left")
	}
}

// Every way to answer from what is stored has one body, and says its length.
func TestConditionsAndRangesOfMissesAndHitsAgree(t *testing.T) {
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Etag", `"v"`)
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		if r.Header.Get("Range") != "" || r.Header.Get("If-None-Match") != "" {
			t.Error("a part or a condition of one client went to the origin")
		}
		w.Header().Set("Content-Length", "10")
		io.WriteString(w, "0123456789")
	}, nil)
	for i, c := range []struct {
		fields []string
		status int
		body   string
		ranged string
	}{
		{[]string{"Range", "bytes=2-4"}, 206, "234", "bytes 2-4/10"},
		{[]string{"Range", "bytes=-3"}, 206, "789", "bytes 7-9/10"},
		{[]string{"Range", "bytes=10-"}, 416, "", "bytes */10"},
		{[]string{"Range", "bytes=2-4", "If-Range", `"other"`}, 200, "0123456789", ""},
		{[]string{"Range", "bytes=2-4", "If-Range", `"v"`}, 206, "234", "bytes 2-4/10"},
		{[]string{"If-None-Match", `W/"v"`}, 304, "", ""},
		{[]string{"If-None-Match", `"v"`, "Range", "bytes=2-4"}, 304, "", ""},
		{[]string{"If-Modified-Since", "Mon, 02 Jan 2006 15:04:05 GMT"}, 304, "", ""},
		{[]string{"If-None-Match", `"x"`, "If-Modified-Since", "Mon, 02 Jan 2006 15:04:05 GMT"}, 200, "0123456789", ""},
	} {
		path := fmt.Sprint("/", i)
		for _, kind := range []string{"miss", "hit"} {
			got := rg.get(path, c.fields...)
			length := got.header.Get("Content-Length")
			if got.err != nil || got.status != c.status || got.body != c.body || got.header.Get("Content-Range") != c.ranged {
				t.Errorf("%v, %s: %d %q, Content-Range %q, %v", c.fields, kind, got.status, got.body, got.header.Get("Content-Range"), got.err)
			}
			if c.status != 304 && length != strconv.Itoa(len(c.body)) {
				t.Errorf("%v, %s: Content-Length %q for %d bytes", c.fields, kind, length, len(c.body))
			}
			if kind == "miss" {
				rg.eventually("stored", func() bool { return rg.cache.Stats().Stored == int64(i+1) })
			} else if !strings.HasPrefix(got.header.Get("Cache-Status"), "edge; hit") {
				t.Errorf("%v: the second was no hit: %s", c.fields, got.header.Get("Cache-Status"))
			}
		}
	}
}

// A node that drains says so on every answer, those with early hints included.
func TestEarlyHintsDoNotClearWhatWasSaidBefore(t *testing.T) {
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		io.WriteString(w, "page")
	}, nil)
	router, err := NewRouter("edge", []Site{{Name: "site", Hosts: []string{"*"}, Routes: []Route{{Name: "route", Path: "/*", Handler: rg.handler}}}})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		router.ServeHTTP(w, r)
	}))
	defer front.Close()
	res, err := http.Get(front.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if !res.Close {
		t.Error("the connection was to be closed, and stays open")
	}
}
