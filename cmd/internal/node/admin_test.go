package node

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"edge/config"
	"edge/proxy"
)

func TestAdminGuard(t *testing.T) {
	h := guardAdmin(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }), "ops.internal:9090")
	for _, c := range []struct {
		name, method, peer, host string
		want                     int
	}{
		{"loopback address", "GET", "127.0.0.1:5000", "127.0.0.1:9090", 200},
		{"another loopback address", "GET", "127.0.0.1:5000", "127.1.2.3", 200},
		{"IPv6", "GET", "[::1]:5000", "[::1]:9090", 200},
		{"IPv6 without a port", "GET", "[::1]:5000", "[::1]", 200},
		{"IPv4 as IPv6", "GET", "[::ffff:127.0.0.1]:5000", "127.0.0.1", 200},
		{"localhost", "HEAD", "127.0.0.1:5000", "LocalHost:9090", 200},
		{"the name that it listens on", "GET", "127.0.0.1:5000", "ops.internal:9090", 200},
		{"another machine", "GET", "203.0.113.9:5000", "127.0.0.1:9090", 403},
		{"another machine of ours", "GET", "10.0.0.1:5000", "127.0.0.1:9090", 403},
		{"a page's own name (DNS rebinding)", "GET", "127.0.0.1:5000", "evil.test:9090", 421},
		{"a name that only looks like an address", "GET", "127.0.0.1:5000", "127.0.0.1.evil.test", 421},
		{"no name", "GET", "127.0.0.1:5000", "", 421},
		{"POST", "POST", "127.0.0.1:5000", "localhost", 405},
		{"OPTIONS (CORS preflight)", "OPTIONS", "127.0.0.1:5000", "localhost", 405},
		{"PURGE", "PURGE", "127.0.0.1:5000", "localhost", 405},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(c.method, "/stats", nil)
			r.RemoteAddr, r.Host = c.peer, c.host
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			res := w.Result()
			if res.StatusCode != c.want {
				t.Errorf("got %d, want %d", res.StatusCode, c.want)
			}
			if c.want != 200 && res.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("the refusal is %s", res.Header.Get("Content-Type"))
			}
			for name := range res.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s allows other sites in", name)
				}
			}
		})
	}
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
		"/purge":                         {404, nil},
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

func TestStatsDocument(t *testing.T) {
	origin := httptest.NewServer(http.NotFoundHandler())
	defer origin.Close()
	n := start(t, origin.URL, io.Discard, nil)
	_, body := get(t, client(t), "http://"+n.Admin()+"/stats")
	var document map[string]json.RawMessage
	if err := json.Unmarshal([]byte(body), &document); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"version", "node", "phase", "uptime_seconds", "goroutines", "memory", "requests", "cache", "store", "purge", "origins"} {
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
	for _, path := range []string{"/healthz", "/readyz", "/stats", "/metrics", "/refreshes/failed", "/debug/pprof/"} {
		if _, body := get(t, c, "http://"+n.Listen()[0]+path); body != "the origin's" {
			t.Errorf("%s answered %q", path, body)
		}
	}
}
