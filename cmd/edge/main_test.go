package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

var update = flag.Bool("update", false, "write what the commands print to testdata")

// asEdge makes the test binary be the command itself: tests of processes need no
// build.
const asEdge = "EDGE_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asEdge) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestOutput compares what commands print, exit code included, with the files in
// testdata.
func TestOutput(t *testing.T) {
	for name, line := range map[string]string{
		"help":             "--help",
		"help-run":         "run --help",
		"help-check":       "check --help",
		"help-purge":       "purge --help",
		"help-version":     "version --help",
		"none":             "",
		"unknown":          "purgatory",
		"similar":          "chekc edge.hcl",
		"unknown-flag":     "run --orign http://127.0.0.1:3000",
		"run-nothing":      "run",
		"run-both":         "run --config testdata/good.hcl --origin http://127.0.0.1:3000",
		"run-both-listen":  "run --config testdata/good.hcl --listen :80",
		"run-no-file":      "run --config testdata/missing.hcl",
		"run-bad-file":     "run --config testdata/bad.hcl",
		"run-bad-origin":   "run --origin ftp://127.0.0.1",
		"run-bad-policy":   "run --origin http://127.0.0.1:3000 --policy saef",
		"check-good":       "check testdata/good.hcl",
		"check-bad":        "check testdata/bad.hcl",
		"check-warning":    "check testdata/odd.hcl",
		"check-no-file":    "check testdata/missing.hcl",
		"check-redis-url":  "check testdata/redis-url.hcl",
		"check-redis-file": "check testdata/redis-file.hcl",
		"check-no-operand": "check",
		"purge-nothing":    "purge --soft",
		"purge-operand":    "purge product-42",
		"purge-wait":       "purge --all --wait fleet",
		"purge-timeout":    "purge --all --wait cluster --timeout 2m",
		"purge-query":      "purge --all --ignore-query",
		"purge-admin":      "purge --all --admin 127.0.0.1:9090",
		"purge-token":      "purge --all --token-env EDGE_TEST_NO_SUCH_TOKEN",
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := execute(t.Context(), strings.Fields(line), &stdout, &stderr)
			got := fmt.Sprintf("$ edge %s\n%s--- stderr\n%s--- exit %d\n", line, &stdout, &stderr, code)
			file := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("printed:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := execute(t.Context(), []string{"version"}, &stdout, &stderr); code != 0 || stderr.Len() != 0 {
		t.Errorf("exit %d, %s", code, &stderr)
	}
	if f := strings.Fields(stdout.String()); len(f) < 4 || f[0] != "edge" || !strings.HasPrefix(f[len(f)-2], "go1.") {
		t.Errorf("printed %q", &stdout)
	}
}

// process is a running edge.
type process struct {
	cmd   *exec.Cmd
	log   *bufio.Reader
	ready struct {
		Listen []string
		Admin  string
		Fronts []string
		Memory string
		Policy string
	}
}

// startProcess starts the command and waits for its line that says where it listens.
func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0], append([]string{"run"}, args...)...)}
	p.cmd.Env = append(os.Environ(), asEdge+"=1")
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			p.cmd.Process.Kill()
			p.cmd.Wait()
		}
	})
	p.log = bufio.NewReader(stderr)
	line, err := p.log.ReadString('\n')
	if err != nil {
		t.Fatalf("no line at the start: %q, %v", line, err)
	}
	if err := json.Unmarshal([]byte(line), &p.ready); err != nil || !strings.Contains(line, `"msg":"ready"`) {
		t.Fatalf("%v in the first line %q", err, line)
	}
	return p
}

// stop sends the signal, and returns the rest of the log and how the process
// ended.
func (p *process) stop(t *testing.T, signal os.Signal) (log string, err error) {
	t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(p.log)
	if err != nil {
		t.Fatal(err)
	}
	return string(rest), p.cmd.Wait()
}

func TestRunInFrontOfOneOrigin(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
	}))
	defer origin.Close()
	for _, signal := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		p := startProcess(t, "--origin", origin.URL, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--policy", "rfc")
		if len(p.ready.Listen) != 1 || p.ready.Admin == "" || len(p.ready.Fronts) != 1 || p.ready.Fronts[0] != origin.URL ||
			p.ready.Memory != "256MiB" || p.ready.Policy != "rfc" {
			t.Errorf("the first line says %+v", p.ready)
		}
		for _, want := range []string{"fwd=uri-miss", "hit"} {
			res, err := http.Get("http://" + p.ready.Listen[0] + "/")
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if status := res.Header.Get("Cache-Status"); !strings.Contains(status, want) {
				t.Errorf("Cache-Status is %q, want %s", status, want)
			}
		}
		if log, err := p.stop(t, signal); err != nil {
			t.Errorf("%v: ended with %v\n%s", signal, err, log)
		}
	}
}

func TestRunFromAFile(t *testing.T) {
	origin := httptest.NewServer(http.NotFoundHandler())
	defer origin.Close()
	file := filepath.Join(t.TempDir(), "edge.hcl")
	text := fmt.Sprintf(`
server { listen = ["127.0.0.1:0"] }
admin { listen = "off" }
origin "app" { url = %q }
site "shop" {
  hosts  = ["shop.test"]
  origin = "app"
}`, origin.URL)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startProcess(t, "--config", file)
	if p.ready.Admin != "" {
		t.Errorf("admin listens on %s", p.ready.Admin)
	}
	for host, want := range map[string]int{"shop.test": http.StatusNotFound, "other.test": http.StatusMisdirectedRequest} {
		req, err := http.NewRequest("GET", "http://"+p.ready.Listen[0]+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: got %d, want %d", host, res.StatusCode, want)
		}
	}
	if log, err := p.stop(t, syscall.SIGTERM); err != nil {
		t.Errorf("ended with %v\n%s", err, log)
	}
}

// What is said to the standard log comes out as a record of ours: an origin that
// talks out of turn cannot break the log's form.
func TestStandardLogIsOurs(t *testing.T) {
	flags, writer := log.Flags(), log.Writer()
	defer func() {
		log.SetFlags(flags)
		log.SetOutput(writer)
	}()
	var out bytes.Buffer
	ownStandardLog(slog.New(slog.NewJSONHandler(&out, nil)))
	log.Printf("Unsolicited response: %q", "a\nb")
	var record struct{ Level, Msg string }
	if err := json.Unmarshal(out.Bytes(), &record); err != nil || record.Level != "WARN" || !strings.HasPrefix(record.Msg, "Unsolicited") {
		t.Errorf("%q: %v", out.String(), err)
	}
}

func TestPortInUseHasAHint(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cmd := exec.Command(os.Args[0], "run", "--origin", "http://127.0.0.1:1", "--listen", l.Addr().String())
	cmd.Env = append(os.Environ(), asEdge+"=1")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != exitFailed || !strings.Contains(string(out), "public listener") || !strings.Contains(string(out), "--listen") {
		t.Errorf("exit %d (%v):\n%s", cmd.ProcessState.ExitCode(), err, out)
	}
}

func TestTextForAPerson(t *testing.T) {
	var b bytes.Buffer
	log := newLogger(&lines{to: &b}, "info", true)
	log.Info("one", "n", 1)
	log.Warn("two")
	log.Debug("three")
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 2 || !strings.HasSuffix(lines[0], " msg=one n=1") || strings.Contains(lines[0], "level") ||
		!strings.Contains(lines[1], "level=WARN msg=two") || len(strings.Fields(lines[0])[0]) != len("time=15:04:05.000") {
		t.Errorf("got %q", lines)
	}
	if null, err := os.Open(os.DevNull); err != nil || isTerminal(null) || isTerminal(&b) {
		t.Errorf("nobody looks there (%v)", err)
	}
}

func TestSmallWords(t *testing.T) {
	for size, want := range map[int64]string{1: "1B", 1000: "1000B", 8 << 10: "8KiB", 1536 << 10: "1536KiB", 256 << 20: "256MiB", 2 << 30: "2GiB"} {
		if got := formatSize(size); got != want {
			t.Errorf("%d: got %s, want %s", size, got, want)
		}
	}
	for address, want := range map[string]string{"[::]:8080": "localhost:8080", "0.0.0.0:80": "localhost:80", "127.0.0.1:9090": "127.0.0.1:9090", "[::1]:1": "[::1]:1"} {
		if got := reachable(address); got != want {
			t.Errorf("%s: got %s, want %s", address, got, want)
		}
	}
}
