package node

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

const silence = time.Minute

// pipes is a listener whose connections are net.Pipes.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// serveOne serves h on one connection inside a bubble, and returns the client's
// side of it.
func serveOne(t *testing.T, h http.Handler) net.Conn {
	near, far := net.Pipe()
	p := &pipes{conns: make(chan net.Conn, 1), done: make(chan struct{})}
	p.conns <- near
	server := &http.Server{Handler: h}
	served := make(chan struct{})
	go func() {
		server.Serve(p)
		close(served)
	}()
	t.Cleanup(func() {
		far.Close()
		server.Close()
		<-served
	})
	return far
}

func TestSlowUploadLivesAsLongAsItMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := serveOne(t, boundBodies(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil || string(body) != "slow" {
				t.Errorf("got %q and %v", body, err)
			}
			// The work after the body may take its time, too: a deadline left
			// behind would look like a client that went.
			select {
			case <-time.After(10 * silence):
			case <-r.Context().Done():
				t.Error("the request was cancelled although the client is there")
			}
		}), silence))
		io.WriteString(client, "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\n")
		for _, b := range []byte("slow") {
			time.Sleep(silence - time.Second)
			client.Write([]byte{b})
		}
		res, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	})
}

func TestUploadThatStopsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := serveOne(t, boundBodies(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			start := time.Now()
			body, err := io.ReadAll(r.Body)
			if string(body) != "st" || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("got %q and %v, want what came and a passed deadline", body, err)
			}
			if waited := time.Since(start); waited != silence {
				t.Errorf("waited for %v, want %v", waited, silence)
			}
			w.WriteHeader(http.StatusRequestTimeout)
		}), silence))
		io.WriteString(client, "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nst")
		r := bufio.NewReader(client)
		if res, err := http.ReadResponse(r, nil); err != nil || !res.Close {
			t.Fatalf("got %v and %v, want an answer that closes: the rest of the body is still to come", res, err)
		}
	})
}

// A handler that answers without reading the body leaves it to net/http, which
// reads some of it before it answers: that wait must end as well.
func TestUnreadUploadIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := serveOne(t, boundBodies(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusForbidden)
		}), silence))
		io.WriteString(client, "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\n")
		start := time.Now()
		res, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil || res.StatusCode != http.StatusForbidden {
			t.Fatalf("got %v and %v, want the answer", res, err)
		}
		if waited := time.Since(start); waited > silence {
			t.Errorf("the answer took %v", waited)
		}
	})
}
