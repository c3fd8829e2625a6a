package rfc9111

import (
	"net/http"
	"slices"
	"strconv"

	"edge/cachestore"
)

// Conditional makes dst ask whether a stored response is still good: it sets
// If-None-Match and If-Modified-Since from the stored ETag and Last-Modified, as
// they stand, and removes every other precondition and Range, which would make the
// answer speak of something else (RFC 9111 section 4.3.1). Without a validator it
// returns false and leaves dst alone.
func Conditional(dst http.Header, stored cachestore.Head) bool {
	etag, hasETag := singleValue(stored.Values("Etag"))
	modified, hasModified := singleValue(stored.Values("Last-Modified"))
	if hasModified {
		_, hasModified = ParseDate(modified)
	}
	if !hasETag && !hasModified {
		return false
	}
	for _, name := range [...]string{"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range", "Range"} {
		delete(dst, name)
	}
	if hasETag {
		dst["If-None-Match"] = []string{etag}
	}
	if hasModified {
		dst["If-Modified-Since"] = []string{modified}
	}
	return true
}

// Validates says whether a 304 with this header speaks of the stored response (RFC
// 9111 section 4.3.4). A strong entity tag must be the stored one; a weak one must
// match it weakly; without entity tags a Last-Modified must be the stored one. A
// 304 without any validator answers the only validators that were sent, those that
// Conditional took from the stored response.
func Validates(stored cachestore.Head, res http.Header) bool {
	if lines := res["Etag"]; len(lines) > 0 {
		tag, ok := singleValue(lines)
		if !ok {
			return false
		}
		if weakTag(tag) {
			return weakMatch(tag, stored.Get("Etag"))
		}
		return tag == stored.Get("Etag")
	}
	if lines := res["Last-Modified"]; len(lines) > 0 {
		modified, ok := singleValue(lines)
		return ok && sameDate(modified, stored.Get("Last-Modified"))
	}
	return true
}

// Merge returns the stored header as a 304, or the response to a HEAD, updates it
// (RFC 9111 section 3.2): each field of res replaces the stored one, but for those
// that are not stored (StoredHeader; omit is Storage.Omit and whatever else the
// caller keeps out, such as a Set-Cookie for the one client that asked),
// Content-Length, and the two fields that say what the stored bytes are and would
// corrupt them: Content-Encoding and Content-Range. A stored Age, which counted from
// before, goes. The caller has given res a Date if it had none. The result is the
// caller's to change.
func Merge(stored cachestore.Head, res http.Header, omit []string) http.Header {
	merged := stored.Header()
	delete(merged, "Age")
	for name, values := range StoredHeader(res, omit) {
		switch name {
		case "Content-Length", "Content-Encoding", "Content-Range":
			continue
		}
		merged[name] = values
	}
	for _, name := range omit {
		delete(merged, name)
	}
	return merged
}

// Freshening is what the 200 answer to a HEAD does to a stored response to GET.
type Freshening uint8

const (
	HeadSaysNothing Freshening = iota // nothing in it could be compared
	HeadFreshens                      // update the stored response with it (Merge)
	HeadInvalidates                   // the stored response is stale
)

// Freshen compares a stored response, with a body of storedSize bytes, with the
// header of a 200 response to a HEAD that could have selected it (RFC 9111 section
// 4.3.5): every validator and the Content-Length, where they are there, must be the
// same. A header with none of them shows nothing about the stored body, and is not
// taken as a reason to use it for longer.
func Freshen(stored cachestore.Head, storedSize int64, res http.Header) Freshening {
	answer := HeadSaysNothing
	for _, name := range [...]string{"Etag", "Last-Modified"} {
		lines := res[name]
		if len(lines) == 0 {
			continue
		}
		if !slices.Equal(lines, stored.Values(name)) {
			return HeadInvalidates
		}
		answer = HeadFreshens
	}
	if lines := res["Content-Length"]; len(lines) > 0 {
		length, err := strconv.ParseUint(lines[0], 10, 63)
		if err != nil || len(lines) > 1 {
			return HeadSaysNothing
		}
		if int64(length) != storedSize {
			return HeadInvalidates
		}
		answer = HeadFreshens
	}
	return answer
}
