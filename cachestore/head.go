package cachestore

import (
	"iter"
	"net/http"
	"slices"
	"strings"
	"unique"
)

// Head is an immutable header section, kept flat: names in order, equal names
// side by side, so that a run of values can be handed to an http.Header without
// copying. It costs a third of an http.Header of the same fields. The zero Head
// is empty. A Head may be read by any number of goroutines.
type Head struct {
	names  unique.Handle[string] // of each line in canonical form, a line end behind each; shared by all heads with the same names
	values []string              // of each line; names has as many
}

// NewHead copies h, in order of name. Names are kept as they stand in h, which
// must be canonical (http.CanonicalHeaderKey).
func NewHead(h http.Header) Head {
	// What is only needed here lies on the stack, as far as it fits: garbage among
	// what stays for hours keeps memory from being given back.
	var keySpace [32]string
	var nameSpace [1024]byte
	keys, names := keySpace[:0], nameSpace[:0]
	total, count := 0, 0
	for name, values := range h {
		if len(values) == 0 {
			continue
		}
		keys = append(keys, name)
		count += len(values)
		if repeats(name) {
			continue
		}
		for _, v := range values {
			total += len(v)
		}
	}
	if count == 0 {
		return Head{}
	}
	slices.Sort(keys)

	// One backing string for the values that are this response's own: an entry is
	// then a handful of objects for the collector to mark, whatever the number of
	// fields.
	var text strings.Builder
	text.Grow(total)
	for _, name := range keys {
		for _, v := range h[name] {
			names = append(append(names, name...), '\n')
			if !repeats(name) {
				text.WriteString(v)
			}
		}
	}
	blob := text.String()
	head := Head{names: unique.Make(string(names)), values: make([]string, 0, count)}
	for _, name := range keys {
		for _, v := range h[name] {
			if repeats(name) {
				head.values = append(head.values, unique.Make(v).Value())
				continue
			}
			head.values = append(head.values, blob[:len(v)])
			blob = blob[len(v):]
		}
	}
	return head
}

// repeats names fields whose values many responses of a site have in common. Such
// values are held once for all.
func repeats(name string) bool {
	switch name {
	case "Content-Type", "Content-Encoding", "Content-Language", "Cache-Control", "Cdn-Cache-Control", "Surrogate-Control", "Vary", "Via",
		"Server", "X-Powered-By", "Accept-Ranges", "Allow", "Alt-Svc", "Strict-Transport-Security", "X-Content-Type-Options",
		"X-Frame-Options", "X-Xss-Protection", "Referrer-Policy", "Permissions-Policy", "Timing-Allow-Origin",
		"Cross-Origin-Resource-Policy", "Cross-Origin-Opener-Policy", "Cross-Origin-Embedder-Policy":
		return true
	}
	return strings.HasPrefix(name, "Access-Control-Allow-")
}

// lines yields the index, name and value of each line.
func (h Head) lines() iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		if len(h.values) == 0 {
			return
		}
		names := h.names.Value()
		for i := range h.values {
			end := strings.IndexByte(names, '\n')
			if !yield(i, names[:end]) {
				return
			}
			names = names[end+1:]
		}
	}
}

// Get returns the first value of the field with this canonical name, or "".
func (h Head) Get(name string) string {
	for i, other := range h.lines() {
		if other == name {
			return h.values[i]
		}
	}
	return ""
}

// Values returns all values of the field with this canonical name. The slice is
// shared and must not be changed; appending to it copies.
func (h Head) Values(name string) []string {
	for other, values := range h.All() {
		if other == name {
			return values
		}
	}
	return nil
}

// All yields each field once with all its values, in order of name. The slices
// are shared and must not be changed; appending to one copies.
func (h Head) All() iter.Seq2[string, []string] {
	return func(yield func(string, []string) bool) {
		if len(h.values) == 0 {
			return
		}
		names := h.names.Value()
		for i := 0; i < len(h.values); {
			end := strings.IndexByte(names, '\n') + 1
			line, j := names[:end], i
			for strings.HasPrefix(names, line) {
				names = names[end:]
				j++
			}
			if !yield(line[:end-1], h.values[i:j:j]) {
				return
			}
			i = j
		}
	}
}

// CopyTo sets every field of h in dst, replacing fields of the same name. It
// shares the value slices with h and allocates only what the map itself needs.
func (h Head) CopyTo(dst http.Header) {
	for name, values := range h.All() {
		dst[name] = values
	}
}

// Header returns a new http.Header that the caller may change freely.
func (h Head) Header() http.Header {
	dst := make(http.Header, len(h.values))
	for name, values := range h.All() {
		dst[name] = slices.Clone(values)
	}
	return dst
}

// Append appends the fields as they stand on the wire to dst, but for those that
// leave names.
func (h Head) Append(dst []byte, leave func(name string) bool) []byte {
	if len(h.values) == 0 {
		return dst
	}
	names := h.names.Value()
	for _, value := range h.values {
		end := strings.IndexByte(names, '\n')
		name := names[:end]
		names = names[end+1:]
		if leave(name) {
			continue
		}
		dst = append(append(append(append(dst, name...), ": "...), value...), "\r\n"...)
	}
	return dst
}

// Len returns the number of field lines.
func (h Head) Len() int { return len(h.values) }

// Bytes returns the size of the fields as they would stand on the wire.
func (h Head) Bytes() int64 {
	n := int64(0)
	for i, name := range h.lines() {
		n += int64(len(name) + len(h.values[i]) + len(": \r\n"))
	}
	return n
}
