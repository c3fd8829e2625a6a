package origin

import (
	"net/http"
	"sync"
	"testing"
	"time"
)

// patience bounds every wait for something that must happen. It is reached only
// when the thing does not happen, so it is generous: a loaded machine must not
// fail a test.
const patience = 30 * time.Second

// Gate holds handlers until the test opens it, and tells how many arrived.
type Gate struct {
	open    chan struct{}
	opening sync.Once

	mu      sync.Mutex    // guards all below
	waiting int           // handlers that have arrived so far
	change  chan struct{} // closed and replaced when waiting changes
}

// NewGate returns a closed gate. The end of the test opens it, so that a failed
// test leaves no handler behind.
func NewGate(tb testing.TB) *Gate {
	g := &Gate{open: make(chan struct{}), change: make(chan struct{})}
	tb.Cleanup(g.Open)
	return g
}

// Pass counts the caller's arrival and waits until the gate is open, or until the
// request is given up by whoever sent it.
func (g *Gate) Pass(r *http.Request) {
	g.mu.Lock()
	g.waiting++
	close(g.change)
	g.change = make(chan struct{})
	g.mu.Unlock()
	select {
	case <-g.open:
	case <-r.Context().Done():
	}
}

// Open lets everyone through, now and later. It may be called twice.
func (g *Gate) Open() { g.opening.Do(func() { close(g.open) }) }

// Await waits until n handlers have arrived at the gate.
func (g *Gate) Await(tb testing.TB, n int) {
	tb.Helper()
	late := time.After(patience)
	for {
		g.mu.Lock()
		waiting, change := g.waiting, g.change
		g.mu.Unlock()
		if waiting >= n {
			return
		}
		select {
		case <-change:
		case <-late:
			tb.Fatalf("%d of %d requests reached the gate", waiting, n)
		}
	}
}

// Arrived returns how many handlers have arrived so far.
func (g *Gate) Arrived() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.waiting
}
