package integration

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"edge/integration/internal/node"
)

// What the door makes of requests as bytes. A case begins with the attack's name,
// where it is one.

// ear is an origin that keeps every byte that it is sent.
type ear struct {
	URL string

	mu    sync.Mutex // guards all below
	heard bytes.Buffer
	whole []string // targets of the requests whose bodies came whole
}

// listen starts an ear. It says what it was asked, and lets what is below /hit be
// stored.
func listen(tb testing.TB) *ear {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	e := &ear{URL: "http://" + l.Addr().String()}
	server := &http.Server{DisableGeneralOptionsHandler: true, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler) // cut off in the middle: nobody waits for an answer
		}
		e.mu.Lock()
		e.whole = append(e.whole, r.RequestURI)
		e.mu.Unlock()
		if strings.HasPrefix(r.RequestURI, "/hit") {
			w.Header().Set("Cache-Control", "max-age=600")
		}
		fmt.Fprintf(w, "%s %s %s", r.Method, r.RequestURI, body)
	})}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(&listeningIn{l, e}) })
	tb.Cleanup(func() {
		server.Close()
		serving.Wait()
	})
	return e
}

// mark returns a function that tells what was heard since, and whole.
func (e *ear) mark() (since func() (heard string, whole []string)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	from, first := e.heard.Len(), len(e.whole)
	return func() (string, []string) {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.heard.String()[from:], slices.Clone(e.whole[first:])
	}
}

type listeningIn struct {
	net.Listener
	ear *ear
}

func (l *listeningIn) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &heardConn{c, l.ear}, nil
}

type heardConn struct {
	net.Conn
	ear *ear
}

func (c *heardConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.ear.mu.Lock()
	c.ear.heard.Write(p[:n])
	c.ear.mu.Unlock()
	return n, err
}

// shopOf is a node that serves one authority, a.test.
func shopOf(tb testing.TB, e *ear, server ...string) *node.Node {
	return configured(tb, site(e.URL, `"a.test"`, ""), server...)
}

// reply is an answer as bytes.
type reply struct {
	status int
	head   string // the status line and the fields
	body   string
}

// converse sends the pieces on a connection of its own, and returns what came until
// the node closed it. Rest is what is no answer.
func converse(tb testing.TB, n *node.Node, pieces ...string) (replies []reply, rest string) {
	tb.Helper()
	c := call(tb, n.Addr)
	defer c.Close()
	kernel := askKernel(tb, c)
	defer kernel.close()
	for i, piece := range pieces {
		// The node may close before it has read all that it refuses; what it
		// answered is still there to be read.
		_, _ = io.WriteString(c, piece)
		if i < len(pieces)-1 {
			kernel.untilRead(tb)
		}
	}
	got, _ := io.ReadAll(c) // a reset behind an answer takes nothing from it
	return replyList(got)
}

// replyList takes a transcript apart. Interim answers (1xx) are left out.
func replyList(got []byte) (replies []reply, rest string) {
	for len(got) > 0 {
		in := bufio.NewReader(bytes.NewReader(got))
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			return replies, string(got)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			return replies, string(got)
		}
		head, _, _ := bytes.Cut(got, []byte("\r\n\r\n"))
		left, _ := io.ReadAll(in) // of memory
		got = got[len(got)-len(left):]
		if res.StatusCode >= 200 {
			replies = append(replies, reply{res.StatusCode, string(head) + "\r\n", string(body)})
		}
	}
	return replies, ""
}

// kernel tells how much of what was sent the other end has not read yet.
type kernel struct {
	socket        int // of sock_diag(7)
	local, remote *net.TCPAddr
}

func askKernel(tb testing.TB, c net.Conn) *kernel {
	tb.Helper()
	socket, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, syscall.NETLINK_INET_DIAG)
	if err != nil {
		tb.Fatal(err)
	}
	return &kernel{socket, c.LocalAddr().(*net.TCPAddr), c.RemoteAddr().(*net.TCPAddr)}
}

func (k *kernel) close() { syscall.Close(k.socket) }

// untilRead waits until the node has read what it was sent: so what is sent next is
// read by itself. It gives up after a while, since a connection that is refused need
// not be read any more.
func (k *kernel) untilRead(tb testing.TB) {
	tb.Helper()
	for range 200 {
		if k.unread(tb) == 0 {
			return
		}
	}
}

// unread asks for the node's end of the connection. What is there no more has nothing
// unread.
func (k *kernel) unread(tb testing.TB) uint32 {
	tb.Helper()
	const header, family, id, unread = 16, 4, 48, 4 + 48 + 4 // lengths; unread is an offset in the answer
	var q [header + family + 4 + id]byte
	binary.NativeEndian.PutUint32(q[0:], uint32(len(q)))
	binary.NativeEndian.PutUint16(q[4:], 20) // SOCK_DIAG_BY_FAMILY
	binary.NativeEndian.PutUint16(q[6:], syscall.NLM_F_REQUEST)
	q[header], q[header+1] = syscall.AF_INET, syscall.IPPROTO_TCP
	binary.NativeEndian.PutUint32(q[header+4:], 1<<32-1) // every state
	binary.BigEndian.PutUint16(q[header+8:], uint16(k.remote.Port))
	binary.BigEndian.PutUint16(q[header+10:], uint16(k.local.Port))
	copy(q[header+12:], k.remote.IP.To4())
	copy(q[header+28:], k.local.IP.To4())
	binary.NativeEndian.PutUint64(q[header+48:], 1<<64-1) // no cookie
	var a [1024]byte
	err := syscall.Sendto(k.socket, q[:], 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK})
	if err != nil {
		tb.Fatal(err)
	}
	n, _, err := syscall.Recvfrom(k.socket, a[:], 0)
	if err != nil || n < header {
		tb.Fatalf("the kernel's answer has %d bytes, %v", n, err)
	}
	if binary.NativeEndian.Uint16(a[4:]) != 20 || n < header+unread+4 {
		return 0
	}
	return binary.NativeEndian.Uint32(a[header+unread:])
}

const (
	lineGet  = "GET /case HTTP/1.1\r\n"
	headGet  = lineGet + "Host: a.test\r\n"
	headPost = "POST /case HTTP/1.1\r\nHost: a.test\r\n"
	second   = "GET /second HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
)

// coded is a POST with fields for its coding and an empty body in chunks.
func coded(fields string) string { return headPost + fields + "\r\n\r\n0\r\n\r\n" }

// long is a POST with fields for its length and a body of three bytes.
func long(fields string) string { return headPost + fields + "\r\n\r\nabc" }

func lines(format string, count int) string {
	var b strings.Builder
	for i := range count {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// refusedRequests are requests that the door refuses, each with the statuses that
// are right.
var refusedRequests = []struct{ name, request, status string }{
	{"S1 length and coding", coded("Content-Length: 5\r\nTransfer-Encoding: chunked"), "400"},
	{"S1 coding and length", coded("Transfer-Encoding: chunked\r\nContent-Length: 5"), "400"},
	{"S1 length of zero and coding", coded("Content-Length: 0\r\nTransfer-Encoding: chunked"), "400"},
	{"S1 length and coding of a GET", headGet + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
	{"S1 length and a coding that is none", coded("Content-Length: 5\r\nTransfer-Encoding: x"), "400"},

	{"S2 empty element", coded("Transfer-Encoding: ,chunked"), "400"},
	{"S2 empty element behind", coded("Transfer-Encoding: chunked,"), "400"},
	{"S2 nothing", coded("Transfer-Encoding:"), "400"},
	{"S2 almost chunked", coded("Transfer-Encoding: xchunked"), "501"},
	{"S2 chunk", coded("Transfer-Encoding: chunk"), "501"},
	{"S2 identity", coded("Transfer-Encoding: identity"), "501"},
	{"S2 gzip", coded("Transfer-Encoding: gzip"), "501"},
	{"S2 gzip, chunked", coded("Transfer-Encoding: gzip, chunked"), "501"},
	{"S2 identity, chunked", coded("Transfer-Encoding: identity, chunked"), "501"},
	{"S2 chunked, identity", coded("Transfer-Encoding: chunked, identity"), "400 501"},
	{"S2 chunked twice in a list", coded("Transfer-Encoding: chunked, chunked"), "400"},
	{"S2 chunked twice in lines", coded("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), "400"},
	{"S2 chunked and identity in lines", coded("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"), "400 501"},
	{"S2 identity and chunked in lines", coded("Transfer-Encoding: identity\r\ntransfer-encoding: chunked"), "400 501"},
	{"S2 nothing and chunked in lines", coded("Transfer-Encoding:\r\nTransfer-Encoding: chunked"), "400"},
	{"S2 vertical tab", coded("Transfer-Encoding: \x0bchunked"), "400"},
	{"S2 form feed behind", coded("Transfer-Encoding: chunked\x0c"), "400"},
	{"S2 no-break space", coded("Transfer-Encoding: \xa0chunked"), "400"},
	{"S2 NUL", coded("Transfer-Encoding: chunked\x00"), "400"},
	{"S2 in quotes", coded(`Transfer-Encoding: "chunked"`), "400"},
	{"S2 in single quotes", coded("Transfer-Encoding: 'chunked'"), "400 501"},
	{"S2 with a parameter", coded("Transfer-Encoding: chunked;a=b"), "400 501"},
	{"S2 two words", coded("Transfer-Encoding: x chunked"), "400"},
	{"S2 folded", coded("Transfer-Encoding:\r\n chunked"), "400"},
	{"S2 folded behind", coded("Transfer-Encoding: chunked\r\n x"), "400"},
	{"S2 line feed", coded("Transfer-Encoding:\n chunked"), "400"},

	{"S3 two lengths", long("Content-Length: 3\r\nContent-Length: 4"), "400"},
	{"S3 one length twice", long("Content-Length: 3\r\nContent-Length: 3"), "400"},
	{"S3 list of lengths", long("Content-Length: 3, 3"), "400"},
	{"S3 list with an empty element", long("Content-Length: 3,"), "400"},
	{"S3 plus", long("Content-Length: +3"), "400"},
	{"S3 minus", long("Content-Length: -3"), "400"},
	{"S3 minus zero", long("Content-Length: -0"), "400"},
	{"S3 hexadecimal", long("Content-Length: 0x3"), "400"},
	{"S3 octal", long("Content-Length: 0o3"), "400"},
	{"S3 underscore", long("Content-Length: 0_3"), "400"},
	{"S3 nothing", long("Content-Length:"), "400"},
	{"S3 spaces", long("Content-Length:   "), "400"},
	{"S3 overflow of 63 bits", long("Content-Length: 9223372036854775808"), "400"},
	{"S3 overflow of 64 bits", long("Content-Length: 18446744073709551619"), "400"},
	{"S3 fraction", long("Content-Length: 3.0"), "400"},
	{"S3 exponent", long("Content-Length: 3e0"), "400"},
	{"S3 two numbers", long("Content-Length: 3 3"), "400"},
	{"S3 in quotes", long(`Content-Length: "3"`), "400"},
	{"S3 superscript", long("Content-Length: \xb3"), "400"},
	{"S3 vertical tab", long("Content-Length: 3\x0b"), "400"},
	{"S3 NUL", long("Content-Length: 3\x00"), "400"},
	{"S3 word", long("Content-Length: three"), "400"},
	{"S3 of a GET", headGet + "Content-Length: -1\r\n\r\n", "400"},
	{"S3 length of HTTP/1.0", "POST /case HTTP/1.0\r\nHost: a.test\r\nContent-Length: +3\r\n\r\nabc", "400"},

	{"S4 something before 100-continue", long("Content-Length: 3\r\nExpect: y 100-continue"), "417"},
	{"S4 another expectation", long("Content-Length: 3\r\nExpect: 200-ok"), "417"},
	{"S4 expectation twice in a list", long("Content-Length: 3\r\nExpect: 100-continue, 100-continue"), "417"},
	{"S4 expectation twice in lines", long("Content-Length: 3\r\nExpect: 100-continue\r\nExpect: 100-continue"), "417"},
	{"S4 expectation and another", long("Content-Length: 3\r\nExpect: 100-continue\r\nExpect: x"), "417"},
	{"S4 expectation with a parameter", long("Content-Length: 3\r\nExpect: 100-continue;a"), "417"},
	{"S4 empty expectation", long("Content-Length: 3\r\nExpect:"), "417"},
	{"S4 obfuscated expectation", long("Content-Length: 3\r\nExpect: 100-continu\x80"), "417"},
	{"S4 control in an expectation", long("Content-Length: 3\r\nExpect: \x0b100-continue"), "400"},
	{"S4 expectation of a GET", headGet + "Expect: y 100-continue\r\n\r\n", "417"},

	{"S7 line feeds only", "GET /case HTTP/1.1\nHost: a.test\n\n", "400"},
	{"S7 line feed behind the request line", "GET /case HTTP/1.1\nHost: a.test\r\n\r\n", "400"},
	{"S7 line feed behind a field", lineGet + "Host: a.test\nX-A: b\r\n\r\n", "400"},
	{"S7 line feed at the end", lineGet + "Host: a.test\r\n\n", "400"},
	{"S7 line feed before the end", lineGet + "Host: a.test\n\r\n", "400"},
	{"S7 line feed in front", "\nGET /case HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"S7 line feed in a name", headGet + "X-\nA: b\r\n\r\n", "400"},
	{"S7 hidden field", headGet + "X-A: b\nContent-Length: 50\r\n\r\n", "400"},
	{"S7 carriage returns only", "GET /case HTTP/1.1\rHost: a.test\r\r\r\n\r\n", "400"},
	{"S7 carriage return in a value", headGet + "X-A: a\rb\r\n\r\n", "400"},
	{"S7 carriage return before the line end", headGet + "X-A: a\r\r\n\r\n", "400"},
	{"S7 carriage return in the request line", "GET /case\r HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"S7 carriage return hides a field", headGet + "X-A: b\rContent-Length: 50\r\n\r\n", "400"},

	{"S8 space before the colon", long("Content-Length : 3"), "400"},
	{"S8 tab before the colon", long("Content-Length\t: 3"), "400"},
	{"S8 tab before the name", long("\tContent-Length: 3"), "400"},
	{"S8 space before the first name", lineGet + " Host: a.test\r\nHost: a.test\r\n\r\n", "400"},
	{"S8 folded with a space", headGet + "X-A: a\r\n b\r\n\r\n", "400"},
	{"S8 folded with a tab", headGet + "X-A: a\r\n\tb\r\n\r\n", "400"},
	{"S8 folded with nothing", headGet + "X-A: a\r\n \r\n\r\n", "400"},
	{"S8 no colon", headGet + "X-A\r\n\r\n", "400"},
	{"S8 no name", headGet + ": a\r\n\r\n", "400"},
	{"S8 next line in a name", headGet + "X-A\x85: a\r\n\r\n", "400"},
	{"S8 not ASCII in a name", headGet + "X-\xc3\xa4: a\r\n\r\n", "400"},
	{"S8 NUL in a name", headGet + "X-\x00A: a\r\n\r\n", "400"},
	{"S8 vertical tab behind a name", coded("Transfer-Encoding\x0b: chunked"), "400"},
	{"S8 space in a name", headGet + "X A: a\r\n\r\n", "400"},
	{"S8 parenthesis in a name", headGet + "X(A: a\r\n\r\n", "400"},
	{"S8 at in a name", headGet + "X@A: a\r\n\r\n", "400"},
	{"S8 quotes in a name", headGet + "\"X\": a\r\n\r\n", "400"},

	{"S9 coding of HTTP/1.0", "POST /case HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
	{"S9 coding and length of HTTP/1.0", "POST /case HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "400"},
	{"S9 HTTP/1.2", "GET /case HTTP/1.2\r\nHost: a.test\r\n\r\n", "505"},
	{"S9 HTTP/1.9", "GET /case HTTP/1.9\r\nHost: a.test\r\n\r\n", "505"},
	{"S9 HTTP/2.0", "GET /case HTTP/2.0\r\nHost: a.test\r\n\r\n", "505"},
	{"S9 HTTP/3.0", "GET /case HTTP/3.0\r\nHost: a.test\r\n\r\n", "505"},
	{"S9 preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400 505"},
	{"S9 HTTP/0.9 by its name", "GET /case HTTP/0.9\r\nHost: a.test\r\n\r\n", "400 505"},
	{"S9 HTTP/0.9", "GET /case\r\n", "400 505"},
	{"S9 HTTP/0.9 with an empty line", "GET /case\r\n\r\n", "400 505"},
	{"S9 no minor version", "GET /case HTTP/1\r\nHost: a.test\r\n\r\n", "400"},
	{"S9 two digits", "GET /case HTTP/1.10\r\nHost: a.test\r\n\r\n", "400"},
	{"S9 leading zero", "GET /case HTTP/01.1\r\nHost: a.test\r\n\r\n", "400"},
	{"S9 lower case", "GET /case http/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"S9 space in the version", "GET /case HTTP/ 1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"S9 space behind the version", "GET /case HTTP/1.1 \r\nHost: a.test\r\n\r\n", "400"},
	{"S9 another protocol", "GET /case ICY/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"S9 two spaces before the target", "GET  /case HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"S9 two spaces behind the target", "GET /case  HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"S9 tab before the target", "GET\t/case HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"S9 space in front", " GET /case HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"S9 method that is no token", "G(T /case HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"S9 no method", "/case HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"S9 colon behind the method", "GET: /case HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},

	{"S10 upgrade with a body", headGet + "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nContent-Length: 3\r\n\r\nabc", "400"},
	{"S10 upgrade with a body in chunks", headGet + "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},

	{"P3 port that is none", lineGet + "Host: a.test:bad\r\n\r\n", "400"},
	{"P3 port out of range", lineGet + "Host: a.test:99999\r\n\r\n", "400"},
	{"P3 two ports", lineGet + "Host: a.test:80:80\r\n\r\n", "400"},
	{"P3 unkeyed port", lineGet + "Host: a.test:31337\r\n\r\n", "421"},
	{"P4 two Hosts", headGet + "Host: b.test\r\n\r\n", "400"},
	{"P4 one Host twice", headGet + "Host: a.test\r\n\r\n", "400"},
	{"P4 no Host", lineGet + "\r\n", "400"},
	{"P4 no Host, and fields", lineGet + "Accept: */*\r\n\r\n", "400"},
	{"P4 empty Host", lineGet + "Host:\r\n\r\n", "400"},
	{"P4 space before Host", lineGet + "X-A: b\r\n Host: b.test\r\nHost: a.test\r\n\r\n", "400"},
	{"P4 space behind Host", lineGet + "Host : a.test\r\n\r\n", "400"},
	{"P4 space in Host", lineGet + "Host: a.test b.test\r\n\r\n", "400"},
	{"P4 user in Host", lineGet + "Host: b@a.test\r\n\r\n", "400"},
	{"P4 list in Host", lineGet + "Host: a.test, b.test\r\n\r\n", "400"},
	{"P4 path in Host", lineGet + "Host: a.test/b\r\n\r\n", "400"},
	{"P4 query in Host", lineGet + "Host: a.test?b\r\n\r\n", "400"},
	{"P4 fragment in Host", lineGet + "Host: a.test#b\r\n\r\n", "400"},
	{"P4 scheme in Host", lineGet + "Host: http://a.test\r\n\r\n", "400"},
	{"P4 backslash in Host", lineGet + "Host: a.test\\b\r\n\r\n", "400"},
	{"P4 control in Host", lineGet + "Host: a.test\x01\r\n\r\n", "400"},
	{"P4 not ASCII in Host", lineGet + "Host: \xc3\xa4.test\r\n\r\n", "400"},
	{"P4 half an address", lineGet + "Host: [::1\r\n\r\n", "400"},
	{"P4 folded Host", lineGet + "Host:\r\n a.test\r\n\r\n", "400"},
	{"P4 absolute target of another", "GET http://b.test/case HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"P4 absolute target and another Host", "GET http://a.test/case HTTP/1.1\r\nHost: b.test\r\n\r\n", "400"},
	{"P4 absolute target of another port", "GET http://a.test:8080/case HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"P4 absolute target without Host", "GET http://a.test/case HTTP/1.1\r\n\r\n", "400"},
	{"P4 absolute target and an empty Host", "GET http://a.test/case HTTP/1.1\r\nHost:\r\n\r\n", "400"},
	{"P4 absolute target with a user", "GET http://b@a.test/case HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"P4 absolute target without authority", "GET http:///case HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"P4 another scheme", "GET ftp://a.test/case HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"P4 scheme of a file", "GET file:///etc/passwd HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"P5 unknown host", lineGet + "Host: evil.test\r\n\r\n", "421"},
	{"P5 unknown host of both", "GET http://evil.test/case HTTP/1.1\r\nHost: evil.test\r\n\r\n", "421"},
	{"P5 address", lineGet + "Host: 127.0.0.1\r\n\r\n", "421"},

	{"P11 fragment", "GET /#/../?r=x HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"P11 fragment in a query", "GET /case?a#b HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"P11 space", "GET /case b HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"P11 a second version", "GET /case HTTP/1.1 HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"P11 tab", "GET /case\tb HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"P11 control", "GET /case\x01b HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"P11 NUL", "GET /case\x00b HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"P11 DEL", "GET /case\x7f HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"P11 not ASCII", "GET /\xc3\xa4 HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"P11 not ASCII in a query", "GET /case?\xff HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"P11 no slash", "GET case HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"P11 query alone", "GET ?case HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"P11 asterisk of a GET", "GET * HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"P11 authority of a GET", "GET a.test:80 HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"P11 malformed escape", "GET /case%zz HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},

	{"P17 PURGE", "PURGE /case HTTP/1.1\r\nHost: a.test\r\n\r\n", "405"},
	{"H5 CONNECT", "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n", "405"},
	{"H5 CONNECT of a site", "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test\r\n\r\n", "405"},
	{"H5 TRACE", "TRACE /case HTTP/1.1\r\nHost: a.test\r\nX-A: b\r\n\r\n", "405"},

	{"D1 field of 5 KB", headGet + "X-A: " + strings.Repeat("a", 5<<10) + "\r\n\r\n", "431"},
	{"D1 field of 20 KB", headGet + "X-A: " + strings.Repeat("a", 20<<10) + "\r\n\r\n", "431"},
	{"D1 field of 1 MB", headGet + "X-A: " + strings.Repeat("a", 1<<20) + "\r\n\r\n", "431"},
	{"D1 field of 5 KB spaces", headGet + "X-A: " + strings.Repeat(" ", 5<<10) + "\r\n\r\n", "431"},
	{"D1 head of 12 KB", headGet + lines("X-%d: "+strings.Repeat("a", 4000)+"\r\n", 3) + "\r\n", "431"},
	{"D1 101 fields", headGet + lines("X-%d: a\r\n", 100) + "\r\n", "431"},
	{"D1 101 fields of one name", headGet + lines("X-A: %d\r\n", 100) + "\r\n", "431"},
	{"D1 5000 fields", headGet + lines("X-%d: a\r\n", 5000) + "\r\n", "431"},
	{"D1 target of 5 KB", "GET /" + strings.Repeat("a", 5<<10) + " HTTP/1.1\r\nHost: a.test\r\n\r\n", "414"},
	{"D1 query of 5 KB", "GET /?" + strings.Repeat("a", 5<<10) + " HTTP/1.1\r\nHost: a.test\r\n\r\n", "414"},
	{"D1 target of 1 MB", "GET /" + strings.Repeat("a", 1<<20) + " HTTP/1.1\r\nHost: a.test\r\n\r\n", "414"},
	{"D1 method of 20 KB", strings.Repeat("A", 20<<10) + " / HTTP/1.1\r\nHost: a.test\r\n\r\n", "400 414 431 501"},

	{"D2 NUL", headGet + "X-A: a\x00b\r\n\r\n", "400"},
	{"D2 BEL", headGet + "X-A: a\x07b\r\n\r\n", "400"},
	{"D2 ESC", headGet + "X-A: \x1b[31m\r\n\r\n", "400"},
	{"D2 vertical tab", headGet + "X-A: a\x0bb\r\n\r\n", "400"},
	{"D2 DEL", headGet + "X-A: a\x7fb\r\n\r\n", "400"},
	{"D2 in a cookie", headGet + "Cookie: a=\x01\r\n\r\n", "400"},
}

// TestRefusedAtTheDoor sends each of them by itself and behind a good request, with
// another good one in the same write behind it. It has one answer, which says that
// the connection ends; the origin hears nothing of it and of what stands behind it,
// and the next connection is served.
func TestRefusedAtTheDoor(t *testing.T) {
	t.Parallel()
	e := listen(t)
	n := shopOf(t, e)
	for _, test := range refusedRequests {
		for _, before := range []string{"", "GET /before HTTP/1.1\r\nHost: a.test\r\n\r\n"} {
			t.Run(test.name+map[bool]string{true: "", false: ", as the second"}[before == ""], func(t *testing.T) {
				since := e.mark()
				replies, rest := converse(t, n, before+test.request+second)
				wantHeard := []string{"/after"}
				if before != "" {
					wantHeard = []string{"/before", "/after"}
					if len(replies) == 0 || replies[0].status != 200 || replies[0].body != "GET /before " {
						t.Fatalf("the good request before it has the answer %+v", replies)
					}
					replies = replies[1:]
				}
				if len(replies) != 1 || rest != "" {
					t.Errorf("%d answers and %.60q, want one: %.300q", len(replies), rest, fmt.Sprint(replies))
				} else {
					a := replies[0]
					if !slices.Contains(strings.Fields(test.status), strconv.Itoa(a.status)) {
						t.Errorf("status %d, want %s", a.status, test.status)
					}
					if !strings.Contains(a.head, "\r\nConnection: close\r\n") {
						t.Errorf("the answer does not say that the connection ends: %q", a.head)
					}
				}
				after, _ := converse(t, n, "GET /after HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
				if len(after) != 1 || after[0].body != "GET /after " {
					t.Errorf("the next connection has %+v", after)
				}
				heard, whole := since()
				if !slices.Equal(whole, wantHeard) || strings.Count(heard, " HTTP/1.1\r\n") != len(wantHeard) {
					t.Errorf("the origin heard of it:\n%.600s", heard)
				}
			})
		}
	}
}

// TestMalformedChunks: the head is good, and may be on its way to the origin when
// the body proves to be none. What the origin gets of it is never a whole request,
// and what stands behind the fault is no request of anybody's.
func TestMalformedChunks(t *testing.T) {
	t.Parallel()
	e := listen(t)
	n := shopOf(t, e)
	for _, test := range []struct{ name, body string }{
		{"S5 carriage returns before an extension", "2\r\r;a\r\nok\r\n0\r\n\r\n"},
		{"S5 line feed in an extension", "2;a\nb\r\nok\r\n0\r\n\r\n"},
		{"S5 carriage return in an extension", "2;a\rb\r\nok\r\n0\r\n\r\n"},
		{"S5 control in an extension", "2;a\x00\r\nok\r\n0\r\n\r\n"},
		{"S5 extension without a name", "2;\r\nok\r\n0\r\n\r\n"},
		{"S5 no semicolon", "2 a\r\nok\r\n0\r\n\r\n"},
		{"S5 open quotes", "2;a=\"\r\nok\r\n0\r\n\r\n"},
		{"S5 extension of 64 KB", "2;" + strings.Repeat("a", 64<<10) + "\r\nok\r\n0\r\n\r\n"},
		{"S5 extensions of 1 MB", strings.Repeat("1;"+strings.Repeat("a", 1000)+"\r\nx\r\n", 1000) + "0\r\n\r\n"},
		{"S5 extension of the last chunk", "2\r\nok\r\n0;\n\r\n\r\n"},
		{"S6 hexadecimal by its name", "0x2\r\nok\r\n0\r\n\r\n"},
		{"S6 plus", "+2\r\nok\r\n0\r\n\r\n"},
		{"S6 minus", "-2\r\nok\r\n0\r\n\r\n"},
		{"S6 minus zero", "-0x0\r\nok\r\n0\r\n\r\n"},
		{"S6 minus zero alone", "-0\r\n\r\n"},
		{"S6 space before", " 2\r\nok\r\n0\r\n\r\n"},
		{"S6 space behind", "2 \r\nok\r\n0\r\n\r\n"},
		{"S6 tab behind", "2\t\r\nok\r\n0\r\n\r\n"},
		{"S6 underscore", "0_2\r\nok\r\n0\r\n\r\n"},
		{"S6 nothing", "\r\nok\r\n0\r\n\r\n"},
		{"S6 nothing before an extension", ";a\r\nok\r\n0\r\n\r\n"},
		{"S6 17 digits", "10000000000000002\r\nok\r\n0\r\n\r\n"},
		{"S6 17 digits, most of them zero", "00000000000000002\r\nok\r\n0\r\n\r\n"},
		{"S6 more than can be", "ffffffffffffffff\r\nok\r\n0\r\n\r\n"},
		{"S6 no digit", "g\r\nok\r\n0\r\n\r\n"},
		{"S6 not ASCII", "\xb2\r\nok\r\n0\r\n\r\n"},
		{"S6 more than the size", "2\r\nokk\r\n0\r\n\r\n"},
		{"S6 less than the size", "3\r\nok\r\n0\r\n\r\n"},
		{"S6 NUL behind the size", "2\x00\r\nok\r\n0\r\n\r\n"},
		{"S7 line feeds only", "2\nok\n0\n\n"},
		{"S7 line feed behind the size", "2\nok\r\n0\r\n\r\n"},
		{"S7 line feed behind the data", "2\r\nok\n0\r\n\r\n"},
		{"S7 line feed behind the last size", "2\r\nok\r\n0\n\r\n"},
		{"S7 line feed at the end", "2\r\nok\r\n0\r\n\n"},
		{"S7 carriage returns only", "2\rok\r0\r\r"},
		{"S7 carriage return behind the data", "2\r\nok\r0\r\n\r\n"},
		{"H2 trailer without a colon", "2\r\nok\r\n0\r\nX-A\r\n\r\n"},
		{"H2 trailer without a name", "2\r\nok\r\n0\r\n: a\r\n\r\n"},
		{"H2 trailer with a space before the colon", "2\r\nok\r\n0\r\nX-A : a\r\n\r\n"},
		{"H2 trailer with a space in front", "2\r\nok\r\n0\r\n X-A: a\r\n\r\n"},
		{"H2 folded trailer", "2\r\nok\r\n0\r\nX-A: a\r\n b\r\n\r\n"},
		{"H2 trailer with a line feed", "2\r\nok\r\n0\r\nX-A: a\n\r\n"},
		{"H2 trailer with a carriage return", "2\r\nok\r\n0\r\nX-A: a\rb\r\n\r\n"},
		{"H2 trailer with a control byte", "2\r\nok\r\n0\r\nX-A: \x00\r\n\r\n"},
		{"H2 trailer of 64 KB", "2\r\nok\r\n0\r\nX-A: " + strings.Repeat("a", 64<<10) + "\r\n\r\n"},
		{"H2 1000 trailers", "2\r\nok\r\n0\r\n" + lines("X-%d: a\r\n", 1000) + "\r\n"},
	} {
		for _, method := range []string{"POST", "GET"} {
			t.Run(test.name+" "+method, func(t *testing.T) {
				since := e.mark()
				replies, rest := converse(t, n, method+" /case HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"+test.body+second)
				if rest != "" || len(replies) > 1 {
					t.Errorf("more than one answer: %.300q %.60q", fmt.Sprint(replies), rest)
				}
				for _, a := range replies {
					if a.status != 400 || !strings.Contains(a.head, "\r\nConnection: close\r\n") {
						t.Errorf("answered %.300q, want 400 and the end of the connection", a.head)
					}
				}
				after, _ := converse(t, n, "GET /after HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
				if len(after) != 1 || after[0].body != "GET /after " {
					t.Errorf("the next connection has %+v", after)
				}
				heard, whole := since()
				if !slices.Equal(whole, []string{"/after"}) || strings.Contains(heard, "/second") {
					t.Errorf("the origin had %v whole, and heard\n%.600s", whole, heard)
				}
			})
		}
	}
}

// TestServedAtTheDoor: what is unusual and means one thing only is served, and the
// origin gets it in its one form. Each is followed by a second request in the same
// write.
func TestServedAtTheDoor(t *testing.T) {
	t.Parallel()
	e := listen(t)
	n := shopOf(t, e)
	warm(t, n, "/hit", "Host", "a.test")
	chunked := func(body string) string { return headPost + "Transfer-Encoding: chunked\r\n\r\n" + body }
	for _, test := range []struct {
		name, request string
		bodies        []string // of all answers
		heard         []string // all of which the origin hears,
		unheard       []string // and none of which
	}{
		{"S5 small extensions", chunked("2;a\r\nok\r\n1;b=c\r\n!\r\n1;d=\"e\\\"\"\r\n?\r\n0;f\r\n\r\n"), []string{"POST /case ok!?", "GET /second "}, nil, []string{";a", "b=c", ";d", ";f"}},
		{"S6 zeros before a size", chunked("0002\r\nok\r\n000\r\n\r\n"), []string{"POST /case ok", "GET /second "}, nil, nil},
		{"S6 digits of both cases", chunked("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"), []string{"POST /case 01234567890123456789", "GET /second "}, nil, nil},
		{"S2 coding in another case", headPost + "Transfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", []string{"POST /case ok", "GET /second "}, []string{"Transfer-Encoding: chunked\r\n"}, []string{"Chunked", "Content-Length"}},
		{"S3 length of zero", headPost + "Content-Length: 0\r\n\r\n", []string{"POST /case ", "GET /second "}, []string{"Content-Length: 0\r\n"}, nil},
		{"S3 no length", headPost + "\r\n", []string{"POST /case ", "GET /second "}, []string{"POST /case "}, []string{"chunked"}},
		{"S8 names in lower case", "POST /case HTTP/1.1\r\nhost: a.test\r\ncontent-length: 3\r\n\r\nabc", []string{"POST /case abc", "GET /second "}, []string{"Host: a.test\r\n", "Content-Length: 3\r\n"}, nil},
		{"S8 names in upper case", "POST /case HTTP/1.1\r\nHOST: a.test\r\nTRANSFER-ENCODING: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", []string{"POST /case a", "GET /second "}, []string{"Transfer-Encoding: chunked\r\n"}, nil},
		{"S8 no space behind the colon", headGet + "X-A:b\r\n\r\n", []string{"GET /case ", "GET /second "}, []string{"X-A: b\r\n"}, nil},
		{"S8 space around a value", headGet + "X-A:  b \t\r\n\r\n", []string{"GET /case ", "GET /second "}, []string{"X-A: b\r\n"}, nil},
		{"S8 empty value", headGet + "X-A:\r\n\r\n", []string{"GET /case ", "GET /second "}, nil, nil},
		{"S8 names with underscores", headPost + "X_A: 1\r\nContent_Length: 50\r\nTransfer_Encoding: chunked\r\nX-Forwarded_For: 6.6.6.6\r\n_: 1\r\nX-B: 2\r\n\r\n", []string{"POST /case ", "GET /second "}, []string{"X-B: 2\r\n"}, []string{"_"}},
		{"P4 absolute target", "GET http://a.test/case HTTP/1.1\r\nHost: a.test\r\n\r\n", []string{"GET /case ", "GET /second "}, []string{"GET /case HTTP/1.1\r\n", "Host: a.test\r\n"}, nil},
		{"P4 absolute target in another case", "GET HTTP://A.Test:80/case HTTP/1.1\r\nHost: a.TEST\r\n\r\n", []string{"GET /case ", "GET /second "}, []string{"GET /case HTTP/1.1\r\n", "Host: a.test\r\n"}, nil},
		{"P4 absolute target without a path", "GET http://a.test HTTP/1.1\r\nHost: a.test\r\n\r\n", []string{"GET / ", "GET /second "}, []string{"GET / HTTP/1.1\r\n"}, nil},
		{"P4 Host with the port of the scheme", lineGet + "Host: a.test:80\r\n\r\n", []string{"GET /case ", "GET /second "}, []string{"Host: a.test\r\n"}, nil},
		{"P4 names of hosts are of one case", lineGet + "Host: A.TEST\r\n\r\n", []string{"GET /case ", "GET /second "}, []string{"Host: a.test\r\n"}, nil},
		{"S9 HTTP/1.0", "GET /case HTTP/1.0\r\nHost: a.test\r\n\r\n", []string{"GET /case "}, nil, []string{"/second"}},
		{"S9 HTTP/1.0 that stays", "GET /case HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n", []string{"GET /case ", "GET /second "}, nil, nil},
		{"S9 HTTP/1.0 with a body", "POST /case HTTP/1.0\r\nHost: a.test\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc", []string{"POST /case abc", "GET /second "}, nil, nil},
		{"OPTIONS of the server", "OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n", []string{"OPTIONS * ", "GET /second "}, []string{"OPTIONS * HTTP/1.1\r\n"}, nil},
		{"an unknown method", "BREW /case HTTP/1.1\r\nHost: a.test\r\n\r\n", []string{"BREW /case ", "GET /second "}, nil, nil},
		{"pipelined", headGet + "\r\n" + headGet + "\r\n" + "GET /hit HTTP/1.1\r\nHost: a.test\r\n\r\n" + headGet + "\r\n", []string{"GET /case ", "GET /case ", "GET /hit ", "GET /case ", "GET /second "}, nil, []string{"/hit"}},
		{"pipelined hits", strings.Repeat("GET /hit HTTP/1.1\r\nHost: a.test\r\n\r\n", 3), []string{"GET /hit ", "GET /hit ", "GET /hit ", "GET /second "}, nil, []string{"/hit"}},
		{"pipelined behind a body", long("Content-Length: 3") + "GET /hit HTTP/1.1\r\nHost: a.test\r\n\r\n", []string{"POST /case abc", "GET /hit ", "GET /second "}, nil, []string{"/hit"}},
		{"pipelined behind chunks", chunked("2\r\nok\r\n0\r\n\r\n") + "GET /hit HTTP/1.1\r\nHost: a.test\r\n\r\n", []string{"POST /case ok", "GET /hit ", "GET /second "}, nil, []string{"/hit"}},
		{"S1 a request as a body", headPost + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(second), second), []string{"POST /case " + second, "GET /second "}, nil, nil},
		{"S11 body on a hit", "GET /hit HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc", []string{"GET /hit ", "GET /second "}, nil, []string{"/hit"}},
		{"S11 chunks on a hit", "GET /hit HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", []string{"GET /hit ", "GET /second "}, nil, []string{"/hit"}},
		{"S11 a request as the body on a hit", "GET /hit HTTP/1.1\r\nHost: a.test\r\n" + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(second), second), []string{"GET /hit ", "GET /second "}, nil, []string{"/hit"}},
		{"P10 body on a miss", headGet + "Content-Length: 3\r\n\r\nabc", []string{"GET /case ", "GET /second "}, nil, []string{"abc", "Content-Length"}},
		{"S10 upgrade to something with a request as its body", headGet + "Connection: Upgrade\r\nUpgrade: x\r\n" + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(second), second), []string{"GET /case ", "GET /second "}, nil, []string{"Upgrade"}},
		{"S12 h2c", headGet + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n", []string{"GET /case ", "GET /second "}, nil, []string{"h2c", "Upgrade", "AAMAAABk"}},
		{"H1 framing named in Connection", headPost + "Connection: Content-Length, Host, Via\r\nContent-Length: 3\r\n\r\nabc", []string{"POST /case abc", "GET /second "}, []string{"Content-Length: 3\r\n", "Host: a.test\r\n", "Via: "}, nil},
		{"H1 coding named in Connection", headPost + "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", []string{"POST /case abc", "GET /second "}, []string{"Transfer-Encoding: chunked\r\n"}, nil},
		{"H2 TE", headGet + "TE: gzip, trailers;q=0.5, deflate\r\nConnection: TE\r\n\r\n", []string{"GET /case ", "GET /second "}, nil, []string{"gzip", "deflate"}},
		{"H2 trailers that frame, name and authorise", headPost + "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nContent-Length: 66\r\nHost: evil.test\r\nAuthorization: evil\r\nCache-Control: evil\r\nTransfer-Encoding: evil\r\n\r\n",
			[]string{"POST /case ok", "GET /second "}, nil, []string{"evil", "66"}},
		{"D2 a backslash is no control byte", headGet + `X-A: \n\u0000` + "\r\n\r\n", []string{"GET /case ", "GET /second "}, []string{`X-A: \n\u0000`}, nil},
		{"D2 obsolete text", headGet + "X-A: \xe4\r\n\r\n", []string{"GET /case ", "GET /second "}, []string{"X-A: \xe4\r\n"}, nil},
		{"S4 100-continue of a GET", headGet + "Expect: 100-continue\r\n\r\n", []string{"GET /case ", "GET /second "}, nil, []string{"Expect"}},
		{"S4 100-continue with its body", long("Content-Length: 3\r\nExpect: 100-continue"), []string{"POST /case abc", "GET /second "}, nil, []string{"Expect"}},
		{"D1 100 fields", headGet + lines("X-%d: a\r\n", 99) + "\r\n", []string{"GET /case ", "GET /second "}, []string{"X-98: a\r\n"}, nil},
		{"D1 field of 4000 bytes", headGet + "X-A: " + strings.Repeat("a", 4000) + "\r\n\r\n", []string{"GET /case ", "GET /second "}, nil, nil},
		{"D1 target of 4000 bytes", "GET /case?" + strings.Repeat("a", 3994) + " HTTP/1.1\r\nHost: a.test\r\n\r\n", []string{"GET /case?" + strings.Repeat("a", 3994) + " ", "GET /second "}, nil, nil},
		{"D1 head of 8000 bytes", headGet + lines("X-%d: "+strings.Repeat("a", 3900)+"\r\n", 2) + "\r\n", []string{"GET /case ", "GET /second "}, nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			since := e.mark()
			replies, rest := converse(t, n, test.request+second)
			var bodies []string
			for _, a := range replies {
				bodies = append(bodies, a.body)
				if a.status != 200 {
					t.Errorf("answered %q", a.head)
				}
			}
			if !slices.Equal(bodies, test.bodies) || rest != "" {
				t.Errorf("the answers are %.600q and %.60q, want %.600q", bodies, rest, test.bodies)
			}
			heard, _ := since()
			for _, want := range test.heard {
				if !strings.Contains(heard, want) {
					t.Errorf("the origin did not hear %q:\n%.900s", want, heard)
				}
			}
			for _, not := range test.unheard {
				if strings.Contains(heard, not) {
					t.Errorf("the origin heard %q:\n%.900s", not, heard)
				}
			}
		})
	}
}

// RFC 9112 section 2.2: an empty line before a request is overlooked, and the request is
// no other one for it.
func TestEmptyLineInFront(t *testing.T) {
	t.Parallel()
	e := listen(t)
	n := shopOf(t, e)
	replies, rest := converse(t, n, "\r\n"+headGet+"\r\n"+second)
	served := len(replies) == 2 && replies[0].body == "GET /case " && replies[1].body == "GET /second "
	if !served || rest != "" {
		t.Errorf("answered %.300q %.60q", fmt.Sprint(replies), rest)
	}
}

// S3: whatever is made of a length with zeros in front, nobody behind us has to read
// it.
func TestLengthWithZeros(t *testing.T) {
	t.Parallel()
	e := listen(t)
	n := shopOf(t, e)
	since := e.mark()
	replies, rest := converse(t, n, long("Content-Length: 003")+second)
	heard, _ := since()
	switch {
	case len(replies) == 1 && replies[0].status == 400 && heard == "" && rest == "":
	case len(replies) == 2 && replies[0].body == "POST /case abc" && replies[1].body == "GET /second " && strings.Contains(heard, "Content-Length: 3\r\n"):
	default:
		t.Errorf("answered %.300q %.60q, and the origin heard\n%s", fmt.Sprint(replies), rest, heard)
	}
}

// RFC 9112 section 3.2: a request of HTTP/1.0 need not have a Host. But then nobody
// can tell whose it is, and there is no site for such.
func TestOldRequestWithoutHost(t *testing.T) {
	t.Parallel()
	e := listen(t)
	n := shopOf(t, e)
	since := e.mark()
	replies, rest := converse(t, n, "GET /case HTTP/1.0\r\n\r\n"+second)
	if len(replies) != 1 || replies[0].status != 400 && replies[0].status != 421 || rest != "" {
		t.Errorf("answered %.300q %.60q, want 400 or 421", fmt.Sprint(replies), rest)
	}
	if heard, _ := since(); heard != "" {
		t.Errorf("the origin heard\n%s", heard)
	}
}

// S4: a client that asks before it sends a body is answered by the node, once, and
// the origin does not learn of it. One that is refused never sends it.
func TestContinue(t *testing.T) {
	t.Parallel()
	e := listen(t)
	n := shopOf(t, e)
	since := e.mark()
	c := call(t, n.Addr)
	for range 2 {
		io.WriteString(c, headPost+"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
		line, err := c.in.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") {
			t.Fatalf("asked for leave to go on, the node says %q, %v", line, err)
		}
		if end, err := c.in.ReadString('\n'); err != nil || end != "\r\n" {
			t.Fatalf("the interim answer goes on with %q, %v", end, err)
		}
		equal(t, "answer", c.ask(t, "abc")[:len("HTTP/1.1 200 ")], "HTTP/1.1 200 ")
	}
	if heard, _ := since(); strings.Contains(strings.ToLower(heard), "expect") {
		t.Errorf("the origin heard\n%s", heard)
	}
}

// P10, S11: a body that is too large to be dropped ends the connection.
func TestLargeBodyOfAHit(t *testing.T) {
	t.Parallel()
	e := listen(t)
	n := shopOf(t, e)
	warm(t, n, "/hit", "Host", "a.test")
	since := e.mark()
	for _, size := range []int{128 << 10, 4 << 20} {
		for name, request := range map[string]string{
			"length":  fmt.Sprintf("GET /hit HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size)),
			"chunked": fmt.Sprintf("GET /hit HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", size, strings.Repeat("x", size)),
		} {
			replies, rest := converse(t, n, request+second)
			if len(replies) != 1 || replies[0].status != 413 || !strings.Contains(replies[0].head, "\r\nConnection: close\r\n") || rest != "" {
				t.Errorf("%s of %d: answered %.300q %.60q, want 413 and the end of the connection", name, size, fmt.Sprint(replies), rest)
			}
		}
	}
	if heard, _ := since(); strings.Contains(heard, "/second") {
		t.Error("what stands behind a body was taken for a request")
	}
}

// S18: each request on a connection is judged by itself.
func TestEveryRequestIsJudged(t *testing.T) {
	t.Parallel()
	e, other := listen(t), listen(t)
	n := configured(t, fmt.Sprintf("origin \"a\" {\n  url = %q\n}\norigin \"b\" {\n  url = %q\n}\nsite \"a\" {\n  hosts = [\"a.test\"]\n  origin = \"a\"\n}\nsite \"b\" {\n  hosts = [\"b.test\"]\n  origin = \"b\"\n}\n", e.URL, other.URL))
	for _, host := range []string{"a.test", "b.test"} {
		warm(t, n, "/hit", "Host", host)
	}
	a, b := e.mark(), other.mark()
	var requests string
	for _, path := range []string{"/case", "/hit", "/1"} {
		for _, host := range []string{"a.test", "b.test"} {
			requests += fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host)
		}
	}
	replies, _ := converse(t, n, requests+"GET /evil HTTP/1.1\r\nHost: evil.test\r\n\r\n"+second)
	var statuses []int
	for _, r := range replies {
		statuses = append(statuses, r.status)
	}
	if want := []int{200, 200, 200, 200, 200, 200, 421}; !slices.Equal(statuses, want) {
		t.Errorf("statuses %v, want %v", statuses, want)
	}
	for host, since := range map[string]func() (string, []string){"a.test": a, "b.test": b} {
		heard, whole := since()
		if !slices.Equal(whole, []string{"/case", "/1"}) || strings.Count(heard, "\nHost: "+host+"\r\n") != 2 {
			t.Errorf("the origin of %s heard\n%s", host, heard)
		}
	}
}

// S8: fields with "_" in their names pass where the file says so.
func TestUnderscoresPass(t *testing.T) {
	t.Parallel()
	e := listen(t)
	n := shopOf(t, e, `underscores = "pass"`)
	since := e.mark()
	converse(t, n, headGet+"X_A: 1\r\nConnection: close\r\n\r\n")
	if heard, _ := since(); !strings.Contains(heard, "X_a: 1\r\n") {
		t.Errorf("the origin heard\n%s", heard)
	}
}

// D1: the file sets what a head may be.
func TestHeadLimitsOfTheFile(t *testing.T) {
	t.Parallel()
	e := listen(t)
	n := shopOf(t, e, `max_header_bytes = "2KiB"`, `max_target_bytes = "100B"`, `max_fields = 5`, `max_field_bytes = "500B"`)
	for _, test := range []struct {
		name, request string
		status        int
	}{
		{"5 fields", headGet + lines("X-%d: a\r\n", 3), 200},
		{"6 fields", headGet + lines("X-%d: a\r\n", 4), 431},
		{"field of 400 bytes", headGet + "X-A: " + strings.Repeat("a", 400) + "\r\n", 200},
		{"field of 600 bytes", headGet + "X-A: " + strings.Repeat("a", 600) + "\r\n", 431},
		{"target of 90 bytes", "GET /" + strings.Repeat("a", 89) + " HTTP/1.1\r\nHost: a.test\r\n", 200},
		{"target of 110 bytes", "GET /" + strings.Repeat("a", 109) + " HTTP/1.1\r\nHost: a.test\r\n", 414},
		{"head of 1500 bytes", headGet + lines("X-%d: "+strings.Repeat("a", 450)+"\r\n", 3), 200},
		{"head of 2 KiB", "GET /" + strings.Repeat("a", 90) + " HTTP/1.1\r\nHost: a.test\r\n" + lines("X-%d: "+strings.Repeat("a", 490)+"\r\n", 3) + "X-B: " + strings.Repeat("a", 490) + "\r\n", 431},
	} {
		replies, _ := converse(t, n, test.request+"Connection: close\r\n\r\n")
		if len(replies) != 1 || replies[0].status != test.status {
			t.Errorf("%s: answered %.300q, want %d", test.name, fmt.Sprint(replies), test.status)
		}
	}
}

// changing is what differs between two answers to the same request.
var changing = regexp.MustCompile(`(Date|Age): [^\r\\]*|ttl=\d+|fwd=[a-z-]+`)

// TestPiecesMakeNoDifference: however a request arrives, cut at any byte, it has the
// same answers as in one piece.
func TestPiecesMakeNoDifference(t *testing.T) {
	t.Parallel()
	e := listen(t)
	n := shopOf(t, e)
	warm(t, n, "/hit", "Host", "a.test")
	const hit = "GET /hit HTTP/1.1\r\nHost: a.test\r\n\r\n"
	random := rand.New(rand.NewPCG(1, 2))
	for name, request := range map[string]string{
		"hits":              hit + hit + "HEAD /hit HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
		"a miss and a hit":  headGet + "Accept: */*\r\n\r\n" + hit + second,
		"length":            long("Content-Length: 3") + hit + second,
		"chunks":            headPost + "Transfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n1\r\n!\r\n0\r\nX-A: b\r\n\r\n" + second,
		"body on a hit":     "GET /hit HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc" + second,
		"absolute target":   "GET http://a.test/hit HTTP/1.1\r\nHost: a.test\r\n\r\n" + second,
		"HTTP/1.0":          "GET /case HTTP/1.0\r\nHost: a.test\r\n\r\n",
		"empty line before": "\r\n" + headGet + "\r\n" + second,
		"S1":                coded("Content-Length: 5\r\nTransfer-Encoding: chunked") + second,
		"S1 behind a hit":   hit + coded("Content-Length: 5\r\nTransfer-Encoding: chunked") + second,
		"S2":                coded("Transfer-Encoding: gzip, chunked") + second,
		"S3":                long("Content-Length: +3") + second,
		"S4":                headGet + "Expect: y 100-continue\r\n\r\n" + second,
		"S7":                headGet + "X-A: a\rb\r\n\r\n" + second,
		"S7 line feeds":     "GET /case HTTP/1.1\nHost: a.test\n\n" + second,
		"S8":                headGet + "X-A: a\r\n b\r\n\r\n" + second,
		"S9":                "GET /case HTTP/1.9\r\nHost: a.test\r\n\r\n" + second,
		"P4":                headGet + "Host: b.test\r\n\r\n" + second,
		"P5":                lineGet + "Host: evil.test\r\n\r\n" + second,
		"P11":               "GET /case#b HTTP/1.1\r\nHost: a.test\r\n\r\n" + second,
		"D2":                headGet + "X-A: \x00\r\n\r\n" + second,
	} {
		t.Run(name, func(t *testing.T) {
			transcript := func(pieces ...string) string {
				replies, rest := converse(t, n, pieces...)
				return changing.ReplaceAllString(fmt.Sprintf("%v %q", replies, rest), "")
			}
			want := transcript(request)
			check := func(how string, pieces ...string) {
				if got := transcript(pieces...); got != want {
					t.Fatalf("%s:\n%.900s\nwant as in one piece:\n%.900s", how, got, want)
				}
			}
			for i := 1; i < len(request); i++ {
				check(fmt.Sprintf("cut behind %q", request[:i]), request[:i], request[i:])
			}
			check("byte by byte", strings.Split(request, "")...)
			for range 10 {
				var pieces []string
				for rest := request; rest != ""; {
					size := min(1+random.IntN(12), len(rest))
					pieces, rest = append(pieces, rest[:size]), rest[size:]
				}
				check(fmt.Sprintf("in the pieces %q", pieces), pieces...)
			}
		})
	}
}

// doorRefused reads how many were refused for a reason.
func doorRefused(tb testing.TB, n *node.Node, reason string) int {
	tb.Helper()
	res, err := n.Client.Get(n.Admin + "/metrics")
	if err != nil {
		tb.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatal(err)
	}
	m := regexp.MustCompile(fmt.Sprintf(`(?m)^edge_door_refused_total\{reason=%q\} (\d+)$`, reason)).FindSubmatch(text)
	if m == nil {
		tb.Fatalf("the metrics do not tell what is refused for %q", reason)
	}
	count, _ := strconv.Atoi(string(m[1])) // digits
	return count
}

// What is refused at the door is counted by its reason, and is no request of a site:
// it has no line in the access log.
func TestRefusalsAreCounted(t *testing.T) {
	t.Parallel()
	e := listen(t)
	n := shopOf(t, e)
	refused := map[string]string{
		"framing":         coded("Content-Length: 5\r\nTransfer-Encoding: chunked"),
		"transfer-coding": coded("Transfer-Encoding: gzip"),
		"length":          long("Content-Length: +3"),
		"expectation":     headGet + "Expect: x\r\n\r\n",
		"line-end":        headGet + "X-A: a\rb\r\n\r\n",
		"folded-line":     headGet + "X-A: a\r\n b\r\n\r\n",
		"field-name":      headGet + "X-A : a\r\n\r\n",
		"field-value":     headGet + "X-A: \x00\r\n\r\n",
		"target":          "GET /case#a HTTP/1.1\r\nHost: a.test\r\n\r\n",
		"target-too-long": "GET /" + strings.Repeat("a", 5<<10) + " HTTP/1.1\r\nHost: a.test\r\n\r\n",
		"host":            headGet + "Host: a.test\r\n\r\n",
		"version":         "GET /case HTTP/1.9\r\nHost: a.test\r\n\r\n",
		"request-line":    "GET /case\r\n\r\n",
		"too-many-fields": headGet + lines("X-%d: a\r\n", 200) + "\r\n",
		"head-too-large":  headGet + "X-A: " + strings.Repeat("a", 5<<10) + "\r\n\r\n",
		"chunk":           headPost + "Transfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n",
	}
	for reason, request := range refused {
		before := doorRefused(t, n, reason)
		converse(t, n, request+second)
		converse(t, n, request+second)
		equal(t, "refused for "+reason, doorRefused(t, n, reason)-before, 2)
	}
	n.Stop(t)
	for reason := range refused {
		if lines := strings.Count(n.Log(), fmt.Sprintf(`"reason":%q`, reason)); reason != "chunk" && lines != 1 {
			t.Errorf("the log has %d lines on %s, want one", lines, reason)
		}
	}
}

// R5: a head that does not come is not waited for, and nobody else waits meanwhile.
func TestSlowHeads(t *testing.T) {
	t.Parallel()
	e := listen(t)
	n := shopOf(t, e, `header_timeout = "1s"`)
	warm(t, n, "/hit", "Host", "a.test")
	var slow []*line
	for _, part := range []string{"G", "GET /case HTTP/1.1\r\n", headGet, headGet + "X-A: b", "GET /hit HTTP/1.1\r\nHost: a.test\r\n\r\nGET /case"} {
		for range 20 {
			c := call(t, n.Addr)
			io.WriteString(c, part)
			slow = append(slow, c)
		}
	}
	equal(t, "a good request meanwhile", get(t, n, "/hit", "Host", "a.test").Status, 200)
	for _, c := range slow {
		got, err := io.ReadAll(c.in)
		if err, late := err.(net.Error); late && err.Timeout() {
			t.Fatal("a connection without a whole head is kept")
		}
		replies, rest := replyList(got)
		for _, a := range replies {
			if a.status != 408 && a.body != "GET /hit " || rest != "" {
				t.Errorf("answered %q %q, want 408 or nothing", a.head, rest)
			}
		}
	}
	if refused := doorRefused(t, n, "head-timeout"); refused != len(slow) {
		t.Errorf("%d counted, want %d", refused, len(slow))
	}
}

// R5: a body that crawls ends as one that stops, whether or not it began well. The
// origin hears only of one that did.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	e := listen(t)
	n := shopOf(t, e, `body_timeout = "1s"`, `min_body_rate = "1KB"`)
	refused := 0
	for _, begun := range []int{1, 2000} {
		t.Run(fmt.Sprint(begun, " at once"), func(t *testing.T) {
			if begun < 1000 {
				refused++
			}
			c := call(t, n.Addr)
			io.WriteString(c, headPost+"Content-Length: 100000\r\n\r\n"+strings.Repeat("x", begun))
			answered := make(chan []byte)
			go func() {
				got, _ := io.ReadAll(c.in) // until it is closed
				answered <- got
			}()
			crawl := time.NewTicker(100 * time.Millisecond) // the client is slow, not the test
			defer crawl.Stop()
			for late := time.After(patience); ; {
				select {
				case got := <-answered:
					replies, rest := replyList(got)
					if len(replies) != 1 || replies[0].status != 408 || rest != "" {
						t.Errorf("answered %.300q, want 408", got)
					}
					equal(t, "refused at the door", doorRefused(t, n, "body-timeout"), refused)
					return
				case <-crawl.C:
					_, _ = io.WriteString(c, "x") // closed already, which the other case tells
				case <-late:
					t.Fatal("a body that crawls is waited for")
				}
			}
		})
	}
}

// R5: one client has so many connections and no more. Whoever speaks for many has no
// such bound.
func TestConnectionsOfOneClient(t *testing.T) {
	t.Parallel()
	e := listen(t)
	n := shopOf(t, e, `connections_per_client = 3`)
	request := "GET /hit HTTP/1.1\r\nHost: a.test\r\n\r\n"
	var held []*line
	for range 3 {
		c := call(t, n.Addr)
		c.ask(t, request)
		held = append(held, c)
	}
	c := call(t, n.Addr)
	io.WriteString(c, request)
	got, _ := io.ReadAll(c) // a reset is an end, too
	if replies, _ := replyList(got); len(replies) > 0 && replies[0].status == 200 {
		t.Errorf("a fourth connection is answered %.300q", got)
	}
	if doorRefused(t, n, "connections") == 0 {
		t.Error("it is not counted")
	}
	for _, c := range held {
		c.ask(t, request) // those that were there are not disturbed
	}
	held[0].Close()
	until(t, "room for another connection", func() (string, bool) {
		replies, _ := converse(t, n, "GET /hit HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
		return fmt.Sprint(replies), len(replies) == 1 && replies[0].status == 200
	})

	trusting := shopOf(t, e, `connections_per_client = 3`, `trusted_proxies = ["127.0.0.0/8"]`)
	for range 10 {
		call(t, trusting.Addr).ask(t, request)
	}
}

// With quick = false everything takes the long way, and the answers are the same but
// for the order of their fields.
func TestQuickMayBeOff(t *testing.T) {
	t.Parallel()
	e := listen(t)
	quick, slow := shopOf(t, e), shopOf(t, e, `quick = false`)
	var transcripts []string
	for _, n := range []*node.Node{quick, slow} {
		warm(t, n, "/hit", "Host", "a.test")
		replies, rest := converse(t, n, "GET /hit HTTP/1.1\r\nHost: a.test\r\n\r\nGET /hit HTTP/1.1\r\nHost: a.test\r\nRange: bytes=0-2\r\nConnection: close\r\n\r\n")
		for i := range replies {
			head := strings.Split(replies[i].head, "\r\n")
			slices.Sort(head[1:])
			replies[i].head = strings.Join(head, "\r\n")
		}
		transcripts = append(transcripts, changing.ReplaceAllString(fmt.Sprintf("%v %q", replies, rest), ""))
	}
	equal(t, "the answers the long way", transcripts[1], transcripts[0])
}
