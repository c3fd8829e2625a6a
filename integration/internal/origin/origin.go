// Package origin starts scripted origins in the test's own process: a test gives
// the handler, counts what arrived, holds answers at gates to force an order, and
// takes the origin down and up again.
package origin

import (
	"io"
	"log"
	"net"
	"net/http"
	"os"
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
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("origin: listen: %v", err)
	}
	o.URL = "http://" + listener.Addr().String()
	o.serve(listener)
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

// Down closes the origin's listener and connections. Its port stays taken, so that
// no other process gets it, and refuses connections until the test ends or until
// the returned function brings the origin up again.
func (o *Origin) Down(tb testing.TB) (up func()) {
	tb.Helper()
	authority := strings.TrimPrefix(o.URL, "http://")
	o.stop()
	hold, listen := bind(tb, authority)
	tb.Cleanup(hold)
	return func() {
		tb.Helper()
		o.serve(listen())
	}
}

// Refused returns the URL of an origin that refuses connections until the test ends.
func Refused(tb testing.TB) string {
	tb.Helper()
	o := Start(tb, func(http.ResponseWriter, *http.Request) {})
	o.Down(tb)
	return o.URL
}

// bind takes the address without listening on it: connections are refused, and
// nobody else can have the port. release gives it up; listen turns it into a
// listener.
func bind(tb testing.TB, authority string) (release func(), listen func() net.Listener) {
	tb.Helper()
	address, err := net.ResolveTCPAddr("tcp4", authority)
	if err != nil {
		tb.Fatalf("origin: resolve %s: %v", authority, err)
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatalf("origin: socket: %v", err)
	}
	file := os.NewFile(uintptr(fd), authority)
	to := &syscall.SockaddrInet4{Port: address.Port}
	copy(to.Addr[:], address.IP.To4())
	err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err == nil {
		err = syscall.Bind(fd, to)
	}
	if err != nil {
		tb.Fatalf("origin: take %s again: %v", authority, err)
	}
	return func() { file.Close() }, func() net.Listener {
		tb.Helper()
		if err := syscall.Listen(fd, syscall.SOMAXCONN); err != nil {
			tb.Fatalf("origin: listen on %s again: %v", authority, err)
		}
		listener, err := net.FileListener(file)
		if err != nil {
			tb.Fatalf("origin: listen on %s again: %v", authority, err)
		}
		file.Close()
		return listener
	}
}
