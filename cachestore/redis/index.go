package redis

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"strings"
)

// The primary slot of a key whose responses vary holds an index: "EDX" and the
// version, the SHA-1 of all that follows in hex, and lines of
//
//	k HASH                               SHA-256 of the key
//	l STAMP NAMES                        a list of field names, newest first, at most maxLists
//	m VARIANT STAMP EXPIRES PUT NAMES    a variant: its hash, the stamp of its entry, two times, its list
//	a VARIANT                            a newcomer that was refused
//
// Stamps and hashes are hexadecimal, names parted by commas, times milliseconds by
// the clock of Redis. The scripts write it. A variant is stored in a slot of its
// own, and valid only if the index names it with the same stamp: what was replaced
// never comes back, even if it could not be deleted.
const (
	indexMagic = "EDX\x01"
	indexBody  = len(indexMagic) + 2*sha1.Size
)

// index is what look-ups need of one.
type index struct {
	varyOn  [][]string
	members map[string]string // stamps by variant
}

// parseIndex reads an index of the key with this hash. It returns false when the
// bytes are damaged.
func parseIndex(b []byte, hash string) (*index, bool) {
	if len(b) < indexBody || string(b[:len(indexMagic)]) != indexMagic {
		return nil, false
	}
	sum := sha1.Sum(b[indexBody:])
	if string(b[len(indexMagic):indexBody]) != hex.EncodeToString(sum[:]) {
		return nil, false
	}
	x := &index{members: make(map[string]string)}
	lines := bytes.Split(b[indexBody:], []byte("\n"))
	if string(lines[0]) != "k "+hash {
		return nil, false
	}
	for _, line := range lines[1:] {
		f := strings.Split(string(line), " ")
		switch {
		case f[0] == "l" && len(f) == 3:
			x.varyOn = append(x.varyOn, strings.Split(f[2], ","))
		case f[0] == "m" && len(f) == 6:
			x.members[f[1]] = f[2]
		case f[0] == "a" && len(f) == 2, string(line) == "":
		default:
			return nil, false
		}
	}
	return x, len(x.varyOn) > 0
}

// joinNames returns the names as they stand in an index; false when they cannot.
func joinNames(names []string) (string, bool) {
	for _, name := range names {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ',' }) {
			return "", false
		}
	}
	return strings.Join(names, ","), true
}
