package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edge/cachestore"
)

// together runs n requests side by side and returns their answers.
func together(n int, ask func(i int) answer) []answer {
	answers := make([]answer, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { answers[i] = ask(i) })
	}
	wg.Wait()
	return answers
}

func TestManyClientsOfOneColdKeyAreOneFetch(t *testing.T) {
	const clients = 100
	var fetches atomic.Int64
	gate := make(chan struct{})
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		fetches.Add(1)
		<-gate
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "one for all")
	}, nil)
	go func() {
		rg.eventually("all clients wait for one flight", func() bool { return rg.fillReaders() == clients })
		close(gate)
	}()
	for i, got := range together(clients, func(int) answer { return rg.get("/") }) {
		if got.status != 200 || got.body != "one for all" {
			t.Fatalf("client %d: %+v", i, got)
		}
	}
	if n := fetches.Load(); n != 1 {
		t.Errorf("%d fetches, want 1", n)
	}
	rg.eventually("all are observed", func() bool { return len(rg.observed()) == clients }) // a client has its answer a little earlier
	collapsed := 0
	for _, rec := range rg.observed() {
		if rec.Outcome == Joined && rec.Collapsed {
			collapsed++
		}
	}
	if collapsed != clients-1 {
		t.Errorf("%d joined, want %d", collapsed, clients-1)
	}
}

func TestWaitersRegroupByVariant(t *testing.T) {
	const clients = 60
	languages := []string{"de", "fr", "it"}
	var fetches sync.Map
	gate := make(chan struct{})
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		language := r.Header.Get("Accept-Language")
		n, _ := fetches.LoadOrStore(language, new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
		<-gate
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Vary", "Accept-Language")
		io.WriteString(w, "in "+language)
	}, nil)
	go func() {
		rg.eventually("all wait for one flight", func() bool { return rg.fillReaders() == clients })
		close(gate)
	}()
	for i, got := range together(clients, func(i int) answer { return rg.get("/", "Accept-Language", languages[i%3]) }) {
		if want := "in " + languages[i%3]; got.body != want {
			t.Fatalf("client %d got %q, want %q", i, got.body, want)
		}
	}
	for _, language := range languages {
		if n, ok := fetches.Load(language); !ok || n.(*atomic.Int64).Load() != 1 {
			t.Errorf("%s: not fetched exactly once", language)
		}
	}
}

// While the fetch that found out that responses vary is still under way, the key is
// known to vary from what another variant's fetch has stored. Who then asks for the
// first variant joins the first fetch, and does not begin another.
func TestTheVariantOfTheFirstFetchIsNotFetchedTwice(t *testing.T) {
	var fetches atomic.Int64
	finish := make(chan struct{})
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		fetches.Add(1)
		language := r.Header.Get("Accept-Language")
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Vary", "Accept-Language")
		io.WriteString(w, "in "+language)
		w.(http.Flusher).Flush()
		if language == "de" {
			<-finish
		}
	}, nil)
	var wg sync.WaitGroup
	german := func() {
		if got := rg.get("/", "Accept-Language", "de"); got.body != "in de" {
			t.Errorf("got %+v, want the German page", got)
		}
	}
	wg.Go(german)
	rg.eventually("the German page streams", func() bool { return fetches.Load() == 1 })
	if got := rg.get("/", "Accept-Language", "fr"); got.body != "in fr" {
		t.Errorf("got %+v, want the French page", got)
	}
	wg.Go(german)
	rg.eventually("both read one fetch", func() bool {
		rg.cache.flights.mu.Lock()
		defer rg.cache.flights.mu.Unlock()
		for _, f := range rg.cache.flights.byKey {
			f.mu.Lock()
			n := len(f.readers)
			f.mu.Unlock()
			if n == 2 {
				return true
			}
		}
		return fetches.Load() > 2
	})
	close(finish)
	wg.Wait()
	if n := fetches.Load(); n != 2 {
		t.Errorf("%d fetches for two languages, want 2", n)
	}
}

func TestPrivateAnswersAreNotSharedAndNotSerialised(t *testing.T) {
	const clients = 50
	var inside atomic.Int64
	var number atomic.Int64
	first, rest := make(chan struct{}), make(chan struct{})
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		n := number.Add(1)
		if n == 1 {
			<-first
		} else {
			inside.Add(1)
			<-rest
		}
		w.Header().Set("Cache-Control", "private, max-age=60")
		fmt.Fprintf(w, "for %s", r.Header.Get("X-User"))
	}, nil)
	go func() {
		rg.eventually("all wait for the first", func() bool { return rg.fillReaders() == clients })
		close(first)
		rg.eventually("all others are at the origin at once", func() bool { return inside.Load() == clients-1 })
		close(rest)
	}()
	for i, got := range together(clients, func(i int) answer { return rg.get("/", "X-User", fmt.Sprint(i)) }) {
		if want := fmt.Sprintf("for %d", i); got.body != want {
			t.Fatalf("client %d got %q, want %q", i, got.body, want)
		}
	}
	// The next ones do not wait for each other either.
	if got := rg.get("/", "X-User", "late"); got.body != "for late" || !strings.Contains(got.header.Get("Cache-Status"), "hit-for-miss") &&
		!strings.Contains(got.header.Get("Cache-Status"), "bypass") {
		t.Errorf("after a private answer: %q, Cache-Status %q", got.body, got.header.Get("Cache-Status"))
	}
}

func TestFirstByteReachesWaitersBeforeTheLast(t *testing.T) {
	gate := make(chan struct{})
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "first")
		w.(http.Flusher).Flush()
		<-gate
		io.WriteString(w, " last")
	}, nil)
	var wg sync.WaitGroup
	firsts := make(chan struct{}, 2)
	for range 2 {
		wg.Go(func() {
			res, err := http.Get(rg.url + "/")
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			head := make([]byte, 5)
			io.ReadFull(res.Body, head)
			firsts <- struct{}{}
			tail, err := io.ReadAll(res.Body)
			if got := string(head) + string(tail); got != "first last" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	<-firsts
	<-firsts
	close(gate)
	wg.Wait()
}

func TestTruncatedBodyIsNeitherWholeNorStored(t *testing.T) {
	for _, chunked := range []bool{false, true} {
		t.Run(fmt.Sprintf("chunked=%v", chunked), func(t *testing.T) {
			var fetches atomic.Int64
			rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
				fetches.Add(1)
				w.Header().Set("Cache-Control", "max-age=60")
				if !chunked {
					w.Header().Set("Content-Length", "1000")
				}
				io.WriteString(w, "only a part")
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			}, nil)
			for range 2 {
				if got := rg.get("/"); got.err == nil && got.status != http.StatusBadGateway {
					t.Errorf("a truncated body looked complete: %+v", got)
				}
			}
			if n := fetches.Load(); n < 2 {
				t.Errorf("%d fetches for two requests: a partial body was stored", n)
			}
		})
	}
}

func TestClientThatStartedTheFetchMayLeave(t *testing.T) {
	gate, entered := make(chan struct{}), make(chan struct{})
	var fetches atomic.Int64
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		fetches.Add(1)
		close(entered)
		<-gate
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "whole")
	}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, "GET", rg.url+"/", nil)
	left := make(chan struct{})
	go func() {
		if _, err := http.DefaultTransport.RoundTrip(req); err == nil {
			t.Error("the cancelled request was answered")
		}
		close(left)
	}()
	<-entered
	cancel()
	<-left
	rg.eventually("the leader has left", func() bool { return rg.fillReaders() == 0 })
	close(gate)
	rg.eventually("the response is stored", func() bool { return rg.cache.Stats().Stored == 1 })
	if got := rg.get("/"); got.body != "whole" || fetches.Load() != 1 {
		t.Errorf("got %q after %d fetches", got.body, fetches.Load())
	}
}

func TestStalledLeaderIsReplaced(t *testing.T) {
	var fetches atomic.Int64
	gate := make(chan struct{})
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		if fetches.Add(1) == 1 {
			<-gate
		}
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "whole")
	}, func(h *Handler) { h.Cache.FillWait = 50 * time.Millisecond })
	stuck := make(chan answer)
	go func() { stuck <- rg.get("/") }()
	rg.eventually("the leader waits", func() bool { return rg.fillReaders() == 1 })
	for i, got := range together(10, func(int) answer { return rg.get("/") }) {
		if got.body != "whole" {
			t.Errorf("waiter %d: %+v", i, got)
		}
	}
	close(gate)
	if got := <-stuck; got.body != "whole" {
		t.Errorf("the stalled leader: %+v", got)
	}
	if n := fetches.Load(); n != 2 {
		t.Errorf("%d fetches, want 2: one stalled, one in its place", n)
	}
}

func TestBodyPastTheLimitStreamsAsWindow(t *testing.T) {
	const size = 6 << 20
	block := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		for range size / len(block) {
			w.Write(block)
		}
	}, func(h *Handler) {
		h.Rules.MaxObject = 256 << 10
		h.Cache.FillWindow = 256 << 10
	})
	got := rg.get("/")
	if got.err != nil || len(got.body) != size || got.body != strings.Repeat(string(block), size/len(block)) {
		t.Fatalf("%d bytes, error %v", len(got.body), got.err)
	}
	stats := rg.cache.Stats()
	if stats.Windows != 1 || stats.Stored != 0 {
		t.Errorf("windows %d, stored %d; want 1 and 0", stats.Windows, stats.Stored)
	}
	rg.eventually("the budget is given back", func() bool { return rg.cache.Stats().FillBytesNow == 0 })
}

func TestWindowHoldsNoMoreThanItsSizeForASlowReader(t *testing.T) {
	const size = 8 << 20
	var sent atomic.Int64
	block := make([]byte, 64<<10)
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		for range size / len(block) {
			w.Write(block)
			sent.Add(int64(len(block)))
		}
	}, func(h *Handler) {
		h.Rules.MaxObject = 128 << 10
		h.Cache.FillWindow = 256 << 10
	})
	res, err := http.Get(rg.url + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	rg.eventually("the fill has become a window", func() bool { return rg.cache.Stats().Windows == 1 })
	if held := rg.cache.Stats().FillBytesNow; held > 768<<10 {
		t.Errorf("the window holds %d bytes", held)
	}
	n, err := io.Copy(io.Discard, res.Body)
	if n != size || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestPurgeDuringAFetchLeavesNothingAlive(t *testing.T) {
	gate, entered := make(chan struct{}), make(chan struct{}, 8)
	var version atomic.Int64
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		body := fmt.Sprint("version ", version.Load())
		entered <- struct{}{}
		<-gate
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Surrogate-Key", "product-1 all")
		io.WriteString(w, body)
	}, nil)
	early := make(chan answer)
	go func() { early <- rg.get("/") }()
	<-entered
	version.Store(1)
	rg.ledger.purge(testPurge{tag: hashOf("product-1")})
	late := make(chan answer)
	go func() { late <- rg.get("/") }()
	rg.eventually("the late request waits or asks", func() bool { return rg.fillReaders() == 2 || len(entered) == 1 })
	close(gate)
	if got := <-early; got.body != "version 0" {
		t.Errorf("the request from before the purge got %q", got.body)
	}
	if got := <-late; got.body != "version 1" {
		t.Errorf("a request received after the purge got %q", got.body)
	}
	if got := rg.get("/"); got.body != "version 1" {
		t.Errorf("later still: %q", got.body)
	}
}

func TestSoftPurgeMakesStale(t *testing.T) {
	var version atomic.Int64
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60, stale-while-revalidate=60")
		w.Header().Set("Surrogate-Key", "k")
		fmt.Fprint(w, "version ", version.Load())
	}, nil)
	rg.get("/")
	version.Store(1)
	rg.ledger.purge(testPurge{tag: hashOf("k"), soft: true})
	if got := rg.get("/"); got.body != "version 0" {
		t.Errorf("after a soft purge: %q, want the stale copy", got.body)
	}
	rg.eventually("the copy is renewed", func() bool { return rg.get("/").body == "version 1" })
}

// blinking is a store that misses one look-up, as a request does that looks a
// moment too early.
type blinking struct {
	cachestore.Store
	blinks atomic.Int64
}

func (b *blinking) Get(ctx context.Context, key cachestore.Key, variant string) cachestore.Found {
	if b.blinks.Add(-1) == 0 {
		return cachestore.Found{}
	}
	return b.Store.Get(ctx, key, variant)
}

// TestNewsOfVariantsComesLate: a request that looked before it was known that
// responses vary finds the flight of its variant all the same.
func TestNewsOfVariantsComesLate(t *testing.T) {
	gate, entered := make(chan struct{}), make(chan struct{}, 4)
	store := new(blinking)
	var fetches atomic.Int64
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		language := r.Header.Get("Accept-Language")
		if language == "fr" {
			fetches.Add(1)
			entered <- struct{}{}
			<-gate
		}
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Vary", "Accept-Language")
		io.WriteString(w, "in "+language)
	}, func(h *Handler) {
		store.Store = h.Cache.Store
		h.Cache.Store = store
	})
	rg.get("/", "Accept-Language", "de")
	answers := make(chan answer, 2)
	go func() { answers <- rg.get("/", "Accept-Language", "fr") }()
	<-entered
	store.blinks.Store(1)
	go func() { answers <- rg.get("/", "Accept-Language", "fr") }()
	rg.eventually("both wait for one flight", func() bool { return rg.fillReaders() == 2 || len(entered) > 0 })
	close(gate)
	for range 2 {
		if got := <-answers; got.body != "in fr" {
			t.Errorf("got %q", got.body)
		}
	}
	if n := fetches.Load(); n != 1 {
		t.Errorf("%d fetches of one variant, want 1", n)
	}
}
