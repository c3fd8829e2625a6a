package rfc9111

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"edge/cachestore"
)

var received = time.Date(2026, time.June, 15, 12, 0, 0, 500e6, time.UTC)

func httpDate(offset time.Duration) string {
	return received.Add(offset).Format("Mon, 02 Jan 2006 15:04:05 GMT")
}

// header makes a header of "Name: value" lines; {+60s} in a value is a date.
func header(lines ...string) http.Header {
	h := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		if offset, ok := strings.CutPrefix(value, "{"); ok {
			d, err := time.ParseDuration(strings.TrimSuffix(offset, "}"))
			if err != nil {
				panic(err)
			}
			value = httpDate(d)
		}
		h.Add(name, value)
	}
	return h
}

var (
	letter = Policy{Targets: []string{"CDN-Cache-Control"}, Heuristic: true, StoreSetCookie: true, IfUnreachable: time.Hour, Keep: time.Hour, DefaultWhileRevalidate: time.Minute}
	safe   = Policy{Targets: []string{"CDN-Cache-Control"}, CookiesNeedPermission: true, IfUnreachable: time.Hour, Keep: time.Hour, DefaultWhileRevalidate: time.Minute}
)

func TestStorableOrNot(t *testing.T) {
	tests := []struct {
		name   string
		policy Policy
		method string // "" is GET
		status int    // 0 is 200
		req    http.Header
		res    http.Header
		ok     bool
		reason Reason
		field  string
	}{
		// Method and status.
		{name: "3 explicit freshness", policy: safe, res: header("Cache-Control: max-age=60"), ok: true, reason: ReasonExplicit, field: "Cache-Control"},
		{name: "3 the answer to HEAD is no whole response", policy: safe, method: "HEAD", res: header("Cache-Control: max-age=60"), reason: ReasonMethod, field: "Cache-Control"},
		{name: "3 POST", policy: letter, method: "POST", res: header("Cache-Control: max-age=60"), reason: ReasonMethod, field: "Cache-Control"},
		{name: "3 not final", policy: letter, status: 103, res: header("Cache-Control: max-age=60"), reason: ReasonStatus, field: "Cache-Control"},
		{name: "no HTTP status", policy: letter, status: 999, res: header("Cache-Control: max-age=60"), reason: ReasonStatus, field: "Cache-Control"},
		{name: "3.3 partial", policy: letter, status: 206, res: header("Cache-Control: max-age=60", "Content-Range: bytes 0-1/2"), reason: ReasonPartial, field: "Cache-Control"},
		{name: "3 not modified", policy: letter, status: 304, res: header("Cache-Control: max-age=60"), reason: ReasonPartial, field: "Cache-Control"},
		{name: "6585 3", policy: letter, status: 428, res: header("Cache-Control: max-age=60"), reason: ReasonStatus, field: "Cache-Control"},
		{name: "6585 4", policy: letter, status: 429, res: header("Cache-Control: max-age=60"), reason: ReasonStatus, field: "Cache-Control"},
		{name: "6585 5", policy: letter, status: 431, res: header("Cache-Control: max-age=60"), reason: ReasonStatus, field: "Cache-Control"},
		{name: "6585 6", policy: letter, status: 511, res: header("Cache-Control: max-age=60"), reason: ReasonStatus, field: "Cache-Control"},
		{name: "6585 before the operator's list", policy: Policy{Negative: map[int]time.Duration{429: s}}, status: 429, res: header(), reason: ReasonStatus},
		{name: "3 an unknown status with explicit freshness", policy: safe, status: 299, res: header("Cache-Control: max-age=60"), ok: true, reason: ReasonExplicit, field: "Cache-Control"},
		{name: "3 an error with explicit freshness", policy: safe, status: 503, res: header("Cache-Control: max-age=60"), ok: true, reason: ReasonExplicit, field: "Cache-Control"},

		// What forbids it.
		{name: "5.2.2.5 no-store", policy: letter, res: header("Cache-Control: max-age=60, No-Store"), reason: ReasonNoStore, field: "Cache-Control"},
		{name: "5.2.2.5 no-store on another line", policy: letter, res: header("Cache-Control: max-age=60", "Cache-Control: no-store"), reason: ReasonNoStore, field: "Cache-Control"},
		{name: "5.2.2.5 with an argument", policy: letter, res: header("Cache-Control: max-age=60, no-store=1"), reason: ReasonNoStore, field: "Cache-Control"},
		{name: "5.2.1.5 request no-store", policy: letter, req: header("Cache-Control: no-store"), res: header("Cache-Control: max-age=60"), reason: ReasonRequestNoStore, field: "Cache-Control"},
		{name: "5.2.2.7 private", policy: letter, res: header("Cache-Control: private, max-age=60"), reason: ReasonPrivate, field: "Cache-Control"},
		{name: "5.2.2.7 private with a list is for those fields", policy: letter, res: header(`Cache-Control: private="x-a", max-age=60`), ok: true, reason: ReasonExplicit, field: "Cache-Control"},
		{name: "5.2.2.7 both forms: the one without a list wins", policy: letter, res: header(`Cache-Control: private="x-a", max-age=60, private`), reason: ReasonPrivate, field: "Cache-Control"},
		{name: "5.2.2.7 an empty list is no list", policy: letter, res: header(`Cache-Control: private="", max-age=60`), reason: ReasonPrivate, field: "Cache-Control"},
		{name: "5.2.2.7 a list that cannot be read", policy: letter, res: header(`Cache-Control: private="a b", max-age=60`), reason: ReasonPrivate, field: "Cache-Control"},
		{name: "5.2.2.7 a list that is not closed", policy: letter, res: header(`Cache-Control: max-age=60, private="a`), reason: ReasonPrivate, field: "Cache-Control"},
		{name: "5.2.2.7 a field that the rest depends on", policy: letter, res: header(`Cache-Control: max-age=60, private="content-encoding"`), reason: ReasonPrivate, field: "Cache-Control"},
		{name: "a private behind a semicolon is meant", policy: letter, res: header("Cache-Control: max-age=60; private", `Etag: "a"`), reason: ReasonPrivate, field: "Cache-Control"},
		{name: "a no-store behind a space is meant", policy: letter, res: header("Cache-Control: public no-store, max-age=60"), reason: ReasonNoStore, field: "Cache-Control"},
		{name: "a quoted no-store is not", policy: letter, res: header(`Cache-Control: ext="no-store", max-age=60`), ok: true, reason: ReasonExplicit, field: "Cache-Control"},
		{name: "5.2.2.3 must-understand opens no-store", policy: letter, res: header("Cache-Control: max-age=60, no-store, must-understand"), ok: true, reason: ReasonExplicit, field: "Cache-Control"},
		{name: "5.2.2.3 not for a status that is not understood", policy: letter, status: 599, res: header("Cache-Control: max-age=60, no-store, must-understand"), reason: ReasonMustUnderstand, field: "Cache-Control"},
		{name: "5.2.2.3 with no-store absent too", policy: letter, status: 299, res: header("Cache-Control: max-age=60, must-understand"), reason: ReasonMustUnderstand, field: "Cache-Control"},
		{name: "5.2.2.3 does not open private", policy: letter, res: header("Cache-Control: max-age=60, private, must-understand"), reason: ReasonPrivate, field: "Cache-Control"},
		{name: "4.1 Vary: *", policy: letter, res: header("Cache-Control: max-age=60", "Vary: Foo, *"), reason: ReasonVaryStar, field: "Cache-Control"},

		// Requests that are somebody's.
		{name: "3.5 Authorization", policy: letter, req: header("Authorization: x"), res: header("Cache-Control: max-age=60"), reason: ReasonAuthorization, field: "Cache-Control"},
		{name: "3.5 public", policy: safe, req: header("Authorization: x"), res: header("Cache-Control: max-age=60, public"), ok: true, reason: ReasonExplicit, field: "Cache-Control"},
		{name: "3.5 must-revalidate", policy: safe, req: header("Authorization: x"), res: header("Cache-Control: max-age=60, must-revalidate"), ok: true, reason: ReasonExplicit, field: "Cache-Control"},
		{name: "3.5 s-maxage", policy: safe, req: header("Authorization: x"), res: header("Cache-Control: s-maxage=60"), ok: true, reason: ReasonExplicit, field: "Cache-Control"},
		{name: "3.5 proxy-revalidate is no permission", policy: letter, req: header("Authorization: x"), res: header("Cache-Control: max-age=60, proxy-revalidate"), reason: ReasonAuthorization, field: "Cache-Control"},
		{name: "3.5 nor is a targeted max-age", policy: letter, req: header("Authorization: x"), res: header("Cdn-Cache-Control: max-age=60"), reason: ReasonAuthorization, field: "CDN-Cache-Control"},
		{name: "3.5 permission comes from the field that counts", policy: letter, req: header("Authorization: x"), res: header("Cdn-Cache-Control: max-age=60", "Cache-Control: public"), reason: ReasonAuthorization, field: "CDN-Cache-Control"},
		{name: "3.5 nor is the operator's lifetime", policy: Policy{TTL: new(60 * s)}, req: header("Authorization: x"), res: header(), reason: ReasonAuthorization},
		{name: "cookie without permission", policy: safe, req: header("Cookie: a=b"), res: header("Cache-Control: max-age=60"), reason: ReasonCookie, field: "Cache-Control"},
		{name: "cookie and must-revalidate", policy: safe, req: header("Cookie: a=b"), res: header("Cache-Control: max-age=60, must-revalidate"), reason: ReasonCookie, field: "Cache-Control"},
		{name: "cookie and public", policy: safe, req: header("Cookie: a=b"), res: header("Cache-Control: max-age=60, public"), ok: true, reason: ReasonExplicit, field: "Cache-Control"},
		{name: "cookie and s-maxage", policy: safe, req: header("Cookie: a=b"), res: header("Cache-Control: s-maxage=60"), ok: true, reason: ReasonExplicit, field: "Cache-Control"},
		{name: "cookie and a targeted field", policy: safe, req: header("Cookie: a=b"), res: header("Cdn-Cache-Control: max-age=60"), ok: true, reason: ReasonExplicit, field: "CDN-Cache-Control"},
		{name: "cookie and a targeted field that is ignored", policy: safe, req: header("Cookie: a=b"), res: header("Cdn-Cache-Control: Max-Age=60", "Cache-Control: max-age=60"), reason: ReasonCookie, field: "Cache-Control"},
		{name: "cookie under the letter", policy: letter, req: header("Cookie: a=b"), res: header("Cache-Control: max-age=60"), ok: true, reason: ReasonExplicit, field: "Cache-Control"},
		{name: "Set-Cookie", policy: safe, res: header("Cache-Control: public, max-age=60", "Set-Cookie: a=b"), reason: ReasonSetCookie, field: "Cache-Control"},
		{name: "7.3 Set-Cookie under the letter", policy: letter, res: header("Cache-Control: max-age=60", "Set-Cookie: a=b"), ok: true, reason: ReasonExplicit, field: "Cache-Control"},
		{name: "Set-Cookie without explicit freshness", policy: letter, res: header("Set-Cookie: a=b", "Last-Modified: {-100h}"), reason: ReasonSetCookie, field: "Last-Modified"},
		{name: "Set-Cookie that is not stored is none", policy: safe, res: header(`Cache-Control: max-age=60, no-cache="set-cookie"`, "Set-Cookie: a=b"), ok: true, reason: ReasonExplicit, field: "Cache-Control"},

		// Without a lifetime.
		{name: "nothing said", policy: letter, res: header(), reason: ReasonNoFreshness},
		{name: "a validator alone is no lifetime", policy: safe, res: header(`Etag: "a"`, "Last-Modified: {-100h}"), reason: ReasonNoFreshness},
		{name: "5.2.2.4 no-cache with a validator", policy: safe, res: header("Cache-Control: no-cache", `Etag: "a"`), ok: true, reason: ReasonRevalidate, field: "Cache-Control"},
		{name: "5.2.2.4 no-cache with a date", policy: safe, res: header("Cache-Control: no-cache", "Last-Modified: {-1h}"), ok: true, reason: ReasonRevalidate, field: "Cache-Control"},
		{name: "5.2.2.4 no-cache with nothing to revalidate", policy: safe, res: header("Cache-Control: no-cache, max-age=60"), reason: ReasonNoCache, field: "Cache-Control"},
		{name: "5.2.2.4 no-cache, and a date that is none", policy: safe, res: header("Cache-Control: no-cache", "Last-Modified: yesterday"), reason: ReasonNoCache, field: "Cache-Control"},
		{name: "5.2.2.4 the list form lets it be used", policy: safe, res: header(`Cache-Control: no-cache="x-a", max-age=60`), ok: true, reason: ReasonExplicit, field: "Cache-Control"},
		{name: "3 no-cache does not make a 302 storable", policy: letter, status: 302, res: header("Cache-Control: no-cache", `Etag: "a"`), reason: ReasonNoFreshness, field: "Cache-Control"},
		{name: "no-cache errors are not kept", policy: letter, status: 404, res: header("Cache-Control: no-cache", `Etag: "a"`), reason: ReasonNoFreshness, field: "Cache-Control"},
		{name: "max-age=0 with a validator", policy: safe, res: header("Cache-Control: max-age=0", `Etag: "a"`), ok: true, reason: ReasonRevalidate, field: "Cache-Control"},
		{name: "max-age=0 without", policy: safe, res: header("Cache-Control: max-age=0"), reason: ReasonExpired, field: "Cache-Control"},
		{name: "max-age=0 with a window", policy: safe, res: header("Cache-Control: max-age=0, stale-while-revalidate=60"), ok: true, reason: ReasonRevalidate, field: "Cache-Control"},
		{name: "max-age=0 with a window that must-revalidate closes", policy: safe, res: header("Cache-Control: max-age=0, stale-while-revalidate=60, must-revalidate"), reason: ReasonExpired, field: "Cache-Control"},
		{name: "expired errors are not kept", policy: letter, status: 404, res: header("Cache-Control: max-age=0, stale-while-revalidate=60", `Etag: "a"`), reason: ReasonExpired, field: "Cache-Control"},
		{name: "expired, nothing kept for revalidation", policy: Policy{}, res: header("Cache-Control: max-age=0", `Etag: "a"`), reason: ReasonExpired, field: "Cache-Control"},
		{name: "5.3 past Expires with a validator", policy: safe, res: header("Expires: {-1h}", `Etag: "a"`), ok: true, reason: ReasonRevalidate, field: "Expires"},
		{name: "lines of a validator that differ are no validator", policy: safe, res: header("Cache-Control: max-age=0", `Etag: "a"`, `Etag: "b"`), reason: ReasonExpired, field: "Cache-Control"},

		// Heuristics.
		{name: "4.2.2 heuristic", policy: letter, res: header("Last-Modified: {-100h}"), ok: true, reason: ReasonHeuristic, field: "Last-Modified"},
		{name: "4.2.2 not by default", policy: safe, res: header("Last-Modified: {-100h}"), reason: ReasonNoFreshness},
		{name: "4.2.2 not where the status is not for it", policy: letter, status: 403, res: header("Last-Modified: {-100h}"), reason: ReasonNoFreshness},
		{name: "4.2.2 unless public", policy: letter, status: 599, res: header("Last-Modified: {-100h}", "Cache-Control: public"), ok: true, reason: ReasonHeuristic, field: "Last-Modified"},
		{name: "4.2.2 404", policy: letter, status: 404, res: header("Last-Modified: {-100h}"), ok: true, reason: ReasonHeuristic, field: "Last-Modified"},
		{name: "4.2.2 never against an explicit time", policy: letter, res: header("Last-Modified: {-100h}", "Expires: 0"), ok: true, reason: ReasonRevalidate, field: "Expires"},
		{name: "4.2.2 nor against no-cache", policy: letter, res: header("Last-Modified: {-100h}", "Cache-Control: no-cache"), ok: true, reason: ReasonRevalidate, field: "Cache-Control"},
		{name: "4.2.2 nor without a date", policy: letter, res: header(`Etag: "a"`), reason: ReasonNoFreshness},
		{name: "4.2.2 nor with one in the future", policy: letter, res: header("Last-Modified: {1h}"), reason: ReasonNoFreshness},
		{name: "5.4 Pragma means nothing in a response", policy: letter, res: header("Last-Modified: {-100h}", "Pragma: no-cache"), ok: true, reason: ReasonHeuristic, field: "Last-Modified"},

		// The operator.
		{name: "negative", policy: Policy{Negative: map[int]time.Duration{404: 5 * s}}, status: 404, res: header(), ok: true, reason: ReasonNegative},
		{name: "negative is for errors", policy: Policy{Negative: map[int]time.Duration{200: 5 * s}}, res: header(), reason: ReasonNoFreshness},
		{name: "negative is not against no-store", policy: Policy{Negative: map[int]time.Duration{404: 5 * s}}, status: 404, res: header("Cache-Control: no-store"), reason: ReasonNoStore, field: "Cache-Control"},
		{name: "negative is not against no-cache", policy: Policy{Negative: map[int]time.Duration{404: 5 * s}}, status: 404, res: header("Cache-Control: no-cache"), reason: ReasonNoFreshness, field: "Cache-Control"},
		{name: "negative is not against cookies", policy: Policy{Negative: map[int]time.Duration{404: 5 * s}, CookiesNeedPermission: true}, status: 404, req: header("Cookie: a"), res: header(), reason: ReasonCookie},
		{name: "lifetime given", policy: Policy{TTL: new(60 * s)}, res: header("Cache-Control: max-age=5"), ok: true, reason: ReasonTTL},
		{name: "lifetime given to one who has none", policy: Policy{TTL: new(60 * s)}, res: header(), ok: true, reason: ReasonTTL},
		{name: "lifetime given does not open private", policy: Policy{TTL: new(60 * s)}, res: header("Cache-Control: private"), reason: ReasonPrivate, field: "Cache-Control"},
		{name: "lifetime given does not open no-store", policy: Policy{TTL: new(60 * s)}, res: header("Cache-Control: no-store"), reason: ReasonNoStore, field: "Cache-Control"},
		{name: "lifetime given does not open no-cache", policy: Policy{TTL: new(60 * s)}, res: header("Cache-Control: no-cache"), reason: ReasonNoCache},
		{name: "lifetime given does not excuse a cookie", policy: Policy{TTL: new(60 * s), StoreSetCookie: true}, res: header("Set-Cookie: a=b"), reason: ReasonSetCookie},
		{name: "lifetime given is not for errors", policy: Policy{TTL: new(60 * s), DefaultTTL: new(60 * s)}, status: 404, res: header(), reason: ReasonNoFreshness},
		{name: "nor for an empty answer", policy: Policy{TTL: new(60 * s), DefaultTTL: new(60 * s)}, status: 204, res: header(), reason: ReasonNoFreshness},
		{name: "nor for a redirect that says nothing", policy: Policy{TTL: new(60 * s), DefaultTTL: new(60 * s)}, status: 302, res: header(), reason: ReasonNoFreshness},
		{name: "default lifetime", policy: Policy{DefaultTTL: new(60 * s)}, res: header(), ok: true, reason: ReasonDefaultTTL},
		{name: "default lifetime is only for lack of one", policy: Policy{DefaultTTL: new(60 * s)}, res: header("Cache-Control: max-age=5"), ok: true, reason: ReasonExplicit, field: "Cache-Control"},
		{name: "a lifetime of nothing", policy: Policy{TTL: new(0 * s)}, res: header("Cache-Control: max-age=60"), reason: ReasonExpired},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			method, status := test.method, test.status
			if method == "" {
				method = "GET"
			}
			if status == 0 {
				status = 200
			}
			test.res.Add("Date", httpDate(0))
			got := Storable(method, test.req, status, test.res, received, &test.policy)
			if got.OK != test.ok || got.Reason != test.reason || got.Field != test.field {
				t.Errorf("%v, %q by %q; want %v, %q by %q", got.OK, got.Reason, got.Field, test.ok, test.reason, test.field)
			}
			if !got.OK && got.Life != (cachestore.Life{}) {
				t.Errorf("not stored, and yet for %+v", got.Life)
			}
			if got.Reason.Section() == "" {
				t.Errorf("reason %q has no source", got.Reason)
			}
		})
	}
}

func TestLife(t *testing.T) {
	type life = cachestore.Life
	none := Policy{} // no windows of the operator's in the way
	tests := []struct {
		name   string
		policy Policy
		status int // 0 is 200
		res    http.Header
		want   life
	}{
		// Freshness lifetime.
		{"4.2.1 max-age", none, 0, header("Cache-Control: max-age=60"), life{Fresh: 60 * s}},
		{"4.2.1 s-maxage before a longer max-age", none, 0, header("Cache-Control: max-age=60, s-maxage=10"), life{Fresh: 10 * s, NeverStale: true}},
		{"4.2.1 s-maxage before a shorter max-age", none, 0, header("Cache-Control: max-age=0, s-maxage=60", "Expires: {-1h}"), life{Fresh: 60 * s, NeverStale: true}},
		{"4.2.1 over lines", none, 0, header("Cache-Control: max-age=60", "Cache-Control: s-maxage=10"), life{Fresh: 10 * s, NeverStale: true}},
		{"5.3 max-age before Expires", none, 0, header("Cache-Control: max-age=60", "Expires: {1h}", "Date: {0}"), life{Fresh: 60 * s}},
		{"5.3 Expires less Date", none, 0, header("Expires: {1h}", "Date: {0}"), life{Fresh: time.Hour}},
		{"4.2.1 by the origin's clock", none, 0, header("Expires: {1h}", "Date: {30m}"), life{Fresh: 30 * time.Minute}},
		{"4.2.1 no Date: when it came", none, 0, header("Expires: {1h}"), life{Fresh: time.Hour}},
		{"4.2.1 bad Date: when it came", none, 0, header("Expires: {1h}", "Date: foo"), life{Fresh: time.Hour}},
		{"4.2.1 beside a Cache-Control without a lifetime", none, 0, header("Expires: {1h}", "Cache-Control: public"), life{Fresh: time.Hour}},
		{"5.2 quoted", none, 0, header(`Cache-Control: max-age="60"`), life{Fresh: 60 * s}},
		{"5.2 case", none, 0, header("Cache-Control: MaX-aGe=60"), life{Fresh: 60 * s}},
		{"5.2.3 unknown directives", none, 0, header(`Cache-Control: foo, bar="max-age=3600", max-age=60`), life{Fresh: 60 * s}},
		{"1.2.2 overflow", none, 0, header("Cache-Control: max-age=99999999999"), life{Fresh: forever}},
		{"4.2.1 two numbers", none, 0, header("Cache-Control: max-age=60, max-age=10"), life{Fresh: 10 * s}},
		{"4.2.1 two numbers, over lines", none, 0, header("Cache-Control: max-age=10", "Cache-Control: max-age=60"), life{Fresh: 10 * s}},
		{"5.3 Expires twice the same", none, 0, header("Expires: {1h}", "Expires: {1h}"), life{Fresh: time.Hour}},
		{"5.3 Expires beyond all clocks", none, 0, header("Expires: Fri, 31 Dec 9999 23:59:59 GMT"), life{Fresh: forever}},
		{"4.2.2 a tenth", Policy{Heuristic: true}, 0, header("Last-Modified: {-100m}", "Date: {0}"), life{Fresh: 10 * time.Minute}},
		{"4.2.2 a tenth of the origin's time", Policy{Heuristic: true}, 0, header("Last-Modified: {-110m}", "Date: {-10m}"), life{Fresh: 10 * time.Minute}},
		{"4.2.2 bounded", Policy{Heuristic: true}, 0, header("Last-Modified: {-10000h}"), life{Fresh: 24 * time.Hour}},
		{"4.2.2 bounded by the operator", Policy{Heuristic: true, HeuristicMax: time.Minute}, 0, header("Last-Modified: {-10000h}"), life{Fresh: time.Minute}},
		{"MinTTL", Policy{MinTTL: time.Minute}, 0, header("Cache-Control: max-age=1"), life{Fresh: time.Minute}},
		{"MaxTTL", Policy{MaxTTL: time.Minute}, 0, header("Cache-Control: max-age=600"), life{Fresh: time.Minute}},
		{"MaxTTL wins", Policy{MinTTL: time.Hour, MaxTTL: time.Minute}, 0, header("Cache-Control: max-age=600"), life{Fresh: time.Minute}},
		{"MaxTTL bounds what the operator says elsewhere", Policy{MaxTTL: time.Minute, TTL: new(time.Hour)}, 0, header("Cache-Control: max-age=600"), life{Fresh: time.Minute}},
		{"MinTTL is not for errors", Policy{MinTTL: time.Minute}, 404, header("Cache-Control: max-age=1"), life{Fresh: s}},
		{"TTL shortens an error's life", Policy{TTL: new(10 * s)}, 404, header("Cache-Control: max-age=60"), life{Fresh: 10 * s}},
		{"TTL never prolongs it", Policy{TTL: new(time.Hour)}, 404, header("Cache-Control: max-age=60"), life{Fresh: 60 * s}},
		{"an operator's lifetime too long to add up", Policy{TTL: new(time.Duration(1<<63 - 1))}, 0, header(), life{Fresh: forever}},
		{"Negative", Policy{Negative: map[int]time.Duration{503: 5 * s}}, 503, header(), life{Fresh: 5 * s}},
		{"Negative, capped", Policy{Negative: map[int]time.Duration{503: time.Hour}}, 503, header(), life{Fresh: 10 * s}},
		{"Negative, capped by the operator", Policy{Negative: map[int]time.Duration{503: time.Hour}, NegativeMax: time.Minute}, 503, header(), life{Fresh: time.Minute}},
		{"Negative leaves the origin's word alone", Policy{Negative: map[int]time.Duration{503: 5 * s}}, 503, header("Cache-Control: max-age=60"), life{Fresh: 60 * s}},
		{"Negative has no windows", Policy{Negative: map[int]time.Duration{404: 5 * s}, IfUnreachable: time.Hour, WhileRevalidate: new(time.Hour), IfError: new(time.Hour), Keep: time.Hour}, 404, header(), life{Fresh: 5 * s}},

		// Stale use.
		{"5861 3", none, 0, header("Cache-Control: max-age=60, stale-while-revalidate=30"), life{Fresh: 60 * s, WhileRevalidate: 30 * s}},
		{"5861 3 without a value", Policy{DefaultWhileRevalidate: 60 * s}, 0, header("Cache-Control: max-age=60, stale-while-revalidate"), life{Fresh: 60 * s, WhileRevalidate: 60 * s}},
		{"5861 3 without a value or a default", none, 0, header("Cache-Control: max-age=60, stale-while-revalidate"), life{Fresh: 60 * s}},
		{"5861 3 a bad value is no value", Policy{DefaultWhileRevalidate: 60 * s}, 0, header("Cache-Control: max-age=60, stale-while-revalidate=x"), life{Fresh: 60 * s}},
		{"5861 3 replaced", Policy{WhileRevalidate: new(5 * s)}, 0, header("Cache-Control: max-age=60, stale-while-revalidate=30"), life{Fresh: 60 * s, WhileRevalidate: 5 * s}},
		{"5861 3 given", Policy{WhileRevalidate: new(5 * s)}, 0, header("Cache-Control: max-age=60"), life{Fresh: 60 * s, WhileRevalidate: 5 * s}},
		{"5861 4", none, 0, header("Cache-Control: max-age=60, stale-if-error=30"), life{Fresh: 60 * s, IfError: 30 * s}},
		{"5861 4 replaced", Policy{IfError: new(5 * s)}, 0, header("Cache-Control: max-age=60, stale-if-error=30"), life{Fresh: 60 * s, IfError: 5 * s}},
		{"5861 4 without a value", none, 0, header("Cache-Control: max-age=60, stale-if-error"), life{Fresh: 60 * s}},
		{"4.2.4 unreachable", Policy{IfUnreachable: time.Hour}, 0, header("Cache-Control: max-age=60"), life{Fresh: 60 * s, IfUnreachable: time.Hour}},
		{"5xx answers stand in for nothing", Policy{IfUnreachable: time.Hour}, 503, header("Cache-Control: max-age=60, stale-if-error=30"), life{Fresh: 60 * s}},
		{"5.2.2.2 must-revalidate closes every window", Policy{IfUnreachable: time.Hour, WhileRevalidate: new(s), IfError: new(s)}, 0,
			header("Cache-Control: max-age=60, stale-while-revalidate=30, stale-if-error=30, must-revalidate"), life{Fresh: 60 * s, NeverStale: true}},
		{"5.2.2.8 proxy-revalidate does too", Policy{IfUnreachable: time.Hour}, 0,
			header("Cache-Control: max-age=60, stale-while-revalidate=30, proxy-revalidate"), life{Fresh: 60 * s, NeverStale: true}},
		{"5.2.2.4 and no-cache", Policy{IfUnreachable: time.Hour, Keep: time.Hour}, 0,
			header("Cache-Control: max-age=60, stale-while-revalidate=30, no-cache", `Etag: "a"`), life{Fresh: 60 * s, AlwaysRevalidate: true, Keep: time.Hour}},
		{"5.2.2.4 without a list wins", Policy{Keep: time.Hour}, 0, header(`Cache-Control: max-age=60, no-cache, no-cache="set-cookie"`, `Etag: "a"`),
			life{Fresh: 60 * s, AlwaysRevalidate: true, Keep: time.Hour}},
		{"5.2.2.4 token instead of quoted list", none, 0, header("Cache-Control: max-age=60, no-cache=set-cookie, stale-if-error=1"), life{Fresh: 60 * s, IfError: s}},
		{"5.2.2.10 s-maxage", Policy{IfUnreachable: time.Hour}, 0, header("Cache-Control: s-maxage=60"), life{Fresh: 60 * s, NeverStale: true}},
		{"s-maxage with explicit windows", Policy{IfUnreachable: time.Hour}, 0, header("Cache-Control: s-maxage=60, stale-while-revalidate=30, stale-if-error=20"),
			life{Fresh: 60 * s, WhileRevalidate: 30 * s, IfError: 20 * s, NeverStale: true}},
		{"s-maxage with the operator's windows", Policy{WhileRevalidate: new(5 * s)}, 0, header("Cache-Control: s-maxage=60"),
			life{Fresh: 60 * s, WhileRevalidate: 5 * s, NeverStale: true}},
		{"5.2.2.10 to the letter", Policy{StrictSMaxAge: true, IfUnreachable: time.Hour}, 0, header("Cache-Control: s-maxage=60, stale-while-revalidate=30, stale-if-error=20"),
			life{Fresh: 60 * s, NeverStale: true}},
		{"8246 2 immutable changes nothing for us", none, 0, header("Cache-Control: max-age=60, immutable"), life{Fresh: 60 * s}},

		// Kept for revalidation.
		{"4.3 kept with a validator", Policy{Keep: time.Hour}, 0, header("Cache-Control: max-age=60", `Etag: "a"`), life{Fresh: 60 * s, Keep: time.Hour}},
		{"4.3 not without", Policy{Keep: time.Hour}, 0, header("Cache-Control: max-age=60"), life{Fresh: 60 * s}},
		{"4.3 after the last use", Policy{Keep: time.Hour}, 0, header("Cache-Control: max-age=60, stale-if-error=7200", "Last-Modified: {-1h}"),
			life{Fresh: 60 * s, IfError: 2 * time.Hour, Keep: 3 * time.Hour}},
		{"the longest of everything still adds up", Policy{Keep: 1<<63 - 1, IfUnreachable: 1<<63 - 1}, 0, header("Cache-Control: max-age=99999999999, stale-if-error=99999999999", `Etag: "a"`),
			life{Fresh: forever, IfError: forever, IfUnreachable: forever, Keep: forever}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			status := test.status
			if status == 0 {
				status = 200
			}
			got := Storable("GET", nil, status, test.res, received, &test.policy)
			if !got.OK || got.Life != test.want {
				t.Errorf("%v, %q, %+v; want %+v", got.OK, got.Reason, got.Life, test.want)
			}
			if got.Life.Whole() < 0 {
				t.Errorf("%+v overflows", got.Life)
			}
		})
	}
}

// Section 4.2.1: freshness that cannot be read is freshness that is over. So is one
// that is said in the past.
func TestExpired(t *testing.T) {
	for _, lines := range [][]string{
		{"Cache-Control: max-age=0"},
		{"Cache-Control: max-age=-3600"},
		{"Cache-Control: max-age=abc"},
		{"Cache-Control: max-age"},
		{"Cache-Control: max-age="},
		{"Cache-Control: max-age=1.5"},
		{"Cache-Control: max-age=+5"},
		{"Cache-Control: max-age =60"},
		{"Cache-Control: max-age= 60"},
		{"Cache-Control: max-age='60'"},
		{"Cache-Control: max-age=60;public"},
		{"Cache-Control: max-age=60x"},
		{`Cache-Control: max-age="60`},
		{`Cache-Control: max-age="6 0"`},
		{`Cache-Control: max-age=""`},
		{"Cache-Control: max-age=60, max-age=x"},
		{"Cache-Control: max-age=x, max-age=60"},
		{"Cache-Control: max-age=60, s-maxage=x"},
		{"Cache-Control: max-age=0", "Expires: {1h}"},
		{"Expires: 0"},
		{"Expires: -1"},
		{"Expires: "},
		{"Expires: {-1h}"},
		{"Expires: {0}", "Date: {0}"},
		{"Expires: {5m}", "Date: {6m}"},
		{"Expires: {1h}", "Expires: {2h}"},
		{"Expires: 0", "Expires: {1h}"},
		{"Expires: Thu, 18 Aug 2050 2:01:18 GMT"},
		{"Expires: Thu, 18 Aug 2050 02:01:18 UTC"},
		{"Expires: Thu, 01 Dec 0001 16:00:00 GMT"},
	} {
		got := Storable("GET", nil, 200, header(append(lines, `Etag: "a"`)...), received, &Policy{Keep: time.Hour, Heuristic: true})
		if !got.OK || got.Reason != ReasonRevalidate || got.Life.Fresh != 0 {
			t.Errorf("%q: %v, %q, fresh for %v; want it kept for revalidation only", lines, got.OK, got.Reason, got.Life.Fresh)
		}
	}
}

func TestTargetedFields(t *testing.T) {
	policy := Policy{Targets: []string{"Example-Cache-Control", "CDN-Cache-Control"}, SurrogateControl: true, DefaultWhileRevalidate: 7 * s}
	tests := []struct {
		name  string
		res   http.Header
		field string // "" when it is not stored
		fresh time.Duration
		swr   time.Duration
	}{
		{"9213 2.2 before Cache-Control", header("Cdn-Cache-Control: max-age=600", "Cache-Control: max-age=60"), "CDN-Cache-Control", 600 * s, 0},
		{"9213 2.2 even a shorter one", header("Cdn-Cache-Control: max-age=6", "Cache-Control: max-age=60"), "CDN-Cache-Control", 6 * s, 0},
		{"9213 2.2 no-store for others only", header("Cdn-Cache-Control: max-age=600", "Cache-Control: no-store"), "CDN-Cache-Control", 600 * s, 0},
		{"9213 2.2 private for others only", header("Cdn-Cache-Control: max-age=600", "Cache-Control: private"), "CDN-Cache-Control", 600 * s, 0},
		{"9213 2.2 Expires does not count", header("Cdn-Cache-Control: public", "Expires: {1h}"), "", 0, 0},
		{"9213 2.2 nor do the windows of Cache-Control", header("Cdn-Cache-Control: max-age=600", "Cache-Control: stale-while-revalidate=60"), "CDN-Cache-Control", 600 * s, 0},
		{"9213 2.2 nor its must-revalidate", header("Cdn-Cache-Control: max-age=600, stale-while-revalidate=60", "Cache-Control: must-revalidate"), "CDN-Cache-Control", 600 * s, 60 * s},
		{"9213 2.2 order of the list", header("Cdn-Cache-Control: max-age=600", "Example-Cache-Control: max-age=6"), "Example-Cache-Control", 6 * s, 0},
		{"9213 2.2 an empty field is passed over", header("Cdn-Cache-Control: max-age=600", "Example-Cache-Control: "), "CDN-Cache-Control", 600 * s, 0},
		{"9213 2.2 a field on no list counts for nothing", header("Other-Cache-Control: no-store", "Cache-Control: max-age=60"), "Cache-Control", 60 * s, 0},
		{"9213 2.1 a malformed field is ignored", header("Cdn-Cache-Control: max-age=600, &&&", "Cache-Control: max-age=60"), "Cache-Control", 60 * s, 0},
		{"9213 2.1 upper case is malformed", header("Cdn-Cache-Control: Max-Age=600", "Cache-Control: max-age=60"), "Cache-Control", 60 * s, 0},
		{"9213 2.1 a trailing comma is malformed", header("Cdn-Cache-Control: max-age=600,", "Cache-Control: max-age=60"), "Cache-Control", 60 * s, 0},
		{"9213 2.1 space at the equals sign is malformed", header("Cdn-Cache-Control: max-age =600", "Cache-Control: max-age=60"), "Cache-Control", 60 * s, 0},
		{"9213 2.1 a string is no number", header(`Cdn-Cache-Control: max-age="600"`, "Cache-Control: max-age=60"), "", 0, 0},
		{"9213 2.1 nor is a decimal", header("Cdn-Cache-Control: max-age=600.0, s-maxage=5", "Cache-Control: max-age=60"), "CDN-Cache-Control", 5 * s, 0},
		{"9213 2.1 parameters are ignored", header("Cdn-Cache-Control: max-age=600;foo=bar"), "CDN-Cache-Control", 600 * s, 0},
		{"9213 2.1 lines are one field", header("Cdn-Cache-Control: foo", "Cdn-Cache-Control: max-age=600"), "CDN-Cache-Control", 600 * s, 0},
		{"9213 2.1 lines of which one is malformed", header("Cdn-Cache-Control: max-age=600", "Cdn-Cache-Control: =", "Cache-Control: max-age=60"), "Cache-Control", 60 * s, 0},
		{"9213 2.2 no-store", header("Cdn-Cache-Control: no-store, max-age=600", "Cache-Control: max-age=60"), "", 0, 0},
		{"9213 2.2 private", header("Cdn-Cache-Control: private, max-age=600", "Cache-Control: max-age=60"), "", 0, 0},
		{"9213 2.2 no-cache", header("Cdn-Cache-Control: no-cache, max-age=600", "Cache-Control: max-age=60"), "", 0, 0},
		{"private with a token is private", header("Cdn-Cache-Control: private=yes, max-age=600"), "", 0, 0},
		{"no-store=?0 says that it may be stored", header("Cdn-Cache-Control: no-store=?0, max-age=600"), "CDN-Cache-Control", 600 * s, 0},
		{"an inner list is no list of fields", header(`Cdn-Cache-Control: private=("a" "b"), max-age=600`), "", 0, 0},
		{"a list of fields", header(`Cdn-Cache-Control: private="a, b", max-age=600`), "CDN-Cache-Control", 600 * s, 0},
		{"negative", header("Cdn-Cache-Control: max-age=-1, stale-while-revalidate=60"), "CDN-Cache-Control", 0, 60 * s},
		{"huge", header("Cdn-Cache-Control: max-age=999999999999999"), "CDN-Cache-Control", forever, 0},
		{"5861 3 without a value", header("Cdn-Cache-Control: max-age=600, stale-while-revalidate"), "CDN-Cache-Control", 600 * s, 7 * s},

		{"Surrogate-Control comes first", header("Surrogate-Control: max-age=9", "Example-Cache-Control: max-age=6"), "Surrogate-Control", 9 * s, 0},
		{"with a time for stale use", header("Surrogate-Control: max-age=9+60"), "Surrogate-Control", 9 * s, 60 * s},
		{"no-store", header("Surrogate-Control: no-store", "Cache-Control: max-age=60"), "", 0, 0},
		{"directives for other surrogates", header("Surrogate-Control: max-age=9;other, no-store;other", "Cache-Control: max-age=60"), "Cache-Control", 60 * s, 0},
		{"content processing says nothing about caching", header(`Surrogate-Control: content="ESI/1.0"`, "Cache-Control: max-age=60"), "Cache-Control", 60 * s, 0},
		{"content processing beside caching", header(`Surrogate-Control: content="ESI/1.0", max-age=9`, "Cache-Control: no-store"), "Surrogate-Control", 9 * s, 0},
		{"a bad number", header("Surrogate-Control: max-age=x+60", "Cache-Control: max-age=60"), "Surrogate-Control", 0, 60 * s},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := Storable("GET", nil, 200, test.res, received, &policy)
			if got.OK != (test.field != "") || got.OK && got.Field != test.field || got.Life.Fresh != test.fresh || got.Life.WhileRevalidate != test.swr {
				t.Errorf("%v by %q: %+v; want %q, fresh %v, stale-while-revalidate %v", got.OK, got.Field, got.Life, test.field, test.fresh, test.swr)
			}
		})
	}
	t.Run("Surrogate-Control is off by default", func(t *testing.T) {
		got := Storable("GET", nil, 200, header("Surrogate-Control: no-store", "Cache-Control: max-age=60"), received, &safe)
		if !got.OK || got.Field != "Cache-Control" {
			t.Errorf("%v by %q", got.OK, got.Field)
		}
	})
}

func TestOmit(t *testing.T) {
	tests := []struct {
		name, value string
		want        []string
	}{
		{"5.2.2.4 no-cache", `no-cache="x-b, X-A"`, []string{"X-A", "X-B"}},
		{"5.2.2.7 private", `private="set-cookie"`, []string{"Set-Cookie"}},
		{"both", `private="x-a", no-cache="x-b,x-a"`, []string{"X-A", "X-B"}},
		{"empty members", `private=" , x-a ,,"`, []string{"X-A"}},
		{"the token form swallows no neighbour", "no-cache=x-a,private=x-b", []string{"X-A", "X-B"}},
		{"quoted pairs", `private="x\-a"`, []string{"X-A"}},
		{"nothing", "public", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := Storable("GET", nil, 200, cc("max-age=60, "+test.value), received, &safe)
			if !got.OK || !slices.Equal(got.Omit, test.want) {
				t.Errorf("%v, %q, omits %q; want %q", got.OK, got.Reason, got.Omit, test.want)
			}
		})
	}
}

// Whatever else a response says, in whatever order, on however many lines: what
// forbids is obeyed, and the result does not depend on the order.
func TestRestrictiveWinsInAnyOrder(t *testing.T) {
	pool := []string{
		"max-age=60", "max-age=5", "s-maxage=30", "public", "must-revalidate", "stale-while-revalidate=9", "stale-while-revalidate",
		"stale-if-error=9", "immutable", `ext="a, b"`, "max-age=x", "no-transform", `private="x-a"`, `no-cache="x-b"`, `a"b`, "s-maxage",
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		random.Shuffle(len(pool), func(i, j int) { pool[i], pool[j] = pool[j], pool[i] })
		some := slices.Clone(pool[:random.IntN(8)])
		forbids := []string{"no-store", "private"}[random.IntN(2)]
		if got := Storable("GET", nil, 200, cc(inLines(random, append(some, forbids))...), received, &letter); got.OK {
			t.Fatalf("%q and %s: stored, %q", some, forbids, got.Reason)
		}
		one := Storable("GET", nil, 200, cc(inLines(random, some)...), received, &letter)
		random.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
		other := Storable("GET", nil, 200, cc(inLines(random, some)...), received, &letter)
		if fmt.Sprint(one) != fmt.Sprint(other) {
			t.Fatalf("%q depends on the order:\n%+v\n%+v", some, one, other)
		}
	}
}

// inLines spreads directives, in random order, over lines.
func inLines(random *rand.Rand, directives []string) []string {
	directives = slices.Clone(directives)
	random.Shuffle(len(directives), func(i, j int) { directives[i], directives[j] = directives[j], directives[i] })
	lines := []string{""}
	for _, d := range directives {
		if random.IntN(2) == 0 {
			lines = append(lines, "")
		}
		lines[len(lines)-1] += "," + d
	}
	return lines
}

func TestInitialAge(t *testing.T) {
	tests := []struct {
		name  string
		res   http.Header
		delay time.Duration
		want  time.Duration
	}{
		{"4.2.3 nothing known", header(), 0, 0},
		{"4.2.3 apparent age", header("Date: {-100s}"), 0, 100 * s},
		{"4.2.3 a fast clock is not negative", header("Date: {100s}"), 0, 0},
		{"4.2.3 within a second there is no age", header("Date: {0}"), 0, 0},
		{"4.2.3 Age", header("Age: 30", "Date: {0}"), 0, 30 * s},
		{"4.2.3 Age and the time that it took", header("Age: 30", "Date: {0}"), 2 * s, 32 * s},
		{"4.2.3 the larger", header("Age: 30", "Date: {-100s}"), 2 * s, 100 * s},
		{"4.2.3 the time that it took alone", header("Date: {0}"), 2 * s, 2 * s},
		{"a clock that was set back meanwhile", header("Age: 30"), -5 * s, 30 * s},
		{"5.1 not a number", header("Age: abc"), 0, 0},
		{"5.1 negative", header("Age: -7200"), 0, 0},
		{"5.1 a decimal", header("Age: 7200.0"), 0, 0},
		{"5.1 with a parameter", header("Age: 7200;foo=bar"), 0, 0},
		{"5.1 the first of a list", header("Age: 7200, 0"), 0, 7200 * s},
		{"5.1 the first of lines", header("Age: 0", "Age: 7200"), 0, 0},
		{"5.1 the first, even if it is bad", header("Age: x, 7200"), 0, 0},
		{"5.1 empty members are none", header("Age: , 7200"), 0, 7200 * s},
		{"1.2.2 overflow", header("Age: 2147483648"), s, forever},
		{"a bad Date counts for nothing", header("Date: foo"), 0, 0},
		{"a Date before all clocks", header("Date: Mon, 01 Jan 0001 00:00:00 GMT"), 0, forever},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := InitialAge(test.res, received.Add(-test.delay), received); got != test.want {
				t.Errorf("InitialAge = %v; want %v", got, test.want)
			}
		})
	}
}

func BenchmarkStorable(b *testing.B) {
	res := header("Cache-Control: public, max-age=60, stale-while-revalidate=300", "Vary: Accept-Encoding", `Etag: "a"`)
	b.ReportAllocs()
	for b.Loop() {
		Storable("GET", nil, 200, res, received, &safe)
	}
}
