package rfc9111

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	"edge/cachestore"
)

func TestRanges(t *testing.T) {
	one := func(start, length int64) []Range { return []Range{{start, length}} }
	tests := []struct {
		name, value string
		size        int64
		answer      RangeAnswer
		want        []Range
	}{
		{"14.1.2 first bytes", "bytes=0-499", 10000, RangePartial, one(0, 500)},
		{"14.1.2 some bytes", "bytes=500-999", 10000, RangePartial, one(500, 500)},
		{"14.1.2 to the end", "bytes=9500-", 10000, RangePartial, one(9500, 500)},
		{"14.1.2 past the end", "bytes=9500-20000", 10000, RangePartial, one(9500, 500)},
		{"14.1.2 the last bytes", "bytes=-500", 10000, RangePartial, one(9500, 500)},
		{"14.1.2 more last bytes than there are", "bytes=-20000", 10000, RangePartial, one(0, 10000)},
		{"14.1.2 one byte", "bytes=0-0", 10, RangePartial, one(0, 1)},
		{"14.1.2 the last byte", "bytes=9-9", 10, RangePartial, one(9, 1)},
		{"14.1.2 first and last", "bytes=0-0,-1", 10, RangePartial, []Range{{0, 1}, {9, 1}}},
		{"14.1.2 white space", "bytes= 0-999, 4500-5499,\t-1000", 10000, RangePartial, []Range{{0, 1000}, {4500, 1000}, {9000, 1000}}},
		{"5.6.1 empty members", "bytes=,0-0,,5-5,", 10, RangePartial, []Range{{0, 1}, {5, 1}}},
		{"14.1 case of the unit", "BYTES=0-0", 10, RangePartial, one(0, 1)},
		{"14.1.2 the first cannot be had", "bytes=20-,0-0", 10, RangePartial, one(0, 1)},
		{"14.1.2 beyond the end", "bytes=10-", 10, RangeUnsatisfiable, nil},
		{"14.1.2 all beyond the end", "bytes=10-,20-30", 10, RangeUnsatisfiable, nil},
		{"14.1.2 no last bytes", "bytes=-0", 10, RangeUnsatisfiable, nil},
		{"14.1.2 nothing of nothing", "bytes=0-", 0, RangeUnsatisfiable, nil},
		{"14.1.2 the end of nothing is satisfied by nothing", "bytes=-5", 0, RangeNone, nil},
		{"14.1.2 numbers too large", "bytes=1-99999999999999999999999999", 10, RangePartial, one(1, 9)},
		{"14.1.2 positions too large", "bytes=99999999999999999999999998-99999999999999999999999999", 10, RangeUnsatisfiable, nil},
		{"14.1.2 a suffix too large", "bytes=-99999999999999999999999999", 10, RangePartial, one(0, 10)},
		{"14.1.2 the largest numbers", "bytes=9223372036854775806-9223372036854775807", 10, RangeUnsatisfiable, nil},

		{"14.1.1 backwards", "bytes=5-4", 10, RangeNone, nil},
		{"14.1.1 one of them backwards", "bytes=0-0,5-4", 10, RangeNone, nil},
		{"14.1.1 not a range", "bytes=cow", 10, RangeNone, nil},
		{"14.1.1 a number", "bytes=5", 10, RangeNone, nil},
		{"14.1.1 nothing", "bytes=", 10, RangeNone, nil},
		{"14.1.1 a bare dash", "bytes=-", 10, RangeNone, nil},
		{"14.1.1 two dashes", "bytes=--5", 10, RangeNone, nil},
		{"14.1.1 white space within", "bytes=0 - 5", 10, RangeNone, nil},
		{"14.1.1 signs", "bytes=+0-5", 10, RangeNone, nil},
		{"14.1.1 no equals sign", "bytes 0-5", 10, RangeNone, nil},
		{"14.1.1 space before the equals sign", "bytes =0-5", 10, RangeNone, nil},
		{"14.2 another unit", "items=0-5", 10, RangeNone, nil},

		{"14.1.2 touching become one", "bytes=500-600,601-999", 10000, RangePartial, one(500, 500)},
		{"14.1.2 overlapping become one", "bytes=500-700,601-999", 10000, RangePartial, one(500, 500)},
		{"one within another", "bytes=0-99,10-19", 10000, RangePartial, one(0, 100)},
		{"one byte apart stay apart", "bytes=0-4,6-9", 10000, RangePartial, []Range{{0, 5}, {6, 4}}},
		{"in the order asked", "bytes=50-59,0-9,55-69", 10000, RangePartial, []Range{{50, 20}, {0, 10}}},
		{"joined by a third", "bytes=0-9,20-29,10-19", 10000, RangePartial, one(0, 30)},
		{"17.15 one over and over", "bytes=" + strings.Repeat("0-,", 200) + "0-", 10000, RangePartial, one(0, 10000)},
		{"17.15 as many as allowed", "bytes=0-0,2-2,4-4,6-6", 10, RangePartial, []Range{{0, 1}, {2, 1}, {4, 1}, {6, 1}}},
		{"17.15 more than allowed", "bytes=0-0,2-2,4-4,6-6,8-8", 10, RangeNone, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			answer, ranges := Ranges("GET", http.Header{"Range": {test.value}}, 200, cachestore.Head{}, test.size, 4)
			if answer != test.answer || !slices.Equal(ranges, test.want) {
				t.Errorf("%q of %d bytes: %v %v; want %v %v", test.value, test.size, answer, ranges, test.answer, test.want)
			}
		})
	}
}

func TestRangesThatDoNotApply(t *testing.T) {
	stored := cachestore.NewHead(header(`Etag: "abc"`, "Last-Modified: {-1h}", "Date: {0}"))
	weak := cachestore.NewHead(header(`Etag: W/"abc"`, "Last-Modified: {0}", "Date: {0}"))
	tests := []struct {
		name   string
		method string
		status int
		head   cachestore.Head
		limit  int
		req    http.Header
		want   RangeAnswer
	}{
		{"none", "GET", 200, stored, 8, header(), RangeNone},
		{"14.2 GET", "GET", 200, stored, 8, header("Range: bytes=0-0"), RangePartial},
		{"14.2 HEAD", "HEAD", 200, stored, 8, header("Range: bytes=0-0"), RangeNone},
		{"14.2 another status", "GET", 404, stored, 8, header("Range: bytes=0-0"), RangeNone},
		{"two fields", "GET", 200, stored, 8, header("Range: bytes=0-0", "Range: bytes=1-1"), RangeNone},
		{"switched off", "GET", 200, stored, 0, header("Range: bytes=0-0"), RangeNone},
		{"13.1.5 the tag", "GET", 200, stored, 8, header("Range: bytes=0-0", `If-Range: "abc"`), RangePartial},
		{"13.1.5 another tag", "GET", 200, stored, 8, header("Range: bytes=0-0", `If-Range: "x"`), RangeNone},
		{"13.1.5 and a range that cannot be had", "GET", 200, stored, 8, header("Range: bytes=500-", `If-Range: "x"`), RangeNone},
		{"13.1.5 a weak tag", "GET", 200, stored, 8, header("Range: bytes=0-0", `If-Range: W/"abc"`), RangeNone},
		{"13.1.5 weak on both sides", "GET", 200, weak, 8, header("Range: bytes=0-0", `If-Range: W/"abc"`), RangeNone},
		{"13.1.5 the date", "GET", 200, stored, 8, header("Range: bytes=0-0", "If-Range: {-1h}"), RangePartial},
		{"13.1.5 a later date is not the same", "GET", 200, stored, 8, header("Range: bytes=0-0", "If-Range: {0}"), RangeNone},
		{"8.8.2.2 a date that may have changed within its second", "GET", 200, weak, 8, header("Range: bytes=0-0", "If-Range: {0}"), RangeNone},
		{"13.1.5 neither", "GET", 200, stored, 8, header("Range: bytes=0-0", "If-Range: abc"), RangeNone},
		{"13.1.5 empty", "GET", 200, stored, 8, header("Range: bytes=0-0", "If-Range: "), RangeNone},
		{"13.1.5 without a Range it is ignored", "GET", 200, stored, 8, header(`If-Range: "abc"`), RangeNone},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got, ranges := Ranges(test.method, test.req, test.status, test.head, 100, test.limit); got != test.want {
				t.Errorf("%v, %v; want %v", got, ranges, test.want)
			}
		})
	}
}

// Against a naive model: what is answered covers exactly the bytes that were asked
// for, each once.
func TestRangesCoverWhatWasAsked(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		size := 1 + random.Int64N(40)
		asked := make([]bool, size)
		var specs []string
		for range 1 + random.IntN(6) {
			from := random.Int64N(50)
			to := from + random.Int64N(10)
			switch random.IntN(4) {
			case 0:
				specs = append(specs, fmt.Sprintf("-%d", from))
				from, to = max(0, size-from), size-1
			case 1:
				specs = append(specs, fmt.Sprintf("%d-", from))
				to = size - 1
			default:
				specs = append(specs, fmt.Sprintf("%d-%d", from, to))
			}
			for i := from; i <= min(to, size-1); i++ {
				asked[i] = true
			}
		}
		value := "bytes=" + strings.Join(specs, ", ")
		answer, ranges := Ranges("GET", http.Header{"Range": {value}}, 200, cachestore.Head{}, size, 100)
		got := make([]bool, size)
		for _, r := range ranges {
			for i := r.Start; i < r.Start+r.Length; i++ {
				if got[i] {
					t.Fatalf("%s of %d: byte %d twice in %v", value, size, i, ranges)
				}
				got[i] = true
			}
		}
		if !slices.Equal(got, asked) || (answer == RangePartial) != slices.Contains(asked, true) {
			t.Fatalf("%s of %d: %v, %v", value, size, answer, ranges)
		}
	}
}

func FuzzRanges(f *testing.F) {
	f.Add("bytes=0-0,-1", int64(10), 8)
	f.Add("bytes= 5-, 3-4,,9223372036854775807-", int64(6), 1)
	f.Add("bytes=-99999999999999999999", int64(0), 2)
	f.Fuzz(func(t *testing.T, value string, size int64, limit int) {
		answer, ranges := Ranges("GET", http.Header{"Range": {value}}, 200, cachestore.Head{}, size, limit)
		if (answer == RangePartial) != (len(ranges) > 0) || len(ranges) > max(limit, 0) {
			t.Fatalf("%q: %v with %d ranges, limit %d", value, answer, len(ranges), limit)
		}
		total := int64(0)
		for _, r := range ranges {
			if r.Start < 0 || r.Length <= 0 || r.Start > size-r.Length {
				t.Errorf("%q: %v lies outside of %d bytes", value, r, size)
			}
			total += r.Length
		}
		if total > max(size, 0) {
			t.Errorf("%q: %d bytes of %d", value, total, size)
		}
	})
}

func BenchmarkRanges(b *testing.B) {
	head := cachestore.NewHead(header(`Etag: "abc"`))
	for name, req := range map[string]http.Header{
		"none":    browser,
		"one":     header("Range: bytes=0-499"),
		"several": header("Range: bytes=0-1,5-6,10-11,20-"),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Ranges("GET", req, 200, head, 10000, 8)
			}
		})
	}
}
