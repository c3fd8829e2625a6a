package proxy

import (
	"errors"
	"net/http"

	"edge/proxy/rfc9111"
)

// Gate lets requests pass, or refuses them: limits on their rate, or on how many
// run at a time. It is called by many goroutines, and must be quick.
type Gate interface {
	// Admit lets the request pass, and returns what is called once when it has ended,
	// or refuses it with an error that is a Refusal. It may add to the header of the
	// answer. Leave is told when the request was refused all the same, by another
	// gate: then it has cost nothing here.
	Admit(answer http.Header, r *http.Request) (leave func(refused bool), err error)
}

// Refusal is an error that answers the request.
type Refusal interface {
	error
	Refuse(http.ResponseWriter)
}

const reasonLimit rfc9111.Reason = "limit" // over a limit of ours

// limited answers a request that a gate has refused, and reports whether err is of
// that kind.
func limited(w http.ResponseWriter, node string, err error) bool {
	var refusal Refusal
	if !errors.As(err, &refusal) {
		return false
	}
	rec := recordOf(w)
	rec.Outcome, rec.Reason, rec.Err = Limited, reasonLimit, err
	w.Header()["Cache-Status"] = []string{string(appendCacheStatus(nil, node, &cacheStatus{outcome: Refused, reason: reasonLimit}))}
	refusal.Refuse(w)
	return true
}

// mayAsk takes a request through the gate before the origin, once, and not at all
// when no client waits for the answer.
func (x *exchange) mayAsk() error {
	if x.h.OriginGate == nil || x.background || x.leave != nil {
		return nil
	}
	leave, err := x.h.OriginGate.Admit(x.w.Header(), x.r)
	if err != nil {
		return err
	}
	x.leave = leave
	return nil
}
