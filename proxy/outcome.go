package proxy

import (
	"strconv"
	"time"

	"edge/proxy/rfc9111"
)

// Outcome names each way that a request can end, once. It feeds the access log,
// the metrics and Cache-Status; nothing else in the program says "hit".
type Outcome uint8

const (
	Unset       Outcome = iota // nothing has been decided yet
	Hit                        // answered from the cache, fresh
	Stale                      // answered from the cache, stale within a window or by the client's leave
	StaleError                 // answered stale because the origin failed
	Revalidated                // the origin confirmed what was stored (304)
	Miss                       // fetched, and shared with whoever may share it
	Joined                     // answered from the fetch that another request had started
	Pass                       // fetched for this request alone
	Refused                    // answered by us: the request may not be served
	Failed                     // answered by us: the origin could not be asked
	Canceled                   // the client left before there was an answer
	Limited                    // answered by us: over a limit
)

var outcomeNames = [...]string{
	Unset:       "unset",
	Hit:         "hit",
	Stale:       "stale",
	StaleError:  "stale-error",
	Revalidated: "revalidated",
	Miss:        "miss",
	Joined:      "joined",
	Pass:        "pass",
	Refused:     "refused",
	Failed:      "failed",
	Canceled:    "canceled",
	Limited:     "limited",
}

// String returns the outcome's one name in logs and metrics.
func (o Outcome) String() string {
	if int(o) >= len(outcomeNames) {
		panic("proxy: unknown outcome " + strconv.Itoa(int(o)))
	}
	return outcomeNames[o]
}

// Outcomes returns every outcome, so that counters can be declared before the
// first request.
func Outcomes() []Outcome {
	all := make([]Outcome, len(outcomeNames))
	for i := range all {
		all[i] = Outcome(i)
	}
	return all
}

// Reasons that the request path adds to those of rfc9111.
const (
	reasonRoute          rfc9111.Reason = "route"              // the route does not cache
	reasonMethod         rfc9111.Reason = "method"             // neither GET nor HEAD
	reasonUpgrade        rfc9111.Reason = "upgrade"            // a tunnel, once the origin agrees
	reasonEventStream    rfc9111.Reason = "event-stream"       // endless by nature
	reasonHitForMiss     rfc9111.Reason = "hit-for-miss"       // lately found not to be shareable
	reasonTooLarge       rfc9111.Reason = "too-large"          // past the object limit
	reasonNoBudget       rfc9111.Reason = "fill-budget"        // no memory left for one more fetch to share
	reasonLengthUnknown  rfc9111.Reason = "length-unverified"  // ends with the connection: cut short looks the same as whole
	reasonSelfRedirect   rfc9111.Reason = "redirect-to-itself" // would loop for everybody
	reasonStaticType     rfc9111.Reason = "static-type"        // a static rule met another media type
	reasonShrunk         rfc9111.Reason = "shrunk"             // empty, where a large body is stored
	reasonTooManyKeys    rfc9111.Reason = "too-many-keys"      // more surrogate keys than are tracked
	reasonHead           rfc9111.Reason = "head"               // a HEAD's answer has no body to store
	reasonNotStored      rfc9111.Reason = "not-stored"         // nothing is stored under this key
	reasonVariant        rfc9111.Reason = "variant"            // stored, but not for these request headers
	reasonRulesChanged   rfc9111.Reason = "rules-changed"      // stored under other rules: asked again first
	reasonSuspect        rfc9111.Reason = "suspect"            // older than what is known about purges: asked again first
	reasonPurged         rfc9111.Reason = "purged"             // a purge record kills what is stored
	reasonNotShareable   rfc9111.Reason = "not-shareable"      // another's answer that this request may not have
	reasonOnlyIfCached   rfc9111.Reason = "only-if-cached"     // RFC 9111 section 5.2.1.7
	reasonUnreachable    rfc9111.Reason = "origin-unreachable" // refused, reset or unknown
	reasonOriginTimeout  rfc9111.Reason = "origin-timeout"     // connected or not, no answer in time
	reasonOriginProtocol rfc9111.Reason = "origin-protocol"    // answered with what is not HTTP
	reasonClientGone     rfc9111.Reason = "client-gone"        // left before there was an answer
	reasonBodyOnGet      rfc9111.Reason = "body-on-get"        // more than we are willing to drop
	reasonBadRequest     rfc9111.Reason = "bad-request"        // ambiguous or malformed
	reasonUnknownHost    rfc9111.Reason = "unknown-host"       // no site answers for this authority
	reasonNotAllowed     rfc9111.Reason = "method-not-allowed" // CONNECT, TRACE, PURGE
	reasonLoop           rfc9111.Reason = "loop"               // our own CDN-Loop token came back
	reasonExpectation    rfc9111.Reason = "expectation"        // an Expect other than 100-continue
)

// Refusals returns the reasons for which requests are refused that are malformed, or
// for nobody here, so that counters can be declared before the first.
func Refusals() []rfc9111.Reason {
	return []rfc9111.Reason{reasonBadRequest, reasonUnknownHost, reasonNotAllowed, reasonLoop, reasonExpectation, reasonBodyOnGet}
}

// forwardParameter is the fwd parameter of Cache-Status (RFC 9211 section 2.2) for
// what made us ask the origin.
func forwardParameter(why rfc9111.Reason) string {
	switch why {
	case reasonMethod:
		return "method"
	case reasonRoute, reasonUpgrade, reasonEventStream, reasonHitForMiss, reasonHead, rfc9111.ReasonRequestNoStore:
		return "bypass"
	case reasonNotStored, reasonPurged, reasonTooLarge:
		return "uri-miss"
	case reasonVariant:
		return "vary-miss"
	case rfc9111.ReasonRequestNoCache, rfc9111.ReasonRequestMaxAge, rfc9111.ReasonRequestMinFresh:
		return "request"
	default:
		return "stale"
	}
}

// appendCacheStatus appends our member of Cache-Status (RFC 9211) to dst: what
// was done and why, never a key or the name of a store.
func appendCacheStatus(dst []byte, node string, s *cacheStatus) []byte {
	dst = append(dst, node...)
	switch s.outcome {
	case Hit, Stale, StaleError:
		dst = append(dst, "; hit; ttl="...)
		dst = strconv.AppendInt(dst, int64(s.ttl/time.Second), 10)
		if s.outcome != Hit {
			dst = append(append(dst, "; detail="...), s.reason...)
		}
		return dst
	case Refused:
		return append(append(dst, "; detail="...), s.reason...)
	}
	dst = append(append(dst, "; fwd="...), forwardParameter(s.forward)...)
	if s.originStatus != 0 && s.originStatus != s.status {
		dst = append(dst, "; fwd-status="...)
		dst = strconv.AppendInt(dst, int64(s.originStatus), 10)
	}
	if s.stored {
		dst = append(dst, "; stored; ttl="...)
		dst = strconv.AppendInt(dst, int64(s.ttl/time.Second), 10)
	}
	if s.outcome == Joined {
		dst = append(dst, "; collapsed"...)
	}
	if s.reason != "" && !s.stored {
		dst = append(append(dst, "; detail="...), s.reason...)
	}
	return dst
}

// cacheStatus is what one Cache-Status member says.
type cacheStatus struct {
	outcome      Outcome
	forward      rfc9111.Reason // why the origin was asked
	reason       rfc9111.Reason // why it ended as it did
	ttl          time.Duration  // remaining freshness; negative when stale
	status       int            // as sent to the client
	originStatus int            // as the origin gave it; zero when it was not asked
	stored       bool
}
