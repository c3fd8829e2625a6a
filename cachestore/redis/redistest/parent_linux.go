package redistest

import "syscall"

// dieWithParent ends a server also when the tests are killed.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
