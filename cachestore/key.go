package cachestore

import "encoding/binary"

// Key is the primary cache key: what a request asks for, before Vary. It is the
// concatenation of length-prefixed fields, so that no byte in one field can be
// taken for the start of another; stores hash it, and compare it whole on every
// hit. The zero Key is not a valid key.
type Key string

// KeyParts are the fields of a Key. Site, Scheme and Authority always take part,
// so that two tenants or two ports can never share an entry. All parts are used
// byte for byte: the caller normalises them first, and sends to the origin what
// it put here.
type KeyParts struct {
	Site      string // name of the site in the configuration
	Scheme    string // "http" or "https", as the client used it
	Authority string // lower-case host, with the port unless it is the scheme's own
	Target    string // path and, after '?', query
	Extra     string // what the route adds: named headers, cookies, expressions; "" is nothing
}

// AppendKey appends the encoding of p to dst and returns the longer slice. It
// allocates only when dst is too small, so that a hit can build its key in a
// buffer that is used again.
func AppendKey(dst []byte, p *KeyParts) []byte {
	dst = AppendField(dst, p.Site)
	dst = AppendField(dst, p.Scheme)
	dst = AppendField(dst, p.Authority)
	dst = AppendField(dst, p.Target)
	return AppendField(dst, p.Extra)
}

// NewKey returns the Key for p.
func NewKey(p KeyParts) Key { return Key(AppendKey(nil, &p)) }

// AppendField appends one length-prefixed field of a key to dst.
func AppendField(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// Parts takes the key apart again. It returns false when k was not made by
// NewKey or AppendKey.
func (k Key) Parts() (p KeyParts, ok bool) {
	rest := string(k)
	for _, field := range []*string{&p.Site, &p.Scheme, &p.Authority, &p.Target, &p.Extra} {
		n, width := uvarint(rest)
		if width <= 0 || n > uint64(len(rest)-width) {
			return KeyParts{}, false
		}
		*field = rest[width : width+int(n)]
		rest = rest[width+int(n):]
	}
	if rest != "" {
		return KeyParts{}, false
	}
	return p, true
}

// uvarint is binary.Uvarint for strings. A width of zero means malformed, or longer
// than it need be: a key has one encoding only.
func uvarint(s string) (value uint64, width int) {
	for i := 0; i < len(s) && i < binary.MaxVarintLen64; i++ {
		value |= uint64(s[i]&0x7f) << (7 * i)
		if s[i] < 0x80 {
			if i > 0 && s[i] == 0 || i == binary.MaxVarintLen64-1 && s[i] > 1 {
				return 0, 0
			}
			return value, i + 1
		}
	}
	return 0, 0
}
