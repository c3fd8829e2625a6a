package wire

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// one is a listener of a single connection.
type one struct {
	conn chan net.Conn
	done chan struct{}
}

func (l *one) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *one) Close() error   { close(l.done); return nil }
func (l *one) Addr() net.Addr { return &net.TCPAddr{} }

// TestSilenceAfterAnAnswerOfTheHouse: net/http takes its write deadline off after
// each answer. A client that reads one answer and nothing of the next is given up
// all the same, whoever answers.
func TestSilenceAfterAnAnswerOfTheHouse(t *testing.T) {
	for name, target := range map[string]string{"door": "/quick/", "house": "/slow"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				defer far.Close()
				l := &one{make(chan net.Conn, 1), make(chan struct{})}
				l.conn <- near
				s := start(t, l, Options{Silence: silence})
				defer s.stop(t)

				r := bufio.NewReader(far)
				io.WriteString(far, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
				expect(t, r, "GET", "house(): GET /slow ")
				io.WriteString(far, "GET "+target+" HTTP/1.1\r\nHost: a\r\nX-Note: "+strings.Repeat("x", 1000)+"\r\n\r\n")
				time.Sleep(3 * silence)
				if _, err := r.ReadByte(); err != io.EOF {
					t.Errorf("after three times the silence the client can still read, with error %v", err)
				}
			})
		})
	}
}
