package wire

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// server serves on loopback: paths below /quick/ at the door, all others by
// net/http. Both say which they are, and what they saw.
type server struct {
	*http.Server
	address string
	quick   atomic.Int64
	slow    atomic.Int64
	gate    chan struct{} // the handler of /gated waits for it
}

func serve(t *testing.T, o Options) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{address: l.Addr().String(), gate: make(chan struct{})}
	o.Answer = s.answer
	s.Server = &http.Server{Handler: s, ConnState: func(c net.Conn, state http.ConnState) {
		if state == http.StateIdle {
			c.(*Conn).Idle()
		}
	}}
	served := make(chan struct{})
	go func() {
		defer close(served)
		s.Serve(NewListener(l, o))
	}()
	t.Cleanup(func() {
		s.Close()
		<-served
	})
	return s
}

func (s *server) answer(w http.ResponseWriter, r *http.Request) bool {
	if !strings.HasPrefix(r.URL.Path, "/quick/") {
		return false
	}
	s.quick.Add(1)
	respond(w, r, "door")
	return true
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.slow.Add(1)
	if r.URL.Path == "/gated" {
		<-s.gate
	}
	body, _ := io.ReadAll(r.Body)
	respond(w, r, fmt.Sprintf("house(%s)", body))
}

func respond(w http.ResponseWriter, r *http.Request, who string) {
	body := fmt.Sprintf("%s: %s %s %s", who, r.Method, r.RequestURI, r.Header.Get("X-Note"))
	w.Header()["Date"] = []string{"Mon, 01 Jan 2024 00:00:00 GMT"}
	w.Header()["Content-Type"] = []string{"text/plain"}
	w.Header()["Content-Length"] = []string{fmt.Sprint(len(body))}
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		io.WriteString(w, body)
	}
}

func dial(t *testing.T, address string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c, bufio.NewReader(c)
}

func expect(t *testing.T, r *bufio.Reader, method, want string) {
	t.Helper()
	res, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("waiting for %q: %v", want, err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK || string(body) != want {
		t.Fatalf("got %d %q and %v, want %q", res.StatusCode, body, err, want)
	}
}

// conversation is one connection's requests, and what each is answered with.
var conversation = []struct{ request, method, answer string }{
	{"GET /quick/1 HTTP/1.1\r\nHost: a\r\nX-Note: one\r\n\r\n", "GET", "door: GET /quick/1 one"},
	{"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "house(): GET /slow "},
	{"GET /quick/2 HTTP/1.1\r\nhost: a\r\nx-note: \ttwo \r\nConnection: keep-alive\r\n\r\n", "GET", "door: GET /quick/2 two"},
	{"HEAD /quick/3 HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD", ""},
	{"GET /quick/4?a=1 HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "door: GET /quick/4?a=1 "},
	{"GET /quick/5 HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n", "GET", "house(): GET /quick/5 "},
	{"GET /quick/6 HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "door: GET /quick/6 "},
	{"GET /slow/%41 HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "house(): GET /slow/%41 "},
	{"POST /quick/7 HTTP/1.1\r\nHost: a\r\nContent-Length: 35\r\n\r\nGET /quick/fake HTTP/1.1\r\nHost: b\r\n", "POST", "house(GET /quick/fake HTTP/1.1\r\nHost: b\r\n): POST /quick/7 "},
	{"GET /quick/8 HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "house(): GET /quick/8 "}, // after a body nothing is looked at any more
}

func TestOneConversation(t *testing.T) {
	for name, send := range map[string]func(t *testing.T, c net.Conn, r *bufio.Reader){
		"in turn": func(t *testing.T, c net.Conn, r *bufio.Reader) {
			for _, turn := range conversation {
				io.WriteString(c, turn.request)
				expect(t, r, turn.method, turn.answer)
			}
		},
		"pipelined": func(t *testing.T, c net.Conn, r *bufio.Reader) {
			var all strings.Builder
			for _, turn := range conversation {
				all.WriteString(turn.request)
			}
			io.WriteString(c, all.String())
			for _, turn := range conversation {
				expect(t, r, turn.method, turn.answer)
			}
		},
		"byte by byte": func(t *testing.T, c net.Conn, r *bufio.Reader) {
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				for _, turn := range conversation {
					for i := range len(turn.request) {
						c.Write([]byte{turn.request[i]})
					}
				}
			}()
			for _, turn := range conversation {
				expect(t, r, turn.method, turn.answer)
			}
			<-sent
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, Options{})
			c, r := dial(t, s.address)
			send(t, c, r)
			if quick := s.quick.Load(); quick != 5 {
				t.Errorf("%d answered at the door, want 5", quick)
			}
		})
	}
}

// TestEarlyRequest: what is sent while net/http answers is answered after it, at
// the door.
func TestEarlyRequest(t *testing.T) {
	s := serve(t, Options{})
	c, r := dial(t, s.address)
	io.WriteString(c, "GET /gated HTTP/1.1\r\nHost: a\r\n\r\n")
	for s.slow.Load() == 0 {
		time.Sleep(time.Millisecond) // until the handler waits; then the client is watched
	}
	io.WriteString(c, "GET /quick/early HTTP/1.1\r\nHost: a\r\n\r\nGET /quick/next HTTP/1.1\r\nHost: a\r\n\r\n")
	close(s.gate)
	expect(t, r, "GET", "house(): GET /gated ")
	expect(t, r, "GET", "door: GET /quick/early ")
	expect(t, r, "GET", "door: GET /quick/next ")
}

// TestHalfClosed: a client that has said all it will say is still answered.
func TestHalfClosed(t *testing.T) {
	s := serve(t, Options{})
	c, r := dial(t, s.address)
	io.WriteString(c, "GET /gated HTTP/1.1\r\nHost: a\r\n\r\nGET /quick/last HTTP/1.1\r\nHost: a\r\n\r\n")
	c.(*net.TCPConn).CloseWrite()
	for s.slow.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	close(s.gate)
	expect(t, r, "GET", "house(): GET /gated ")
	expect(t, r, "GET", "door: GET /quick/last ")
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("then %v, want the end", err)
	}
}

// TestClientThatLeaves: net/http still learns that the client has gone.
func TestClientThatLeaves(t *testing.T) {
	left := make(chan struct{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	entered := make(chan struct{})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		close(left)
	})}
	go server.Serve(NewListener(l, Options{Answer: func(http.ResponseWriter, *http.Request) bool { return false }}))
	defer server.Close()
	c, _ := dial(t, l.Addr().String())
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	<-entered
	c.Close()
	<-left
}

// TestLongAnswer: an answer that does not fit one write arrives whole.
func TestLongAnswer(t *testing.T) {
	chunk := strings.Repeat("0123456789abcdef", 8<<10)
	s := serve(t, Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(NewListener(l, Options{Silence: time.Minute, Answer: func(w http.ResponseWriter, r *http.Request) bool {
		w.Header()["Content-Length"] = []string{fmt.Sprint(20 * len(chunk))}
		for range 20 {
			io.WriteString(w, chunk)
		}
		return true
	}}))
	c, r := dial(t, l.Addr().String())
	for range 3 {
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		expect(t, r, "GET", strings.Repeat(chunk, 20))
	}
}

// TestWrongLength: an answer that is not what its head said ends the connection, so
// that nobody takes what follows for a part of it.
func TestWrongLength(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{}
	defer server.Close()
	go server.Serve(NewListener(l, Options{Answer: func(w http.ResponseWriter, r *http.Request) bool {
		w.Header()["Content-Length"] = []string{"10"}
		io.WriteString(w, "short")
		return true
	}}))
	c, r := dial(t, l.Addr().String())
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(res.Body); err != io.ErrUnexpectedEOF {
		t.Errorf("got %q and %v, want a broken body", body, err)
	}
}

// TestNoBodyNoLength: what says that there is a body is kept out of answers that
// have none, whatever was stored.
func TestNoBodyNoLength(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{}
	defer server.Close()
	go server.Serve(NewListener(l, Options{Answer: func(w http.ResponseWriter, r *http.Request) bool {
		status, _ := strconv.Atoi(r.URL.Path[1:])
		w.Header()["Content-Length"] = []string{"7"}
		w.Header()["Transfer-Encoding"] = []string{"chunked"}
		w.WriteHeader(status)
		return true
	}}))
	c, r := dial(t, l.Addr().String())
	for _, status := range []string{"204", "304", "204"} {
		io.WriteString(c, "GET /"+status+" HTTP/1.1\r\nHost: a\r\n\r\n")
		for _, want := range []string{"HTTP/1.1 " + status, "\r\n"} {
			line, err := r.ReadString('\n')
			if err != nil || !strings.HasPrefix(line, want) {
				t.Fatalf("%s: got %q and %v, want %q", status, line, err, want)
			}
		}
	}
}

// TestShutdownLetsAnswersEnd: a server that shuts down takes a connection on which
// the door answers for idle.
func TestShutdownLetsAnswersEnd(t *testing.T) {
	const size = 32 << 20 // far more than sockets hold
	answering := make(chan struct{}, 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.NotFoundHandler(), ConnState: func(c net.Conn, state http.ConnState) {
		if state == http.StateIdle {
			c.(*Conn).Idle()
		}
	}}
	listener := NewListener(l, Options{Silence: time.Minute, Answer: func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/long" {
			return false
		}
		w.Header()["Content-Length"] = []string{fmt.Sprint(size)}
		answering <- struct{}{}
		w.Write(make([]byte, size))
		return true
	}})
	go server.Serve(listener)
	c, r := dial(t, l.Addr().String())
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n") // so that net/http has seen it idle
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, res.Body)
	io.WriteString(c, "GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
	<-answering
	if err := server.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	drained := make(chan error)
	go func() { drained <- listener.Drain(t.Context()) }()
	res, err = http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, res.Body); n != size || err != nil {
		t.Errorf("got %d bytes of %d and %v", n, size, err)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("after the answer: %v, want the end", err)
	}
	if err := <-drained; err != nil {
		t.Errorf("cut off: %v", err)
	}
}

// TestDrain: a closed connection ends with the answer under way on it, which is
// waited for as long as the context allows.
func TestDrain(t *testing.T) {
	for name, test := range map[string]struct {
		patience time.Duration
		err      error
		got      string // by the client
	}{
		"in time":  {2 * time.Minute, nil, "HTTP/1.1 204 No Content\r\n\r\n"},
		"too late": {time.Second, context.DeadlineExceeded, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				defer far.Close()
				c := door(near, Options{Answer: func(w http.ResponseWriter, r *http.Request) bool {
					time.Sleep(time.Minute)
					w.WriteHeader(http.StatusNoContent)
					return true
				}})
				var read sync.WaitGroup
				read.Go(func() {
					if n, err := c.Read(make([]byte, 4096)); n != 0 || err == nil {
						t.Errorf("%d bytes and %v went on to net/http", n, err)
					}
				})
				io.WriteString(far, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
				synctest.Wait()
				c.Close()
				var got []byte
				read.Go(func() { got, _ = io.ReadAll(far) })
				ctx, cancel := context.WithTimeout(t.Context(), test.patience)
				defer cancel()
				if err := c.listener.Drain(ctx); err != test.err {
					t.Errorf("drained with %v, want %v", err, test.err)
				}
				if c.ending != closed {
					t.Errorf("the answer has not ended")
				}
				if err := c.listener.Drain(ctx); err != nil {
					t.Errorf("drained again with %v", err)
				}
				read.Wait()
				if string(got) != test.got {
					t.Errorf("the client got %q, want %q", got, test.got)
				}
			})
		})
	}
}

// TestBareLineFeeds: a head that ends by net/http's lenient rules only is its to
// judge, and at once.
func TestBareLineFeeds(t *testing.T) {
	s := serve(t, Options{})
	for _, request := range []string{
		"GET /slow HTTP/1.1\nHost: a\n\n",
		"GET /slow HTTP/1.1\r\nHost: a\r\n\n",
		"GET /slow HTTP/1.1\r\nHost: a\n\r\n",
	} {
		c, r := dial(t, s.address)
		io.WriteString(c, "GET /quick/1 HTTP/1.1\r\nHost: a\r\n\r\n"+request+"GET /quick/2 HTTP/1.1\r\nHost: a\r\n\r\n")
		expect(t, r, "GET", "door: GET /quick/1 ")
		expect(t, r, "GET", "house(): GET /slow ")
		expect(t, r, "GET", "house(): GET /quick/2 ")
		c, r = dial(t, s.address)
		io.WriteString(c, request)
		expect(t, r, "GET", "house(): GET /slow ")
	}
}

// TestDeadlines: a client that stops in the middle of a head, and one that says
// nothing more, are given up in their time.
func TestDeadlines(t *testing.T) {
	o := Options{
		Head: 10 * time.Second, Idle: time.Minute,
		Answer: func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(http.StatusNoContent)
			return true
		},
	}
	const request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	for name, test := range map[string]struct {
		then string // sent after one answered request
		wait time.Duration
	}{
		"idle":           {"", time.Minute},
		"half a head":    {"GET / HT", 10 * time.Second},
		"answered again": {request, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				c := door(near, o)
				c.SetReadDeadline(time.Now().Add(o.Head)) // as net/http does before the first head
				ended := make(chan time.Time)
				go func() {
					n, err := c.Read(make([]byte, 4096))
					if n != 0 || err == nil {
						t.Errorf("%d bytes and %v went on to net/http", n, err)
					}
					ended <- time.Now()
				}()
				r := bufio.NewReader(far)
				ask := func(request string) time.Time {
					io.WriteString(far, request)
					if strings.HasSuffix(request, "\r\n\r\n") {
						if _, err := http.ReadResponse(r, nil); err != nil {
							t.Fatal(err)
						}
					}
					return time.Now()
				}
				last := ask(request)
				if test.then != "" {
					time.Sleep(o.Idle - time.Second)
					last = ask(test.then)
				}
				waited := (<-ended).Sub(last)
				if waited < test.wait*3/4 || waited > test.wait*5/4 {
					t.Errorf("given up after %v, want about %v", waited, test.wait)
				}
				far.Close()
				near.Close()
			})
		})
	}
}

// TestNoBound: where a wait has no bound, none is left from before.
func TestNoBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		c := door(near, Options{Answer: func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(http.StatusNoContent)
			return true
		}})
		c.SetReadDeadline(time.Now().Add(time.Minute)) // as net/http does before the first head
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c.Read(make([]byte, 4096))
		}()
		r := bufio.NewReader(far)
		for range 2 {
			for _, part := range []string{"GET / HTTP/1.1\r\n", "Host: a\r\n\r\n"} {
				if _, err := io.WriteString(far, part); err != nil {
					t.Fatal(err)
				}
				if part[0] == 'G' {
					time.Sleep(time.Hour)
				}
			}
			if _, err := http.ReadResponse(r, nil); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
		far.Close()
		<-ended
	})
}

// TestPeerAndContext: what the door hands on beside the head.
func TestPeerAndContext(t *testing.T) {
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, "value")
	near, far := net.Pipe()
	defer far.Close()
	c := door(near, Options{Context: ctx, Answer: func(w http.ResponseWriter, r *http.Request) bool {
		if r.Context().Value(key{}) != "value" || r.RemoteAddr != near.RemoteAddr().String() || r.Body != http.NoBody || !r.ProtoAtLeast(1, 1) {
			t.Errorf("got %+v", r)
		}
		w.WriteHeader(599)
		return true
	}})
	go c.Read(make([]byte, 4096))
	io.WriteString(far, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	head := make([]byte, 64)
	n, _ := far.Read(head)
	if got := string(head[:n]); got != "HTTP/1.1 599 status code 599\r\n\r\n" {
		t.Errorf("got %q", got)
	}
	near.Close()
}
