package proxy

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"edge/cachestore/memory"
)

// TestQuickIsTheSame: what is answered from memory alone is answered as it would be
// otherwise, to the last byte and the last field of the record.
func TestQuickIsTheSame(t *testing.T) {
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Cache-Control", "max-age=60")
		switch r.URL.Path {
		case "/vary":
			header.Set("Vary", "Accept-Language")
		case "/private":
			header.Set("Cache-Control", "private")
		case "/stale":
			header.Set("Age", "100")
			header.Set("Cache-Control", "max-age=60, stale-while-revalidate=600")
		case "/empty":
			w.WriteHeader(http.StatusNoContent)
			return
		}
		header.Set("Etag", `"one"`)
		header.Set("Surrogate-Key", "a b")
		header.Set("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
		io.WriteString(w, "hello "+r.Header.Get("Accept-Language")+" "+r.URL.RawQuery)
	}, func(h *Handler) { h.Cache.Memory = h.Cache.Store.(*memory.Store) })
	router, err := NewRouter("edge", []Site{{Name: "site", Hosts: []string{"shop.test"}, Routes: []Route{{Name: "route", Path: "/*", Handler: rg.handler}}}})
	if err != nil {
		t.Fatal(err)
	}
	var last Record
	observer := &Observer{Done: func(_ *http.Request, rec *Record) { last = *rec }}

	for _, test := range []struct {
		name, method, target string
		fields               []string
		quick                bool
	}{
		{"plain", "GET", "/", nil, true},
		{"query", "GET", "/?a=1&b", nil, true},
		{"head", "HEAD", "/", nil, true},
		{"etag", "GET", "/", []string{"If-None-Match", `W/"one"`}, true},
		{"other etag", "GET", "/", []string{"If-None-Match", `"two"`}, true},
		{"modified", "GET", "/", []string{"If-Modified-Since", "Mon, 01 Jan 2024 00:00:00 GMT"}, true},
		{"range", "GET", "/", []string{"Range", "bytes=1-3"}, true},
		{"no such range", "GET", "/", []string{"Range", "bytes=100-"}, true},
		{"encoded path", "GET", "/%7euser/%C3%A9", nil, true},
		{"dots", "GET", "/a/../b", nil, true},
		{"vary", "GET", "/vary", []string{"Accept-Language", "de"}, true},
		{"empty", "GET", "/empty", nil, true},
		{"cookie", "GET", "/", []string{"Cookie", "a=b", "X-Forwarded-Host", "evil"}, true},
		{"no-cache", "GET", "/", []string{"Cache-Control", "no-cache"}, false},
		{"max-age", "GET", "/", []string{"Cache-Control", "max-age=0"}, false},
		{"private", "GET", "/private", nil, false},
		{"stale", "GET", "/stale", nil, false},
		{"unknown host", "GET", "http://other.test/", nil, false},
		{"loop", "GET", "/", []string{"Cdn-Loop", "edge"}, false},
		{"post", "POST", "/", nil, false},
		{"event stream", "GET", "/", []string{"Accept", "text/event-stream"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			request := func() *http.Request {
				r := httptest.NewRequest(test.method, test.target, nil)
				if r.Host == "example.com" {
					r.Host = "shop.test"
				}
				for i := 0; i < len(test.fields); i += 2 {
					r.Header.Set(test.fields[i], test.fields[i+1])
				}
				return r
			}
			whole := observer.Observe(router)
			if test.quick {
				first := request()
				first.Header.Del("Range")
				whole.ServeHTTP(httptest.NewRecorder(), first) // stores it
			}
			var want, got *httptest.ResponseRecorder
			var slow Record
			var quick bool
			for range 3 { // the age may tick between the two
				want, got = httptest.NewRecorder(), httptest.NewRecorder()
				whole.ServeHTTP(want, request())
				slow, last = last, Record{}
				quick = observer.Try(got, request(), router.Quick)
				if !quick || got.Header().Get("Age") == want.Header().Get("Age") {
					break
				}
			}
			if quick != test.quick {
				t.Fatalf("answered from memory: %v, want %v; the long way it is a %v", quick, test.quick, slow.Outcome)
			}
			if !test.quick {
				if last != (Record{}) || len(got.Header()) > 0 || got.Body.Len() > 0 {
					t.Errorf("a request that was declined left %+v, %v", last, got.Header())
				}
				return
			}
			if got.Code != want.Code || got.Body.String() != want.Body.String() || !maps.EqualFunc(got.Header(), want.Header(), slices.Equal) {
				t.Errorf("got %d %v %q, want %d %v %q", got.Code, got.Header(), got.Body, want.Code, want.Header(), want.Body)
			}
			for _, rec := range []*Record{&slow, &last} {
				rec.FirstByte, rec.Total = 0, 0
			}
			slow.Started = last.Started
			if slow != last {
				t.Errorf("recorded %+v, want %+v", last, slow)
			}
		})
	}
}
