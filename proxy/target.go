package proxy

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// normalAuthority returns the host in lower case, with the port unless it is the
// scheme's own. It refuses what is not a plain name or address with an optional
// port: the authority stands in every key (RFC 9110 section 4.2.3).
func normalAuthority(host, scheme string) (string, bool) {
	name, port := host, ""
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		name, port = host[:i], host[i+1:]
		if !validPort(port) {
			return "", false
		}
	}
	if !validHost(name) {
		return "", false
	}
	if port != "" && (scheme == "http" && port == "80" || scheme == "https" && port == "443") {
		host = name
	}
	return strings.ToLower(host), true
}

func validPort(port string) bool {
	n := 0
	for _, c := range []byte(port) {
		if c < '0' || c > '9' {
			return false
		}
		if n = n*10 + int(c-'0'); n > 65535 {
			return false
		}
	}
	return n > 0 && port[0] != '0'
}

func validHost(name string) bool {
	if inner, ok := strings.CutPrefix(name, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		return ok && inner != "" && strings.Trim(inner, "0123456789abcdefABCDEF:.") == ""
	}
	if name == "" || len(name) > 255 {
		return false
	}
	for _, c := range []byte(name) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_') {
			return false
		}
	}
	return true
}

// normaliseTarget gives the request's path its canonical form in place: dot
// segments removed, unreserved characters decoded, hexadecimal in upper case (RFC
// 3986 section 6.2.2). The origin is sent this form, so that route, key and
// origin cannot disagree. It returns what is wrong with a target that has no
// unambiguous form, or "". The query is kept byte for byte.
func normaliseTarget(r *http.Request) (wrong string) {
	for _, c := range []byte(r.RequestURI) {
		if c <= ' ' || c >= 0x7f || c == '#' {
			return "The target holds a byte that must be encoded."
		}
	}
	path := rawPath(r.URL)
	switch {
	case path == "*" && r.Method == http.MethodOptions:
		return ""
	case path == "" && r.Method == http.MethodOptions && r.URL.RawQuery == "" && !r.URL.ForceQuery:
		r.URL.Path = "*" // what an empty path of an absolute target means there (RFC 9112 section 3.2.4)
		return ""
	case len(path) > 0 && path[0] == '/' && plainPath(path):
		return ""
	}
	path, wrong = normalPath(path)
	if wrong != "" {
		return wrong
	}
	decoded, err := url.PathUnescape(path)
	if err != nil || strings.IndexByte(decoded, 0) >= 0 {
		return "The path is not correctly encoded."
	}
	r.URL.Path, r.URL.RawPath = decoded, path
	return ""
}

// rawPath returns the path as it was written, with those bytes encoded that may not
// stand in one. (URL.EscapedPath encodes the decoded path anew when there is such a
// byte, and no longer tells "%2F" from "/" then.)
func rawPath(u *url.URL) string {
	if u.RawPath == "" {
		return u.EscapedPath()
	}
	var out strings.Builder
	for _, c := range []byte(u.RawPath) {
		if pathByte[c] || c == '%' {
			out.WriteByte(c)
		} else {
			fmt.Fprintf(&out, "%%%02X", c)
		}
	}
	return out.String()
}

// normalPath returns an encoded path in its canonical form, or what is wrong with
// it.
func normalPath(path string) (normal, wrong string) {
	switch {
	case path == "":
		return "/", ""
	case path[0] != '/':
		return "", "The target is not a path."
	case plainPath(path):
		return path, ""
	}
	path = normalEscapes(path)
	if ambiguousDots(path) {
		return "", "The path mixes encoded separators with dot segments."
	}
	return removeDotSegments(path), ""
}

// plainPath reports whether a path is its own canonical form: nothing encoded,
// and no dot begins a segment.
func plainPath(path string) bool {
	return strings.IndexByte(path, '%') < 0 && !strings.Contains(path, "/.")
}

// normalEscapes decodes unreserved characters and writes the other escapes in
// upper case.
func normalEscapes(path string) string {
	if strings.IndexByte(path, '%') < 0 {
		return path
	}
	var out strings.Builder
	out.Grow(len(path))
	for i := 0; i < len(path); i++ {
		if path[i] != '%' || i+2 >= len(path) {
			out.WriteByte(path[i])
			continue
		}
		c := unhex(path[i+1])<<4 | unhex(path[i+2])
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			out.WriteByte(c)
		} else {
			out.WriteString(strings.ToUpper(path[i : i+3]))
		}
		i += 2
	}
	return out.String()
}

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	default:
		return c - 'A' + 10
	}
}

// ambiguousDots reports a dot segment that only those see who take an encoded
// slash or a backslash for a separator: "/share/%2F..%2Fadmin" is one folder to
// us and another to some origins, so neither answer would be right for both.
func ambiguousDots(path string) bool {
	if !strings.Contains(path, "%2F") && !strings.Contains(path, "%5C") {
		return false
	}
	path = strings.NewReplacer("%2F", "/", "%5C", "/").Replace(path)
	return slices.ContainsFunc(strings.Split(path, "/"), func(segment string) bool {
		return segment == "." || segment == ".."
	})
}

// removeDotSegments is RFC 3986 section 5.2.4 for an absolute path.
func removeDotSegments(path string) string {
	segments := strings.Split(path[1:], "/")
	kept := segments[:0:0]
	for i, segment := range segments {
		last := i == len(segments)-1
		switch segment {
		case ".", "..":
			if segment == ".." && len(kept) > 0 {
				kept = kept[:len(kept)-1]
			}
			if last {
				kept = append(kept, "") // "/a/.." is the folder "/"
			}
		default:
			kept = append(kept, segment)
		}
	}
	return "/" + strings.Join(kept, "/")
}

// encodedControl reports whether a decoded path holds a control byte, which some
// origins take for its end. As nobody has a file of such a name, a route that caches by
// path refuses it.
func encodedControl(path string) bool {
	return strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// encodedDelimiter reports whether the path holds an escape that some origins
// take for the end of the path or for a separator. A rule that caches by path
// does not apply there: origin and rule would mean different resources (web cache
// deception).
func encodedDelimiter(escaped string) bool {
	if strings.IndexByte(escaped, ';') >= 0 {
		return true
	}
	for i := strings.IndexByte(escaped, '%'); i >= 0 && i+2 < len(escaped); {
		c := unhex(escaped[i+1])<<4 | unhex(escaped[i+2])
		if c < ' ' || c == 0x7f || strings.IndexByte("/\\?#&;!$", c) >= 0 {
			return true
		}
		next := strings.IndexByte(escaped[i+1:], '%')
		if next < 0 {
			return false
		}
		i += 1 + next
	}
	return false
}

// queryRule changes the query that is keyed and sent.
type queryRule struct {
	sort  bool
	allow []string // raw names; nil keeps all
	deny  []string
}

// apply returns the query under the rule. Parameters are split at '&' only and
// compared by their raw names: to split or decode as some origins do would let
// one parameter hide in another (parameter cloaking).
func (q *queryRule) apply(raw string) string {
	if raw == "" || !q.sort && q.allow == nil && q.deny == nil {
		return raw
	}
	params := strings.Split(raw, "&")
	params = slices.DeleteFunc(params, func(param string) bool {
		name, _, _ := strings.Cut(param, "=")
		return q.allow != nil && !slices.Contains(q.allow, name) || slices.Contains(q.deny, name)
	})
	if q.sort {
		// Stable, by name alone: the order of equal names means something.
		slices.SortStableFunc(params, func(a, b string) int {
			nameA, _, _ := strings.Cut(a, "=")
			nameB, _, _ := strings.Cut(b, "=")
			return strings.Compare(nameA, nameB)
		})
	}
	return strings.Join(params, "&")
}
