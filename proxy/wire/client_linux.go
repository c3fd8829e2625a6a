package wire

import (
	"net/netip"
	"time"
)

// client is a connection while it is with its loop.
type client struct {
	fd      int
	client  netip.Addr     // as the listener counts it
	address netip.AddrPort // of the peer
	text    string         // address as text, once it was asked for
	in      []byte         // read, and not dealt with yet: a part of a head, a head and the first of its body, or what came behind an answer that is under way
	out     []byte         // answers that the client has not taken yet
	answer  *Answer        // likewise, behind out, with its own body
	due     time.Time      // when it is closed unless something happens; zero is never
	mode    mode
	closes  bool // once out has gone
	left    int  // bytes to read at most while draining, or still to come while holding
}

func (c *client) remote() string {
	if c.text == "" {
		c.text = c.address.String()
	}
	return c.text
}

// roster holds the clients of a loop by descriptor: the system gives small ones and
// gives them again, so that a table is short, and takes a part of a map's time.
type roster struct {
	table  []*client // nil where there is none
	number int
}

func (r *roster) at(fd int) *client {
	if fd < len(r.table) {
		return r.table[fd]
	}
	return nil
}

func (r *roster) enter(c *client) {
	if more := c.fd + 1 - len(r.table); more > 0 {
		r.table = append(r.table, make([]*client, more)...)
	}
	r.table[c.fd] = c
	r.number++
}

// leave takes a client out, if it is in.
func (r *roster) leave(c *client) {
	if r.at(c.fd) == c {
		r.table[c.fd] = nil
		r.number--
	}
}

// all calls f for every client, which may leave meanwhile.
func (r *roster) all(f func(*client) bool) {
	for _, c := range r.table {
		if c != nil && !f(c) {
			return
		}
	}
}

// mode is what a client is waited for.
type mode uint8

const (
	resting  mode = iota // the next request
	heading              // the rest of a head
	holding              // the first bytes of a body
	taking               // to take what is to be sent
	draining             // to end, after it was refused
)
