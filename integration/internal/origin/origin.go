// Package origin starts scripted origins in the test's own process: a test gives
// the handler, counts what arrived, holds answers at gates to force an order, and
// takes the origin down and up again.
package origin

import (
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Origin is a running HTTP/1.1 server on a free loopback port.
type Origin struct {
	URL string

	handler http.Handler
	server  *http.Server
	running sync.WaitGroup // the server's accept loop

	mu   sync.Mutex // guards seen
	seen []Request
}

// Request is what the origin was asked.
type Request struct {
	Method string
	Target string // request target as sent
	Host   string
	Header http.Header
	Body   string // read for methods other than GET and HEAD unless it is longer than 64 KiB
}

// Start runs an origin until the test ends.
func Start(tb testing.TB, handler http.HandlerFunc) *Origin {
	tb.Helper()
	o := &Origin{handler: handler}
	authority := take(tb)
	o.URL = "http://" + authority
	o.serve(listen(tb, authority))
	tb.Cleanup(o.stop)
	return o
}

// Mux runs an origin that answers by patterns as http.ServeMux knows them.
func Mux(tb testing.TB, handlers map[string]http.HandlerFunc) *Origin {
	tb.Helper()
	mux := http.NewServeMux()
	for pattern, h := range handlers {
		mux.HandleFunc(pattern, h)
	}
	return Start(tb, mux.ServeHTTP)
}

// Raw runs an origin that answers every request with the same bytes, which need
// not be HTTP, and closes the connection.
func Raw(tb testing.TB, answer string) *Origin {
	return Start(tb, func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic("origin: hijack: " + err.Error())
		}
		io.WriteString(c, answer)
		c.Close()
	})
}

func (o *Origin) serve(listener net.Listener) {
	o.server = &http.Server{
		Handler:  o,
		ErrorLog: log.New(io.Discard, "", 0), // aborted handlers are part of the script
	}
	o.running.Go(func() { _ = o.server.Serve(listener) }) // ends with ErrServerClosed, by stop
}

func (o *Origin) stop() {
	_ = o.server.Close() // a listener that is closed already is what we want
	o.running.Wait()
}

// ServeHTTP records the request and hands it to the script.
func (o *Origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := Request{Method: r.Method, Target: r.RequestURI, Host: r.Host, Header: r.Header.Clone()}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		body, _ := io.ReadAll(io.LimitReader(r.Body, 64<<10)) // a body cut short is recorded as far as it came
		q.Body = string(body)
		r.Body = io.NopCloser(io.MultiReader(strings.NewReader(q.Body), r.Body))
	}
	o.mu.Lock()
	o.seen = append(o.seen, q)
	o.mu.Unlock()
	o.handler.ServeHTTP(w, r)
}

// Requests returns what arrived so far, in order.
func (o *Origin) Requests() []Request {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]Request(nil), o.seen...)
}

// Count returns how many requests arrived for the target, or for all targets when
// it is empty.
func (o *Origin) Count(target string) int {
	n := 0
	for _, q := range o.Requests() {
		if target == "" || q.Target == target {
			n++
		}
	}
	return n
}

// Last returns the request that arrived last; there must be one.
func (o *Origin) Last(tb testing.TB) Request {
	tb.Helper()
	all := o.Requests()
	if len(all) == 0 {
		tb.Fatal("the origin was not asked")
	}
	return all[len(all)-1]
}

// Down closes the origin's listener and connections. Its port stays taken and
// refuses connections until the test ends or until the returned function brings
// the origin up again.
func (o *Origin) Down(tb testing.TB) (up func()) {
	o.stop()
	return func() {
		tb.Helper()
		o.serve(listen(tb, strings.TrimPrefix(o.URL, "http://")))
	}
}

// Refused returns the URL of an origin that refuses connections until the test ends.
func Refused(tb testing.TB) string {
	tb.Helper()
	o := Start(tb, func(http.ResponseWriter, *http.Request) {})
	o.Down(tb)
	return o.URL
}

// take reserves a free loopback port until the test ends: listen may listen on it,
// any number of times, and nobody else can get it in between.
func take(tb testing.TB) (authority string) {
	tb.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatalf("origin: socket: %v", err)
	}
	tb.Cleanup(func() { syscall.Close(fd) })
	if err := share(fd); err != nil {
		tb.Fatalf("origin: %v", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		tb.Fatalf("origin: take a port: %v", err)
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		tb.Fatalf("origin: take a port: %v", err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(at.(*syscall.SockaddrInet4).Port))
}

// listen listens on a port that take has reserved. Of the sockets that share it
// only those that listen get connections; without one they are refused.
func listen(tb testing.TB, authority string) net.Listener {
	tb.Helper()
	shared := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var refused error
		err := c.Control(func(fd uintptr) { refused = share(int(fd)) })
		return errors.Join(err, refused)
	}}
	listener, err := shared.Listen(tb.Context(), "tcp4", authority)
	if err != nil {
		tb.Fatalf("origin: listen on %s: %v", authority, err)
	}
	return listener
}

// share lets other sockets of this user that say so, too, have the same port. The
// system gives none of these ports to who asks for any free one.
func share(fd int) error {
	const reusePort = 0xf // SO_REUSEPORT of Linux, which package syscall does not name
	return os.NewSyscallError("setsockopt", syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, reusePort, 1))
}
