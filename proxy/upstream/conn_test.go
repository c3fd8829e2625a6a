package upstream

import (
	"bufio"
	"context"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const wellFormed = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// take sends a request and returns the answer's body.
func take(t *testing.T, p *Pool, req *http.Request) string {
	t.Helper()
	res, err := p.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// What could be read in two ways fails, is asked for once, and is the last that the
// connection is used for: on a new connection as on one used before, where net/http
// would try again.
func TestUnsoundResponseEndsItsConnection(t *testing.T) {
	for _, c := range []struct{ name, text string }{
		{"length and coding", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{"LF in the head", "HTTP/1.1 200 OK\r\nX-A: b\nSet-Cookie: evil=1\r\nContent-Length: 0\r\n\r\n"},
		{"space before the colon", "HTTP/1.1 200 OK\r\nCache-Control : no-store\r\nContent-Length: 0\r\n\r\n"},
		{"folded line", "HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 0\r\n\r\n"},
		{"coding in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{"one length twice", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok"},
		{"HTTP/2.0", "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"},
		{"malformed interim response", "HTTP/1.1 103 Early Hints\r\nLink : </a>\r\n\r\n" + wellFormed},
		{"chunk longer than its size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n"},
		{"malformed trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-A : b\r\n\r\n"},
	} {
		for name, warm := range map[string]int{"new": 0, "used": 1} {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				var conns, asked atomic.Int32
				u := rawOrigin(t, func(_ int, conn net.Conn, r *bufio.Reader) {
					conns.Add(1)
					for range warm {
						answer(conn, r, wellFormed)
					}
					asked.Add(1)
					answer(conn, r, c.text)
					r.ReadByte() // returns when the pool has closed the connection
				})
				p := open(t, patient(u))
				for range warm {
					take(t, p, request(t, "GET", u, nil))
				}
				if e := exchangeError(t, p, request(t, "GET", u, nil)); e.Kind != Protocol || e.Unreachable() {
					t.Errorf("got %v, want a fault of protocol", e)
				}
				if conns.Load() != 1 || asked.Load() != 1 {
					t.Errorf("asked %d times on %d connections, want once", asked.Load(), conns.Load())
				}
			})
		}
	}
}

// S16: bytes behind a response are nobody's answer, whether they come with it or
// later, and whatever they look like.
func TestBytesBehindAResponseAreDropped(t *testing.T) {
	const evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	for _, c := range []struct {
		name, method, response string
	}{
		{"counted", "GET", wellFormed},
		{"chunked", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"},
		{"HEAD with a body", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 42\r\n\r\n"},
		{"HEAD that says nothing", "HEAD", "HTTP/1.1 200 OK\r\n\r\n"},
		{"204 with a length", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 42\r\n\r\n"},
		{"304", "GET", "HTTP/1.1 304 Not Modified\r\n\r\n"},
		{"no body", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
	} {
		for _, together := range []bool{true, false} {
			name := c.name + "/later"
			if together {
				name = c.name + "/together"
			}
			t.Run(name, func(t *testing.T) {
				said := make(chan struct{})
				first := c.response
				if together {
					first += evil
				}
				u := rawOrigin(t, func(n int, conn net.Conn, r *bufio.Reader) {
					if n > 0 {
						answer(conn, r, wellFormed)
						r.ReadByte()
						return
					}
					answer(conn, r, first)
					if !together {
						io.WriteString(conn, evil)
					}
					close(said)
					answer(conn, r, evil) // as an answer to whatever comes after all
				})
				p := open(t, patient(u))
				req := request(t, c.method, u, nil)
				req.Header.Set("If-None-Match", `"a"`)
				if got := take(t, p, req); strings.Contains(got, "evil") {
					t.Errorf("got %q", got)
				}
				<-said
				if got := take(t, p, request(t, "POST", u, nil)); got != "ok" {
					t.Errorf("got %q, want the answer to this request", got)
				}
				if dials := p.Stats().Dials; dials != 2 {
					t.Errorf("%d connections, want a second one for the second request", dials)
				}
			})
		}
	}
}

// A connection on which something is there to be read before a request is written is
// not written to.
func TestConnectionThatHasSpokenIsPassedOver(t *testing.T) {
	for name, speak := range map[string]func(net.Conn){
		"bytes": func(c net.Conn) { io.WriteString(c, wellFormed) },
		"end":   func(c net.Conn) { c.Close() },
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		raw, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		far, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer far.Close()
		c := newConn(raw, testLimit)
		if c.pending() {
			t.Fatalf("%s: something is there before it was sent", name)
		}
		speak(far)
		for deadline := time.Now().Add(20 * time.Second); !c.pending(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: never seen", name)
			}
		}
		if c.begin("GET", true) {
			t.Errorf("%s: found fit", name)
		}
		if n, err := c.Write([]byte("GET / HTTP/1.1\r\n\r\n")); n != 0 || err == nil {
			t.Errorf("%s: %d bytes of a request were written", name, n)
		}
		if n, err := c.Read(make([]byte, 100)); n != 0 || err != io.EOF {
			t.Errorf("%s: read %d bytes, %v", name, n, err)
		}
	}
}

// An answer to HEAD is the last on its connection, and the origin is told so.
func TestHeadIsTheLastOnItsConnection(t *testing.T) {
	var told atomic.Bool
	u := rawOrigin(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if req.Method == "HEAD" {
			told.Store(req.Close)
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nX-A: b\r\n\r\n")
		} else {
			io.WriteString(conn, wellFormed)
		}
		r.ReadByte()
	})
	p := open(t, patient(u))
	take(t, p, request(t, "HEAD", u, nil))
	take(t, p, request(t, "GET", u, nil))
	if dials := p.Stats().Dials; dials != 2 || !told.Load() {
		t.Errorf("%d connections, the origin was told: %v; want two and true", dials, told.Load())
	}
}

// A connection is used again after sound responses, trailers and interim ones
// included, and after 204 and 304.
func TestSoundResponsesKeepTheConnection(t *testing.T) {
	u := rawOrigin(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		for _, c := range soundResponses {
			if c.method == "GET" {
				answer(conn, r, c.text)
			}
		}
		r.ReadByte()
	})
	p := open(t, patient(u))
	asked := 0
	for _, c := range soundResponses {
		if c.method == "GET" {
			req := request(t, "GET", u, nil)
			req.Header.Set("If-None-Match", `"a"`)
			take(t, p, req)
			asked++
		}
	}
	if s := p.Stats(); s.Dials != 1 || s.Reused != int64(asked-1) {
		t.Errorf("stats %+v, want one connection for %d requests", s, asked)
	}
}

// Heads and trailers that come byte by byte are read as those that come at once,
// heads much larger than a buffer too.
func TestPartsOfAHead(t *testing.T) {
	text := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\nX-Long: " + strings.Repeat("a", 30_000) +
		"\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 2\r\n\r\n"
	for _, size := range []int{1, 4095, 20_000} {
		near, far := net.Pipe()
		p := New(Options{URL: &url.URL{Scheme: "http", Host: "origin.test"}, MaxHeaderBytes: 40_000})
		p.dial = func(context.Context, string, string) (net.Conn, error) { return near, nil }
		var served sync.WaitGroup
		served.Go(func() {
			http.ReadRequest(bufio.NewReader(far))
			for rest := text; rest != ""; {
				n := min(size, len(rest))
				io.WriteString(far, rest[:n])
				rest = rest[n:]
			}
		})
		res, err := p.RoundTrip(request(t, "GET", p.options.URL, nil))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil || string(body) != "ok" || len(res.Header.Get("X-Long")) != 30_000 || res.Trailer.Get("X-Sum") != "2" {
			t.Errorf("%d bytes at a time: %q, %v, trailer %v", size, body, err, res.Trailer)
		}
		res.Body.Close()
		served.Wait()
		p.Close()
	}
}

func TestLengthIsPassedOnInItsPlainForm(t *testing.T) {
	for written, want := range map[string]string{"002": "2", "2": "2"} {
		u := rawOrigin(t, func(_ int, conn net.Conn, r *bufio.Reader) {
			answer(conn, r, "HTTP/1.1 200 OK\r\nContent-Length: "+written+"\r\n\r\nok")
		})
		res, err := open(t, patient(u)).RoundTrip(request(t, "GET", u, nil))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got := res.Header.Get("Content-Length"); got != want {
			t.Errorf("%s: got %q", written, got)
		}
	}
}

// Below TLS nothing could be read: the strict reading stands above it.
func TestSecureOriginsAreReadStrictly(t *testing.T) {
	origin := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/sound" {
			io.WriteString(w, r.Proto)
			return
		}
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok")
	}))
	origin.EnableHTTP2 = true
	origin.StartTLS()
	defer origin.Close()
	u, err := url.Parse(origin.URL)
	if err != nil {
		t.Fatal(err)
	}
	p := open(t, patient(u))
	p.tls.RootCAs = x509.NewCertPool()
	p.tls.RootCAs.AddCert(origin.Certificate())
	for range 2 {
		req := request(t, "GET", u, nil)
		req.URL.Path = "/sound"
		if got := take(t, p, req); got != "HTTP/1.1" {
			t.Errorf("got %q", got)
		}
	}
	if s := p.Stats(); s.Dials != 1 || s.Reused != 1 {
		t.Errorf("stats %+v, want one connection used twice", s)
	}
	if e := exchangeError(t, p, request(t, "GET", u, nil)); e.Kind != Protocol {
		t.Errorf("got %v, want a fault of protocol", e)
	}
}

func TestHandshakeIsBounded(t *testing.T) {
	u := rawOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		io.Copy(io.Discard, r) // takes the greeting and says nothing
	})
	u.Scheme = "https"
	o := patient(u)
	o.ConnectTimeout = brief
	if e := exchangeError(t, open(t, o), request(t, "GET", u, nil)); e.Kind != Timeout || e.Phase != Connect {
		t.Errorf("got %v, want a timeout of the connection", e)
	}
}

// What the strict reading costs a response of a common head.
func BenchmarkConn(b *testing.B) {
	text := "HTTP/1.1 200 OK\r\nDate: Tue, 04 Feb 2025 10:00:00 GMT\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 1024\r\n" +
		"Cache-Control: public, max-age=600\r\nEtag: \"0123456789abcdef\"\r\nVary: Accept-Encoding\r\nX-Powered-By: Express\r\n" +
		"Surrogate-Key: product-1 product-2 category-7\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n\r\n" + strings.Repeat("x", 1024)
	c := newConn(repeating{text: text}, 64<<10)
	buf := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		c.begin("GET", true)
		if n, err := c.Read(buf); n != len(text) || err != nil {
			b.Fatal(n, err)
		}
	}
}

// repeating is a connection on which each read brings the same.
type repeating struct {
	net.Conn
	text string
}

func (r repeating) Read(p []byte) (int, error) { return copy(p, r.text), nil }
