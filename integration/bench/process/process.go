// Package process runs the programs that a measurement or a conformance run is
// made of, and ends what it started and nothing else.
package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	startBound = 30 * time.Second // how long a program may take to say that it is ready
	stopBound  = 10 * time.Second // from SIGTERM to SIGKILL
	tailLines  = 40               // what an error shows of a program's output
)

// Command is a program to run.
type Command struct {
	Path string
	Args []string
	Dir  string   // "" is the caller's
	Env  []string // added to the caller's environment

	// Ready looks at each line of output until it answers true; Start returns
	// then. nil: the program is ready as soon as it runs.
	Ready func(line string) bool
	// Log receives the whole output as well; nil drops it.
	Log io.Writer
}

// Process is a running program. Its methods may be called by many goroutines.
type Process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when the program has ended and its output is read

	mu   sync.Mutex // guards what follows
	tail []string
	err  error // of cmd.Wait, valid once done is closed
}

// Start runs c and waits until it is ready, for at most half a minute. When ctx
// ends the program is asked to stop, and killed when it does not. A program that
// ends before it is ready is an error that quotes its output.
func Start(ctx context.Context, c Command) (*Process, error) {
	cmd := exec.CommandContext(ctx, c.Path, c.Args...)
	cmd.Dir = c.Dir
	cmd.Env = append(os.Environ(), c.Env...)
	// A group of its own, so that Ctrl-C reaches this program alone: it ends its
	// children in order instead of all at once.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopBound

	output, writer := io.Pipe()
	cmd.Stdout, cmd.Stderr = writer, writer
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	p := &Process{name: c.Path, cmd: cmd, done: make(chan struct{})}
	ready := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { p.read(output, c, ready) })
	go func() { // ends with the program; Stop waits for it
		err := cmd.Wait()
		writer.Close()
		wg.Wait()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		close(p.done)
	}()
	if c.Ready == nil {
		return p, nil
	}
	timeout := time.NewTimer(startBound)
	defer timeout.Stop()
	select {
	case <-ready:
		return p, nil
	case <-p.done:
		return nil, fmt.Errorf("%s ended before it was ready (%v):\n%s", c.Path, p.err, p.Tail())
	case <-timeout.C:
		return nil, errors.Join(fmt.Errorf("%s was not ready within %v:\n%s", c.Path, startBound, p.Tail()), p.Stop())
	}
}

// read keeps the end of the output and watches it for readiness. It reads until
// the end whatever the lines hold: a program whose output nobody takes stops.
func (p *Process) read(output io.Reader, c Command, ready chan<- struct{}) {
	waiting := c.Ready != nil
	r := bufio.NewReader(output)
	for {
		line, err := r.ReadString('\n')
		if line != "" {
			if c.Log != nil {
				io.WriteString(c.Log, line) // a lost line of a log harms no result
			}
			line = strings.TrimRight(line, "\r\n")
			p.keep(line)
			if waiting && c.Ready(line) {
				waiting = false
				close(ready)
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *Process) keep(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.tail) == tailLines {
		p.tail = append(p.tail[:0], p.tail[1:]...)
	}
	p.tail = append(p.tail, line)
}

// Tail is the end of what the program has written.
func (p *Process) Tail() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.tail, "\n")
}

// PID is the program's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Alive tells whether the program still runs.
func (p *Process) Alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Wait returns when the program has ended, with its error.
func (p *Process) Wait() error {
	<-p.done
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Stop asks the program to end, kills it when it has not after ten seconds, and
// returns when it is gone. A program that ended badly, or before it was asked to,
// is an error. It may be called more than once.
func (p *Process) Stop() error {
	if !p.Alive() {
		return p.ended()
	}
	// The program may be gone by now; then done tells.
	p.cmd.Process.Signal(syscall.SIGTERM)
	timeout := time.NewTimer(stopBound)
	defer timeout.Stop()
	select {
	case <-p.done:
	case <-timeout.C:
		p.cmd.Process.Kill() // fails only when it has just ended
		<-p.done
		return fmt.Errorf("%s did not stop within %v and was killed:\n%s", p.name, stopBound, p.Tail())
	}
	return p.ended()
}

// Signal sends the program a signal. That it has ended is an error.
func (p *Process) Signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	return nil
}

// Kill ends the program as a crash would, and returns when it is gone. Stop is not to
// be called any more: it would call this a bad end.
func (p *Process) Kill() {
	p.cmd.Process.Kill() // fails only when it has ended already
	<-p.done
}

// ended is the error of a program that has ended. Dying of the SIGTERM that it
// was sent is a clean end: not every program catches it.
func (p *Process) ended() error {
	err := p.Wait()
	if err == nil {
		return nil
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGTERM {
			return nil
		}
	}
	return fmt.Errorf("%s ended: %w:\n%s", p.name, err, p.Tail())
}
