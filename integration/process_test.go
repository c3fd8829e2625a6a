package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"edge/integration/internal/node"
	"edge/integration/internal/origin"
)

func TestUnknownHostIsMisdirected(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, fields("x", "Cache-Control", "max-age=60"))
	n := configured(t, site(o.URL, `"shop.test", "www.shop.test"`, ""))
	for host, status := range map[string]int{
		"shop.test":       200,
		"SHOP.test":       200,
		"shop.test:80":    200, // the scheme's own port
		"www.shop.test":   200,
		"shop.test:31337": 421,
		"evil.test":       421,
		"shop.test.evil":  421,
	} {
		equal(t, "status for "+host, get(t, n, "/"+strings.ReplaceAll(host, ":", "-"), "Host", host).Status, status)
	}
	for _, q := range o.Requests() {
		if strings.Contains(q.Host, "evil") {
			t.Errorf("a request for %s reached the origin", q.Host)
		}
	}
}

func TestSitesShareNothing(t *testing.T) {
	t.Parallel()
	page := func(text string) http.HandlerFunc { return fields(text, "Cache-Control", "max-age=60") }
	a, b := origin.Start(t, page("site a")), origin.Start(t, page("site b"))
	n := configured(t, fmt.Sprintf(`
origin "a" { url = %q }
origin "b" { url = %q }
site "a" {
  hosts  = ["a.test"]
  origin = "a"
}
site "b" {
  hosts  = ["b.test"]
  origin = "b"
}`, a.URL, b.URL))
	for range 2 {
		equal(t, "body", warm(t, n, "/", "Host", "a.test").Body, "site a")
		equal(t, "body", warm(t, n, "/", "Host", "b.test").Body, "site b")
	}
	equal(t, "requests", a.Count("")+b.Count(""), 2)
}

func TestRoutesAndHeaderRules(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Secret", "internal")
		w.Header().Set("Content-Type", "text/css")
		io.WriteString(w, r.Header.Get("X-Shop"))
	})
	n := configured(t, site(o.URL, `"shop.test"`, `
  request_headers {
    set = { "X-Shop" = "shop of ${req.host}" }
  }
  response_headers {
    remove = ["X-Secret"]
    set    = { "X-Frame-Options" = "DENY" }
  }
  route "static" {
    path = "/static/*"
    cache {
      ttl = "1h"
    }
  }`))
	a := warm(t, n, "/static/a.css", "Host", "shop.test")
	equal(t, "field set for the origin", a.Body, "shop of shop.test")
	equal(t, "field removed", a.Header.Get("X-Secret"), "")
	equal(t, "field set for the client", a.Header.Get("X-Frame-Options"), "DENY")
	get(t, n, "/page", "Host", "shop.test")
	equal(t, "a page outside the route is a hit", get(t, n, "/page", "Host", "shop.test").hit(), false)
}

func TestTermSignalDrains(t *testing.T) {
	t.Parallel()
	gate := origin.NewGate(t)
	o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
		gate.Pass(r)
		io.WriteString(w, "finished")
	})
	n := front(t, o)
	await := sendAll(t, n, "/", 1, nothing)
	gate.Await(t, 1)
	n.Signal(t, syscall.SIGTERM)
	until(t, "a refused connection", func() (error, bool) {
		c, err := net.Dial("tcp", n.Addr)
		if err == nil {
			c.Close()
		}
		return err, errors.Is(err, syscall.ECONNREFUSED)
	})
	gate.Open()
	a := await()[0]
	if a.Err != nil || a.Status != 200 || a.Body != "finished" {
		t.Errorf("request under way: status %d, %q, %v", a.Status, a.Body, a.Err)
	}
	n.Ended(t)
}

func TestDrainingIsBounded(t *testing.T) {
	t.Parallel()
	gate := origin.NewGate(t)
	o := origin.Start(t, func(_ http.ResponseWriter, r *http.Request) { gate.Pass(r) })
	n := configured(t, site(o.URL, `"*"`, ""), `shutdown_grace = "200ms"`)
	await := sendAll(t, n, "/", 1, nothing)
	gate.Await(t, 1)
	n.Signal(t, syscall.SIGTERM)
	n.Ended(t) // though the origin never answers
	if a := await()[0]; a.Err == nil && a.Status == 200 {
		t.Error("an answer came from nowhere")
	}
}

// run starts the command to its end and returns what it wrote and its exit code.
func run(t *testing.T, dir string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), built(t, raceBinary), args...)
	cmd.Dir = dir
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("edge %s: %v", strings.Join(args, " "), err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func TestBadConfigurationNeverStarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := configuration(site("http://127.0.0.1:1", `"shop.test"`, "  cache {\n    tttl = \"5m\"\n  }"))
	if err := os.WriteFile(filepath.Join(dir, "edge.hcl"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	line := 1 + strings.Count(text[:strings.Index(text, "tttl")], "\n")
	for _, args := range [][]string{{"run", "--config", "edge.hcl"}, {"check", "edge.hcl"}} {
		_, stderr, code := run(t, dir, args...)
		equal(t, args[0]+": exit code", code, 1)
		for _, want := range []string{"edge.hcl", fmt.Sprintf("line %d", line), `tttl = "5m"`, "Did you mean"} {
			if !strings.Contains(stderr, want) {
				t.Errorf("edge %s does not say %q:\n%s", args[0], want, stderr)
			}
		}
	}
}

func TestGoodConfigurationPassesTheCheck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "edge.hcl"), []byte(configuration(site("http://127.0.0.1:1", `"shop.test"`, ""))), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := run(t, dir, "check", "edge.hcl")
	equal(t, "exit code", code, 0)
	if strings.Contains(stderr, "Error") {
		t.Errorf("edge check finds fault: %s", stderr)
	}
}

func TestExampleConfigurationPassesTheCheck(t *testing.T) {
	t.Parallel()
	_, stderr, code := run(t, "..", "check", "edge.example.hcl")
	equal(t, "exit code", code, 0)
	if strings.Contains(stderr, "Warning") || strings.Contains(stderr, "Error") {
		t.Errorf("edge check finds fault: %s", stderr)
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args []string
		code int
		want string // in what it writes
	}{
		{[]string{"--help"}, 0, "run"},
		{[]string{"run", "--help"}, 0, "--origin"},
		{[]string{"check", "--help"}, 0, "check"},
		{[]string{"version"}, 0, "edge"},
		{[]string{"run"}, -1, "--origin"},
		{[]string{"run", "--origin", "ftp://a.test"}, -1, "ftp"},
		{[]string{"run", "--origin", "http://127.0.0.1:1", "--policy", "loose"}, -1, "loose"},
		{[]string{"run", "--origin", "http://127.0.0.1:1", "--config", "a.hcl"}, -1, "config"},
		{[]string{"run", "--config", "absent.hcl"}, -1, "absent.hcl"},
		{[]string{"frob"}, -1, "frob"},
	} {
		stdout, stderr, code := run(t, t.TempDir(), test.args...)
		name := "edge " + strings.Join(test.args, " ")
		if test.code == 0 {
			equal(t, name+": exit code", code, 0)
		} else if code <= 0 {
			t.Errorf("%s: exit code %d, want a failure", name, code)
		}
		if !strings.Contains(stdout+stderr, test.want) {
			t.Errorf("%s does not say %q:\n%s%s", name, test.want, stdout, stderr)
		}
	}
}

func TestOccupiedPortIsAnError(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, stderr, code := run(t, t.TempDir(), "run", "--origin", "http://127.0.0.1:1", "--listen", taken.Addr().String(), "--admin", "127.0.0.1:0")
	if code <= 0 || !strings.Contains(stderr, taken.Addr().String()) {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestAdminListener(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, fields("from the origin", "Cache-Control", "max-age=60"))
	n := front(t, o)
	warm(t, n, "/")
	for path, want := range map[string]string{"/healthz": "", "/readyz": "", "/stats": `"goroutines"`, "/metrics": "# TYPE"} {
		a := admin(t, n, "GET", path, "")
		equal(t, path+": status", a.Status, 200)
		if !strings.Contains(a.Body, want) {
			t.Errorf("%s does not hold %q: %.300s", path, want, a.Body)
		}
		equal(t, path+" as POST", admin(t, n, "POST", path, "").Status, 405)
		equal(t, path+" under a foreign Host", admin(t, n, "GET", path, "evil.test").Status >= 400, true)
		// On the public listener these are the origin's paths, as any other.
		equal(t, path+" on the public listener", get(t, n, path).Body, "from the origin")
	}
}

// admin asks the admin listener; host replaces the authority when it is not empty.
func admin(t *testing.T, n *node.Node, method, path, host string) answer {
	t.Helper()
	r, err := http.NewRequest(method, n.Admin+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	a := exchange(n, r)
	if a.Err != nil {
		t.Fatalf("admin %s %s: %v", method, path, a.Err)
	}
	return a
}

func TestAccessLog(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, fields("hello", "Cache-Control", "max-age=60"))
	n := front(t, o)
	get(t, n, "/logged?q=1")
	warm(t, n, "/logged?q=1")
	until(t, "a miss and a hit in the log", func() (string, bool) {
		log := n.Log()
		return log, strings.Contains(log, `"outcome":"miss"`) && strings.Contains(log, `"outcome":"hit"`) && strings.Contains(log, "/logged")
	})
}
