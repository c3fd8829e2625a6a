package node

import (
	"log/slog"
	"testing"

	"edge/proxy"
	"edge/proxy/wire"
)

// TestAPanicAtTheDoorEndsNoRequest: neither when requests are looked ahead to nor when
// they are answered; they go the long way, and nothing of the attempt is left.
func TestAPanicAtTheDoorEndsNoRequest(t *testing.T) {
	n := &Node{log: slog.New(slog.DiscardHandler), door: new(proxy.Door)} // without a Router that it could ask
	n.state.Store(int32(phaseReady))
	a, b := new(wire.Answer), new(wire.Answer)
	for _, a := range []*wire.Answer{a, b} {
		a.Method, a.Target, a.Host = "GET", "/", "a.test"
	}
	n.prefetch([]*wire.Answer{a, b})
	for _, a := range []*wire.Answer{a, b} {
		if a.State != nil {
			t.Error("something is left of looking ahead")
		}
		if n.quick(a) || a.State != nil || len(a.Head) > 0 {
			t.Errorf("answered, or something is left: %+v", a)
		}
	}
}
