package integration

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"edge/integration/internal/origin"
)

// Attacks that come by way of the origin, or aim at it. The origin is a socket: it
// records the bytes that it gets, and sends the bytes that the test says.

// socket is such an origin. Each connection is kept until the other side, or the
// script, ends it.
type socket struct {
	URL string

	mu    sync.Mutex // guards all below
	heads []string   // of requests, byte for byte, in the order of their ends
	conns int
}

// script returns what to answer a request with, and whether to close the
// connection after it.
type script func(r *http.Request) (text string, end bool)

func listenRaw(tb testing.TB, answer script) *socket {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s := &socket{URL: "http://" + l.Addr().String()}
	var running sync.WaitGroup
	var open []net.Conn
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns++
			open = append(open, c)
			s.mu.Unlock()
			running.Go(func() { s.serve(c, answer) })
		}
	})
	tb.Cleanup(func() {
		l.Close()
		s.mu.Lock()
		for _, c := range open {
			c.Close()
		}
		s.mu.Unlock()
		running.Wait()
	})
	return s
}

func (s *socket) serve(c net.Conn, answer script) {
	defer c.Close()
	var read bytes.Buffer
	in := bufio.NewReader(io.TeeReader(c, &read))
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		io.Copy(io.Discard, r.Body)
		all := read.Next(read.Len() - in.Buffered())
		head, _, _ := bytes.Cut(all, []byte("\r\n\r\n"))
		s.mu.Lock()
		s.heads = append(s.heads, string(head)+"\r\n")
		s.mu.Unlock()
		text, end := answer(r)
		io.WriteString(c, text)
		if end {
			return
		}
	}
}

// asked returns the heads for a target.
func (s *socket) asked(target string) (heads []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, head := range s.heads {
		if strings.HasPrefix(head[strings.IndexByte(head, ' ')+1:], target+" ") {
			heads = append(heads, head)
		}
	}
	return heads
}

func (s *socket) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns
}

// sound is a response that may be stored.
func sound(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// S17, P15: what can be read in two ways, or answers nothing that was asked, is 502,
// is asked for once, and is stored by nobody; the connections on both sides carry no
// rest of it over to the next request.
func TestUnsoundAnswersAreRefused(t *testing.T) {
	t.Parallel()
	const fresh = "Cache-Control: max-age=600\r\n"
	answers := map[string]string{
		"length and coding":          "HTTP/1.1 200 OK\r\n" + fresh + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"two lengths":                "HTTP/1.1 200 OK\r\n" + fresh + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"list of lengths":            "HTTP/1.1 200 OK\r\n" + fresh + "Content-Length: 1, 1\r\n\r\na",
		"length with a sign":         "HTTP/1.1 200 OK\r\n" + fresh + "Content-Length: +1\r\n\r\na",
		"hexadecimal length":         "HTTP/1.1 200 OK\r\n" + fresh + "Content-Length: 0x1\r\n\r\na",
		"unknown coding":             "HTTP/1.1 200 OK\r\n" + fresh + "Transfer-Encoding: xchunked\r\n\r\na",
		"chunked twice":              "HTTP/1.1 200 OK\r\n" + fresh + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"coding in HTTP/1.0":         "HTTP/1.0 200 OK\r\n" + fresh + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"bare CR":                    "HTTP/1.1 200 OK\r\n" + fresh + "X-A: a\rb\r\nContent-Length: 0\r\n\r\n",
		"bare LF that splits":        "HTTP/1.1 200 OK\r\n" + fresh + "X-A: a\nSet-Cookie: session=evil\r\nContent-Length: 0\r\n\r\n",
		"bare LF everywhere":         "HTTP/1.1 200 OK\nCache-Control: max-age=600\nContent-Length: 0\n\n",
		"NUL":                        "HTTP/1.1 200 OK\r\n" + fresh + "X-A: a\x00b\r\nContent-Length: 0\r\n\r\n",
		"control byte":               "HTTP/1.1 200 OK\r\n" + fresh + "X-A: a\x01b\r\nContent-Length: 0\r\n\r\n",
		"space before the colon":     "HTTP/1.1 200 OK\r\n" + fresh + "Cache-Control : no-store\r\nContent-Length: 0\r\n\r\n",
		"folded line":                "HTTP/1.1 200 OK\r\n" + fresh + "X-A: a\r\n b\r\nContent-Length: 0\r\n\r\n",
		"no colon":                   "HTTP/1.1 200 OK\r\n" + fresh + "X-A\r\nContent-Length: 0\r\n\r\n",
		"status 099":                 "HTTP/1.1 099 Odd\r\n" + fresh + "Content-Length: 0\r\n\r\n",
		"status 600":                 "HTTP/1.1 600 Odd\r\n" + fresh + "Content-Length: 0\r\n\r\n",
		"status 999":                 "HTTP/1.1 999 Odd\r\n" + fresh + "Content-Length: 0\r\n\r\n",
		"HTTP/2.0":                   "HTTP/2.0 200 OK\r\n" + fresh + "Content-Length: 0\r\n\r\n",
		"HTTP/0.9":                   "<html>hello</html>",
		"101 unasked":                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"206 unasked":                "HTTP/1.1 206 Partial Content\r\n" + fresh + "Content-Range: bytes 0-0/9\r\nContent-Length: 1\r\n\r\na",
		"304 unasked":                "HTTP/1.1 304 Not Modified\r\n" + fresh + "\r\n",
		"malformed 1xx":              "HTTP/1.1 103 Early Hints\r\nLink : </a>\r\n\r\n" + sound("a"),
		"1xx with a body":            "HTTP/1.1 103 Early Hints\r\nContent-Length: 1\r\n\r\na" + sound("a"),
		"head past the limit":        "HTTP/1.1 200 OK\r\n" + fresh + "X-A: " + strings.Repeat("a", 70<<10) + "\r\nContent-Length: 0\r\n\r\n",
		"many fields past the limit": "HTTP/1.1 200 OK\r\n" + fresh + strings.Repeat("X-A: a\r\n", 10<<10) + "Content-Length: 0\r\n\r\n",
	}
	targets := make(map[string]string)
	for name, text := range answers {
		targets["/"+strings.NewReplacer(" ", "-", "/", "-").Replace(name)] = text
	}
	const endless = "/1xx-without-end"
	o := listenRaw(t, func(r *http.Request) (string, bool) {
		if r.RequestURI == endless {
			return strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 1000), false
		}
		if text, ok := targets[r.RequestURI]; ok {
			return text, false
		}
		return sound("the answer to " + r.RequestURI), false
	})
	n := configured(t, site(o.URL, `"*"`, ""))
	for target := range targets {
		c := call(t, n.Addr)
		for i := range 2 {
			if a := c.ask(t, "GET "+target+" HTTP/1.1\r\nHost: a.test\r\n\r\n"); !strings.HasPrefix(a, "HTTP/1.1 502 ") {
				t.Errorf("%s: the answer is %.100q", target, a)
			}
			second := fmt.Sprintf("/second%s/%d", target, i)
			if a := c.ask(t, "GET "+second+" HTTP/1.1\r\nHost: a.test\r\n\r\n"); !strings.HasSuffix(a, "\r\n\r\nthe answer to "+second) {
				t.Errorf("%s: the next request was misread: %.300q", target, a)
			}
		}
		equal(t, target+": requests to the origin", len(o.asked(target)), 2)
	}
	equal(t, "status after interim responses without end", get(t, n, endless).Status, 502)
	if conns := o.connections(); conns < 2*len(targets) {
		t.Errorf("%d connections to the origin for %d unsound answers: some were used again", conns, 2*len(targets))
	}
}

// S17: a body that breaks off, or whose chunks are malformed, looks complete to
// nobody and is never a hit.
func TestBrokenBodiesAreNotStored(t *testing.T) {
	t.Parallel()
	const fresh = "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\n"
	const coded = fresh + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
	targets := map[string]string{
		"/short":             fresh + "Content-Length: 9\r\n\r\nabc",
		"/no-last-chunk":     coded,
		"/no-trailer-end":    coded + "0\r\n",
		"/size-with-0x":      coded + "0x1\r\na\r\n0\r\n\r\n",
		"/size-with-space":   coded + "1 \r\na\r\n0\r\n\r\n",
		"/size-negative":     coded + "-1\r\na\r\n0\r\n\r\n",
		"/size-huge":         coded + "ffffffffffffffff1\r\na\r\n0\r\n\r\n",
		"/lf-after-size":     coded + "1\na\r\n0\r\n\r\n",
		"/lf-after-data":     coded + "1\r\na\n0\r\n\r\n",
		"/lf-in-extension":   coded + "1;a\nb\r\na\r\n0\r\n\r\n",
		"/long-extension":    coded + "1;" + strings.Repeat("a", 5000) + "\r\na\r\n0\r\n\r\n",
		"/too-much-data":     coded + "1\r\nab\r\n0\r\n\r\n",
		"/malformed-trailer": coded + "0\r\nX-A : b\r\n\r\n",
	}
	o := listenRaw(t, func(r *http.Request) (string, bool) {
		text, ok := targets[r.RequestURI]
		if !ok {
			text = sound("the answer to " + r.RequestURI)
		}
		return text, ok && !strings.Contains(text, "0\r\n\r\n") // what is malformed needs no end of the connection
	})
	n := configured(t, site(o.URL, `"*"`, ""))
	for target := range targets {
		for range 2 {
			a := ask(t, n, "GET", target, "")
			if a.Status == 200 && a.Err == nil || a.hit() {
				t.Errorf("%s: looks whole: %d %q, %v", target, a.Status, a.Body, a.Header)
			}
			second := "/second" + target
			equal(t, "the next answer", get(t, n, second).Body, "the answer to "+second)
		}
		if asked := len(o.asked(target)); asked < 2 { // it is more where the client, cut off before a byte, asks again
			t.Errorf("%s: asked for %d times, want each time", target, asked)
		}
	}
}

// S16: bytes behind an answer are the answer to nothing, however they came there.
func TestBytesBehindAnAnswerAreNobodys(t *testing.T) {
	t.Parallel()
	evil := sound("evil")
	targets := map[string]string{
		"/counted": sound("ok") + evil,
		"/chunked": "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + evil,
		"/204":     "HTTP/1.1 204 No Content\r\nContent-Length: 90\r\n\r\n" + evil,
		"/twice":   sound("") + evil + evil,
	}
	o := listenRaw(t, func(r *http.Request) (string, bool) {
		switch {
		case r.Method == "HEAD":
			return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(evil), evil), false
		case targets[r.RequestURI] != "":
			return targets[r.RequestURI], false
		}
		return sound("the answer to " + r.RequestURI), false
	})
	n := configured(t, site(o.URL, `"*"`, ""))
	for _, method := range []string{"GET", "HEAD", "POST"} {
		for target := range targets {
			c := call(t, n.Addr)
			for i := range 5 {
				a := c.ask(t, fmt.Sprintf("%s %s?%d HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n", method, target, i))
				second := fmt.Sprintf("/second%s/%s/%d", target, method, i)
				b := c.ask(t, "GET "+second+" HTTP/1.1\r\nHost: a.test\r\n\r\n")
				if strings.Contains(a, "evil") || !strings.HasSuffix(b, "\r\n\r\nthe answer to "+second) {
					t.Errorf("%s %s: %q, and then %.300q", method, target, a, b)
				}
			}
		}
	}
}

// P1, D3, D5, D8, P10, H1, H2, S4, S12: what one client writes beside a target does
// not reach the origin on a fill, byte for byte, and the body of a GET does not
// either. The second request on the connection is read as what it is.
func TestOneRequestGoesToTheOrigin(t *testing.T) {
	t.Parallel()
	o := listenRaw(t, func(r *http.Request) (string, bool) { return sound("the answer to " + r.RequestURI), false })
	n := configured(t, site(o.URL, `"*"`, ""))
	for i, fields := range []string{
		"",
		"X-Forwarded-Host: evil\r\nX-Original-URL: /evil\r\nX-Rewrite-URL: /evil\r\nForwarded: host=evil\r\nX-Http-Method-Override: DELETE\r\n",
		"Range: bytes=0-0\r\nIf-Range: \"evil\"\r\n",
		"Range: bytes=0-,0-,0-,0-,0-,0-,0-,0-,0-,0-,0-\r\n",
		"If-None-Match: \"evil\"\r\nIf-Modified-Since: evil\r\nIf-Match: \"evil\"\r\nIf-Unmodified-Since: evil\r\n",
		"Max-Forwards: 0\r\n",
		"Expect: 100-continue\r\nContent-Type: evil\r\nContent-Length: 4\r\n\r\nevil",
		"Content-Type: evil\r\nContent-Encoding: evil\r\nContent-Length: 4\r\n\r\nevil",
		"Trailer: X-Evil\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\nX-Evil: evil\r\n\r\n",
		"Connection: X-Evil, X-Forwarded-For, Via, CDN-Loop, Host\r\nX-Evil: evil\r\n",
		"TE: evil\r\nKeep-Alive: evil\r\nProxy-Authorization: evil\r\nProxy-Connection: evil\r\n",
		"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: evil\r\n",
	} {
		target := fmt.Sprintf("/%d", i)
		request := "GET " + target + " HTTP/1.1\r\nHost: a.test\r\n" + fields
		if !strings.Contains(fields, "\r\n\r\n") {
			request += "\r\n"
		}
		statuses, bodies := n.Raw(t, request+"GET /second"+target+" HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n", 3)
		statuses = slices.DeleteFunc(statuses, func(status int) bool { return status == 100 })
		if strings.Contains(fields, "Expect") {
			bodies = slices.DeleteFunc(bodies, func(body string) bool { return body == "" })
		}
		if len(bodies) != 2 || bodies[1] != "the answer to /second"+target || statuses[1] != 200 {
			t.Errorf("%q: the second request was misread: %v %q", fields, statuses, bodies)
		}
		for _, which := range []string{target, "/second" + target} {
			want := "GET " + which + " HTTP/1.1\r\nHost: a.test\r\nCdn-Loop: edge\r\nVia: 1.1 edge\r\n" +
				"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Host: a.test\r\nX-Forwarded-Proto: http\r\n"
			if heads := o.asked(which); len(heads) != 1 || heads[0] != want {
				t.Errorf("%q: the origin was asked %q, want %q", fields, heads, want)
			}
		}
	}
}

// S10: before a 101 all is HTTP, and what follows the head is another request, or a
// body, but never a tunnel. An upgrade that the origin does not take ends the
// connection.
func TestPrematureUpgrade(t *testing.T) {
	t.Parallel()
	o := listenRaw(t, func(r *http.Request) (string, bool) { return sound("the answer to " + r.RequestURI), false })
	n := configured(t, site(o.URL, `"*"`, `
  upgrade = false
  route "tunnel" {
    path    = "/tunnel/*"
    upgrade = true
  }`))
	const second = "GET /second HTTP/1.1\r\nHost: a.test\r\n\r\n"
	for _, c := range []struct {
		name, request string
		upgrade       bool // it reaches the origin as one
	}{
		{"another route", "GET /page HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", false},
		{"another protocol", "GET /tunnel/x HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", false},
		{"two protocols", "GET /tunnel/two HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n", false},
		{"by POST", "POST /tunnel/post HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n", false},
		{"refused by the origin", "GET /tunnel/refused HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", true},
	} {
		before := len(o.asked("/second"))
		target := strings.Fields(c.request)[1]
		statuses, bodies := n.Raw(t, c.request+strings.Replace(second, "/second", "/second?"+target, 1), 2)
		if len(bodies) == 0 || bodies[0] != "the answer to "+target {
			t.Errorf("%s: %v %q", c.name, statuses, bodies)
		}
		if c.upgrade && len(statuses) != 1 {
			t.Errorf("%s: the connection went on: %v", c.name, statuses)
		}
		if len(bodies) > 1 && bodies[1] != "the answer to /second?"+target {
			t.Errorf("%s: the second request was misread: %q", c.name, bodies)
		}
		heads := o.asked(target)
		if len(heads) != 1 || strings.Contains(heads[0], "Upgrade") != c.upgrade {
			t.Errorf("%s: the origin was asked %q", c.name, heads)
		}
		equal(t, c.name+": requests made of a body", len(o.asked("/second")), before)
	}
}

// H2: trailers bring in nothing that decides.
func TestTrailersAreFiltered(t *testing.T) {
	t.Parallel()
	const trailers = "X-Sum: 1\r\nSet-Cookie: a=evil\r\nCache-Control: max-age=600\r\nContent-Length: 3\r\nContent-Type: text/evil\r\n" +
		"Authorization: evil\r\nSurrogate-Key: evil\r\nVary: evil\r\nAccess-Control-Allow-Origin: evil\r\nX-Forwarded-For: evil\r\n"
	o := listenRaw(t, func(r *http.Request) (string, bool) {
		directive := "no-store"
		if r.RequestURI == "/stored" {
			directive = "max-age=600"
		}
		announced := "Trailer: X-Sum\r\n"
		if r.RequestURI == "/unannounced" {
			announced = ""
		}
		return "HTTP/1.1 200 OK\r\nCache-Control: " + directive + "\r\n" + announced + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n" + trailers + "\r\n", false
	})
	n := configured(t, site(o.URL, `"*"`, ""))
	for _, target := range []string{"/passed", "/unannounced", "/stored", "/stored"} {
		res := open(t, n, target)
		body, err := io.ReadAll(res.Body)
		if err != nil || string(body) != "ok" {
			t.Fatalf("%s: %q, %v", target, body, err)
		}
		res.Body.Close()
		for name, values := range res.Trailer {
			if name != "X-Sum" {
				t.Errorf("%s: trailer %s: %q", target, name, values)
			}
		}
		for name, values := range res.Header {
			if strings.Contains(fmt.Sprint(values), "evil") {
				t.Errorf("%s: field %s: %q", target, name, values)
			}
		}
	}
}

// D4: an error that one client's field provoked is not the next one's answer.
func TestErrorOfOneClientPoisonsNobody(t *testing.T) {
	t.Parallel()
	o := listenRaw(t, func(r *http.Request) (string, bool) {
		if status := r.Header.Get("X-Odd"); status != "" {
			return "HTTP/1.1 " + status + " Odd\r\nCache-Control: public, max-age=600\r\nContent-Length: 0\r\n\r\n", false
		}
		return sound("good"), false
	})
	n := configured(t, site(o.URL, `"*"`, ""))
	for _, status := range []string{"406", "408", "411", "412", "413", "415", "416", "417", "421", "425", "426", "428", "429", "431"} {
		c := call(t, n.Addr)
		first := c.ask(t, "GET /"+status+" HTTP/1.1\r\nHost: a.test\r\nX-Odd: "+status+"\r\n\r\n")
		second := c.ask(t, "GET /"+status+" HTTP/1.1\r\nHost: a.test\r\n\r\n")
		if !strings.HasPrefix(first, "HTTP/1.1 "+status) || !strings.HasSuffix(second, "\r\n\r\ngood") {
			t.Errorf("%s: %.100q, and then %.100q", status, first, second)
		}
	}
}

// W1, W5: where a rule stores by path, the page of an account is no style sheet, and
// nobody had to say so.
func TestDeceptionGuardIsOnByDefault(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
		kind := "text/html"
		if strings.HasPrefix(r.URL.Path, "/static/") {
			kind = "text/css"
		}
		fields("for "+r.Header.Get("Cookie"), "Content-Type", kind)(w, r)
	})
	n := configured(t, site(o.URL, `"*"`, `
  cache {
    ttl     = "1h"
    cookies = "ignore"
  }`))
	for _, target := range []string{"/account/x.css", "/account/.css", "/account/x.js", "/account/x.png", "/account/x.woff2", "/account%2Fx.css", "/account/a/b.ico"} {
		get(t, n, target, "Cookie", "alice")
		if a := get(t, n, target); a.hit() || strings.Contains(a.Body, "alice") {
			t.Errorf("%s: the page of one user is read by another: %q", target, a.Body)
		}
	}
	warm(t, n, "/static/x.css")
}

// R1, R2: small parts of a large file that is not stored cost the origin about as
// much as they cost the client, whether or not it says how large the file is; of
// several parts at once it never hears.
func TestRangesDoNotAmplify(t *testing.T) {
	t.Parallel()
	const size, requests = 256 << 20, 50
	var sent atomic.Int64
	var severally atomic.Int32
	o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		asked := r.Header.Get("Range")
		if strings.Contains(asked, ",") {
			severally.Add(1)
		}
		length := int64(size)
		if asked == "bytes=0-0" {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-0/%d", size))
			length = 1
		}
		if strings.HasPrefix(r.URL.Path, "/counted") {
			w.Header().Set("Content-Length", fmt.Sprint(length))
		}
		if asked == "bytes=0-0" {
			w.WriteHeader(http.StatusPartialContent)
		}
		part := make([]byte, 64<<10)
		for length > 0 {
			n, err := w.Write(part[:min(length, int64(len(part)))])
			sent.Add(int64(n))
			length -= int64(n)
			if err != nil {
				return
			}
		}
	})
	n := configured(t, site(o.URL, `"*"`, ""))
	for _, target := range []string{"/counted", "/uncounted"} {
		sent.Store(0)
		for range requests {
			res := open(t, n, target, "Range", "bytes=0-0")
			res.Body.Close() // the client leaves with what it wanted
		}
		// One fetch of the whole was begun, and cut: what sockets hold, and what is
		// kept before a body proves too large.
		if total := sent.Load(); total > 32<<20 {
			t.Errorf("%s: %d requests for one byte cost the origin %d KiB", target, requests, total>>10)
		} else {
			t.Logf("%s: %d requests for one byte cost the origin %d KiB", target, requests, total>>10)
		}
	}
	for _, target := range []string{"/counted", "/counted?again"} {
		open(t, n, target, "Range", "bytes=0-,0-,0-,0-,0-,0-,0-,0-,0-,0-").Body.Close()
		open(t, n, target, "Range", "bytes=0-0,5-5").Body.Close()
	}
	equal(t, "requests for several parts", severally.Load(), 0)
}

// P16: strangers learn neither keys nor where things are kept.
func TestCacheStatusTellsNoInternals(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, fields("x", "Cache-Control", "max-age=600"))
	n := front(t, o)
	for _, a := range []answer{get(t, n, "/"), warm(t, n, "/")} {
		for name := range a.cacheStatus() {
			if !slices.Contains([]string{"hit", "fwd", "fwd-status", "ttl", "stored", "collapsed", "detail"}, name) {
				t.Errorf("Cache-Status tells %s: %s", name, a.Header.Get("Cache-Status"))
			}
		}
	}
}
