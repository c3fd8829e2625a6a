package integration

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"edge/integration/internal/node"
	"edge/integration/internal/origin"
	"edge/integration/internal/pattern"
)

// open sends a GET and returns the response with its body unread.
func open(tb testing.TB, n *node.Node, target string, fields ...string) *http.Response {
	tb.Helper()
	r, err := request(n, "GET", target, "", fields...)
	if err != nil {
		tb.Fatal(err)
	}
	res, err := n.Client.Do(r)
	if err != nil {
		tb.Fatalf("GET %s: %v", target, err)
	}
	tb.Cleanup(func() { res.Body.Close() })
	return res
}

func TestFirstByteBeforeTheOriginSendsTheSecond(t *testing.T) {
	t.Parallel()
	for name, directives := range map[string]string{"uncacheable": "no-store", "cacheable": "max-age=60"} {
		for framing, length := range map[string]string{"chunked": "", "with length": "10"} {
			t.Run(name+" "+framing, func(t *testing.T) {
				t.Parallel()
				gate := origin.NewGate(t)
				o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Cache-Control", directives)
					if length != "" {
						w.Header().Set("Content-Length", length)
					}
					io.WriteString(w, "first")
					http.NewResponseController(w).Flush()
					gate.Pass(r)
					io.WriteString(w, "later")
				})
				n := front(t, o)
				res := open(t, n, "/")
				first := make([]byte, 5)
				if _, err := io.ReadFull(res.Body, first); err != nil || string(first) != "first" {
					t.Fatalf("first bytes: %q, %v", first, err)
				}
				gate.Open()
				rest, err := io.ReadAll(res.Body)
				if err != nil || string(rest) != "later" {
					t.Errorf("rest: %q, %v", rest, err)
				}
			})
		}
	}
}

// Whoever joins a fetch in the middle gets what has come so far at once.
func TestJoiningInTheMiddle(t *testing.T) {
	t.Parallel()
	gate := origin.NewGate(t)
	o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "first")
		http.NewResponseController(w).Flush()
		gate.Pass(r)
		io.WriteString(w, "later")
	})
	n := front(t, o)
	first := make([]byte, 5)
	lead, join := open(t, n, "/"), open(t, n, "/")
	for _, res := range []*http.Response{lead, join} {
		if _, err := io.ReadFull(res.Body, first); err != nil || string(first) != "first" {
			t.Fatalf("first bytes: %q, %v", first, err)
		}
	}
	gate.Open()
	for _, res := range []*http.Response{lead, join} {
		if rest, err := io.ReadAll(res.Body); err != nil || string(rest) != "later" {
			t.Errorf("rest: %q, %v", rest, err)
		}
	}
	equal(t, "requests to the origin", o.Count(""), 1)
}

func TestEventsArriveOneByOne(t *testing.T) {
	t.Parallel()
	events := make(chan string)
	left := make(chan struct{})
	o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
		defer close(left)
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Cache-Control", "no-cache")
		flush := http.NewResponseController(w).Flush
		for flush() == nil {
			select {
			case e := <-events:
				fmt.Fprintf(w, "data: %s\n\n", e)
			case <-r.Context().Done():
				return
			}
		}
	})
	n := front(t, o)
	res := open(t, n, "/events", "Accept", "text/event-stream")
	in := textproto.NewReader(bufio.NewReader(res.Body))
	for i := range 5 {
		event := fmt.Sprintf("event %d", i)
		events <- event // sent only when the one before has been read
		line, err := in.ReadLine()
		if err != nil || line != "data: "+event {
			t.Fatalf("got %q, %v, want event %d", line, err, i)
		}
		in.ReadLine() // the empty line that ends an event
	}
	res.Body.Close()
	select {
	case <-left:
	case <-time.After(patience):
		t.Error("the origin still sends events to a client that left")
	}
	n.Settle(t)
}

// A client that takes nothing stops the origin: nothing keeps on being produced
// into the node's memory.
func TestBackPressureReachesTheOrigin(t *testing.T) {
	t.Parallel()
	const row = "1,a product with a name as long as names of products are,9.99\n"
	const bound = 48 << 20 // socket buffers of two connections, and the node's own window
	blocked := make(chan int, 1)
	o := origin.Start(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/csv")
		w.Header().Set("Cache-Control", "no-store")
		rows := strings.Repeat(row, 1000)
		sent := 0
		defer func() { blocked <- sent }()
		for sent < 4*bound {
			// A second without progress is what being held looks like. Were it only a
			// slow machine, the count would be smaller still.
			http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Second))
			if _, err := io.WriteString(w, rows); err != nil {
				return
			}
			sent += len(rows)
		}
	})
	n := front(t, o)
	res := open(t, n, "/export.csv")
	got := make([]byte, len(row))
	if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != row {
		t.Fatalf("first row: %q, %v", got, err)
	}
	if sent := <-blocked; sent > bound {
		t.Errorf("the origin wrote %d MiB for a client that read one row", sent>>20)
	}
}

func TestTruncatedBodyIsNeverWhole(t *testing.T) {
	t.Parallel()
	for name, length := range map[string]string{"declared length": "100", "chunked": ""} {
		for cached, directives := range map[string]string{"cacheable": "max-age=60", "uncacheable": "no-store"} {
			t.Run(name+" "+cached, func(t *testing.T) {
				t.Parallel()
				gate := origin.NewGate(t)
				o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Cache-Control", directives)
					if length != "" {
						w.Header().Set("Content-Length", length)
					}
					io.WriteString(w, "half")
					http.NewResponseController(w).Flush()
					gate.Pass(r)
					panic(http.ErrAbortHandler)
				})
				n := front(t, o)
				const clients = 5
				await := sendAll(t, n, "/", clients, nothing)
				gate.Await(t, 1)
				gate.Open()
				for i, a := range await() {
					if a.Err == nil && a.Status != http.StatusBadGateway {
						t.Errorf("client %d: status %d with %d bytes looks complete", i, a.Status, len(a.Body))
					}
					if a.Status == http.StatusOK {
						equal(t, "what came", strings.HasPrefix("half", a.Body), true)
					}
				}
				before := o.Count("")
				n.Client.CloseIdleConnections() // on a used connection that ends without an answer, Go's client asks twice
				again := ask(t, n, "GET", "/", "")
				if again.hit() || again.Err == nil && again.Status != http.StatusBadGateway {
					t.Errorf("a truncated body was kept: status %d, %q, hit %v", again.Status, again.Body, again.hit())
				}
				equal(t, "requests to the origin", o.Count(""), before+1)
			})
		}
	}
}

// RFC 9112 section 8: only a length or a last chunk tells that a body is whole.
func TestBodyEndedByTheConnectionIsNotStored(t *testing.T) {
	t.Parallel()
	o := origin.Raw(t, "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nConnection: close\r\n\r\nas far as we know")
	n := front(t, o)
	for range 2 {
		a := get(t, n, "/")
		equal(t, "body", a.Body, "as far as we know")
		equal(t, "hit", a.hit(), false)
	}
	equal(t, "requests to the origin", o.Count(""), 2)
}

func TestEarlyHintsPassThrough(t *testing.T) {
	t.Parallel()
	gate := origin.NewGate(t)
	o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		gate.Pass(r)
		fields("page", "Cache-Control", "max-age=60")(w, r)
	})
	n := front(t, o)
	r, err := request(n, "GET", "/", "")
	if err != nil {
		t.Fatal(err)
	}
	hints := make(chan string, 1)
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
			hints <- fmt.Sprint(status, " ", h.Get("Link"))
			gate.Open() // the page comes only after the hint has been seen
			return nil
		},
	}))
	res, err := n.Client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || string(body) != "page" {
		t.Errorf("body: %q, %v", body, err)
	}
	equal(t, "hint", <-hints, "103 </a.css>; rel=preload")
}

func TestRequestBodyStreamsToTheOrigin(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
		var check pattern.Checker
		if _, err := io.Copy(&check, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprint(w, check.Count)
	})
	n := front(t, o)
	body, in := io.Pipe()
	go func() { in.CloseWithError(pattern.Write(in, size)) }()
	res, err := n.Client.Post(n.URL+"/upload", "application/octet-stream", body)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil || string(got) != fmt.Sprint(size) {
		t.Errorf("the origin says %q, %v, want %d bytes", got, err, size)
	}
}

// A large body costs the node a bounded amount of memory, however slow its reader,
// whether it is only passed on or was meant to be stored until it proved too large.
func TestLargeBodyTakesLittleMemory(t *testing.T) {
	const bound = 32 << 20
	size := int64(256 << 20)
	if soaking() {
		size = 1 << 30
	}
	o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		if r.URL.Path == "/cacheable" {
			w.Header().Set("Cache-Control", "max-age=60")
		}
		if r.URL.Path == "/small" {
			return
		}
		_ = pattern.Write(w, size) // chunked: no length was set; fails when the test has failed
	})
	for _, target := range []string{"/uncacheable", "/cacheable"} {
		t.Run(target[1:], func(t *testing.T) {
			n := node.Start(t, node.Options{Binary: built(t, plainBinary), Origin: o.URL})
			get(t, n, "/small")
			before, _ := n.Memory(t)
			n.ResetPeak(t)
			res := open(t, n, target)
			var check pattern.Checker
			part := int64(1 << 20)
			for {
				copied, err := io.CopyN(&check, res.Body, part)
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatalf("after %d bytes: %v", check.Count+copied, err)
				}
				time.Sleep(2 * time.Millisecond) // a reader slower than the origin
			}
			equal(t, "bytes", check.Count, size)
			_, peak := n.Memory(t)
			t.Logf("%d MiB through the node: resident memory %d KiB before, %d KiB at its highest", size>>20, before>>10, peak>>10)
			if grown := peak - before; grown > bound {
				t.Errorf("resident memory grew by %d KiB, want at most %d KiB", grown>>10, bound>>10)
			}
		})
	}
}

// wholePattern reads a patterned body to its end.
func wholePattern(t *testing.T, res *http.Response, size int64) {
	t.Helper()
	defer res.Body.Close()
	var check pattern.Checker
	if _, err := io.Copy(&check, res.Body); err != nil {
		t.Errorf("after %d bytes: %v", check.Count, err)
	}
	equal(t, "bytes", check.Count, size)
}
