package rfc9111

import (
	"net/http"
	"time"

	"edge/cachestore"
)

const (
	defaultHeuristicMax = 24 * time.Hour
	defaultNegativeMax  = 10 * time.Second
)

// explicit reports whether the response itself states its lifetime.
func explicit(res http.Header, said *directives) bool {
	return said.sMaxAge.Given || said.maxAge.Given || !said.targeted && len(res["Expires"]) > 0
}

// lifetime returns the freshness lifetime, the field that it comes from and how it
// came about; no reason means that there is none.
func lifetime(status int, res http.Header, said *directives, received time.Time, p *Policy) (time.Duration, string, Reason) {
	failed := status >= 400
	if explicit(res, said) {
		fresh, field := explicitLifetime(res, said, received)
		switch {
		case failed:
			// What an operator sets for pages must not prolong the life of an error.
			if p.TTL != nil {
				fresh = min(fresh, bounded(*p.TTL))
			}
		case p.TTL != nil:
			return capped(*p.TTL, p), "", ReasonTTL
		case fresh > 0:
			fresh = max(fresh, bounded(p.MinTTL))
		}
		return capped(fresh, p), field, ReasonExplicit
	}
	// A 204 or a redirect that says nothing may be one client's alone: the
	// operator's lifetimes go where the RFC would let a heuristic go, 204 excepted.
	if !failed && status != http.StatusNoContent && (heuristicallyCacheable(status) || said.public) {
		if p.TTL != nil {
			return capped(*p.TTL, p), "", ReasonTTL
		}
		if p.DefaultTTL != nil && !said.noCache {
			return capped(*p.DefaultTTL, p), "", ReasonDefaultTTL
		}
	}
	if ttl, ok := p.Negative[status]; ok && failed && !said.noCache {
		limit := p.NegativeMax
		if limit <= 0 {
			limit = defaultNegativeMax
		}
		return capped(min(ttl, limit), p), "", ReasonNegative
	}
	if p.Heuristic && !said.noCache && (heuristicallyCacheable(status) || said.public) {
		if fresh, ok := heuristicLifetime(res, received, p); ok {
			return capped(fresh, p), "Last-Modified", ReasonHeuristic
		}
	}
	return 0, "", ""
}

func capped(fresh time.Duration, p *Policy) time.Duration {
	if p.MaxTTL > 0 {
		fresh = min(fresh, p.MaxTTL)
	}
	return bounded(fresh)
}

// explicitLifetime is RFC 9111 section 4.2.1.
func explicitLifetime(res http.Header, said *directives, received time.Time) (fresh time.Duration, field string) {
	switch {
	case said.sMaxAge.Given:
		return said.sMaxAge.Length, said.field
	case said.maxAge.Given:
		return said.maxAge.Length, said.field
	}
	// Several lines that agree are one; any that cannot be read, or differs, makes
	// the response expired (sections 4.2.1 and 5.3).
	value, ok := single(res, "Expires")
	if !ok {
		return 0, "Expires"
	}
	expires, ok := ParseDateAt(value, received)
	if !ok {
		return 0, "Expires"
	}
	return bounded(expires.Sub(generated(res, received))), "Expires"
}

// heuristicLifetime is a tenth of the time that the representation had been
// unchanged (RFC 9111 section 4.2.2).
func heuristicLifetime(res http.Header, received time.Time, p *Policy) (time.Duration, bool) {
	value, ok := single(res, "Last-Modified")
	if !ok {
		return 0, false
	}
	modified, ok := ParseDateAt(value, received)
	if !ok {
		return 0, false
	}
	limit := p.HeuristicMax
	if limit <= 0 {
		limit = defaultHeuristicMax
	}
	fresh := min(generated(res, received).Sub(modified)/10, limit)
	return fresh, fresh > 0
}

// generated is when the response says it was made (RFC 9110 section 6.6.1), or
// when it came.
func generated(res http.Header, received time.Time) time.Time {
	if lines := res["Date"]; len(lines) > 0 {
		if date, ok := ParseDateAt(lines[0], received); ok {
			return date
		}
	}
	// As coarse as a Date would have been, so that differences with dates are whole.
	return received.Truncate(time.Second)
}

// lifeOf adds to a lifetime what may be done after it (RFC 9111 section 4.2.4, RFC
// 5861). What forbids stale use closes every window; s-maxage leaves the explicit
// ones open unless the policy is strict.
func lifeOf(fresh time.Duration, status int, reason Reason, validator bool, said *directives, p *Policy) cachestore.Life {
	l := cachestore.Life{
		Fresh:            fresh,
		AlwaysRevalidate: said.noCache,
		NeverStale:       said.mustRevalidate || said.proxyRevalidate || said.sMaxAge.Given,
	}
	forbidden := said.noCache || said.mustRevalidate || said.proxyRevalidate || said.sMaxAge.Given && p.StrictSMaxAge
	if !forbidden && reason != ReasonNegative {
		l.WhileRevalidate = whileRevalidate(said, p)
		if status < 500 { // one error is no better than another
			l.IfError = ifError(said, p)
			if !l.NeverStale {
				l.IfUnreachable = bounded(p.IfUnreachable)
			}
		}
	}
	if validator && p.Keep > 0 {
		l.Keep = bounded(max(l.WhileRevalidate, l.IfError, l.IfUnreachable) + bounded(p.Keep))
	}
	return l
}

func whileRevalidate(said *directives, p *Policy) time.Duration {
	switch {
	case p.WhileRevalidate != nil:
		return bounded(*p.WhileRevalidate)
	case said.whileRevalidate.Given:
		return said.whileRevalidate.Length
	case said.whileRevalidateBare:
		return bounded(p.DefaultWhileRevalidate)
	}
	return 0
}

func ifError(said *directives, p *Policy) time.Duration {
	if p.IfError != nil {
		return bounded(*p.IfError)
	}
	return said.ifError.Length
}

// useless reports whether nothing could ever be done with the stored response. An
// expired one is not kept for the bare case that the origin goes away: max-age=0
// is what many write who do not want it stored at all.
func useless(l cachestore.Life, status int, reason Reason) bool {
	if l.AlwaysRevalidate || l.Fresh == 0 {
		return status >= 400 || l.Keep == 0 && (l.AlwaysRevalidate || max(l.WhileRevalidate, l.IfError) == 0)
	}
	return false
}
