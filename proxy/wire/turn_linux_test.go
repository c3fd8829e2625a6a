package wire

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestTurn: whatever clients have sent when a loop comes to look, each gets its own
// answers, in order, and all of them.
func TestTurn(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // one loop
	gate, reached := make(chan struct{}), make(chan struct{})
	usual := new(server)
	var foreseen []string // targets that the loop has told of and not asked about
	together := 0         // the most that it has told of at once
	t.Cleanup(func() {    // behind the end of the server
		if len(foreseen) > 0 || together < 2 {
			t.Errorf("told of %d at once, and never asked about %q", together, foreseen)
		}
	})
	s := serve(t, listenTCP(t), Options{Limits: Limits{Head: 4096}, Prefetch: func(coming []*Answer) {
		if len(foreseen) > 0 {
			t.Errorf("never asked about %q", foreseen)
		}
		foreseen, together = nil, max(together, len(coming))
		for _, a := range coming {
			foreseen = append(foreseen, strings.Clone(a.Target))
			a.State = foreseen[len(foreseen)-1]
		}
	}, Answer: func(a *Answer) bool {
		if a.State != nil {
			if len(foreseen) == 0 || a.State != foreseen[0] || a.Target != foreseen[0] {
				t.Errorf("asked about %q, with what was left for %q, where %q was foretold", a.Target, a.State, foreseen)
			}
			foreseen = foreseen[min(1, len(foreseen)):]
		}
		if a.Target == "/gate" {
			close(reached)
			<-gate
			return empty(a)
		}
		return usual.answer(a)
	}})
	get := func(target string) string { return "GET " + target + " HTTP/1.1\r\nHost: a\r\n\r\n" }
	const many = 3000 // requests: more than is read at once
	type customer struct {
		c *net.TCPConn
		r *bufio.Reader
	}
	// Each kind of customer sends something, and then expects something.
	kinds := []struct {
		sends   func(customer, string)
		expects func(customer, string)
	}{
		{ // one request
			func(u customer, id string) { io.WriteString(u.c, get(id)) },
			func(u customer, id string) { expect(t, u.r, "GET", "door: GET "+id+" ") },
		},
		{ // several, and the half of another
			func(u customer, id string) { io.WriteString(u.c, get(id)+get(id+"a")+get(id + "b")[:20]) },
			func(u customer, id string) {
				expect(t, u.r, "GET", "door: GET "+id+" ")
				expect(t, u.r, "GET", "door: GET "+id+"a ")
				io.WriteString(u.c, get(id + "b")[20:])
				expect(t, u.r, "GET", "door: GET "+id+"b ")
			},
		},
		{ // one that goes on to net/http, between two that do not
			func(u customer, id string) { io.WriteString(u.c, get(id)+get("/slow"+id)+get(id+"a")) },
			func(u customer, id string) {
				expect(t, u.r, "GET", "door: GET "+id+" ")
				expect(t, u.r, "GET", "house(): GET /slow"+id+" ")
				expect(t, u.r, "GET", "door: GET "+id+"a ")
			},
		},
		{ // one that is refused
			func(u customer, id string) { io.WriteString(u.c, get(id)+"GET  / HTTP/1.1\r\n\r\n") },
			func(u customer, id string) {
				expect(t, u.r, "GET", "door: GET "+id+" ")
				if rest, err := io.ReadAll(u.r); err != nil || !strings.HasPrefix(string(rest), "HTTP/1.1 400 ") {
					t.Errorf("%s: %.40q and %v, want a refusal", id, rest, err)
				}
			},
		},
		{ // a long answer between two short ones
			func(u customer, id string) { io.WriteString(u.c, get(id)+get("/long/5000000")+get(id+"a")) },
			func(u customer, id string) {
				expect(t, u.r, "GET", "door: GET "+id+" ")
				expectLong(t, u.r, 5000000)
				expect(t, u.r, "GET", "door: GET "+id+"a ")
			},
		},
		{ // the end
			func(u customer, id string) { io.WriteString(u.c, get(id)); u.c.CloseWrite() },
			func(u customer, id string) {
				expect(t, u.r, "GET", "door: GET "+id+" ")
				expectEnd(t, u.r)
			},
		},
		{ // the end, in the middle of a head
			func(u customer, id string) { io.WriteString(u.c, get(id)+"GET /"); u.c.CloseWrite() },
			func(u customer, id string) {
				expect(t, u.r, "GET", "door: GET "+id+" ")
				expectEnd(t, u.r)
			},
		},
		{ // a body that has to be waited for
			func(u customer, id string) {
				io.WriteString(u.c, get(id)+"POST "+id+"a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nbo")
			},
			func(u customer, id string) {
				expect(t, u.r, "GET", "door: GET "+id+" ")
				io.WriteString(u.c, "dy!")
				expect(t, u.r, "POST", "house(body!): POST "+id+"a ")
			},
		},
		{ // urgent data, which is none of HTTP's, between two requests
			func(u customer, id string) {
				io.WriteString(u.c, get(id))
				urge(t, u.c)
				io.WriteString(u.c, get(id+"a"))
			},
			func(u customer, id string) {
				expect(t, u.r, "GET", "door: GET "+id+" ")
				expect(t, u.r, "GET", "door: GET "+id+"a ")
			},
		},
		{ // a reset
			func(u customer, id string) { io.WriteString(u.c, get(id)); u.c.SetLinger(0); u.c.Close() },
			func(customer, string) {},
		},
	}
	var customers []customer
	for range 10 * len(kinds) {
		c, r := dial(t, s.address)
		io.WriteString(c, get("/quick/first"))
		expect(t, r, "GET", "door: GET /quick/first ")
		customers = append(customers, customer{c, r})
	}
	held, rh := dial(t, s.address) // its body is waited for when it ends in the middle of it
	io.WriteString(held, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nb")
	heard(t, s)
	c, r := dial(t, s.address)
	io.WriteString(c, get("/gate"))
	<-reached
	io.WriteString(held, "od")
	held.CloseWrite()
	for i, u := range customers {
		kinds[i%len(kinds)].sends(u, fmt.Sprintf("/quick/%d", i))
	}
	bulk, rb := dial(t, s.address)
	var writing sync.WaitGroup
	defer writing.Wait()
	writing.Go(func() { io.WriteString(bulk, strings.Repeat(get("/quick/bulk"), many)) })
	close(gate)
	for i, u := range customers {
		kinds[i%len(kinds)].expects(u, fmt.Sprintf("/quick/%d", i))
	}
	expectEnd(t, rh)
	for range many {
		expect(t, rb, "GET", "door: GET /quick/bulk ")
	}
	if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 204 ") {
		t.Errorf("%q and %v", line, err)
	}
}

// urge sends a byte of urgent data.
func urge(t *testing.T, c *net.TCPConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if controlErr := raw.Control(func(fd uintptr) {
		_, err = syscall.SendmsgN(int(fd), []byte("!"), nil, nil, syscall.MSG_OOB)
	}); controlErr != nil || err != nil {
		t.Fatal(controlErr, err)
	}
}

// TestIdleBehindALongAnswer: once a client has taken all of an answer that it took its
// time for, it is idle like any other, and no longer silent.
func TestIdleBehindALongAnswer(t *testing.T) {
	const size = 8 << 20 // more than the system takes at once
	for name, test := range map[string]struct {
		idle, silence time.Duration
		ends          bool
	}{
		"idle":   {300 * time.Millisecond, time.Hour, true},
		"silent": {time.Hour, 300 * time.Millisecond, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, listenTCP(t), Options{Idle: test.idle, Silence: test.silence})
			c, r := dial(t, s.address)
			fmt.Fprintf(c, "GET /long/%d HTTP/1.1\r\nHost: a\r\n\r\n", size)
			if _, err := r.Peek(1); err != nil { // it has begun, and the loop waits for the client
				t.Fatal(err)
			}
			expectLong(t, r, size)
			if test.ends {
				expectEnd(t, r)
				return
			}
			c.SetReadDeadline(time.Now().Add(4 * test.silence))
			if _, err := r.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%v, want to be left alone", err)
			}
		})
	}
}
