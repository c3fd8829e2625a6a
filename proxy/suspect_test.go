package proxy

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"edge/cachestore"
)

// hookedStore lets a test do something in the middle of a look-up.
type hookedStore struct {
	cachestore.Store
	once atomic.Pointer[func()]
}

func (s *hookedStore) Get(ctx context.Context, key cachestore.Key, variant string) cachestore.Found {
	found := s.Store.Get(ctx, key, variant)
	if f := s.once.Swap(nil); f != nil {
		(*f)()
	}
	return found
}

// While a node behind its fence catches up with the log, a request may have read the
// sequence of before. What it finds is not trusted because the log is, by now.
func TestALookUpFromBeforeTheLogWasCaughtUpTrustsNothing(t *testing.T) {
	var version atomic.Int64
	var store *hookedStore
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Surrogate-Key", "k")
		fmt.Fprint(w, "version ", version.Load())
	}, func(h *Handler) {
		store = &hookedStore{Store: h.Cache.Store}
		h.Cache.Store = store
	})
	rg.get("/")
	rg.eventually("stored", func() bool { return rg.cache.Stats().Stored == 1 })
	if got := rg.get("/"); got.body != "version 0" || rg.ledger.Sequence() != 0 {
		t.Fatal(got)
	}
	version.Store(1)
	rg.ledger.fence(true) // the purge is complete without us
	catchUp := func() {
		rg.ledger.purge(testPurge{tag: hashOf("k")})
		rg.ledger.fence(false)
	}
	store.once.Store(&catchUp)
	if got := rg.get("/"); got.body != "version 1" {
		t.Errorf("a request received after the purge got %q", got.body)
	}
}

// A HEAD whose answer has no more than the length in common with what is stored is
// not the origin's word that it still stands, where a purge speaks, or may speak,
// against it.
func TestALengthAloneDoesNotUndoAPurge(t *testing.T) {
	for name, purge := range map[string]func(*testLedger){
		"soft":    func(l *testLedger) { l.purge(testPurge{tag: hashOf("k"), soft: true}) },
		"suspect": func(l *testLedger) { l.distrust() },
	} {
		for _, validator := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", validator ", validator), func(t *testing.T) {
				var version, gets atomic.Int64
				rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Cache-Control", "max-age=60")
					w.Header().Set("Surrogate-Key", "k")
					if validator {
						w.Header().Set("Etag", `"1"`)
					}
					body := fmt.Sprint("version ", version.Load())
					w.Header().Set("Content-Length", strconv.Itoa(len(body)))
					if r.Method == http.MethodGet {
						gets.Add(1)
						fmt.Fprint(w, body)
					}
				}, nil)
				rg.get("/")
				rg.eventually("stored", func() bool { return rg.cache.Stats().Stored == 1 })
				if !validator {
					version.Store(1)
				}
				purge(rg.ledger)
				rg.do(http.MethodHead, "/")
				got := rg.get("/")
				if !validator && got.body != "version 1" {
					t.Errorf("a request received after the purge got %q", got.body)
				}
				if validator && gets.Load() != 1 {
					t.Error("what the origin has confirmed by its tag is fetched again")
				}
			})
		}
	}
}

// Behind the fence, an answer that was there before the request came may have been
// purged since. One that came later is as new as can be: requests are collapsed while
// they wait for it.
func TestBehindTheFenceOnlyNewAnswersAreShared(t *testing.T) {
	var fetches atomic.Int64
	started, head, end := make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		n := fetches.Add(1)
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Fetch", fmt.Sprint(n))
		if n == 1 {
			started <- struct{}{}
			<-head
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			<-end
		}
	}, nil)
	ask := func() string {
		res, err := http.Get(rg.url)
		if err != nil {
			t.Error(err)
			return ""
		}
		t.Cleanup(func() { res.Body.Close() })
		return res.Header.Get("Fetch")
	}
	t.Cleanup(func() { close(end) })
	rg.ledger.fence(true)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if got := ask(); got != "1" {
				t.Errorf("a request that waited was answered from fetch %q", got)
			}
		})
	}
	<-started
	rg.eventually("all wait", func() bool { return rg.fillReaders() == 3 })
	close(head)
	wg.Wait()
	if got := ask(); got != "2" {
		t.Errorf("a later request was answered from fetch %q, which it cannot be known to be younger than", got)
	}
}

// A 304 that nobody asked for confirms nothing: what is stored has no validator that
// the origin could have compared, or it was asked for the whole.
func TestAnUnaskedConfirmationConfirmsNothing(t *testing.T) {
	for _, tags := range [][2]string{{"", ""}, {"", `"b"`}, {`"a"`, `"b"`}} {
		t.Run(fmt.Sprint(tags), func(t *testing.T) {
			var fetches atomic.Int64
			rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", "max-age=60")
				again := min(fetches.Add(1)-1, 1)
				if tag := tags[again]; tag != "" {
					w.Header().Set("Etag", tag)
				}
				if again == 1 {
					w.WriteHeader(http.StatusNotModified)
					return
				}
				fmt.Fprint(w, "version 0")
			}, nil)
			rg.get("/")
			rg.eventually("stored", func() bool { return rg.cache.Stats().Stored == 1 })
			rg.ledger.distrust()
			if got := rg.get("/"); got.status != http.StatusBadGateway {
				t.Errorf("%d %q", got.status, got.body)
			}
			if n := rg.cache.Stats().Stored; n != 1 {
				t.Error("a suspect entry was stored anew")
			}
		})
	}
}
