package purge

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// Request is one call of the purge interface, in Go and as JSON. It must select
// something; several selectors, of one kind or of many, are purged together.
type Request struct {
	SurrogateKeys []string `json:"surrogate_keys,omitempty"` // every response that carries one of these keys
	URLs          []string `json:"urls,omitempty"`           // absolute; all variants of each
	IgnoreQuery   bool     `json:"ignore_query,omitempty"`   // URLs stand for themselves with every query
	Prefixes      []string `json:"prefixes,omitempty"`       // absolute URLs; each with all that lies below it, segment by segment
	Hosts         []string `json:"hosts,omitempty"`          // everything under each of these hosts, a port included
	All           bool     `json:"all,omitempty"`            // everything

	// Site is the only one in which anything is purged. Empty is every site that
	// the caller may purge: for URLs, prefixes and hosts the one that answers for them.
	Site string `json:"site,omitempty"`

	Soft bool `json:"soft,omitempty"` // stale from now on, and still of use as stale content is; otherwise gone

	// Wait says what is waited for, and Timeout for how long; zero means
	// WaitNode, and two seconds. At most MaxTimeout.
	Wait    Wait          `json:"wait,omitempty"`
	Timeout time.Duration `json:"-"` // as JSON "timeout", text such as "2s"
}

// Wait names who must have applied a purge before it is answered.
type Wait string

const (
	WaitNode    Wait = "node"    // the node that was asked
	WaitCluster Wait = "cluster" // every node of the fleet
)

// Bounds of a Request's Timeout.
const (
	DefaultTimeout = 2 * time.Second
	MaxTimeout     = 60 * time.Second
)

// MarshalJSON writes the request as the handler reads it.
func (q Request) MarshalJSON() ([]byte, error) {
	type plain Request // without this method
	timeout := ""
	if q.Timeout != 0 {
		timeout = q.Timeout.String()
	}
	return json.Marshal(struct {
		plain
		Timeout string `json:"timeout,omitempty"`
	}{plain(q), timeout})
}

// selectors is how many the request names.
func (q *Request) selectors() int {
	n := len(q.SurrogateKeys) + len(q.URLs) + len(q.Prefixes) + len(q.Hosts)
	if q.All {
		n++
	}
	return n
}

// Error is a call that was refused, or failed. It is what the handler answers, as
// problem+json (RFC 9457), and what the client returns.
type Error struct {
	Status int    `json:"status"`          // of the answer
	Title  string `json:"title"`           // the status in words
	Detail string `json:"detail"`          // one sentence for a person
	Field  string `json:"field,omitempty"` // of the request that is wrong, such as "urls[2]"
}

// Error returns the detail, or else the title, with the field before it.
func (e *Error) Error() string {
	text := cmp.Or(e.Detail, e.Title)
	if e.Field != "" {
		text = e.Field + ": " + text
	}
	return fmt.Sprintf("purge: %s (status %d)", text, e.Status)
}

// Unwrap returns the sentinel that the status stands for: ErrNotRecorded or
// ErrUnknownPurge, or nil.
func (e *Error) Unwrap() error {
	switch e.Status {
	case http.StatusServiceUnavailable:
		return ErrNotRecorded
	case http.StatusNotFound:
		return ErrUnknownPurge
	default:
		return nil
	}
}

// wrong is a request that cannot be understood, and where.
func wrong(field, format string, args ...any) *Error {
	return problem(http.StatusBadRequest, field, format, args...)
}

func problem(status int, field, format string, args ...any) *Error {
	return &Error{Status: status, Title: http.StatusText(status), Detail: fmt.Sprintf(format, args...), Field: field}
}
