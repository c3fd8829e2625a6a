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
	first []byte    // most bodies are one chunk: it takes no list
	more  *[][]byte // chunks after the first; nil is none
	size  int64
}

// NewBody takes ownership of the chunks: the caller must never write to them
// again. Empty chunks are left out.
func NewBody(chunks ...[]byte) Body {
	var b Body
	var more [][]byte
	for _, c := range chunks {
		switch {
		case len(c) == 0:
			continue
		case b.first == nil:
			b.first = c
		default:
			more = append(more, c)
		}
		b.size += int64(len(c))
	}
	if more != nil {
		b.more = &more
	}
	return b
}

// chunks yields all chunks.
func (b Body) chunks(yield func([]byte) bool) {
	if b.first == nil || !yield(b.first) || b.more == nil {
		return
	}
	for _, c := range *b.more {
		if !yield(c) {
			return
		}
	}
}

// Size returns the number of bytes in the body.
func (b Body) Size() int64 { return b.size }

// Held returns the bytes of memory that the chunks occupy.
func (b Body) Held() int64 {
	held := int64(0)
	for c := range b.chunks {
		held += int64(cap(c))
	}
	return held
}

// Chunks yields the body's bytes in order. They must not be changed.
func (b Body) Chunks() iter.Seq[[]byte] { return b.Range(0, b.size) }

// AppendChunks appends the chunks to dst. They must not be changed.
func (b Body) AppendChunks(dst [][]byte) [][]byte {
	if b.first == nil {
		return dst
	}
	dst = append(dst, b.first)
	if b.more != nil {
		dst = append(dst, *b.more...)
	}
	return dst
}

// Range yields length bytes from offset, without copying. It panics when the
// range does not lie within the body: the caller has checked it against Size.
func (b Body) Range(offset, length int64) iter.Seq[[]byte] {
	if offset < 0 || length < 0 || offset > b.size-length {
		panic("cachestore: range outside the body")
	}
	return func(yield func([]byte) bool) {
		offset, length := offset, length // each run of the sequence starts anew
		for c := range b.chunks {
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
	var readers []io.Reader
	for c := range b.chunks {
		readers = append(readers, bytes.NewReader(c))
	}
	return io.MultiReader(readers...)
}
