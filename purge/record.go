// Package purge decides which stored responses may no longer be used. A purge is a
// record in an ordered ledger, never a search through the stores: every entry
// carries the sequence of the ledger that its node had applied before the look-up
// that led to its fetch, so that one comparison tells whether a record came after
// it. A purge therefore costs the same for one object or ten million, and a fetch
// that was under way when it came can never bring the old content back.
package purge

import (
	"encoding/binary"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Record is one purge.
type Record struct {
	Sequence uint64    // place in the ledger, counted from one; set by Ledger.Append
	Time     time.Time // when it was asked for; zero is the time of the Append
	Selector Selector
	Soft     bool // the entries become stale at Time, and may still be revalidated or served stale; otherwise they are dead
}

// Selector says which entries a record is about. Site, Authority and Value are
// compared byte for byte with the fields of cachestore.KeyParts, and must have
// been normalised as keys are. The scheme takes no part: a purge of a URL is
// meant for the resource, however it was reached.
type Selector struct {
	Kind      Kind
	Site      string // name of the site; empty is a name like any other, except for Everything
	Authority string // host with port as in the key; unused by Key and Everything
	Value     string // see Kind; unused by Host and Everything
}

// Kind is what a Selector compares.
type Kind uint8

const (
	Key         Kind = 1 + iota // Value is a surrogate key of the site
	URL                         // Value is a path with its query; all variants and every Extra part of the key
	URLAnyQuery                 // Value is a path; whatever the query
	Prefix                      // Value is a path; that path and all below it, ending at a segment: /a selects /a and /a/b, not /ab
	Host                        // everything under one authority of the site
	Everything                  // every entry of the site; of every site when Site is empty
	kinds
)

// String returns the kind as the admin interface names it.
func (k Kind) String() string {
	switch k {
	case Key:
		return "surrogate key"
	case URL:
		return "url"
	case URLAnyQuery:
		return "url, any query"
	case Prefix:
		return "prefix"
	case Host:
		return "host"
	case Everything:
		return "everything"
	}
	panic("purge: unknown kind of selector")
}

// HashKey returns the hash that stands for a surrogate key of a site in
// cachestore.Entry.Tags. For a Cache-Group (RFC 9875) the site is the URI's origin
// in the form scheme://authority. It is the same on every node and in every
// version, since entries outlive processes in a shared tier. Two keys of one hash
// are purged together, which is never wrong.
func HashKey(site, key string) uint32 {
	h := hash(Key, site, "", key)
	return uint32(h>>32) ^ uint32(h)
}

// hash is what the ledger knows a selector by. Equal hashes of different
// selectors make one purge reach too far, never too short.
func (s *Selector) hash() uint64 {
	switch s.Kind {
	case Key:
		return uint64(HashKey(s.Site, s.Value))
	case URL:
		return hash(s.Kind, s.Site, s.Authority, s.Value)
	case URLAnyQuery:
		path, _, _ := strings.Cut(s.Value, "?")
		return hash(s.Kind, s.Site, s.Authority, path)
	case Prefix:
		path, _, _ := strings.Cut(s.Value, "?")
		return hash(s.Kind, s.Site, s.Authority, strings.TrimRight(path, "/"))
	case Host:
		return hash(s.Kind, s.Site, s.Authority, "")
	case Everything:
		return hash(s.Kind, s.Site, "", "")
	}
	panic("purge: unknown kind of selector")
}

func hash(kind Kind, site, authority, value string) uint64 {
	d := begin(kind, site, authority)
	d.WriteString(value)
	return d.Sum64()
}

// begin hashes what all values under one authority have in common. The lengths in
// front keep the end of one field from being taken for the start of the next.
func begin(kind Kind, site, authority string) xxhash.Digest {
	var d xxhash.Digest
	d.Reset()
	var head [9]byte
	head[0] = byte(kind)
	binary.LittleEndian.PutUint32(head[1:], uint32(len(site)))
	binary.LittleEndian.PutUint32(head[5:], uint32(len(authority)))
	d.Write(head[:])
	d.WriteString(site)
	d.WriteString(authority)
	return d
}
