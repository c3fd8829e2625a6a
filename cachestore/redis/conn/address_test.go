package conn

import (
	"reflect"
	"strings"
	"testing"
)

func TestAddresses(t *testing.T) {
	for raw, want := range map[string]address{
		"redis://localhost":                         {hosts: []string{"localhost:6379"}},
		"redis://localhost/":                        {hosts: []string{"localhost:6379"}},
		"redis://10.0.0.1:7000/3":                   {hosts: []string{"10.0.0.1:7000"}, database: 3},
		"rediss://cache.example":                    {hosts: []string{"cache.example:6379"}, tls: true},
		"redis://[::1]":                             {hosts: []string{"[::1]:6379"}},
		"redis://[::1]:7000":                        {hosts: []string{"[::1]:7000"}},
		"redis://:secret@h":                         {hosts: []string{"h:6379"}, password: "secret"},
		"redis://me:se:cr%40et%2F%3f@h:1":           {hosts: []string{"h:1"}, username: "me", password: "se:cr@et/?"},
		"redis://a:1,b:2,c?cluster=true":            {hosts: []string{"a:1", "b:2", "c:6379"}, cluster: true},
		"redis://a?cluster=true":                    {hosts: []string{"a:6379"}, cluster: true},
		"redis://a/0?cluster=true":                  {hosts: []string{"a:6379"}, cluster: true},
		"redis://a?cluster=false":                   {hosts: []string{"a:6379"}},
		"rediss://u:p@a,[::2]:3/1?sentinel=main%20": {hosts: []string{"a:26379", "[::2]:3"}, tls: true, username: "u", password: "p", sentinel: "main ", database: 1},
	} {
		got, err := parseAddress(raw)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
		} else if !reflect.DeepEqual(*got, want) {
			t.Errorf("%s: %+v, not %+v", raw, *got, want)
		}
	}
}

// What is wrong is named, and of what may be a password nothing is shown.
func TestAddressFaults(t *testing.T) {
	for raw, want := range map[string]string{
		"":                                     "redis://",
		"localhost:6379":                       "redis://",
		"http://h":                             "redis://",
		"redis://":                             "names no host",
		"redis://:hunter2@":                    "names no host",
		"redis://h:0":                          "port",
		"redis://h:65536":                      "port",
		"redis://h:port":                       "port",
		"redis://::1":                          "brackets",
		"redis://a:1:2":                        "brackets",
		"redis://a b":                          "names no host",
		"redis://a,b":                          "cluster=true or",
		"redis://a,,b?cluster=true":            "names no host",
		"redis://:hunter2@h/x":                 "number of a database",
		"redis://h/-1":                         "number of a database",
		"redis://h/1/2":                        "number of a database",
		"redis://h/1?cluster=true":             "database 0",
		"redis://h?cluster=yes":                "cluster=yes",
		"redis://h?cluster=true&cluster=false": "cluster=true,false",
		"redis://h?sentinel=":                  "sentinel=",
		"redis://h?timeout=1s":                 "timeout=1s",
		"redis://h?cluster=true&sentinel=m":    "exclude",
		"redis://h?a;b":                        "behind the ?",
		"redis://h#x":                          "number of a database",
		"redis://hunter2@h":                    "without a password",
		"redis://:hunt%er2@h":                  "escaped",
		"redis://:hunt@er2@h":                  "escaped",
		"redis://:hunt/er2@h":                  "@ behind",
		"redis://:hunt?er2@h":                  "@ behind",
		"redis://:hunt#er2@h":                  "@ behind",
	} {
		_, err := parseAddress(raw)
		switch {
		case err == nil:
			t.Errorf("%q is accepted", raw)
		case !strings.Contains(err.Error(), want):
			t.Errorf("%q: %v; it does not say %q", raw, err, want)
		case strings.Contains(err.Error(), "hunt") || strings.Contains(err.Error(), "er2"):
			t.Errorf("%q: the password is shown: %v", raw, err)
		}
	}
}

func FuzzAddress(f *testing.F) {
	for _, seed := range []string{"redis://localhost", "redis://u:p@a:1,b/2?cluster=true", "rediss://[::1]:1?sentinel=x", "redis://:a/b@c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		a, err := parseAddress(raw)
		if err == nil && (len(a.hosts) == 0 || a.cluster && (a.sentinel != "" || a.database != 0)) {
			t.Errorf("%q was read as %+v", raw, a)
		}
		// Behind the last @ of what was typed there is never a password.
		const secret = "hunter2"
		if _, err := parseAddress("redis://u:" + secret + raw + "@h"); err != nil && !strings.Contains(raw, secret) && strings.Contains(err.Error(), secret) {
			t.Errorf("%q: the password is shown: %v", raw, err)
		}
	})
}
