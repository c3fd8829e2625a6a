package rfc9111

import (
	"net/http"
	"net/url"
	"slices"
	"testing"
)

func TestInvalidates(t *testing.T) {
	const self = "http://example.com/a/b?c=d"
	tests := []struct {
		name   string
		method string
		status int
		res    http.Header
		want   []string
	}{
		{"4.4 POST", "POST", 200, nil, []string{self}},
		{"4.4 PUT", "PUT", 204, nil, []string{self}},
		{"4.4 DELETE", "DELETE", 200, nil, []string{self}},
		{"4.4 a method of unknown safety", "M-SEARCH", 200, nil, []string{self}},
		{"4.4 a redirect is no error", "POST", 303, nil, []string{self}},
		{"4.4 an error", "POST", 404, header("Location: /x"), nil},
		{"4.4 a server's error", "DELETE", 500, nil, nil},
		{"4.4 not final", "POST", 103, nil, nil},
		{"4.4 a safe method", "GET", 200, header("Location: /x"), nil},
		{"4.4 Location", "POST", 201, header("Location: /x?y"), []string{self, "http://example.com/x?y"}},
		{"4.4 Content-Location, relative", "POST", 200, header("Content-Location: x"), []string{self, "http://example.com/a/x"}},
		{"4.4 both", "POST", 201, header("Location: /x", "Content-Location: /y"), []string{self, "http://example.com/x", "http://example.com/y"}},
		{"once each", "POST", 201, header("Location: /x", "Content-Location: http://EXAMPLE.com:80/x#f"), []string{self, "http://example.com/x"}},
		{"the target again", "POST", 200, header("Content-Location: b?c=d", "Location: "+self+"#f"), []string{self}},
		{"4.4 another host", "POST", 200, header("Location: http://evil.example/x"), []string{self}},
		{"4.4 another host, without a scheme", "POST", 200, header("Location: //evil.example/x"), []string{self}},
		{"4.4 another port", "POST", 200, header("Location: http://example.com:8080/x"), []string{self}},
		{"4.4 another scheme", "POST", 200, header("Location: https://example.com/x"), []string{self}},
		{"user information", "POST", 200, header("Location: http://user@example.com/x"), []string{self}},
		{"not a URL", "POST", 200, header("Location: http://[::1"), []string{self}},
		{"opaque", "POST", 200, header("Location: mailto:a@b"), []string{self}},
		{"empty", "POST", 200, header("Location: "), []string{self}},
		{"two that differ", "POST", 200, header("Location: /x", "Location: /y"), []string{self}},
		{"dot segments", "POST", 200, header("Location: /x/../y"), []string{self, "http://example.com/y"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			target, err := url.Parse(self)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, u := range Invalidates(test.method, target, test.status, test.res) {
				got = append(got, u.String())
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("invalidates %q; want %q", got, test.want)
			}
			if target.String() != self {
				t.Errorf("the target has become %s", target)
			}
		})
	}
}
