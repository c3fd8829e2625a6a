// Package node runs the real binary as a process: builds it, starts it on free
// loopback ports, asks its admin listener, and fails the test when it did not end
// as a good process ends.
package node

import (
	"fmt"
	"os/exec"
	"path/filepath"
)

// Build compiles the command of the package into dir under the name, with more
// flags for the compiler, and returns the binary's path.
func Build(dir, name, pkg string, flags ...string) (string, error) {
	path := filepath.Join(dir, name)
	args := append([]string{"build", "-o", path}, flags...)
	if out, err := exec.Command("go", append(args, pkg)...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return path, nil
}
