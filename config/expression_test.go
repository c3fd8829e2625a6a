package config

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// compiled is a file's only condition and only header value.
func compiled(t testing.TB, when, value string) (Condition, Header) {
	t.Helper()
	config := parse(t, fmt.Sprintf(`
origin "app" { url = "http://127.0.0.1:3000" }
site "main" {
  hosts = ["*"]
  route "a" {
    path = "/*"
    when = %s
    request_headers {
      set = { "X-A" = %s }
    }
  }
}`, when, value))
	route := config.Sites[0].Routes[0]
	return route.When, route.Request.Set[0]
}

func testRequest() *http.Request {
	return &http.Request{
		Method:     "GET",
		Host:       "Shop.Example:8080",
		RemoteAddr: "192.0.2.7:4711",
		URL:        &url.URL{Path: "/a b/c", RawPath: "/a%20b/c", RawQuery: "q=red+shoes&q=2&empty=&%61=encoded&bad=%zz&;x=1&last"},
		TLS:        &tls.ConnectionState{},
		Header: http.Header{
			"Accept":     {"text/html", "application/json"},
			"User-Agent": {"curl/8"},
			"Cookie":     {"a=1; session=\"x y\"", "b=2;c; a=3"},
			"X-Empty":    {""},
		},
	}
}

func TestConditions(t *testing.T) {
	tests := []struct {
		expression string
		want       bool
	}{
		{`req.host == "shop.example"`, true},
		{`req.host != "shop.example"`, false},
		{`req.method == "GET" && req.scheme == "https"`, true},
		{`req.method == "POST" || req.path == "/a b/c"`, true},
		{`req.method == "POST" || false`, false},
		{`!(req.method == "POST")`, true},
		{`req.method == "POST" && req.host == "shop.example" || req.scheme == "https"`, true},
		{`req.method == "POST" && (req.host == "shop.example" || req.scheme == "https")`, false},
		{`(req.method == "GET") == (req.scheme == "https")`, true},
		{`(req.method == "GET") != (req.scheme == "https")`, false},
		{`req.client_ip == "192.0.2.7"`, true},
		{`contains(req.path, "b/c")`, true},
		{`contains(["GET", "HEAD"], req.method)`, true},
		{`contains(["POST", "PUT"], req.method)`, false},
		{`contains([], req.method)`, false},
		{`starts_with(req.path, "/a")`, true},
		{`ends_with(req.path, "/a")`, false},
		{`starts_with(req.path, req.path)`, true},
		{`regex("^/a .*c$", req.path)`, true},
		{`regex("(?i)SHOP", req.host)`, true},
		{`regex("^shop$", req.host)`, false},
		{`contains(req.header["accept"], "json")`, true},
		{`req.header["X-Missing"] == ""`, true},
		{`req.header["X-Empty"] == ""`, true},
		{`req.header.User-Agent == "curl/8"`, true},
		{`req.cookie["session"] == "x y"`, true},
		{`req.cookie.a == "1"`, true},
		{`req.cookie["b"] == "2"`, true},
		{`req.cookie["c"] == ""`, true},
		{`req.cookie["sess"] == ""`, true},
		{`req.param["q"] == "red shoes"`, true},
		{`req.param["a"] == "encoded"`, true},
		{`req.param["bad"] == "%zz"`, true},
		{`req.param["x"] == ""`, true},
		{`req.param["empty"] == req.param["missing"]`, true},
		{`lower(req.header["User-Agent"]) == "curl/8"`, true},
		{`upper("get") == req.method`, true},
		{`req.method == "GET" ? req.scheme == "https" : false`, true},
		{`req.method == "POST" ? true : req.scheme == "http"`, false},
		{`(false ? "GET" : "POST") == req.method`, false},
		{`(req.method == "POST" ? "a" : "b") == "b"`, true},
		{`"${req.method}" == "GET"`, true},
		{`"%{ if req.method == "GET" }yes%{ else }no%{ endif }" == "yes"`, true},
	}
	for _, tt := range tests {
		when, _ := compiled(t, tt.expression, `"x"`)
		if when == nil {
			t.Errorf("%s is taken for a constant", tt.expression)
		} else if got := when(testRequest()); got != tt.want {
			t.Errorf("%s is %v", tt.expression, got)
		}
	}
}

func TestValues(t *testing.T) {
	tests := []struct{ expression, want, text string }{
		{`"plain"`, "plain", `"plain"`},
		{`"${req.host}${req.path}"`, "shop.example/a b/c", `(req.host+req.path)`},
		{`"<${"a"}b${lower("C")}-${req.method}>"`, "<abc-GET>", `("<abc-"+req.method+">")`},
		{`req.query`, "q=red+shoes&q=2&empty=&%61=encoded&bad=%zz&;x=1&last", "req.query"},
		{`req.header["accept"]`, "text/html, application/json", `req.header["Accept"]`},
		{`req.header["cookie"]`, "a=1; session=\"x y\"; b=2;c; a=3", `req.header["Cookie"]`},
		{`req.scheme == "https" ? "on" : req.host`, "on", `((req.scheme=="https")?"on":req.host)`},
		{`true ? req.method : req.host`, "GET", "req.method"},
		{`"1${req.method}2${req.method}3${req.method}4${req.method}5${req.method}6"`, "1GET2GET3GET4GET5GET6", `("1"+req.method+"2"+req.method+"3"+req.method+"4"+req.method+"5"+req.method+"6")`},
		{`!regex("a+", "caat") || !contains(["a"], "b") ? upper("x") : "y"`, "X", `"X"`},
		{"\"a\\tb\"", "a\tb", `"a\tb"`},
		{`"$${req.host} %%{x}"`, "${req.host} %{x}", `"${req.host} %{x}"`},
		{`""`, "", `""`},
	}
	for _, tt := range tests {
		_, header := compiled(t, `req.host == "x"`, tt.expression)
		if got := header.Value(testRequest()); got != tt.want || header.Text != tt.text {
			t.Errorf("%s is %q as %s; want %q as %s", tt.expression, got, header.Text, tt.want, tt.text)
		}
	}
}

// TestSpellingIsStable: what means the same is one text, so that a digest does not
// change with white space, brackets or the case of a header's name.
func TestSpellingIsStable(t *testing.T) {
	var first string
	for i, expression := range []string{
		`req.header["X-A"] == "b" && !(req.host == "c")`,
		`( (req.header["x-a"]=="b") && req.host!="c" )`,
		`req.header.x-a == "${"b"}" && req.host != lower("C")`,
	} {
		config := parse(t, smallest[:strings.Index(smallest, "site")]+"site \"main\" {\nhosts = [\"*\"]\nroute \"a\" {\npath = \"/\"\nwhen = "+expression+"\n}\n}")
		text := config.Sites[0].Routes[0].WhenText
		if i == 0 {
			first = text
		} else if text != first {
			t.Errorf("%s is spelled %s, not %s", expression, text, first)
		}
	}
}

// TestHeaderValuesStayInTheirLine: nothing that a request brings can end the line
// of a header that a rule writes.
func TestHeaderValuesStayInTheirLine(t *testing.T) {
	_, header := compiled(t, `req.host == "x"`, `"<${req.path}|${req.param["q"]}|${req.cookie.a}>"`)
	r := testRequest()
	r.URL.Path = "/a\r\nSet-Cookie: x=1"
	r.URL.RawQuery = "q=%0d%0aX: 1%00%7f%09tab"
	r.Header["Cookie"] = []string{"a=\x1bü"}
	if got, want := header.Value(r), "</aSet-Cookie: x=1|X: 1\ttab|ü>"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRequestHost(t *testing.T) {
	for host, want := range map[string]string{
		"a.example": "a.example", "A.example:80": "a.example", "[::1]:80": "[::1]", "[::1]": "[::1]", "": "",
	} {
		if got := requestHost(&http.Request{Host: host}); got != want {
			t.Errorf("host of %q = %q", host, got)
		}
	}
}

func TestRequestScheme(t *testing.T) {
	if got := requestScheme(&http.Request{}) + " " + requestScheme(&http.Request{TLS: &tls.ConnectionState{}}); got != "http https" {
		t.Errorf("got %s", got)
	}
}

func TestClientIP(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1:80": "192.0.2.1", "192.0.2.1": "192.0.2.1", "[2001:db8::1]:80": "2001:db8::1", "2001:db8::1": "2001:db8::1", "": "",
	} {
		if got := clientIP(&http.Request{RemoteAddr: address}); got != want {
			t.Errorf("address of %q = %q", address, got)
		}
	}
}

const (
	benchCondition = `(req.host == "shop.example" || ends_with(req.host, ".example")) && contains(["GET", "HEAD"], req.method) && !starts_with(req.path, "/admin/") && req.cookie["b"] != "3" && req.param["q"] != "blue" && req.header["User-Agent"] != "" && req.client_ip != ""`
	benchTemplate  = `"${req.scheme}://${req.host}${req.path}?${req.query}"`
)

func benchRequest() *http.Request {
	r := testRequest()
	r.Host = "shop.example:8080"
	r.URL.RawQuery = "page=2&q=shoes"
	return r
}

// TestAllocations holds what conditions and templates may cost on the hot path.
func TestAllocations(t *testing.T) {
	when, header := compiled(t, benchCondition, benchTemplate)
	r := benchRequest()
	if !when(r) || header.Value(r) != "https://shop.example/a b/c?page=2&q=shoes" {
		t.Fatalf("the expressions have other values: %v, %q", when(r), header.Value(r))
	}
	if n := testing.AllocsPerRun(100, func() { when(r) }); n != 0 {
		t.Errorf("a condition allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() { header.Value(r) }); n > 1 {
		t.Errorf("a template allocates %v times", n)
	}
}

func BenchmarkCondition(b *testing.B) {
	when, _ := compiled(b, benchCondition, `"x"`)
	r := benchRequest()
	b.ReportAllocs()
	for b.Loop() {
		when(r)
	}
}

func BenchmarkRegex(b *testing.B) {
	when, _ := compiled(b, `regex("^/(a|b) .*/c$", req.path)`, `"x"`)
	r := benchRequest()
	b.ReportAllocs()
	for b.Loop() {
		when(r)
	}
}

func BenchmarkTemplate(b *testing.B) {
	_, header := compiled(b, `req.host == "x"`, benchTemplate)
	r := benchRequest()
	b.ReportAllocs()
	for b.Loop() {
		header.Value(r)
	}
}

func BenchmarkParse(b *testing.B) {
	var source strings.Builder
	source.WriteString(smallest[:strings.Index(smallest, "site")] + "site \"main\" {\n  hosts = [\"*\"]\n")
	for i := range 1000 {
		n := strconv.Itoa(i)
		source.WriteString("  route \"r" + n + "\" {\n    path = \"/p" + n + "/*\"\n    when = req.host == \"a\"\n    cache {\n      ttl = \"5m\"\n    }\n  }\n")
	}
	source.WriteString("}\n")
	for b.Loop() {
		if _, err := Parse("edge.hcl", []byte(source.String())); err != nil {
			b.Fatal(err)
		}
	}
}
