package proxy

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// staleRig serves pages that a soft purge has made stale within their window; from
// then on refresh answers for the origin.
func staleRig(t *testing.T, pages int, refresh http.HandlerFunc, change func(*Handler)) *rig {
	t.Helper()
	var purged atomic.Bool
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		if purged.Load() {
			refresh(w, r)
			return
		}
		w.Header().Set("Cache-Control", "max-age=60, stale-while-revalidate=600")
		w.Header().Set("Surrogate-Key", "k")
		io.WriteString(w, "old")
	}, change)
	for i := range pages {
		rg.get(fmt.Sprint("/", i))
	}
	rg.eventually("the pages are stored", func() bool { return rg.cache.Stats().Stored == int64(pages) })
	purged.Store(true)
	rg.ledger.purge(testPurge{tag: hashOf("k"), soft: true})
	return rg
}

// A refresh is for the store: an answer that cannot be stored is not read by
// nobody, for ever, on one of few workers.
func TestARefreshDoesNotReadWhatIsNotStored(t *testing.T) {
	for _, contentType := range []string{"text/event-stream", "text/csv"} {
		t.Run(contentType, func(t *testing.T) {
			began, left := make(chan struct{}), make(chan struct{})
			rg := staleRig(t, 1, func(w http.ResponseWriter, r *http.Request) {
				close(began)
				w.Header().Set("Cache-Control", "private")
				w.Header().Set("Content-Type", contentType)
				w.WriteHeader(200)
				w.(http.Flusher).Flush()
				<-r.Context().Done() // an answer without end
				close(left)
			}, nil)
			if got := rg.get("/0"); got.body != "old" {
				t.Fatalf("%+v", got)
			}
			<-began
			select {
			case <-left:
			case <-time.After(2 * time.Second): // only when it is never to end
				t.Error("a refresh worker reads an endless private answer")
			}
		})
	}
}

func TestRefreshesThatArePutOffAreBounded(t *testing.T) {
	const pages, queue, workers = 40, 2, 2
	rg := staleRig(t, pages, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}, func(h *Handler) {
		h.Cache.RefreshQueue, h.Cache.RefreshWorkers, h.Cache.RefreshBackoff = queue, workers, time.Hour
	})
	for i := range pages {
		rg.get(fmt.Sprint("/", i))
		rg.eventually("the refresh has been tried or dropped", func() bool {
			stats := rg.cache.Stats()
			return stats.RefreshRetried+stats.RefreshDropped+stats.RefreshFailed == int64(i+1)
		})
	}
	if n := rg.cache.Stats().RefreshesNow; n > queue+workers {
		t.Errorf("%d refreshes are held, with room for %d", n, queue+workers)
	}
}

func TestARefreshThatIsGivenUpIsListed(t *testing.T) {
	rg := staleRig(t, 1, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}, nil)
	rg.get("/0")
	rg.eventually("the refresh is given up", func() bool { return rg.cache.Stats().RefreshFailed == 1 })
	rg.eventually("its claim is gone", func() bool { return rg.cache.Stats().RefreshesNow == 0 })
	list := rg.cache.FailedRefreshes()
	if len(list) != 1 || !strings.HasSuffix(list[0].URL, "/0") || list[0].Attempts != 3 {
		t.Errorf("%+v", list)
	}
	if got := rg.get("/0"); got.body != "old" {
		t.Errorf("after it: %+v", got)
	}
}

func TestAPanicInAnExpressionEndsNoWorker(t *testing.T) {
	var broken atomic.Bool
	rg := staleRig(t, 1, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}, func(h *Handler) {
		h.Cache.RefreshWorkers = 1
		h.Rules.HostHeader = "origin.example"
		h.Rules.Response.Set = []HeaderRule{{Name: "X-A", Value: func(*http.Request) string {
			if broken.Load() {
				panic("a broken expression")
			}
			return "a"
		}}}
	})
	rg.get("/0")
	broken.Store(true)
	rg.eventually("the refresh is given up", func() bool { return rg.cache.Stats().RefreshFailed == 1 })
	broken.Store(false)
	if got := rg.get("/0"); got.body != "old" {
		t.Errorf("after it: %+v", got)
	}
	rg.eventually("the worker goes on", func() bool { return rg.cache.Stats().RefreshFailed == 2 })
}

// The refresh waits for no client: one that takes its stale copy slowly would put
// it off past the window.
func TestASlowClientOfAStaleCopyDoesNotPutTheRefreshOff(t *testing.T) {
	asked := make(chan struct{}, 1)
	rg := staleRig(t, 1, func(w http.ResponseWriter, r *http.Request) { asked <- struct{}{} }, nil)
	reached, gate := make(chan struct{}, 1), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		r := httptest.NewRequest(http.MethodGet, "/0", nil)
		r.Host = strings.TrimPrefix(rg.url, "http://")
		rg.handler.ServeHTTP(&stuck{*httptest.NewRecorder(), reached, gate}, r)
	})
	<-reached
	select {
	case <-asked:
	case <-time.After(2 * time.Second): // only when it is never to come
		t.Error("no refresh while the client takes its time")
	}
	close(gate)
	wg.Wait()
}
