package rfc9111

import (
	"maps"
	"net/http"
	"reflect"
	"slices"
	"testing"

	"edge/cachestore"
)

func TestConditional(t *testing.T) {
	client := func() http.Header {
		return header("Accept: a/b", `If-None-Match: "client"`, "If-Modified-Since: {-9h}", `If-Match: "x"`, "If-Unmodified-Since: {0}", `If-Range: "x"`, "Range: bytes=0-1")
	}
	tests := []struct {
		name   string
		stored http.Header
		want   http.Header // nil: there is nothing to ask with
	}{
		{"4.3.1 both validators", header(`Etag: "a"`, "Last-Modified: {-1h}"), header("Accept: a/b", `If-None-Match: "a"`, "If-Modified-Since: {-1h}")},
		{"4.3.1 a weak entity tag", header(`Etag: W/"a"`), header("Accept: a/b", `If-None-Match: W/"a"`)},
		{"4.3.1 a date only", header("Last-Modified: {-1h}"), header("Accept: a/b", "If-Modified-Since: {-1h}")},
		{"13.1.3 the date as it stands", header("Last-Modified: Sunday, 06-Nov-94 08:49:37 GMT"), header("Accept: a/b", "If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT")},
		{"an entity tag as it stands", header("Etag: a"), header("Accept: a/b", "If-None-Match: a")},
		{"a date that is none", header("Last-Modified: yesterday"), nil},
		{"nothing", header("Date: {0}"), nil},
		{"validators that disagree", header(`Etag: "a"`, `Etag: "b"`), nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := client()
			if ok := Conditional(got, cachestore.NewHead(test.stored)); ok != (test.want != nil) {
				t.Fatalf("Conditional = %v", ok)
			}
			if want := test.want; want == nil && !reflect.DeepEqual(got, client()) || want != nil && !reflect.DeepEqual(got, want) {
				t.Errorf("the request is %v; want %v", got, want)
			}
		})
	}
}

func TestValidates(t *testing.T) {
	tests := []struct {
		name   string
		stored http.Header
		res    http.Header
		want   bool
	}{
		{"4.3.4 the same strong tag", header(`Etag: "a"`), header(`Etag: "a"`), true},
		{"4.3.4 another strong tag", header(`Etag: "a"`), header(`Etag: "b"`), false},
		{"4.3.4 another strong tag, the same date", header(`Etag: "a"`, "Last-Modified: {-1h}"), header(`Etag: "b"`, "Last-Modified: {-1h}"), false},
		{"4.3.4 the same strong tag, another date", header(`Etag: "a"`, "Last-Modified: {-1h}"), header(`Etag: "a"`, "Last-Modified: {0}"), true},
		{"4.3.4 a strong tag is not the stored weak one", header(`Etag: W/"a"`), header(`Etag: "a"`), false},
		{"4.3.4 the same weak tag", header(`Etag: W/"a"`), header(`Etag: W/"a"`), true},
		{"4.3.4 a weak tag matches a strong one weakly", header(`Etag: "a"`), header(`Etag: W/"a"`), true},
		{"4.3.4 another weak tag", header(`Etag: W/"a"`), header(`Etag: W/"b"`), false},
		{"4.3.4 a tag where none is stored", header("Last-Modified: {-1h}"), header(`Etag: "a"`, "Last-Modified: {-1h}"), false},
		{"4.3.4 the same date", header("Last-Modified: {-1h}"), header("Last-Modified: {-1h}"), true},
		{"4.3.4 the same date in another format", header("Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"), header("Last-Modified: Sun Nov  6 08:49:37 1994"), true},
		{"4.3.4 another date", header("Last-Modified: {-1h}"), header("Last-Modified: {0}"), false},
		{"4.3.4 a date where none is stored", header(`Etag: "a"`), header("Last-Modified: {0}"), false},
		{"4.3.4 no validator on either side", header(), header(), true},
		{"no validator: it answers the one that was sent", header(`Etag: "a"`), header("Date: {0}"), true},
		{"tags that disagree", header(`Etag: "a"`), header(`Etag: "a"`, `Etag: "b"`), false},
		{"a tag without quotes", header("Etag: a"), header("Etag: a"), true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := Validates(cachestore.NewHead(test.stored), test.res); got != test.want {
				t.Errorf("stored %v, 304 with %v: %v; want %v", test.stored, test.res, got, test.want)
			}
		})
	}
}

func TestMerge(t *testing.T) {
	tests := []struct {
		name   string
		stored http.Header
		res    http.Header
		omit   []string
		want   http.Header
	}{
		{"3.2 added, replaced, left", header("A: 1", "B: 1"), header("B: 2", "C: 2"), nil, header("A: 1", "B: 2", "C: 2")},
		{"3.2 all lines are replaced", header("A: 1", "A: 2"), header("A: 3"), nil, header("A: 3")},
		{"3.2 Content- is not special", header("Content-Foo: 1", "Content-Type: a/b"), header("Content-Foo: 2", "Content-Type: c/d"), nil, header("Content-Foo: 2", "Content-Type: c/d")},
		{"3.2 Content-Length", header("Content-Length: 36"), header("Content-Length: 10"), nil, header("Content-Length: 36")},
		{"3.2 Content-Length that was not there", header(), header("Content-Length: 0"), nil, header()},
		{"3.2 what the stored bytes are", header("Content-Encoding: gzip"), header("Content-Encoding: br", "Content-Range: bytes 0-1/2"), nil, header("Content-Encoding: gzip")},
		{"3.1 connection", header("A: 1", "B: 1"), header("Connection: a, X-Hop", "A: 2", "X-Hop: 2", "Keep-Alive: 2", "Proxy-Authenticate: 2", "B: 2"), nil, header("A: 1", "B: 2")},
		{"5.2.2.4 fields to leave out go", header("A: 1", "B: 1"), header("A: 2", "B: 2"), []string{"A"}, header("B: 2")},
		{"4.2.3 an Age counted from before", header("Age: 600"), header("A: 2"), nil, header("A: 2")},
		{"4.2.3 a new Age", header("Age: 600"), header("Age: 5"), nil, header("Age: 5")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			stored := cachestore.NewHead(test.stored)
			res := test.res.Clone()
			got := Merge(stored, test.res, test.omit)
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("Merge = %v; want %v", got, test.want)
			}
			for name := range got {
				got[name][0] = "changed"
			}
			if !reflect.DeepEqual(stored.Header(), test.stored) || !reflect.DeepEqual(test.res, res) {
				t.Error("a change of the result changed what it was made from")
			}
		})
	}
}

func TestFreshen(t *testing.T) {
	tests := []struct {
		name   string
		stored http.Header
		res    http.Header
		want   Freshening
	}{
		{"4.3.5 all the same", header(`Etag: "a"`, "Last-Modified: {-1h}"), header(`Etag: "a"`, "Last-Modified: {-1h}", "Content-Length: 100"), HeadFreshens},
		{"4.3.5 only what was received", header(`Etag: "a"`, "Last-Modified: {-1h}"), header(`Etag: "a"`), HeadFreshens},
		{"4.3.5 another tag", header(`Etag: "a"`), header(`Etag: "b"`, "Content-Length: 100"), HeadInvalidates},
		{"4.3.5 another date", header(`Etag: "a"`, "Last-Modified: {-1h}"), header(`Etag: "a"`, "Last-Modified: {0}"), HeadInvalidates},
		{"4.3.5 a tag where none is stored", header(), header(`Etag: "a"`), HeadInvalidates},
		{"4.3.5 the length", header(), header("Content-Length: 100"), HeadFreshens},
		{"4.3.5 another length", header(`Etag: "a"`), header(`Etag: "a"`, "Content-Length: 101"), HeadInvalidates},
		{"a length that is none", header(), header("Content-Length: x"), HeadSaysNothing},
		{"nothing to compare", header(`Etag: "a"`), header("Cache-Control: max-age=1000"), HeadSaysNothing},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := Freshen(cachestore.NewHead(test.stored), 100, test.res); got != test.want {
				t.Errorf("Freshen = %v; want %v", got, test.want)
			}
		})
	}
}

func TestStoredHeader(t *testing.T) {
	res := header("Connection: close, A, b", "Connection: c", "A: 1", "B: 1", "C: 1", "D: 1", "E: 1", "Set-Cookie: a", "Keep-Alive: x", "Te: x",
		"Trailer: x", "Transfer-Encoding: x", "Upgrade: x", "Proxy-Connection: x", "Proxy-Authenticate: x", "Proxy-Authorization: x", "Proxy-Authentication-Info: x")
	got := StoredHeader(res, []string{"E"})
	if want := []string{"D", "Set-Cookie"}; !slices.Equal(slices.Sorted(maps.Keys(got)), want) {
		t.Errorf("stored are %v; want %v (RFC 9111 section 3.1)", got, want)
	}
	got["D"][0] = "changed"
	if res.Get("D") != "1" {
		t.Error("a change of the result changed what it was made from")
	}
}

func TestSafeMethod(t *testing.T) {
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "TRACE"} {
		if !SafeMethod(method) {
			t.Errorf("%s is safe (RFC 9110 section 9.2.1)", method)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "CONNECT", "M-SEARCH", "get", ""} {
		if SafeMethod(method) {
			t.Errorf("%q is not known to be safe", method)
		}
	}
}
