package proxy

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// Clients that leave anywhere and an origin that breaks off anywhere leave nothing
// behind, and nobody gets a byte of another's.
func TestCancelsAndTruncationsLeaveNothingBehind(t *testing.T) {
	const clients, rounds, keys, size = 24, 6, 6, 300 << 10
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		dice := rand.IntN(8)
		tenant := r.Header.Get("X-Tenant")
		unit := r.URL.Path + tenant + "|"
		switch r.URL.Path {
		case "/0":
			w.Header().Set("Cache-Control", "private")
		case "/1":
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Vary", "X-Tenant")
		case "/2":
			w.Header().Set("Cache-Control", "no-cache")
			w.Header().Set("Vary", "X-Tenant")
			w.Header().Set("Etag", `"2"`)
		default:
			w.Header().Set("Cache-Control", "max-age=0, stale-while-revalidate=60, stale-if-error=60")
			w.Header().Set("Surrogate-Key", "k")
			unit = r.URL.Path + "|"
		}
		if dice == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		text := strings.Repeat(unit, size/len(unit))
		if dice < 4 {
			w.Header().Set("Content-Length", fmt.Sprint(len(text)))
		}
		half := len(text) / 2
		io.WriteString(w, text[:half])
		if dice == 1 {
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, text[half:])
	}, func(h *Handler) {
		h.Rules.MaxObject = 512 << 10
		h.Cache.FillBudget, h.Cache.FillWindow = 1<<20, 256<<10
	})
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	defer transport.CloseIdleConnections()
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			tenant := fmt.Sprint("t", c%3)
			for range rounds {
				path := fmt.Sprint("/", rand.IntN(keys))
				ctx, cancel := context.WithCancel(t.Context())
				req, _ := http.NewRequestWithContext(ctx, http.MethodGet, rg.url+path, nil)
				req.Header.Set("X-Tenant", tenant)
				if rand.IntN(4) == 0 {
					req.Header.Set("Cache-Control", "no-cache")
				}
				if c == 0 {
					rg.ledger.purge(testPurge{tag: hashOf("k"), soft: rand.IntN(2) == 0})
				}
				unit := path + "|"
				if path <= "/2" {
					unit = path + tenant + "|"
				}
				want := strings.Repeat(unit, size/len(unit))
				res, err := transport.RoundTrip(req)
				if err != nil {
					cancel()
					continue
				}
				var body strings.Builder
				if rand.IntN(3) == 0 {
					io.CopyN(&body, res.Body, rand.Int64N(size))
					cancel()
					io.Copy(&body, res.Body)
				} else if _, err := io.Copy(&body, res.Body); err == nil && res.StatusCode == 200 && body.String() != want {
					t.Errorf("%s: a body of %d bytes looks whole, and is not", path, body.Len())
				}
				if res.StatusCode == 200 && !strings.HasPrefix(want, body.String()) {
					t.Errorf("%s for %s: the body is another's", path, tenant)
				}
				res.Body.Close()
				cancel()
			}
		})
	}
	wg.Wait()
	rg.eventually("all fetches and refreshes are over", func() bool {
		stats := rg.cache.Stats()
		return stats.FlightsNow == 0 && stats.RefreshesNow == 0
	})
	rg.eventually("the budget is given back", func() bool { return rg.cache.Stats().FillBytesNow == 0 })
	rg.cache.flights.mu.Lock()
	defer rg.cache.flights.mu.Unlock()
	if n := len(rg.cache.flights.underWay); n != 0 {
		t.Errorf("%d keys still count as under way", n)
	}
}
