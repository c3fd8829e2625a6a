package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"edge/integration/bench/process"
)

// packageName is the suite on npm; its version is pinned in package.json.
const packageName = "http-cache-tests"

//go:embed driver.mjs
var driver []byte

// Suite is one copy of the test suite on disk.
type Suite struct {
	Groups []Group

	dir    string
	driver string // path of driver.mjs
	work   string // for what its programs write
}

// Group is one category of the suite.
type Group struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Tests []Test `json:"tests"`
}

// Test is the definition of one test, as far as counting needs it.
type Test struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Kind        string   `json:"kind"` // required, optimal or check
	DependsOn   []string `json:"depends_on"`
	BrowserOnly bool     `json:"browser_only"` // never run against a proxy, and not counted
}

// openSuite reads the definitions of the copy in dir, or of the pinned package,
// which is installed into home first, when dir is "".
func openSuite(ctx context.Context, home, dir, work string) (*Suite, error) {
	if _, err := exec.LookPath("node"); err != nil {
		return nil, errors.New("node is not installed (Debian: apt-get install nodejs npm)")
	}
	if dir == "" {
		if err := install(ctx, home); err != nil {
			return nil, err
		}
		dir = filepath.Join(home, "node_modules", packageName)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s := &Suite{dir: dir, driver: filepath.Join(work, "driver.mjs"), work: work}
	if err := os.WriteFile(s.driver, driver, 0o600); err != nil {
		return nil, err
	}
	if err := s.drive(ctx, nil, &s.Groups, "list"); err != nil {
		return nil, fmt.Errorf("read the definitions of the suite in %s: %w", dir, err)
	}
	return s, nil
}

// install runs npm, unless what it would install is there.
func install(ctx context.Context, home string) error {
	if same, err := installed(home); err != nil || same {
		return err
	}
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir = home
	npm.WaitDelay = time.Second
	if out, err := npm.CombinedOutput(); err != nil {
		return fmt.Errorf("install the suite with npm: %w\n%s", err, out)
	}
	return nil
}

// installed compares the version in node_modules with the one asked for.
func installed(home string) (bool, error) {
	var wanted struct {
		Dependencies map[string]string `json:"dependencies"`
	}
	if err := readJSON(filepath.Join(home, "package.json"), &wanted); err != nil {
		return false, err
	}
	var found struct {
		Version string `json:"version"`
	}
	err := readJSON(filepath.Join(home, "node_modules", packageName, "package.json"), &found)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil && found.Version == wanted.Dependencies[packageName], err
}

func readJSON(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// narrow leaves only the named tests, each to be judged by its own result: what
// it depends on is not run.
func (s *Suite) narrow(ids []string) error {
	missing := slices.Clone(ids)
	var kept []Group
	for _, group := range s.Groups {
		tests := group.Tests
		group.Tests = nil
		for _, test := range tests {
			if slices.Contains(ids, test.ID) {
				test.DependsOn = nil
				group.Tests = append(group.Tests, test)
				missing = slices.DeleteFunc(missing, func(id string) bool { return id == test.ID })
			}
		}
		if len(group.Tests) > 0 {
			kept = append(kept, group)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("the suite has no test %s", strings.Join(missing, ", "))
	}
	s.Groups = kept
	return nil
}

// run runs the tests against the proxy at base, all of them when ids is empty.
// Tests that have no result when the timeout is over are missing from the answer.
func (s *Suite) run(ctx context.Context, base string, timeout time.Duration, ids []string) (map[string]Result, error) {
	// The driver ends by itself at the timeout; the context is for one that hangs.
	ctx, cancel := context.WithTimeout(ctx, timeout+30*time.Second)
	defer cancel()
	var verbose io.Writer
	if len(ids) > 0 {
		verbose = os.Stdout
	}
	results := map[string]Result{}
	args := append([]string{"run", base, strconv.Itoa(int(timeout.Seconds()))}, ids...)
	if err := s.drive(ctx, verbose, &results, args...); err != nil {
		return nil, fmt.Errorf("run the suite against %s: %w", base, err)
	}
	return results, nil
}

// drive runs the driver and decodes what it writes to its descriptor 3, apart
// from what the suite prints.
func (s *Suite) drive(ctx context.Context, verbose io.Writer, into any, args ...string) error {
	output, err := os.CreateTemp(s.work, "driver-")
	if err != nil {
		return err
	}
	defer output.Close()
	var said strings.Builder
	node := exec.CommandContext(ctx, "node", append([]string{"--no-warnings", s.driver, s.dir}, args...)...)
	node.Dir = s.dir
	node.WaitDelay = time.Second
	node.ExtraFiles = []*os.File{output}
	node.Stderr = &said
	node.Stdout = verbose
	if err := node.Run(); err != nil {
		return fmt.Errorf("%w\n%s", err, said.String())
	}
	if _, err := output.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := json.NewDecoder(output).Decode(into); err != nil {
		return fmt.Errorf("read the driver's answer: %w", err)
	}
	return nil
}

// Origin is the suite's own server, which plays the origin.
type Origin struct {
	*process.Process
	Address string // host:port
}

// startOrigin starts the suite's server; port 0 is any free one.
func (s *Suite) startOrigin(ctx context.Context, port int, log io.Writer) (*Origin, error) {
	server := filepath.Join(s.dir, "server", "server.mjs")
	if _, err := os.Stat(server); err != nil {
		server = filepath.Join(s.dir, "test-engine", "server", "server.mjs") // where newer copies keep it
	}
	pid, err := os.CreateTemp(s.work, "origin-pid-")
	if err != nil {
		return nil, err
	}
	pid.Close()
	listening := regexp.MustCompile(`^Listening on http://.*:(\d+)/$`)
	origin := &Origin{}
	command := process.Command{
		Path: "node",
		Args: []string{"--no-warnings", server},
		Dir:  s.dir,
		Env: []string{
			"npm_config_protocol=http",
			"npm_config_port=" + strconv.Itoa(port),
			"npm_config_pidfile=" + pid.Name(),
		},
		Ready: func(line string) bool {
			match := listening.FindStringSubmatch(line)
			if match == nil {
				return false
			}
			origin.Address = net.JoinHostPort("127.0.0.1", match[1])
			return true
		},
		Log: log,
	}
	if origin.Process, err = process.Start(ctx, command); err != nil {
		return nil, fmt.Errorf("start the suite's origin server: %w", err)
	}
	return origin, nil
}
