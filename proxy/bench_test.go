package proxy

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"edge/cachestore"
	"edge/cachestore/memory"
)

// sink is a ResponseWriter that costs nothing: one header map, used again.
type sink struct {
	header http.Header
	record Record
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }
func (s *sink) WriteHeader(int)             {}
func (s *sink) Record() *Record             { return &s.record }

// newHit prepares a handler whose store holds one fresh response of 1 KiB, and
// the request that hits it.
func newHit(tb testing.TB, vary string) (*Handler, *http.Request) {
	store, err := memory.New(memory.Options{Size: 64 << 20, MaxObject: 1 << 20, MaxVariants: 32})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(store.Close)
	cache := &Cache{Node: "edge", Store: store}
	cache.Open()
	tb.Cleanup(func() { cache.Close(tb.Context()) })
	origin := roundTrip(func(r *http.Request) (*http.Response, error) {
		header := http.Header{"Cache-Control": {"max-age=3600"}, "Content-Type": {"text/plain"}, "Etag": {`"v"`},
			"Date": {time.Now().UTC().Format(http.TimeFormat)}, "Content-Length": {"1024"}}
		if vary != "" {
			header.Set("Vary", vary)
		}
		body := cachestore.NewBody(make([]byte, 1024))
		return &http.Response{StatusCode: 200, Header: header, ContentLength: 1024, Body: readCloser{body.Reader()}}, nil
	})
	h := &Handler{Cache: cache, Site: "site", Route: "route", OriginURL: &url.URL{Scheme: "http", Host: "origin"}, Origin: origin,
		Rules: Rules{Cache: true}}
	if err := h.Open(); err != nil {
		tb.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "/products/42?view=full", nil)
	r.Header = http.Header{"Accept": {"text/html"}, "Accept-Encoding": {"gzip, br"}, "User-Agent": {"test"}, "Accept-Language": {"de"}}
	for !stored(h, r) {
		h.ServeHTTP(httptest.NewRecorder(), r.Clone(tb.Context()))
	}
	return h, r
}

func stored(h *Handler, r *http.Request) bool {
	w := &sink{header: make(http.Header)}
	w.record.Started = time.Now()
	h.ServeHTTP(w, r.Clone(r.Context()))
	return w.record.Outcome == Hit
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// BenchmarkHit is one fresh hit through ServeHTTP: key, look-up, Cache-Status and
// delivery to a writer that costs none.
func BenchmarkHit(b *testing.B) {
	for _, c := range []struct{ name, vary string }{{"plain", ""}, {"vary", "Accept-Encoding, Accept-Language"}} {
		b.Run(c.name, func(b *testing.B) {
			h, r := newHit(b, c.vary)
			w := &sink{header: make(http.Header, 16)}
			b.ReportAllocs()
			for b.Loop() {
				clear(w.header)
				w.record = Record{Started: time.Now()}
				h.ServeHTTP(w, r)
			}
			if w.record.Outcome != Hit {
				b.Fatalf("the benchmark measured a %s", w.record.Outcome)
			}
		})
	}
}

func TestAHitAllocatesAtMostThreeTimes(t *testing.T) {
	h, r := newHit(t, "")
	w := &sink{header: make(http.Header, 16)}
	got := testing.AllocsPerRun(200, func() {
		clear(w.header)
		w.record = Record{Started: time.Now()}
		h.ServeHTTP(w, r)
	})
	if got > 3 {
		t.Errorf("%v allocations for one hit", got)
	}
}
