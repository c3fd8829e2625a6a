package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// rawOrigin accepts connections on loopback and gives each to serve, with its
// number from 0. The connection is closed when serve returns.
func rawOrigin(t *testing.T, serve func(n int, c net.Conn, requests *bufio.Reader)) *url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				serve(n, c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() { l.Close(); conns.Wait() })
	return &url.URL{Scheme: "http", Host: l.Addr().String()}
}

// answer reads one request and sends text, which is a response or what passes for
// one.
func answer(c net.Conn, requests *bufio.Reader, text string) {
	req, err := http.ReadRequest(requests)
	if err != nil {
		return
	}
	io.Copy(io.Discard, req.Body)
	io.WriteString(c, text)
}

// patient are the limits of tests that are not about time.
func patient(u *url.URL) Options {
	return Options{URL: u, ConnectTimeout: time.Minute, FirstByte: time.Minute, BetweenBytes: time.Minute, IdleTimeout: time.Minute}
}

func open(t *testing.T, o Options) *Pool {
	t.Helper()
	p := New(o)
	t.Cleanup(func() {
		p.Close()
		if active := p.Stats().Active; active != 0 {
			t.Errorf("%d exchanges never ended", active)
		}
	})
	return p
}

func request(t *testing.T, method string, u *url.URL, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, u.String()+"/", body)
	if err != nil {
		t.Fatal(err)
	}
	req.GetBody = nil // as a proxied request's body: once only
	return req
}

// exchangeError sends the request and reads the body, and returns the error of
// whichever failed.
func exchangeError(t *testing.T, p *Pool, req *http.Request) *Error {
	t.Helper()
	res, err := p.RoundTrip(req)
	if err == nil {
		defer res.Body.Close()
		_, err = io.Copy(io.Discard, res.Body)
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *Error", err)
	}
	return e
}

func TestErrorsOfAnOriginThatMisbehaves(t *testing.T) {
	const small = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	for _, c := range []struct {
		name        string
		answer      string
		header      http.Header
		kind        Kind
		unreachable bool
	}{
		{"closes without an answer", "", nil, Reset, true},
		{"closes in the middle of the head", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", nil, Reset, true},
		{"closes in the middle of a counted body", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", nil, Reset, true},
		{"closes before the last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", nil, Reset, true},
		{"sends a chunk size that is none", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhalf\r\n", nil, Protocol, false},
		{"does not speak HTTP", "220 smtp.example ESMTP\r\n", nil, Protocol, false},
		{"sends a head past the limit", "HTTP/1.1 200 OK\r\nX-Long: " + strings.Repeat("a", 70_000) + "\r\n\r\n", nil, Protocol, false},
		{"sends two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", nil, Protocol, false},
		{"sends a status below 200 as final", "HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n", nil, Protocol, false},
		{"sends a status above 599", "HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", nil, Protocol, false},
		{"sends 206 unasked", strings.Replace(small, "200 OK", "206 Partial Content", 1), nil, Protocol, false},
		{"sends 304 unasked", "HTTP/1.1 304 Not Modified\r\n\r\n", nil, Protocol, false},
		{"switches protocols unasked", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", nil, Protocol, false},
		{"switches to another protocol", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
			http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}, Protocol, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := rawOrigin(t, func(_ int, conn net.Conn, r *bufio.Reader) { answer(conn, r, c.answer) })
			o := patient(u)
			o.MaxHeaderBytes = 64 << 10
			p := open(t, o)
			req := request(t, "GET", u, nil)
			if c.header != nil {
				req.Header = c.header
			}
			e := exchangeError(t, p, req)
			if e.Kind != c.kind || e.Unreachable() != c.unreachable || e.Timeout() || e.ClientFault() {
				t.Errorf("got %v (unreachable %v), want kind %v (unreachable %v)", e, e.Unreachable(), c.kind, c.unreachable)
			}
		})
	}
}

func TestStatusesThatWereAskedFor(t *testing.T) {
	for status, field := range map[string]string{
		"206 Partial Content": "Range",
		"304 Not Modified":    "If-Modified-Since",
	} {
		u := rawOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
			answer(c, r, "HTTP/1.1 "+status+"\r\nContent-Length: 0\r\n\r\n")
		})
		req := request(t, "GET", u, nil)
		req.Header.Set(field, "x")
		res, err := open(t, patient(u)).RoundTrip(req)
		if err != nil {
			t.Fatalf("%s with %s: %v", status, field, err)
		}
		res.Body.Close()
	}
}

func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &url.URL{Scheme: "http", Host: l.Addr().String()}
	l.Close()
	p := open(t, patient(u))
	if e := exchangeError(t, p, request(t, "GET", u, nil)); e.Kind != Refused || !e.Unreachable() {
		t.Errorf("got %v, want refused and unreachable", e)
	}
	if s := p.Stats(); s.Refused != 1 || s.Requests != 1 || s.Dials != 1 {
		t.Errorf("stats %+v, want one refused request and one dial", s)
	}
}

func TestConnectionReset(t *testing.T) {
	u := rawOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		c.(*net.TCPConn).SetLinger(0) // Close sends RST
	})
	if e := exchangeError(t, open(t, patient(u)), request(t, "GET", u, nil)); e.Kind != Reset {
		t.Errorf("got %v, want reset", e)
	}
}

func TestCertificateOfAStranger(t *testing.T) {
	origin := httptest.NewUnstartedServer(http.NotFoundHandler())
	origin.Config.ErrorLog = log.New(io.Discard, "", 0)
	origin.StartTLS()
	defer origin.Close()
	u, err := url.Parse(origin.URL)
	if err != nil {
		t.Fatal(err)
	}
	if e := exchangeError(t, open(t, patient(u)), request(t, "GET", u, nil)); e.Kind != TLS || e.Unreachable() {
		t.Errorf("unknown authority: got %v, want tls and reachable", e)
	}

	plain := rawOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		r.ReadByte()
		io.WriteString(c, "HTTP/1.0 400 Bad Request\r\n\r\n")
	})
	plain.Scheme = "https"
	if e := exchangeError(t, open(t, patient(plain)), request(t, "GET", plain, nil)); e.Kind != TLS {
		t.Errorf("no TLS at all: got %v, want tls", e)
	}

	refuses := rawOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		tls.Server(c, &tls.Config{}).HandshakeContext(t.Context()) // no certificate: sends an alert
	})
	refuses.Scheme = "https"
	if e := exchangeError(t, open(t, patient(refuses)), request(t, "GET", refuses, nil)); e.Kind != TLS {
		t.Errorf("alert: got %v, want tls", e)
	}
}

// brief is a wait that the tests below let run out. The origin never sends what is
// waited for, so a slow machine only makes them longer.
const brief = 20 * time.Millisecond

func TestSlowOrigin(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer string
		phase  Phase
		limit  func(*Options)
	}{
		{"no head", "", FirstByte, func(o *Options) { o.FirstByte = brief }},
		{"half a head", "HTTP/1.1 200 OK\r\n", FirstByte, func(o *Options) { o.FirstByte = brief }},
		{"only interim responses", "HTTP/1.1 103 Early Hints\r\n\r\n", FirstByte, func(o *Options) { o.FirstByte = brief }},
		{"head only", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", BetweenBytes, func(o *Options) { o.BetweenBytes = brief }},
		{"half a body", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha", BetweenBytes, func(o *Options) { o.BetweenBytes = brief }},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := rawOrigin(t, func(_ int, conn net.Conn, r *bufio.Reader) {
				answer(conn, r, c.answer)
				r.ReadByte() // returns when the pool has closed the connection
			})
			o := patient(u)
			c.limit(&o)
			p := open(t, o)
			e := exchangeError(t, p, request(t, "GET", u, nil))
			if e.Kind != Timeout || e.Phase != c.phase || !e.Timeout() || !e.Unreachable() {
				t.Errorf("got %v, want a timeout of the %v", e, c.phase)
			}
			if s := p.Stats(); s.Timeout != 1 {
				t.Errorf("stats %+v, want one timeout", s)
			}
		})
	}
}

func TestOriginThatDoesNotTakeTheBody(t *testing.T) {
	u := rawOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		<-t.Context().Done() // takes no more, answers nothing
	})
	o := patient(u)
	o.FirstByte = time.Second // bounds the connecting, too, which must not fail here
	p := open(t, o)
	e := exchangeError(t, p, request(t, "POST", u, io.LimitReader(zeros{}, 1<<30)))
	if e.Kind != Timeout || e.Phase != FirstByte {
		t.Errorf("got %v, want a timeout of the first byte", e)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestWaitForAFreeConnectionIsBounded(t *testing.T) {
	u := rawOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		answer(c, r, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
		r.ReadByte()
	})
	o := patient(u)
	o.MaxConnections = 1
	o.FirstByte = 200 * time.Millisecond
	p := open(t, o)
	first, err := p.RoundTrip(request(t, "GET", u, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Body.Close()
	if e := exchangeError(t, p, request(t, "GET", u, nil)); e.Kind != Timeout || e.Phase != Connect {
		t.Errorf("got %v, want a timeout of the connection", e)
	}
}

// Silence counts only while the origin is waited for: a reader may take its time,
// and so may the client that sends the request's body.
func TestSlowReadersAndClientsAreNotTheOriginsFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		p := New(Options{URL: &url.URL{Scheme: "http", Host: "origin.test"}, FirstByte: time.Second, BetweenBytes: time.Second})
		p.dial = func(context.Context, string, string) (net.Conn, error) { return near, nil }
		served := make(chan struct{})
		go func() {
			defer close(served)
			defer far.Close()
			req, err := http.ReadRequest(bufio.NewReader(far))
			if err != nil {
				return
			}
			body, _ := io.ReadAll(req.Body)
			fmt.Fprintf(far, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", 2*len(body))
			far.Write(body)
			far.Write(body)
		}()

		slow, client := io.Pipe()
		go func() {
			for range 3 {
				time.Sleep(time.Minute)
				client.Write([]byte("x"))
			}
			client.Close()
		}()
		req := request(t, "POST", p.options.URL, slow)
		res, err := p.RoundTrip(req)
		if err != nil {
			t.Fatalf("slow client: %v", err)
		}
		for n := range 6 {
			time.Sleep(time.Minute)
			if _, err := io.ReadFull(res.Body, make([]byte, 1)); err != nil {
				t.Fatalf("slow reader, byte %d: %v", n, err)
			}
		}
		if _, err := res.Body.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("got %v, want the end", err)
		}
		res.Body.Close()
		<-served
		p.Close()
	})
}

func TestEventStreamsMayBeSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		p := New(Options{URL: &url.URL{Scheme: "http", Host: "origin.test"}, FirstByte: time.Second, BetweenBytes: time.Second})
		p.dial = func(context.Context, string, string) (net.Conn, error) { return near, nil }
		go func() {
			defer far.Close()
			http.ReadRequest(bufio.NewReader(far))
			io.WriteString(far, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n")
			time.Sleep(time.Hour)
			io.WriteString(far, "data: late\n\n")
		}()
		res, err := p.RoundTrip(request(t, "GET", p.options.URL, nil))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if got, err := io.ReadAll(res.Body); err != nil || string(got) != "data: late\n\n" {
			t.Errorf("got %q and %v, want the event", got, err)
		}
	})
}

func TestBrokenRequestBodyIsTheClientsFault(t *testing.T) {
	u := rawOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) { answer(c, r, "") })
	p := open(t, patient(u))
	broken := errors.New("malformed chunked encoding")
	e := exchangeError(t, p, request(t, "POST", u, io.MultiReader(strings.NewReader("some"), failing{broken})))
	if e.Kind != ClientBody || !e.ClientFault() || e.Unreachable() || !errors.Is(e, broken) {
		t.Errorf("got %v, want the client's error", e)
	}
	if s := p.Stats(); s.ClientBody != 1 || s.Reset+s.Protocol+s.Timeout+s.Refused+s.TLS != 0 {
		t.Errorf("stats %+v, want it counted as the client's alone", s)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestCallerGivesUp(t *testing.T) {
	asked := make(chan struct{})
	u := rawOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		close(asked)
		r.ReadByte()
	})
	p := open(t, patient(u))
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if e := exchangeError(t, p, request(t, "GET", u, nil).WithContext(ctx)); e.Kind != Canceled || e.Unreachable() {
		t.Errorf("got %v, want canceled", e)
	}
}

// The origin closes an idle connection while a request is on its way: the request
// is sent again on a new one when it may be, and fails as reset when it may not.
func TestIdleConnectionThatDied(t *testing.T) {
	for _, c := range []struct {
		method string
		body   string
		again  bool
	}{
		{"GET", "", true},
		{"HEAD", "", true},
		{"POST", "", false},
		{"PUT", "x", false},
	} {
		t.Run(c.method, func(t *testing.T) {
			var asked atomic.Int32
			u := rawOrigin(t, func(n int, conn net.Conn, r *bufio.Reader) {
				const ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
				if n == 0 {
					answer(conn, r, ok)
				}
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				asked.Add(1) // before the answer, which the test waits for
				io.Copy(io.Discard, req.Body)
				if n == 0 {
					return // the second request is taken, and it dies before a byte
				}
				io.WriteString(conn, ok)
				r.ReadByte()
			})
			p := open(t, patient(u))
			warm, err := p.RoundTrip(request(t, "GET", u, nil))
			if err != nil {
				t.Fatal(err)
			}
			warm.Body.Close()

			var body io.Reader
			if c.body != "" {
				body = strings.NewReader(c.body)
			}
			req := request(t, c.method, u, body)
			if c.again {
				res, err := p.RoundTrip(req)
				if err != nil {
					t.Fatalf("not sent again: %v", err)
				}
				res.Body.Close()
				if n := asked.Load(); n != 2 {
					t.Errorf("the origin was asked %d times, want 2", n)
				}
				return
			}
			if e := exchangeError(t, p, req); e.Kind != Reset {
				t.Errorf("got %v, want reset", e)
			}
			if n := asked.Load(); n != 1 {
				t.Errorf("the origin was asked %d times, want 1", n)
			}
		})
	}
}

func TestFreshConnectionThatDiesIsNotTriedAgain(t *testing.T) {
	var asked atomic.Int32
	u := rawOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		asked.Add(1)
		answer(c, r, "")
	})
	exchangeError(t, open(t, patient(u)), request(t, "GET", u, nil))
	if n := asked.Load(); n != 1 {
		t.Errorf("the origin was asked %d times, want 1", n)
	}
}

func TestNothingIsAddedToWhatTheOriginSays(t *testing.T) {
	var encoding []string
	u := rawOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		encoding = req.Header["Accept-Encoding"]
		io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"+
			"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 2\r\n\r\n")
	})
	var hints string
	req := request(t, "GET", u, nil)
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(_ int, h textproto.MIMEHeader) error { hints = h.Get("Link"); return nil },
	}))
	res, err := open(t, patient(u)).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || string(body) != "ok" || res.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("got %q, %v, header %v; want the body as it was sent", body, err, res.Header)
	}
	if encoding != nil {
		t.Errorf("the origin was asked for %q", encoding)
	}
	if hints != "</a.css>" {
		t.Errorf("103 did not reach the caller's trace: %q", hints)
	}
	if res.Trailer.Get("X-Sum") != "2" {
		t.Errorf("trailer lost: %v", res.Trailer)
	}
}

func TestUpgradedConnectionOutlivesTheExchange(t *testing.T) {
	u := rawOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		answer(c, r, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		line, _ := r.ReadString('\n')
		io.WriteString(c, line)
	})
	req := request(t, "GET", u, nil)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	res, err := open(t, patient(u)).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	conn := res.Body.(io.ReadWriteCloser)
	defer conn.Close()
	io.WriteString(conn, "echo\n")
	if got, err := bufio.NewReader(conn).ReadString('\n'); err != nil || got != "echo\n" {
		t.Errorf("got %q, %v through the tunnel", got, err)
	}
}

func TestErrorIsRepeated(t *testing.T) {
	u := rawOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		answer(c, r, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
	})
	res, err := open(t, patient(u)).RoundTrip(request(t, "GET", u, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	_, first := io.ReadAll(res.Body)
	_, second := res.Body.Read(make([]byte, 1))
	if first == nil || first != second {
		t.Errorf("got %v, then %v: a truncated body must stay truncated", first, second)
	}
}

func TestRequestForAnotherOriginPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a request chose its origin")
		}
	}()
	p := New(patient(&url.URL{Scheme: "http", Host: "a.test"}))
	p.RoundTrip(request(t, "GET", &url.URL{Scheme: "http", Host: "b.test"}, nil))
}

// A pool that has done everything above must leave nothing running.
func TestNoGoroutineIsLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("work", func(t *testing.T) {
		u := rawOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
			for range 2 {
				answer(c, r, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
			}
		})
		o := patient(u)
		o.BetweenBytes = brief
		p := open(t, o)
		for range 20 {
			exchangeError(t, p, request(t, "GET", u, nil))
		}
	})
	for deadline := time.Now().Add(20 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			all := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, had %d:\n%s", runtime.NumGoroutine(), before, all[:runtime.Stack(all, true)])
		}
	}
}
