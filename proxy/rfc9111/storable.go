package rfc9111

import (
	"net/http"
	"slices"
	"time"

	"edge/cachestore"
)

// Storage says whether and how a response may be stored.
type Storage struct {
	OK     bool
	Reason Reason          // why, or why not
	Life   cachestore.Life // how long, and what for; zero unless OK
	Omit   []string        // canonical names of fields that private or no-cache keep out of the cache; sorted
	VaryOn []string        // lower-case, sorted names that select the response; nil when it has no Vary
	Field  string          // header field that decided, in the policy's or the RFC's spelling; "" when the operator or nothing did
}

// Storable says whether a shared cache may store a response, and for how long
// (RFC 9111 section 3, with the operator's policy).
//
// Method and req are the request as it went to the origin, res the whole response
// head after hop-by-hop fields, and whatever else the caller strips, are gone.
// Received is when the head arrived; it stands in for a Date that is missing or
// cannot be read. For a response that a 304 or a HEAD has freshened the caller
// asks with method GET, the stored status and the merged header.
//
// A response that may be stored but could be of no use (expired on arrival, with
// neither validator nor window) is not OK. A redirect to its own URL is for the
// caller to refuse.
func Storable(method string, req http.Header, status int, res http.Header, received time.Time, p *Policy) Storage {
	said := responseDirectives(res, p)
	s := Storage{Field: said.field}
	if s.Reason = refusal(method, req, status, res, &said, p); s.Reason != "" {
		return s
	}
	s.VaryOn, _ = VaryOn(res)
	s.Omit = said.omit

	fresh, field, reason := lifetime(status, res, &said, received, p)
	if reason != "" {
		s.Field = field
	} else {
		// RFC 9111 section 3: without an explicit lifetime only these are storable.
		if !said.noCache || status >= 400 || !said.public && !heuristicallyCacheable(status) {
			s.Reason = ReasonNoFreshness
			return s
		}
		reason = ReasonRevalidate
	}
	if carriesCookie(res, said.omit) && !(p.StoreSetCookie && explicit(res, &said)) {
		s.Reason = ReasonSetCookie
		return s
	}

	life := lifeOf(fresh, status, reason, validator(res), &said, p)
	if useless(life, status, reason) {
		s.Reason = ReasonExpired
		if said.noCache {
			s.Reason = ReasonNoCache
		}
		return s
	}
	if life.Fresh == 0 {
		reason = ReasonRevalidate
	}
	s.OK, s.Reason, s.Life = true, reason, life
	return s
}

// refusal returns why a response must not be stored, whatever its freshness, or "".
func refusal(method string, req http.Header, status int, res http.Header, said *directives, p *Policy) Reason {
	switch {
	case method != http.MethodGet:
		return ReasonMethod
	case status == http.StatusPartialContent, status == http.StatusNotModified:
		return ReasonPartial
	case status < 200, status > 599, neverStored(status):
		return ReasonStatus
	case ParseRequest(req).NoStore:
		return ReasonRequestNoStore
	case said.mustUnderstand && !understood(status):
		return ReasonMustUnderstand
	case said.noStore && !said.mustUnderstand:
		return ReasonNoStore
	case said.private:
		return ReasonPrivate
	}
	if _, star := VaryOn(res); star {
		return ReasonVaryStar
	}
	if len(req["Authorization"]) > 0 && !said.public && !said.mustRevalidate && !said.sMaxAge.Given {
		return ReasonAuthorization
	}
	if p.CookiesNeedPermission && len(req["Cookie"]) > 0 && !said.public && !said.sMaxAge.Given && !said.targeted {
		return ReasonCookie
	}
	return ""
}

// carriesCookie reports whether storing the response would store a Set-Cookie.
func carriesCookie(res http.Header, omit []string) bool {
	return len(res["Set-Cookie"]) > 0 && !slices.Contains(omit, "Set-Cookie")
}

// neverStored are the statuses that RFC 6585 keeps out of every cache.
func neverStored(status int) bool {
	switch status {
	case 428, 429, 431, 511:
		return true
	}
	return false
}

// heuristicallyCacheable statuses may be stored without explicit freshness (RFC
// 9110 section 15.1). 206 is one too, but is not stored here.
func heuristicallyCacheable(status int) bool {
	switch status {
	case 200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501:
		return true
	}
	return false
}

// understood are the statuses whose rules for caches are all followed here (RFC
// 9111 section 3): those of RFC 9110 that ask nothing special of a cache.
func understood(status int) bool {
	switch {
	case status >= 200 && status <= 205, status >= 300 && status <= 303, status == 307, status == 308,
		status >= 400 && status <= 415, status == 417, status == 421, status == 422, status == 426,
		status >= 500 && status <= 505:
		return true
	}
	return false
}
