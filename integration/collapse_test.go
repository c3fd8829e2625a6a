package integration

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"time"

	"edge/integration/internal/node"
	"edge/integration/internal/origin"
)

const crowd = 500

// sendAll starts one GET for each client, all at once, and returns when all have
// been written to the node; await then returns their answers.
func sendAll(tb testing.TB, n *node.Node, target string, count int, fields func(i int) []string) (await func() []answer) {
	tb.Helper()
	answers := make([]answer, count)
	var written, clients sync.WaitGroup
	for i := range count {
		r, err := request(n, "GET", target, "", fields(i)...)
		if err != nil {
			tb.Fatal(err)
		}
		written.Add(1)
		once := sync.OnceFunc(written.Done)
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
			WroteRequest: func(httptrace.WroteRequestInfo) { once() },
		}))
		clients.Go(func() {
			defer once() // when there was no connection to write to
			answers[i] = exchange(n, r)
		})
	}
	written.Wait()
	return func() []answer {
		clients.Wait()
		return answers
	}
}

func nothing(int) []string { return nil }

func TestOneColdKeyIsFetchedOnce(t *testing.T) {
	t.Parallel()
	gate := origin.NewGate(t)
	body := strings.Repeat("one for all ", 1000)
	o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
		gate.Pass(r)
		fields(body, "Cache-Control", "max-age=60")(w, r)
	})
	n := front(t, o)
	await := sendAll(t, n, "/", crowd, nothing)
	gate.Await(t, 1)
	gate.Open()
	for i, a := range await() {
		if a.Status != 200 || a.Body != body || a.Err != nil {
			t.Fatalf("client %d: status %d, %d bytes of %d, %v", i, a.Status, len(a.Body), len(body), a.Err)
		}
	}
	equal(t, "requests to the origin", o.Count(""), 1)
	n.Settle(t)
}

func TestThreeLanguagesAreFetchedOnceEach(t *testing.T) {
	t.Parallel()
	gate := origin.NewGate(t)
	o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
		gate.Pass(r)
		language := r.Header.Get("Accept-Language")
		fields("in "+language, "Cache-Control", "max-age=60", "Vary", "Accept-Language", "Content-Language", language)(w, r)
	})
	n := front(t, o)
	languages := []string{"de", "en", "fr"}
	await := sendAll(t, n, "/", crowd, func(i int) []string { return []string{"Accept-Language", languages[i%3]} })
	gate.Await(t, 1)
	gate.Open()
	for i, a := range await() {
		if want := languages[i%3]; a.Err != nil || a.Status != 200 || a.Body != "in "+want || a.Header.Get("Content-Language") != want {
			t.Fatalf("client %d asked for %s: status %d, %q, %v", i, want, a.Status, a.Body, a.Err)
		}
	}
	equal(t, "requests to the origin", o.Count(""), 3)
	n.Settle(t)
}

// The first answer tells that nothing may be shared. From then on nobody waits for
// anybody: all others stand at the origin's gate together.
func TestPrivateAnswersAreNotSerialised(t *testing.T) {
	t.Parallel()
	gate := origin.NewGate(t)
	o := origin.Start(t, inTurn(ownPage, func(w http.ResponseWriter, r *http.Request) {
		gate.Pass(r)
		ownPage(w, r)
	}))
	n := front(t, o)
	await := sendAll(t, n, "/", crowd, func(i int) []string { return []string{"X-Client", fmt.Sprint(i)} })
	gate.Await(t, crowd-1)
	gate.Open()
	for i, a := range await() {
		if want := fmt.Sprintf("page of %d", i); a.Err != nil || a.Status != 200 || a.Body != want {
			t.Fatalf("client %d: status %d, %q, %v, want %q", i, a.Status, a.Body, a.Err, want)
		}
	}
	equal(t, "requests to the origin", o.Count(""), crowd)
	n.Settle(t)
}

func ownPage(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "private, max-age=60")
	io.WriteString(w, "page of "+r.Header.Get("X-Client"))
}

// Sharing is decided before anybody sees a byte, for Set-Cookie as for private.
func TestAnswerWithSetCookieIsNotSharedInFlight(t *testing.T) {
	t.Parallel()
	first := origin.NewGate(t)
	page := func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("X-Client")
		fields("page of "+id, "Cache-Control", "public, max-age=60", "Set-Cookie", "id="+id)(w, r)
	}
	o := origin.Start(t, inTurn(func(w http.ResponseWriter, r *http.Request) {
		first.Pass(r)
		page(w, r)
	}, page))
	n := front(t, o)
	const clients = 20
	await := sendAll(t, n, "/", clients, func(i int) []string { return []string{"X-Client", fmt.Sprint(i)} })
	first.Await(t, 1)
	first.Open()
	for i, a := range await() {
		equal(t, "body", a.Body, fmt.Sprintf("page of %d", i))
		equal(t, "Set-Cookie", a.Header.Get("Set-Cookie"), fmt.Sprintf("id=%d", i))
	}
	equal(t, "requests to the origin", o.Count(""), clients)
}

func TestLeaderMayLeave(t *testing.T) {
	t.Parallel()
	gate := origin.NewGate(t)
	o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
		gate.Pass(r)
		fields("whole", "Cache-Control", "max-age=60")(w, r)
	})
	n := front(t, o)

	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	left := make(chan error, 1)
	go func() {
		r, err := request(n, "GET", "/", "")
		if err == nil {
			_, err = n.Client.Do(r.WithContext(ctx))
		}
		left <- err
	}()
	gate.Await(t, 1) // the leader's request is at the origin
	await := sendAll(t, n, "/", 1, nothing)
	leave()
	if err := <-left; err == nil {
		t.Error("the leader got an answer before there was one")
	}
	gate.Open()
	equal(t, "body of who stayed", await()[0].Body, "whole")
	warm(t, n, "/")
	equal(t, "requests to the origin", o.Count(""), 1)
	n.Settle(t)
}

func TestFailedLeaderKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	gate := origin.NewGate(t)
	o := origin.Start(t, func(_ http.ResponseWriter, r *http.Request) {
		gate.Pass(r)
		panic(http.ErrAbortHandler) // the connection closes without an answer
	})
	n := front(t, o)
	await := sendAll(t, n, "/", 50, nothing)
	gate.Await(t, 1)
	gate.Open()
	for _, a := range await() {
		wantProblem(t, a, 502)
	}
	n.Settle(t)
}

// A reader that takes nothing is left behind; the others and the store are not.
func TestSlowReaderDoesNotSlowTheFill(t *testing.T) {
	t.Parallel()
	body := strings.Repeat("0123456789abcdef", 4<<20/16) // more than socket buffers hold
	gate := origin.NewGate(t)
	o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
		gate.Pass(r)
		fields(body, "Cache-Control", "max-age=60")(w, r)
	})
	n := front(t, o)

	slow := make(chan *http.Response, 1)
	go func() {
		res, err := n.Client.Get(n.URL + "/")
		if err != nil {
			t.Errorf("slow reader: %v", err)
		}
		slow <- res
	}()
	gate.Await(t, 1) // the slow reader leads
	await := sendAll(t, n, "/", 3, nothing)
	gate.Open()
	for _, a := range await() {
		equal(t, "whole body beside a slow reader", a.Body == body, true)
	}
	warm(t, n, "/")
	res := <-slow
	if res == nil {
		return
	}
	defer res.Body.Close()
	rest, err := io.ReadAll(res.Body)
	if err != nil || string(rest) != body {
		t.Errorf("slow reader: %d bytes of %d, %v", len(rest), len(body), err)
	}
	equal(t, "requests to the origin", o.Count(""), 1)
}

// An answer that was fetched before a purge-like event must not come back after it.
func TestFetchUnderWayDoesNotOutliveAnInvalidation(t *testing.T) {
	t.Parallel()
	gate := origin.NewGate(t)
	old := func(w http.ResponseWriter, r *http.Request) {
		gate.Pass(r)
		fields("old", "Cache-Control", "max-age=60")(w, r)
	}
	o := origin.Mux(t, map[string]http.HandlerFunc{
		"GET /":  inTurn(old, fields("new", "Cache-Control", "max-age=60")),
		"POST /": fields("changed"),
	})
	n := front(t, o)
	await := sendAll(t, n, "/", 1, nothing)
	gate.Await(t, 1)
	equal(t, "status of the POST", ask(t, n, "POST", "/", "x").Status, 200)
	equal(t, "request that came after the POST", get(t, n, "/").Body, "new")
	gate.Open()
	await() // the first one may see either
	for range 3 {
		equal(t, "request after all", get(t, n, "/").Body, "new")
	}
}

// The bars of time; on a machine of its own only.
func TestCrowdIsServedInTime(t *testing.T) {
	if !soaking() {
		t.Skip("time limits are checked by make soak")
	}
	o := origin.Mux(t, map[string]http.HandlerFunc{
		"/shared": func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(500 * time.Millisecond) // the measured origin, not an order
			fields("x", "Cache-Control", "max-age=60")(w, r)
		},
		"/private": func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(500 * time.Millisecond)
			fields("x", "Cache-Control", "private")(w, r)
		},
	})
	n := node.Start(t, node.Options{Binary: built(t, plainBinary), Origin: o.URL})
	for target, bar := range map[string]time.Duration{"/shared": time.Second, "/private": 1500 * time.Millisecond} {
		started := time.Now()
		for i, a := range sendAll(t, n, target, crowd, nothing)() {
			if a.Err != nil || a.Body != "x" {
				t.Fatalf("client %d: status %d, %q, %v", i, a.Status, a.Body, a.Err)
			}
		}
		if took := time.Since(started); took > bar {
			t.Errorf("%s: %d clients took %v, want at most %v", target, crowd, took, bar)
		} else {
			t.Logf("%s: %d clients took %v", target, crowd, took)
		}
	}
}
