//go:build !linux

package wire

import "context"

// Elsewhere each connection has a goroutine of its own.

type loop struct{}

func (*loop) takeBack(*Conn) error { panic("wire: there are no loops here") }

type loops struct{}

func (*loops) open(*Listener) error             { return nil }
func (*loops) running() bool                    { return false }
func (*loops) hush()                            {}
func (*loops) close()                           {}
func (*loops) drain(context.Context) (cut bool) { return false }
