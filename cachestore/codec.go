package cachestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"slices"
	"strings"
	"time"
)

// The form of an entry outside of the process, version 1. Numbers are big-endian,
// times Unix nanoseconds, durations nanoseconds.
//
//	at  size
//	 0     4  "EDG" and the version
//	 4     4  CRC-32C of all that follows
//	 8     8  size of the whole
//	16    16  generation of the log of purges  \
//	32     8  position in it                    } the stamp
//	40     8  Received, the sign bit inverted  /
//	48     8  InitialAge
//	56    40  Life: Fresh, WhileRevalidate, IfError, IfUnreachable, Keep
//	96     1  Life: bit 0 AlwaysRevalidate, bit 1 NeverStale
//	97     2  Status
//	99     8  Rules
//	107       Key, Variant
//	          VaryOn: their number, each
//	          Tags: their number, each of 4 bytes
//	          Head: number of lines, name and value of each, in order of name
//	          Body: the rest
//
// Strings stand behind their length. Such lengths and numbers are unsigned varints of
// the shortest form, so that an entry has one encoding only. The stamp has a fixed
// place and orders as bytes within one generation, for stores that compare without
// decoding.

// What has a fixed place in an encoded entry.
const (
	StampOffset = 16 // of the stamp: generation, position, Received
	StampSize   = 32

	codecMagic = "EDG\x01"
	codecSum   = 8 // where the checksum begins to count
	codecFixed = 107
)

var (
	// ErrForeign says that bytes are not an encoded entry, or of another version.
	ErrForeign = errors.New("cachestore: not an entry of this version")

	// ErrDamaged says that bytes are an encoded entry that is not whole.
	ErrDamaged = errors.New("cachestore: damaged entry")
)

// AppendEntry appends the encoding of e to dst and returns the longer slice. In place
// of the entry's Sequence, which means something on this node only, it carries the
// log's generation and the position in it. The wall clock of Received is kept.
func AppendEntry(dst []byte, e *Entry, generation [16]byte, position uint64) []byte {
	start := len(dst)
	dst = slices.Grow(dst, encodedBound(e))
	dst = append(dst, codecMagic...)
	dst = append(dst, make([]byte, StampOffset-len(codecMagic))...) // checksum and size, known at the end
	dst = AppendStamp(dst, generation, position, e.Received)
	for _, d := range []time.Duration{
		e.InitialAge, e.Life.Fresh, e.Life.WhileRevalidate, e.Life.IfError, e.Life.IfUnreachable, e.Life.Keep,
	} {
		dst = binary.BigEndian.AppendUint64(dst, uint64(d))
	}
	dst = append(dst, flag(e.Life.AlwaysRevalidate)|flag(e.Life.NeverStale)<<1)
	if e.Status < minStatus || e.Status > maxStatus {
		panic(fmt.Sprintf("cachestore: an entry with status %d", e.Status))
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(e.Status))
	dst = binary.BigEndian.AppendUint64(dst, e.Rules)

	dst = AppendField(dst, string(e.Key))
	dst = AppendField(dst, e.Variant())
	dst = binary.AppendUvarint(dst, uint64(len(e.VaryOn())))
	for _, name := range e.VaryOn() {
		dst = AppendField(dst, name)
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.Tags)))
	for _, tag := range e.Tags {
		dst = binary.BigEndian.AppendUint32(dst, tag)
	}
	dst = binary.AppendUvarint(dst, uint64(e.Head.Len()))
	for i, name := range e.Head.lines() {
		dst = AppendField(dst, name)
		dst = AppendField(dst, e.Head.values[i])
	}
	for chunk := range e.Body.Chunks() {
		dst = append(dst, chunk...)
	}

	whole := dst[start:]
	binary.BigEndian.PutUint64(whole[8:], uint64(len(whole)))
	binary.BigEndian.PutUint32(whole[4:], checksum(whole))
	return dst
}

// AppendStamp appends the stamp of an entry, StampSize bytes, to dst. Of two stamps
// of one generation the newer is the greater as bytes; of two generations only the
// last eight bytes, the times, compare.
func AppendStamp(dst []byte, generation [16]byte, position uint64, received time.Time) []byte {
	dst = append(dst, generation[:]...)
	dst = binary.BigEndian.AppendUint64(dst, position)
	return binary.BigEndian.AppendUint64(dst, uint64(received.UnixNano())^1<<63)
}

// Statuses of responses have three digits.
const minStatus, maxStatus = 100, 999

func flag(set bool) byte {
	if set {
		return 1
	}
	return 0
}

// encodedBound returns at least the size of e's encoding, and little more.
func encodedBound(e *Entry) int {
	n := codecFixed + len(e.Key) + len(e.Variant()) + 4*len(e.Tags) + 5*binary.MaxVarintLen32
	for _, name := range e.VaryOn() {
		n += len(name) + binary.MaxVarintLen32
	}
	return n + int(e.Head.Bytes()) + 2*binary.MaxVarintLen32*e.Head.Len() + int(e.Body.Size())
}

func checksum(whole []byte) uint32 {
	return crc32.Checksum(whole[codecSum:], crc32.MakeTable(crc32.Castagnoli))
}

// EncodedSize returns the size of the whole encoding that b is the beginning of;
// false when it is not one, or too short to tell.
func EncodedSize(b []byte) (int64, bool) {
	if len(b) < StampOffset || string(b[:len(codecMagic)]) != codecMagic {
		return 0, false
	}
	size := int64(binary.BigEndian.Uint64(b[8:]))
	return size, size >= codecFixed
}

// DecodeEntry is the reverse of AppendEntry. The entry's Sequence is left zero: the
// caller knows what generation and position are on this node. Nothing in the entry
// refers to b, and no part of it keeps another in memory. The error is ErrForeign or
// ErrDamaged, possibly wrapped; there are no bytes for which it panics or takes more
// than a small multiple of their memory.
func DecodeEntry(b []byte) (e *Entry, generation [16]byte, position uint64, err error) {
	if len(b) < len(codecMagic) || string(b[:len(codecMagic)]) != codecMagic {
		return nil, generation, 0, ErrForeign
	}
	if len(b) < codecFixed || binary.BigEndian.Uint64(b[8:]) != uint64(len(b)) {
		return nil, generation, 0, fmt.Errorf("%w: its size is wrong", ErrDamaged)
	}
	if binary.BigEndian.Uint32(b[4:]) != checksum(b) {
		return nil, generation, 0, fmt.Errorf("%w: its checksum is wrong", ErrDamaged)
	}
	r := reader{rest: b[StampOffset:]}
	copy(generation[:], r.bytes(len(generation)))
	position = r.uint64()
	e = &Entry{Received: time.Unix(0, int64(r.uint64()^1<<63))}
	for _, d := range []*time.Duration{
		&e.InitialAge, &e.Life.Fresh, &e.Life.WhileRevalidate, &e.Life.IfError, &e.Life.IfUnreachable, &e.Life.Keep,
	} {
		*d = time.Duration(r.uint64())
	}
	flags := r.bytes(1)[0]
	e.Life.AlwaysRevalidate, e.Life.NeverStale = flags&1 != 0, flags&2 != 0
	e.Status = int(binary.BigEndian.Uint16(r.bytes(2)))
	e.Rules = r.uint64()

	// Key, variant and names outlive the entry in tables of the memory tier: each
	// has its own memory.
	e.Key = Key(r.field())
	variant, on := r.field(), make([]string, r.count(1))
	for i := range on {
		on[i] = r.field()
	}
	if variant != "" || len(on) > 0 {
		e.Vary = &Vary{On: on, Variant: variant}
	}
	if n := r.count(4); n > 0 {
		e.Tags = make([]uint32, n)
		for i := range e.Tags {
			e.Tags[i] = binary.BigEndian.Uint32(r.bytes(4))
		}
	}
	e.Head = r.head()
	body := make([]byte, len(r.rest)) // a clone may have room to spare, for ever unused
	copy(body, r.rest)
	e.Body = NewBody(body)
	if r.bad || flags > 3 || e.Status < minStatus || e.Status > maxStatus || e.Key == "" || !e.Vary.Valid() {
		return nil, generation, 0, fmt.Errorf("%w: its fields are wrong", ErrDamaged)
	}
	return e, generation, position, nil
}

// reader takes the fields off an encoding. Once anything was bad it only returns
// zeroes.
type reader struct {
	rest []byte
	bad  bool
}

// bytes returns the next n bytes. When there are not as many it returns zeroes, of
// which there are enough for any number.
func (r *reader) bytes(n int) []byte {
	if r.bad || n > len(r.rest) {
		r.bad = true
		return make([]byte, min(n, StampSize))
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) uint64() uint64 { return binary.BigEndian.Uint64(r.bytes(8)) }

func (r *reader) uvarint() uint64 {
	value, width := binary.Uvarint(r.rest)
	if r.bad || width <= 0 || width > 1 && r.rest[width-1] == 0 {
		r.bad = true
		return 0
	}
	r.rest = r.rest[width:]
	return value
}

// view returns the bytes of the next string.
func (r *reader) view() []byte {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.bad = true
		return nil
	}
	return r.bytes(int(n))
}

// field returns the next string, in memory of its own.
func (r *reader) field() string { return string(r.view()) }

// count returns how many items follow that take at least size bytes each.
func (r *reader) count(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.rest)/size) {
		r.bad = true
		return 0
	}
	return int(n)
}

// head reads the lines of the head.
func (r *reader) head() Head {
	n := r.count(2)
	if n == 0 {
		return Head{}
	}
	header := make(http.Header, n)
	last := ""
	for range n {
		name, value := r.field(), r.field()
		if name == "" || name < last || strings.IndexByte(name, '\n') >= 0 {
			r.bad = true // equal names must stand side by side, and a name is no more than one
		}
		last = name
		header[name] = append(header[name], value)
	}
	if r.bad {
		return Head{}
	}
	return NewHead(header)
}
