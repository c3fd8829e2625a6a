package proxy

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
)

func TestTargetsHaveOneForm(t *testing.T) {
	for _, c := range []struct{ target, path, escaped string }{
		{"/", "/", "/"},
		{"/a/b", "/a/b", "/a/b"},
		{"/a/./b", "/a/b", "/a/b"},
		{"/a/../b", "/b", "/b"},
		{"/a/..", "/", "/"},
		{"/a/.", "/a/", "/a/"},
		{"/../../etc", "/etc", "/etc"},
		{"/a/%2e%2E/b", "/b", "/b"},
		{"/%41%7eb", "/A~b", "/A~b"},
		{"/a%2fb", "/a/b", "/a%2Fb"},
		{"/a//b", "/a//b", "/a//b"},
		{"/.well-known/x", "/.well-known/x", "/.well-known/x"},
		{"/caf%c3%a9", "/café", "/caf%C3%A9"},
		{"/a|b", "/a|b", "/a%7Cb"},
		{"/a%2fb|", "/a/b|", "/a%2Fb%7C"},
		{"/a%2Fb\"{}", "/a/b\"{}", "/a%2Fb%22%7B%7D"},
		{"/a|/../%62", "/b", "/b"},
	} {
		r := httptest.NewRequest(http.MethodGet, c.target, nil)
		if wrong := normaliseTarget(r); wrong != "" {
			t.Errorf("%s: refused: %s", c.target, wrong)
		} else if r.URL.Path != c.path || r.URL.EscapedPath() != c.escaped {
			t.Errorf("%s: path %q sent as %q, want %q and %q", c.target, r.URL.Path, r.URL.EscapedPath(), c.path, c.escaped)
		}
	}
}

func TestAmbiguousTargetsAreRefused(t *testing.T) {
	for _, uri := range []string{"/share/%2F..%2Fapi", "/a/..%2fb", "/a%5c..%5cb", "/a%00b", "/share/%2F..%2Fapi|", "/a\\..\\b", "/#/x", "/caf\xe9"} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RequestURI = uri
		if u, err := url.ParseRequestURI(uri); err == nil {
			r.URL = u
		}
		if wrong := normaliseTarget(r); wrong == "" {
			t.Errorf("%q: accepted as %q", uri, r.URL.EscapedPath())
		}
	}
}

// W2: a delimiter is one wherever it stands, encoded or not.
func TestDelimiters(t *testing.T) {
	for path, want := range map[string]bool{
		"/static/a.css": false, "/static/caf%C3%A9.css": false, "/static/a%20b%7B.css": false,
		"/static/..;/account": true, "/static/..;/account/%20": true, "/static/..;%20/account": true, "/static/x;%C3%A9": true, "/static/%7Bx;a": true,
		"/static/x%3Ba": true, "/static/%20%23a": true, "/static/a%0A.css": true, "/static/a%2Fb": true,
	} {
		if got := encodedDelimiter(path); got != want {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
}

func TestAuthorities(t *testing.T) {
	for _, c := range []struct{ host, scheme, want string }{
		{"Shop.Example", "http", "shop.example"},
		{"shop.example:80", "http", "shop.example"},
		{"shop.example:443", "https", "shop.example"},
		{"shop.example:443", "http", "shop.example:443"},
		{"[::1]:8080", "http", "[::1]:8080"},
		{"[::1]", "http", "[::1]"},
		{"a:bad", "http", ""},
		{"a:0", "http", ""},
		{"a:65536", "http", ""},
		{"a:", "http", ""},
		{"", "http", ""},
		{"a@b", "http", ""},
		{"a/b", "http", ""},
		{"a b", "http", ""},
		{"[::1", "http", ""},
	} {
		if got, _ := normalAuthority(c.host, c.scheme); got != c.want {
			t.Errorf("%q over %s: %q, want %q", c.host, c.scheme, got, c.want)
		}
	}
}

func TestQueryRules(t *testing.T) {
	for _, c := range []struct {
		name, raw, want string
		rule            queryRule
	}{
		{"untouched", "b=2&a=1;x&%zz", "b=2&a=1;x&%zz", queryRule{}},
		{"sorted by name, equal names in order", "b=2&a=2&a=1", "a=2&a=1&b=2", queryRule{sort: true}},
		{"only allowed", "utm=1&id=7&x=2", "id=7", queryRule{allow: []string{"id"}}},
		{"none allowed", "utm=1", "", queryRule{allow: []string{}}},
		{"denied", "utm=1&id=7", "id=7", queryRule{deny: []string{"utm"}}},
		{"a semicolon hides nothing", "utm=1;id=9&id=7", "id=7", queryRule{deny: []string{"utm"}}},
		{"names are compared raw", "%75tm=1", "%75tm=1", queryRule{deny: []string{"utm"}}},
	} {
		if got := c.rule.apply(c.raw); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// Where underscores are let through, what an origin could take for a field that
// overrides another is not.
func TestUnderscores(t *testing.T) {
	for _, c := range []struct {
		name           string
		dropped, alike bool // by default, and where underscores pass
	}{
		{"X_shop", true, false},
		{"X-Shop", false, false},
		{"X_forwarded_host", true, true},
		{"X-Forwarded_host", true, true},
		{"X-Forwarded-Host", true, true},
		{"True_client_ip", true, true},
	} {
		h := &Handler{}
		if got := h.drops(c.name); got != c.dropped {
			t.Errorf("%s: dropped by default: %v", c.name, got)
		}
		h.Rules.Underscores = true
		if got := h.drops(c.name); got != c.alike {
			t.Errorf("%s: dropped where underscores pass: %v", c.name, got)
		}
	}
}
