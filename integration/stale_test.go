package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"edge/integration/internal/node"
	"edge/integration/internal/origin"
)

// aged makes an answer stale on arrival, so that no test has to wait for time to
// pass: its Age is what its max-age is.
func aged(directives string) []string {
	return []string{"Cache-Control", "max-age=60, " + directives, "Age", "60"}
}

// inTurn answers each request with the next handler, and goes on with the last one.
func inTurn(handlers ...http.HandlerFunc) http.HandlerFunc {
	var count atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		i := min(int(count.Add(1)), len(handlers)) - 1
		handlers[i](w, r)
	}
}

func TestStaleWhileRevalidate(t *testing.T) {
	t.Parallel()
	gate := origin.NewGate(t)
	o := origin.Start(t, inTurn(
		fields("old", aged("stale-while-revalidate=600")...),
		func(w http.ResponseWriter, r *http.Request) {
			gate.Pass(r)
			fields("new", "Cache-Control", "max-age=60")(w, r)
		}))
	n := front(t, o)
	equal(t, "first body", get(t, n, "/").Body, "old")

	// The origin is held: whoever is answered now is answered from the cache.
	until(t, "a stale answer", func() (answer, bool) {
		a := get(t, n, "/")
		return a, a.hit() && a.Body == "old"
	})
	gate.Await(t, 1)
	for range 5 {
		a := get(t, n, "/")
		equal(t, "body during the refresh", a.Body, "old")
		if age := a.number(t, "Age"); age < 60 {
			t.Errorf("Age of a stale answer is %d", age)
		}
	}
	equal(t, "refreshes under way", gate.Arrived(), 1)

	gate.Open()
	until(t, "the refreshed answer", func() (answer, bool) {
		a := get(t, n, "/")
		return a, a.Body == "new"
	})
	equal(t, "requests to the origin", o.Count(""), 2)
}

func TestStaleIfError(t *testing.T) {
	t.Parallel()
	failing := func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, "sorry")
	}
	o := origin.Mux(t, map[string]http.HandlerFunc{
		"/allowed":   inTurn(fields("old", aged("stale-if-error=600")...), failing),
		"/unsaid":    inTurn(fields("old", aged("")...), failing),
		"/forbidden": inTurn(fields("old", aged("stale-if-error=600, must-revalidate")...), failing),
	})
	n := front(t, o)
	for target, want := range map[string]struct {
		status int
		body   string
	}{
		"/allowed":   {200, "old"},
		"/unsaid":    {503, "sorry"}, // a 5xx is an answer
		"/forbidden": {503, "sorry"},
	} {
		equal(t, target+": first body", get(t, n, target).Body, "old")
		for range 2 {
			a := get(t, n, target)
			equal(t, target+": status", a.Status, want.status)
			equal(t, target+": body", a.Body, want.body)
		}
		if o.Count(target) < 2 {
			t.Errorf("%s: the origin was not asked again", target)
		}
	}
}

func TestUnreachableOriginIsCoveredByWhatIsStored(t *testing.T) {
	t.Parallel()
	o := origin.Mux(t, map[string]http.HandlerFunc{
		"/stale":  fields("old", aged("")...),
		"/strict": fields("old", aged("must-revalidate")...),
	})
	n := front(t, o)
	get(t, n, "/stale")
	get(t, n, "/strict")
	up := o.Down(t)

	a := get(t, n, "/stale")
	equal(t, "status", a.Status, 200)
	equal(t, "body", a.Body, "old")
	wantProblem(t, get(t, n, "/strict"), 502, 504)
	wantProblem(t, get(t, n, "/never-stored"), 502)

	up()
	equal(t, "status when the origin is back", get(t, n, "/strict").Status, 200)
}

// wantProblem checks an answer of our own: one of the statuses, problem+json, and
// nothing of Go's error texts.
func wantProblem(t *testing.T, a answer, statuses ...int) {
	t.Helper()
	ok := false
	for _, s := range statuses {
		ok = ok || a.Status == s
	}
	if !ok {
		t.Errorf("status is %d, want one of %v", a.Status, statuses)
	}
	equal(t, "Content-Type", a.Header.Get("Content-Type"), "application/problem+json")
	var problem struct {
		Status int    `json:"status"`
		Title  string `json:"title"`
	}
	if err := json.Unmarshal([]byte(a.Body), &problem); err != nil || problem.Status != a.Status || problem.Title == "" {
		t.Errorf("body is no problem of status %d: %q", a.Status, a.Body)
	}
	for _, inside := range []string{"dial", "tcp", "127.0.0.1", "EOF", "net/http", "refused", "context", "malformed"} {
		if strings.Contains(a.Body, inside) {
			t.Errorf("body tells %q: %q", inside, a.Body)
		}
	}
}

func TestOriginThatCannotAnswer(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"closes":           "",
		"no HTTP":          "SSH-2.0-OpenSSH_9.2\r\n",
		"head cut":         "HTTP/1.1 200 OK\r\nContent-",
		"status 099":       "HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n",
		"status 999":       "HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
		"unasked 101":      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
		"unasked 206":      "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-0/9\r\nContent-Length: 1\r\n\r\nx",
		"unasked 304":      "HTTP/1.1 304 Not Modified\r\n\r\n",
		"two lengths":      "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
		"NUL in the head":  "HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 0\r\n\r\n",
		"endless head":     "HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("a", 2<<20) + "\r\nContent-Length: 0\r\n\r\n",
		"CR in the middle": "HTTP/1.1 200 OK\r\nX-A: a\rX-B: b\r\nContent-Length: 0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := front(t, origin.Raw(t, answer))
			wantProblem(t, get(t, n, "/"), 502)
			wantProblem(t, get(t, n, "/"), 502)
		})
	}
}

func TestSilentOriginTimesOut(t *testing.T) {
	t.Parallel()
	gate := origin.NewGate(t)
	o := origin.Start(t, func(_ http.ResponseWriter, r *http.Request) { gate.Pass(r) })
	n := configured(t, fmt.Sprintf(`
origin "app" {
  url        = %q
  first_byte = "300ms"
}
site "shop" {
  hosts  = ["*"]
  origin = "app"
}`, o.URL))
	wantProblem(t, get(t, n, "/"), 504)
	n.Settle(t)
}

func TestRefusedOriginFromTheStart(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{Binary: built(t, raceBinary), Origin: origin.Refused(t)})
	wantProblem(t, get(t, n, "/"), 502)
}

func TestRevalidationKeepsTheStoredBody(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, inTurn(
		fields("body", append(aged(""), "ETag", `"v1"`, "X-Count", "1")...),
		func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("If-None-Match") != `"v1"` {
				t.Errorf("If-None-Match at the origin is %q", r.Header.Get("If-None-Match"))
			}
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("ETag", `"v1"`)
			w.Header().Set("X-Count", "2")
			w.WriteHeader(http.StatusNotModified)
		}))
	n := front(t, o)
	get(t, n, "/")
	a := until(t, "an answer that the origin confirmed", func() (answer, bool) {
		a := get(t, n, "/")
		return a, o.Count("") == 2
	})
	equal(t, "status", a.Status, 200)
	equal(t, "body", a.Body, "body")
	equal(t, "field updated by the 304", a.Header.Get("X-Count"), "2")
	again := warm(t, n, "/")
	equal(t, "body afterwards", again.Body, "body")
	equal(t, "field afterwards", again.Header.Get("X-Count"), "2")
	if age := again.number(t, "Age"); age >= 60 {
		t.Errorf("Age is %d after the origin confirmed the answer", age)
	}
	equal(t, "requests to the origin", o.Count(""), 2)
}
