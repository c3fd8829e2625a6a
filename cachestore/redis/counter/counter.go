// Package counter runs the script of those who count in Redis: over all counts that
// belong to one question, in one command, with a short deadline.
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

	Deadline time.Duration // of a call; zero means 10ms
}

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

// Counter has nothing to close. Its methods may be called by many goroutines.
type Counter struct {
	options Options
	script  *redis.Script
}

// New returns a Counter. It does not call Redis.
func New(o Options) *Counter {
	if o.Deadline == 0 {
		o.Deadline = 10 * time.Millisecond
	}
	if o.Client == nil || o.Script == "" || o.Deadline < 0 || strings.ContainsAny(o.Prefix, "{}") {
		panic("counter: options out of range")
	}
	return &Counter{options: o, script: redis.NewScript(o.Script)}
}

var errReply = errors.New("counter: Redis answered what cannot be understood")

// Run runs the script over the items, and writes the answers into them. That of each
// tag is one atomic step. It does not wait beyond the deadline.
func (c *Counter) Run(ctx context.Context, args []string, items []Item) {
	var groups []*group
	err := c.options.Client.Do(ctx, c.options.Deadline, func(ctx context.Context, client redis.UniversalClient) error {
		_, cluster := client.(*redis.ClusterClient)
		groups = c.group(args, items, cluster)
		if len(groups) == 1 {
			groups[0].reply, groups[0].err = c.script.Run(ctx, client, groups[0].keys, groups[0].args...).Int64Slice()
			return groups[0].err
		}
		return c.runAll(ctx, client, groups)
	})
	for i := range items {
		items[i].Err = err
	}
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
