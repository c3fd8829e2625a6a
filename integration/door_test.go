package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"edge/integration/internal/node"
	"edge/integration/internal/origin"
)

// rawOrigin answers with bytes as they stand, by path, one answer for each
// connection.
func rawOrigin(tb testing.TB, answers map[string]string) *origin.Origin {
	return origin.Start(tb, func(w http.ResponseWriter, r *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic("origin: hijack: " + err.Error())
		}
		path, _, _ := strings.Cut(r.RequestURI, "?")
		io.WriteString(c, answers[path])
		c.Close()
	})
}

// TestBothWaysAnswerAlike: a plain hit is answered on the connection itself. A
// field that is of no consequence, TE, has the same request take the long way
// through net/http: what the client reads is the same, to the last byte.
func TestBothWaysAnswerAlike(t *testing.T) {
	t.Parallel()
	const fresh = "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nConnection: close\r\n"
	stored := map[string]string{
		"/page":        fresh + "Etag: \"a\"\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\n0123456789",
		"/bare":        fresh + "Content-Length: 5\r\n\r\n<html",
		"/empty":       fresh + "Content-Length: 0\r\n\r\n",
		"/chunked":     fresh + "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
		"/many":        fresh + "Link: </a>\r\nlink: </b>\r\nX-Empty:\r\nx_under: 1\r\nCache-Status: inner; hit\r\nCache-Status: outer; fwd=miss\r\nAge: 5\r\nContent-Length: 1\r\n\r\nx",
		"/none":        "HTTP/1.1 204 No Content\r\nCache-Control: max-age=600\r\nConnection: close\r\n\r\n",
		"/none/length": "HTTP/1.1 204 No Content\r\nCache-Control: max-age=600\r\nContent-Length: 7\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n",
		"/reset":       "HTTP/1.1 205 Reset Content\r\nCache-Control: max-age=600\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
		"/moved":       "HTTP/1.1 301 Gone Away\r\nCache-Control: max-age=600\r\nLocation: /page\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
		"/missing":     "HTTP/1.1 404 Not Found\r\nCache-Control: max-age=600\r\nContent-Length: 4\r\nConnection: close\r\n\r\ngone",
		"/odd":         "HTTP/1.1 299 Odd\r\nCache-Control: max-age=600\r\nContent-Length: 3\r\nConnection: close\r\n\r\nodd",
		"/varied":      fresh + "Vary: X-Shop, Accept-Encoding\r\nContent-Length: 2\r\n\r\nok",
		"//two":        fresh + "Content-Length: 3\r\n\r\ntwo",
		"/large":       fresh + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", 60_000, strings.Repeat("abc", 20_000)),
	}
	o := rawOrigin(t, stored)
	ruled := configured(t, site(o.URL, `"*"`, "  response_headers {\n    remove = [\"Content-Type\"]\n    set = { \"X-Host\" = \"${req.host}\" }\n  }"))
	plain := configured(t, site(o.URL, `"*"`, ""))
	for name, n := range map[string]*node.Node{"rules": ruled, "plain": plain} {
		c := call(t, n.Addr)
		for target := range stored {
			until(t, "a hit for "+target, func() (string, bool) {
				a := c.ask(t, "GET "+target+" HTTP/1.1\r\nHost: a.test\r\nX-Shop: 1\r\nTE: trailers\r\n\r\n")
				return a, strings.Contains(a, "edge; hit")
			})
			for _, fields := range []string{
				"", "Connection: keep-alive\r\nConnection: Keep-Alive\r\n", "If-None-Match: \"a\"\r\n", "If-None-Match: \"b\"\r\nIf-None-Match: *\r\n",
				"If-Modified-Since: Mon, 01 Jan 2024 00:00:00 GMT\r\n", "Range: bytes=1-2\r\n", "Range: bytes=0-0,2-3\r\n", "Range: bytes=900000-\r\n",
				"Range: bytes=0-1\r\nRange: bytes=2-3\r\n", "Pragma: no-cache\r\nCache-Control: max-age=100\r\n", "Cache-Control: only-if-cached\r\n",
				"If-Match: \"z\"\r\n", "Cookie: a=b\r\nAuthorization: x\r\n", "Content-Type: x\r\nX_Y: 1\r\nMax-Forwards: 0\r\n", "Accept: text/event-stream, */*\r\n",
			} {
				for _, line := range []string{"GET " + target, "HEAD /." + target} {
					request := line + " HTTP/1.1\r\nhOST:  A.test:80\t\r\nX-Shop:1 \r\n" + fields
					var door, house string
					for range 4 { // the age may tick between the two
						door = inOrder(c.ask(t, request+"\r\n"))
						house = inOrder(c.ask(t, request+"TE: trailers\r\n\r\n"))
						if door == house {
							break
						}
					}
					if door != house {
						t.Errorf("%s: %q:\n%.600q by itself,\n%.600q the long way", name, request, door, house)
					}
				}
			}
		}
	}
}

// inOrder puts the fields of an answer in order, those of one name as they came: that
// is all in which the two ways may differ.
func inOrder(answer string) string {
	head, body, _ := strings.Cut(answer, "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	slices.SortStableFunc(lines[1:], func(a, b string) int {
		nameA, _, _ := strings.Cut(a, ":")
		nameB, _, _ := strings.Cut(b, ":")
		return strings.Compare(nameA, nameB)
	})
	return strings.Join(lines, "\r\n") + "\r\n\r\n" + body
}

var boundary = regexp.MustCompile(`(boundary=|\r\n--)[A-Z2-7]{26}`)

// line is one connection to a node, on which requests are asked in turn.
type line struct {
	net.Conn
	in   *bufio.Reader
	read strings.Builder // what came since the last request
}

func call(tb testing.TB, addr string) *line {
	tb.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	l := &line{Conn: c}
	l.in = bufio.NewReader(io.TeeReader(c, &l.read))
	return l
}

// ask returns the bytes of the answer, boundaries of multipart bodies made alike.
func (l *line) ask(tb testing.TB, request string) string {
	tb.Helper()
	l.read.Reset()
	io.WriteString(l, request)
	method, _, _ := strings.Cut(request, " ")
	res, err := http.ReadResponse(l.in, &http.Request{Method: method})
	if err == nil {
		_, err = io.Copy(io.Discard, res.Body)
	}
	if err != nil {
		tb.Fatalf("%q: %v after %.300q", request, err, l.read.String())
	}
	if extra := l.in.Buffered(); extra > 0 {
		tb.Fatalf("%q: %d bytes behind the answer %.300q", request, extra, l.read.String())
	}
	return boundary.ReplaceAllString(l.read.String(), "${1}x")
}

// TestDrainingWaitsForSlowReaders: an answer under way has the whole grace, however
// it came about.
func TestDrainingWaitsForSlowReaders(t *testing.T) {
	t.Parallel()
	const size = 8 << 20 // more than sockets hold
	o := origin.Start(t, fields(strings.Repeat("x", size), "Cache-Control", "max-age=600"))
	n := configured(t, site(o.URL, `"*"`, ""), `shutdown_grace = "60s"`)
	warm(t, n, "/", "Host", "a")
	c, err := net.DialTCP("tcp", nil, mustResolve(t, n.Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetReadBuffer(256 << 10)
	c.SetDeadline(time.Now().Add(patience))
	in := bufio.NewReader(c)
	for _, request := range []string{"HEAD / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"} {
		io.WriteString(c, request)
		method, _, _ := strings.Cut(request, " ")
		res, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			t.Fatal(err)
		}
		if method == "HEAD" {
			continue
		}
		n.Signal(t, syscall.SIGTERM)
		time.Sleep(7 * time.Second) // longer than a node needs to end when nothing is under way
		got, err := io.Copy(io.Discard, res.Body)
		if err != nil || got != size {
			t.Errorf("read %d bytes of %d, and %v", got, size, err)
		}
	}
	n.Ended(t)
}

func mustResolve(tb testing.TB, addr string) *net.TCPAddr {
	tb.Helper()
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	return a
}
