package rfc9111

import (
	"net/http"
	"reflect"
	"testing"

	"edge/cachestore"
)

func TestNotModified(t *testing.T) {
	tagged := header(`Etag: "abc"`, "Last-Modified: {-1h}", "Date: {0}")
	weak := header(`Etag: W/"abc"`, "Date: {0}")
	dated := header("Last-Modified: {-1h}", "Date: {0}")
	bare := header("Date: {0}")
	tests := []struct {
		name   string
		method string
		status int
		req    http.Header
		stored http.Header
		want   bool
	}{
		{"no condition", "GET", 200, header(), tagged, false},
		{"13.1.2 the tag", "GET", 200, header(`If-None-Match: "abc"`), tagged, true},
		{"13.1.2 HEAD", "HEAD", 200, header(`If-None-Match: "abc"`), tagged, true},
		{"13.1.2 another tag", "GET", 200, header(`If-None-Match: "abcd"`), tagged, false},
		{"13.1.2 first of several", "GET", 200, header(`If-None-Match: "abc", "1"`), tagged, true},
		{"13.1.2 middle of several", "GET", 200, header(`If-None-Match: "1","abc" , "2"`), tagged, true},
		{"13.1.2 last of several, on another line", "GET", 200, header(`If-None-Match: "1"`, `If-None-Match: "2", "abc"`), tagged, true},
		{"13.1.2 any", "GET", 200, header("If-None-Match: *"), bare, true},
		{"8.8.3.2 weak against strong", "GET", 200, header(`If-None-Match: W/"abc"`), tagged, true},
		{"8.8.3.2 strong against weak", "GET", 200, header(`If-None-Match: "abc"`), weak, true},
		{"8.8.3.2 weak against weak", "GET", 200, header(`If-None-Match: W/"abc"`), weak, true},
		{"8.8.3 a comma in a tag", "GET", 200, header(`If-None-Match: "x, "abc", y"`), tagged, false},
		{"8.8.3 a tag with a comma", "GET", 200, header(`If-None-Match: "1", "a,b"`), header(`Etag: "a,b"`), true},
		{"8.8.3 a backslash escapes nothing", "GET", 200, header(`If-None-Match: "a\", "abc"`), tagged, true},
		{"8.8.3 bytes outside of ASCII", "GET", 200, header("If-None-Match: \"\xc3\xbc\""), header("Etag: \"\xc3\xbc\""), true},
		{"a tag without quotes is not one with", "GET", 200, header("If-None-Match: abc"), tagged, false},
		{"a tag without quotes that was sent so", "GET", 200, header("If-None-Match: 1, abc"), header("Etag: abc"), true},
		{"an open quote", "GET", 200, header(`If-None-Match: "abc`), tagged, false},
		{"empty", "GET", 200, header("If-None-Match: "), header(), false},
		{"13.1.2 no tag is stored", "GET", 200, header(`If-None-Match: "abc"`), dated, false},

		{"13.2.2 tags before dates: no match", "GET", 200, header(`If-None-Match: "x"`, "If-Modified-Since: {0}"), tagged, false},
		{"13.2.2 tags before dates: match", "GET", 200, header(`If-None-Match: "abc"`, "If-Modified-Since: {-9h}"), tagged, true},
		{"13.2.2 tags before dates: no tag is stored", "GET", 200, header(`If-None-Match: "x"`, "If-Modified-Since: {0}"), dated, false},

		{"13.1.3 the same date", "GET", 200, header("If-Modified-Since: {-1h}"), dated, true},
		{"13.1.3 a later date", "GET", 200, header("If-Modified-Since: {-30m}"), dated, true},
		{"13.1.3 an earlier date", "GET", 200, header("If-Modified-Since: {-2h}"), dated, false},
		{"13.1.3 another format", "GET", 200, header("If-Modified-Since: Monday, 15-Jun-26 11:00:00 GMT"), dated, true},
		{"13.1.3 not a date", "GET", 200, header("If-Modified-Since: 0"), dated, false},
		{"13.1.3 two dates", "GET", 200, header("If-Modified-Since: {0}", "If-Modified-Since: {0}"), dated, false},
		{"4.3.2 without Last-Modified, Date", "GET", 200, header("If-Modified-Since: {0}"), bare, true},
		{"4.3.2 newer than what the client has", "GET", 200, header("If-Modified-Since: {-50m}"), bare, false},
		{"4.3.2 a Last-Modified that is none", "GET", 200, header("If-Modified-Since: {0}"), header("Last-Modified: x", "Date: {0}"), false},

		{"13.2.1 not a 2xx", "GET", 404, header(`If-None-Match: "abc"`), tagged, false},
		{"13.2.1 a redirect", "GET", 301, header("If-None-Match: *"), tagged, false},
		{"13.2.1 another method", "POST", 200, header(`If-None-Match: "abc"`), tagged, false},
		{"4.3.2 what is the origin's alone", "GET", 200, header(`If-Match: "abc"`, "If-Unmodified-Since: {0}"), tagged, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := NotModified(test.method, test.req, test.status, cachestore.NewHead(test.stored)); got != test.want {
				t.Errorf("%s %v of a stored %d %v: not modified %v; want %v", test.method, test.req, test.status, test.stored, got, test.want)
			}
		})
	}
}

func TestStripFor304(t *testing.T) {
	h := header("Cache-Control: a", "Content-Location: a", "Date: {0}", `Etag: "a"`, "Expires: {0}", "Vary: a", "X: a",
		"Last-Modified: {0}", "Content-Type: a/b", "Content-Length: 5", "Content-Encoding: gzip", "Content-Language: de", "Content-Range: x")
	StripFor304(h)
	if want := header("Cache-Control: a", "Content-Location: a", "Date: {0}", `Etag: "a"`, "Expires: {0}", "Vary: a", "X: a"); !reflect.DeepEqual(h, want) {
		t.Errorf("a 304 carries %v; want %v (RFC 9110 section 15.4.5)", h, want)
	}
	h = header("Last-Modified: {0}", "Content-Type: a/b")
	StripFor304(h)
	if want := header("Last-Modified: {0}"); !reflect.DeepEqual(h, want) {
		t.Errorf("a 304 carries %v; want %v: Last-Modified is all there is to know it by", h, want)
	}
}

func BenchmarkNotModified(b *testing.B) {
	head := cachestore.NewHead(header(`Etag: "abc"`, "Last-Modified: {-1h}", "Date: {0}"))
	for name, req := range map[string]http.Header{
		"none":  browser,
		"tag":   header(`If-None-Match: W/"abc"`),
		"since": header("If-Modified-Since: {-1h}"),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				NotModified("GET", req, 200, head)
			}
		})
	}
}
