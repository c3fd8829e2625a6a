package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestQuantileIsTheNearestRank(t *testing.T) {
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = 100 - i
	}
	for _, c := range []struct {
		values []int
		q      float64
		want   int
	}{
		{nil, 0.5, 0},
		{[]int{7}, 0.99, 7},
		{[]int{3, 1, 2}, 0.5, 2},
		{[]int{4, 3, 1, 2}, 0.5, 2},
		{hundred, 0.50, 50},
		{hundred, 0.99, 99},
		{hundred, 0.991, 100},
		{hundred, 1, 100},
		{hundred, 0, 1},
	} {
		if got := quantile(c.values, c.q); got != c.want {
			t.Errorf("%v of %v: %d, want %d", c.q, c.values, got, c.want)
		}
	}
}

func TestFigures(t *testing.T) {
	samples := []Sample{
		{At: 0, Took: 900, Hit: true}, // before the span
		{At: 10, Took: 3, Hit: true},
		{At: 11, Took: 1, Hit: true},
		{At: 12, Took: 2, Hit: true, Fault: Old},
		{At: 13, Took: 50},
		{At: 14, Took: 800, Fault: Failed},
		{At: 20, Took: 900, Hit: true}, // after it
	}
	if got, want := figures(samples, 10, 20, isAny), (Figures{Requests: 5, Hits: 3, Failed: 1, Old: 1, P50: 2, P99: 50, Max: 50}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got, want := figures(samples, 10, 20, isHit), (Figures{Requests: 3, Hits: 3, Old: 1, P50: 2, P99: 3, Max: 3}); got != want {
		t.Errorf("hits: %+v, want %+v", got, want)
	}
	if got := (Figures{Requests: 8, Hits: 2}).hitShare(); got != 25 {
		t.Errorf("a share of %v %%, want 25", got)
	}
	if got := (Figures{}).hitShare(); got != 0 {
		t.Errorf("a share of nothing: %v", got)
	}
}

func TestOriginLoadCountsWholeSeconds(t *testing.T) {
	seconds := []second{{1, 10}, {2, 20}, {6, 40}, {90, 900}}
	conditional, whole, peak := originLoad(seconds, [2]time.Duration{time.Second, 3500 * time.Millisecond})
	if conditional != 4 || whole != 30 || peak != 6 {
		t.Errorf("%v and %v per second, %d at most; want 4, 30 and 6", conditional, whole, peak)
	}
	if conditional, _, _ := originLoad(nil, [2]time.Duration{0, time.Hour}); conditional != 0 {
		t.Errorf("of no seconds: %v", conditional)
	}
}

func TestTable(t *testing.T) {
	table := Table{Title: "T", Note: "How.", Head: []string{"measure", "a"}, Foot: "So."}
	table.add("time", millis(1500*time.Microsecond))
	table.add("bar", verdict("1 ms", false))
	want := "### T\n\nHow.\n\n| measure | a |\n| --- | ---: |\n| time | 1.50 ms |\n| bar | 1 ms: MISSED |\n\nSo.\n\n"
	if got := table.render(); got != want {
		t.Errorf("%q\nwant %q", got, want)
	}
}

func TestReceive(t *testing.T) {
	read := func(text string) (Answer, error) {
		c := &Conn{in: bufio.NewReader(strings.NewReader(text))}
		return c.receive()
	}
	a, err := read("HTTP/1.1 200 OK\r\ncontent-length: 3\r\nCache-Status: edge; hit; ttl=9\r\n\r\nabcHTTP/1.1")
	if err != nil || a.Status != 200 || !a.Hit || string(a.Body) != "abc" {
		t.Errorf("%+v, %v", a, err)
	}
	if a, err = read("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nCache-Status: edge; fwd=miss; stored\r\n\r\n"); err != nil || a.Hit {
		t.Errorf("%+v, %v", a, err)
	}
	for _, bad := range []string{
		"",
		"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 2",
		"HTTP/1.1 \r\n\r\n",
		"HTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc",
		"HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n",
	} {
		if a, err := read(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, a)
		}
	}
}

func TestOriginHasVersions(t *testing.T) {
	o, err := startOrigin(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(object int, match string) (int, int64, string) {
		t.Helper()
		r, err := http.NewRequest("GET", fmt.Sprintf("http://%s/%d", o.Address, object), nil)
		if err != nil {
			t.Fatal(err)
		}
		if match != "" {
			r.Header.Set("If-None-Match", match)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		version, ok := versionOf(body)
		if ok != (res.StatusCode == 200) {
			t.Errorf("status %d with %q", res.StatusCode, body)
		}
		return res.StatusCode, version, res.Header.Get("Etag")
	}
	o.versions[1].Store(7)
	status, version, tag := ask(1, "")
	if status != 200 || version != 7 {
		t.Errorf("status %d, version %d", status, version)
	}
	if status, _, _ := ask(1, tag); status != 304 {
		t.Errorf("status %d for what has not changed", status)
	}
	o.versions[1].Store(8)
	if status, version, _ := ask(1, tag); status != 200 || version != 8 {
		t.Errorf("status %d, version %d for what has", status, version)
	}
	if status, version, _ := ask(1_000_000, ""); status != 200 || version != 0 {
		t.Errorf("past the versions: status %d, version %d", status, version)
	}
	if fetched, conditional := o.fetched.Load(), o.conditional.Load(); fetched != 4 || conditional != 2 {
		t.Errorf("%d requests, %d conditional; want 4 and 2", fetched, conditional)
	}
	http.DefaultClient.CloseIdleConnections()
	if err := o.close(); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", o.Address); err == nil {
		t.Error("listens after the end")
	}
}

// A Load counts each answer for what it is, and goes on after failures.
func TestLoadJudgesAnswers(t *testing.T) {
	const most = 400
	var n atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/0":
			w.Header().Set("Cache-Status", "edge; hit; ttl=1")
			w.Write(bodyOf(5))
		case "/1":
			w.Write(bodyOf(4))
		case "/2":
			w.WriteHeader(500)
		case "/3":
			panic(http.ErrAbortHandler)
		}
	}))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l := &Load{Addresses: []string{server.Listener.Addr().String()}, Rate: 4000, Connections: 3, Next: func() Request {
		i := n.Add(1) - 1
		if i == most-1 {
			cancel() // with this one
		}
		return Request{Raw: get(int(i % 4)), Class: uint8(i % 4), Floor: 5}
	}}
	samples, err := l.start(ctx).wait()
	if err == nil {
		t.Error("no request failed")
	}
	if got := len(samples); got < most-1 || got > most {
		t.Errorf("%d samples of %d requests", got, most)
	}
	want := map[uint8]Fault{0: Fine, 1: Old, 2: Failed, 3: Failed}
	for _, s := range samples {
		if s.Fault != want[s.Class] || s.Hit != (s.Class == 0) || s.Took <= 0 {
			t.Errorf("%+v, want fault %d", s, want[s.Class])
		}
	}
}

// What waits for a server that stalls counts from when it was due.
func TestLoadIsOpen(t *testing.T) {
	stall := make(chan struct{})
	var first atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if first.CompareAndSwap(false, true) {
			<-stall
		}
		w.Write(bodyOf(0))
	}))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	asked := 0
	l := &Load{Addresses: []string{server.Listener.Addr().String()}, Rate: 1000, Connections: 1, Next: func() Request {
		if asked++; asked == 2 {
			// It finds the one connection busy, and so do those due after it.
			time.AfterFunc(50*time.Millisecond, func() { close(stall) })
		}
		if asked == 40 {
			cancel()
		}
		return Request{Raw: get(0)}
	}}
	samples, err := l.start(ctx).wait()
	if err != nil {
		t.Fatal(err)
	}
	late := 0
	for _, s := range samples {
		if s.Took >= 10*time.Millisecond {
			late++
		}
	}
	if late < 20 {
		t.Errorf("%d of %d requests show the stall, want those that were due in it", late, len(samples))
	}
}

func TestParse(t *testing.T) {
	o, err := parse([]string{"-work", "^purge|collapse", "-quick", "-rounds", "3"})
	if err != nil || len(o.works) != 2 || o.works[1].Name != "collapse" || o.rounds != 1 {
		t.Errorf("%+v, %v", o, err)
	}
	for _, bad := range [][]string{{"-work", "nothing"}, {"-work", "("}, {"-rounds", "0"}, {"more"}} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestParseAnswer(t *testing.T) {
	const whole = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nCache-Status: edge; hit; ttl=3\r\n\r\nab"
	for n := range len(whole) {
		if a, err := parseAnswer([]byte(whole[:n])); a != nil || err != nil {
			t.Errorf("%q: %v, %v", whole[:n], a, err)
		}
	}
	if a, err := parseAnswer([]byte(whole)); err != nil || a.Status != 200 || !a.Hit || string(a.Body) != "ab" {
		t.Errorf("%v, %v", a, err)
	}
	if a, err := parseAnswer([]byte(strings.Replace(whole, "hit", "fwd=miss", 1))); err != nil || a.Hit {
		t.Errorf("%v, %v", a, err)
	}
	for _, wrong := range []string{whole + "c", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n"} {
		if a, err := parseAnswer([]byte(wrong)); err == nil {
			t.Errorf("%q: %v", wrong, a)
		}
	}
}
