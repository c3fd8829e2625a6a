package rfc9111

import (
	"net/http"
	"testing"
	"time"
)

func TestParseRequest(t *testing.T) {
	seconds := func(n int) Limit { return Limit{true, time.Duration(n) * time.Second} }
	tests := []struct {
		name   string
		header http.Header
		want   Directives
	}{
		{"nothing", http.Header{"Accept": {"*/*"}}, Directives{}},
		{"no header at all", nil, Directives{}},
		{"5.2.1.1 max-age", cc("max-age=60"), Directives{MaxAge: seconds(60)}},
		{"5.2.1.1 max-age of zero is one", cc("max-age=0"), Directives{MaxAge: seconds(0)}},
		{"5.2 quoted form", cc(`max-age="60"`), Directives{MaxAge: seconds(60)}},
		{"5.2 case", cc("Max-AGE=60, No-Cache"), Directives{MaxAge: seconds(60), NoCache: true}},
		{"5.2.1.2 max-stale", cc("max-stale=10"), Directives{MaxStale: seconds(10)}},
		{"5.2.1.2 max-stale without a value", cc("max-stale"), Directives{MaxStale: Limit{true, AnyStale}}},
		{"the smaller max-stale counts", cc("max-stale, max-stale=10, max-stale=20"), Directives{MaxStale: seconds(10)}},
		{"5.2.1.3 min-fresh", cc("min-fresh=10"), Directives{MinFresh: seconds(10)}},
		{"the larger min-fresh counts", cc("min-fresh=10, min-fresh=20, min-fresh=5"), Directives{MinFresh: seconds(20)}},
		{"the smaller max-age counts, over lines", cc("max-age=60", "max-age=30"), Directives{MaxAge: seconds(30)}},
		{"5.2.1.4 no-cache", cc("no-cache"), Directives{NoCache: true}},
		{"an argument is ignored", cc("no-cache=1, no-store=x"), Directives{NoCache: true, NoStore: true}},
		{"5.2.1.5 no-store", cc("no-store"), Directives{NoStore: true}},
		{"5.2.1.7 only-if-cached", cc("only-if-cached"), Directives{OnlyIfCached: true}},
		{"5861 4 stale-if-error", cc("stale-if-error=60"), Directives{IfError: seconds(60)}},
		{"8246 2 immutable means nothing in a request", cc("immutable"), Directives{}},
		{"unknown", cc("nothing-to-see-here"), Directives{}},
		{"bad numbers are ignored", cc("max-age=abc, min-fresh=-1, max-stale=1.5, stale-if-error"), Directives{}},
		{"huge numbers", cc("max-age=99999999999"), Directives{MaxAge: Limit{true, forever}}},
		{"5.4 Pragma", http.Header{"Pragma": {"no-cache"}}, Directives{NoCache: true}},
		{"5.4 Pragma with others", http.Header{"Pragma": {`foo="a, b"`, "x, No-Cache"}}, Directives{NoCache: true}},
		{"5.4 unknown Pragma", http.Header{"Pragma": {"foo"}}, Directives{}},
		{"5.4 Cache-Control wins over Pragma", http.Header{"Pragma": {"no-cache"}, "Cache-Control": {"foo"}}, Directives{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := ParseRequest(test.header); got != test.want {
				t.Errorf("ParseRequest(%v) = %+v; want %+v", test.header, got, test.want)
			}
		})
	}
}

func cc(lines ...string) http.Header { return http.Header{"Cache-Control": lines} }

func BenchmarkParseRequest(b *testing.B) {
	for name, h := range map[string]http.Header{
		"none":   {"Accept": {"*/*"}, "Accept-Encoding": {"gzip, br"}, "User-Agent": {"x"}},
		"reload": {"Cache-Control": {"max-age=0"}, "Pragma": {"no-cache"}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ParseRequest(h)
			}
		})
	}
}
