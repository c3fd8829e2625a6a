package config

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestRedis(t *testing.T) {
	if parse(t, smallest).Redis != nil {
		t.Error("a node is in a fleet unasked")
	}
	got := *parse(t, `redis { url = "redis://127.0.0.1" }`+smallest).Redis
	if want := (Redis{URL: "redis://127.0.0.1", Prefix: "edge:", Patience: 5 * time.Millisecond, Timeout: 20 * time.Millisecond, Fence: 10 * time.Minute,
		MaxObject: 8 << 20, Queue: 1024, QueueSize: 64 << 20}); got != want {
		t.Errorf("got %#v %+v", got.URL, got)
	}
	t.Setenv("EDGE_TEST_REDIS", "rediss://user:hidden@a:1,b:2/?cluster=true")
	got = *parse(t, `redis {
		url = env("EDGE_TEST_REDIS")
		ca_file = "/ca.pem"
		fence = "off"
		prefix = "shop:"
		timeout = "4ms"
	}`+smallest).Redis
	if got.URL != "rediss://user:hidden@a:1,b:2/?cluster=true" || got.CAFile != "/ca.pem" || got.Fence != 0 || got.Prefix != "shop:" || got.Timeout != 4*time.Millisecond || got.Patience != 4*time.Millisecond {
		t.Errorf("got %s %+v", got.URL, got)
	}
	for _, shown := range []string{fmt.Sprint(&got), fmt.Sprintf("%+v", &got), fmt.Sprintf("%#v", &got)} {
		if strings.Contains(shown, "hidden") {
			t.Errorf("the password is shown: %s", shown)
		}
	}
}

func TestRedisFindings(t *testing.T) {
	for _, test := range []struct{ lines, want string }{
		{``, `The redis needs an argument "url".`},
		{`url = ""`, `This is not a URL.`},
		{`url = "http://127.0.0.1"`, `The scheme must be`},
		{`url = "redis:///1"`, `names no host`},
		{`url = "redis://a/?database=1"`, `has a parameter "database"`},
		{`url = "redis://a/#b"`, `fragment`},
		{"url = \"redis://a\"\nca_file = \"/a\"", `has no TLS`},
		{"url = \"rediss://a\"\ncert_file = \"/a\"", `go together`},
		{"url = \"redis://u:hidden@a\"\npassword = \"other\"", `of its own`},
		{"url = \"redis://a\"\nprefix = \"a{b}\"", `plain ASCII`},
		{"url = \"redis://a\"\nfence = \"1s\"", `must be from 3s`},
		{"url = \"redis://a\"\nfence = \"of\"", `Invalid duration`},
		{"url = \"redis://a\"\npatience = \"21ms\"", `has 20ms to answer`},
		{"url = \"redis://a\"\nmax_object = \"65MiB\"", `holds 64MiB`},
	} {
		_, err := Parse("edge.hcl", []byte("redis {\n"+test.lines+"\n}\n"+smallest))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.lines, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: a password is shown in %v", test.lines, err)
		}
	}
}
