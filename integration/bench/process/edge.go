package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ModuleRoot is the directory of the go.mod that governs the current directory.
func ModuleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	gomod := strings.TrimSpace(string(out))
	if gomod == "" || gomod == os.DevNull {
		return "", errors.New("find the module: not inside the edge source tree")
	}
	return filepath.Dir(gomod), nil
}

// BuildEdge compiles the edge binary into dir, as it is shipped: optimised,
// without the race detector.
func BuildEdge(ctx context.Context, dir string) (string, error) {
	root, err := ModuleRoot(ctx)
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "edge")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/edge")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the edge binary: %w\n%s", err, out)
	}
	return binary, nil
}

// Edge is a running node.
type Edge struct {
	*Process
	Address string // host:port of the public listener
	Admin   string // host:port of the admin listener
}

// StartEdge runs an edge node and waits for the line in which it says where it
// listens. command holds the program and what precedes its arguments, such as
// taskset; args follow "run". log, when not nil, receives the node's log.
func StartEdge(ctx context.Context, command, args, env []string, log io.Writer) (*Edge, error) {
	if len(command) == 0 {
		panic("process: StartEdge without a command")
	}
	edge := &Edge{}
	p, err := Start(ctx, Command{
		Path: command[0],
		Args: append(append(append([]string{}, command[1:]...), "run"), args...),
		Env:  env,
		Log:  log,
		Ready: func(line string) bool {
			var at addresses
			if json.Unmarshal([]byte(line), &at) != nil || at.Msg != "ready" || len(at.Listen) == 0 {
				return false // some other line of the log
			}
			edge.Address, edge.Admin = at.Listen[0], at.Admin
			return true
		},
	})
	if err != nil {
		return nil, err
	}
	edge.Process = p
	return edge, nil
}

// addresses is the line that a node logs when it is ready.
type addresses struct {
	Msg    string   `json:"msg"`
	Listen []string `json:"listen"`
	Admin  string   `json:"admin"`
}
