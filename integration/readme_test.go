package integration

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// marked is the comment that stands on the line before a block that is run.
var marked = regexp.MustCompile(`^<!-- test: (.+) -->$`)

// block is one piece of shell in the README.
type block struct {
	name, script string
}

// blocks returns the fenced sh blocks that a comment marks for running.
func blocks(t *testing.T, text string) (found []block) {
	t.Helper()
	name, inside := "", false
	var script strings.Builder
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		switch mark := marked.FindStringSubmatch(line); {
		case inside && line == "```":
			found = append(found, block{name, script.String()})
			name, inside = "", false
		case inside:
			script.WriteString(line + "\n")
		case mark != nil:
			name = mark[1]
		case line == "```sh" && name != "":
			inside = true
			script.Reset()
		case name != "" && strings.TrimSpace(line) != "":
			t.Errorf("README.md marks %q for running, but no sh block follows", name)
			name = ""
		}
	}
	return found
}

// What the README tells a newcomer to type works as printed. The blocks run one
// after the other in the root of the tree, for they use the ports they name.
func TestReadmeCommands(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	found := blocks(t, string(text))
	if len(found) == 0 {
		t.Fatal("README.md marks no block for running")
	}
	for _, b := range found {
		t.Run(b.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", b.script)
			cmd.Dir = ".."
			// The block ends what it started, by its own trap, also when it takes too long.
			cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
			cmd.WaitDelay = 10 * time.Second
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s\n%s", err, b.script, out)
			}
		})
	}
}
