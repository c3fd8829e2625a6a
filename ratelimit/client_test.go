package ratelimit

import "testing"

func TestClients(t *testing.T) {
	for _, c := range []struct {
		remote string
		bits   int
		want   string
	}{
		{"203.0.113.9:4711", 64, "203.0.113.9"},
		{"[::ffff:203.0.113.9]:4711", 64, "203.0.113.9"},
		{"[2001:db8:1:2:3:4:5:6]:4711", 64, "2001:db8:1:2::/64"},
		{"[2001:db8:1:2:ffff::]:1", 64, "2001:db8:1:2::/64"},
		{"[2001:db8:1:2:3:4:5:6]:4711", 48, "2001:db8:1::/48"},
		{"[2001:db8:1:2:3:4:5:6]:4711", 128, "2001:db8:1:2:3:4:5:6/128"},
		{"[fe80::1%eth0]:80", 64, "fe80::/64"},
		{"@", 64, "@"}, // a Unix socket's
		{"", 64, ""},
	} {
		if got := string(appendClient(nil, c.remote, c.bits)); got != c.want {
			t.Errorf("%q by %d bits: got %q, want %q", c.remote, c.bits, got, c.want)
		}
	}
}
