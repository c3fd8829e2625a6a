package wire

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

const silence = time.Minute

// door wraps a connection as a listener with these options would.
func door(c net.Conn, o Options) *Conn {
	return &Conn{Conn: c, listener: NewListener(nil, o)}
}

func TestSlowReaderLivesAsLongAsItReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		c := door(near, Options{Silence: silence})
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

func TestReaderThatStopsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		c := door(near, Options{Silence: silence})
		defer c.Close()
		go io.ReadFull(far, make([]byte, 3))
		start := time.Now()
		n, err := c.Write(make([]byte, 10))
		if n != 3 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("wrote %d bytes and %v, want 3 and a passed deadline", n, err)
		}
		if waited := time.Since(start); waited < silence || waited > 3*silence {
			t.Errorf("waited for %v", waited)
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
	for _, l := range []net.Listener{l, wrapping{l}, wrapping{wrapping{l}}} {
		far, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer far.Close()
		c, err := NewListener(l, Options{Silence: silence}).Accept()
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
