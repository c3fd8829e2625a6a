package conn

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// threshold is after how many failures in a row Redis counts as down.
const threshold = 3

// breaker tells whether Redis is worth asking. It trips after a run of failures, and
// is reset by the one who probes, not by requests.
type breaker struct {
	mu    sync.Mutex // guards all below
	run   int        // failures since the last success
	trips uint64     // how often it has tripped: what began before the last one counts no more
	state State
}

// allow reports whether Redis may be asked, and for the report afterwards how often
// it has been down by now.
func (b *breaker) allow() (trips uint64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.trips, b.state.Up
}

// report takes the outcome of a call that was allowed. It returns what the outcome
// has changed.
func (b *breaker) report(trips uint64, err error, now time.Time) (first, tripped bool) {
	fault := faultOf(err)
	b.mu.Lock()
	defer b.mu.Unlock()
	if trips != b.trips || !b.state.Up {
		return false, false // a late word about a time that is over
	}
	if fault == "" {
		b.run = 0
		first = !b.state.Contacted
		b.state.Contacted = true
		return first, false
	}
	b.run++
	b.state.Fault, b.state.Err = fault, err
	if b.run < threshold {
		return false, false
	}
	b.run = 0
	b.trips++
	b.state.Up, b.state.Since = false, now
	return false, true
}

// reset lets calls through again. It returns since when it did not.
func (b *breaker) reset(now time.Time) (since time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	since = b.state.Since
	b.state.Up, b.state.Since, b.state.Contacted = true, now, true
	return since
}

// fail notes what a probe has met.
func (b *breaker) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state.Fault, b.state.Err = faultOf(err), err
}

// examined notes what an examination has found. It returns whether it is news that
// the clocks differ, or that the policy evicts.
func (b *breaker) examined(skew time.Duration, evicts string) (skewed, evicting bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	skewed = skew.Abs() > maxSkew && b.state.Skew.Abs() <= maxSkew
	evicting = evicts != "" && b.state.Evicts == ""
	b.state.Skew, b.state.Evicts = skew, evicts
	return skewed, evicting
}

func (b *breaker) now() State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}

// Fault is the class of what keeps Redis from answering, fit for a metric's label.
// The empty Fault is that there is nothing.
type Fault string

const (
	FaultTimeout Fault = "timeout" // no answer within the deadline
	FaultRefused Fault = "refused" // nobody listens, or no way leads there
	FaultBroken  Fault = "broken"  // the connection ended before the answer
	FaultDenied  Fault = "denied"  // user, password or certificate
	FaultBusy    Fault = "busy"    // the server says that it can serve nobody now
	FaultOther   Fault = "other"
)

// dialError is that no connection came about, for whatever reason.
type dialError struct{ cause error }

func (e *dialError) Error() string { return e.cause.Error() }
func (e *dialError) Unwrap() error { return e.cause }

// faultOf tells what an error says about Redis as a whole. A reply to a command,
// also one that refuses it, says that all is well.
func faultOf(err error) Fault {
	var dial *dialError
	var reply redis.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &dial): // before the replies: it may wrap one of a Sentinel
		return dialFault(dial)
	case redis.IsAuthError(err): // the handshake fails, at the cost of a new connection each time
		return FaultDenied
	case redis.IsLoadingError(err), redis.IsClusterDownError(err), redis.IsMasterDownError(err), redis.IsMaxClientsError(err),
		errors.Is(err, errClusterDown):
		return FaultBusy
	case errors.Is(err, redis.Nil), errors.As(err, &reply):
		return ""
	case isTimeout(err):
		return FaultTimeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return FaultBroken
	case isRemoteAlert(err):
		return FaultDenied
	default:
		return FaultOther
	}
}

func dialFault(err error) Fault {
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &certificate), isRemoteAlert(err):
		return FaultDenied
	case isTimeout(err):
		return FaultTimeout
	default:
		return FaultRefused
	}
}

func isTimeout(err error) bool {
	var network net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, redis.ErrPoolTimeout) ||
		errors.As(err, &network) && network.Timeout()
}

// isRemoteAlert reports whether the server has refused us by TLS; it may do so only
// with the first answer.
func isRemoteAlert(err error) bool {
	var alert tls.AlertError
	return errors.As(err, &alert)
}
