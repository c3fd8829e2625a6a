package proxy

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"edge/cachestore"
	"edge/cachestore/memory"
	"edge/proxy/rfc9111"
)

// rig is one route in front of a real origin, behind a real listener.
type rig struct {
	t       *testing.T
	url     string
	cache   *Cache
	handler *Handler
	ledger  *testLedger

	mu      sync.Mutex
	records []Record
	router  *Router
}

// newRig starts a node of one route. Change may alter the handler before it opens.
func newRig(t *testing.T, origin http.HandlerFunc, change func(*Handler)) *rig {
	t.Helper()
	back := httptest.NewServer(origin)
	t.Cleanup(back.Close)
	target, _ := url.Parse(back.URL)
	store, err := memory.New(memory.Options{Size: 64 << 20, MaxObject: 4 << 20, MaxVariants: 32})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)

	rg := &rig{t: t, ledger: new(testLedger)}
	rg.cache = &Cache{Node: "edge", Store: store, Ledger: rg.ledger, RefreshBackoff: time.Millisecond,
		Tag: func(site, key string) uint32 {
			if strings.Contains(site, "://") {
				return hashOf(site + " " + key)
			}
			return hashOf(key)
		}, Log: slog.New(slog.DiscardHandler)}
	rg.handler = &Handler{
		Cache: rg.cache, Site: "site", Route: "route", OriginURL: target, Origin: transport,
		Rules: Rules{
			Cache: true, Upgrade: true, HitForMiss: 10 * time.Second, MaxObject: 1 << 20,
			Policy: rfc9111.Policy{Targets: []string{"CDN-Cache-Control"}, CookiesNeedPermission: true,
				DefaultWhileRevalidate: time.Minute, IfUnreachable: time.Hour, Keep: time.Hour},
		},
	}
	if change != nil {
		change(rg.handler)
	}
	rg.cache.Open()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := rg.cache.Close(ctx); err != nil {
			t.Errorf("the cache left goroutines behind: %v", err)
		}
	})
	if err := rg.handler.Open(); err != nil {
		t.Fatal(err)
	}
	router, err := NewRouter("edge", []Site{{Name: "site", Hosts: []string{"*"}, Routes: []Route{{Name: "route", Path: "/*", Handler: rg.handler}}}})
	if err != nil {
		t.Fatal(err)
	}
	observer := &Observer{Done: func(rec *Record) {
		rg.mu.Lock()
		defer rg.mu.Unlock()
		rg.records = append(rg.records, *rec)
	}}
	rg.router = router
	front := httptest.NewServer(observer.Observe(router))
	t.Cleanup(front.Close)
	rg.url = front.URL
	return rg
}

// answer is a response, read to its end.
type answer struct {
	status int
	header http.Header
	body   string
	err    error // of reading the body
}

func (rg *rig) get(path string, fields ...string) answer {
	return rg.do(http.MethodGet, path, fields...)
}

// do sends one request with header fields given as name, value, name, value.
func (rg *rig) do(method, path string, fields ...string) answer {
	rg.t.Helper()
	req, err := http.NewRequest(method, rg.url+path, nil)
	if err != nil {
		rg.t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Add(fields[i], fields[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return answer{err: err}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(body), err}
}

// eventually waits for a state that another goroutine is about to reach.
func (rg *rig) eventually(what string, reached func() bool) {
	rg.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !reached() {
		if time.Now().After(deadline) {
			rg.t.Fatalf("never came true: %s", what)
		}
		time.Sleep(time.Millisecond) // only the pace of looking; the deadline decides
	}
}

// observed returns the records of the requests that have ended.
func (rg *rig) observed() []Record {
	rg.mu.Lock()
	defer rg.mu.Unlock()
	return slices.Clone(rg.records)
}

// fillReaders counts the requests that wait for or read the flight of a path.
func (rg *rig) fillReaders() int {
	rg.cache.flights.mu.Lock()
	defer rg.cache.flights.mu.Unlock()
	n := 0
	for key, f := range rg.cache.flights.byKey {
		if key == f.variantKey {
			continue // seen under its other key
		}
		f.mu.Lock()
		n += len(f.readers)
		f.mu.Unlock()
	}
	return n
}

func hashOf(key string) uint32 {
	h := uint32(2166136261)
	for _, c := range []byte(key) {
		h = (h ^ uint32(c)) * 16777619
	}
	return h
}

// testLedger is a ledger of hard and soft purges by tag or key, kept as a list.
type testLedger struct {
	mu      sync.Mutex
	records []testPurge
	floor   uint64 // entries of a lower sequence are suspect
	fenced  bool   // nothing is trusted
}

type testPurge struct {
	tag  uint32
	key  cachestore.Key
	soft bool
	at   time.Time
}

func (l *testLedger) purge(p testPurge) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.at = time.Now()
	l.records = append(l.records, p)
}

func (l *testLedger) Sequence() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(len(l.records))
}

func (l *testLedger) Trusted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.fenced
}

// fence is the loss of the log, or its return.
func (l *testLedger) fence(closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fenced = closed
}

// distrust makes all that came before suspect.
func (l *testLedger) distrust() {
	l.purge(testPurge{})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.floor = uint64(len(l.records))
}

func (l *testLedger) Judge(e *cachestore.Entry, since uint64) (verdict cachestore.Verdict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	verdict.Suspect = e.Sequence < l.floor
	for _, p := range l.records[since:] {
		match := p.key != "" && p.key == e.Key
		for _, tag := range e.Tags {
			match = match || p.tag == tag && p.tag != 0
		}
		if match && p.soft && verdict.StaleAt.IsZero() {
			verdict.StaleAt = p.at
		}
		verdict.Dead = verdict.Dead || match && !p.soft
	}
	return verdict
}

func (l *testLedger) Invalidate(key cachestore.Key) { l.purge(testPurge{key: key}) }

func (l *testLedger) InvalidateGroup(origin, group string) {
	l.purge(testPurge{tag: hashOf(origin + " " + group)})
}
