package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"edge/cachestore"
	"edge/cachestore/memory"
	"edge/proxy/rfc9111"
)

// zeros is a body of so many bytes.
func zeros(n int64) io.Reader { return io.LimitReader(endless{}, n) }

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// newWindow returns a fill that is a window from its first byte, with n readers.
func newWindow(ctx context.Context, window int64, n int) (*fill, []*reader) {
	f := &fill{budget: new(budget), limits: fillLimits{window: window, stall: 10 * time.Second}, length: -1, cancel: func() {}}
	f.begin(&cachestore.Entry{}, nil, rfc9111.Storage{OK: true}, -1)
	readers := make([]*reader, n)
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range readers {
		readers[i] = f.joinLocked(i == 0)
		readers[i].ctx = ctx
	}
	return f, readers
}

// The configuration lets a window be as small as 64 KiB, less than one chunk.
func TestAWindowSmallerThanAChunkMoves(t *testing.T) {
	for _, window := range []int64{64 << 10, largeChunk} {
		t.Run(fmt.Sprint(window), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				f, readers := newWindow(ctx, window, 1)
				var wg sync.WaitGroup
				wg.Go(func() {
					if _, _, err := f.receive(ctx, zeros(1<<20)); err != nil {
						t.Errorf("the fill came to a halt: %v", err)
						f.fail(err)
						return
					}
					f.finish(nil)
				})
				n, err := io.Copy(io.Discard, readers[0])
				if n != 1<<20 || err != nil {
					t.Errorf("%d bytes, %v", n, err)
				}
				wg.Wait()
			})
		})
	}
}

// A reader that has stopped is cut off in time, though another that crawls makes
// the fill look alive.
func TestACrawlingReaderDoesNotSaveAStalledOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		f, readers := newWindow(ctx, 256<<10, 2)
		stalled, crawling := readers[0], readers[1]
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _, err := f.receive(ctx, endless{})
			f.fail(err)
		})
		for range 10 {
			time.Sleep(6 * time.Second) // of the bubble's clock; the limit is ten
			if _, err := crawling.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		f.mu.Lock()
		cut := stalled.cut
		f.mu.Unlock()
		if !cut {
			t.Error("a reader that has read nothing for a minute still holds the others up")
		}
		cancel()
		wg.Wait()
	})
}

func TestTheObjectLimitIsExact(t *testing.T) {
	for _, c := range []struct {
		limit  int64
		size   int
		stored int64
	}{{1000, 3000, 0}, {8192, 8192, 1}, {8192, 8193, 0}, {100 << 10, 100 << 10, 1}} {
		t.Run(fmt.Sprintf("%d of %d", c.size, c.limit), func(t *testing.T) {
			rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", "max-age=60")
				w.WriteHeader(200)
				w.(http.Flusher).Flush() // no Content-Length
				w.Write(make([]byte, c.size))
			}, func(h *Handler) { h.Rules.MaxObject = c.limit })
			if got := rg.get("/"); len(got.body) != c.size || got.err != nil {
				t.Fatalf("%d bytes, %v", len(got.body), got.err)
			}
			rg.eventually("the flight is over", func() bool { return rg.cache.flights.len() == 0 })
			if n := rg.cache.Stats().Stored; n != c.stored {
				t.Errorf("stored %d times, want %d", n, c.stored)
			}
		})
	}
}

// stuck is a client that takes the head and then no byte of the body.
type stuck struct {
	httptest.ResponseRecorder
	reached chan<- struct{}
	gate    <-chan struct{}
}

func (s *stuck) Write(p []byte) (int, error) {
	s.reached <- struct{}{}
	<-s.gate
	return 0, io.ErrClosedPipe
}

// A client that does not read holds the whole body of the fill it reads from. With
// no-cache every request has a fill of its own, so that each holds another copy.
func TestWhatSlowReadersHoldCountsAgainstTheBudget(t *testing.T) {
	const clients, size = 16, 256 << 10
	store, err := memory.New(memory.Options{Size: 64 << 20, MaxObject: 1 << 20, MaxVariants: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	cache := &Cache{Node: "edge", Store: store, FillBudget: 1 << 20}
	cache.Open()
	defer cache.Close(context.Background())
	origin := roundTrip(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{"Cache-Control": {"max-age=60"}}, ContentLength: size,
			Body: readCloser{zeros(size)}}, nil
	})
	h := &Handler{Cache: cache, Site: "s", OriginURL: &url.URL{Scheme: "http", Host: "o"}, Origin: origin, Rules: Rules{Cache: true}}
	if err := h.Open(); err != nil {
		t.Fatal(err)
	}
	reached, gate := make(chan struct{}, clients), make(chan struct{})
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			defer func() { _ = recover() }() // the reverse proxy aborts what cannot be written
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header.Set("Cache-Control", "no-cache")
			h.ServeHTTP(&stuck{*httptest.NewRecorder(), reached, gate}, r)
		})
		<-reached
	}
	running := func() (n int) {
		cache.flights.mu.Lock()
		defer cache.flights.mu.Unlock()
		for _, fills := range cache.flights.underWay {
			n += fills
		}
		return n
	}
	for int64(running()) > cache.Stats().Windows {
		time.Sleep(time.Millisecond) // each fill is over or has become a window
	}
	stats := cache.Stats()
	held := (stats.Stored + stats.StoreRefused - 1) * size // one of them is the one in the store
	if stats.FillBytesNow < held {
		t.Errorf("%d clients hold %d bytes beside the store; the budget of %d knows of %d", clients, held, cache.FillBudget, stats.FillBytesNow)
	}
	close(gate)
	wg.Wait()
	for cache.Stats().FillBytesNow != 0 {
		time.Sleep(time.Millisecond)
	}
}

func TestMarksTakeLittleMemory(t *testing.T) {
	m := newMarks()
	const keys = 4096
	for i := range keys {
		m.set(strings.Repeat("x", 8000)+fmt.Sprint(i), time.Now().Add(time.Minute), 0)
	}
	held := 0
	for _, key := range m.order {
		held += int(unsafe.Sizeof(key))
	}
	if most := 256 * keys; held > most {
		t.Errorf("%d marks hold %d KiB of keys: %d MiB at the bound", keys, held>>10, held/keys*maxMarks>>20)
	}
}

// While stale may be served instead of an error, those who waited for a fetch that
// brought an error do not all go and ask for their own.
func TestAFailingOriginIsNotAskedByEveryWaiter(t *testing.T) {
	const clients = 30
	var fetches atomic.Int64
	gate := make(chan struct{})
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		if fetches.Add(1) > 1 {
			<-gate
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Cache-Control", "max-age=60, stale-if-error=600")
		w.Header().Set("Surrogate-Key", "k")
		io.WriteString(w, "page")
	}, nil)
	rg.get("/")
	rg.eventually("stored", func() bool { return rg.cache.Stats().Stored == 1 })
	rg.ledger.purge(testPurge{tag: hashOf("k"), soft: true})
	go func() {
		rg.eventually("all wait for one flight", func() bool { return rg.fillReaders() == clients })
		close(gate)
	}()
	for i, got := range together(clients, func(int) answer { return rg.get("/") }) {
		if got.body != "page" {
			t.Fatalf("client %d: %+v", i, got)
		}
	}
	if n := fetches.Load(); n > 3 {
		t.Errorf("the failing origin was asked %d times by %d clients that all could be served stale", n-1, clients)
	}
}

// A body that takes longer than it is fresh does not send every newcomer to the
// origin alone.
func TestNewcomersToAFetchGrownStaleAreOneFetch(t *testing.T) {
	const clients = 10
	var fetches atomic.Int64
	first, rest := make(chan struct{}), make(chan struct{})
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		n := fetches.Add(1)
		w.Header().Set("Cache-Control", "max-age=60")
		if n == 1 {
			io.WriteString(w, "slow ")
			w.(http.Flusher).Flush()
			<-first
		} else {
			<-rest
		}
		io.WriteString(w, "body")
	}, nil)
	slow := make(chan answer)
	go func() { slow <- rg.get("/") }()
	var f *fill
	rg.eventually("the first fetch streams", func() bool {
		rg.cache.flights.mu.Lock()
		defer rg.cache.flights.mu.Unlock()
		for _, f = range rg.cache.flights.byKey {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.state == streaming
		}
		return false
	})
	f.mu.Lock()
	old := *f.head
	old.Received = old.Received.Add(-time.Hour) // as if it had streamed for an hour
	f.head = &old
	f.mu.Unlock()
	go func() {
		rg.eventually("the newcomers have found their places", func() bool {
			return rg.fillReaders() == clients || fetches.Load() == clients+1
		})
		close(rest)
	}()
	for i, got := range together(clients, func(int) answer { return rg.get("/") }) {
		if got.body != "body" {
			t.Errorf("client %d: %+v", i, got)
		}
	}
	if n := fetches.Load(); n != 2 {
		t.Errorf("%d fetches for %d newcomers, want 1", n-1, clients)
	}
	close(first)
	<-slow
}

// tracked tells whether a body was closed.
type tracked struct {
	io.Reader
	closed atomic.Bool
}

func (b *tracked) Close() error { b.closed.Store(true); return nil }

// Whatever the origin's side returns, its body is closed and its context ends.
func TestAnAnswerNobodyAskedForIsClosed(t *testing.T) {
	store, err := memory.New(memory.Options{Size: 1 << 20, MaxObject: 1 << 10, MaxVariants: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	cache := &Cache{Node: "edge", Store: store}
	cache.Open()
	defer cache.Close(context.Background())
	body := &tracked{Reader: bytes.NewReader(nil)}
	var asked context.Context
	origin := roundTrip(func(r *http.Request) (*http.Response, error) {
		asked = r.Context()
		return &http.Response{StatusCode: http.StatusNotModified, Header: http.Header{}, Body: body}, nil
	})
	h := &Handler{Cache: cache, Site: "s", OriginURL: &url.URL{Scheme: "http", Host: "o"}, Origin: origin, Rules: Rules{Cache: true}}
	if err := h.Open(); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != http.StatusBadGateway {
		t.Errorf("answered %d", w.Code)
	}
	select {
	case <-asked.Done():
	case <-time.After(2 * time.Second): // only when it is never to end
		t.Error("the fetch is over, and its context has not ended")
	}
	if !body.closed.Load() {
		t.Error("the body was left open")
	}
}

// Browsers send max-age=0 with a reload. An answer that was made after the request
// came is young enough for it.
func TestReloadsOfOneColdKeyAreOneFetch(t *testing.T) {
	const clients = 20
	var fetches atomic.Int64
	gate := make(chan struct{})
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		fetches.Add(1)
		<-gate
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "page")
	}, nil)
	go func() {
		rg.eventually("all wait for one flight", func() bool { return rg.fillReaders() == clients })
		close(gate)
	}()
	for i, got := range together(clients, func(int) answer { return rg.get("/", "Cache-Control", "max-age=0") }) {
		if got.body != "page" {
			t.Errorf("client %d: %+v", i, got)
		}
	}
	if n := fetches.Load(); n != 1 {
		t.Errorf("%d fetches for %d reloads", n, clients)
	}
}
