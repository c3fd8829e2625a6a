package node

import (
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"edge/proxy"
	"edge/proxy/wire"
)

// refusalLogInterval is the time between two lines on one reason: whoever fills the
// door does not fill the log.
const refusalLogInterval = 10 * time.Second

// refusals counts what is refused, by reason: at the door, and behind it for what is
// malformed or for nobody here.
type refusals struct {
	log     *slog.Logger
	begun   time.Time
	reasons map[string]*refusal // fixed when it is made
}

// refusal is one reason's.
type refusal struct {
	count  atomic.Int64
	due    atomic.Int64 // when the next line may be written, in nanoseconds since begun
	silent atomic.Int64 // refused since the last line
}

func newRefusals(log *slog.Logger) *refusals {
	r := &refusals{log: log, begun: time.Now(), reasons: make(map[string]*refusal)}
	for _, reason := range wire.Reasons() {
		r.reasons[reason] = &refusal{}
	}
	for _, reason := range proxy.Refusals() {
		r.reasons[string(reason)] = &refusal{}
	}
	return r
}

// note counts a request that has ended, if that was how.
func (r *refusals) note(rec *proxy.Record) {
	if rec.Outcome == proxy.Refused && r.reasons[string(rec.Reason)] != nil {
		r.add(rec.Client, rec.Status, string(rec.Reason))
	}
}

// refused counts what the door has refused, and logs it now and then. Remote is the
// peer's address, status what it was answered with, zero for nothing.
func (n *Node) refused(remote string, status int, reason string) {
	n.refusals.add(remote, status, reason)
}

func (r *refusals) add(remote string, status int, reason string) {
	what := r.reasons[reason]
	if what == nil {
		panic("node: refused for a reason that is not declared: " + reason)
	}
	what.count.Add(1)
	now := int64(time.Since(r.begun))
	due := what.due.Load()
	if now < due || !what.due.CompareAndSwap(due, now+int64(refusalLogInterval)) {
		what.silent.Add(1)
		return
	}
	client, _, err := net.SplitHostPort(remote)
	if err != nil {
		client = remote // not of the form that a TCP listener gives
	}
	r.log.Info("refused", "reason", reason, "client", client, "status", status, "left_out", what.silent.Swap(0))
}

// counts returns how many were refused for each reason.
func (r *refusals) counts() map[string]int64 {
	counts := make(map[string]int64, len(r.reasons))
	for reason, what := range r.reasons {
		counts[reason] = what.count.Load()
	}
	return counts
}
