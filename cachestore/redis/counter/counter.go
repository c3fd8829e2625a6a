// Package counter runs the script of those who count in Redis: over all counts that
// belong to one question, in one command, and with little patience.
//
// Nobody waits for Redis longer than that, but the question goes on by itself: what
// was sent will be counted, so its answer matters when it comes. Until one comes,
// Redis is silent, and is not waited for at all.
//
// A count has a key of the form PREFIX{TAG}:NAME. On a Cluster only counts with the
// same tag lie together, so that a question about several tags takes a command for
// each, sent side by side; elsewhere there is one.
package counter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Client is what a Counter needs of the node's connection: conn.Conn.
type Client interface {
	// Do runs fn with a client and a context that ends after the deadline, unless
	// Redis is down.
	Do(ctx context.Context, deadline time.Duration, fn func(context.Context, redis.UniversalClient) error) error
}

// Options configure a Counter. Client and Script are required.
type Options struct {
	Client Client
	Prefix string // of all keys

	// Script is Lua. Its KEYS are those of the items; its ARGV what Run is given
	// first, and then the argument of each item. It replies with Numbers numbers for
	// each item.
	Script string

	Patience time.Duration // how long Run waits for Redis; zero means 5ms
}

// deadline is when a question is given up. It is far longer than anybody waits: to
// give up costs a connection, at the time when there are too few.
const deadline = time.Second

// While Redis is silent, so many questions go on at most. So many of them are with
// Redis at a time, of those that were asked in the silence, so that they leave
// connections to others: one of them will tell that it is back, and the rest follow.
const (
	maxLate = 1024
	maxSent = 8
)

// Numbers is how many numbers the script replies for each item.
const Numbers = 6

// Item is one count of a question, and the answer.
type Item struct {
	Tag   string // of letters and digits
	Name  string
	Args  string
	Reply [Numbers]int64
	Err   error // nil when there is a reply
}

// Counter is closed after the last Run. Its methods may be called by many goroutines.
type Counter struct {
	options  Options
	script   *redis.Script
	deadline time.Duration // of each question, however long anybody waits

	silent atomic.Bool   // since somebody waited in vain, until there is an answer
	late   atomic.Int64  // questions that nobody waits for
	sent   chan struct{} // has one for each question that was asked in a silence and is with Redis
	calls  sync.WaitGroup
}

// New returns a Counter. It does not call Redis.
func New(o Options) *Counter {
	if o.Patience == 0 {
		o.Patience = 5 * time.Millisecond
	}
	if o.Client == nil || o.Script == "" || o.Patience < 0 || strings.ContainsAny(o.Prefix, "{}") {
		panic("counter: options out of range")
	}
	return &Counter{options: o, script: redis.NewScript(o.Script), deadline: max(deadline, o.Patience), sent: make(chan struct{}, maxSent)}
}

var errReply = errors.New("counter: Redis answered what cannot be understood")

// ErrLate is that Redis has not answered in time, or was not asked since it is silent.
var ErrLate = errors.New("counter: Redis has not answered in time")

// Late is a question that goes on though nobody waits for it.
type Late struct {
	items []Item
	over  atomic.Bool   // who sets it first decides: the answer is in time, or late
	done  chan struct{} // closed when the items have answers
	then  chan func([]Item)
}

// Then has fn called with the answers when they have come, or with their errors. It
// must be called once, soon; nil is that nobody cares.
func (l *Late) Then(fn func([]Item)) { l.then <- fn }

// Run runs the script over the items, and writes the answers into them. That of each
// tag is one atomic step. When Redis does not answer in time, the items have ErrLate,
// and the question is returned if it goes on.
func (c *Counter) Run(ctx context.Context, args []string, items []Item) *Late {
	silent := c.silent.Load()
	if silent && c.late.Load() >= maxLate {
		fail(items, ErrLate)
		return nil
	}
	l := &Late{items: slices.Clone(items), done: make(chan struct{}), then: make(chan func([]Item), 1)}
	c.calls.Go(func() { c.finish(l, args, silent) })
	if (silent || !c.await(ctx, l)) && l.over.CompareAndSwap(false, true) {
		c.late.Add(1)
		if ctx.Err() == nil { // a caller who has left says nothing about Redis
			c.silent.Store(true)
		}
		fail(items, ErrLate)
		return l
	}
	<-l.done
	copy(items, l.items)
	return nil
}

// await reports whether the answer has come in time.
func (c *Counter) await(ctx context.Context, l *Late) bool {
	timer := time.NewTimer(c.options.Patience)
	defer timer.Stop()
	select {
	case <-l.done:
		return true
	case <-ctx.Done():
	case <-timer.C:
	}
	return false
}

// finish gets the answers, and hands those that are late to whom they concern.
func (c *Counter) finish(l *Late, args []string, silent bool) {
	if silent {
		c.askInTurn(args, l.items)
	} else {
		c.ask(args, l.items)
	}
	if slices.ContainsFunc(l.items, func(i Item) bool { return i.Err == nil }) {
		c.silent.Store(false)
	}
	inTime := l.over.CompareAndSwap(false, true)
	close(l.done)
	if inTime {
		return
	}
	c.late.Add(-1)
	if fn := <-l.then; fn != nil {
		fn(l.items)
	}
}

// Close waits for the questions that go on. The connection should be closed before,
// which ends them.
func (c *Counter) Close() { c.calls.Wait() }

func fail(items []Item, err error) {
	for i := range items {
		items[i].Err = err
	}
}

// askInTurn sends the question once few enough are with Redis. It gives up after the
// deadline: what was so long ago should not count any more.
func (c *Counter) askInTurn(args []string, items []Item) {
	timer := time.NewTimer(c.deadline)
	defer timer.Stop()
	select {
	case c.sent <- struct{}{}:
		c.ask(args, items)
		<-c.sent
	case <-timer.C:
		fail(items, ErrLate)
	}
}

// ask sends the question, and waits for as long as it takes.
func (c *Counter) ask(args []string, items []Item) {
	var groups []*group
	// A question whose asker has left is counted all the same: else leaving early
	// would be a way around every limit.
	err := c.options.Client.Do(context.Background(), c.deadline, func(ctx context.Context, client redis.UniversalClient) error {
		_, cluster := client.(*redis.ClusterClient)
		groups = c.group(args, items, cluster)
		if len(groups) == 1 {
			groups[0].reply, groups[0].err = c.script.Run(ctx, client, groups[0].keys, groups[0].args...).Int64Slice()
			return groups[0].err
		}
		return c.runAll(ctx, client, groups)
	})
	fail(items, err)
	for _, g := range groups {
		g.hand(items)
	}
}

// group is what one command is about.
type group struct {
	tag   string
	at    []int // of the items
	keys  []string
	args  []any
	reply []int64
	err   error
}

// group puts those items together that one command can be about.
func (c *Counter) group(args []string, items []Item, cluster bool) (groups []*group) {
	for i := range items {
		item := &items[i]
		at := slices.IndexFunc(groups, func(g *group) bool { return !cluster || g.tag == item.Tag })
		if at < 0 {
			at = len(groups)
			g := &group{tag: item.Tag}
			for _, a := range args {
				g.args = append(g.args, a)
			}
			groups = append(groups, g)
		}
		g := groups[at]
		g.at = append(g.at, i)
		g.keys = append(g.keys, c.options.Prefix+"{"+item.Tag+"}:"+item.Name)
		g.args = append(g.args, item.Args)
	}
	return groups
}

// runAll sends a command for each group, side by side. A server that does not know
// the script yet is sent it.
func (c *Counter) runAll(ctx context.Context, client redis.UniversalClient, groups []*group) error {
	left := groups
	for _, send := range []func(context.Context, redis.Scripter, []string, ...any) *redis.Cmd{c.script.EvalSha, c.script.Eval} {
		commands := make([]*redis.Cmd, len(left))
		_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, g := range left {
				commands[i] = send(ctx, p, g.keys, g.args...)
			}
			return nil
		})
		var unknown []*group
		for i, g := range left {
			if g.reply, g.err = commands[i].Int64Slice(); g.err != nil && redis.HasErrorPrefix(g.err, "NOSCRIPT") {
				unknown = append(unknown, g)
			}
		}
		if left = unknown; len(left) == 0 {
			return err
		}
	}
	return left[0].err
}

// hand writes the reply of a group into its items.
func (g *group) hand(items []Item) {
	err := g.err
	if err == nil && len(g.reply) != Numbers*len(g.at) {
		err = errReply
	}
	if err != nil {
		err = fmt.Errorf("counting in Redis: %w", err)
	}
	for n, at := range g.at {
		if items[at].Err = err; err == nil {
			copy(items[at].Reply[:], g.reply[Numbers*n:])
		}
	}
}
