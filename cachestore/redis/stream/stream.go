// Package stream is a log that the nodes of a fleet share, as one Redis Stream. It
// orders records whose meaning it does not know, tells when the log is no longer the
// one that a node has read before, and keeps a table of how far each node has come.
//
// It needs Redis 7.0 or later, or Valkey.
package stream

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Client is what the log needs of the fleet's connection to Redis.
type Client interface {
	// Do runs fn with a client and a context that ends after the deadline.
	Do(ctx context.Context, deadline time.Duration, fn func(context.Context, redis.UniversalClient) error) error
	// Master returns the client of the server that holds the key.
	Master(ctx context.Context, key string) (*redis.Client, error)
}

// Options configure a Log.
type Options struct {
	Client Client
	Prefix string // of all keys

	// MaxRecords is about how many records the log keeps; some more are kept
	// where that is cheaper. Zero means 300,000.
	MaxRecords int
}

// Log is the fleet's log. Its methods may be called by any number of goroutines. It
// holds nothing open between calls, but for Await.
type Log struct {
	client  Client
	keys    []string // log, head, nodes
	bound   int
	scripts scripts
}

// New returns the Log. It does not call Redis.
func New(o Options) *Log {
	if o.MaxRecords == 0 {
		o.MaxRecords = 300_000
	}
	if o.Client == nil || o.MaxRecords < 0 {
		panic("stream: options out of range")
	}
	return &Log{
		client:  o.Client,
		keys:    []string{o.Prefix + "{purge}:log", o.Prefix + "{purge}:head", o.Prefix + "{purge}:nodes"},
		bound:   o.MaxRecords,
		scripts: newScripts(),
	}
}

// Generation names one unbroken run of the log. A restart of the server, a failover,
// and a log that was emptied or set back each begin another.
type Generation = [16]byte

// ID names a record for ever, also when it has to be written again.
type ID [16]byte

// NewID returns an ID that no other record has.
func NewID() (id ID) {
	rand.Read(id[:]) // never fails
	return id
}

// Place is a record's place in a generation of the log. Positions count from one.
type Place struct {
	Generation Generation
	Position   uint64
}

// Chain proves what the log holds up to a record: equal positions and chains mean
// equal records, all the way back.
type Chain string

// Follows returns the chain of a record that stands after this one.
func (c Chain) Follows(id ID) Chain {
	sum := sha1.Sum(append([]byte(c), id[:]...)) // what Redis has; nobody gains by a collision
	return Chain(hex.EncodeToString(sum[:16]))
}

// Record is one record of the log.
type Record struct {
	ID      ID
	Time    time.Time // by the clock of Redis when it was first written, or as it was given; a microsecond exact
	First   Place     // where it was first written, when it has been written again since; else zero
	Payload []byte

	// Position and Chain are set by the log.
	Position uint64
	Chain    Chain
}

// Head is what the log was when a call was served.
type Head struct {
	Identity   string // Generation, as the log's own scripts know it
	Generation Generation
	Now        time.Time // by the clock of Redis
	Born       time.Time // when this generation was first seen by any node, by the clock of Redis
	Start      uint64    // position of the last record then
	First      uint64    // position of the oldest record held; zero is none
	Last       uint64    // position of the newest record; zero is none
}

// Node is a row of the table of nodes.
type Node struct {
	Name       string
	Seen       time.Time     // by the clock of Redis
	Fence      time.Duration // silent for longer, it serves nothing unasked; zero is no such promise
	Left       bool          // it has said that it serves nothing more
	Generation Generation    // of Applied
	Applied    uint64        // position up to which it has applied the log

	row string // as it stands in the table
}

// write returns the row without the time.
func (n *Node) write() string {
	left := 0
	if n.Left {
		left = 1
	}
	return fmt.Sprintf("%d %d %x %d", n.Fence.Microseconds(), left, n.Generation, n.Applied)
}

var errReply = errors.New("stream: Redis answered what cannot be understood")

func parseNode(name, row string) (Node, error) {
	f := strings.Fields(row)
	if len(f) != 5 {
		return Node{}, fmt.Errorf("%w: the row of node %q", errReply, name)
	}
	n := Node{Name: name, Left: f[2] == "1", row: row}
	seen, err1 := strconv.ParseInt(f[0], 10, 64)
	fence, err2 := strconv.ParseInt(f[1], 10, 64)
	generation, err3 := hex.DecodeString(f[3])
	applied, err4 := strconv.ParseUint(f[4], 10, 64)
	if err := errors.Join(err1, err2, err3, err4); err != nil || len(generation) != len(n.Generation) {
		return Node{}, fmt.Errorf("%w: the row of node %q", errReply, name)
	}
	n.Seen, n.Fence, n.Applied = time.UnixMicro(seen), time.Duration(fence)*time.Microsecond, applied
	copy(n.Generation[:], generation)
	return n, nil
}

// Known is a record that the caller has read.
type Known struct {
	Position uint64
	Chain    Chain
}

// Sync is what a node tells and asks.
type Sync struct {
	Node     *Node   // its row, renewed by the call; Seen is set by it. Nil: nothing is told
	Identity string  // Head.Identity when Known was read; "" is never
	Known    []Known // what the node has read, the newest first, then any other
	Limit    int     // records wanted at most; zero is none
	Table    bool    // whether the table of nodes is wanted
	Restore  []Node  // rows of a table that may have been lost: written where there is none
	Timeout  time.Duration
}

// Synced is what a node is told.
type Synced struct {
	Head

	// From is the position after which Records begin, without a gap. When Matched,
	// it is that of the first of Sync.Known that is still in the log; else it is
	// the one before the oldest record held.
	From    uint64
	Matched bool
	Records []Record
	Whole   bool // nothing is behind Records
	Nodes   []Node
}

// Sync renews the node's row and returns the records it does not know, in one
// atomic step: a record that is not among those returned was written after the row
// could be seen.
func (l *Log) Sync(ctx context.Context, s *Sync) (*Synced, error) {
	name, row := "", ""
	if s.Node != nil {
		name, row = s.Node.Name, s.Node.write()
	}
	args := []any{nonce(), name, row, s.Identity, s.Limit, bit(s.Table), len(s.Known)}
	for _, k := range s.Known {
		args = append(args, k.Position, string(k.Chain))
	}
	for i := range s.Restore {
		args = append(args, s.Restore[i].Name, s.Restore[i].row)
	}
	reply, err := l.run(ctx, s.Timeout, l.scripts.sync, args)
	if err != nil {
		return nil, fmt.Errorf("reading the log of purges: %w", err)
	}
	out := &Synced{Head: reply.head(), From: reply.number(), Matched: reply.number() == 1}
	records := reply.list()
	for records.more() {
		out.Records = append(out.Records, records.list().record())
	}
	out.Nodes = reply.nodes()
	if err := errors.Join(reply.bad, records.bad); err != nil {
		return nil, fmt.Errorf("reading the log of purges: %w", err)
	}
	newest := out.From
	if n := len(out.Records); n > 0 {
		newest = out.Records[n-1].Position
	}
	out.Whole = newest >= out.Last
	return out, nil
}

// Append is what is to be written.
type Append struct {
	Records  []Record
	Identity string // write only if the log is still this one; "" is any

	// Upto is the position up to which the caller knows that none of the records
	// is in the log. Those found after it are not written again. Nil: the records
	// are new, and none was ever tried.
	Upto    *uint64
	Timeout time.Duration
}

// Appended is where the records are.
type Appended struct {
	Head
	Positions []uint64 // of each record
	Nodes     []Node   // the table when they were written: who must apply them
}

var (
	// ErrChanged says that the log is another than the caller has read. Nothing
	// was written.
	ErrChanged = errors.New("stream: the log is another one now")

	// ErrBehind says that the caller knows too little of the log to write these
	// records. Nothing was written.
	ErrBehind = errors.New("stream: too much was written meanwhile")
)

// Append writes the records at the end of the log, all or none, in one atomic step.
// When it fails in any other way than ErrChanged and ErrBehind, they may have been
// written all the same, or be written later.
func (l *Log) Append(ctx context.Context, a *Append) (*Appended, error) {
	upto := ""
	if a.Upto != nil {
		upto = strconv.FormatUint(*a.Upto, 10)
	}
	args := []any{nonce(), a.Identity, upto, l.bound}
	for i := range a.Records {
		r := &a.Records[i]
		at, first := "", ""
		if !r.Time.IsZero() {
			at = strconv.FormatInt(r.Time.UnixMicro(), 10)
		}
		if r.First != (Place{}) {
			first = fmt.Sprintf("%x-%d", r.First.Generation, r.First.Position)
		}
		args = append(args, r.ID[:], at, first, r.Payload)
	}
	reply, err := l.run(ctx, a.Timeout, l.scripts.append, args)
	if err != nil {
		return nil, fmt.Errorf("writing to the log of purges: %w", err)
	}
	out := &Appended{Head: reply.head()}
	status := reply.text()
	positions := reply.list()
	for positions.more() {
		out.Positions = append(out.Positions, positions.number())
	}
	out.Nodes = reply.nodes()
	switch {
	case reply.bad != nil || positions.bad != nil:
		err = errors.Join(reply.bad, positions.bad)
	case status == "changed":
		err = ErrChanged
	case status == "behind":
		err = ErrBehind
	case status != "ok" || len(out.Positions) != len(a.Records):
		err = errReply
	default:
		return out, nil
	}
	return nil, fmt.Errorf("writing to the log of purges: %w", err)
}

// Leave writes the node's row with Left set: nobody waits for it any more.
func (l *Log) Leave(ctx context.Context, n Node, timeout time.Duration) error {
	n.Left = true
	err := l.client.Do(ctx, timeout, func(ctx context.Context, client redis.UniversalClient) error {
		return l.scripts.leave.Run(ctx, client, l.keys, nonce(), n.Name, n.write()).Err()
	})
	if err != nil {
		return fmt.Errorf("leaving the table of nodes: %w", err)
	}
	return nil
}

// Await calls ring whenever there is a record after the position that after returns,
// until ctx ends or Redis cannot be asked. It asks anew after each block at the
// latest, and after ring has returned: ring should return when the log has been read.
// It is a doorbell only: what it misses, the next Sync finds. It waits on a connection
// of its own.
func (l *Log) Await(ctx context.Context, ring func(), after func() uint64, block time.Duration) error {
	master, err := l.client.Master(ctx, l.keys[0])
	if err != nil {
		return fmt.Errorf("waiting for purges: %w", err)
	}
	options := *master.Options()
	options.PoolSize, options.MinIdleConns, options.MaxIdleConns = 1, 0, 1
	options.MaxRetries = -1 // the master's options say 0 for that, which here means three
	// What clients must not share comes with the copy.
	options.PushNotificationProcessor = nil
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	own := redis.NewClient(&options)
	defer own.Close()
	// A context that ends does not interrupt a read; closing the connection does.
	defer context.AfterFunc(ctx, func() { own.Close() })()
	for ctx.Err() == nil {
		err := own.XRead(ctx, &redis.XReadArgs{
			Streams: []string{l.keys[0], strconv.FormatUint(after(), 10) + "-0"},
			Count:   1,
			Block:   block,
		}).Err()
		if err != nil && !errors.Is(err, redis.Nil) {
			return fmt.Errorf("waiting for purges: %w", err)
		}
		if err == nil {
			ring()
		}
	}
	return ctx.Err()
}

func (l *Log) run(ctx context.Context, timeout time.Duration, script *redis.Script, args []any) (*list, error) {
	var values []any
	err := l.client.Do(ctx, timeout, func(ctx context.Context, client redis.UniversalClient) (err error) {
		values, err = script.Run(ctx, client, l.keys, args...).Slice()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &list{rest: values}, nil
}

// nonce is drawn for each call, for the case that the log needs a new one.
func nonce() string {
	id := NewID()
	return hex.EncodeToString(id[:])
}

func bit(set bool) int {
	if set {
		return 1
	}
	return 0
}

// list takes values off a reply. Once anything was bad it only returns zeroes.
type list struct {
	rest []any
	bad  error
}

func (l *list) more() bool { return l.bad == nil && len(l.rest) > 0 }

func take[T any](l *list) (value T) {
	if l.bad == nil && len(l.rest) > 0 {
		v, ok := l.rest[0].(T)
		if l.rest = l.rest[1:]; ok {
			return v
		}
	}
	l.bad = errReply
	return value
}

func (l *list) text() string { return take[string](l) }

func (l *list) list() *list {
	values := take[[]any](l)
	return &list{rest: values, bad: l.bad}
}

func (l *list) number() uint64 {
	if len(l.rest) > 0 {
		if n, ok := l.rest[0].(int64); ok && n >= 0 {
			l.rest = l.rest[1:]
			return uint64(n)
		}
	}
	n, err := strconv.ParseUint(l.text(), 10, 64)
	if err != nil {
		l.bad = errReply
	}
	return n
}

func (l *list) micros() time.Time { return time.UnixMicro(int64(l.number())) }

func (l *list) head() Head {
	in := l.list()
	h := Head{Identity: in.text(), Now: in.micros(), Born: in.micros(), Start: in.number(), First: in.number(), Last: in.number()}
	sum := sha256.Sum256([]byte(h.Identity))
	copy(h.Generation[:], sum[:])
	if in.bad != nil {
		l.bad = in.bad
	}
	return h
}

// record reads one record. What is not understood of it stays zero: the position
// tells that there is a record, and its chain does not follow.
func (l *list) record() Record {
	id, _, _ := strings.Cut(l.text(), "-")
	position, _ := strconv.ParseUint(id, 10, 64)
	r := Record{Position: position}
	for f := l.list(); f.more(); {
		name, value := f.text(), f.text()
		switch name {
		case "i":
			copy(r.ID[:], value)
		case "c":
			r.Chain = Chain(value)
		case "t":
			micros, _ := strconv.ParseInt(value, 10, 64)
			r.Time = time.UnixMicro(micros)
		case "w":
			r.First = parsePlace(value)
		case "p":
			r.Payload = []byte(value)
		}
	}
	return r
}

func parsePlace(s string) (p Place) {
	generation, position, _ := strings.Cut(s, "-")
	g, err1 := hex.DecodeString(generation)
	n, err2 := strconv.ParseUint(position, 10, 64)
	if err1 != nil || err2 != nil || len(g) != len(p.Generation) {
		return Place{}
	}
	copy(p.Generation[:], g)
	p.Position = n
	return p
}

// nodes reads the table. A row that is not understood is of a later version: the
// whole reply is bad then, since nobody knows what that node has applied.
func (l *list) nodes() (nodes []Node) {
	for in := l.list(); in.more(); {
		name, row := in.text(), in.text()
		n, err := parseNode(name, row)
		if err != nil {
			l.bad = err
			return nil
		}
		nodes = append(nodes, n)
	}
	return nodes
}
