package rfc9111

import (
	"net/http"
	"slices"
	"strings"
)

// SafeMethod reports whether a method is defined as safe: GET, HEAD, OPTIONS and
// TRACE (RFC 9110 section 9.2.1). A method that is not known is not safe.
func SafeMethod(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// HopByHop reports whether a field with this canonical name is for one
// connection only and is neither forwarded nor stored (RFC 9110 section 7.6.1),
// or belongs to the proxy that a message came through and is never stored (RFC
// 9111 section 3.1). Fields that Connection names are beside these.
func HopByHop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Te", "TE", "Trailer", "Transfer-Encoding", "Upgrade",
		"Proxy-Authenticate", "Proxy-Authorization", "Proxy-Authentication-Info":
		return true
	}
	return false
}

// StoredHeader returns a new header with the fields of res that a cache stores:
// all but hop-by-hop fields, those that Connection names, and those in omit
// (Storage.Omit). The value slices are copies (RFC 9111 section 3.1).
func StoredHeader(res http.Header, omit []string) http.Header {
	skip := connectionNames(res)
	stored := make(http.Header, len(res))
	for name, values := range res {
		if HopByHop(name) || slices.Contains(skip, name) || slices.Contains(omit, name) {
			continue
		}
		stored[name] = slices.Clone(values)
	}
	return stored
}

// connectionNames returns the canonical names that Connection lists.
func connectionNames(h http.Header) []string {
	var names []string
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = trimOWS(name); name != "" {
				names = append(names, http.CanonicalHeaderKey(name))
			}
		}
	}
	return names
}

// validator reports whether a header has something to revalidate with.
func validator(h http.Header) bool {
	_, lastModified := single(h, "Last-Modified")
	_, etag := single(h, "Etag")
	if lastModified {
		_, lastModified = ParseDate(h["Last-Modified"][0])
	}
	return etag || lastModified
}

// single returns the value of a field that may stand only once. A field that is
// empty, or has lines that differ, has no value to rely on.
func single(h http.Header, name string) (string, bool) { return singleValue(h[name]) }

func singleValue(lines []string) (string, bool) {
	if len(lines) == 0 || lines[0] == "" {
		return "", false
	}
	for _, line := range lines[1:] {
		if line != lines[0] {
			return "", false
		}
	}
	return lines[0], true
}

func trimOWS(s string) string { return strings.Trim(s, " \t") }

// tokenByte reports whether c may stand in a token (RFC 9110 section 5.6.2).
func tokenByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

func isToken(s string) bool {
	for i := range len(s) {
		if !tokenByte(s[i]) {
			return false
		}
	}
	return s != ""
}
