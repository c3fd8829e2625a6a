package proxy

import (
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// lifetimeLeft reads the ttl that Cache-Status gives.
func (a answer) lifetimeLeft(t *testing.T) time.Duration {
	t.Helper()
	_, text, found := strings.Cut(a.header.Get("Cache-Status"), "ttl=")
	text, _, _ = strings.Cut(text, ";")
	seconds, err := strconv.Atoi(text)
	if !found || err != nil {
		t.Fatalf("Cache-Status is %q", a.header.Get("Cache-Status"))
	}
	return time.Duration(seconds) * time.Second
}

func (a answer) hit() bool { return strings.Contains(a.header.Get("Cache-Status"), "; hit") }

// An origin may put a lifetime on every error that it sends. What it did not like in
// one client's request is not everybody's error, unless the operator says so.
func TestErrorsAboutOneRequestAreNotStored(t *testing.T) {
	origin := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=600, stale-while-revalidate=600, stale-if-error=600")
		if r.Header.Get("X-Odd") != "" {
			status, _ := strconv.Atoi(r.URL.Path[1:])
			w.WriteHeader(status)
		}
		fmt.Fprint(w, "page")
	}
	rg := newRig(t, origin, nil)
	listed := newRig(t, origin, func(h *Handler) { h.Rules.Policy.Negative = map[int]time.Duration{413: time.Minute, 400: time.Minute} })
	for _, status := range []int{406, 407, 408, 411, 412, 413, 415, 416, 417, 421, 425, 426, 428, 429, 431} {
		target := fmt.Sprintf("/%d", status)
		if a := rg.get(target, "X-Odd", "1"); a.status != status {
			t.Fatalf("%s: status %d", target, a.status)
		}
		if a := rg.get(target); a.status != 200 || a.body != "page" {
			t.Errorf("%s: another client's answer is %d", target, a.status)
		}
		// Nobody goes alone for it either: the page was stored at once.
		if a := rg.get(target); !a.hit() {
			t.Errorf("%s: the page is no hit: %v", target, a.header)
		}
	}
	listed.get("/413", "X-Odd", "1")
	if a := listed.get("/413"); a.status != 413 || !a.hit() {
		t.Errorf("a listed status is not stored: %d", a.status)
	}
	for _, status := range []int{400, 401, 403, 405, 409, 418, 422, 430} {
		target := fmt.Sprintf("/%d", status)
		rg.get(target, "X-Odd", "1")
		if a := rg.get(target); a.status != status || !a.hit() || a.lifetimeLeft(t) > 10*time.Second {
			t.Errorf("%s: status %d, %v; want a hit for ten seconds at most", target, a.status, a.header)
		}
	}
	listed.get("/400", "X-Odd", "1")
	if a := listed.get("/400"); a.lifetimeLeft(t) < time.Minute {
		t.Errorf("a listed status is cut short: %v", a.header)
	}
}

// What is stored outlives an error that may be one client's doing.
func TestErrorAboutOneRequestReplacesNothing(t *testing.T) {
	for _, status := range []int{400, 403, 415} {
		rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=600")
			switch {
			case r.Header.Get("X-Odd") != "":
				w.WriteHeader(status)
			case r.Header.Get("If-None-Match") != "":
				w.WriteHeader(http.StatusNotModified)
			default:
				w.Header().Set("Etag", `"a"`)
				w.Header().Set("Cache-Control", "max-age=0")
				fmt.Fprint(w, "page")
			}
		}, nil)
		rg.get("/")
		if a := rg.get("/", "X-Odd", "1"); a.status != status {
			t.Errorf("%d: the one who provoked it got %d", status, a.status)
		}
		if a := rg.get("/"); a.status != 200 || a.body != "page" {
			t.Errorf("%d: another got %d %q", status, a.status, a.body)
		}
	}
}

// D4: nor does an error that comes because its client had the origin asked, though what
// is stored is fresh. That there is nothing any more is no such error.
func TestErrorThatWasAskedForReplacesNothing(t *testing.T) {
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600, stale-if-error=600")
		if r.Header.Get("X-Odd") != "" {
			status, _ := strconv.Atoi(r.URL.Path[1:])
			w.WriteHeader(status)
		}
		fmt.Fprint(w, "page")
	}, nil)
	for _, status := range []int{401, 403, 404, 405, 407, 409, 410, 418, 422, 500, 501, 502, 503, 504, 507, 520, 598} {
		target := fmt.Sprintf("/%d", status)
		rg.get(target)
		if a := rg.get(target, "X-Odd", "1", "Cache-Control", "no-cache"); a.status != status {
			t.Errorf("%s: the one who provoked it got %d", target, a.status)
		}
		want := http.StatusOK
		if status == http.StatusNotFound || status == http.StatusGone {
			want = status
		}
		if a := rg.get(target); a.status != want || !a.hit() {
			t.Errorf("%s: another got %d, %v; want a hit with %d", target, a.status, a.header, want)
		}
	}
}

// W1, W5: a rule that stores by path does not store a page whose path looks like a
// file's; what the response itself allows is stored, whatever it looks like.
func TestPathOfAFilePromisesItsType(t *testing.T) {
	hour := time.Hour
	origin := func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = r.URL.Query()["type"]
		if r.URL.Query().Has("explicit") {
			w.Header().Set("Cache-Control", "max-age=600")
		}
		if r.URL.Query().Has("gone") {
			w.WriteHeader(http.StatusNotFound)
		}
		fmt.Fprint(w, "x")
	}
	forced := newRig(t, origin, func(h *Handler) { h.Rules.Policy.TTL = &hour })
	filled := newRig(t, origin, func(h *Handler) {
		h.Rules.Policy.DefaultTTL = &hour
		h.Rules.Policy.Negative = map[int]time.Duration{404: time.Second}
	})
	open := newRig(t, origin, func(h *Handler) { h.Rules.Policy.TTL, h.Rules.StaticType = &hour, "*/*" })
	for _, c := range []struct {
		rg     *rig
		target string
		stored bool
	}{
		{forced, "/account/x.css?type=text/html", false},
		{forced, "/account/x.CSS?type=text/html", false},
		{forced, "/account/.css?type=text/html", false},
		{forced, "/account/x%2Ecss?type=text/html", false},
		{forced, "/account/x.js?type=application/json", false},
		{forced, "/account/x.png?type=text/html", false},
		{forced, "/account/x.pdf?type=text/html", false},
		{forced, "/account/x.woff2?type=text/html", false},
		{forced, "/account/x.css", false},
		{forced, "/account/x.css?type=text/css&type=text/html", false},
		{forced, "/account/x.css?explicit&type=text/html", false},
		{filled, "/account/x.css?type=text/html", false},
		{filled, "/account/x.css?explicit&type=text/html", true},
		{filled, "/account/x.css?gone&type=text/html", true},
		{forced, "/x.css?type=text/css%3Bcharset=utf-8", true},
		{forced, "/x.js?type=application/javascript", true},
		{forced, "/x.js?type=text/javascript", true},
		{forced, "/x.jpg?type=image/webp", true},
		{forced, "/x.woff2?type=font/woff2", true},
		{forced, "/x.css?type=application/octet-stream", true},
		{forced, "/x.html?type=text/html", true},
		{forced, "/v1.2?type=text/html", true},
		{forced, "/css?type=text/html", true},
		{open, "/x.css?type=text/html", true},
	} {
		c.rg.get(c.target)
		if a := c.rg.get(c.target); a.hit() != c.stored {
			t.Errorf("%s: a hit is %v, want %v: %v", c.target, a.hit(), c.stored, a.header)
		}
	}
}

// 1xx responses reach all who wait, without what is for one of them, or for us.
func TestInterimResponsesAreCleaned(t *testing.T) {
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		for name, value := range map[string]string{"Link": "</a>", "Set-Cookie": "a=b", "Surrogate-Key": "k", "Keep-Alive": "timeout=5",
			"Connection": "X-Hop", "X-Hop": "1"} {
			w.Header().Set(name, value)
		}
		w.WriteHeader(http.StatusEarlyHints)
		clear(w.Header())
		w.Header().Set("Cache-Control", "max-age=600")
		fmt.Fprint(w, "page")
	}, nil)
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
		var early http.Header
		req, err := http.NewRequest(method, rg.url+"/"+method, nil)
		if err != nil {
			t.Fatal(err)
		}
		req = req.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(_ int, header textproto.MIMEHeader) error {
				early = http.Header(header)
				return nil
			}}))
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		for _, name := range []string{"Surrogate-Key", "Keep-Alive", "Connection", "X-Hop"} {
			if early[name] != nil {
				t.Errorf("%s: %s is in the interim response", method, name)
			}
		}
		if early.Get("Link") != "</a>" || (early["Set-Cookie"] != nil) != (method != http.MethodGet) {
			t.Errorf("%s: the interim response is %v", method, early)
		}
	}
}

// R1: a body that was found too large while it came leaves a mark, also when nobody
// stayed to read it: the next range is asked for as a range.
func TestRangeOfALargeBodyOfUnknownLengthIsFetchedOnce(t *testing.T) {
	var whole, sent atomic.Int64
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		if r.Header.Get("Range") != "" {
			w.Header().Set("Content-Range", "bytes 0-0/*")
			w.WriteHeader(http.StatusPartialContent)
			fmt.Fprint(w, "x")
			return
		}
		whole.Add(1)
		part := make([]byte, 64<<10)
		for range 1024 { // 64 MiB
			n, err := w.Write(part)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}, nil)
	for range 20 {
		req, err := http.NewRequest(http.MethodGet, rg.url+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Range", "bytes=0-0")
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close() // the client has seen enough
		if res.StatusCode == http.StatusPartialContent {
			continue
		}
		rg.eventually("the fetch for nobody has ended", func() bool {
			rg.cache.flights.mu.Lock()
			defer rg.cache.flights.mu.Unlock()
			return len(rg.cache.flights.byKey) == 0
		})
	}
	if whole.Load() != 1 {
		t.Errorf("%d fetches of the whole, %d bytes, want one", whole.Load(), sent.Load())
	}
}

// TestEmptyAnswerReplacesNothing: on a route on its guard, a large body stays where an
// empty one comes.
func TestEmptyAnswerReplacesNothing(t *testing.T) {
	page := strings.Repeat("page ", 100)
	var answer atomic.Value // what the origin does
	origin := func(w http.ResponseWriter, r *http.Request) {
		control := "max-age=0, stale-if-error=600"
		if strings.HasPrefix(r.URL.Path, "/strict") {
			control = "max-age=0, must-revalidate"
		}
		if strings.HasPrefix(r.URL.Path, "/swr") {
			control = "max-age=0, stale-while-revalidate=600"
		}
		w.Header().Set("Cache-Control", control)
		w.Header().Set("Last-Modified", "Fri, 01 Jan 2021 00:00:00 GMT")
		switch answer.Load() {
		case "page":
			fmt.Fprint(w, page)
		case "204":
			w.WriteHeader(http.StatusNoContent)
		case "empty":
			w.Header().Set("Content-Length", "0")
		case "chunked":
			w.(http.Flusher).Flush()
		case "small":
			w.(http.Flusher).Flush()
			fmt.Fprint(w, "small")
		}
	}
	for _, empty := range []string{"204", "empty", "chunked"} {
		rg := newRig(t, origin, func(h *Handler) { h.Rules.ShrinkGuard = 500 })
		answer.Store("page")
		for _, target := range []string{"/", "/strict", "/swr"} {
			if a := rg.get(target); a.body != page {
				t.Fatalf("%s: %+v", target, a)
			}
		}
		answer.Store(empty)
		for range 2 {
			if a := rg.get("/"); a.status != 200 || a.body != page || !strings.Contains(a.header.Get("Cache-Status"), "stale") {
				t.Errorf("%s: %d with %d bytes, %v", empty, a.status, len(a.body), a.header)
			}
			// Whoever may not have a stale answer gets what the origin says.
			if a := rg.get("/strict"); a.body != "" || a.status >= 300 || !strings.Contains(a.header.Get("Cache-Status"), "detail=shrunk") {
				t.Errorf("%s, strict: %d with %d bytes, %v", empty, a.status, len(a.body), a.header)
			}
		}
		if n := rg.cache.Stats().Shrunk; n < 4 {
			t.Errorf("%s: %d were held back", empty, n)
		}
		rg.get("/swr")
		rg.eventually("the refresh is given up", func() bool { return len(rg.cache.FailedRefreshes()) == 1 })
		if a := rg.get("/swr"); a.body != page {
			t.Errorf("%s, refreshed: %d with %d bytes", empty, a.status, len(a.body))
		}
		answer.Store("small")
		for _, target := range []string{"/", "/strict"} {
			if a := rg.get(target); a.status != 200 || a.body != "small" {
				t.Errorf("%s, after %s: %d %q %v", target, empty, a.status, a.body, a.header)
			}
		}
		answer.Store(empty) // and what is small may go
		if a := rg.get("/"); a.body != "" || strings.Contains(a.header.Get("Cache-Status"), "shrunk") {
			t.Errorf("%s in the place of little: %d %q %v", empty, a.status, a.body, a.header)
		}
	}
}
