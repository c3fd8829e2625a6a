package rfc9111

import (
	"encoding/binary"
	"net/http"
	"slices"
	"strings"
)

// VaryOn returns the request fields that select a response: lower-case, sorted and
// without duplicates, nil when there are none. Star says that it depends on more
// than that and matches no request; so does a member that is no field name, since
// nothing can be compared with it (RFC 9110 section 12.5.5, RFC 9111 section 4.1).
func VaryOn(res http.Header) (fields []string, star bool) {
	for _, line := range res["Vary"] {
		for name := range strings.SplitSeq(line, ",") {
			switch name = trimOWS(name); {
			case name == "":
			case name == "*", !isToken(name):
				return nil, true
			default:
				fields = append(fields, strings.ToLower(name))
			}
		}
	}
	slices.Sort(fields)
	return slices.Compact(fields), false
}

// Variant returns the canonical form of the request fields that VaryOn returned
// (RFC 9111 section 4.1): two requests have the same variant if and only if those
// fields match. It is the same on every node, is "" only when fields is empty, and
// holds the fields' names, so that lists of different fields never meet. It
// allocates the string that it returns, and more only if that is longer than 512
// bytes.
//
// Lines of one field are joined and trimmed. White space, case and order are
// levelled out only where the field's own definition says that they mean nothing:
// in Accept-Encoding (see NormalAcceptEncoding), Accept-Language, Accept and
// Accept-Charset, each as long as it is well formed. A field that is absent matches
// only where it is absent.
func Variant(fields []string, req http.Header) string {
	if len(fields) == 0 {
		return ""
	}
	var space [512]byte
	return string(AppendVariant(space[:0], fields, req))
}

// AppendVariant appends what Variant returns to dst.
func AppendVariant(dst []byte, fields []string, req http.Header) []byte {
	for _, name := range fields {
		dst = appendLengthPrefixed(dst, name)
		dst = appendSelecting(dst, name, lookup(req, name))
	}
	return dst
}

// What a selecting field's bytes begin with, so that no value that stands as it
// came can be taken for the normal form of another.
const (
	fieldAbsent   = 0
	fieldVerbatim = 1 // length-prefixed, lines joined
	fieldNormal   = 2 // length-prefixed, in the field's normal form
)

func appendSelecting(dst []byte, name string, lines []string) []byte {
	if len(lines) == 0 {
		return append(dst, fieldAbsent)
	}
	start, ok := len(dst), false
	switch name {
	case "accept-encoding":
		dst, ok = append(dst, NormalAcceptEncoding(lines)...), true
	case "accept-language":
		dst, ok = appendLanguages(dst, lines)
	case "accept", "accept-charset":
		dst, ok = appendWithoutSpace(dst, lines)
	}
	if ok {
		return prefixed(dst, start, fieldNormal)
	}
	return prefixed(appendJoined(dst[:start], lines), start, fieldVerbatim)
}

// lookup finds a field by its lower-case name without allocating.
func lookup(h http.Header, name string) []string {
	var space [64]byte
	if len(name) > len(space) {
		return h[http.CanonicalHeaderKey(name)]
	}
	canonical := space[:len(name)]
	upper := true
	for i := range len(name) {
		c := name[i]
		if upper && 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		canonical[i] = c
		upper = c == '-'
	}
	return h[string(canonical)]
}

// appendJoined combines lines as RFC 9110 section 5.3 has it.
func appendJoined(dst []byte, lines []string) []byte {
	for i, line := range lines {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = append(dst, trimOWS(line)...)
	}
	return dst
}

// appendWithoutSpace combines lines and leaves out empty members and the white
// space that a list of items with parameters allows (RFC 9110 sections 5.6.1 and
// 5.6.6). It returns false when the list is not well formed.
func appendWithoutSpace(dst []byte, lines []string) ([]byte, bool) {
	start := len(dst)
	for i, line := range lines {
		if i > 0 {
			dst = appendComma(dst, start)
		}
		for line = trimOWS(line); line != ""; {
			switch c := line[0]; c {
			case ' ', '\t':
				left := strings.TrimLeft(line, " \t")
				if !listMark(left[0]) && len(dst) > start && !listMark(dst[len(dst)-1]) {
					return dst, false // it stands between two words
				}
				line = left
			case ',':
				dst, line = appendComma(dst, start), line[1:]
			case '"':
				_, after, closed := cutQuoted(line)
				if !closed {
					return dst, false
				}
				dst, line = append(dst, line[:len(line)-len(after)]...), after
			default:
				dst, line = append(dst, c), line[1:]
			}
		}
	}
	if len(dst) > start && dst[len(dst)-1] == ',' {
		dst = dst[:len(dst)-1]
	}
	return dst, true
}

// appendComma ends a member of the list that begins at start, if there is one.
func appendComma(dst []byte, start int) []byte {
	if len(dst) == start || dst[len(dst)-1] == ',' {
		return dst
	}
	return append(dst, ',')
}

func listMark(c byte) bool { return c == ',' || c == ';' }

func appendLengthPrefixed(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// prefixed puts a mark and the length of dst[start:] before it.
func prefixed(dst []byte, start int, mark byte) []byte {
	var space [1 + binary.MaxVarintLen64]byte
	space[0] = mark
	prefix := space[:1+binary.PutUvarint(space[1:], uint64(len(dst)-start))]
	dst = append(dst, prefix...)
	copy(dst[start+len(prefix):], dst[start:])
	copy(dst[start:], prefix)
	return dst
}
