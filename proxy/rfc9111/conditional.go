package rfc9111

import (
	"net/http"
	"strings"
	"time"

	"edge/cachestore"
)

// NotModified says whether a request that the stored response can satisfy is
// answered with 304 (RFC 9111 section 4.3.2, RFC 9110 section 13.2.2): GET and HEAD
// only, stored statuses of 2xx only. If-None-Match counts before If-Modified-Since,
// which is compared with Last-Modified or, without one, Date. Preconditions that are
// for the origin alone are left out of account. It does not allocate.
func NotModified(method string, req http.Header, status int, head cachestore.Head) bool {
	tags, since := req["If-None-Match"], req["If-Modified-Since"]
	if len(tags) == 0 && len(since) == 0 {
		return false
	}
	if method != http.MethodGet && method != http.MethodHead || status < 200 || status > 299 {
		return false
	}
	if len(tags) > 0 {
		return noneMatchFails(tags, head)
	}
	return len(since) == 1 && notModifiedSince(since[0], head)
}

// noneMatchFails reports whether If-None-Match names the stored entity tag (RFC 9110
// section 13.1.2). A stored tag or a member that is not well formed matches where
// the two are the same: clients send what they were given.
func noneMatchFails(lines []string, head cachestore.Head) bool {
	stored := head.Get("Etag")
	for _, line := range lines {
		if trimOWS(line) == "*" {
			return true
		}
		for tag, left := nextTag(line); tag != ""; tag, left = nextTag(left) {
			if weakMatch(tag, stored) {
				return true
			}
		}
	}
	return false
}

// nextTag takes the first entity tag off a list. An entity tag has no escapes, and
// may hold commas (RFC 9110 section 8.8.3). Tag is "" when there is none.
func nextTag(list string) (tag, left string) {
	list = strings.TrimLeft(list, ", \t")
	opaque := strings.TrimPrefix(list, "W/")
	if strings.HasPrefix(opaque, `"`) {
		if length := strings.IndexByte(opaque[1:], '"'); length >= 0 {
			end := len(list) - len(opaque) + length + 2
			return list[:end], list[end:]
		}
	}
	tag, left, _ = strings.Cut(list, ",")
	return strings.TrimRight(tag, " \t"), left
}

func weakTag(tag string) bool { return strings.HasPrefix(tag, `W/"`) }

// weakMatch and strongMatch are the comparisons of RFC 9110 section 8.8.3.2.
func weakMatch(a, b string) bool {
	return a != "" && opaqueTag(a) == opaqueTag(b)
}

func strongMatch(a, b string) bool {
	return strings.HasPrefix(a, `"`) && a == b
}

func opaqueTag(tag string) string {
	if weakTag(tag) {
		return tag[len("W/"):]
	}
	return tag
}

// notModifiedSince reports whether the stored response is no newer than the date.
func notModifiedSince(value string, head cachestore.Head) bool {
	modified := head.Get("Last-Modified")
	if modified == "" {
		modified = head.Get("Date")
	}
	now := storedAt(head)
	since, ok := ParseDateAt(value, now)
	if !ok {
		return false
	}
	last, ok := ParseDateAt(modified, now)
	return ok && !last.After(since)
}

// storedAt is about when the response was made: enough to tell the century of a
// two-digit year.
func storedAt(head cachestore.Head) time.Time {
	if date, ok := ParseDate(head.Get("Date")); ok {
		return date
	}
	return pivot()
}

func sameDate(a, b string) bool {
	if a == b {
		return true
	}
	x, okX := ParseDate(a)
	y, okY := ParseDate(b)
	return okX && okY && x.Equal(y)
}

// StripFor304 removes from a header what a 304 made from a stored response leaves
// out (see LeftOutOf304).
func StripFor304(h http.Header) {
	hasTag := len(h["Etag"]) > 0
	for name := range h {
		if LeftOutOf304(name, hasTag) {
			delete(h, name)
		}
	}
}

// LeftOutOf304 names the fields of a stored response that are not in a 304 made from
// it (RFC 9110 section 15.4.5): what describes the content, and Last-Modified where an
// entity tag says it better.
func LeftOutOf304(name string, hasTag bool) bool {
	switch name {
	case "Content-Encoding", "Content-Language", "Content-Length", "Content-Range", "Content-Type", "Transfer-Encoding", "Trailer":
		return true
	case "Last-Modified":
		return hasTag
	}
	return false
}
