package rfc9111

import (
	"time"

	"edge/cachestore"
)

// Use is what may be done with a stored response now.
type Use uint8

const (
	UseFresh           Use = iota // serve it
	UseWhileRevalidate            // serve it, and refresh it in the background
	UseStaleAsked                 // it is stale, and the client takes it so
	UseRevalidate                 // ask the origin first
)

// Judge says what may be done with a stored response of this age for a client
// that asked this (RFC 9111 sections 4, 4.2.4 and 5.2.1, RFC 5861 section 3). The
// client's max-age and min-fresh bind stale use too: who names them takes a stale
// response only with max-stale beside. An immutable response (RFC 8246 section
// 2.1) is judged like any other: a reload has reached us because the client wants
// the origin asked.
//
// NeverStale forbids what the client allows; the windows in life are what the
// origin or the operator has granted for all that, and are zero where Storable
// found that nothing may be.
func Judge(q Directives, life cachestore.Life, age time.Duration) (Use, Reason) {
	switch {
	case life.AlwaysRevalidate:
		return UseRevalidate, ReasonNoCache
	case q.NoCache:
		return UseRevalidate, ReasonRequestNoCache
	case q.MaxAge.Given && age > q.MaxAge.Length:
		return UseRevalidate, ReasonRequestMaxAge
	case q.MinFresh.Given && life.Fresh-age < q.MinFresh.Length:
		return UseRevalidate, ReasonRequestMinFresh
	}

	stale := age - life.Fresh
	if stale < 0 {
		return UseFresh, ReasonFresh
	}
	switch {
	case q.MaxStale.Given && stale > q.MaxStale.Length:
		return UseRevalidate, ReasonRequestStaleTooLong
	case q.MaxAge.Given && !q.MaxStale.Given:
		return UseRevalidate, ReasonRequestMaxAge
	case stale < life.WhileRevalidate:
		return UseWhileRevalidate, ReasonWhileRevalidate
	case life.NeverStale:
		return UseRevalidate, ReasonMustRevalidate
	case q.MaxStale.Given:
		return UseStaleAsked, ReasonMaxStale
	}
	return UseRevalidate, ReasonStale
}

// StaleOnError says whether a stored response may be served in place of a 5xx
// answer to its revalidation (RFC 5861 section 4; RFC 9111 section 4.3.3). One
// that is still fresh may: then only the client wanted the origin asked.
func StaleOnError(q Directives, life cachestore.Life, age time.Duration) (bool, Reason) {
	return insteadOfError(q, life, age, life.IfError, ReasonIfError)
}

// StaleOnUnreachable says whether a stored response may be served when the origin
// refused the connection, reset it or did not answer in time (RFC 9111 section
// 4.2.4). What may stand in for an error may stand in here too.
func StaleOnUnreachable(q Directives, life cachestore.Life, age time.Duration) (bool, Reason) {
	if life.IfUnreachable > life.IfError {
		return insteadOfError(q, life, age, life.IfUnreachable, ReasonIfUnreachable)
	}
	return insteadOfError(q, life, age, life.IfError, ReasonIfError)
}

func insteadOfError(q Directives, life cachestore.Life, age, window time.Duration, reason Reason) (bool, Reason) {
	stale := age - life.Fresh
	switch {
	case life.AlwaysRevalidate:
		return false, ReasonNoCache
	case q.NoCache:
		return false, ReasonRequestNoCache
	case stale < 0:
		return true, ReasonFresh
	case stale < window:
		return true, reason
	case stale < life.WhileRevalidate:
		return true, ReasonWhileRevalidate
	case life.NeverStale:
		return false, ReasonMustRevalidate
	case q.IfError.Given && stale <= q.IfError.Length:
		return true, ReasonRequestStaleIfError
	}
	return false, ReasonStale
}
