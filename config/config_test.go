package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// parse is Parse for sources that must be accepted.
func parse(t testing.TB, source string) *Config {
	t.Helper()
	config, err := Parse("edge.hcl", []byte(source))
	if err != nil {
		var shown strings.Builder
		if refused, ok := errors.AsType[*Error](err); ok {
			refused.WriteTo(&shown)
		}
		t.Fatalf("%v\n%s", err, shown.String())
	}
	return config
}

const smallest = `
origin "app" { url = "http://127.0.0.1:3000" }
site "main" { hosts = ["*"] }
`

// wantDefaults is what a node is when its file says nothing: the table that the
// comments on Config promise, written a second time.
func wantDefaults() *Config {
	return &Config{
		Node:   "edge",
		Listen: []string{":8080"},
		Admin:  Admin{Listen: "127.0.0.1:9090"},
		Log:    Log{Level: "info", Format: "auto", Access: true},
		Server: Server{
			HeaderTimeout: 10 * time.Second, BodyTimeout: 30 * time.Second, IdleTimeout: 75 * time.Second,
			WriteTimeout: 60 * time.Second, MinBodyRate: 100, MaxHeaderBytes: 8192, MaxTargetBytes: 4096, MaxFields: 100,
			MaxFieldBytes: 4096, Underscores: "drop", ConnectionsPerClient: 16384, Quick: true, ShutdownGrace: 30 * time.Second,
		},
		Memory:  Memory{Size: 268435456, MaxObject: 8388608, MaxVariants: 32},
		Fill:    Fill{Budget: 67108864, Window: 1048576, Wait: 10 * time.Second, Stall: 30 * time.Second},
		Refresh: Refresh{Workers: 16, Queue: 1024, Attempts: 3, Backoff: 500 * time.Millisecond},
		Origins: []Origin{{
			Name: "app", URL: "http://127.0.0.1:3000",
			ConnectTimeout: 2 * time.Second, FirstByte: 30 * time.Second, BetweenBytes: 30 * time.Second,
			IdleTimeout: 4 * time.Second, MaxHeaderBytes: 65536,
		}},
		Sites: []Site{{
			Name: "main", Hosts: []string{"*"},
			Routes: []Route{{Name: "default", Path: "/*", Origin: "app", Upgrade: true, Cache: wantSafe()}},
		}},
	}
}

func wantSafe() Cache {
	return Cache{
		Enabled: true, Policy: "safe", Targets: []string{"CDN-Cache-Control"}, Cookies: "permission",
		DefaultWhileRevalidate: time.Minute, IfUnreachable: time.Hour, Keep: time.Hour,
		NegativeMax: 10 * time.Second, HitForMiss: 10 * time.Second, MaxObject: 8388608, MaxRanges: 8,
	}
}

func wantRFC() Cache {
	cache := wantSafe()
	cache.Policy, cache.Cookies, cache.StoreSetCookie, cache.Heuristic = "rfc", "ignore", true, true
	return cache
}

func TestDefaults(t *testing.T) {
	if got, want := parse(t, smallest), wantDefaults(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestDefaultsBySize guards the defaults that depend on another argument: a small
// node starts without its file naming each of them.
func TestDefaultsBySize(t *testing.T) {
	config := parse(t, `memory { size = "16MiB" }`+smallest)
	if got := config.Memory.MaxObject; got != 1<<20 {
		t.Errorf("max_object of a tier of 16 MiB = %d", got)
	}
	if got := config.Sites[0].Routes[0].Cache.MaxObject; got != 1<<20 {
		t.Errorf("max_object of its routes = %d", got)
	}
	config = parse(t, "fill {\nbudget = \"1MiB\"\nwait = \"1s\"\n}"+smallest)
	if got := config.Fill.Window; got != 1<<20 {
		t.Errorf("window of a budget of 1 MiB = %d", got)
	}
	if got := config.Sites[0].Routes[0].Cache.MaxObject; got != 1<<20 {
		t.Errorf("max_object of routes under a budget of 1 MiB = %d", got)
	}
	config = parse(t, "server {\nmax_header_bytes = \"2KiB\"\nmax_field_bytes = \"1KiB\"\n}"+smallest)
	if s := config.Server; s.MaxTargetBytes != 2<<10 || s.MaxFieldBytes != 1<<10 {
		t.Errorf("of a head of 2 KiB: max_target_bytes = %d, max_field_bytes = %d", s.MaxTargetBytes, s.MaxFieldBytes)
	}
}

func TestDefault(t *testing.T) {
	got, err := Default("http://127.0.0.1:3000", "", "", "")
	if err != nil {
		t.Fatal(err)
	}
	want := wantDefaults()
	want.Origins[0].Name = "default"
	want.Sites[0].Name = "default"
	want.Sites[0].Routes[0].Origin = "default"
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}

	got, err = Default("https://App.example/", "127.0.0.1:0", "off", "rfc")
	if err != nil {
		t.Fatal(err)
	}
	if got.Origins[0].URL != "https://app.example" || got.Listen[0] != "127.0.0.1:0" || got.Admin.Listen != "off" ||
		!reflect.DeepEqual(got.Sites[0].Routes[0].Cache, wantRFC()) {
		t.Errorf("got %+v", got)
	}
}

func TestDefaultRefused(t *testing.T) {
	tests := []struct {
		origin, listen, admin, policy string
		want                          string
	}{
		{"", "", "", "", `Invalid value of --origin: The address of the origin is missing, such as "http://127.0.0.1:3000".`},
		{"localhost:3000", "", "", "", `Invalid value of --origin: "localhost:3000" has no scheme. Did you mean "http://localhost:3000"?`},
		{"http://a", "8080", "", "", `Invalid value of --listen: "8080" is not an address. Did you mean ":8080"?`},
		{"http://a", "", "none", "", `Invalid value of --admin: "none" has no port. Did you mean "none:8080"?`},
		{"http://a", "", "", "fast", `Invalid value of --policy: There is no policy named "fast". It is one of "safe" or "rfc".`},
		{"http://a", ":9090", "", "", `Contradiction: The admin listener ("127.0.0.1:9090") and the public one (":9090") are the same port of the same host.`},
		{"a b", "x", "", "", `Invalid value of --origin: "a b" is not a URL. Write scheme, host and port, such as "http://127.0.0.1:3000". (and 1 more)`},
	}
	for _, tt := range tests {
		config, err := Default(tt.origin, tt.listen, tt.admin, tt.policy)
		if config != nil || err == nil || err.Error() != tt.want {
			t.Errorf("Default(%q, %q, %q, %q) = %v, %v; want %s", tt.origin, tt.listen, tt.admin, tt.policy, config, err, tt.want)
		}
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "edge.hcl")
	if _, err := Load(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := os.WriteFile(path, []byte("policy = \"saef\"\n"+smallest), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(path)
	if want := path + `:1: Unknown policy: There is no policy named "saef". Did you mean "safe"?`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := os.WriteFile(path, make([]byte, maxFileSize+10), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Load(path)
	if err == nil || !strings.Contains(err.Error(), "larger than 2 MiB") {
		t.Errorf("a file that is too large: %v", err)
	}
}

// TestDiagnosticFields guards the plain form of findings, which the admin API
// answers with.
func TestDiagnosticFields(t *testing.T) {
	_, err := Parse("edge.hcl", []byte("log {\n  level = \"warning\"\n}\nmemory {\n  size = 1\n}"+smallest))
	refused, ok := errors.AsType[*Error](err)
	if !ok || len(refused.Diagnostics) != 2 {
		t.Fatalf("got %v", err)
	}
	got := refused.Diagnostics[1]
	want := Diagnostic{Summary: "Missing unit", Detail: `A size is text with a unit. Did you mean "1B"?`, File: "edge.hcl", Line: 5, Column: 10,
		Text: "Error: Missing unit\n\n  on edge.hcl line 5, in memory:\n   5:   size = 1\n               ^\n\nA size is text with a unit. Did you mean \"1B\"?\n\n"}
	if got != want {
		t.Errorf("got  %#v\nwant %#v", got, want)
	}
	if want := `edge.hcl:2: Unknown level: There is no level named "warning". It is one of "debug", "info", "warn" or "error". (and 1 more)`; err.Error() != want {
		t.Errorf("got %s\nwant %s", err, want)
	}
}

// TestManyFindings guards the bound on what is shown, and that errors are not
// crowded out by warnings.
func TestManyFindings(t *testing.T) {
	var source strings.Builder
	for i := range 60 {
		source.WriteString("origin \"o" + string(rune('a'+i%26)) + string(rune('a'+i/26)) + "\" {\n  url = \"http://127.0.0.1:3000\"\n}\n")
	}
	config := parse(t, source.String()+"site \"main\" {\n  hosts  = [\"*\"]\n  origin = \"oaa\"\n}\n")
	if len(config.Warnings) != maxDiagnostics {
		t.Errorf("%d warnings", len(config.Warnings))
	}
	_, err := Parse("edge.hcl", []byte(strings.Repeat("x {\n}\n", 60)))
	refused, ok := errors.AsType[*Error](err)
	if !ok || len(refused.Diagnostics) != maxDiagnostics || refused.Omitted != 10 {
		t.Fatalf("got %v", err)
	}
	var shown strings.Builder
	refused.WriteTo(&shown)
	if !strings.HasSuffix(shown.String(), "And 10 more.\n\n") {
		t.Error("what was left out is not said")
	}
}

// TestNormalised holds the forms that others rely on against what may be written.
func TestNormalised(t *testing.T) {
	config := parse(t, `
origin "app" {
  url  = "HTTP://App.Example:3000/"
  host = "App.Internal"
}
server {
  trusted_proxies = ["2001:DB8::/32"]
}
cache {
  targets     = ["cdn-cache-control", "EDGE-cache-control"]
  static_type = "Text/CSS"
  key {
    headers = ["x-country"]
  }
}
site "main" {
  hosts = ["EXAMPLE.com", "example.com:8080", "[2001:DB8::1]:8443", "10.0.0.1"]
  route "a" {
    path    = "/a"
    methods = ["POST", "GET"]
  }
  route "b" {
    path = "/b//c d/é"
    when = true
  }
}`)
	route := config.Sites[0].Routes[0]
	got := []any{config.Origins[0].URL, config.Origins[0].Host, config.Server.TrustedProxies, route.Cache.Targets, route.Cache.StaticType,
		route.Cache.Key.Headers, config.Sites[0].Hosts, route.Methods, config.Sites[0].Routes[1].When == nil}
	want := []any{"http://app.example:3000", "app.internal", []string{"2001:db8::/32"}, []string{"CDN-Cache-Control", "Edge-Cache-Control"}, "text/css",
		[]string{"X-Country"}, []string{"example.com", "example.com:8080", "[2001:db8::1]:8443", "10.0.0.1"}, []string{"POST", "GET", "HEAD"}, true}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// TestRouteOrder holds the order in which routes are tried, most specific first.
func TestRouteOrder(t *testing.T) {
	config := parse(t, smallest[:strings.Index(smallest, "site")]+`
site "main" {
  hosts = ["*"]
  route "all-get"    {
    path    = "/*"
    methods = ["GET"]
  }
  route "a"          { path = "/a/*" }
  route "a-when"     {
    path = "/a/*"
    when = req.host == "x"
  }
  route "a-methods"  {
    path    = "/a/*"
    methods = ["GET"]
  }
  route "a-both"     {
    path    = "/a/*"
    methods = ["GET"]
    when    = req.host == "x"
  }
  route "a-b"        { path = "/a/b/*" }
  route "exact-long" { path = "/a/b/c/d" }
  route "exact"      { path = "/a" }
}`)
	var names []string
	for _, route := range config.Sites[0].Routes {
		names = append(names, route.Name)
	}
	want := "exact-long exact a-b a-both a-when a-methods a all-get default"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if len(config.Warnings) != 0 {
		t.Errorf("warnings: %v", config.Warnings)
	}
}

// TestCatchAll: a site's own catch-all takes the place of the one made from it.
func TestCatchAll(t *testing.T) {
	config := parse(t, `
origin "app" { url = "http://127.0.0.1:3000" }
site "main" {
  hosts = ["*"]
  cache { ttl = "1s" }
  route "rest" {
    path = "/*"
    cache { ttl = "2s" }
  }
}`)
	routes := config.Sites[0].Routes
	if len(routes) != 1 || routes[0].Name != "rest" || *routes[0].Cache.TTL != 2*time.Second {
		t.Errorf("got %+v", routes)
	}
}

// TestPolicyPrecedence: the policy fills, and then the lines of the file's, the
// site's and the route's cache block override one by one.
func TestPolicyPrecedence(t *testing.T) {
	second := func(n time.Duration) *time.Duration { n *= time.Second; return &n }
	config := parse(t, `
origin "app" { url = "http://127.0.0.1:3000" }
policy = "rfc"
cache {
  ttl              = "1s"
  default_ttl      = "1s"
  keep             = "1s"
  heuristic        = false
  strip_set_cookie = true
  negative         = { 404 = "1s", 410 = "1s" }
  max_ttl          = "100s"
  static_type      = "text/css"
  shrink_guard     = "1KiB"
  key {
    sort_query  = true
    allow_query = ["a", "b"]
    cookies     = ["file"]
  }
}
site "one" {
  hosts  = ["one.example"]
  policy = "safe"
  cache {
    default_ttl      = "2s"
    cookies          = "strip"
    store_set_cookie = true
    max_ttl          = null
    static_type      = ""
    shrink_guard     = "0B"
    key {
      cookies = ["site"]
    }
  }
  route "a" {
    path   = "/a"
    policy = "rfc"
    cache {
      ttl         = null
      default_ttl = "3s"
      negative    = {}
      key {
        deny_query = ["c"]
      }
    }
  }
  route "b" {
    path = "/b"
    cache {
      enabled = false
      key {
        sort_query  = false
        allow_query = []
      }
    }
  }
}
site "two" {
  hosts = ["two.example"]
}
`)
	base := func(cache Cache) Cache {
		cache.TTL, cache.DefaultTTL, cache.Keep, cache.MaxTTL = second(1), second(1), time.Second, 100*time.Second
		cache.StaticType = "text/css"
		cache.ShrinkGuard = 1 << 10
		cache.Heuristic, cache.StripSetCookie, cache.StoreSetCookie = false, true, false
		cache.Negative = map[int]time.Duration{404: time.Second, 410: time.Second}
		cache.Key = Key{SortQuery: true, AllowQuery: []string{"a", "b"}, Cookies: []string{"file"}}
		return cache
	}
	one := func(cache Cache) Cache {
		cache = base(cache)
		cache.DefaultTTL, cache.Cookies, cache.MaxTTL = second(2), "strip", 0
		cache.StaticType = ""
		cache.ShrinkGuard = 0
		cache.StoreSetCookie, cache.StripSetCookie = true, false
		cache.Key.Cookies = []string{"site"}
		return cache
	}
	a, b := one(wantRFC()), one(wantSafe())
	a.TTL, a.DefaultTTL, a.Negative = nil, second(3), nil
	a.Key.AllowQuery, a.Key.DenyQuery = nil, []string{"c"}
	b.Enabled, b.Key.SortQuery, b.Key.AllowQuery = false, false, []string{}

	for _, tt := range []struct {
		site, route int
		want        Cache
	}{
		{0, 0, a}, {0, 1, b}, {0, 2, one(wantSafe())}, {1, 0, base(wantRFC())},
	} {
		route := config.Sites[tt.site].Routes[tt.route]
		if !reflect.DeepEqual(route.Cache, tt.want) {
			t.Errorf("site %d, route %s:\ngot  %+v\nwant %+v", tt.site, route.Name, route.Cache, tt.want)
		}
	}
	if len(config.Warnings) > 0 {
		t.Errorf("warnings: %v", config.Warnings)
	}
}

// TestSharedLinesOfACacheSwitchedOff: a block that switches the cache off may still
// hold what the routes below, which switch it on, have in common.
func TestSharedLinesOfACacheSwitchedOff(t *testing.T) {
	config := parse(t, `
origin "app" { url = "http://127.0.0.1:3000" }
cache {
  enabled = false
  ttl     = "5m"
}
site "main" {
  hosts = ["*"]
  route "a" {
    path = "/a"
    cache { enabled = true }
  }
}`)
	routes := config.Sites[0].Routes
	if !routes[0].Cache.Enabled || *routes[0].Cache.TTL != 5*time.Minute || routes[1].Cache.Enabled {
		t.Errorf("got %+v", routes)
	}
}

// TestInheritance holds what a route takes from its site.
func TestInheritance(t *testing.T) {
	config := parse(t, `
origin "app" { url = "http://127.0.0.1:3000" }
origin "api" { url = "http://127.0.0.1:3001" }
site "main" {
  hosts   = ["*"]
  origin  = "app"
  upgrade = false
  route "a" {
    path    = "/a"
    origin  = "api"
    upgrade = true
  }
  route "b" { path = "/b" }
}`)
	type inherited struct {
		origin  string
		upgrade bool
	}
	var got []inherited
	for _, route := range config.Sites[0].Routes {
		got = append(got, inherited{route.Origin, route.Upgrade})
	}
	if want := []inherited{{"api", true}, {"app", false}, {"app", false}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestHeaderMerge: the rules of a route come after those of its site, written as
// one set of rules.
func TestHeaderMerge(t *testing.T) {
	config := parse(t, `
origin "app" { url = "http://127.0.0.1:3000" }
site "main" {
  hosts = ["*"]
  response_headers {
    remove = ["Server", "X-Both"]
    set    = { "X-Site" = "site", "X-Over" = "site", "X-Gone" = "site" }
    add    = { Link = "</a>", "X-Gone" = "more", "X-Over" = "more" }
  }
  route "a" {
    path = "/a"
    response_headers {
      remove = ["x-gone", "x-both"]
      set    = { x-over = "route", "Server" = "edge" }
      add    = { Link = "</b>" }
    }
  }
}`)
	show := func(headers []Header) (text string) {
		for _, h := range headers {
			text += h.Name + ":" + h.Value(nil) + " "
		}
		return text
	}
	route, site := config.Sites[0].Routes[0].Response, config.Sites[0].Routes[1].Response
	got := []string{strings.Join(route.Remove, " "), show(route.Set), show(route.Add), strings.Join(site.Remove, " "), show(site.Set), show(site.Add)}
	want := []string{
		"Server X-Both X-Gone", "X-Site:site X-Over:route Server:edge ", "Link:</a> Link:</b> ",
		"Server X-Both", "X-Site:site X-Over:site X-Gone:site ", "Link:</a> X-Gone:more X-Over:more ",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if request := config.Sites[0].Routes[0].Request; request.Remove != nil || request.Set != nil || request.Add != nil {
		t.Errorf("request headers: %+v", request)
	}
}

func TestEnv(t *testing.T) {
	t.Setenv("EDGE_TEST_HOST", "app.example")
	t.Setenv("EDGE_TEST_SIZE", "64MiB")
	t.Setenv("EDGE_TEST_EMPTY", "")
	config := parse(t, `
origin "app" { url = "http://${env("EDGE_TEST_HOST")}:3000${env("EDGE_TEST_EMPTY")}" }
memory { size = env("EDGE_TEST_SIZE") }
site "main" {
  hosts = [env("EDGE_TEST_HOST"), "www.${env("EDGE_TEST_HOST")}"]
  request_headers {
    set = { "X-A" = "${env("EDGE_TEST_HOST")}/${lower("${env("EDGE_TEST_SIZE")}")}" }
  }
}`)
	header := config.Sites[0].Routes[0].Request.Set[0]
	got := []string{config.Origins[0].URL, config.Sites[0].Hosts[0], config.Sites[0].Hosts[1], header.Value(nil), header.Text}
	want := []string{"http://app.example:3000", "app.example", "www.app.example", "app.example/64mib", `"app.example/64mib"`}
	if !slices.Equal(got, want) || config.Memory.Size != 64<<20 {
		t.Errorf("got %q and %d", got, config.Memory.Size)
	}
}

// TestSameListener is about what the kernel would refuse.
func TestSameListener(t *testing.T) {
	tests := []struct {
		a, b string
		want bool
	}{
		{":80", ":80", true},
		{":80", "127.0.0.1:80", true},
		{"0.0.0.0:80", "10.0.0.1:80", true},
		{"[::]:80", "127.0.0.1:80", true},
		{"127.0.0.1:80", "127.0.0.2:80", false},
		{":80", ":81", false},
		{":0", ":0", false},
		{":080", ":80", true},
		{"off", ":80", false},
	}
	for _, tt := range tests {
		if got := sameListener(tt.a, tt.b); got != tt.want {
			t.Errorf("sameListener(%q, %q) = %v", tt.a, tt.b, got)
		}
	}
}

func TestUnits(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0s": 0, "500ms": 500 * time.Millisecond, "90s": 90 * time.Second, "5m": 5 * time.Minute, "1h30m": 90 * time.Minute,
		"7d": 7 * 24 * time.Hour, "1d1h1m1s1ms": 25*time.Hour + time.Minute + time.Second + time.Millisecond,
	} {
		got, problem := parseDuration(text)
		if got != want || problem != "" {
			t.Errorf("parseDuration(%q) = %v, %q", text, got, problem)
		}
		if again, _ := parseDuration(formatDuration(got)); again != got {
			t.Errorf("%v is written %q, which is %v", got, formatDuration(got), again)
		}
	}
	for text, want := range map[string]int64{
		"0B": 0, "512B": 512, "8KiB": 8192, "1KB": 1000, "3MB": 3_000_000, "512MiB": 512 << 20, "1GB": 1_000_000_000, "2GiB": 2 << 30, "1TiB": 1 << 40, "1TB": 1e12,
	} {
		got, problem := parseSize(text)
		if got != want || problem != "" {
			t.Errorf("parseSize(%q) = %v, %q", text, got, problem)
		}
		if again, _ := parseSize(formatSize(got)); again != got {
			t.Errorf("%d is written %q, which is %d", got, formatSize(got), again)
		}
	}
}

func TestTokens(t *testing.T) {
	t.Setenv("EDGE_TEST_TOKEN", "0123456789abcdef")
	config := parse(t, smallest+`
admin {
  hosts = ["Admin.Example", "10.0.0.1", "[2001:DB8::1]"]
  token "deploy" {
    secret = env("EDGE_TEST_TOKEN")
    scopes = ["purge"]
    sites  = ["main"]
  }
  token "watch" {
    secret = "fedcba9876543210"
    scopes = ["read", "debug"]
  }
}`)
	want := Admin{Listen: "127.0.0.1:9090", Hosts: []string{"admin.example", "10.0.0.1", "2001:db8::1"}, Tokens: []Token{
		{Name: "deploy", Secret: "0123456789abcdef", Scopes: []string{"purge"}, Sites: []string{"main"}},
		{Name: "watch", Secret: "fedcba9876543210", Scopes: []string{"read", "debug"}},
	}}
	if !reflect.DeepEqual(config.Admin, want) {
		t.Errorf("got %+v", config.Admin)
	}
	text, err := json.Marshal(config.Admin)
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{fmt.Sprint(config.Admin), fmt.Sprintf("%+v %#v", config.Admin, config.Admin), string(text)} {
		if strings.Contains(shown, "0123456789abcdef") || !strings.Contains(shown, "deploy") {
			t.Errorf("shown as %s", shown)
		}
	}
}
