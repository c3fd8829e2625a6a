package node

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for something that must happen; it is reached only
// when the thing does not happen.
const patience = 45 * time.Second

// Options say how a node is started. Exactly one of Origin and Config is set.
type Options struct {
	Binary string   // path, as Build returned it
	Origin string   // quick start: --origin
	Config string   // text of a configuration file: --config
	Args   []string // more arguments of edge run
	Env    []string // more environment, "NAME=value"
	Token  string   // that the configuration asks for; "" is none
}

// Node is one running edge process.
type Node struct {
	URL    string // of the first public listener
	Addr   string // its authority, host:port
	Admin  string // URL of the admin listener
	Client *http.Client

	cmd     *exec.Cmd
	token   string
	ended   chan struct{} // closed when the process has ended and its log is complete
	waitErr error         // set before ended is closed
	idle    int           // goroutines before the first request
	stopped bool          // Ended was called; used by the test's goroutine only

	mu  sync.Mutex // guards log
	log strings.Builder
}

// Start runs a node until the test ends, and waits until it serves. At the end of
// the test it is asked to stop, and the test fails when it exits with another code
// than 0, when it panicked, or when the race detector reported something.
func Start(tb testing.TB, o Options) *Node {
	tb.Helper()
	n, err := start(o, tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		n.Client.CloseIdleConnections()
		if tb.Failed() {
			_ = n.cmd.Process.Kill() // it has ended already, which is as good
			<-n.ended
			tb.Logf("log of the node:\n%s", tail(n.Log(), 60))
			return
		}
		n.Stop(tb)
	})
	return n
}

// slowVariable, when it is set, has every node answer nothing on the connection
// itself: what tests see must be the same.
const slowVariable = "EDGE_WITHOUT_QUICK"

// slow returns the options of a node with the one line that switches that off.
func (o Options) slow() Options {
	const line = "quick = false\n"
	if o.Config == "" {
		policy := "safe"
		if at := slices.Index(o.Args, "--policy"); at >= 0 {
			policy, o.Args = o.Args[at+1], slices.Delete(slices.Clone(o.Args), at, at+2)
		}
		o.Config = fmt.Sprintf("policy = %q\nserver {\n listen = [\"127.0.0.1:0\"]\n}\nadmin {\n listen = \"127.0.0.1:0\"\n}\n"+
			"origin \"default\" {\n url = %q\n}\nsite \"default\" {\n hosts = [\"*\"]\n}\n", policy, o.Origin)
		o.Origin = ""
	}
	if !strings.Contains(o.Config, "quick ") {
		o.Config = strings.Replace(o.Config, "server {\n", "server {\n"+line, 1)
	}
	return o
}

func start(o Options, dir string) (*Node, error) {
	if (o.Origin == "") == (o.Config == "") {
		panic("node: exactly one of Origin and Config must be set")
	}
	if os.Getenv(slowVariable) != "" {
		o = o.slow()
	}
	args := []string{"run"}
	if o.Origin != "" {
		args = append(args, "--origin", o.Origin, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	} else {
		file := filepath.Join(dir, "edge.hcl")
		if err := os.WriteFile(file, []byte(o.Config), 0o600); err != nil {
			return nil, fmt.Errorf("write configuration: %w", err)
		}
		args = append(args, "--config", file)
	}
	n := &Node{
		cmd:    exec.Command(o.Binary, append(args, o.Args...)...),
		token:  o.Token,
		ended:  make(chan struct{}),
		Client: NewClient(),
	}
	n.cmd.Env = append(os.Environ(), "GORACE=halt_on_error=0", "GOTRACEBACK=all")
	n.cmd.Env = append(n.cmd.Env, o.Env...)
	// The node must not outlive a test process that was killed.
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := n.cmd.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("start edge: %w", err)
	}
	if err := n.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start edge: %w", err)
	}
	ready := make(chan readyLine, 1)
	go n.read(stderr, ready)
	select {
	case line := <-ready:
		n.Addr, n.URL, n.Admin = line.Listen[0], "http://"+line.Listen[0], "http://"+line.Admin
	case <-n.ended:
		return nil, fmt.Errorf("edge ended before it was ready (%v):\n%s", n.waitErr, n.Log())
	case <-time.After(patience):
		_ = n.cmd.Process.Kill()
		<-n.ended
		return nil, fmt.Errorf("edge was not ready in %v:\n%s", patience, n.Log())
	}
	stats, err := n.stats()
	if err != nil {
		_ = n.cmd.Process.Kill()
		<-n.ended
		return nil, err
	}
	n.idle = stats.Goroutines
	return n, nil
}

// readyLine is the structured line that tells the bound addresses.
type readyLine struct {
	Msg    string   `json:"msg"`
	Listen []string `json:"listen"`
	Admin  string   `json:"admin"`
}

// read collects the log until the process closes it, then reaps the process.
func (n *Node) read(stderr io.Reader, ready chan<- readyLine) {
	in := bufio.NewReader(stderr)
	told := false
	for {
		line, err := in.ReadString('\n')
		n.mu.Lock()
		n.log.WriteString(line)
		n.mu.Unlock()
		var r readyLine
		if !told && json.Unmarshal([]byte(line), &r) == nil && r.Msg == "ready" && len(r.Listen) > 0 {
			told = true
			ready <- r
		}
		if err != nil {
			break
		}
	}
	n.waitErr = n.cmd.Wait()
	close(n.ended)
}

// NewClient returns a client that adds nothing by itself: no proxies, no
// compression, no redirects followed, and as many connections as there are
// requests.
func NewClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 1000},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       3 * time.Minute, // ends what hangs, and no stream of a test
	}
}

// Log returns what the node wrote so far.
func (n *Node) Log() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.log.String()
}

// Signal sends the node a signal.
func (n *Node) Signal(tb testing.TB, s os.Signal) {
	tb.Helper()
	if err := n.cmd.Process.Signal(s); err != nil {
		tb.Errorf("signal edge: %v", err)
	}
}

// Stop asks the node to stop, waits until it has, and checks how it ended. A node
// that has ended already was checked by Ended.
func (n *Node) Stop(tb testing.TB) {
	tb.Helper()
	if n.stopped {
		return
	}
	n.Client.CloseIdleConnections()
	n.Signal(tb, syscall.SIGTERM)
	n.Ended(tb)
}

// Kill ends the node as a crash would, and waits until it is gone.
func (n *Node) Kill(tb testing.TB) {
	tb.Helper()
	n.stopped = true
	_ = n.cmd.Process.Kill() // it may have ended already, which the caller sees in its log
	<-n.ended
	n.Client.CloseIdleConnections()
	n.checkLog(tb)
}

// Ended waits until the node has ended after a signal, and checks how.
func (n *Node) Ended(tb testing.TB) {
	tb.Helper()
	n.stopped = true
	select {
	case <-n.ended:
	case <-time.After(patience):
		_ = n.cmd.Process.Signal(syscall.SIGQUIT) // so that its goroutines are in the log
		<-n.ended
		tb.Errorf("edge did not stop in %v", patience)
	}
	if n.waitErr != nil {
		tb.Errorf("edge ended with %v, want exit code 0", n.waitErr)
	}
	n.checkLog(tb)
	if tb.Failed() {
		tb.Logf("log of the node:\n%s", tail(n.Log(), 60))
	}
}

// checkLog looks for what no node may ever write.
func (n *Node) checkLog(tb testing.TB) {
	tb.Helper()
	log := n.Log()
	for _, bad := range []string{"WARNING: DATA RACE", "panic"} {
		if i := strings.Index(log, bad); i >= 0 {
			tb.Errorf("log of the node holds %q:\n%s", bad, head(log[i:], 120))
		}
	}
}

// Stats is what the harness reads of the admin listener's counters.
type Stats struct {
	Goroutines int `json:"goroutines"`
}

func (n *Node) stats() (Stats, error) {
	// A connection of its own for each call, closed again: so that the call adds
	// the same number of goroutines each time.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	r, err := http.NewRequest(http.MethodGet, n.Admin+"/stats", nil)
	if err != nil {
		return Stats{}, fmt.Errorf("ask for stats: %w", err)
	}
	if n.token != "" {
		r.Header.Set("Authorization", "Bearer "+n.token)
	}
	res, err := client.Do(r)
	if err != nil {
		return Stats{}, fmt.Errorf("ask for stats: %w", err)
	}
	defer res.Body.Close()
	var s Stats
	if err := json.NewDecoder(res.Body).Decode(&s); err != nil || s.Goroutines == 0 {
		return Stats{}, fmt.Errorf("stats hold no goroutines (status %d, %v)", res.StatusCode, err)
	}
	return s, nil
}

// Settle waits until the node runs no more goroutines than before its first
// request: every flight, fill, tunnel and timer of the test has ended. Connections
// to origins are closed a few seconds after their last use, so this may take as long.
func (n *Node) Settle(tb testing.TB) {
	tb.Helper()
	n.Client.CloseIdleConnections()
	last := 0
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		s, err := n.stats()
		if err != nil {
			tb.Fatal(err)
		}
		if last = s.Goroutines; last <= n.idle {
			return
		}
	}
	dump := "no dump"
	if res, err := http.Get(n.Admin + "/debug/pprof/goroutine?debug=1"); err == nil {
		text, _ := io.ReadAll(res.Body) // the dump is help for the reader only
		res.Body.Close()
		dump = string(text)
	}
	tb.Fatalf("%d goroutines are left, %d before the first request:\n%s", last, n.idle, dump)
}

var memoryLine = regexp.MustCompile(`(?m)^(VmRSS|VmHWM):\s+(\d+) kB$`)

// Memory returns the resident memory of the process in bytes: now, and the highest
// since it started or since ResetPeak.
func (n *Node) Memory(tb testing.TB) (now, peak int64) {
	tb.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
	if err != nil {
		tb.Fatalf("read memory of the node: %v", err)
	}
	for _, m := range memoryLine.FindAllStringSubmatch(string(status), -1) {
		kib, _ := strconv.ParseInt(m[2], 10, 64) // the expression admits digits only
		if m[1] == "VmRSS" {
			now = kib << 10
		} else {
			peak = kib << 10
		}
	}
	return now, peak
}

// ResetPeak makes the peak of Memory start anew.
func (n *Node) ResetPeak(tb testing.TB) {
	tb.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", n.cmd.Process.Pid), []byte("5"), 0); err != nil {
		tb.Fatalf("reset peak memory of the node: %v", err)
	}
}

func head(s string, lines int) string {
	all := strings.SplitAfter(s, "\n")
	return strings.Join(all[:min(lines, len(all))], "")
}

func tail(s string, lines int) string {
	all := strings.SplitAfter(s, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "")
}
