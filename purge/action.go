package purge

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"time"

	"edge/cachestore"
)

// What a record of the fleet's log says, version 1. Strings stand behind their
// length, numbers are big-endian.
//
//	purge:    1, Kind, 1 if soft, site, authority, value
//	changes:  1, 0xFF, site, number of URLs (2 bytes), the hash of each (8 bytes),
//	          number of parts (2 bytes), each (2 bytes)
//
// Changes are the invalidations of one site by unsafe requests. Many go into one
// record, so that strangers who can cause them cannot fill the log.
const (
	actionVersion = 1
	actionChanges = 0xFF

	// maxChangesOf bounds the URLs in one record; past it they become parts, of
	// which a site has no more than this either.
	maxChangesOf = parts
)

// action is what a record of the log does: a purge, or changes if there are any.
type action struct {
	record  Record
	changes []change
}

// errUnknownAction says that a record of the log is not understood: of a later
// version perhaps. Whatever it purges, it cannot be applied.
var errUnknownAction = errors.New("purge: a record of the log is not understood")

// append adds the action's encoding to dst. The record's time and place are not part
// of it.
func (a *action) append(dst []byte) []byte {
	if len(a.changes) == 0 {
		s := &a.record.Selector
		soft := byte(0)
		if a.record.Soft {
			soft = 1
		}
		dst = append(dst, actionVersion, byte(s.Kind), soft)
		dst = cachestore.AppendField(dst, s.Site)
		dst = cachestore.AppendField(dst, s.Authority)
		return cachestore.AppendField(dst, s.Value)
	}
	dst = append(dst, actionVersion, actionChanges)
	dst = cachestore.AppendField(dst, a.changes[0].site)
	var exact, coarse []byte
	for _, c := range a.changes {
		if c.coarse {
			coarse = binary.BigEndian.AppendUint16(coarse, uint16(c.url%parts))
		} else {
			exact = binary.BigEndian.AppendUint64(exact, c.url)
		}
	}
	if len(exact) > 8*maxChangesOf || len(coarse) > 2*parts {
		panic("purge: too many changes for one record")
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(exact)/8))
	dst = append(dst, exact...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(coarse)/2))
	return append(dst, coarse...)
}

// parseAction is the reverse of append. The error is errUnknownAction, wrapped.
func parseAction(b []byte, at time.Time) (*action, error) {
	if len(b) < 2 || b[0] != actionVersion {
		return nil, fmt.Errorf("%w: its version", errUnknownAction)
	}
	r := fields{rest: b[2:]}
	a := &action{record: Record{Time: at}}
	if b[1] == actionChanges {
		site := r.string()
		for range r.count(maxChangesOf) {
			a.changes = append(a.changes, change{site: site, url: r.number(8)})
		}
		for range r.count(parts) {
			part := r.number(2)
			r.bad = r.bad || part >= parts
			a.changes = append(a.changes, change{site: site, url: part, coarse: true})
		}
		r.bad = r.bad || len(a.changes) == 0
	} else {
		kind, soft := Kind(b[1]), r.number(1)
		r.bad = r.bad || kind == 0 || kind >= kinds || soft > 1
		a.record.Soft = soft == 1
		a.record.Selector = Selector{Kind: kind, Site: r.string(), Authority: r.string(), Value: r.string()}
	}
	if r.bad || len(r.rest) > 0 {
		return nil, fmt.Errorf("%w: its fields", errUnknownAction)
	}
	return a, nil
}

// fields takes fields off bytes. Once anything was bad it only returns zeroes.
type fields struct {
	rest []byte
	bad  bool
}

func (r *fields) take(n uint64) []byte {
	if r.bad || n > uint64(len(r.rest)) {
		r.bad = true
		return nil
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

// number returns the next n bytes, at most eight, as a number.
func (r *fields) number(n uint64) (value uint64) {
	for _, b := range r.take(n) {
		value = value<<8 | uint64(b)
	}
	return value
}

func (r *fields) count(most uint64) uint64 {
	n := r.number(2)
	if n > most {
		r.bad = true
		return 0
	}
	return n
}

func (r *fields) string() string {
	n, width := binary.Uvarint(r.rest)
	if r.bad || width <= 0 || width > 1 && r.rest[width-1] == 0 {
		r.bad = true
		return ""
	}
	r.rest = r.rest[width:]
	return string(r.take(n))
}

// changeSet gathers the changes of one site that are still to be written to the
// log. It is bounded, and loses nothing: what is too much becomes coarse.
type changeSet struct {
	exact  map[uint64]struct{}
	coarse [parts / 64]uint64 // a bit for each part
	oldest uint64             // sequence of the first of them
}

func (s *changeSet) add(c change) (folded bool) {
	if s.exact == nil {
		s.exact = make(map[uint64]struct{})
		s.oldest = c.sequence
	}
	s.oldest = min(s.oldest, c.sequence)
	if _, again := s.exact[c.url]; again && !c.coarse {
		return false
	}
	if c.coarse || len(s.exact) >= maxChangesOf {
		part := c.url % parts
		s.coarse[part/64] |= 1 << (part % 64)
		return !c.coarse
	}
	s.exact[c.url] = struct{}{}
	return false
}

// action returns the set as one.
func (s *changeSet) action(site string) *action {
	a := &action{}
	for url := range s.exact {
		a.changes = append(a.changes, change{site: site, url: url})
	}
	slices.SortFunc(a.changes, func(a, b change) int { return cmp.Compare(a.url, b.url) })
	for i, word := range s.coarse {
		for ; word != 0; word &= word - 1 {
			a.changes = append(a.changes, change{site: site, url: uint64(64*i + bits.TrailingZeros64(word)), coarse: true})
		}
	}
	return a
}
