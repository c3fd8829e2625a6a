package rfc9111

import (
	"net/http"
	"testing"
	"time"

	"edge/cachestore"
)

const s = time.Second

func TestJudge(t *testing.T) {
	fresh := cachestore.Life{Fresh: 60 * s}
	windows := cachestore.Life{Fresh: 60 * s, WhileRevalidate: 30 * s, IfError: 600 * s, IfUnreachable: 600 * s, Keep: 600 * s}
	must := cachestore.Life{Fresh: 60 * s, NeverStale: true}
	shared := cachestore.Life{Fresh: 60 * s, NeverStale: true, WhileRevalidate: 30 * s} // s-maxage with an explicit window
	noCache := cachestore.Life{Fresh: 60 * s, AlwaysRevalidate: true}

	tests := []struct {
		name    string
		request string
		life    cachestore.Life
		age     time.Duration
		use     Use
		reason  Reason
	}{
		{"4.2 fresh", "", fresh, 59 * s, UseFresh, ReasonFresh},
		{"4.2 age equal to the lifetime is stale", "", fresh, 60 * s, UseRevalidate, ReasonStale},
		{"4.2 no lifetime is stale at once", "", cachestore.Life{}, 0, UseRevalidate, ReasonStale},
		{"4.2.4 no window, no stale use", "", fresh, 61 * s, UseRevalidate, ReasonStale},
		{"4.2.4 windows for failures are not for now", "", cachestore.Life{Fresh: s, IfError: 60 * s, IfUnreachable: 60 * s}, 2 * s, UseRevalidate, ReasonStale},

		{"5.2.2.4 no-cache, although fresh", "", noCache, 0, UseRevalidate, ReasonNoCache},
		{"5.2.2.4 no-cache beats max-stale", "max-stale", noCache, 61 * s, UseRevalidate, ReasonNoCache},
		{"5.2.2.2 must-revalidate, fresh", "", must, 59 * s, UseFresh, ReasonFresh},
		{"5.2.2.2 must-revalidate, stale", "", must, 60 * s, UseRevalidate, ReasonMustRevalidate},
		{"5.2.2.2 must-revalidate beats max-stale", "max-stale", must, 61 * s, UseRevalidate, ReasonMustRevalidate},

		{"5861 3 within the window", "", windows, 89 * s, UseWhileRevalidate, ReasonWhileRevalidate},
		{"5861 3 after the window", "", windows, 90 * s, UseRevalidate, ReasonStale},
		{"s-maxage with an explicit window", "", shared, 61 * s, UseWhileRevalidate, ReasonWhileRevalidate},
		{"s-maxage after the explicit window", "max-stale", shared, 90 * s, UseRevalidate, ReasonMustRevalidate},
		{"5861 3 not for who wants no stale response", "max-age=1000", windows, 61 * s, UseRevalidate, ReasonRequestMaxAge},
		{"5861 3 not for who wants it fresh", "min-fresh=0", windows, 61 * s, UseRevalidate, ReasonRequestMinFresh},
		{"5861 3 not past the client's max-stale", "max-stale=5", windows, 70 * s, UseRevalidate, ReasonRequestStaleTooLong},
		{"5861 3 within the client's max-stale", "max-stale=5", windows, 65 * s, UseWhileRevalidate, ReasonWhileRevalidate},

		{"5.2.1.1 older than max-age", "max-age=10", fresh, 11 * s, UseRevalidate, ReasonRequestMaxAge},
		{"5.2.1.1 as old as max-age", "max-age=10", fresh, 10 * s, UseFresh, ReasonFresh},
		{"5.2.1.1 reload", "max-age=0", fresh, time.Millisecond, UseRevalidate, ReasonRequestMaxAge},
		{"5.2.1.1 stale is not wanted beside max-age", "max-age=100", fresh, 61 * s, UseRevalidate, ReasonRequestMaxAge},
		{"5.2.1.1 with max-stale beside it is", "max-age=100, max-stale=10", fresh, 61 * s, UseStaleAsked, ReasonMaxStale},
		{"5.2.1.1 but not past max-age", "max-age=60, max-stale=10", fresh, 61 * s, UseRevalidate, ReasonRequestMaxAge},

		{"5.2.1.2 within max-stale", "max-stale=10", fresh, 70 * s, UseStaleAsked, ReasonMaxStale},
		{"5.2.1.2 past max-stale", "max-stale=10", fresh, 70*s + 1, UseRevalidate, ReasonRequestStaleTooLong},
		{"5.2.1.2 any staleness", "max-stale", fresh, 1e6 * s, UseStaleAsked, ReasonMaxStale},
		{"5.2.1.2 max-stale leaves a fresh one alone", "max-stale=0", fresh, 5 * s, UseFresh, ReasonFresh},

		{"5.2.1.3 fresh for long enough", "min-fresh=10", fresh, 50 * s, UseFresh, ReasonFresh},
		{"5.2.1.3 not fresh for long enough", "min-fresh=10", fresh, 51 * s, UseRevalidate, ReasonRequestMinFresh},

		{"5.2.1.4 request no-cache", "no-cache", fresh, 0, UseRevalidate, ReasonRequestNoCache},
		{"5.2.1.4 beats max-stale", "no-cache, max-stale", fresh, 61 * s, UseRevalidate, ReasonRequestNoCache},
		{"5.2.1.5 request no-store may use what is stored", "no-store", fresh, s, UseFresh, ReasonFresh},

		{"the largest numbers do not overflow", "min-fresh=99999999999", cachestore.Life{Fresh: forever, WhileRevalidate: forever}, 2 * forever, UseRevalidate, ReasonRequestMinFresh},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			use, reason := Judge(ParseRequest(cc(test.request)), test.life, test.age)
			if use != test.use || reason != test.reason {
				t.Errorf("Judge(%q, %+v, %v) = %v, %q; want %v, %q", test.request, test.life, test.age, use, reason, test.use, test.reason)
			}
		})
	}
}

func TestStaleInsteadOfError(t *testing.T) {
	both := cachestore.Life{Fresh: 60 * s, IfError: 30 * s, IfUnreachable: 300 * s}
	unreachable := cachestore.Life{Fresh: 60 * s, IfUnreachable: 300 * s}
	onError := cachestore.Life{Fresh: 60 * s, IfError: 30 * s}
	must := cachestore.Life{Fresh: 60 * s, NeverStale: true}
	noCache := cachestore.Life{Fresh: 60 * s, AlwaysRevalidate: true, IfError: 30 * s, IfUnreachable: 30 * s}
	background := cachestore.Life{Fresh: 60 * s, WhileRevalidate: 30 * s, NeverStale: true}

	tests := []struct {
		name        string
		request     string
		life        cachestore.Life
		age         time.Duration
		error       Reason // "" for no
		unreachable Reason
	}{
		{"5861 4 within both windows", "", both, 89 * s, ReasonIfError, ReasonIfUnreachable},
		{"4.2.4 a 5xx is an answer", "", both, 90 * s, "", ReasonIfUnreachable},
		{"4.2.4 disconnected", "", unreachable, 61 * s, "", ReasonIfUnreachable},
		{"4.2.4 past the operator's patience", "", unreachable, 360 * s, "", ""},
		{"5861 4 a failed connection is an error too", "", onError, 61 * s, ReasonIfError, ReasonIfError},
		{"5.2.2.2 must-revalidate", "", must, 61 * s, "", ""},
		{"5.2.2.2 must-revalidate beats the client", "stale-if-error=600", must, 61 * s, "", ""},
		{"5.2.2.4 no-cache", "", noCache, 61 * s, "", ""},
		{"5.2.2.4 no-cache, although fresh", "", noCache, 1 * s, "", ""},
		{"5.2.1.4 the client wants the origin's word", "no-cache", both, 61 * s, "", ""},
		{"still fresh: a reload met a failing origin", "max-age=0", must, 10 * s, ReasonFresh, ReasonFresh},
		{"5861 4 regardless of other freshness information", "max-age=0", both, 61 * s, ReasonIfError, ReasonIfUnreachable},
		{"5861 4 the client's directive", "stale-if-error=600", cachestore.Life{Fresh: 60 * s}, 660 * s, ReasonRequestStaleIfError, ReasonRequestStaleIfError},
		{"5861 4 past the client's directive", "stale-if-error=600", cachestore.Life{Fresh: 60 * s}, 661 * s, "", ""},
		{"5861 3 what could be served before the error can be after it", "", background, 61 * s, ReasonWhileRevalidate, ReasonWhileRevalidate},
		{"no window", "", cachestore.Life{Fresh: 60 * s}, 61 * s, "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			q := ParseRequest(cc(test.request))
			if ok, reason := StaleOnError(q, test.life, test.age); ok != (test.error != "") || ok && reason != test.error {
				t.Errorf("StaleOnError = %v, %q; want %q", ok, reason, test.error)
			}
			if ok, reason := StaleOnUnreachable(q, test.life, test.age); ok != (test.unreachable != "") || ok && reason != test.unreachable {
				t.Errorf("StaleOnUnreachable = %v, %q; want %q", ok, reason, test.unreachable)
			}
		})
	}
}

// What is asked on each hit costs no memory.
func TestHotPathDoesNotAllocate(t *testing.T) {
	plain := http.Header{"Accept": {"*/*"}, "User-Agent": {"x"}}
	conditional := http.Header{"Cache-Control": {`max-age="0", foo="a, b"`}, "If-None-Match": {`"x", W/"abc"`}, "Accept-Encoding": {"gzip, br;q=0.5"}}
	since := http.Header{"If-Modified-Since": {"Sun, 06 Nov 1994 08:49:37 GMT"}}
	head := cachestore.NewHead(http.Header{"Etag": {`"abc"`}, "Last-Modified": {"Sun, 06 Nov 1994 08:49:37 GMT"}, "Date": {"Sun, 06 Nov 1994 08:49:37 GMT"}})
	life := cachestore.Life{Fresh: 60 * s}
	tests := map[string]struct {
		most float64
		run  func()
	}{
		"ParseRequest":                {0, func() { ParseRequest(plain) }},
		"ParseRequest, Cache-Control": {0, func() { ParseRequest(conditional) }},
		"Judge":                       {0, func() { _, _ = Judge(Directives{}, life, s) }},
		"NotModified":                 {0, func() { NotModified("GET", plain, 200, head) }},
		"NotModified, entity tags":    {0, func() { NotModified("GET", conditional, 200, head) }},
		"NotModified, date":           {0, func() { NotModified("GET", since, 200, head) }},
		"Ranges":                      {0, func() { Ranges("GET", plain, 200, head, 100, 8) }},
		"NormalAcceptEncoding":        {0, func() { NormalAcceptEncoding(conditional["Accept-Encoding"]) }},
		"Variant": {1, func() {
			Variant([]string{"accept", "accept-encoding", "accept-language", "next-router-state-tree", "x"}, browser)
		}},
	}
	for name, test := range tests {
		if got := testing.AllocsPerRun(100, test.run); got > test.most {
			t.Errorf("%s: %v allocations; want at most %v", name, got, test.most)
		}
	}
}

// browser is what one sends with a navigation.
var browser = http.Header{
	"Accept":                 {"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"},
	"Accept-Encoding":        {"gzip, deflate, br, zstd"},
	"Accept-Language":        {"de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7"},
	"Next-Router-State-Tree": {"%5B%22%22%2C%7B%7D%5D"},
}

func BenchmarkJudge(b *testing.B) {
	b.ReportAllocs()
	life := cachestore.Life{Fresh: 60 * s, WhileRevalidate: 30 * s}
	for b.Loop() {
		Judge(Directives{}, life, s)
	}
}
