package wire

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// turns are what a client may say; some are its last word.
var turns = []string{
	"GET /quick/a HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /quick/b?x HTTP/1.1\r\nHost: a\r\nX-Note: \t n \t\r\nConnection: keep-alive\r\n\r\n",
	"HEAD /quick/c HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n",
	"HEAD /slow HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /quick/d HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n",
	"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET //quick/../%41 HTTP/1.1\r\nHost: a\r\n\r\n",
	"POST /quick/e HTTP/1.1\r\nHost: a\r\nContent-Length: 37\r\n\r\nGET /quick/x HTTP/1.1\r\nHost: evil\r\n\r\n",
	"POST /wait HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	"GET /quick/f HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
	"GET /quick/g HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
	"PUT /quick/h HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
	"GET /quick/i HTTP/1.1\r\nHost: a\r\nX-Long: " + strings.Repeat("l", 4000) + "\r\n\r\n",
	"GET /quick/j HTTP/1.1\r\nHost: a\r\nX-Longer: " + strings.Repeat("l", 9000) + "\r\n\r\n",
	"GET /quick/k HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
	"GET /quick/l HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
	"GET /quick/m HTTP/1.0\r\n\r\n",
	"GET /quick/n HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
	"GET /quick/o HTTP/1.1\r\nHost: a b\r\n\r\n",
	"GET /quick/%zz HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /quick/p HTTP/1.1\nHost: a\n\n",
	"GET /quick/q HTTP/1.1\r\nHost: a\r\nX-Folded: a\r\n b\r\n\r\n",
	"GET /quick/r HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
	"GET http://a/quick/s HTTP/1.1\r\nHost: a\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /quick/t HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
	"\r\n\r\n", "GET /quick/u HT",
}

// TestTheDoorChangesNothing: whatever a client says, in whatever pieces, it reads
// the same with the door as without.
func TestTheDoorChangesNothing(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		var said [][]byte // in pieces
		var all []byte
		for range 1 + random.IntN(8) {
			turn := turns[random.IntN(len(turns))]
			if random.IntN(3) > 0 {
				turn = turns[random.IntN(9)] // mostly plain, so that the talk goes on
			}
			all = append(all, turn...)
			if random.IntN(2) == 0 {
				said, all = append(said, all), nil
			}
		}
		said = append(said, all)
		most := []int{1, 7, 100, 5000}[random.IntN(4)]
		with, without := converse(t, said, most, true), converse(t, said, most, false)
		if with != without {
			t.Fatalf("seed %d, pieces of %d: to %q the door has\n%q, net/http\n%q", seed, most, said, with, without)
		}
	}
}

// converse says it in pieces of a size at most, and waits after each part until the
// server has nothing more to say. It returns what came back, and how it ended.
func converse(t *testing.T, said [][]byte, most int, atTheDoor bool) (heard string) {
	synctest.Test(t, func(t *testing.T) {
		handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/wait" {
				time.Sleep(time.Second)
				if err := r.Context().Err(); err != nil {
					w.WriteHeader(http.StatusTeapot)
				}
			}
			body, err := io.ReadAll(r.Body)
			respond(w, r, fmt.Sprintf("%s %d %v %q %v", r.Host, len(r.Header), r.Header["X-Note"], body, err))
		})
		server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute, ConnState: func(c net.Conn, state http.ConnState) {
			if c, ok := c.(*Conn); ok && state == http.StateIdle {
				c.Idle()
			}
		}}
		near, far := net.Pipe()
		var l net.Listener = &one{make(chan net.Conn, 1), make(chan struct{})}
		l.(*one).conn <- near
		if atTheDoor {
			l = NewListener(l, Options{Head: time.Minute, Silence: time.Minute, Answer: func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasPrefix(r.URL.Path, "/quick/") {
					return false
				}
				handler(w, r)
				return true
			}})
		}
		go server.Serve(l)
		var back bytes.Buffer
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, err := io.Copy(&back, far)
			fmt.Fprintf(&back, "<%v>", err)
		}()
	talk:
		for _, part := range said {
			for len(part) > 0 {
				n := min(len(part), most)
				if _, err := far.Write(part[:n]); err != nil {
					break talk // the server has closed
				}
				part = part[n:]
			}
			time.Sleep(10 * time.Second)
		}
		time.Sleep(30 * time.Second) // for the answers, and not enough for a deadline
		far.Close()
		<-ended
		server.Close()
		heard = back.String()
	})
	return heard
}
