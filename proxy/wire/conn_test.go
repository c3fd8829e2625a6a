package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

const silence = time.Minute

var quietLog = log.New(io.Discard, "", 0)

// door wraps a connection as a listener with these options would.
func door(t *testing.T, c net.Conn, o Options) *Conn {
	t.Helper()
	l, err := NewListener(nil, o)
	if err != nil {
		t.Fatal(err)
	}
	l.admit(addrOf(nil))
	return &Conn{Conn: c, listener: l}
}

// problemOf reads what a client is told.
func problemOf(t *testing.T, no *Refusal) *http.Response {
	t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(no.problem(time.Now(), nil))), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(res.Body); err != nil || int64(len(body)) != res.ContentLength {
		t.Fatalf("%q and %v", body, err)
	}
	return res
}

func TestSlowReaderLivesAsLongAsItReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		c := door(t, near, Options{Silence: silence})
		defer c.Close()
		go func() {
			one := make([]byte, 1)
			for range 10 {
				time.Sleep(silence - time.Second)
				far.Read(one)
			}
		}()
		if n, err := c.Write(make([]byte, 10)); n != 10 || err != nil {
			t.Errorf("wrote %d bytes and %v to a reader that never stopped, want all 10", n, err)
		}
	})
}

// TestSlowReaderOfManyChunks: the same for an answer of ours.
func TestSlowReaderOfManyChunks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		c := door(t, near, Options{Silence: silence})
		defer c.Close()
		var got []byte
		go func() {
			one := make([]byte, 1)
			for range 10 {
				time.Sleep(silence - time.Second)
				far.Read(one)
				got = append(got, one...)
			}
		}()
		n, err := c.writeAll(net.Buffers{[]byte("0"), nil, []byte("123"), []byte("456789"), {}})
		synctest.Wait()
		if n != 10 || err != nil || string(got) != "0123456789" {
			t.Errorf("wrote %d bytes and %v to a reader that never stopped, which got %q", n, err, got)
		}
	})
}

func TestReaderThatStopsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		c := door(t, near, Options{Silence: silence})
		defer c.Close()
		go io.ReadFull(far, make([]byte, 3))
		start := time.Now()
		n, err := c.Write(make([]byte, 10))
		if n != 3 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("wrote %d bytes and %v, want 3 and a passed deadline", n, err)
		}
		if waited := time.Since(start); waited < silence || waited > 2*silence {
			t.Errorf("waited for %v", waited)
		}
	})
}

// TestRefusalIsNotLost: what a client has sent behind a request that is refused does
// not have the refusal thrown away; and it is read for a while only.
func TestRefusalIsNotLost(t *testing.T) {
	eachDriver(t, func(t *testing.T, listen func() net.Listener) {
		s := serve(t, listen(), Options{})
		c, r := dial(t, s.address)
		go func() {
			io.WriteString(c, "GET /# HTTP/1.1\r\n")
			for range 200 {
				c.Write(make([]byte, 1000))
			}
		}()
		expectRefusal(t, r, badTarget)
		start := time.Now()
		until(t, func() bool { return s.door.Connections() == 0 }) // though this side is open
		if waited := time.Since(start); waited > 30*lingering {
			t.Errorf("read on for %v", waited)
		}
	})
}

// wrapped is a connection that does not show what else it can do.
type wrapped struct{ net.Conn }

func (w wrapped) Raw() net.Conn { return w.Conn }

// wrapping is a listener of such connections.
type wrapping struct{ net.Listener }

func (l wrapping) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return wrapped{c}, err
}

func TestCloseWriteReachesTheConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, l := range []net.Listener{plainListener{l}, wrapping{l}, wrapping{wrapping{l}}} {
		far, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer far.Close()
		door, err := NewListener(l, Options{Silence: silence})
		if err != nil {
			t.Fatal(err)
		}
		c, err := door.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.(*Conn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the peer read %v, want the end", err)
		}
	}
}

// announcedLate is a connection from a balancer that has not said yet whom it is from.
type announcedLate struct {
	net.Conn
	said chan struct{}
}

func (c announcedLate) Raw() net.Conn        { return c.Conn }
func (c announcedLate) RemoteAddr() net.Addr { <-c.said; return c.Conn.RemoteAddr() }

// Nobody waits at the door for a balancer's word.
func TestAcceptDoesNotWaitForAPeersName(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	late := announcedLate{near, make(chan struct{})}
	inner := &one{make(chan net.Conn, 1), make(chan struct{})}
	inner.conn <- late
	l, err := NewListener(inner, Options{PerClient: 1})
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn)
	go func() {
		c, _ := l.Accept()
		accepted <- c
	}()
	select {
	case c := <-accepted:
		close(late.said)
		c.Close()
	case <-time.After(10 * time.Second):
		close(late.said)
		(<-accepted).Close()
		t.Error("a connection is not accepted until its peer is named")
	}
}
