package cachestore

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func TestBodyRanges(t *testing.T) {
	const text = "0123456789"
	for _, chunks := range [][]string{{text}, {"0", "", "12345", "6789"}, {"", "01", "23", "45", "67", "89", ""}} {
		var parts [][]byte
		for _, c := range chunks {
			parts = append(parts, []byte(c))
		}
		b := NewBody(parts...)
		if b.Size() != int64(len(text)) {
			t.Fatalf("%q has the size %d", chunks, b.Size())
		}
		for offset := range len(text) + 1 {
			for end := offset; end <= len(text); end++ {
				var got strings.Builder
				n, err := b.WriteRangeTo(&got, int64(offset), int64(end-offset))
				if err != nil || n != int64(end-offset) || got.String() != text[offset:end] {
					t.Fatalf("%q from %d to %d: %q, %d, %v", chunks, offset, end, got.String(), n, err)
				}
			}
		}
		// The same sequence may be run again, and left early.
		all := b.Chunks()
		for range 2 {
			if got := string(slices.Concat(slices.Collect(all)...)); got != text {
				t.Errorf("%q", got)
			}
			for c := range all {
				if !strings.HasPrefix(text, string(c)) {
					t.Errorf("starts with %q", c)
				}
				break
			}
		}
	}
}

func TestZeroBody(t *testing.T) {
	var b Body
	if b.Size() != 0 || b.Held() != 0 || len(slices.Collect(b.Chunks())) != 0 {
		t.Error("the zero Body is not empty")
	}
	if read, err := io.ReadAll(b.Reader()); err != nil || len(read) != 0 {
		t.Errorf("%q, %v", read, err)
	}
}

func TestBodyReader(t *testing.T) {
	b := NewBody([]byte("one "), nil, []byte("two "), []byte("three"))
	for range 2 {
		if err := iotest.TestReader(b.Reader(), []byte("one two three")); err != nil {
			t.Error(err)
		}
	}
	if got := b.Held(); got < b.Size() {
		t.Errorf("holds %d bytes of %d", got, b.Size())
	}
	if got := NewBody(make([]byte, 1, 100)).Held(); got != 100 {
		t.Errorf("a chunk with room to spare counts as %d", got)
	}
}

func TestBodyWriteError(t *testing.T) {
	b := NewBody([]byte("one "), []byte("two "), []byte("three"))
	full := errors.New("full")
	w := &shortWriter{room: 6, err: full}
	if n, err := b.WriteTo(w); n != 6 || !errors.Is(err, full) {
		t.Errorf("wrote %d, %v", n, err)
	}
}

type shortWriter struct {
	room int
	err  error
}

func (w *shortWriter) Write(p []byte) (int, error) {
	n := min(len(p), w.room)
	w.room -= n
	if n < len(p) {
		return n, w.err
	}
	return n, nil
}

func TestBodyRangeOutside(t *testing.T) {
	b := NewBody([]byte("four"))
	for _, r := range [][2]int64{{-1, 1}, {0, -1}, {0, 5}, {4, 1}, {5, 0}, {1 << 62, 1 << 62}, {1, 1<<63 - 1}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%d bytes from %d of four were given out", r[1], r[0])
				}
			}()
			b.Range(r[0], r[1])
		}()
	}
}
