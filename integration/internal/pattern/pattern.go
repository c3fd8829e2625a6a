// Package pattern makes and checks bodies of any length that show when a chunk
// was lost, doubled or moved. They repeat one block whose length is no power of
// two; the Node origin makes the same bytes.
package pattern

import (
	"bytes"
	"fmt"
	"io"
)

const period = 65521

var block = func() []byte {
	b := make([]byte, period)
	for i := range b {
		b[i] = byte(i*131 + i>>8)
	}
	return b
}()

// Bytes returns length bytes of the pattern from offset.
func Bytes(offset, length int64) []byte {
	out := make([]byte, 0, length)
	for int64(len(out)) < length {
		part := block[(offset+int64(len(out)))%period:]
		out = append(out, part[:min(int64(len(part)), length-int64(len(out)))]...)
	}
	return out
}

// Write writes length bytes of the pattern to w.
func Write(w io.Writer, length int64) error {
	for left := length; left > 0; left -= period {
		if _, err := w.Write(block[:min(left, period)]); err != nil {
			return err
		}
	}
	return nil
}

// Checker is an io.Writer that refuses the first byte that is not the pattern's.
// The zero value expects the pattern from its start.
type Checker struct{ Count int64 }

func (c *Checker) Write(p []byte) (int, error) {
	for n := 0; n < len(p); {
		want := block[c.Count%period:]
		part := p[n:min(len(p), n+len(want))]
		if !bytes.Equal(part, want[:len(part)]) {
			return n, fmt.Errorf("pattern broken within %d bytes after offset %d", len(part), c.Count)
		}
		n += len(part)
		c.Count += int64(len(part))
	}
	return len(p), nil
}
