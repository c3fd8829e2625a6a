package socket

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"
)

// pair returns both ends of a connection, the first of which is direct.
func pair(t *testing.T) (direct net.Conn, other *net.TCPConn) {
	t.Helper()
	inner, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	l := Listener{inner}
	defer l.Close()
	dialed, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	direct, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { direct.Close(); dialed.Close() })
	return direct, dialed.(*net.TCPConn)
}

// All that package net promises of a connection: deadlines, concurrent use, errors.
func TestConn(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		direct, dialed := pair(t)
		other := Direct(dialed)
		return direct, other, func() { direct.Close(); other.Close() }, nil
	})
}

// More than the kernel takes at once goes in the end, whole.
func TestLargeWrite(t *testing.T) {
	direct, other := pair(t)
	sent := make([]byte, 32<<20)
	_, _ = rand.Read(sent)
	wrote := make(chan error, 1)
	go func() {
		n, err := direct.Write(sent)
		if err == nil && n != len(sent) {
			err = io.ErrShortWrite
		}
		wrote <- errors.Join(err, direct.(interface{ CloseWrite() error }).CloseWrite())
	}()
	got, err := io.ReadAll(Direct(other))
	if err := errors.Join(err, <-wrote); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, sent) {
		t.Errorf("%d bytes have come, or others, of %d", len(got), len(sent))
	}
	if _, err := other.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if n, err := direct.Read(got[:8]); n != 1 || err != nil {
		t.Errorf("the other direction: %d bytes, %v", n, err)
	}
}

// What one goroutine writes goes out as a whole, whoever else writes.
func TestWritesDoNotMix(t *testing.T) {
	direct, other := pair(t)
	const size = 8 << 20
	var writers sync.WaitGroup
	for _, b := range []byte("ab") {
		writers.Go(func() {
			if _, err := direct.Write(bytes.Repeat([]byte{b}, size)); err != nil {
				t.Error(err)
			}
		})
	}
	got := make([]byte, 2*size)
	if _, err := io.ReadFull(other, got); err != nil {
		t.Fatal(err)
	}
	writers.Wait()
	if n := len(bytes.TrimLeft(got, string(got[:1]))); n != size {
		t.Errorf("after %d bytes of one there is the other", 2*size-n)
	}
}

// A write to a client that takes nothing ends at its deadline, and tells what went.
func TestWriteDeadline(t *testing.T) {
	direct, other := pair(t)
	var writing sync.WaitGroup
	writing.Go(func() {
		n, err := direct.Write(make([]byte, 64<<20))
		if !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || n == 64<<20 {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
	if _, err := other.Read(make([]byte, 1)); err != nil { // so the write has begun
		t.Error(err)
	}
	if err := direct.SetWriteDeadline(time.Now()); err != nil {
		t.Error(err)
	}
	writing.Wait()
}

// Ends and resets are what callers tell apart.
func TestEnds(t *testing.T) {
	direct, other := pair(t)
	if err := other.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := direct.Read(make([]byte, 8)); n != 0 || err != io.EOF {
		t.Errorf("an end: %d bytes, %v", n, err)
	}

	direct, other = pair(t)
	if err := errors.Join(other.SetLinger(0), other.Close()); err != nil {
		t.Fatal(err)
	}
	_, err := direct.Read(make([]byte, 8))
	var op *net.OpError
	if !errors.Is(err, syscall.ECONNRESET) || !errors.As(err, &op) || op.Op != "read" || op.Addr == nil {
		t.Errorf("a reset: %v", err)
	}
	if _, err := direct.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("a write to nobody: %v", err)
	}

	direct.Close()
	if _, err := direct.Read(make([]byte, 8)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a read after Close: %v", err)
	}
	if d := Direct(TCP(direct)); d == nil {
		t.Error("a closed connection is made none")
	} else if _, err := d.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed connection: %v", err)
	}
}

func TestPending(t *testing.T) {
	direct, other := pair(t)
	raw, err := TCP(direct).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	pending := func() (yes bool) {
		if err := raw.Control(func(fd uintptr) { yes = Pending(fd) }); err != nil {
			t.Fatal(err)
		}
		return yes
	}
	arrived := func() { // the kernel has it, once it is to be read
		if err := raw.Read(func(fd uintptr) bool { return Pending(fd) }); err != nil {
			t.Fatal(err)
		}
	}
	if pending() {
		t.Error("nothing has come")
	}
	if _, err := other.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	arrived()
	if !pending() {
		t.Error("a byte has come")
	}
	if _, err := direct.Read(make([]byte, 8)); err != nil || pending() {
		t.Errorf("the byte is read (%v)", err)
	}
	other.Close()
	arrived()
	if !pending() {
		t.Error("the end has come")
	}
}

func TestTCP(t *testing.T) {
	direct, other := pair(t)
	if TCP(other) != other || TCP(direct) == nil || TCP(direct).RemoteAddr().String() != other.LocalAddr().String() {
		t.Error("not what it is made of")
	}
	pipe, _ := net.Pipe()
	defer pipe.Close()
	if TCP(pipe) != nil {
		t.Error("a pipe is no TCP connection")
	}
}
