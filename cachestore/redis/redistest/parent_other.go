//go:build !linux

package redistest

import "syscall"

// dieWithParent has no way to end a server when the tests are killed.
func dieWithParent() *syscall.SysProcAttr { return nil }
