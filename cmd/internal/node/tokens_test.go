package node

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"edge/config"
)

const (
	deployer = "deployer-0123456789"
	reader   = "reader-0123456789"
	debugger = "debugger-0123456789"
	master   = "master-0123456789"
)

func lock(c *config.Config) {
	c.Admin.Tokens = []config.Token{
		{Name: "deploy", Secret: deployer, Scopes: []string{scopePurge}, Sites: []string{"default"}},
		{Name: "watch", Secret: reader, Scopes: []string{scopeRead}},
		{Name: "debug", Secret: debugger, Scopes: []string{scopeDebug}},
		{Name: "master", Secret: master, Scopes: []string{scopeAll}},
	}
}

// buffer is a log that several goroutines write.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// TestTokens asks every page as everybody.
func TestTokens(t *testing.T) {
	origin := httptest.NewServer(http.NotFoundHandler())
	defer origin.Close()
	log := new(buffer)
	n := start(t, origin.URL, log, lock)
	c := client(t)
	for _, page := range []struct {
		method, path string
		allowed      string // secrets of those who may
		status       int    // that they get
	}{
		{"GET", "/healthz", "everybody", 200},
		{"GET", "/readyz", "everybody", 200},
		{"GET", "/nowhere", "everybody", 404},
		{"GET", "/stats", reader + master, 200},
		{"GET", "/metrics", reader + master, 200},
		{"GET", "/refreshes/failed", reader + master, 200},
		{"POST", "/stats", reader + master, 405},
		{"GET", "/debug/pprof/", debugger + master, 200},
		{"GET", "/debug/pprof/cmdline", debugger + master, 200},
		{"POST", "/purge", deployer + master, 200},
		{"PURGE", "/a", deployer + master, 200},
		{"GET", "/purge", deployer + master, 405},
		{"GET", "/purge/none", deployer + reader + master, 404},
	} {
		for _, secret := range []string{deployer, reader, debugger, master, "wrong-0123456789", ""} {
			r, err := http.NewRequest(page.method, "http://"+n.Admin()+page.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if page.method == "PURGE" {
				r.Host = "www.example.com"
			}
			if page.path == "/purge" && page.method == "POST" {
				r.Header.Set("Surrogate-Key", "red")
			}
			if secret != "" {
				r.Header.Set("Authorization", "Bearer "+secret)
			}
			res, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			want := page.status
			switch {
			case page.allowed == "everybody" || secret != "" && strings.Contains(page.allowed, secret):
			case secret == "" || strings.HasPrefix(secret, "wrong"):
				want = http.StatusUnauthorized
			default:
				want = http.StatusForbidden
			}
			if res.StatusCode != want {
				t.Errorf("%s %s by %q: got %d, want %d", page.method, page.path, secret, res.StatusCode, want)
			}
			if challenge := res.Header.Get("WWW-Authenticate"); strings.HasPrefix(challenge, "Bearer ") != (want == 401 || want == 403) {
				t.Errorf("%s %s by %q: challenged by %q", page.method, page.path, secret, challenge)
			}
		}
	}
	for _, secret := range []string{deployer, reader, debugger, master, "wrong-0123456789"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("%s is in the log", secret)
		}
		if strings.Contains(fmt.Sprintf("%+v", n.tokens), secret) {
			t.Errorf("%s is in what a node prints", secret)
		}
	}
	for _, line := range []string{`"token":"deploy"`, `"level":"WARN","msg":"admin request"`, `"token":"watch"`, `"status":401`, `"status":403`} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("the log lacks %s", line)
		}
	}
}

// TestCredentials: in what forms a token is taken.
func TestCredentials(t *testing.T) {
	list := &config.Config{}
	lock(list)
	ts := newTokens(list.Admin.Tokens)
	for _, c := range []struct {
		values []string
		want   string
	}{
		{[]string{"Bearer " + reader}, "watch"},
		{[]string{"bearer   " + reader}, "watch"},
		{[]string{"Bearer " + deployer}, "deploy"},
		{nil, ""},
		{[]string{""}, ""},
		{[]string{"Bearer"}, ""},
		{[]string{"Bearer "}, ""},
		{[]string{reader}, ""},
		{[]string{"Basic " + reader}, ""},
		{[]string{"Bearer " + reader + "x"}, ""},
		{[]string{"Bearer " + reader[:10]}, ""},
		{[]string{"Bearer " + strings.ToUpper(reader)}, ""},
		{[]string{"Bearer " + reader, "Bearer " + reader}, ""},
	} {
		header := http.Header{}
		if c.values != nil {
			header["Authorization"] = c.values
		}
		got, denied := ts.check(header, []string{scopeRead, scopePurge})
		if c.want == "" {
			if denied == nil || denied.status != http.StatusUnauthorized {
				t.Errorf("%q passes", c.values)
			}
		} else if denied != nil || got.name != c.want {
			t.Errorf("%q: got %+v, %+v", c.values, got, denied)
		}
	}
	if got, denied := (tokens{}).check(http.Header{"Authorization": {"Bearer "}}, []string{scopeRead}); got != nil || denied == nil {
		t.Error("no tokens, and one passes")
	}
}
