package process

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
)

// Pinned is a command that runs on those cores alone, as taskset lists them.
func Pinned(cores, program string, args ...string) []string {
	return append([]string{"taskset", "-c", cores, program}, args...)
}

// PinSelf moves this process, with all its threads and what it starts later, to
// those cores.
func PinSelf(ctx context.Context, cores string) error {
	out, err := exec.CommandContext(ctx, "taskset", "-a", "-c", "-p", cores, fmt.Sprint(os.Getpid())).CombinedOutput()
	if err != nil {
		return fmt.Errorf("pin to core %s: %w\n%s", cores, err, out)
	}
	return nil
}

// MemoryDir is a file system in memory where there is one, else "", which stands
// for the usual place of temporary files.
func MemoryDir() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}

// FreePort is the loopback address of a port that was free a moment ago, for
// servers that cannot say which one they chose.
func FreePort(ctx context.Context) (string, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}
