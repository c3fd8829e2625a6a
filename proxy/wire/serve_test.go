package wire

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// plainListener hides that its connections are TCP's, so that each is served by a
// goroutine from the start.
type plainListener struct{ net.Listener }

// eachDriver runs a test with connections that a loop serves between requests, and
// with those that have a goroutine.
func eachDriver(t *testing.T, test func(t *testing.T, listen func() net.Listener)) {
	for _, driver := range []string{"loop", "goroutine"} {
		t.Run(driver, func(t *testing.T) {
			test(t, func() net.Listener {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				if driver == "goroutine" {
					l = plainListener{l}
				}
				return l
			})
		})
	}
}

// server serves paths below /quick/ and /long/ at the door, all others by net/http. Both say
// which they are, and what they saw.
type server struct {
	*http.Server
	door     *Listener
	address  string
	quick    atomic.Int64  // answered at the door
	slow     atomic.Int64  // by net/http
	answered atomic.Int64  // of quick, those that Answered was told of
	gate     chan struct{} // the handler of /gated waits for it
	served   chan struct{} // closed when Serve has returned

	mu      sync.Mutex
	refused []string // guarded by mu: reasons
}

const held = 8 // Options.Hold of a server

// serve starts a server on l, and ends it with the test.
func serve(t *testing.T, l net.Listener, o Options) *server {
	t.Helper()
	s := start(t, l, o)
	t.Cleanup(func() { s.stop(t) })
	return s
}

func start(t *testing.T, l net.Listener, o Options) *server {
	t.Helper()
	s := &server{address: l.Addr().String(), gate: make(chan struct{}), served: make(chan struct{})}
	if o.Answer == nil {
		o.Answer = s.answer
	}
	if o.Hold == 0 {
		o.Hold = held
	}
	o.Answered = func(a *Answer, written int64) { s.answered.Add(1) }
	o.Refused = func(remote string, no *Refusal) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.refused = append(s.refused, no.Reason)
	}
	var err error
	if s.door, err = NewListener(l, o); err != nil {
		t.Fatal(err)
	}
	s.Server = &http.Server{Handler: s, ConnState: tell, ErrorLog: quietLog}
	go func() {
		defer close(s.served)
		s.Serve(s.door)
	}()
	return s
}

// stop ends the server, and fails the test if a connection is left.
func (s *server) stop(t *testing.T) {
	t.Helper()
	s.Close()
	<-s.served
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.door.Drain(ctx); err != nil {
		t.Errorf("drained with %v", err)
	}
	for range 500 { // net/http does not wait for its goroutines
		if s.door.Connections() == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d connections are still counted", s.door.Connections())
}

// tell is http.Server.ConnState.
func tell(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateIdle:
		c.(*Conn).Idle()
	case http.StateHijacked:
		c.(*Conn).Hijacked()
	}
}

func (s *server) reasons() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.refused...)
}

func (s *server) answer(a *Answer) bool {
	if long(a) {
		s.quick.Add(1)
		return true
	}
	if !strings.HasPrefix(a.Target, "/quick/") {
		return false
	}
	s.quick.Add(1)
	note := strings.Join(append(a.Values(nil, "x-note"), ""), "")
	give(a, fmt.Sprintf("door: %s %s %s", a.Method, a.Target, note))
	return true
}

// give answers as respond does.
func give(a *Answer, body string) {
	a.Head = fmt.Appendf(a.Head, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Type: text/plain\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n\r\n", len(body))
	if a.Method != http.MethodHead {
		a.Body = append(a.Body, []byte(body))
	}
}

// empty is an answer without a body.
func empty(a *Answer) bool {
	a.Head = append(a.Head, "HTTP/1.1 204 No Content\r\n\r\n"...)
	return true
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.slow.Add(1)
	switch r.URL.Path {
	case "/gated":
		<-s.gate
	case "/upgrade":
		c, both, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(c, both)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	respond(w, r, fmt.Sprintf("house(%s): %s %s %s", body, r.Method, r.RequestURI, r.Header.Get("X-Note")))
}

func respond(w http.ResponseWriter, r *http.Request, body string) {
	w.Header()["Date"] = []string{"Mon, 01 Jan 2024 00:00:00 GMT"}
	w.Header()["Content-Type"] = []string{"text/plain"}
	w.Header()["Content-Length"] = []string{fmt.Sprint(len(body))}
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		io.WriteString(w, body)
	}
}

func dial(t *testing.T, address string) (*net.TCPConn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(60 * time.Second))
	return c.(*net.TCPConn), bufio.NewReader(c)
}

func expect(t *testing.T, r *bufio.Reader, method, want string) {
	t.Helper()
	res, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("waiting for %q: %v", want, err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK || string(body) != want {
		t.Fatalf("got %d %.200q and %v, want %.200q", res.StatusCode, body, err, want)
	}
}

// expectRefusal reads the answer to a refused request, and the end behind it.
func expectRefusal(t *testing.T, r *bufio.Reader, want *Refusal) {
	t.Helper()
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatalf("waiting for %s: %v", want.Reason, err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != want.Status || !res.Close || !strings.Contains(string(body), want.title) {
		t.Fatalf("got %d %q and %v, want %+v", res.StatusCode, body, err, want)
	}
	expectEnd(t, r)
}

func expectEnd(t *testing.T, r *bufio.Reader) {
	t.Helper()
	if b, err := r.ReadByte(); err != io.EOF {
		t.Fatalf("then %q and %v, want the end", b, err)
	}
}

// until waits for something that another goroutine does.
func until(t *testing.T, done func() bool) {
	t.Helper()
	for range 6000 {
		if done() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it never came")
}

// conversation is one connection's requests, and what each is answered with.
var conversation = []struct{ request, method, answer string }{
	{"GET /quick/1 HTTP/1.1\r\nHost: a\r\nX-Note: one\r\n\r\n", "GET", "door: GET /quick/1 one"},
	{"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "house(): GET /slow "},
	{"GET /quick/2 HTTP/1.1\r\nhost: a\r\nx-note: \ttwo \r\nConnection: keep-alive\r\n\r\n", "GET", "door: GET /quick/2 two"},
	{"\r\nHEAD /quick/3 HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD", ""},
	{"GET /quick/4?a=1 HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "door: GET /quick/4?a=1 "},
	{"GET /quick/5 HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n", "GET", "house(): GET /quick/5 "},
	{"GET /quick/6 HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "door: GET /quick/6 "},
	{"GET /slow/%41 HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "house(): GET /slow/%41 "},
	{"POST /quick/7 HTTP/1.1\r\nHost: a\r\nContent-Length: 35\r\n\r\nGET /quick/fake HTTP/1.1\r\nHost: b\r\n", "POST", "house(GET /quick/fake HTTP/1.1\r\nHost: b\r\n): POST /quick/7 "},
	{"GET /quick/8 HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "door: GET /quick/8 "},
	{"POST /quick/9 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nGET /\r\n0\r\nX-Trailer: y\r\n\r\n", "POST", "house(GET /): POST /quick/9 "},
	{"GET /quick/10 HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "door: GET /quick/10 "},
	{"POST /quick/11 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "POST", "house(): POST /quick/11 "},
	{"GET /quick/12 HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "door: GET /quick/12 "},
}

const conversationQuick = 8 // of conversation, what is answered at the door

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
			eachDriver(t, func(t *testing.T, listen func() net.Listener) {
				s := serve(t, listen(), Options{Limits: Limits{Head: 4096}})
				c, r := dial(t, s.address)
				send(t, c, r)
				if quick := s.quick.Load(); quick != conversationQuick {
					t.Errorf("%d answered at the door, want %d", quick, conversationQuick)
				}
				until(t, func() bool { return s.answered.Load() == conversationQuick })
				if got := s.reasons(); len(got) > 0 {
					t.Errorf("refused for %q", got)
				}
			})
		})
	}
}

// TestRefusals: whatever is not taken is refused wherever it stands in a
// conversation, behind the answers to what came before, and nothing after it is
// looked at.
func TestRefusals(t *testing.T) {
	const (
		quick = "GET /quick/1 HTTP/1.1\r\nHost: a\r\n\r\n"
		slow  = "POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok"
		next  = "GET /quick/smuggled HTTP/1.1\r\nHost: evil\r\n\r\n"
	)
	eachDriver(t, func(t *testing.T, listen func() net.Listener) {
		s := serve(t, listen(), Options{Limits: tight})
		refused, answered := 0, int64(0)
		for _, test := range heads {
			if test.want == nil {
				continue
			}
			for i, before := range []string{"", quick, slow, quick + slow} {
				c, r := dial(t, s.address)
				io.WriteString(c, before+test.head+next)
				if strings.Contains(before, quick) {
					expect(t, r, "GET", "door: GET /quick/1 ")
					answered++
				}
				if strings.Contains(before, slow) {
					expect(t, r, "POST", "house(ok): POST /slow ")
				}
				res, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatalf("%q after %d: %v", test.head, i, err)
				}
				io.Copy(io.Discard, res.Body)
				if res.StatusCode != test.want.Status || !res.Close {
					t.Fatalf("%q after %d: %+v", test.head, i, res)
				}
				expectEnd(t, r)
				c.Close()
				refused++
			}
		}
		until(t, func() bool { return len(s.reasons()) == refused })
		if quick := s.quick.Load(); quick != answered { // each is asked for once, and nothing that was smuggled
			t.Errorf("%d answered at the door, want %d", quick, answered)
		}
	})
}

// TestMalformedBodies: a body that is malformed is the end of the connection, and
// the handler knows.
func TestMalformedBodies(t *testing.T) {
	const head = "POST /slow HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
	eachDriver(t, func(t *testing.T, listen func() net.Listener) {
		s := serve(t, listen(), Options{})
		for i, body := range malformedBodies {
			c, r := dial(t, s.address)
			go io.WriteString(c, head+body+"\r\n0\r\n\r\nGET /quick/smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
			res, err := http.ReadResponse(r, nil)
			if err != nil || res.StatusCode != http.StatusBadRequest || !res.Close {
				t.Fatalf("%q: %+v and %v", body, res, err)
			}
			if got := s.reasons(); len(got) != i+1 || got[i] != ReasonChunk {
				t.Fatalf("%q: refused for %q", body, got)
			}
			c.Close()
		}
		if quick := s.quick.Load(); quick != 0 {
			t.Errorf("%d smuggled requests were answered", quick)
		}
	})
}

// TestMalformedBodiesThatAreThere: of a request whose body is seen to be malformed with
// its head nobody hears.
func TestMalformedBodiesThatAreThere(t *testing.T) {
	const head = "POST /slow HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
	eachDriver(t, func(t *testing.T, listen func() net.Listener) {
		s := serve(t, listen(), Options{})
		for _, before := range []string{"", "POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok"} {
			c, r := dial(t, s.address)
			slow := s.slow.Load()
			if before != "" {
				io.WriteString(c, before)
				expect(t, r, "POST", "house(ok): POST /slow ")
				slow++
			}
			io.WriteString(c, head+"2\r\nab\r\n0x2\r\nab\r\n0\r\n\r\nGET /quick/smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
			expectRefusal(t, r, badChunk)
			if got := s.slow.Load(); got != slow {
				t.Errorf("%d requests were heard of, want %d", got, slow)
			}
		}
	})
}

// TestEmptyLine: an empty line before a request is forgiven whoever answers it (RFC 9112
// section 2.2).
func TestEmptyLine(t *testing.T) {
	eachDriver(t, func(t *testing.T, listen func() net.Listener) {
		s := serve(t, listen(), Options{})
		c, r := dial(t, s.address)
		for _, one := range []struct{ request, method, answer string }{
			{"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "house(): GET /slow "},
			{"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok", "POST", "house(ok): POST /slow "},
			{"GET /quick/1 HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "door: GET /quick/1 "},
			{"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n12345678901234567890", "POST", "house(12345678901234567890): POST /slow "},
		} {
			io.WriteString(c, "\r\n"+one.request)
			expect(t, r, one.method, one.answer)
		}
	})
}

// TestRefusedHead: to HEAD a refusal says how long its body would be, and has none (RFC
// 9110 section 9.3.2).
func TestRefusedHead(t *testing.T) {
	eachDriver(t, func(t *testing.T, listen func() net.Listener) {
		s := serve(t, listen(), Options{})
		for _, before := range []string{"", "POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok"} {
			c, r := dial(t, s.address)
			if before != "" {
				io.WriteString(c, before)
				expect(t, r, "POST", "house(ok): POST /slow ")
			}
			io.WriteString(c, "\r\nHEAD / HTTP/1.1\r\n\r\n")
			res, err := http.ReadResponse(r, &http.Request{Method: "HEAD"})
			if err != nil || res.StatusCode != http.StatusBadRequest || res.ContentLength <= 0 {
				t.Fatalf("%+v and %v", res, err)
			}
			expectEnd(t, r)
		}
	})
}

// TestEarlyRequest: what is sent while net/http answers is answered after it, at
// the door.
func TestEarlyRequest(t *testing.T) {
	eachDriver(t, func(t *testing.T, listen func() net.Listener) {
		s := serve(t, listen(), Options{})
		c, r := dial(t, s.address)
		io.WriteString(c, "GET /gated HTTP/1.1\r\nHost: a\r\n\r\n")
		until(t, func() bool { return s.slow.Load() > 0 }) // then the client is watched
		io.WriteString(c, "GET /quick/early HTTP/1.1\r\nHost: a\r\n\r\nGET /quick/next HTTP/1.1\r\nHost: a\r\n\r\n")
		close(s.gate)
		expect(t, r, "GET", "house(): GET /gated ")
		expect(t, r, "GET", "door: GET /quick/early ")
		expect(t, r, "GET", "door: GET /quick/next ")
	})
}

// TestHalfClosed: a client that has said all it will say is still answered.
func TestHalfClosed(t *testing.T) {
	eachDriver(t, func(t *testing.T, listen func() net.Listener) {
		s := serve(t, listen(), Options{})
		c, r := dial(t, s.address)
		io.WriteString(c, "GET /gated HTTP/1.1\r\nHost: a\r\n\r\nGET /quick/last HTTP/1.1\r\nHost: a\r\n\r\n")
		c.CloseWrite()
		until(t, func() bool { return s.slow.Load() > 0 })
		close(s.gate)
		expect(t, r, "GET", "house(): GET /gated ")
		expect(t, r, "GET", "door: GET /quick/last ")
		expectEnd(t, r)

		c, r = dial(t, s.address)
		io.WriteString(c, "GET /quick/only HTTP/1.1\r\nHost: a\r\n\r\nGET /quick/hal")
		c.CloseWrite()
		expect(t, r, "GET", "door: GET /quick/only ")
		expectEnd(t, r)
	})
}

// TestClientThatLeaves: net/http still learns that the client has gone.
func TestClientThatLeaves(t *testing.T) {
	eachDriver(t, func(t *testing.T, listen func() net.Listener) {
		entered, left := make(chan struct{}), make(chan struct{})
		l := listen()
		door, err := NewListener(l, Options{})
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{ConnState: tell, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(entered)
			<-r.Context().Done()
			close(left)
		})}
		go server.Serve(door)
		defer door.Drain(t.Context())
		defer server.Close()
		c, _ := dial(t, l.Addr().String())
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		<-entered
		c.Close()
		<-left
	})
}

// TestTunnel: a connection that has left HTTP is nobody's to judge, what was sent
// behind the request included.
func TestTunnel(t *testing.T) {
	eachDriver(t, func(t *testing.T, listen func() net.Listener) {
		s := serve(t, listen(), Options{})
		c, r := dial(t, s.address)
		io.WriteString(c, "GET /quick/1 HTTP/1.1\r\nHost: a\r\n\r\nGET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly \n")
		expect(t, r, "GET", "door: GET /quick/1 ")
		res, err := http.ReadResponse(r, nil)
		if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%+v %v", res, err)
		}
		io.WriteString(c, "GET /quick/2 HTTP/1.1\nHost: a\n\n")
		c.CloseWrite()
		const want = "early \nGET /quick/2 HTTP/1.1\nHost: a\n\n"
		if got, err := io.ReadAll(r); string(got) != want || err != nil {
			t.Errorf("got %q and %v, want %q", got, err, want)
		}
	})
}

// long answers with bodies of many chunks: as many bytes as the target says.
func long(a *Answer) bool {
	var size int
	if n, _ := fmt.Sscanf(a.Target, "/long/%d", &size); n != 1 {
		return false
	}
	a.Head = fmt.Appendf(a.Head, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
	for size > 0 {
		n := min(size, len(longChunk))
		a.Body = append(a.Body, longChunk[:n])
		size -= n
	}
	return true
}

var longChunk = []byte(strings.Repeat("0123456789abcdef", 512))

// expectLong reads an answer of long's.
func expectLong(t *testing.T, r *bufio.Reader, size int) {
	t.Helper()
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, len(longChunk))
	for left := size; left > 0; {
		n := min(left, len(buf))
		if _, err := io.ReadFull(res.Body, buf[:n]); err != nil || string(buf[:n]) != string(longChunk[:n]) {
			t.Fatalf("with %d bytes left of %d: %v", left, size, err)
		}
		left -= n
	}
	if n, err := res.Body.Read(buf); n != 0 || err != io.EOF {
		t.Fatalf("%d bytes more, and %v", n, err)
	}
}

// TestLongAnswers: answers that do not fit one write arrive whole and in order, to a
// client that takes little at a time, with others before, between and behind them.
func TestLongAnswers(t *testing.T) {
	eachDriver(t, func(t *testing.T, listen func() net.Listener) {
		s := serve(t, listen(), Options{Silence: time.Minute})
		c, r := dial(t, s.address)
		c.SetReadBuffer(128 << 10)
		sizes := []int{5, 3 << 20, 100, 20 << 10, 4 << 20, 17, 1 << 20}
		var all strings.Builder
		for _, size := range sizes {
			fmt.Fprintf(&all, "GET /long/%d HTTP/1.1\r\nHost: a\r\n\r\nGET /quick/%d HTTP/1.1\r\nHost: a\r\n\r\n", size, size)
		}
		all.WriteString("GET /slow HTTP/1.1\r\nHost: a\r\n\r\nGET /long/2000000 HTTP/1.1\r\nHost: a\r\n\r\nG(T / HTTP/1.1\r\n")
		io.WriteString(c, all.String())
		for _, size := range sizes {
			expectLong(t, r, size)
			expect(t, r, "GET", fmt.Sprintf("door: GET /quick/%d ", size))
		}
		expect(t, r, "GET", "house(): GET /slow ")
		expectLong(t, r, 2000000)
		expectRefusal(t, r, badRequestLine)
		until(t, func() bool { return s.answered.Load() == int64(2*len(sizes)+1) })
	})
}

// TestLongAnswerToNobody: who answers is told how much the client took before it
// left.
func TestLongAnswerToNobody(t *testing.T) {
	eachDriver(t, func(t *testing.T, listen func() net.Listener) {
		const size = 64 << 20
		written := make(chan int64, 1)
		l := listen()
		door, err := NewListener(l, Options{Answer: long, Answered: func(a *Answer, n int64) {
			if a.Method != "GET" || a.Target != fmt.Sprintf("/long/%d", size) || a.Remote() == "" {
				t.Errorf("told of %+v", a)
			}
			written <- n
		}})
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{ConnState: tell}
		go server.Serve(door)
		c, r := dial(t, l.Addr().String())
		fmt.Fprintf(c, "GET /long/%d HTTP/1.1\r\nHost: a\r\n\r\n", size)
		io.CopyN(io.Discard, r, 100<<10)
		c.SetLinger(0)
		c.Close()
		if n := <-written; n < 99<<10 || n >= size {
			t.Errorf("%d bytes written of %d", n, size)
		}
		server.Close()
		if err := door.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		until(t, func() bool { return door.Connections() == 0 })
	})
}

// TestShutdownLetsAnswersEnd: a server that shuts down takes a connection on which
// the door answers for idle. What the client has sent behind the request does not
// have the answer thrown away.
func TestShutdownLetsAnswersEnd(t *testing.T) {
	const size = 32 << 20 // far more than sockets hold
	for name, behind := range map[string]string{"nothing behind": "", "more behind": strings.Repeat("GET /quick/x HTTP/1.1\r\nHost: a\r\n\r\n", 5000)} {
		t.Run(name, func(t *testing.T) {
			eachDriver(t, func(t *testing.T, listen func() net.Listener) {
				answering := make(chan struct{}, 1)
				s := serve(t, listen(), Options{Silence: time.Minute, Answer: func(a *Answer) bool {
					if !long(a) {
						return false
					}
					answering <- struct{}{}
					return true
				}})
				c, r := dial(t, s.address)
				io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n") // so that net/http has seen it idle
				expect(t, r, "GET", "house(): GET / ")
				fmt.Fprintf(c, "GET /long/%d HTTP/1.1\r\nHost: a\r\n\r\n", size)
				<-answering
				go io.WriteString(c, behind)
				if err := s.Shutdown(t.Context()); err != nil {
					t.Fatal(err)
				}
				drained := make(chan error)
				go func() { drained <- s.door.Drain(t.Context()) }()
				expectLong(t, r, size)
				if behind == "" {
					expectEnd(t, r)
				}
				if err := <-drained; err != nil {
					t.Errorf("cut off: %v", err)
				}
			})
		})
	}
}

// TestDrainCutsOff: an answer that does not end is cut off when the context ends.
func TestDrainCutsOff(t *testing.T) {
	eachDriver(t, func(t *testing.T, listen func() net.Listener) {
		answering := make(chan struct{}, 1)
		s := start(t, listen(), Options{Answer: func(a *Answer) bool {
			answering <- struct{}{}
			return long(a)
		}})
		c, r := dial(t, s.address)
		io.WriteString(c, "GET /long/100000000 HTTP/1.1\r\nHost: a\r\n\r\n")
		<-answering
		if _, err := r.ReadByte(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		if err := s.Shutdown(ctx); err != nil {
			s.Close() // net/http takes a connection without an idle time for a busy one
		}
		drained := make(chan error)
		go func() { drained <- s.door.Drain(ctx) }()
		select {
		case err := <-drained:
			t.Fatalf("drained with %v while an answer is under way", err)
		case <-time.After(50 * time.Millisecond):
		}
		cancel(nil)
		if err := <-drained; err != context.Canceled {
			t.Errorf("drained with %v", err)
		}
		if err := s.door.Drain(ctx); err != nil {
			t.Errorf("drained again with %v", err)
		}
		if n, _ := io.Copy(io.Discard, r); n >= 100000000 {
			t.Error("the answer was not cut off")
		}
	})
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
				c := door(t, near, Options{Answer: func(a *Answer) bool {
					time.Sleep(time.Minute)
					return empty(a)
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

// TestDeadlines: a client that stops in the middle of a head, and one that says
// nothing more, are given up in their time.
func TestDeadlines(t *testing.T) {
	const request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	for name, test := range map[string]struct {
		head, idle time.Duration
		then       string // sent after one answered request
		wait       time.Duration
		refused    bool
	}{
		"idle":                      {10 * time.Second, time.Minute, "", time.Minute, false},
		"half a head":               {10 * time.Second, time.Minute, "GET / HT", 10 * time.Second, true},
		"answered again":            {10 * time.Second, time.Minute, request, time.Minute, false},
		"idle, heads may be slower": {time.Hour, time.Minute, request, time.Minute, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				refused := false
				c := door(t, near, Options{Head: test.head, Idle: test.idle, Answer: empty, Refused: func(_ string, no *Refusal) { refused = no == lateHead }})
				c.SetReadDeadline(time.Now().Add(test.head)) // as net/http does before the first head
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
					time.Sleep(test.idle - time.Second)
					last = ask(test.then)
				}
				waited := (<-ended).Sub(last)
				if waited < test.wait*3/4 || waited > test.wait*5/4 {
					t.Errorf("given up after %v, want about %v", waited, test.wait)
				}
				if refused != test.refused {
					t.Errorf("refused: %v, want %v", refused, test.refused)
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
		c := door(t, near, Options{Answer: empty})
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

// TestAnswerAndPeer: what who answers is told.
func TestAnswerAndPeer(t *testing.T) {
	eachDriver(t, func(t *testing.T, listen func() net.Listener) {
		type told struct{ method, target, host, remote string }
		asked, answered := make(chan told, 1), make(chan told, 1)
		l := listen()
		note := func(a *Answer) told {
			return told{strings.Clone(a.Method), strings.Clone(a.Target), strings.Clone(a.Host), a.Remote()}
		}
		door, err := NewListener(l, Options{
			Answer: func(a *Answer) bool {
				if since := time.Since(a.Started); since < 0 || since > time.Minute || len(a.Head) > 0 || len(a.Body) > 0 || a.State != nil {
					t.Errorf("asked with %+v", a)
				}
				asked <- note(a)
				a.State = "mine"
				give(a, "twelve bytes")
				return true
			},
			Answered: func(a *Answer, written int64) {
				if written != 12 || a.State != "mine" {
					t.Errorf("%d bytes written, %+v", written, a)
				}
				answered <- note(a)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{ConnState: tell}
		go server.Serve(door)
		c, r := dial(t, l.Addr().String())
		for range 2 {
			io.WriteString(c, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
			expect(t, r, "GET", "twelve bytes")
			want := told{"GET", "/a", "h", c.LocalAddr().String()}
			if got := <-asked; got != want {
				t.Errorf("asked %+v, want %+v", got, want)
			}
			if got := <-answered; got != want {
				t.Errorf("answered %+v, want %+v", got, want)
			}
		}
		server.Close()
		door.Drain(t.Context())
	})
}

// TestConnectionsPerClient: one client's connections are bounded, whoever serves
// them, and one that has ended makes room.
func TestConnectionsPerClient(t *testing.T) {
	eachDriver(t, func(t *testing.T, listen func() net.Listener) {
		s := serve(t, listen(), Options{PerClient: 2})
		a, ra := dial(t, s.address)
		io.WriteString(a, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
		expect(t, ra, "GET", "house(): GET /slow ")
		b, rb := dial(t, s.address)
		io.WriteString(b, "GET /quick/1 HTTP/1.1\r\nHost: a\r\n\r\n")
		expect(t, rb, "GET", "door: GET /quick/1 ")
		c, rc := dial(t, s.address)
		io.WriteString(c, "GET /quick/1 HTTP/1.1\r\nHost: a\r\n\r\n")
		if b, err := rc.ReadByte(); err == nil {
			t.Fatalf("one too many reads %q", b)
		}
		if got := s.reasons(); len(got) != 1 || got[0] != ReasonConnections {
			t.Errorf("refused for %q", got)
		}
		a.Close()
		until(t, func() bool { return s.door.Connections() == 1 })
		d, rd := dial(t, s.address)
		io.WriteString(d, "GET /quick/1 HTTP/1.1\r\nHost: a\r\n\r\n")
		expect(t, rd, "GET", "door: GET /quick/1 ")
	})
}
