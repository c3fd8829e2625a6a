// Package integration holds no code, only tests: real nodes as real processes,
// real origins, and nothing but HTTP between them.
package integration

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"edge/integration/internal/node"
	"edge/integration/internal/origin"
)

// patience bounds every wait for something that must happen; it is reached only
// when the thing does not happen.
const patience = 30 * time.Second

// The binaries under test, each built at most once for a run, when first needed.
var (
	raceBinary   func() (string, error) // finds data races; most tests run this one
	plainBinary  func() (string, error) // for memory and time, which the race detector distorts
	originBinary func() (string, error) // the Go origin
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "edge-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		os.Exit(1)
	}
	raceBinary = sync.OnceValues(func() (string, error) { return node.Build(dir, "edge-race", "edge/cmd/edge", "-race") })
	plainBinary = sync.OnceValues(func() (string, error) { return node.Build(dir, "edge", "edge/cmd/edge") })
	originBinary = sync.OnceValues(func() (string, error) {
		return node.Build(dir, "goorigin", "edge/integration/origins/goorigin")
	})
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// soaking tells whether the long tests and those with time limits shall run: they
// need a machine of their own. `make soak` asks for them.
func soaking() bool { return os.Getenv("EDGE_SOAK") != "" }

func built(tb testing.TB, binary func() (string, error)) string {
	tb.Helper()
	path, err := binary()
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

// front starts a node before the origin, from the command line alone.
func front(tb testing.TB, o *origin.Origin, args ...string) *node.Node {
	tb.Helper()
	return node.Start(tb, node.Options{Binary: built(tb, raceBinary), Origin: o.URL, Args: args})
}

// configured starts a node from the text of a configuration file. Lines of the
// server block beside the listener come in server, so that the text is about what
// the test is about.
func configured(tb testing.TB, text string, server ...string) *node.Node {
	tb.Helper()
	return node.Start(tb, node.Options{Binary: built(tb, raceBinary), Config: configuration(text, server...)})
}

// configuration puts loopback listeners on free ports before the text.
func configuration(text string, server ...string) string {
	return fmt.Sprintf("server {\n  listen = [\"127.0.0.1:0\"]\n  %s\n}\nadmin {\n  listen = \"127.0.0.1:0\"\n}\n%s",
		strings.Join(server, "\n  "), text)
}

// site is the text of one origin and one site in front of it, with more lines for
// the site.
func site(url, hosts, more string) string {
	return fmt.Sprintf("origin \"app\" {\n  url = %q\n}\nsite \"shop\" {\n  hosts  = [%s]\n  origin = \"app\"\n%s\n}\n", url, hosts, more)
}

// answer is what became of one request: a response read to its end, or as far as
// it came.
type answer struct {
	Status int // zero when no response came at all
	Header http.Header
	Body   string
	Err    error // nil when the response came whole
}

// ask sends one request and reads the answer. Fields are names and values in turn;
// "Host" sets the authority.
func ask(tb testing.TB, n *node.Node, method, target, body string, fields ...string) answer {
	tb.Helper()
	r, err := request(n, method, target, body, fields...)
	if err != nil {
		tb.Fatalf("%s %s: %v", method, target, err)
	}
	return exchange(n, r)
}

// exchange is ask for goroutines other than the test's own.
func exchange(n *node.Node, r *http.Request) answer {
	res, err := n.Client.Do(r)
	if err != nil {
		return answer{Err: err}
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(got), err}
}

func request(n *node.Node, method, target, body string, fields ...string) (*http.Request, error) {
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	r, err := http.NewRequest(method, n.URL+target, in)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(fields); i += 2 {
		if fields[i] == "Host" {
			r.Host = fields[i+1]
			continue
		}
		r.Header[fields[i]] = append(r.Header[fields[i]], fields[i+1])
	}
	if r.Header["User-Agent"] == nil {
		r.Header.Set("User-Agent", "") // else Go sends its own, which nobody asked for
	}
	return r, nil
}

// get sends a GET and reads the answer, which must come whole.
func get(tb testing.TB, n *node.Node, target string, fields ...string) answer {
	tb.Helper()
	a := ask(tb, n, http.MethodGet, target, "", fields...)
	if a.Err != nil {
		tb.Fatalf("GET %s: status %d: %v", target, a.Status, a.Err)
	}
	return a
}

// cacheStatus returns the parameters of the node's member of Cache-Status (RFC
// 9211), "true" for those without a value; nil when the field is not there.
func (a answer) cacheStatus() map[string]string {
	field := a.Header.Get("Cache-Status")
	if field == "" {
		return nil
	}
	members := strings.Split(field, ",")
	params := map[string]string{}
	for i, p := range strings.Split(members[len(members)-1], ";") { // the cache nearest to us is the last member
		if i == 0 {
			continue
		}
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		params[name] = cmp.Or(value, "true")
	}
	return params
}

func (a answer) hit() bool { return a.cacheStatus()["hit"] == "true" }

// warm asks for the target until the answer is a hit: the last byte of a first
// answer may arrive a moment before the store has it.
func warm(tb testing.TB, n *node.Node, target string, fields ...string) answer {
	tb.Helper()
	return until(tb, "a hit for "+target, func() (answer, bool) {
		a := get(tb, n, target, fields...)
		return a, a.hit()
	})
}

// until calls try until it says that it has what it wants.
func until[T any](tb testing.TB, what string, try func() (T, bool)) T {
	tb.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		got, ok := try()
		if ok {
			return got
		}
		if time.Now().After(deadline) {
			tb.Fatalf("never came: %s; last: %+v", what, got)
		}
	}
}

// equal fails the test when got is not want, and lets it go on.
func equal[T comparable](tb testing.TB, what string, got, want T) {
	tb.Helper()
	if got != want {
		tb.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// number reads a header field that holds one number.
func (a answer) number(tb testing.TB, field string) int {
	tb.Helper()
	n, err := strconv.Atoi(a.Header.Get(field))
	if err != nil {
		tb.Fatalf("%s is %q, want a number", field, a.Header.Get(field))
	}
	return n
}

// fields builds a handler that answers 200 with the header fields (names and
// values in turn) and the body.
func fields(body string, fields ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(fields); i += 2 {
			w.Header().Add(fields[i], fields[i+1])
		}
		io.WriteString(w, body)
	}
}
