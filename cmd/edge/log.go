package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"
)

// newLogger returns the program's log: JSON for machines, or a terser text for a
// person. Level is one that package config has checked.
func newLogger(w *lines, level string, text bool) *slog.Logger {
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		panic("edge: log level " + level + ", which the configuration has let through")
	}
	var form slog.Handler = slog.NewJSONHandler(w, &slog.HandlerOptions{Level: least})
	if text {
		form = slog.NewTextHandler(w, &slog.HandlerOptions{Level: least, ReplaceAttr: terse})
	}
	return slog.New(urgent{form, w})
}

// How long, and how many of them, lines are gathered: no more than a pipe that several
// programs write to takes as one (PIPE_BUF).
const (
	gathering = 100 * time.Millisecond
	gathered  = 4 << 10 // bytes
)

// lines writes the lines of a log, once it is told to gather them some at a time: a
// system call for each would be a good part of what a node spends on a request. A
// line waits for a tenth of a second at most, which is what a process that is killed,
// or crashes, loses. It may be used by any number of goroutines.
type lines struct {
	to io.Writer

	mu    sync.Mutex
	held  []byte
	timer *time.Timer // flushes; nil as long as each line is written at once
}

// gather begins with it.
func (l *lines) gather() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = time.AfterFunc(gathering, func() { _ = l.flush() }) // nobody is left to tell
}

// prompt ends it: what is held is written, and all that follows at once. That it could
// not be written is no fault of what the program did.
func (l *lines) prompt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.flushLocked()
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
}

// Write implements io.Writer. It waits where the reader of the log is slow.
func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	if len(l.held)+len(line) > gathered {
		err = l.flushLocked()
	}
	if l.held = append(l.held, line...); l.timer == nil || len(l.held) > gathered {
		return len(line), errors.Join(err, l.flushLocked())
	}
	if len(l.held) == len(line) { // the first
		l.timer.Reset(gathering)
	}
	return len(line), err
}

// flush writes what is held.
func (l *lines) flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flushLocked()
}

func (l *lines) flushLocked() error {
	if len(l.held) == 0 {
		return nil
	}
	_, err := l.to.Write(l.held)
	l.held = l.held[:0] // what could not be written would stand in the way of all that follows
	return err
}

// urgent has warnings, and what is worse, written at once.
type urgent struct {
	slog.Handler
	lines *lines
}

// Handle implements slog.Handler.
func (u urgent) Handle(ctx context.Context, r slog.Record) error {
	err := u.Handler.Handle(ctx, r)
	if r.Level >= slog.LevelWarn {
		err = errors.Join(err, u.lines.flush())
	}
	return err
}

// WithAttrs implements slog.Handler.
func (u urgent) WithAttrs(attrs []slog.Attr) slog.Handler {
	return urgent{u.Handler.WithAttrs(attrs), u.lines}
}

// WithGroup implements slog.Handler.
func (u urgent) WithGroup(name string) slog.Handler {
	return urgent{u.Handler.WithGroup(name), u.lines}
}

// terse leaves out what a person who is looking does not need: the date, and the
// level of what is no cause for alarm.
func terse(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.TimeKey:
		return slog.String(a.Key, a.Value.Time().Format("15:04:05.000"))
	case slog.LevelKey:
		if level, ok := a.Value.Any().(slog.Level); ok && level == slog.LevelInfo {
			return slog.Attr{}
		}
	}
	return a
}

// isTerminal reports whether somebody may be looking. The null device is a
// character device too, but nobody looks there.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}
