package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

const limited = `
origin "app" { url = "http://127.0.0.1:3000" }
site "main" {
  hosts = ["*"]
  rate_limits = ["api"]
  route "free" {
    path = "/free/*"
    rate_limits = []
  }
  route "own" {
    path = "/own/*"
    rate_limits = ["api", "uploads"]
  }
}
`

func TestRateLimits(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "keys.txt"), []byte("# ours\nk1\n\n  k2  \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Parse(filepath.Join(dir, "edge.hcl"), []byte(`
rate_limit "api" {
  rate      = "100/1m"
  key       = "${req.client_ip}${req.header["X-Api-Key"]}"
  block_for = "60s"
  plan "gold" {
    when = contains(file("keys.txt"), req.header["X-Api-Key"])
    rate = "5000/m"
  }
}
rate_limit "uploads" { concurrent = 20 }
`+limited))
	if err != nil {
		t.Fatal(err)
	}
	api, uploads := &c.RateLimits[0], &c.RateLimits[1]
	r := testRequest()
	r.Header.Set("X-Api-Key", "k2")
	if got := api.Key(r); !strings.HasSuffix(got, "k2") {
		t.Errorf("key %q", got)
	}
	if !api.Plans[0].When(r) {
		t.Error("k2 stands in the file")
	}
	r.Header.Set("X-Api-Key", "# ours")
	if api.Plans[0].When(r) {
		t.Error("a comment of the file is a key")
	}
	api.Key, api.KeyText, api.Plans[0].When, api.Plans[0].WhenText = nil, "", nil, ""
	if want := (RateLimit{
		Name: "api", Limit: 100, Period: time.Minute, Algorithm: "token_bucket", Burst: 100, IPv6Prefix: 64, BlockFor: time.Minute,
		Plans: []RatePlan{{Name: "gold", Limit: 5000, Period: time.Minute, Burst: 5000}},
		Count: "all", Store: "memory", OnStoreError: "local", MaxKeys: 1_000_000,
	}); !reflect.DeepEqual(*api, want) {
		t.Errorf("got  %+v\nwant %+v", *api, want)
	}
	if uploads.Concurrent != 20 || uploads.Store != "memory" {
		t.Errorf("%+v", uploads)
	}
	for name, want := range map[string][]string{"free": nil, "own": {"api", "uploads"}, "default": {"api"}} {
		for _, route := range c.Sites[0].Routes {
			if route.Name == name && !reflect.DeepEqual(route.RateLimits, want) {
				t.Errorf("%s: %v, want %v", name, route.RateLimits, want)
			}
		}
	}
	c = parse(t, `redis { url = "redis://a" }
rate_limit "api" { rate = "1/s" }
rate_limit "uploads" { concurrent = 1 }
`+limited)
	if c.RateLimits[0].Store != "redis" || c.RateLimits[1].Store != "memory" {
		t.Errorf("in a fleet: %+v", c.RateLimits)
	}
}

func TestRateLimitFindings(t *testing.T) {
	for _, test := range []struct{ lines, want string }{
		{``, `limits nothing`},
		{`rate = "100"`, `is not a rate`},
		{`rate = "0/s"`, `from 1 to`},
		{`rate = "-1/s"`, `from 1 to`},
		{`rate = "1.5/s"`, `from 1 to`},
		{`rate = "1/100ms"`, `must be from 1s`},
		{`rate = "1/5"`, `unit`},
		{"rate = \"1/s\"\nburst = 0", `from 1`},
		{"rate = \"1/s\"\nburst = 2\nalgorithm = \"fixed_window\"", `Only the algorithm`},
		{"rate = \"1/24h\"\nburst = 36501", `century`},
		{"rate = \"1/s\"\nplan \"a\" {\n rate = \"1/24h\"\n burst = 36501\n when = req.host == \"a\"\n}", `century`},
		{"rate = \"1/s\"\nalgorithm = \"fixed_window\"\nplan \"a\" {\n rate = \"1/s\"\n burst = 2\n when = req.host == \"a\"\n}", `Only the algorithm`},
		{"rate = \"1/s\"\nconcurrent = 2", `Write two limits`},
		{"concurrent = 2\nburst = 2", `no burst, no plans`},
		{"concurrent = 2\nblock_for = \"1m\"", `no block_for`},
		{"concurrent = 2\nstore = \"redis\"", `on each node alone`},
		{"rate = \"1/s\"\nstore = \"redis\"", `counted in Redis`},
		{"rate = \"1/s\"\nalgorithm = \"leaky\"", `algorithm`},
		{"rate = \"1/s\"\nkey = true", `must be text`},
		{"rate = \"1/s\"\nplan \"a\" { rate = \"2/s\" }", `needs an argument "when"`},
		{"rate = \"1/s\"\nplan \"a\" {\n rate = \"2/s\"\n when = contains(file(\"no such file\"), req.host)\n}", `cannot be read: no such file`},
		{"rate = \"1/s\"\nkey = file(\"a\")", `first argument of contains`},
	} {
		_, err := Parse("edge.hcl", []byte("rate_limit \"api\" {\n"+test.lines+"\n}\n"+smallest))
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "edge.hcl:") {
			t.Errorf("%s: got %v, want %q with its place", test.lines, err, test.want)
		}
	}
	_, err := Parse("edge.hcl", []byte(`rate_limit "apis" { rate = "1/s" }`+strings.Replace(limited, `, "uploads"`, "", 1)))
	if err == nil || !strings.Contains(err.Error(), `Did you mean "apis"?`) {
		t.Errorf("an unknown limit: %v", err)
	}
}

func TestRateLimitWarnings(t *testing.T) {
	unreachable := func(lines string) string {
		return `
origin "app" { url = "http://127.0.0.1:3000" }
site "main" {
  hosts = ["*"]
  route "first" { path = "/b" }
  route "second" {
    ` + lines + `
    rate_limits = ["api"]
  }
}
`
	}
	for _, test := range []struct{ text, want string }{
		{`rate_limit "api" { rate = "1/s" }` + smallest, "Unused limit"},
		{`rate_limit "api" { rate = "1/s" }` + unreachable("path = \"/a\"\n when = false"), "Unused limit, Unreachable route"},
		{`rate_limit "api" { rate = "1/s" }` + unreachable("path = \"/b\""), "Unused limit, Unreachable route"},
		{"rate_limit \"api\" {\n rate = \"1/s\"\n key = \"all\"\n}" + strings.Replace(limited, `, "uploads"`, "", 1), "One count for all"},
		{"rate_limit \"api\" {\n rate = \"1/s\"\n plan \"a\" {\n rate = \"2/s\"\n when = true\n}\n}" + strings.Replace(limited, `, "uploads"`, "", 1), "Constant condition"},
	} {
		c, err := Parse("edge.hcl", []byte(test.text))
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
			continue
		}
		var got []string
		for _, w := range c.Warnings {
			got = append(got, w.Summary)
		}
		if strings.Join(got, ", ") != test.want {
			t.Errorf("%s: warnings %q, want %s", test.text, got, test.want)
		}
	}
}

// TestKeyCountsNetworks: in a key, a client's address is what is counted as one client;
// in a condition it is the address.
func TestKeyCountsNetworks(t *testing.T) {
	c := parse(t, `
rate_limit "api" {
  rate = "1/s"
  key  = "${req.client_ip} ${req.host}"
  plan "a" {
    rate = "2/s"
    when = req.client_ip == "2001:db8:1:2:3::4"
  }
  ipv6_prefix = 56
}
`+strings.Replace(limited, `, "uploads"`, "", 1))
	l := &c.RateLimits[0]
	r := testRequest()
	for remote, want := range map[string]string{
		"[2001:db8:1:2:3::4]:80": "2001:db8:1::/56",
		"[::ffff:192.0.2.7]:80":  "192.0.2.7",
		"192.0.2.7:80":           "192.0.2.7",
		"a socket":               "a socket",
	} {
		r.RemoteAddr = remote
		if got := l.Key(r); !strings.HasPrefix(got, want+" ") {
			t.Errorf("%s: key %q, want %q", remote, got, want)
		}
		if when := strings.HasPrefix(remote, "[2001"); l.Plans[0].When(r) != when {
			t.Errorf("%s: the plan holds: %v", remote, !when)
		}
	}
}
