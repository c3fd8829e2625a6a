package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"edge/cachestore"
	"edge/cachestore/memory"
)

// Surrogate keys are not in the header that is stored, and a 304 or a HEAD need not
// repeat them: the renewed entry is still that of the same keys.
func TestAPurgeByKeyReachesARenewedEntry(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		t.Run(method, func(t *testing.T) {
			var version atomic.Int64
			rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
				tag := fmt.Sprintf(`"%d"`, version.Load())
				w.Header().Set("Etag", tag)
				w.Header().Set("Cache-Control", "max-age=60")
				switch {
				case r.Header.Get("If-None-Match") == tag:
					w.WriteHeader(http.StatusNotModified)
				case r.Method == http.MethodGet:
					w.Header().Set("Surrogate-Key", "product-1")
					fmt.Fprint(w, "version ", version.Load())
				}
			}, nil)
			rg.get("/")
			rg.eventually("stored", func() bool { return rg.cache.Stats().Stored == 1 })
			rg.do(method, "/", "Cache-Control", "no-cache")
			rg.eventually("renewed", func() bool { return rg.cache.Stats().Stored == 2 })
			version.Store(1)
			rg.ledger.purge(testPurge{tag: hashOf("product-1")})
			if got := rg.get("/"); got.body != "version 1" {
				t.Errorf("a request received after the purge got %q", got.body)
			}
		})
	}
}

// Surrogate-Control is stripped from what is stored; a 304 that does not repeat it
// does not put the browsers' Cache-Control in its place.
func TestAConfirmationKeepsTheFieldThatDecides(t *testing.T) {
	var gets atomic.Int64
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		gets.Add(1)
		w.Header().Set("Etag", `"1"`)
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Surrogate-Control", "max-age=60")
		w.Header().Set("Cache-Control", "no-store")
		io.WriteString(w, "page")
	}, func(h *Handler) { h.Rules.Policy.SurrogateControl = true })
	rg.get("/")
	rg.eventually("stored", func() bool { return rg.cache.Stats().Stored == 1 })
	rg.get("/", "Cache-Control", "no-cache")
	rg.get("/")
	if n := gets.Load(); n != 2 {
		t.Errorf("%d fetches, want 2: the confirmed page is no longer stored", n)
	}
}

func TestInvalidationReachesWhatTheOriginNames(t *testing.T) {
	for _, c := range []struct {
		name, stored, location string
		change                 func(*Rules)
		postFields             []string
	}{
		{"the target", "/item", "", nil, nil},
		{"with a question mark and no query", "/item?", "", nil, nil},
		{"a Location in another spelling", "/~item", "/%7eitem", nil, nil},
		{"a Location with sub-delimiters", "/(item)", "/(item)", nil, nil},
		{"keyed by a header that the POST has not", "/item", "", func(r *Rules) { r.KeyHeaders = []string{"X-Tenant"} }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var version atomic.Int64
			rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					if c.location != "" {
						w.Header().Set("Location", c.location)
					}
					version.Add(1)
					return
				}
				w.Header().Set("Cache-Control", "max-age=60")
				fmt.Fprint(w, "version ", version.Load())
			}, func(h *Handler) {
				if c.change != nil {
					c.change(&h.Rules)
				}
				h.Cache.Ledger = urlLedger{h.Cache.Ledger.(*testLedger)}
			})
			rg.get(c.stored, "X-Tenant", "a")
			rg.eventually("stored", func() bool { return rg.cache.Stats().Stored == 1 })
			target := c.stored
			if c.location != "" {
				target = "/elsewhere"
			}
			rg.do(http.MethodPost, target, c.postFields...)
			if got := rg.get(c.stored, "X-Tenant", "a"); got.body != "version 1" {
				t.Errorf("after the POST: %q", got.body)
			}
		})
	}
}

func TestInvalidationHappensThoughTheClientHasLeft(t *testing.T) {
	store, err := memory.New(memory.Options{Size: 1 << 20, MaxObject: 1 << 10, MaxVariants: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	ledger := new(testLedger)
	cache := &Cache{Node: "edge", Store: store, Ledger: ledger}
	cache.Open()
	defer cache.Close(context.Background())
	ctx, leave := context.WithCancel(t.Context())
	origin := roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodPost {
			leave() // after the origin has done it
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody}, nil
		}
		return &http.Response{StatusCode: 200, Header: http.Header{"Cache-Control": {"max-age=60"}}, Body: http.NoBody}, nil
	})
	h := &Handler{Cache: cache, Site: "s", OriginURL: &url.URL{Scheme: "http", Host: "o"}, Origin: origin, Rules: Rules{Cache: true}}
	if err := h.Open(); err != nil {
		t.Fatal(err)
	}
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	for cache.Stats().Stored == 0 {
		time.Sleep(time.Millisecond)
	}
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", strings.NewReader("x")).WithContext(ctx))
	if ledger.Sequence() != 1 {
		t.Error("the origin has changed the resource, and what is stored was not invalidated")
	}
}

func TestInvalidationByARouteThatDoesNotCache(t *testing.T) {
	var version atomic.Int64
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			version.Add(1)
			return
		}
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprint(w, "version ", version.Load())
	}, nil)
	writes := &Handler{Cache: rg.cache, Site: "site", Route: "writes", OriginURL: rg.handler.OriginURL, Origin: rg.handler.Origin}
	if err := writes.Open(); err != nil {
		t.Fatal(err)
	}
	router, err := NewRouter("edge", []Site{{Name: "site", Hosts: []string{"*"}, Routes: []Route{
		{Name: "writes", Path: "/*", Methods: []string{http.MethodPost}, Handler: writes},
		{Name: "route", Path: "/*", Handler: rg.handler}}}})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(router)
	defer front.Close()
	rg.url = front.URL
	rg.get("/")
	rg.eventually("stored", func() bool { return rg.cache.Stats().Stored == 1 })
	rg.do(http.MethodPost, "/")
	if got := rg.get("/"); got.body != "version 1" {
		t.Errorf("after the POST: %q", got.body)
	}
}

// An origin that is overloaded for a moment does not take away what could stand in
// for it.
func TestARefusalOfOneRequestDoesNotDropWhatIsStored(t *testing.T) {
	for _, status := range []int{http.StatusTooManyRequests, http.StatusBadRequest, http.StatusRequestHeaderFieldsTooLarge} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			var fetches atomic.Int64
			rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
				fetches.Add(1)
				if r.Header.Get("X-Odd") != "" {
					w.WriteHeader(status)
					return
				}
				w.Header().Set("Cache-Control", "max-age=60")
				io.WriteString(w, "page")
			}, nil)
			rg.get("/")
			rg.eventually("stored", func() bool { return rg.cache.Stats().Stored == 1 })
			rg.get("/", "X-Odd", "1", "Cache-Control", "no-cache")
			rg.get("/")
			if n := fetches.Load(); n != 2 {
				t.Error("one odd request has emptied the cache for everybody")
			}
		})
	}
}

// urlLedger invalidates as package purge does: by site, authority and target, with
// whatever else is in the key.
type urlLedger struct{ *testLedger }

func (l urlLedger) Judge(e *cachestore.Entry, since uint64) cachestore.Verdict {
	plain := *e
	plain.Key = withoutExtra(e.Key)
	return l.testLedger.Judge(&plain, since)
}

func (l urlLedger) Invalidate(key cachestore.Key) { l.testLedger.Invalidate(withoutExtra(key)) }

func withoutExtra(key cachestore.Key) cachestore.Key {
	parts, _ := key.Parts()
	parts.Extra = ""
	return cachestore.NewKey(parts)
}

// Cache-Groups (RFC 9875) belong to an origin, and an unsafe request may invalidate
// them by name; a safe one may not.
func TestCacheGroups(t *testing.T) {
	var version atomic.Int64
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/vote":
			w.Header().Set("Cache-Group-Invalidation", `"results";now, "scores"`)
		case r.URL.Path == "/failed":
			w.Header().Set("Cache-Group-Invalidation", `"results"`)
			w.WriteHeader(http.StatusConflict)
		default:
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Cache-Groups", `"results", "other"`)
			w.Header().Set("Etag", `"1"`)
			if r.Header.Get("If-None-Match") != "" {
				w.Header().Del("Cache-Groups")
				w.WriteHeader(http.StatusNotModified)
				return
			}
			fmt.Fprint(w, "version ", version.Load())
		}
	}, nil)
	first := rg.get("/")
	if first.header.Get("Cache-Groups") != `"results", "other"` {
		t.Errorf("Cache-Groups went out as %q", first.header["Cache-Groups"])
	}
	rg.eventually("stored", func() bool { return rg.cache.Stats().Stored == 1 })
	rg.do(http.MethodGet, "/", "Cache-Control", "no-cache") // a 304 without the field changes nothing
	version.Store(1)
	for _, harmless := range []string{http.MethodGet, http.MethodHead} {
		rg.do(harmless, "/vote")
	}
	rg.do(http.MethodPost, "/failed")
	if got := rg.get("/"); got.body != "version 0" {
		t.Errorf("after safe and failed requests: %q", got.body)
	}
	rg.do(http.MethodPost, "/vote")
	if got := rg.get("/"); got.body != "version 1" {
		t.Errorf("after the POST: %q", got.body)
	}
}
