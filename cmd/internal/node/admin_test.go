package node

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"edge/config"
	"edge/proxy"
)

// guard is the guard of a node with this configuration, before pages that answer
// 200 and a purge interface that answers 202.
func guard(admin config.Admin) http.Handler {
	n := &Node{config: &config.Config{Admin: admin}, tokens: newTokens(admin.Tokens)}
	answering := func(status int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	}
	return n.guardAdmin(answering(200), answering(202))
}

func TestAdminGuard(t *testing.T) {
	open := config.Admin{Listen: "ops.internal:9090", Hosts: []string{"admin.example", "192.0.2.1"}}
	locked := open
	locked.Tokens = []config.Token{{Name: "t", Secret: "0123456789abcdef", Scopes: []string{scopeAll}}}
	const here, away = "127.0.0.1:5000", "203.0.113.9:5000"
	for _, c := range []struct {
		name, method, peer, host string
		admin                    config.Admin
		fields                   []string
		want                     int
	}{
		{"loopback address", "GET", here, "127.0.0.1:9090", open, nil, 200},
		{"another loopback address", "GET", here, "127.1.2.3", open, nil, 200},
		{"IPv6", "GET", "[::1]:5000", "[::1]:9090", open, nil, 200},
		{"IPv6 without a port", "GET", "[::1]:5000", "[::1]", open, nil, 200},
		{"IPv4 as IPv6", "GET", "[::ffff:127.0.0.1]:5000", "127.0.0.1", open, nil, 200},
		{"localhost", "HEAD", here, "LocalHost:9090", open, nil, 200},
		{"the name that it listens on", "GET", here, "ops.internal:9090", open, nil, 200},
		{"a name that is configured", "GET", here, "Admin.example:9090", open, nil, 200},
		{"an address that is configured", "GET", here, "192.0.2.1", open, nil, 200},
		{"the address that was reached", "GET", here, "10.0.0.7:9090", open, nil, 200},
		{"another address", "GET", here, "10.0.0.8:9090", open, nil, 421},
		{"another machine", "GET", away, "127.0.0.1:9090", open, nil, 403},
		{"another machine of ours", "GET", "10.0.0.1:5000", "127.0.0.1:9090", open, nil, 403},
		{"another machine, where tokens decide", "GET", away, "10.0.0.7:9090", locked, nil, 200},
		{"a page's own name (DNS rebinding)", "GET", here, "evil.test:9090", open, nil, 421},
		{"a page's own name, where tokens decide", "POST", here, "evil.test:9090", locked, nil, 421},
		{"a name that only looks like an address", "GET", here, "127.0.0.1.evil.test", open, nil, 421},
		{"no name", "GET", here, "", open, nil, 421},
		{"POST", "POST", here, "localhost", open, nil, 200},
		{"POST of our own page", "POST", here, "localhost:9090", open, []string{"Origin", "http://localhost:9090", "Sec-Fetch-Site", "same-origin"}, 200},
		{"POST of our own page, older browser", "POST", here, "localhost:9090", open, []string{"Origin", "http://localhost:9090"}, 200},
		{"POST of another page", "POST", here, "localhost:9090", open, []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"POST of another page of this machine", "POST", here, "localhost:9090", open, []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"POST of another page, older browser", "POST", here, "localhost:9090", open, []string{"Origin", "http://evil.test"}, 403},
		{"POST of another port", "POST", here, "localhost:9090", open, []string{"Origin", "http://localhost:3000"}, 403},
		{"POST of a page without an origin", "POST", here, "localhost:9090", open, []string{"Origin", "null"}, 403},
		{"POST of another page, with tokens", "POST", here, "localhost:9090", locked, []string{"Origin", "http://evil.test"}, 403},
		{"PURGE", "PURGE", here, "www.example.com", open, nil, 202},
		{"PURGE of a site on this machine", "PURGE", here, "localhost:8080", open, nil, 202},
		{"PURGE from another machine", "PURGE", away, "www.example.com", open, nil, 403},
		{"PURGE of a page", "PURGE", here, "evil.test", open, []string{"Origin", "http://evil.test"}, 403},
		{"PURGE of a page without an origin", "PURGE", here, "evil.test", open, []string{"Sec-Fetch-Site", "same-origin"}, 403},
		{"PURGE of the admin listener", "PURGE", here, "localhost:9090", open, nil, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(c.method, "/stats", nil)
			r.RemoteAddr, r.Host = c.peer, c.host
			local := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 9090}
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, local))
			for i := 0; i < len(c.fields); i += 2 {
				r.Header.Set(c.fields[i], c.fields[i+1])
			}
			w := httptest.NewRecorder()
			guard(c.admin).ServeHTTP(w, r)
			res := w.Result()
			if res.StatusCode != c.want {
				t.Errorf("got %d, want %d", res.StatusCode, c.want)
			}
			if c.want >= 400 && res.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("the refusal is %s", res.Header.Get("Content-Type"))
			}
			if res.Header.Get("X-Content-Type-Options") != "nosniff" || res.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("the header is %v", res.Header)
			}
			for name := range res.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s allows other sites in", name)
				}
			}
		})
	}
}

// A body that does not come holds no connection for ever, though no page reads it:
// net/http waits for it before the answer goes out.
func TestAdminBodyIsBounded(t *testing.T) {
	for _, c := range []struct {
		name, method, peer, host string
		body                     io.Reader
		want                     bool
	}{
		{"to a page", "POST", "127.0.0.1:5000", "localhost", strings.NewReader("x"), true},
		{"with PURGE", "PURGE", "127.0.0.1:5000", "www.example.com", strings.NewReader("x"), true},
		{"from another machine", "POST", "203.0.113.9:5000", "localhost", strings.NewReader("x"), true},
		{"under another name", "POST", "127.0.0.1:5000", "evil.test", strings.NewReader("x"), true},
		{"none", "GET", "127.0.0.1:5000", "localhost", http.NoBody, false},
	} {
		w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		r := httptest.NewRequest(c.method, "/stats", c.body)
		r.RemoteAddr, r.Host = c.peer, c.host
		before := time.Now()
		guard(config.Admin{}).ServeHTTP(w, r)
		if set := len(w.set) == 1 && w.set[0].After(before) && !w.set[0].After(time.Now().Add(adminPatience)); set != c.want {
			t.Errorf("a body %s: the deadlines are %v", c.name, w.set)
		}
	}
}

// deadlines remembers what a connection was given to read.
type deadlines struct {
	*httptest.ResponseRecorder
	set []time.Time
}

func (d *deadlines) SetReadDeadline(at time.Time) error {
	d.set = append(d.set, at)
	return nil
}

func TestAdminPages(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "12345")
	}))
	defer origin.Close()
	n := start(t, origin.URL, io.Discard, nil)
	c := client(t)
	get(t, c, "http://"+n.Listen()[0]+"/")
	eventually(t, "the request is counted", func() bool { return stats(t, c, n).Requests.Outcomes["miss"] == 1 })

	for path, want := range map[string]struct {
		status int
		holds  []string
	}{
		"/healthz":                       {200, []string{`"status": "ok"`}},
		"/readyz":                        {200, []string{`"status": "ready"`}},
		"/refreshes/failed":              {200, []string{"[]"}},
		"/debug/pprof/":                  {200, []string{"goroutine"}},
		"/debug/pprof/goroutine?debug=1": {200, []string{"goroutine profile"}},
		"/debug/pprof/heap?debug=1":      {200, []string{"heap profile"}},
		"/":                              {404, []string{`"status":404`}},
		"/debug":                         {404, nil},
		"/purge":                         {405, []string{`"status":405`}},
		"/purge/none":                    {404, []string{`"status":404`}},
	} {
		res, body := get(t, c, "http://"+n.Admin()+path)
		if res.StatusCode != want.status {
			t.Errorf("%s: got %d, want %d", path, res.StatusCode, want.status)
		}
		for _, text := range want.holds {
			if !strings.Contains(body, text) {
				t.Errorf("%s lacks %s:\n%s", path, text, body)
			}
		}
		if res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s may be stored", path)
		}
	}
}

// A page of another site cannot have a node profiled, though a GET changes nothing.
func TestProfilesAreNotForPages(t *testing.T) {
	origin := httptest.NewServer(http.NotFoundHandler())
	defer origin.Close()
	n := start(t, origin.URL, io.Discard, nil)
	c := client(t)
	for site, want := range map[string]int{"": 200, "none": 200, "same-origin": 200, "same-site": 403, "cross-site": 403} {
		r, err := http.NewRequest("GET", "http://"+n.Admin()+"/debug/pprof/cmdline", nil)
		if err != nil {
			t.Fatal(err)
		}
		if site != "" {
			r.Header.Set("Sec-Fetch-Site", site)
		}
		res, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("from %q: got %d, want %d", site, res.StatusCode, want)
		}
	}
}

func TestStatsDocument(t *testing.T) {
	origin := httptest.NewServer(http.NotFoundHandler())
	defer origin.Close()
	n := start(t, origin.URL, io.Discard, nil)
	_, body := get(t, client(t), "http://"+n.Admin()+"/stats")
	var document map[string]json.RawMessage
	if err := json.Unmarshal([]byte(body), &document); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"version", "node", "phase", "uptime_seconds", "goroutines", "memory", "requests", "cache", "store", "purge", "purge_calls", "origins"} {
		if document[name] == nil {
			t.Errorf("no %s in %s", name, body)
		}
	}
	s := n.Stats()
	if s.Goroutines == 0 || s.Memory.Heap == 0 || s.Memory.Resident == 0 || s.Phase != "ready" || s.Node != "edge" {
		t.Errorf("got %+v", s)
	}
	if len(s.Requests.Outcomes) != len(proxy.Outcomes()) {
		t.Errorf("got %v, want every outcome from the start", s.Requests.Outcomes)
	}
}

func TestAdminOff(t *testing.T) {
	origin := httptest.NewServer(http.NotFoundHandler())
	defer origin.Close()
	n := start(t, origin.URL, io.Discard, func(c *config.Config) { c.Admin.Listen = "off" })
	if n.Admin() != "" {
		t.Errorf("listens on %s", n.Admin())
	}
	get(t, client(t), "http://"+n.Listen()[0]+"/")
}

// Nothing of the operator's is on the public listener, whatever the path.
func TestAdminIsNotPublic(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "the origin's") }))
	defer origin.Close()
	n := start(t, origin.URL, io.Discard, nil)
	c := client(t)
	for _, path := range []string{"/healthz", "/readyz", "/stats", "/metrics", "/refreshes/failed", "/debug/pprof/", "/purge", "/purge/1-1"} {
		if _, body := get(t, c, "http://"+n.Listen()[0]+path); body != "the origin's" {
			t.Errorf("%s answered %q", path, body)
		}
	}
}
