package wire

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

func listenTCP(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// descriptors counts the open files of the process.
func descriptors(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// nothingLeft waits until there are no more goroutines and descriptors than before.
func nothingLeft(t *testing.T, goroutines, files int) {
	t.Helper()
	for range 1000 {
		if runtime.NumGoroutine() <= goroutines && descriptors(t) <= files {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	t.Errorf("%d goroutines, before %d; %d descriptors, before %d\n%s", runtime.NumGoroutine(), goroutines, descriptors(t), files, stacks)
}

// TestStress: clients that do whatever clients do, while the listener is hushed,
// closed and drained. All that is answered is answered rightly, and nothing is left.
func TestStress(t *testing.T) {
	for _, processors := range []int{1, 4} {
		t.Run(fmt.Sprint(processors), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(processors))
			for seed := range uint64(4) {
				stress(t, seed)
			}
		})
	}
}

func stress(t *testing.T, seed uint64) {
	goroutines, files := runtime.NumGoroutine(), descriptors(t)
	s := start(t, listenTCP(t), Options{
		Head: 20 * time.Second, Idle: 20 * time.Second, Silence: 20 * time.Second,
		Limits: Limits{Head: 4096}, PerClient: 1000,
	})
	close(s.gate)
	var clients sync.WaitGroup
	over := make(chan struct{}) // nothing more is promised to clients
	for i := range 40 {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		clients.Go(func() {
			for range 5 {
				select {
				case <-over:
					return
				default:
				}
				if err := (&customer{random}).visit(s.address); err != nil {
					select {
					case <-over:
						return
					default:
						t.Error(err)
					}
				}
			}
		})
	}
	random := rand.New(rand.NewPCG(seed, 1000))
	if seed == 0 {
		clients.Wait()
	}
	time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond) // any moment will do
	close(over)
	if random.IntN(2) == 0 {
		s.door.Hush()
		time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond)
	}
	patience := time.Duration(random.IntN(1000)) * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if s.Shutdown(ctx) != nil {
		s.Close()
	}
	<-s.served
	_ = s.door.Drain(ctx)
	clients.Wait()
	until(t, func() bool { return s.door.Connections() == 0 })
	for client, n := range s.door.clients.each {
		t.Errorf("%v is counted %d times", client, n)
	}
	nothingLeft(t, goroutines, files)
	if quick, answered := s.quick.Load(), s.answered.Load(); answered < quick {
		t.Errorf("%d answers, and told of %d", quick, answered)
	}
}

// customer is a client of TestStress.
type customer struct{ random *rand.Rand }

// visit has one connection's conversation, or breaks off. It returns an error when
// what came back is wrong.
func (u *customer) visit(address string) error {
	var said, want strings.Builder
	for range 1 + u.random.IntN(20) {
		n := u.random.IntN(1 << 20)
		switch u.random.IntN(8) {
		case 0:
			fmt.Fprintf(&said, "GET /slow/%d HTTP/1.1\r\nHost: a\r\n\r\n", n)
			want.WriteString(wrote(fmt.Sprintf("house(): GET /slow/%d ", n)))
		case 1:
			body := strings.Repeat("b", n%5000)
			fmt.Fprintf(&said, "POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			want.WriteString(wrote(fmt.Sprintf("house(%s): POST /slow ", body)))
		case 2:
			n /= 2
			fmt.Fprintf(&said, "GET /long/%d HTTP/1.1\r\nHost: a\r\n\r\n", n)
			fmt.Fprintf(&want, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", n)
			for ; n > 0; n -= min(n, len(longChunk)) {
				want.Write(longChunk[:min(n, len(longChunk))])
			}
		default:
			fmt.Fprintf(&said, "GET /quick/%d HTTP/1.1\r\nHost: a\r\n\r\n", n)
			want.WriteString(wrote(fmt.Sprintf("door: GET /quick/%d ", n)))
		}
	}
	dialed, err := net.Dial("tcp", address)
	if err != nil {
		return fmt.Errorf("dialing: %w", err)
	}
	c := dialed.(*net.TCPConn)
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	if u.random.IntN(4) == 0 {
		c.SetReadBuffer(256 << 10)
	}
	text, end := said.String(), u.random.IntN(8)
	switch end {
	case 0: // leaves in the middle, with an answer or without
		io.WriteString(c, text[:u.random.IntN(len(text))])
		if u.random.IntN(2) == 0 {
			c.SetDeadline(time.Now().Add(100 * time.Millisecond)) // it may be that neither has more to say
			io.CopyN(io.Discard, c, int64(u.random.IntN(10000)))
		}
		if u.random.IntN(2) == 0 {
			c.SetLinger(0)
		}
		return nil
	case 1: // ends with what is refused
		text += "GET /# HTTP/1.1\r\nHost: a\r\n\r\n"
	case 2: // ends with a tunnel
		text += "GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nechoed"
		want.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nechoed")
	}
	most := 1 + u.random.IntN(20000)
	go func() {
		for ; len(text) > 0; text = text[min(len(text), most):] {
			c.Write([]byte(text[:min(len(text), most)]))
		}
		if end != 1 {
			c.CloseWrite()
		}
	}()
	heard, err := io.ReadAll(c)
	if err != nil {
		return fmt.Errorf("after %d bytes of %d: %w", len(heard), want.Len(), err)
	}
	rest, ok := strings.CutPrefix(string(heard), want.String())
	if !ok || end == 1 != strings.HasPrefix(rest, "HTTP/1.1 400 ") || end != 1 && rest != "" {
		return fmt.Errorf("heard %d bytes, wanted %d; then %.300q", len(heard), want.Len(), rest)
	}
	return nil
}

// wrote is an answer of server's.
func wrote(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Type: text/plain\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n\r\n%s", len(body), body)
}

// TestConnectionComesHome: a connection that net/http has served goes back to its
// loop when it is idle, and has no goroutine then.
func TestConnectionComesHome(t *testing.T) {
	s := serve(t, listenTCP(t), Options{})
	c, r := dial(t, s.address)
	for range 3 {
		goroutines := runtime.NumGoroutine()
		io.WriteString(c, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
		expect(t, r, "GET", "house(): GET /slow ")
		until(t, func() bool { return runtime.NumGoroutine() <= goroutines })
		if n := s.door.Connections(); n != 1 {
			t.Errorf("%d connections", n)
		}
		io.WriteString(c, "GET /quick/1 HTTP/1.1\r\nHost: a\r\n\r\n")
		expect(t, r, "GET", "door: GET /quick/1 ")
	}
	io.WriteString(c, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n") // and at once when all it asks for is answered at the door
	expect(t, r, "GET", "house(): GET /slow ")
	start := time.Now()
	for range settled + 1 {
		io.WriteString(c, "GET /quick/1 HTTP/1.1\r\nHost: a\r\n\r\n")
		expect(t, r, "GET", "door: GET /quick/1 ")
	}
	if waited := time.Since(start); waited > 30*time.Second {
		t.Errorf("it took %v", waited)
	}
}

// TestLoopDeadlines: as TestDeadlines, for connections of a loop.
func TestLoopDeadlines(t *testing.T) {
	const short, ever = 100 * time.Millisecond, time.Hour
	for name, test := range map[string]struct {
		o      Options
		say    string
		reason string
	}{
		"nothing said":                  {Options{Idle: short, Head: ever}, "", ""},
		"one request":                   {Options{Idle: short, Head: ever}, "GET /quick/1 HTTP/1.1\r\nHost: a\r\n\r\n", ""},
		"half a head":                   {Options{Idle: ever, Head: short}, "GET /quick/1 HT", ReasonHeadTimeout},
		"half a next head":              {Options{Idle: ever, Head: short}, "GET /quick/1 HTTP/1.1\r\nHost: a\r\n\r\nG", ReasonHeadTimeout},
		"back from net/http":            {Options{Idle: short, Head: ever}, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", ""},
		"too slow a head with net/http": {Options{Idle: ever, Head: short}, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\nG", ReasonHeadTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, listenTCP(t), test.o)
			start := time.Now()
			c, r := dial(t, s.address)
			io.WriteString(c, test.say)
			if _, err := io.Copy(io.Discard, r); err != nil { // the other side ends
				t.Error(err)
			}
			if waited := time.Since(start); waited < short {
				t.Errorf("given up after %v", waited)
			}
			if got := strings.Join(s.reasons(), " "); got != test.reason {
				t.Errorf("refused for %q, want %q", got, test.reason)
			}
		})
	}
}

// TestManyAreLateAtOnce: all of them are given up, each counted once, and somebody who is
// not late is served meanwhile.
func TestManyAreLateAtOnce(t *testing.T) {
	const many, short = 40 * few, 200 * time.Millisecond
	s := serve(t, listenTCP(t), Options{Head: short, Idle: time.Hour})
	served, r := dial(t, s.address)
	var late []net.Conn
	for range many {
		c, _ := dial(t, s.address)
		io.WriteString(c, "GET /quick/1 HT")
		late = append(late, c)
	}
	over := make(chan error, 1)
	go func() {
		for _, c := range late {
			if _, err := io.Copy(io.Discard, c); err != nil {
				over <- err
				return
			}
		}
		over <- nil
	}()
	for ended := false; !ended; {
		io.WriteString(served, "GET /quick/1 HTTP/1.1\r\nHost: a\r\n\r\n")
		expect(t, r, "GET", "door: GET /quick/1 ")
		select {
		case err := <-over:
			if ended = true; err != nil {
				t.Error(err)
			}
		default:
		}
	}
	if got := s.reasons(); len(got) != many {
		t.Errorf("%d are counted as refused, want %d", len(got), many)
	}
}

// TestHeadGetsItsTimeOnce: a client that sends a head byte by byte is given up all
// the same.
func TestHeadGetsItsTimeOnce(t *testing.T) {
	s := serve(t, listenTCP(t), Options{Head: 300 * time.Millisecond})
	c, _ := dial(t, s.address)
	start := time.Now()
	for _, err := io.WriteString(c, "GET /"); err == nil; _, err = io.WriteString(c, "a") {
		time.Sleep(20 * time.Millisecond)
		if time.Since(start) > 30*time.Second {
			t.Fatal("never given up")
		}
	}
	if got := strings.Join(s.reasons(), " "); got != ReasonHeadTimeout {
		t.Errorf("refused for %q", got)
	}
}

// TestLoopSilence: a client that takes nothing is given up, one that takes little by
// little is not.
func TestLoopSilence(t *testing.T) {
	const size = 16 << 20
	s := serve(t, listenTCP(t), Options{Silence: time.Second, Answer: long})
	silent, _ := dial(t, s.address)
	slow, r := dial(t, s.address)
	for _, c := range []net.Conn{silent, slow} {
		fmt.Fprintf(c, "GET /long/%d HTTP/1.1\r\nHost: a\r\n\r\n", size)
	}
	start, got := time.Now(), int64(0)
	for s.answered.Load() == 0 {
		n, err := io.CopyN(io.Discard, r, 64<<10)
		if got += n; err != nil {
			t.Fatal(err)
		}
		if got > size/2 {
			got = 0
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	until(t, func() bool { return s.door.Connections() == 1 })
	if waited := time.Since(start); waited < time.Second {
		t.Errorf("given up after %v", waited)
	}
	if n, err := io.Copy(io.Discard, io.LimitReader(r, 1<<20)); n != 1<<20 || err != nil {
		t.Errorf("%d bytes and %v", n, err)
	}
}

const post = "POST /slow HTTP/1.1\r\nHost: a\r\n"

// heard has all loops of s read what was sent to them before it is called.
func heard(t *testing.T, s *server) {
	t.Helper()
	for range s.door.loops.all {
		c, r := dial(t, s.address) // each loop gets one
		io.WriteString(c, "GET /quick/heard HTTP/1.1\r\nHost: a\r\n\r\n")
		expect(t, r, "GET", "door: GET /quick/heard ")
		c.Close()
	}
}

// unread returns how much of what c has sent has come to the other end, which is this
// process's too, and was not read there.
func unread(t *testing.T, c net.Conn) int {
	t.Helper()
	ours := c.LocalAddr().(*net.TCPAddr).Port
	for fd := range 4096 {
		peer, err := syscall.Getpeername(fd)
		if err != nil || int(addressOf(peer).Port()) != ours {
			continue
		}
		var n int32
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.TIOCINQ, uintptr(unsafe.Pointer(&n))); errno != 0 {
			t.Fatal(errno)
		}
		return int(n)
	}
	t.Fatal("nobody has the other end")
	return 0
}

// TestBodiesAreHeld: nobody hears of a request before enough of its body has come, or
// all of it.
func TestBodiesAreHeld(t *testing.T) {
	for name, test := range map[string]struct {
		length int
		bytes  string // that come one by one while it is held
		rest   string
	}{
		"whole":            {3, "ab", "c"},
		"nothing yet":      {1, "", "a"},
		"enough":           {20, "1234567", "8901234567890"},
		"little is left":   {9, "1234567", "89"},
		"more than enough": {20, "1", "2345678901234567890"},
		"another behind":   {3, "a", "bcGET /quick/2 HTTP/1.1\r\nHost: a\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, listenTCP(t), Options{})
			c, r := dial(t, s.address)
			io.WriteString(c, "GET /quick/1 HTTP/1.1\r\nHost: a\r\n\r\n"+post+fmt.Sprintf("Content-Length: %d\r\n\r\n", test.length))
			expect(t, r, "GET", "door: GET /quick/1 ")
			for _, b := range []byte(test.bytes) {
				c.Write([]byte{b})
				heard(t, s)
			}
			heard(t, s)
			if n := s.door.away.Load(); n != 0 {
				t.Fatal("the request has gone on")
			}
			if n := unread(t, c); n != len(test.bytes) {
				t.Errorf("%d bytes of %d wait with the system", n, len(test.bytes))
			}
			io.WriteString(c, test.rest[:1])
			if len(test.rest) > 1 {
				heard(t, s) // what has gone on is no longer waited for together
				io.WriteString(c, test.rest[1:])
			}
			expect(t, r, "POST", "house("+(test.bytes + test.rest)[:test.length]+"): POST /slow ")
			if name == "another behind" {
				expect(t, r, "GET", "door: GET /quick/2 ")
			}
		})
	}
}

// TestBodiesAreNotHeld: a body that may be a stream is one, and a client that expects
// an answer before it sends the body gets it.
func TestBodiesAreNotHeld(t *testing.T) {
	for name, test := range map[string]struct{ first, rest string }{
		"chunked":  {"Transfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n0\r\n\r\n"},
		"expected": {"Content-Length: 1\r\nExpect: 100-continue\r\n\r\n", "a"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, listenTCP(t), Options{})
			c, r := dial(t, s.address)
			io.WriteString(c, post+test.first)
			until(t, func() bool { return s.slow.Load() == 1 })
			if name == "expected" {
				if res, err := http.ReadResponse(r, nil); err != nil || res.StatusCode != http.StatusContinue {
					t.Fatalf("got %v and %v", res, err)
				}
			}
			io.WriteString(c, test.rest)
			expect(t, r, "POST", "house(a): POST /slow ")
		})
	}
}

// TestHeldBodiesEnd: one that does not come in time is refused, what its client had
// asked before is answered, and a client that leaves is forgotten.
func TestHeldBodiesEnd(t *testing.T) {
	s := serve(t, listenTCP(t), Options{Body: 2 * time.Second})
	c, r := dial(t, s.address)
	gone, _ := dial(t, s.address)
	io.WriteString(gone, post+"Content-Length: 3\r\n\r\na")
	io.WriteString(c, "GET /quick/1 HTTP/1.1\r\nHost: a\r\n\r\n"+post+"Content-Length: 3\r\n\r\na")
	heard(t, s)
	gone.Close()
	expect(t, r, "GET", "door: GET /quick/1 ")
	expectRefusal(t, r, lateBody)
	c.Close()
	until(t, func() bool { return s.door.Connections() == 0 })
	if got := s.reasons(); !slices.Equal(got, []string{ReasonBodyTimeout}) || s.slow.Load() != 0 {
		t.Errorf("refused for %q, and %d went on", got, s.slow.Load())
	}
}

// holding returns how many connections with net/http hold a body.
func (s *server) holding() int {
	s.door.mu.Lock()
	defer s.door.mu.Unlock()
	return len(s.door.holding)
}

// TestBodiesAreHeldWithNetHTTP: the same for a connection that has no loop, or waits
// with net/http for a while before it goes back to its loop.
func TestBodiesAreHeldWithNetHTTP(t *testing.T) {
	eachDriver(t, func(t *testing.T, listen func() net.Listener) {
		s := serve(t, listen(), Options{Body: 2 * time.Second})
		c, r := dial(t, s.address)
		late, rl := dial(t, s.address)
		for i, r := range []*bufio.Reader{r, rl} {
			io.WriteString([]net.Conn{c, late}[i], "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
			expect(t, r, "GET", "house(): GET /slow ")
		}
		for _, b := range post + "Content-Length: 3\r\n\r\na" {
			c.Write([]byte{byte(b)})
		}
		until(t, func() bool { return s.holding() == 1 })
		if n := s.slow.Load(); n != 2 {
			t.Error("the request has gone on")
		}
		io.WriteString(c, "bcGET /quick/2 HTTP/1.1\r\nHost: a\r\n\r\n")
		expect(t, r, "POST", "house(abc): POST /slow ")
		expect(t, r, "GET", "door: GET /quick/2 ")
		if n := s.holding(); n != 0 {
			t.Errorf("%d are said to be held", n)
		}
		io.WriteString(late, post+"Content-Length: 3\r\n\r\na")
		expectRefusal(t, rl, lateBody)
		if got := s.reasons(); !slices.Equal(got, []string{ReasonBodyTimeout}) || s.slow.Load() != 3 {
			t.Errorf("refused for %q, and %d went on", got, s.slow.Load())
		}
	})
}

// TestHushLetsGo: what is held when a server begins to end goes on to net/http, which
// waits for it, and so does what comes later.
func TestHushLetsGo(t *testing.T) {
	s := serve(t, listenTCP(t), Options{})
	later, rl := dial(t, s.address)
	kept, rk := dial(t, s.address)
	io.WriteString(kept, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
	expect(t, rk, "GET", "house(): GET /slow ")
	io.WriteString(kept, post+"Content-Length: 3\r\n\r\na")
	until(t, func() bool { return s.holding() == 1 })
	c, r := dial(t, s.address)
	io.WriteString(c, post+"Content-Length: 3\r\n\r\na")
	heard(t, s)
	s.door.Hush()
	if n := s.door.away.Load(); n != 2 {
		t.Errorf("%d connections are away from their loops when Hush is done", n)
	}
	until(t, func() bool { return s.slow.Load() == 3 })
	io.WriteString(later, post+"Content-Length: 3\r\n\r\na")
	until(t, func() bool { return s.slow.Load() == 4 })
	for _, one := range []net.Conn{c, later, kept} {
		io.WriteString(one, "bc")
	}
	for _, r := range []*bufio.Reader{r, rl, rk} {
		expect(t, r, "POST", "house(abc): POST /slow ")
	}
}

// TestHushIsDone: when Hush has returned, no connection is accepted any more, and
// those that are open are served as before.
func TestHushIsDone(t *testing.T) {
	for range 20 {
		s := start(t, listenTCP(t), Options{})
		c, r := dial(t, s.address)
		io.WriteString(c, "GET /quick/1 HTTP/1.1\r\nHost: a\r\n\r\n")
		expect(t, r, "GET", "door: GET /quick/1 ")
		s.door.Hush()
		if late, err := net.Dial("tcp", s.address); err == nil {
			late.Close()
			t.Fatal("a connection was taken after Hush")
		}
		s.door.Hush() // makes no difference
		io.WriteString(c, "GET /quick/1 HTTP/1.1\r\nHost: a\r\n\r\nGET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
		expect(t, r, "GET", "door: GET /quick/1 ")
		expect(t, r, "GET", "house(): GET /slow ")
		s.stop(t)
		s.door.Hush()
		expectEnd(t, r)
	}
}

// TestCloseEndsWhatIsOffered: a connection that nobody has accepted is closed and
// counted out.
func TestCloseEndsWhatIsOffered(t *testing.T) {
	goroutines, files := runtime.NumGoroutine(), descriptors(t)
	l := listenTCP(t)
	door, err := NewListener(l, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	for range 3 {
		c, _ := dial(t, l.Addr().String())
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		conns = append(conns, c)
	}
	until(t, func() bool {
		door.mu.Lock()
		defer door.mu.Unlock()
		return len(door.offered) == 3
	})
	if n := door.Connections(); n != 3 {
		t.Errorf("%d connections", n)
	}
	accepted, err := door.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := door.Close(); err != nil {
		t.Error(err)
	}
	if _, err := door.Accept(); err != net.ErrClosed {
		t.Errorf("accepted with %v", err)
	}
	if err := door.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if n := door.Connections(); n != 1 {
		t.Errorf("%d connections are left, want the accepted one", n)
	}
	accepted.Close()
	accepted.Close()
	if n := door.Connections(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
	for _, c := range conns {
		c.Close()
	}
	nothingLeft(t, goroutines, files)
}

// TestPeerThatHasReset: a connection that its client has reset is still that
// client's: nobody is to be taken for somebody without an address.
func TestPeerThatHasReset(t *testing.T) {
	for range 50 {
		l := listenTCP(t)
		asked, resume := make(chan struct{}), make(chan struct{})
		door, err := NewListener(l, Options{Answer: func(*Answer) bool { close(asked); <-resume; return false }})
		if err != nil {
			t.Fatal(err)
		}
		c, _ := dial(t, l.Addr().String())
		want := c.LocalAddr().String()
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		<-asked
		c.SetLinger(0)
		c.Close()
		close(resume)
		conn, err := door.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got := conn.RemoteAddr(); got == nil || got.String() != want {
			t.Errorf("the peer is %v, want %s", got, want)
		}
		conn.Close()
		door.Close()
		door.Drain(t.Context())
	}
}

// TestManyRequestsAtOnce: a client that sends a thousand requests in one piece does not
// keep another waiting until all of them are answered.
func TestManyRequestsAtOnce(t *testing.T) {
	const many = 1000
	var mu sync.Mutex
	var order []string // of answers
	gate, reached := make(chan struct{}), make(chan struct{})
	body := strings.Repeat("x", 1000)
	s := serve(t, listenTCP(t), Options{Answer: func(a *Answer) bool {
		if a.Target == "/gate" {
			close(reached)
			<-gate
		}
		mu.Lock()
		defer mu.Unlock()
		order = append(order, a.Target)
		give(a, body)
		return true
	}})
	greedy, rg := dial(t, s.address)
	for range len(s.door.loops.all) - 1 { // each loop gets one
		dial(t, s.address)
	}
	other, ro := dial(t, s.address)
	const get = "GET %s HTTP/1.1\r\nHost: a\r\n\r\n"
	fmt.Fprintf(other, get, "/other")
	expect(t, ro, "GET", body)
	fmt.Fprintf(greedy, get, "/gate")
	<-reached
	io.WriteString(greedy, strings.Repeat(fmt.Sprintf(get, "/g"), many))
	fmt.Fprintf(other, get, "/other")
	close(gate)
	for range many + 1 {
		expect(t, rg, "GET", body)
	}
	expect(t, ro, "GET", body)
	mu.Lock()
	defer mu.Unlock()
	if at := slices.Index(order[1:], "/other"); at > many*3/4 {
		t.Errorf("the other had to wait for %d answers", at)
	}
}

// TestIdleLoopRests: connections that wait take no processor time.
func TestIdleLoopRests(t *testing.T) {
	s := serve(t, listenTCP(t), Options{Idle: time.Hour, Head: time.Hour, Silence: time.Hour, Answer: nil})
	for i := range 100 {
		c, r := dial(t, s.address)
		switch i % 20 {
		default: // says nothing
		case 1, 2, 3:
			io.WriteString(c, "GET /quick/1 HTTP/1.1\r\nHost: a\r\n\r\n")
			expect(t, r, "GET", "door: GET /quick/1 ")
		case 4:
			io.WriteString(c, "GET /quick/1 HTTP/1.1\r\nHost: a\r\n\r\nGET /quick/hal")
			expect(t, r, "GET", "door: GET /quick/1 ")
		case 5:
			io.WriteString(c, strings.Repeat("GET /quick/1 HTTP/1.1\r\nHost: a\r\n\r\n", 50000)) // and reads nothing
		}
	}
	best := time.Hour
	for range 5 { // other tests' leftovers may still be at work
		before := processorTime(t)
		time.Sleep(time.Second)
		if best = min(best, processorTime(t)-before); best < 20*time.Millisecond {
			return
		}
	}
	t.Errorf("100 connections that wait take %v of a second", best)
}

// TestNothingToSpareOnThisMachine: where only this machine reaches, nothing is paced;
// elsewhere the system decides.
func TestNothingToSpareOnThisMachine(t *testing.T) {
	control := func(l net.Listener) string {
		raw, err := l.(*net.TCPListener).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var name [16]byte
		size := uint32(len(name))
		var errno syscall.Errno
		if err := raw.Control(func(fd uintptr) {
			_, _, errno = syscall.Syscall6(syscall.SYS_GETSOCKOPT, fd, syscall.IPPROTO_TCP, syscall.TCP_CONGESTION, uintptr(unsafe.Pointer(&name)), uintptr(unsafe.Pointer(&size)), 0)
		}); err != nil || errno != 0 {
			t.Fatal(err, errno)
		}
		return strings.TrimRight(string(name[:size]), "\x00")
	}
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", "0.0.0.0:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil && address == "[::1]:0" { // a machine without IPv6
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		want := control(l)
		if address != "0.0.0.0:0" {
			want = "reno"
		}
		serve(t, l, Options{})
		if got := control(l); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}

// TestNoDescriptorLeft: when no descriptor is left, connections wait to be accepted
// until one is, those that are open are served, and who needs another is told so.
func TestNoDescriptorLeft(t *testing.T) {
	s := serve(t, listenTCP(t), Options{})
	c, r := dial(t, s.address)
	io.WriteString(c, "GET /quick/1 HTTP/1.1\r\nHost: a\r\n\r\n")
	expect(t, r, "GET", "door: GET /quick/1 ")
	other, ro := dial(t, s.address)
	io.WriteString(other, "GET /quick/1 HTTP/1.1\r\nHost: a\r\n\r\n")
	expect(t, ro, "GET", "door: GET /quick/1 ")

	late, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(late)

	var usual syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &usual); err != nil {
		t.Fatal(err)
	}
	highest := 0
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		var fd int
		fmt.Sscan(f.Name(), &fd)
		highest = max(highest, fd)
	}
	full := usual
	full.Cur = uint64(highest + 1)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &full); err != nil {
		t.Fatal(err)
	}
	var fill []int
	restore := sync.OnceFunc(func() {
		for _, fd := range fill {
			syscall.Close(fd)
		}
		syscall.Setrlimit(syscall.RLIMIT_NOFILE, &usual)
	})
	defer restore()
	for {
		fd, err := syscall.Dup(late)
		if err != nil {
			break
		}
		fill = append(fill, fd)
	}
	port := s.door.Addr().(*net.TCPAddr).Port
	if err := syscall.Connect(late, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	const request = "GET /quick/1 HTTP/1.1\r\nHost: a\r\n\r\n"
	if _, err := syscall.Write(late, []byte(request)); err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, request)
	expect(t, r, "GET", "door: GET /quick/1 ")
	io.WriteString(other, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
	expectRefusal(t, ro, noRoom)
	before := processorTime(t)
	time.Sleep(4 * breather) // it may be tried again, in vain
	if spent := processorTime(t) - before; spent > 2*breather {
		t.Errorf("waiting for a descriptor takes %v of %v", spent, 4*breather)
	}
	io.WriteString(c, request)
	expect(t, r, "GET", "door: GET /quick/1 ")
	restore()
	answer := make([]byte, 4096)
	if n, err := syscall.Read(late, answer); err != nil || !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 200 OK\r\n") {
		t.Errorf("the connection that waited got %q and %v", answer[:max(n, 0)], err)
	}
}

// TestLargeHeads: heads may be larger than what a loop reads at once, and come in
// pieces behind an answer that waits.
func TestLargeHeads(t *testing.T) {
	const limit = 3 << 20
	s := serve(t, listenTCP(t), Options{Limits: Limits{Head: limit}})
	s.MaxHeaderBytes = limit
	head := "GET /quick/1 HTTP/1.1\r\nHost: a\r\nX-Large: "
	head += strings.Repeat("l", limit-len(head)-4) + "\r\n\r\n"
	c, r := dial(t, s.address)
	go io.WriteString(c, head+head+head[:len(head)-5]+"ll\r\n\r\n")
	expect(t, r, "GET", "door: GET /quick/1 ")
	expect(t, r, "GET", "door: GET /quick/1 ")
	expectRefusal(t, r, largeHead)
}

// processorTime is what the process has spent so far.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestLoopCloseLosesNothing: as TestShutdownLetsAnswersEnd, for answers of the loop:
// one that is under way when the listener is closed, and one that has gone to the
// system but not to the client.
func TestLoopCloseLosesNothing(t *testing.T) {
	for name, test := range map[string]struct {
		size   int
		behind string
	}{
		"under way": {32 << 20, strings.Repeat("GET /quick/1 HTTP/1.1\r\nHost: a\r\n\r\n", 5000)},
		"refused":   {400 << 10, "GET /# HTTP/1.1\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, listenTCP(t), Options{})
			var idle []io.Reader // one for each loop, which closes it when it hears of the end
			for range runtime.GOMAXPROCS(0) {
				_, r := dial(t, s.address)
				idle = append(idle, r)
			}
			until(t, func() bool { return s.door.Connections() == len(idle) })
			c, r := dial(t, s.address)
			c.SetReadBuffer(128 << 10)
			fmt.Fprintf(c, "GET /long/%d HTTP/1.1\r\nHost: a\r\n\r\n", test.size)
			until(t, func() bool { return s.quick.Load() == 1 })
			io.WriteString(c, test.behind)
			if name == "refused" {
				until(t, func() bool { return len(s.reasons()) == 1 })
			}
			s.door.Close()
			for _, r := range idle {
				io.Copy(io.Discard, r)
			}
			io.WriteString(c, "more") // which a connection that is closed already does not take
			expectLong(t, r, test.size)
			if name == "refused" {
				expectRefusal(t, r, badTarget)
			}
			if err := s.door.Drain(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
