package memory

import (
	"encoding/binary"
	"hash/maphash"
	"sync"

	"edge/cachestore"
)

// id is what a slot is found by: 128 bits that nobody outside can foresee. Names
// are compared whole all the same (slot.holds).
type id struct{ hi, lo uint64 }

// hasher makes ids, with seeds of its own.
type hasher struct {
	seeds [4]maphash.Seed
	keep  func(id) id // set by tests, to force ids to collide
	names *sync.Pool  // of *[16]byte: ids as ristretto takes them
}

func newHasher() hasher {
	h := hasher{names: &sync.Pool{New: func() any { return new([16]byte) }}}
	for i := range h.seeds {
		h.seeds[i] = maphash.MakeSeed()
	}
	return h
}

// primary returns the id of the key's primary slot.
func (h *hasher) primary(key cachestore.Key) id {
	return h.id(
		maphash.String(h.seeds[0], string(key)),
		maphash.String(h.seeds[1], string(key)))
}

// variant returns the id of a variant of the key with this primary id. The factors
// are odd, so that no bit of the variant's hash is lost.
func (h *hasher) variant(primary id, variant string) id {
	return h.id(
		primary.hi+0x9e3779b97f4a7c15*maphash.String(h.seeds[2], variant),
		primary.lo+0xd1342543de82ef95*maphash.String(h.seeds[3], variant))
}

func (h *hasher) id(hi, lo uint64) id {
	if h.keep != nil {
		k := h.keep(id{hi, lo})
		hi, lo = k.hi, k.lo
	}
	// Ristretto takes a zero second half for "not to be compared".
	return id{hi, max(lo, 1)}
}

// name writes an id for ristretto, which takes a slice and would make every
// look-up allocate one. Hand it back to reuse.
func (h *hasher) name(id id) *[16]byte {
	name := h.names.Get().(*[16]byte)
	binary.LittleEndian.PutUint64(name[:8], id.hi)
	binary.LittleEndian.PutUint64(name[8:], id.lo)
	return name
}

func (h *hasher) reuse(name *[16]byte) { h.names.Put(name) }

// idOf is ristretto's KeyToHash.
func idOf(name []byte) (hi, lo uint64) {
	return binary.LittleEndian.Uint64(name[:8]), binary.LittleEndian.Uint64(name[8:])
}
