package main

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Lines wait for one another for a tenth of a second, but for those that are urgent,
// those that are many, and those before the start and at the end.
func TestLinesAreGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := &lines{to: &out}
		log := newLogger(l, "info", false)
		holds := func(when string, lines int) {
			t.Helper()
			synctest.Wait()
			l.mu.Lock()
			defer l.mu.Unlock()
			if n := strings.Count(out.String(), "\n"); n != lines {
				t.Errorf("%s: %d lines, want %d", when, n, lines)
			}
		}
		log.Info("one")
		holds("before the start", 1)
		l.gather()
		log.Info("two")
		time.Sleep(gathering / 2)
		log.With("a", 1).WithGroup("g").Info("three", "b", 2)
		holds("within a tenth of a second", 1)
		time.Sleep(gathering / 2)
		holds("after a tenth of a second", 3)
		log.Info("four")
		log.With("a", 1).WithGroup("g").Warn("five")
		holds("with one that is urgent", 5)
		log.Info("six")
		time.Sleep(gathering)
		holds("after another tenth", 6)
		log.Info(strings.Repeat("x", gathered))
		holds("when there are many", 7)
		log.Info("eight")
		l.prompt()
		holds("at the end", 8)
		log.Info("nine")
		holds("after the end", 9)
		for i, word := range []string{"one", "two", "three", "four", "five", "six", "xxx", "eight", "nine"} {
			if line := strings.Split(out.String(), "\n")[i]; !strings.Contains(line, word) {
				t.Errorf("line %d is not %s: %.200s", i+1, word, line)
			}
		}
	})
}

// Lines that go together are whole ones, and no more than a pipe takes as one.
func TestLinesGoTogether(t *testing.T) {
	out := &sized{}
	l := &lines{to: out}
	l.gather()
	line := strings.Repeat("x", 999) + "\n"
	for range 10 {
		if _, err := io.WriteString(l, line); err != nil {
			t.Fatal(err)
		}
	}
	l.prompt()
	if want := []int{4000, 4000, 2000}; !slices.Equal(out.writes, want) {
		t.Errorf("wrote %v bytes, want %v", out.writes, want)
	}
}

type sized struct{ writes []int }

func (s *sized) Write(p []byte) (int, error) {
	s.writes = append(s.writes, len(p))
	return len(p), nil
}

// A log that cannot be written now may be later.
func TestLinesAfterAFault(t *testing.T) {
	out := &faulty{fails: 1}
	l := &lines{to: out}
	if _, err := l.Write([]byte("one\n")); err == nil {
		t.Error("nobody is told")
	}
	if _, err := l.Write([]byte("two\n")); err != nil || out.String() != "two\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}

type faulty struct {
	bytes.Buffer
	fails int
}

func (f *faulty) Write(p []byte) (int, error) {
	if f.fails--; f.fails >= 0 {
		return 0, errors.New("full")
	}
	return f.Buffer.Write(p)
}
