package cachestore

import (
	"bytes"
	"io"
	"iter"
)

// Body is an immutable list of chunks. Large bodies are neither copied nor
// contiguous; a fill hands over the chunks it received. The zero Body is empty.
// A Body may be read by any number of goroutines.
type Body struct {
	chunks [][]byte // none empty, none ever written to again
	size   int64
	held   int64 // sum of capacities: what the body really costs in memory
}

// NewBody takes ownership of the chunks: the caller must never write to them
// again. Empty chunks are left out.
func NewBody(chunks ...[]byte) Body {
	var b Body
	for _, c := range chunks {
		if len(c) == 0 {
			continue
		}
		b.chunks = append(b.chunks, c)
		b.size += int64(len(c))
		b.held += int64(cap(c))
	}
	return b
}

// Size returns the number of bytes in the body.
func (b Body) Size() int64 { return b.size }

// Held returns the bytes of memory that the chunks occupy.
func (b Body) Held() int64 { return b.held }

// Chunks yields the body's bytes in order. They must not be changed.
func (b Body) Chunks() iter.Seq[[]byte] { return b.Range(0, b.size) }

// Range yields length bytes from offset, without copying. It panics when the
// range does not lie within the body: the caller has checked it against Size.
func (b Body) Range(offset, length int64) iter.Seq[[]byte] {
	if offset < 0 || length < 0 || offset > b.size-length {
		panic("cachestore: range outside the body")
	}
	return func(yield func([]byte) bool) {
		offset, length := offset, length // each run of the sequence starts anew
		for _, c := range b.chunks {
			if length == 0 {
				return
			}
			if offset >= int64(len(c)) {
				offset -= int64(len(c))
				continue
			}
			part := c[offset:min(int64(len(c)), offset+length)]
			offset, length = 0, length-int64(len(part))
			if !yield(part) {
				return
			}
		}
	}
}

// WriteTo writes the whole body to w, chunk by chunk. It implements io.WriterTo.
func (b Body) WriteTo(w io.Writer) (int64, error) { return b.WriteRangeTo(w, 0, b.size) }

// WriteRangeTo writes length bytes from offset to w, chunk by chunk.
func (b Body) WriteRangeTo(w io.Writer, offset, length int64) (int64, error) {
	written := int64(0)
	for part := range b.Range(offset, length) {
		n, err := w.Write(part)
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// Reader returns a new reader of the whole body.
func (b Body) Reader() io.Reader {
	readers := make([]io.Reader, len(b.chunks))
	for i, c := range b.chunks {
		readers[i] = bytes.NewReader(c)
	}
	return io.MultiReader(readers...)
}
