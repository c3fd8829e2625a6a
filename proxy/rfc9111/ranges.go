package rfc9111

import (
	"cmp"
	"math"
	"net/http"
	"slices"
	"strings"

	"edge/cachestore"
)

// Range is a run of bytes of a stored body: it lies within the body and is not empty.
type Range struct{ Start, Length int64 }

// RangeAnswer is how a request is answered with regard to its Range.
type RangeAnswer uint8

const (
	RangeNone          RangeAnswer = iota // 200 with the whole body
	RangePartial                          // 206 with the ranges
	RangeUnsatisfiable                    // 416
)

// Ranges says how a request is answered from a stored response with a body of size
// bytes (RFC 9110 sections 13.1.5 and 14.2). Only GET, status 200 and bytes are
// ranged. A Range that is malformed, in another unit, or guarded by an If-Range that
// does not hold is ignored. Ranges that overlap or touch become one, in the place of
// the first of them; those that cannot be satisfied are left out. If more than limit
// remain, or limit is zero, the whole body is the answer: so many ranges cost more
// than they save; so it is while size is below zero, not known yet. The caller has
// asked NotModified first. Without a Range it costs a look-up and does not allocate.
func Ranges(method string, req http.Header, status int, head cachestore.Head, size int64, limit int) (RangeAnswer, []Range) {
	lines := req["Range"]
	if len(lines) == 0 {
		return RangeNone, nil
	}
	if len(lines) > 1 || method != http.MethodGet || status != http.StatusOK || size < 0 || limit <= 0 {
		return RangeNone, nil
	}
	unit, set, _ := strings.Cut(lines[0], "=")
	if !equalFold(unit, "bytes") || !ifRangeHolds(req["If-Range"], head) {
		return RangeNone, nil
	}
	asked, ok := parseRanges(set, size)
	switch {
	case !ok:
		return RangeNone, nil
	case len(asked) == 0:
		return RangeUnsatisfiable, nil
	}
	if len(asked) > 1 {
		asked = coalesce(asked)
	}
	if len(asked) > limit {
		return RangeNone, nil
	}
	return RangePartial, asked
}

// ifRangeHolds evaluates If-Range by exact match: entity tags with the strong
// comparison, dates only if the stored Last-Modified is a strong validator (RFC 9110
// sections 13.1.5 and 8.8.2.2).
func ifRangeHolds(lines []string, head cachestore.Head) bool {
	switch {
	case len(lines) == 0:
		return true
	case len(lines) > 1:
		return false
	}
	if value := trimOWS(lines[0]); strings.Contains(value[:min(3, len(value))], `"`) {
		return strongMatch(value, head.Get("Etag"))
	}
	asked, ok := ParseDateAt(trimOWS(lines[0]), storedAt(head))
	if !ok {
		return false
	}
	modified, ok := ParseDate(head.Get("Last-Modified"))
	if !ok {
		return false
	}
	date, ok := ParseDate(head.Get("Date"))
	return ok && asked.Equal(modified) && modified.Before(date)
}

// parseRanges reads a range-set and returns the satisfiable ranges in the order
// asked. It returns false when the set is not well formed, or when it asks for the
// end of an empty body, which is satisfied by nothing that a 206 could say.
func parseRanges(set string, size int64) ([]Range, bool) {
	var ranges []Range
	named := false
	for spec := range strings.SplitSeq(set, ",") {
		if spec = trimOWS(spec); spec == "" {
			continue
		}
		first, last, ok := strings.Cut(spec, "-")
		if !ok {
			return nil, false
		}
		named = true
		r, satisfiable, ok := parseRange(first, last, size)
		if !ok {
			return nil, false
		}
		if satisfiable {
			ranges = append(ranges, r)
		}
	}
	return ranges, named
}

func parseRange(first, last string, size int64) (r Range, satisfiable, ok bool) {
	end := int64(math.MaxInt64)
	if last != "" {
		if end, ok = bytePosition(last); !ok {
			return Range{}, false, false
		}
	}
	if first == "" { // the last so many bytes
		if last == "" || size == 0 && end > 0 {
			return Range{}, false, false
		}
		length := min(end, size)
		return Range{size - length, length}, length > 0, true
	}
	start, ok := bytePosition(first)
	if !ok || end < start {
		return Range{}, false, false
	}
	if start >= size {
		return Range{}, false, true
	}
	return Range{start, min(end, size-1) - start + 1}, true, true
}

// bytePosition reads a decimal number of any length; what does not fit is taken as
// the largest that does (RFC 9110 section 14.1.2).
func bytePosition(s string) (int64, bool) {
	n := int64(0)
	for i := range len(s) {
		c := s[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		if n > (math.MaxInt64-9)/10 {
			n = math.MaxInt64 // and stays it
			continue
		}
		n = n*10 + int64(c-'0')
	}
	return n, s != ""
}

// coalesce joins ranges that overlap or touch. What it returns is in the order in
// which the first range of each was asked for.
func coalesce(asked []Range) []Range {
	type placed struct {
		Range
		place int
	}
	sorted := make([]placed, len(asked))
	for i, r := range asked {
		sorted[i] = placed{r, i}
	}
	slices.SortFunc(sorted, func(a, b placed) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), a.place-b.place)
	})
	joined := sorted[:1]
	for _, r := range sorted[1:] {
		last := &joined[len(joined)-1]
		if r.Start > last.Start+last.Length {
			joined = append(joined, r)
			continue
		}
		last.Length = max(last.Start+last.Length, r.Start+r.Length) - last.Start
		last.place = min(last.place, r.place)
	}
	slices.SortFunc(joined, func(a, b placed) int { return a.place - b.place })
	asked = asked[:len(joined)]
	for i, r := range joined {
		asked[i] = r.Range
	}
	return asked
}
