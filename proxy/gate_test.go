package proxy

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"
)

// counter is a gate that lets so many pass.
type counter struct {
	room, inside, admitted, returned atomic.Int64
}

func (c *counter) Admit(answer http.Header, _ *http.Request) (func(bool), error) {
	if c.room.Add(-1) < 0 {
		return nil, full{}
	}
	c.admitted.Add(1)
	c.inside.Add(1)
	answer.Set("X-Gate", "passed")
	return func(refused bool) {
		c.inside.Add(-1)
		if refused {
			c.returned.Add(1)
		}
	}, nil
}

type full struct{}

func (full) Error() string { return "full" }

func (full) Refuse(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	Problem(w, http.StatusTooManyRequests, "Too many.")
}

// TestGateBeforeARoute: every request counts, hits too.
func TestGateBeforeARoute(t *testing.T) {
	gate := new(counter)
	gate.room.Store(3)
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "page")
	}, nil)
	rg.router.any.Routes[0].Gate = gate
	for n := range 5 {
		got := rg.get("/")
		if n < 3 && (got.status != http.StatusOK || got.header.Get("X-Gate") != "passed") {
			t.Errorf("request %d: %+v", n, got)
		}
		if n >= 3 && (got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") != "1" || got.header.Get("Cache-Status") != "edge; detail=limit") {
			t.Errorf("request %d: %+v", n, got)
		}
	}
	rg.eventually("all are observed", func() bool { return len(rg.observed()) == 5 })
	outcomes := make(map[Outcome]int)
	for _, rec := range rg.observed() {
		outcomes[rec.Outcome]++
	}
	if outcomes[Limited] != 2 || outcomes[Miss] != 1 || outcomes[Hit] != 2 || gate.inside.Load() != 0 {
		t.Errorf("%v, %d inside", outcomes, gate.inside.Load())
	}
}

// TestGateBeforeTheOrigin: what does not reach the origin does not count, and of many
// who wait for one fetch only the first.
func TestGateBeforeTheOrigin(t *testing.T) {
	const clients = 20
	gate, open := new(counter), make(chan struct{})
	gate.room.Store(3)
	var fetches atomic.Int64
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		if fetches.Add(1) == 1 {
			<-open
		}
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "page")
	}, func(h *Handler) { h.OriginGate = gate })
	go func() {
		rg.eventually("all wait for one flight", func() bool { return rg.fillReaders() == clients })
		close(open)
	}()
	for i, got := range together(clients, func(int) answer { return rg.get("/") }) {
		if got.status != http.StatusOK {
			t.Errorf("client %d: %+v", i, got)
		}
	}
	if n := gate.admitted.Load(); n != 1 {
		t.Errorf("%d have passed the gate, want the one that led", n)
	}
	rg.do(http.MethodPost, "/else")
	rg.do(http.MethodHead, "/other")
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodHead} {
		if got := rg.do(method, "/third"); got.status != http.StatusTooManyRequests {
			t.Errorf("%s: %+v", method, got)
		}
	}
	if got := rg.get("/"); got.status != http.StatusOK || got.body != "page" {
		t.Errorf("a hit: %+v", got)
	}
	if n := fetches.Load(); n != 3 {
		t.Errorf("%d requests at the origin, want 3", n)
	}
	rg.eventually("nobody is inside", func() bool { return gate.inside.Load() == 0 })
}

// TestRefusedByTheSecondGate: then the first has let nothing pass.
func TestRefusedByTheSecondGate(t *testing.T) {
	first, second := new(counter), new(counter)
	first.room.Store(100)
	second.room.Store(1)
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "page")
	}, func(h *Handler) { h.OriginGate = second })
	rg.router.any.Routes[0].Gate = first
	for range 3 {
		if got := rg.get("/"); got.status != http.StatusOK {
			t.Errorf("%+v", got)
		}
	}
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodHead} {
		if got := rg.do(method, "/other"); got.status != http.StatusTooManyRequests {
			t.Errorf("%s: %+v", method, got)
		}
	}
	rg.eventually("all have left", func() bool { return first.inside.Load() == 0 && second.inside.Load() == 0 })
	if a, r := first.admitted.Load(), first.returned.Load(); a != 6 || r != 3 || second.returned.Load() != 0 {
		t.Errorf("%d let pass by the first gate, of which %d count for nothing; want 6 and 3", a, r)
	}
}
