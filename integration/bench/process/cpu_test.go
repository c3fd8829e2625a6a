package process

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestStatTime(t *testing.T) {
	// The name of a program may hold spaces and parentheses.
	stat := "42 (a) b (c) S 1 42 42 0 -1 4194560 1 2 3 4 150 50 7 3 20 0 1 0 100 1000 10"
	if got, err := statTime(stat); err != nil || got != 2100*time.Millisecond {
		t.Errorf("%v, %v; want 2.1s", got, err)
	}
	for _, bad := range []string{"", "42 (a", "42 (a) S 1 2 3", "42 (a) S 1 42 42 0 -1 4194560 1 2 3 4 x 50 7 3 20 0 1"} {
		if got, err := statTime(bad); err == nil {
			t.Errorf("%q read as %v", bad, got)
		}
	}
}

// The server's workers are its children: their time is the server's.
func TestCPUTimeCountsChildren(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	// The grandchild works until it has used time that the clock can show, says so and waits.
	shell := exec.CommandContext(ctx, "sh", "-c", `exec 3<&0; sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo; read end <&3' & wait`) // a shell gives what runs behind it no input
	output, err := shell.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	input, err := shell.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { input.Close(); cancel(); shell.Wait() })
	if _, err := output.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	used, err := CPUTime(shell.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if used < 2*tick {
		t.Errorf("%v of CPU time seen, want that of the busy child", used)
	}
	if alone, err := Memory(shell.Process.Pid); err != nil || alone < 64<<10 {
		t.Errorf("%d bytes of memory, %v", alone, err)
	} else if ours, err := Memory(os.Getpid()); err != nil || ours <= alone {
		t.Errorf("%d bytes of memory with the child's %d, %v", ours, alone, err)
	}
	if _, err := CPUTime(1 << 30); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of no process: %v", err)
	}
}
