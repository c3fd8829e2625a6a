//go:build !race

package ratelimit

import (
	"net/http"
	"testing"
	"time"
)

// TestDecisionAllocatesNothing is not for the race detector, under which pools forget.
func TestDecisionAllocatesNothing(t *testing.T) {
	rg := start(t, nil,
		Policy{Name: "p", Rate: Rate{Limit: 1_000_000, Period: time.Second}},
		Policy{Name: "q", Algorithm: SlidingWindow, Rate: Rate{Limit: 1_000_000, Period: time.Second}})
	r, h := request("k"), make(http.Header)
	allocs := testing.AllocsPerRun(1000, func() {
		leave, err := rg.gate.Admit(h, r)
		if err != nil {
			t.Fatal(err)
		}
		leave(false)
	})
	if allocs != 0 {
		t.Errorf("a decision allocates %v times", allocs)
	}
}
