package rfc9111

// Reason names why a question was answered as it was: one word for the log, the
// metric label and the detail of Cache-Status. Section gives its source.
type Reason string

// Reasons of Storable. The first six come with OK.
const (
	ReasonExplicit   Reason = "explicit"    // the response states its lifetime
	ReasonRevalidate Reason = "revalidate"  // no lifetime, but a validator (or a stale window) makes it worth keeping
	ReasonTTL        Reason = "ttl"         // Policy.TTL
	ReasonDefaultTTL Reason = "default-ttl" // Policy.DefaultTTL
	ReasonHeuristic  Reason = "heuristic"   // Policy.Heuristic
	ReasonNegative   Reason = "negative"    // Policy.Negative

	ReasonMethod         Reason = "method"           // only a response to GET is stored
	ReasonStatus         Reason = "status"           // not final, or a status that must never be stored
	ReasonPartial        Reason = "partial"          // 206 and 304 are no whole responses
	ReasonRequestNoStore Reason = "request-no-store" // the client forbids it
	ReasonNoStore        Reason = "no-store"         // the origin forbids it
	ReasonMustUnderstand Reason = "must-understand"  // a status of which this cache does not know the rules
	ReasonPrivate        Reason = "private"          // meant for one user
	ReasonVaryStar       Reason = "vary-star"        // depends on what no request can show
	ReasonAuthorization  Reason = "authorization"    // request with credentials, no permission to share
	ReasonCookie         Reason = "cookie"           // request with cookies, no permission to share
	ReasonSetCookie      Reason = "set-cookie"       // carries a cookie for one user
	ReasonNoFreshness    Reason = "no-freshness"     // says nothing about its lifetime
	ReasonExpired        Reason = "expired"          // expired when it came, and nothing to revalidate it with
)

// Reasons of Judge, StaleOnError and StaleOnUnreachable.
const (
	ReasonFresh               Reason = "fresh"
	ReasonStale               Reason = "stale"                  // no window allows its use now
	ReasonNoCache             Reason = "no-cache"               // the origin wants to be asked each time
	ReasonMustRevalidate      Reason = "must-revalidate"        // stale, and the origin forbids stale use
	ReasonWhileRevalidate     Reason = "stale-while-revalidate" // within that window
	ReasonIfError             Reason = "stale-if-error"         // within that window
	ReasonIfUnreachable       Reason = "stale-if-unreachable"   // within that window
	ReasonMaxStale            Reason = "max-stale"              // the client takes it so
	ReasonRequestNoCache      Reason = "request-no-cache"       // the client wants the origin asked
	ReasonRequestMaxAge       Reason = "request-max-age"        // older than the client takes, or stale beside a max-age
	ReasonRequestMinFresh     Reason = "request-min-fresh"      // not fresh for as long as the client wants
	ReasonRequestStaleTooLong Reason = "request-max-stale"      // staler than the client takes
	ReasonRequestStaleIfError Reason = "request-stale-if-error" // the client takes it instead of an error
)

// Section returns where the reason has its source: "RFC number section" or
// "policy" for what the operator decides. It is "" for a value that is none of
// this package's.
func (r Reason) Section() string {
	switch r {
	case ReasonTTL, ReasonDefaultTTL, ReasonNegative, ReasonCookie:
		return "policy"
	case ReasonMethod, ReasonStatus, ReasonNoFreshness, ReasonRevalidate:
		return "RFC 9111 section 3"
	case ReasonPartial:
		return "RFC 9111 section 3.3"
	case ReasonAuthorization:
		return "RFC 9111 section 3.5"
	case ReasonVaryStar:
		return "RFC 9111 section 4.1"
	case ReasonFresh:
		return "RFC 9111 section 4.2"
	case ReasonExplicit, ReasonExpired:
		return "RFC 9111 section 4.2.1"
	case ReasonHeuristic:
		return "RFC 9111 section 4.2.2"
	case ReasonStale, ReasonIfUnreachable:
		return "RFC 9111 section 4.2.4"
	case ReasonRequestMaxAge:
		return "RFC 9111 section 5.2.1.1"
	case ReasonMaxStale, ReasonRequestStaleTooLong:
		return "RFC 9111 section 5.2.1.2"
	case ReasonRequestMinFresh:
		return "RFC 9111 section 5.2.1.3"
	case ReasonRequestNoCache:
		return "RFC 9111 section 5.2.1.4"
	case ReasonRequestNoStore:
		return "RFC 9111 section 5.2.1.5"
	case ReasonMustRevalidate:
		return "RFC 9111 section 5.2.2.2"
	case ReasonMustUnderstand:
		return "RFC 9111 section 5.2.2.3"
	case ReasonNoCache:
		return "RFC 9111 section 5.2.2.4"
	case ReasonNoStore:
		return "RFC 9111 section 5.2.2.5"
	case ReasonPrivate:
		return "RFC 9111 section 5.2.2.7"
	case ReasonSetCookie:
		return "RFC 9111 section 7.3"
	case ReasonWhileRevalidate:
		return "RFC 5861 section 3"
	case ReasonIfError, ReasonRequestStaleIfError:
		return "RFC 5861 section 4"
	}
	return ""
}
