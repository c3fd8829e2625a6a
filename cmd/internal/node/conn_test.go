package node

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
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
		}), silence, 0))
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
		}), silence, 0))
		io.WriteString(client, "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nst")
		r := bufio.NewReader(client)
		if res, err := http.ReadResponse(r, nil); err != nil || !res.Close {
			t.Fatalf("got %v and %v, want an answer that closes: the rest of the body is still to come", res, err)
		}
	})
}

// A client that sends a byte now and then, forever, holds a connection and whatever
// is behind it as one does that sends none.
func TestUploadThatCrawlsIsGivenUp(t *testing.T) {
	const perSecond = 10
	for _, test := range []struct {
		name   string
		piece  int // bytes,
		every  time.Duration
		pieces int
		crawls bool          // after them, a byte a second
		want   time.Duration // until it is given up; zero is never
	}{
		{"as fast as it must be", 100, 9 * time.Second, 30, false, 0},
		{"all of a window at its end", 10 * 60, silence - time.Second, 5, false, 0},
		{"too little", 99, 9 * time.Second, 30, false, silence},
		{"a byte in time", 1, silence - time.Second, 30, false, silence},
		{"too little after a while", 10 * 60, silence - time.Second, 3, true, 3*(silence-time.Second) + silence},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				client := serveOne(t, boundBodies(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_, err := io.Copy(io.Discard, r.Body)
					if waited := time.Since(start); test.want != 0 && (!errors.Is(err, os.ErrDeadlineExceeded) || waited != test.want) {
						t.Errorf("ended after %v with %v, want a passed deadline after %v", waited, err, test.want)
					} else if test.want == 0 && err != nil {
						t.Errorf("given up after %v with %v", waited, err)
					}
					w.WriteHeader(http.StatusRequestTimeout)
				}), silence, perSecond))
				io.WriteString(client, "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n")
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					for range test.pieces {
						time.Sleep(test.every)
						if _, err := fmt.Fprintf(client, "%x\r\n%s\r\n", test.piece, strings.Repeat("x", test.piece)); err != nil {
							return // given up
						}
					}
					for i := 0; test.crawls && i < 1000; i++ {
						time.Sleep(time.Second)
						if _, err := io.WriteString(client, "1\r\nx\r\n"); err != nil {
							return
						}
					}
					io.WriteString(client, "0\r\n\r\n")
				}()
				res, err := http.ReadResponse(bufio.NewReader(client), nil)
				if err != nil || res.Close != (test.want != 0) {
					t.Fatalf("got %v and %v, want an answer, and the connection closed only in the middle of a body", res, err)
				}
				client.Close()
				<-sent
			})
		})
	}
}

// An origin that takes its time is no fault of the client's.
func TestUploadWaitsForTheOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 100
		client := serveOne(t, boundBodies(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for piece := make([]byte, 1); ; time.Sleep(silence / 2) {
				if _, err := r.Body.Read(piece); err == io.EOF {
					return
				} else if err != nil {
					t.Errorf("given up: %v", err)
					return
				}
			}
		}), silence, size))
		fmt.Fprintf(client, "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size))
		res, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("got %v and %v, want the answer", res, err)
		}
	})
}

// A handler that answers without reading the body leaves it to net/http, which
// reads some of it before it answers: that wait must end as well.
func TestUnreadUploadIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := serveOne(t, boundBodies(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusForbidden)
		}), silence, 0))
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
