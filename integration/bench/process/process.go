// Package process runs the programs that a measurement or a conformance run is
// made of, and ends what it started and nothing else.
package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
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
	// Log receives the whole output when the program has ended; nil drops it.
	Log io.Writer
}

// Process is a running program. Its methods may be called by many goroutines.
//
// What it writes goes to a file that has no name any more. Nobody reads along: that
// would take time of those who measure it.
type Process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when the program has ended

	mu     sync.Mutex // guards what follows
	output *os.File   // nil once done is closed
	tail   string     // valid once done is closed
	err    error      // of cmd.Wait, likewise
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

	output, err := nameless()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		output.Close()
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	p := &Process{name: c.Path, cmd: cmd, done: make(chan struct{}), output: output}
	go p.wait(c.Log) // ends with the program; Stop waits for it
	if c.Ready == nil {
		return p, nil
	}
	if err := p.await(c.Ready); err != nil {
		return nil, err
	}
	return p, nil
}

// nameless returns a file that is gone when it is closed.
func nameless() (*os.File, error) {
	f, err := os.CreateTemp("", "output-*")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

// wait waits for the end of the program, and keeps what is needed after it.
func (p *Process) wait(log io.Writer) {
	err := p.cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err, p.tail = err, tailOf(p.output)
	if log != nil {
		io.Copy(log, io.NewSectionReader(p.output, 0, math.MaxInt64)) // a lost log harms no result
	}
	p.output.Close()
	p.output = nil
	close(p.done)
}

// await looks at each line of output until one says that the program is ready.
func (p *Process) await(ready func(line string) bool) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(startBound)
	for read := int64(0); ; {
		p.mu.Lock()
		if p.output == nil {
			p.mu.Unlock()
			return fmt.Errorf("%s ended before it was ready (%v):\n%s", p.name, p.err, p.tail)
		}
		r := bufio.NewReader(io.NewSectionReader(p.output, read, math.MaxInt64-read))
		p.mu.Unlock()
		for {
			line, err := r.ReadString('\n')
			if err != nil { // it is not whole yet
				break
			}
			read += int64(len(line))
			if ready(strings.TrimRight(line, "\r\n")) {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-p.done: // once more, for what it says
		case <-late:
			return errors.Join(fmt.Errorf("%s was not ready within %v:\n%s", p.name, startBound, p.Tail()), p.Stop())
		}
	}
}

// Tail is the end of what the program has written.
func (p *Process) Tail() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.output == nil {
		return p.tail
	}
	return tailOf(p.output)
}

// tailOf returns the last lines of a file.
func tailOf(f *os.File) string {
	const most = 64 << 10
	from := int64(0)
	if info, err := f.Stat(); err == nil {
		from = max(0, info.Size()-most)
	}
	text, _ := io.ReadAll(io.NewSectionReader(f, from, most)) // as much as there is
	lines := strings.Split(strings.TrimRight(string(text), "\r\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
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
