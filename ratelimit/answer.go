package ratelimit

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The fields are those of draft-ietf-httpapi-ratelimit-headers: lists of structured
// fields (RFC 9651) whose members are the names of policies. Another gate, or an
// origin behind us, may have members of its own; so lines are added and none is
// replaced. X-RateLimit-* can say one thing only, and that is the strictest.

// Problem types of the draft.
const (
	typeExceeded = "https://iana.org/assignments/http-problem-types#quota-exceeded"
	typeReduced  = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
)

// Annotate adds to the header of an answer that is let through what its policies have
// for it.
func (v *Verdict) Annotate(h http.Header) {
	var policies, limits []byte
	for i := range v.Decisions {
		d := &v.Decisions[i]
		if d.DryRun {
			continue
		}
		if d.policy.Headers {
			policies = d.appendPolicy(policies)
			if d.Counted {
				limits = d.appendLimit(limits)
			}
		}
		if d.policy.Legacy && d.Counted {
			d.setLegacy(h)
		}
	}
	addLines(h, policies, limits)
}

func addLines(h http.Header, policies, limits []byte) {
	if policies != nil {
		h["Ratelimit-Policy"] = append(h["Ratelimit-Policy"], string(policies))
	}
	if limits != nil {
		h["Ratelimit"] = append(h["Ratelimit"], string(limits))
	}
}

// appendPolicy appends the decision's member of RateLimit-Policy.
func (d *Decision) appendPolicy(dst []byte) []byte {
	dst = append(appendName(dst, d.Policy), ";q="...)
	dst = strconv.AppendInt(dst, d.Limit, 10)
	if d.Window == 0 {
		return append(dst, `;qu="concurrent-requests"`...)
	}
	return strconv.AppendInt(append(dst, ";w="...), seconds(d.Window), 10)
}

// appendLimit appends the decision's member of RateLimit.
func (d *Decision) appendLimit(dst []byte) []byte {
	dst = append(appendName(dst, d.Policy), ";r="...)
	dst = strconv.AppendInt(dst, d.Remaining, 10)
	if d.Reset > 0 {
		dst = strconv.AppendInt(append(dst, ";t="...), seconds(d.Reset), 10)
	}
	return dst
}

// appendName appends a member of a list: a String (RFC 9651 section 4.1.6).
func appendName(dst []byte, name string) []byte {
	if dst != nil {
		dst = append(dst, ", "...)
	}
	dst = append(dst, '"')
	for i := range len(name) {
		if name[i] == '"' || name[i] == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, name[i])
	}
	return append(dst, '"')
}

// setLegacy sets the older fields, unless there are some that leave less.
func (d *Decision) setLegacy(h http.Header) {
	if there, err := strconv.ParseInt(h.Get("X-Ratelimit-Remaining"), 10, 64); err == nil && there <= d.Remaining {
		return
	}
	h["X-Ratelimit-Limit"] = []string{strconv.FormatInt(d.Limit, 10)}
	h["X-Ratelimit-Remaining"] = []string{strconv.FormatInt(d.Remaining, 10)}
	h["X-Ratelimit-Reset"] = []string{strconv.FormatInt(seconds(max(d.Reset, d.RetryAfter)), 10)}
}

// seconds rounds up, so that what is said to have come has come.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// Refusal is the error that answers a request over a limit.
type Refusal struct {
	Policies   []string      // that refuse
	RetryAfter time.Duration // a client that waits for so long, alone, is let pass by all of them

	reduced          bool // no limit was exceeded: Redis could not be asked
	policies, limits []byte
	legacy           *Decision
}

// Refusal returns the answer for a request that is not allowed.
func (v *Verdict) Refusal() *Refusal {
	if v.Allowed {
		panic("ratelimit: a refusal of what is allowed")
	}
	r := &Refusal{reduced: true}
	for i := range v.Decisions {
		d := &v.Decisions[i]
		if d.DryRun {
			continue
		}
		r.policies = d.appendPolicy(r.policies)
		if d.Allowed {
			continue
		}
		r.Policies = append(r.Policies, d.Policy)
		r.RetryAfter = max(r.RetryAfter, d.RetryAfter)
		if d.Counted {
			r.reduced = false
			// Those that would have allowed it are left out: Retry-After should not
			// be earlier than any time that is named here.
			r.limits = d.appendLimit(r.limits)
		}
		if d.policy.Legacy && (r.legacy == nil || d.RetryAfter > r.legacy.RetryAfter) {
			strictest := *d
			r.legacy = &strictest
		}
	}
	return r
}

// Error names the policies.
func (r *Refusal) Error() string {
	return "over the limit " + strings.Join(r.Policies, ", ") + ", for " + r.RetryAfter.String()
}

// Refuse answers with 429 (RFC 6585 section 4) and a problem (RFC 9457). It is never
// stored.
func (r *Refusal) Refuse(w http.ResponseWriter) {
	problem := struct {
		Type     string   `json:"type"`
		Title    string   `json:"title"`
		Status   int      `json:"status"`
		Policies []string `json:"violated-policies"`
	}{typeExceeded, "Request cannot be satisfied as assigned quota has been exceeded", http.StatusTooManyRequests, r.Policies}
	if r.reduced {
		problem.Type, problem.Title = typeReduced, "Request cannot be satisfied due to temporary server capacity constraints"
	}
	body, err := json.Marshal(problem)
	if err != nil {
		panic("ratelimit: a problem that has no JSON: " + err.Error())
	}
	body = append(body, '\n')
	h := w.Header()
	// What gates before this one have counted they get back: what they said of it holds
	// no longer, and may name a time after Retry-After.
	for _, field := range [...]string{"Ratelimit", "X-Ratelimit-Limit", "X-Ratelimit-Remaining", "X-Ratelimit-Reset"} {
		delete(h, field)
	}
	if r.legacy != nil {
		r.legacy.setLegacy(h)
	}
	addLines(h, r.policies, r.limits)
	h["Retry-After"] = []string{strconv.FormatInt(max(1, seconds(r.RetryAfter)), 10)}
	h["Content-Type"] = []string{"application/problem+json"}
	h["Cache-Control"] = []string{"no-store"}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(http.StatusTooManyRequests)
	_, _ = w.Write(body) // the client may be gone; there is nobody left to tell
}
