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

// turns are what a client may say that is well formed. The last ones end the
// connection.
var turns = []string{
	"GET /quick/a HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /quick/b?x HTTP/1.1\r\nHost: a\r\nX-Note: \t n \t\r\nConnection: keep-alive\r\n\r\n",
	"HEAD /quick/c HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n",
	"HEAD /slow HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /quick/d HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n",
	"GET //quick/../%41 HTTP/1.1\r\nHost: a\r\n\r\n",
	"POST /quick/e HTTP/1.1\r\nHost: a\r\nContent-Length: 37\r\n\r\nGET /quick/x HTTP/1.1\r\nHost: evil\r\n\r\n",
	"POST /slow HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	"POST /slow HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n1;ext\r\nh\r\n00004\r\n\r\n\r\n\r\n0\r\nT: u\r\n\r\n",
	"GET /quick/f HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
	"GET /quick/g HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
	"PUT /quick/h HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
	"GET /quick/i HTTP/1.1\r\nHost: a\r\nX-Long: " + strings.Repeat("l", 4000) + "\r\n\r\n",
	"GET /quick/j HTTP/1.1\r\nHost: a\r\nX-Longer: " + strings.Repeat("l", 9000) + "\r\n\r\n",
	"GET http://a/quick/s HTTP/1.1\r\nHost: a\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /quick/t HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
	"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n",
	"POST /wait HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",

	"GET /quick/k HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
	"GET /quick/l HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
	"GET /quick/m HTTP/1.0\r\n\r\n",
}

const (
	instantTurns = 18 // of turns, those that nobody waits for
	openTurns    = 20 // those that go on
)

// chat is what a client says, in parts.
func chat(random *rand.Rand, turns []string) (said [][]byte) {
	var part []byte
	for range 1 + random.IntN(8) {
		turn := turns[random.IntN(len(turns))]
		if random.IntN(3) > 0 {
			turn = turns[random.IntN(7)] // mostly plain, so that the talk goes on
		}
		part = append(part, turn...)
		if random.IntN(2) == 0 {
			said, part = append(said, part), nil
		}
	}
	return append(said, part)
}

// TestTheDoorChangesNothing: whatever a client says that is well formed, in whatever
// pieces, it reads the same with the door as without.
func TestTheDoorChangesNothing(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		said := chat(random, turns)
		if random.IntN(4) == 0 {
			said = append(said, []byte("GET /quick/u HT"))
		}
		most := []int{1, 7, 100, 5000}[random.IntN(4)]
		with, without := converse(t, said, most, true), converse(t, said, most, false)
		if with != without {
			t.Fatalf("seed %d, pieces of %d: to %q the door has\n%q, net/http\n%q", seed, most, said, with, without)
		}
	}
}

// TestTheDoorEndsMalformedTalk: behind what is well formed, what is malformed is
// refused, and nothing comes after.
func TestTheDoorEndsMalformedTalk(t *testing.T) {
	var bad []int
	for i := range heads {
		if no := heads[i].want; no != nil && no.Status != http.StatusRequestURITooLong && no.Status != http.StatusRequestHeaderFieldsTooLarge {
			bad = append(bad, i) // whatever the limits are
		}
	}
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 2))
		said := chat(random, turns[:openTurns])
		most := []int{1, 7, 100, 5000}[random.IntN(4)]
		without, whole := strings.CutSuffix(converse(t, said, most, false), "<io: read/write on closed pipe>")
		if !whole {
			t.Fatalf("seed %d: to %q net/http has %q", seed, said, without)
		}
		last := heads[bad[random.IntN(len(bad))]]
		said[len(said)-1] = append(said[len(said)-1], last.head+turns[0]...)
		with := converse(t, said, most, true)
		problem, _, _ := bytes.Cut(last.want.problem(time.Time{}, nil), []byte("Date:"))
		rest, ok := strings.CutPrefix(with, without+string(problem))
		if !ok || strings.Contains(rest, "HTTP/1.1") || !strings.HasSuffix(rest, "}\n<<nil>>") {
			t.Fatalf("seed %d, pieces of %d: to %q the door has\n%q, net/http until then\n%q", seed, most, said, with, without)
		}
	}
}

// converse says it in pieces of a size at most, and waits after each part until the
// server has nothing more to say. It returns what came back, and how it ended.
func converse(t *testing.T, said [][]byte, most int, atTheDoor bool) (heard string) {
	synctest.Test(t, func(t *testing.T) {
		server := &http.Server{Handler: http.HandlerFunc(converser), ReadHeaderTimeout: time.Minute, DisableGeneralOptionsHandler: true}
		near, far := net.Pipe()
		var l net.Listener = &one{make(chan net.Conn, 1), make(chan struct{})}
		l.(*one).conn <- near
		if atTheDoor {
			server.ConnState = tell
			door, err := NewListener(l, Options{Head: time.Minute, Silence: time.Minute, Answer: converses})
			if err != nil {
				t.Fatal(err)
			}
			l = door
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

// converser answers by net/http, converses at the door.
func converser(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/wait" {
		time.Sleep(time.Second)
		if err := r.Context().Err(); err != nil {
			w.WriteHeader(http.StatusTeapot)
		}
	}
	body, err := io.ReadAll(r.Body)
	respond(w, r, fmt.Sprintf("%s %d %v %q %v %v", r.Host, len(r.Header), r.Header["X-Note"], body, err, r.Trailer))
}

func converses(a *Answer) bool {
	if !strings.HasPrefix(a.Target, "/quick/") {
		return false
	}
	names := make(http.Header)
	for _, f := range a.Fields {
		names.Add(f.Name, f.Value)
	}
	give(a, fmt.Sprintf("%s %d %v %q %v %v", a.Host, len(names), names["X-Note"], "", nil, http.Header(nil)))
	return true
}

// TestTheLoopChangesNothing: the same over TCP, where a loop serves between
// requests, for talk that goes on.
func TestTheLoopChangesNothing(t *testing.T) {
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	with := &http.Server{Handler: http.HandlerFunc(converser), ConnState: tell, DisableGeneralOptionsHandler: true}
	var doors []*Listener
	for _, hold := range []int{0, 1, 8, 16 << 10} {
		door, err := NewListener(listen(), Options{Answer: converses, Hold: hold})
		if err != nil {
			t.Fatal(err)
		}
		doors = append(doors, door)
		go with.Serve(door)
		defer door.Drain(t.Context())
	}
	defer with.Close()
	without, plain := &http.Server{Handler: with.Handler, DisableGeneralOptionsHandler: true}, listen()
	go without.Serve(plain)
	defer without.Close()
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 3))
		said := bytes.Join(chat(random, turns[:instantTurns]), nil)
		most := []int{1, 7, 100, 5000, 100000}[random.IntN(5)]
		say := func(address string) string {
			c, r := dial(t, address)
			defer c.Close()
			go func() {
				for part := said; len(part) > 0; part = part[min(len(part), most):] {
					c.Write(part[:min(len(part), most)])
				}
				c.CloseWrite()
			}()
			heard, err := io.ReadAll(r)
			if err != nil {
				t.Fatalf("seed %d: after %q: %v", seed, heard, err)
			}
			return string(heard)
		}
		door := doors[seed%uint64(len(doors))]
		if at, by := say(door.Addr().String()), say(plain.Addr().String()); at != by {
			t.Fatalf("seed %d, pieces of %d: to %q the door has\n%q, net/http\n%q", seed, most, said, at, by)
		}
	}
}
