package node

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

func TestClientAddress(t *testing.T) {
	trusted, err := parseProxies([]string{"10.0.0.0/8", "192.0.2.7/32", "fd00::/8"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		peer      string
		xff       []string
		forwarded []string
		want      string
	}{
		{"no proxy, nothing said", "203.0.113.9", nil, nil, "203.0.113.9"},
		{"a stranger's word is not taken", "203.0.113.9", []string{"1.2.3.4"}, nil, "203.0.113.9"},
		{"a stranger's Forwarded is not taken", "203.0.113.9", nil, []string{"for=1.2.3.4"}, "203.0.113.9"},
		{"a proxy without a word is the client", "10.0.0.1", nil, nil, "10.0.0.1"},
		{"one proxy", "10.0.0.1", []string{"203.0.113.9"}, nil, "203.0.113.9"},
		{"what the client wrote itself stands left and is ignored", "10.0.0.1", []string{"1.2.3.4, 203.0.113.9"}, nil, "203.0.113.9"},
		{"also when it claims a trusted address", "10.0.0.1", []string{"10.9.9.9, 203.0.113.9"}, nil, "203.0.113.9"},
		{"proxies behind proxies", "10.0.0.1", []string{"203.0.113.9, 192.0.2.7, 10.0.0.2"}, nil, "203.0.113.9"},
		{"several lines are one list", "10.0.0.1", []string{"1.2.3.4", "203.0.113.9", "10.0.0.2"}, nil, "203.0.113.9"},
		{"trusted all the way: the farthest", "10.0.0.1", []string{"10.0.0.3, 10.0.0.2"}, nil, "10.0.0.3"},
		{"an entry that is none ends the walk", "10.0.0.1", []string{"1.2.3.4, unknown, 10.0.0.2"}, nil, "10.0.0.2"},
		{"an empty entry ends the walk", "10.0.0.1", []string{"1.2.3.4,,"}, nil, "10.0.0.1"},
		{"an empty field", "10.0.0.1", []string{""}, nil, "10.0.0.1"},
		{"with a port", "10.0.0.1", []string{"203.0.113.9:4711"}, nil, "203.0.113.9"},
		{"IPv6", "fd00::1", []string{"2001:db8::9"}, nil, "2001:db8::9"},
		{"IPv6 in brackets with a port", "fd00::1", []string{"[2001:db8::9]:4711"}, nil, "2001:db8::9"},
		{"IPv4 written as IPv6 is the same peer", "::ffff:10.0.0.1", []string{"203.0.113.9"}, nil, "203.0.113.9"},
		{"IPv4 written as IPv6 in the list", "10.0.0.1", []string{"203.0.113.9, ::ffff:10.0.0.2"}, nil, "203.0.113.9"},
		{"a zone is no address of a client", "10.0.0.1", []string{"fe80::1%eth0"}, nil, "10.0.0.1"},
		{"Forwarded", "10.0.0.1", nil, []string{`for=1.2.3.4, For="[2001:db8::9]:4711";proto=https;by=10.0.0.2`}, "2001:db8::9"},
		{"Forwarded through two proxies", "10.0.0.1", nil, []string{"proto=http; for=203.0.113.9", "for=10.0.0.2"}, "203.0.113.9"},
		{"Forwarded with a hidden name", "10.0.0.1", nil, []string{"for=1.2.3.4, for=_hidden"}, "10.0.0.1"},
		{"Forwarded without for", "10.0.0.1", nil, []string{"for=1.2.3.4, proto=https"}, "10.0.0.1"},
		{"X-Forwarded-For wins", "10.0.0.1", []string{"203.0.113.9"}, []string{"for=1.2.3.4"}, "203.0.113.9"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := http.Header{}
			if c.xff != nil {
				h["X-Forwarded-For"] = c.xff
			}
			if c.forwarded != nil {
				h["Forwarded"] = c.forwarded
			}
			if got := clientAddress(netip.MustParseAddr(c.peer).Unmap(), h, trusted); got.String() != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestRemoteAddrIsTheClients(t *testing.T) {
	trusted, err := parseProxies([]string{"10.0.0.0/8"})
	if err != nil {
		t.Fatal(err)
	}
	for peer, want := range map[string]string{
		"10.0.0.1:99":    "203.0.113.9:0",
		"203.0.113.1:99": "203.0.113.1:99",
		"@":              "@", // a Unix socket's
	} {
		got := ""
		h := resolveClients(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.RemoteAddr }), trusted)
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = peer
		r.Header.Set("X-Forwarded-For", "203.0.113.9")
		h.ServeHTTP(httptest.NewRecorder(), r)
		if got != want {
			t.Errorf("from %s: got %s, want %s", peer, got, want)
		}
	}
}

func TestTrustedProxyThatIsNoNetwork(t *testing.T) {
	if _, err := parseProxies([]string{"10.0.0.0/8", "ten"}); err == nil {
		t.Error("accepted")
	}
}
