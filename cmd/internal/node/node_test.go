package node

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edge/config"
)

// start opens a node in front of origin and closes it with the test. Change may be
// nil.
func start(t *testing.T, origin string, log io.Writer, change func(*config.Config)) *Node {
	t.Helper()
	n := build(t, origin, log, change)
	if err := n.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close(t.Context()) }) // which has ended by then: at once
	return n
}

func build(t *testing.T, origin string, log io.Writer, change func(*config.Config)) *Node {
	t.Helper()
	cfg, err := config.Default(origin, "127.0.0.1:0", "127.0.0.1:0", "")
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(cfg)
	}
	n, err := New(cfg, slog.New(slog.NewJSONHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// client returns a client of its own connections, closed with the test.
func client(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func get(t *testing.T, c *http.Client, url string) (*http.Response, string) {
	t.Helper()
	res, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

// stats asks a node's admin listener.
func stats(t *testing.T, c *http.Client, n *Node) Stats {
	t.Helper()
	_, body := get(t, c, "http://"+n.Admin()+"/stats")
	var s Stats
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return s
}

// eventually waits for something that nothing announces.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if !until(ctx, so) {
		t.Fatalf("never came true: %s", what)
	}
}

func TestThreeNodesInOneProcess(t *testing.T) {
	var fetched [3]atomic.Int32
	var nodes [3]*Node
	for i := range nodes {
		origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fetched[i].Add(1)
			w.Header().Set("Cache-Control", "max-age=60")
			fmt.Fprintf(w, "content of %d", i)
		}))
		t.Cleanup(origin.Close)
		nodes[i] = start(t, origin.URL, io.Discard, nil)
	}
	c := client(t)
	for i, n := range nodes {
		for range 3 {
			if _, body := get(t, c, "http://"+n.Listen()[0]+"/page"); body != fmt.Sprintf("content of %d", i) {
				t.Errorf("node %d answered %q", i, body)
			}
		}
		if got := fetched[i].Load(); got != 1 {
			t.Errorf("node %d asked its origin %d times, want 1", i, got)
		}
		s := stats(t, c, n)
		if s.Requests.Outcomes["miss"] != 1 || s.Requests.Outcomes["hit"] != 2 {
			t.Errorf("node %d counted %v, want one miss and two hits", i, s.Requests.Outcomes)
		}
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("life", func(t *testing.T) {
		origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
		}))
		defer origin.Close()
		for range 3 {
			n := build(t, origin.URL, io.Discard, nil)
			if err := n.Open(); err != nil {
				t.Fatal(err)
			}
			get(t, client(t), "http://"+n.Listen()[0]+"/")
			get(t, client(t), "http://"+n.Admin()+"/readyz")
			n.Close(t.Context())
			for _, address := range append(n.Listen(), n.Admin()) {
				if c, err := net.Dial("tcp", address); err == nil {
					c.Close()
					t.Errorf("something still listens on %s", address)
				}
			}
		}
	})
	eventually(t, "all goroutines have ended", func() bool { return runtime.NumGoroutine() <= before })
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	before := runtime.NumGoroutine()
	n := build(t, "http://127.0.0.1:1", io.Discard, func(c *config.Config) { c.Admin.Listen = l.Addr().String() })
	if err := n.Open(); err == nil || !strings.Contains(err.Error(), "admin listener") {
		t.Errorf("got %v, want to hear of the admin listener", err)
	}
	if c, err := net.Dial("tcp", n.Listen()[0]); err == nil {
		c.Close()
		t.Error("the public listener was left open")
	}
	eventually(t, "nothing was started", func() bool { return runtime.NumGoroutine() <= before })
}

// A request under way when the node is told to stop gets its whole answer; nobody
// new gets in; the admin listener says what is going on until the end.
func TestDrain(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(asked)
		<-release
		io.WriteString(w, "whole")
	}))
	defer origin.Close()

	n := build(t, origin.URL, io.Discard, nil)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- n.Run(ctx, func() { close(ready) }) }()
	<-ready
	type answer struct {
		body string
		err  error
	}
	answers := make(chan answer, 1)
	c := client(t)
	go func() {
		res, err := c.Get("http://" + n.Listen()[0] + "/slow")
		if err != nil {
			answers <- answer{err: err}
			return
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		answers <- answer{string(body), err}
	}()
	<-asked
	stop()

	admin := client(t)
	eventually(t, "/readyz says that the node drains", func() bool {
		res, body := get(t, admin, "http://"+n.Admin()+"/readyz")
		return res.StatusCode == http.StatusServiceUnavailable && strings.Contains(body, "draining")
	})
	if res, _ := get(t, admin, "http://"+n.Admin()+"/healthz"); res.StatusCode != http.StatusOK {
		t.Errorf("/healthz answers %d while draining: the node is alive", res.StatusCode)
	}
	eventually(t, "new connections are refused", func() bool {
		fresh, err := net.Dial("tcp", n.Listen()[0])
		if err == nil {
			fresh.Close()
		}
		return err != nil
	})
	select {
	case err := <-ended:
		t.Fatalf("ended with %v before its request", err)
	default:
	}
	close(release)
	if a := <-answers; a.err != nil || a.body != "whole" {
		t.Errorf("got %+v, want the whole answer", a)
	}
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// A client on a connection that it keeps finds out by an answer that the node
// goes, and not by a reset.
func TestDrainTellsKeptConnections(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	defer origin.Close()
	n := build(t, origin.URL, io.Discard, nil)
	if err := n.Open(); err != nil {
		t.Fatal(err)
	}
	defer n.Close(t.Context())
	c, err := net.Dial("tcp", n.Listen()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	ask := func() *http.Response {
		t.Helper()
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res
	}
	if ask().Close {
		t.Error("the connection was not kept while the node was ready")
	}
	n.state.Store(int32(phaseDraining))
	if !ask().Close {
		t.Error("the answer of a draining node does not say that it closes")
	}
}

func TestGraceEnds(t *testing.T) {
	asked := make(chan struct{})
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done() // never answers
	}))
	defer origin.Close()
	var log syncBuffer
	n := build(t, origin.URL, &log, nil)
	if err := n.Open(); err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	c := client(t)
	go func() {
		res, err := c.Get("http://" + n.Listen()[0] + "/never")
		if err == nil {
			res.Body.Close()
		}
		failed <- err
	}()
	<-asked
	n.Close(canceled())
	if err := <-failed; err == nil {
		t.Error("the request was answered")
	}
	if !strings.Contains(log.String(), "cut off") {
		t.Errorf("nothing in the log of requests cut off: %s", &log)
	}
}

// A tunnel has no end of its own: it must not hold up the node's.
func TestTunnelEndsWithTheNode(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		io.Copy(c, buffered) // an echo
	}))
	defer origin.Close()
	n := build(t, origin.URL, io.Discard, nil)
	if err := n.Open(); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", n.Listen()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET /socket HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %v and %v, want a tunnel", res, err)
	}
	io.WriteString(c, "ping\n")
	if line, err := r.ReadString('\n'); err != nil || line != "ping\n" {
		t.Fatalf("got %q and %v through the tunnel", line, err)
	}
	if active := n.Stats().Requests.Active; active != 1 {
		t.Errorf("%d requests under way, want the tunnel", active)
	}

	grace, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	n.Close(grace)
	if active := n.Stats().Requests.Active; active != 0 {
		t.Errorf("%d requests outlived the node", active)
	}
	if _, err := r.ReadByte(); err == nil {
		t.Error("the tunnel is still open")
	}
}

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// lines returns the records in the log with this message.
func (b *syncBuffer) lines(t *testing.T, msg string) []map[string]any {
	t.Helper()
	var found []map[string]any
	for line := range strings.Lines(b.String()) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if record["msg"] == msg {
			found = append(found, record)
		}
	}
	return found
}

func TestAccessLog(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "12345")
	}))
	defer origin.Close()
	var log syncBuffer
	n := start(t, origin.URL, &log, nil)
	c := client(t)
	for range 2 {
		get(t, c, "http://"+n.Listen()[0]+"/a/../p?q=%1b[31m")
	}
	eventually(t, "two lines are written", func() bool { return len(log.lines(t, "request")) == 2 })
	miss, hit := log.lines(t, "request")[0], log.lines(t, "request")[1]
	for field, want := range map[string]any{
		"level": "INFO", "client": "127.0.0.1", "method": "GET", "host": n.Listen()[0], "url": "/a/../p?q=%1b[31m",
		"status": 200.0, "outcome": "miss", "site": "default", "bytes": 5.0, "origin_status": 200.0, "stored": true,
		"user_agent": "Go-http-client/1.1",
	} {
		if miss[field] != want {
			t.Errorf("miss: %s is %v, want %v", field, miss[field], want)
		}
	}
	for field, want := range map[string]any{"outcome": "hit", "origin_ms": 0.0, "origin_status": 0.0, "stored": false, "bytes": 5.0} {
		if hit[field] != want {
			t.Errorf("hit: %s is %v, want %v", field, hit[field], want)
		}
	}
	for _, field := range []string{"total_ms", "ttfb_ms", "origin_ms"} {
		if ms, ok := miss[field].(float64); !ok || ms <= 0 {
			t.Errorf("miss: %s is %v, want a time", field, miss[field])
		}
	}
}

func TestAccessLogOff(t *testing.T) {
	origin := httptest.NewServer(http.NotFoundHandler())
	defer origin.Close()
	var log syncBuffer
	n := start(t, origin.URL, &log, func(c *config.Config) { c.Log.Access = false })
	c := client(t)
	get(t, c, "http://"+n.Listen()[0]+"/")
	eventually(t, "the request is counted", func() bool { return sum(stats(t, c, n).Requests.Outcomes) == 1 })
	if lines := log.lines(t, "request"); lines != nil {
		t.Errorf("logged %v", lines)
	}
}

func sum(outcomes map[string]int64) (n int64) {
	for _, count := range outcomes {
		n += count
	}
	return n
}

func TestHeadLimits(t *testing.T) {
	asked := make(chan struct{}, 1)
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked <- struct{}{} }))
	defer origin.Close()
	n := start(t, origin.URL, io.Discard, nil)
	many := func(count, size int) (fields string) {
		for i := range count {
			fields += fmt.Sprintf("X-%d: %s\r\n", i, strings.Repeat("a", size))
		}
		return fields
	}
	for _, c := range []struct {
		name   string
		target string
		fields string
		want   int
	}{
		{"99 fields and Host", "/", many(99, 1), 200},
		{"100 fields and Host", "/", many(100, 1), 431},
		{"a field of 4,000 bytes", "/", many(1, 4000), 200},
		{"a field of 4,100 bytes", "/", many(1, 4100), 431},
		{"two fields of 4,000 bytes", "/", many(2, 4000), 200},
		{"8 KiB in all", "/", many(4, 2100), 431},
		{"a target of 4,000 bytes", "/" + strings.Repeat("a", 4000), "", 200},
		{"a target of 4,100 bytes", "/" + strings.Repeat("a", 4100), "", 414},
		{"the target counts", "/" + strings.Repeat("a", 4000), many(1, 3900), 200},
		{"and makes it too large", "/" + strings.Repeat("a", 4000), many(2, 2100), 431},
		{"past what is read at all", "/", many(20, 1000), 431},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", n.Listen()[0])
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: a.test\r\n%s\r\n", c.target, c.fields)
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.StatusCode != c.want || (c.want != 200) != res.Close {
				t.Errorf("got %d (closing: %v), want %d", res.StatusCode, res.Close, c.want)
			}
			select {
			case <-asked:
				if c.want != 200 {
					t.Error("the origin was asked")
				}
			default:
				if c.want == 200 {
					t.Error("the origin was not asked")
				}
			}
		})
	}
	c := client(t)
	eventually(t, "refusals are counted", func() bool {
		refused := stats(t, c, n).Door.Refused
		return refused["too-many-fields"] == 1 && refused["head-too-large"] == 4 && refused["target-too-long"] == 1
	})
}

func TestOriginThatIsNotThereYet(t *testing.T) {
	var log syncBuffer
	n := start(t, "http://127.0.0.1:1", &log, nil)
	eventually(t, "a warning", func() bool { return len(log.lines(t, "origin does not answer yet")) == 1 })
	if n.phase() != phaseReady {
		t.Errorf("the node is %v", n.phase())
	}
}

func TestClientBehindTrustedProxy(t *testing.T) {
	origin := httptest.NewServer(http.NotFoundHandler())
	defer origin.Close()
	var log syncBuffer
	n := start(t, origin.URL, &log, func(c *config.Config) { c.Server.TrustedProxies = []string{"127.0.0.0/8"} })
	req, err := http.NewRequest("GET", "http://"+n.Listen()[0]+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Forwarded-For", "1.2.3.4, 203.0.113.9")
	res, err := client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	eventually(t, "the line is written", func() bool { return len(log.lines(t, "request")) == 1 })
	if got := log.lines(t, "request")[0]["client"]; got != "203.0.113.9" {
		t.Errorf("client is %v", got)
	}
}

// TestProxyProtocol: whom a connection is from is believed of those alone who are
// named, and they must say it.
func TestProxyProtocol(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, r.Header.Get("X-Forwarded-For"))
	}))
	defer origin.Close()
	for _, test := range []struct {
		name    string
		trusted []string
		head    string
		want    string // of the second answer, which is a hit for those who are let in; "" is none
	}{
		{"named", []string{"127.0.0.0/8"}, "PROXY TCP4 203.0.113.9 127.0.0.1 4000 80\r\n", "203.0.113.9"},
		{"named and silent", []string{"127.0.0.0/8"}, "", ""},
		{"another network", []string{"10.0.0.0/8"}, "", "127.0.0.1"},
		{"another network that claims", []string{"10.0.0.0/8"}, "PROXY TCP4 203.0.113.9 127.0.0.1 4000 80\r\n", ""},
		{"nobody is named", nil, "PROXY TCP4 203.0.113.9 127.0.0.1 4000 80\r\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := start(t, origin.URL, io.Discard, func(c *config.Config) { c.Server.ProxyProtocol = test.trusted })
			c, err := net.Dial("tcp", n.Listen()[0])
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			const request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
			r := bufio.NewReader(c)
			io.WriteString(c, test.head)
			got := ""
			for range 2 {
				io.WriteString(c, request)
				res, err := http.ReadResponse(r, nil)
				if err != nil || res.StatusCode != http.StatusOK {
					got = ""
					break
				}
				body, _ := io.ReadAll(res.Body)
				got = string(body)
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
