package main

import (
	"io"
	"log/slog"
	"os"
)

// newLogger returns the program's log: JSON for machines, or a terser text for a
// person. Level is one that package config has checked.
func newLogger(w io.Writer, level string, text bool) *slog.Logger {
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		panic("edge: log level " + level + ", which the configuration has let through")
	}
	if !text {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: least}))
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: least, ReplaceAttr: terse}))
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
