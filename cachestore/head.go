package cachestore

import (
	"iter"
	"net/http"
	"slices"
	"sort"
	"strings"
)

// Head is an immutable header section, kept flat: names in order, equal names
// side by side, so that a run of values can be handed to an http.Header without
// copying. It costs a third of an http.Header of the same fields. The zero Head
// is empty. A Head may be read by any number of goroutines.
type Head struct {
	names  []string // canonical form; names[i] is the name of values[i]
	values []string
}

// NewHead copies h, in order of name. Names are kept as they stand in h, which
// must be canonical (http.CanonicalHeaderKey).
func NewHead(h http.Header) Head {
	total, count := 0, 0
	keys := make([]string, 0, len(h))
	for name, values := range h {
		if len(values) == 0 {
			continue
		}
		keys = append(keys, name)
		count += len(values)
		for _, v := range values {
			total += len(v)
		}
	}
	sort.Strings(keys)

	// One backing string for all values: an entry is then a handful of objects
	// for the collector to mark, whatever the number of fields.
	var text strings.Builder
	text.Grow(total)
	for _, name := range keys {
		for _, v := range h[name] {
			text.WriteString(v)
		}
	}
	blob := text.String()
	head := Head{names: make([]string, 0, count), values: make([]string, 0, count)}
	for _, name := range keys {
		for _, v := range h[name] {
			head.names = append(head.names, name)
			head.values = append(head.values, blob[:len(v)])
			blob = blob[len(v):]
		}
	}
	return head
}

// Get returns the first value of the field with this canonical name, or "".
func (h Head) Get(name string) string {
	if i := slices.Index(h.names, name); i >= 0 {
		return h.values[i]
	}
	return ""
}

// Values returns all values of the field with this canonical name. The slice is
// shared and must not be changed; appending to it copies.
func (h Head) Values(name string) []string {
	i := slices.Index(h.names, name)
	if i < 0 {
		return nil
	}
	j := i + 1
	for j < len(h.names) && h.names[j] == name {
		j++
	}
	return h.values[i:j:j]
}

// All yields each field once with all its values, in order of name. The slices
// are shared and must not be changed; appending to one copies.
func (h Head) All() iter.Seq2[string, []string] {
	return func(yield func(string, []string) bool) {
		for i := 0; i < len(h.names); {
			j := i + 1
			for j < len(h.names) && h.names[j] == h.names[i] {
				j++
			}
			if !yield(h.names[i], h.values[i:j:j]) {
				return
			}
			i = j
		}
	}
}

// CopyTo sets every field of h in dst, replacing fields of the same name. It
// shares the value slices with h and allocates only what the map itself needs.
func (h Head) CopyTo(dst http.Header) {
	for i := 0; i < len(h.names); {
		j := i + 1
		for j < len(h.names) && h.names[j] == h.names[i] {
			j++
		}
		dst[h.names[i]] = h.values[i:j:j]
		i = j
	}
}

// Header returns a new http.Header that the caller may change freely.
func (h Head) Header() http.Header {
	dst := make(http.Header, len(h.names))
	for name, values := range h.All() {
		dst[name] = slices.Clone(values)
	}
	return dst
}

// Len returns the number of field lines.
func (h Head) Len() int { return len(h.names) }

// Bytes returns the size of the fields as they would stand on the wire.
func (h Head) Bytes() int64 {
	n := int64(0)
	for i := range h.names {
		n += int64(len(h.names[i]) + len(h.values[i]) + len(": \r\n"))
	}
	return n
}
