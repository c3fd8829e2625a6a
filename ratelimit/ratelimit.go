// Package ratelimit refuses requests that are over a limit: on their rate, or on how
// many run at a time; by client, by key, by plan; counted on this node, or by all
// nodes of a fleet together in Redis.
//
// A Limiter has the policies. A Gate has those that hold in one place, asks them all,
// and lets a request pass only if every one of them does: a request that is refused
// consumes from none.
//
//	Gate.Admit -- key, plan -> here:  the table of each policy, in this process
//	                           there: one script in Redis; when that fails, here,
//	                                  from where Redis last saw the count
//
// A request that passes one gate and is refused by a later one gives back what the
// first has counted, when it ends.
//
// rule.go is the arithmetic, script.go the same for Redis, table.go the memory,
// answer.go what clients are told.
//
// Of github.com/ulule/limiter the types are used (Rate here, all of them in
// Limiter.Front), nothing else. Its stores count in fixed windows only, without a
// bound on memory; its middleware knows no Retry-After, panics on errors, and
// believes what clients say about their address.
package ratelimit

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ulule/limiter/v3"

	"edge/cachestore/redis/counter"
)

// Rate is so many requests (Limit) in a time (Period). Of a Concurrent policy Limit is
// how many at a time, and Period means nothing. Formatted is not read.
type Rate = limiter.Rate

// Count is which requests count.
type Count uint8

const (
	CountAll    Count = iota // every one
	CountMisses              // those that reach the origin
)

// OnError is what becomes of a request when Redis cannot count it.
type OnError uint8

const (
	Local OnError = iota // this node counts, against its share of the limit
	Allow                // it passes
	Deny                 // it is refused
)

// String returns the value's name in the configuration.
func (e OnError) String() string {
	switch e {
	case Local:
		return "local"
	case Allow:
		return "allow"
	case Deny:
		return "deny"
	default:
		panic("ratelimit: unknown answer to errors " + strconv.Itoa(int(e)))
	}
}

// Policy is one limit.
type Policy struct {
	Name      string // as clients, logs and counters see it: printable ASCII. Required
	Rate      Rate   // up to 1,000,000,000 in up to 400 days. Required
	Algorithm Algorithm
	Burst     int64 // of a token bucket: how many at once; zero means Rate.Limit

	// Key returns what is counted apart. It is called by many goroutines. Nil is the
	// client's address, as Request.RemoteAddr has it.
	Key        func(*http.Request) string
	IPv6Prefix int // bits of an IPv6 address that count as one client; zero means 64

	// BlockFor is for how long a key is refused once it has exceeded the limit; zero
	// is until there is room. Not for Concurrent.
	BlockFor time.Duration

	// Plans are other rates for some requests: the first whose When holds. Each plan
	// has counts of its own. Not for Concurrent.
	Plans []Plan

	Count   Count
	Shared  bool    // counted in Redis, by all nodes together. Not for Concurrent
	OnError OnError // of a shared policy
	MaxKeys int     // kept in memory, of 64 bytes each and as much again while that grows; zero means 1,000,000

	DryRun  bool // decide and count, never refuse, and tell clients nothing
	Headers bool // RateLimit and RateLimit-Policy on answers that are let through, too
	Legacy  bool // X-RateLimit-Limit, -Remaining and -Reset (in seconds from now) beside them
}

// Plan is another rate for the requests for which When holds.
type Plan struct {
	Name  string // in the names of counts; not shown to clients
	When  func(*http.Request) bool
	Rate  Rate
	Burst int64 // as in Policy
}

// Options configure a Limiter.
type Options struct {
	Policies []Policy

	// Redis is the fleet's connection: conn.Conn. Nil is none, and then no policy can
	// be shared.
	Redis    counter.Client
	Prefix   string        // of all keys in Redis
	Patience time.Duration // how long a request waits for Redis; zero means 5ms

	// Nodes returns how many nodes share the limits while Redis is away. Nil is one.
	Nodes func() int

	Log *slog.Logger // nil discards

	// Now is the clock of what is counted on this node; Redis counts by its own. Nil
	// is the system's, which is then followed as it runs on and not as it is set.
	Now func() time.Time
}

// Limiter has policies and their counts. Close it after the last request. Its methods
// may be called by many goroutines.
type Limiter struct {
	policies  []*policy
	now       func() int64 // microseconds
	log       *slog.Logger
	shared    *counter.Counter // nil is none
	ownClock  bool             // set by tests: Redis is told the time
	questions sync.Pool        // of *question

	nodes   func() int
	fleet   atomic.Int64 // what nodes returned last
	fleetAt atomic.Int64 // when that was; microseconds
	ahead   atomic.Int64 // of our clock is that of Redis by so much, as last seen; microseconds
}

// policy is a Policy at work.
type policy struct {
	Policy
	index   int // in the order in which their tables are locked
	rule    rule
	plans   []rule
	names   []string // of the counts in Redis: of the policy's own rate, then of each plan
	texts   []string // rule.text, likewise
	table   *table
	running running // of Concurrent

	allowed, refused, wouldRefuse, storeErrors atomic.Int64
	failing                                    atomic.Int64 // since when Redis cannot count; microseconds, zero is that it can
	alone                                      atomic.Bool  // it was logged that it cannot
	told                                       atomic.Int64 // when a refusal was last logged; microseconds
}

// New returns a Limiter. The error names the policy that is wrong.
func New(o Options) (*Limiter, error) {
	l := &Limiter{nodes: o.Nodes, log: o.Log, now: clock(o.Now)}
	if l.nodes == nil {
		l.nodes = func() int { return 1 }
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if o.Redis != nil {
		l.shared = counter.New(counter.Options{Client: o.Redis, Prefix: o.Prefix + "rl:", Script: script, Patience: o.Patience})
	}
	l.questions.New = func() any {
		q := &question{limiter: l}
		q.leave = q.end
		return q
	}
	for i, spec := range o.Policies {
		if l.find(spec.Name) != nil {
			return nil, fmt.Errorf("ratelimit: two policies are named %q", spec.Name)
		}
		p, err := newPolicy(spec, i)
		if err == nil && spec.Shared && l.shared == nil {
			err = errors.New("it is shared, and there is no Redis")
		}
		if err != nil {
			return nil, fmt.Errorf("ratelimit: policy %q: %w", spec.Name, err)
		}
		l.policies = append(l.policies, p)
	}
	l.sharers(l.now())
	return l, nil
}

// Check says what is wrong with the policy, as New would.
func (p *Policy) Check() error {
	_, err := newPolicy(*p, 0)
	return err
}

func newPolicy(spec Policy, index int) (*policy, error) {
	p := &policy{Policy: spec, index: index}
	if p.IPv6Prefix == 0 {
		p.IPv6Prefix = 64
	}
	if p.MaxKeys == 0 {
		p.MaxKeys = 1_000_000
	}
	switch {
	case spec.Name == "" || !printable(spec.Name):
		return nil, errors.New("the name must be printable ASCII")
	case int(spec.Algorithm) >= len(algorithmNames) || spec.Count > CountMisses || spec.OnError > Deny:
		return nil, errors.New("an unknown algorithm, count or answer to errors")
	case p.IPv6Prefix < 1 || p.IPv6Prefix > 128:
		return nil, errors.New("an IPv6 prefix must have from 1 to 128 bits")
	case p.MaxKeys < 1:
		return nil, errors.New("a negative number of keys")
	case spec.Algorithm == Concurrent && (spec.Shared || len(spec.Plans) > 0 || spec.BlockFor != 0 || spec.Burst != 0):
		return nil, errors.New("what runs at a time is counted on each node, without plans, bursts and blocks")
	}
	var err error
	if p.rule, err = newRule(spec.Algorithm, spec.Rate, spec.Burst, spec.BlockFor); err != nil {
		return nil, err
	}
	var names []string
	for _, plan := range spec.Plans {
		if plan.Name == "" || plan.When == nil || slices.Contains(names, plan.Name) {
			return nil, fmt.Errorf("plan %q: it needs a name of its own and a condition", plan.Name)
		}
		names = append(names, plan.Name)
		r, err := newRule(spec.Algorithm, plan.Rate, plan.Burst, spec.BlockFor)
		if err != nil {
			return nil, fmt.Errorf("plan %q: %w", plan.Name, err)
		}
		p.plans = append(p.plans, r)
	}
	for i, r := range append([]rule{p.rule}, p.plans...) {
		name := strconv.Quote(spec.Name) // so that no two are the same, whatever is in them
		if i > 0 {
			name += strconv.Quote(names[i-1])
		}
		p.names = append(p.names, name+":"+spec.Algorithm.String())
		p.texts = append(p.texts, r.text(1, spec.DryRun))
	}
	p.table = newTable(p.MaxKeys)
	return p, nil
}

// ruleOf returns the rule of a plan, counting from one; zero is the policy's own.
func (p *policy) ruleOf(plan int) rule {
	if plan == 0 {
		return p.rule
	}
	return p.plans[plan-1]
}

// clock returns a clock in microseconds. Steps of the system's clock would lift
// limits, or hold them for ever.
func clock(now func() time.Time) func() int64 {
	if now != nil {
		return func() int64 { return now().UnixMicro() }
	}
	begin := time.Now()
	unix := begin.UnixMicro()
	return func() int64 { return unix + time.Since(begin).Microseconds() }
}

// printable reports whether a name can stand in a String of structured fields (RFC
// 9651 section 3.3.3).
func printable(name string) bool {
	for i := range len(name) {
		if name[i] < ' ' || name[i] > '~' {
			return false
		}
	}
	return true
}

func (l *Limiter) find(name string) *policy {
	for _, p := range l.policies {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// Close waits for what is still on its way to Redis. The connection should be closed
// before, which ends it.
func (l *Limiter) Close() {
	if l.shared != nil {
		l.shared.Close()
	}
}

// maxNodes is how many nodes a share can be for; it keeps sums within bounds.
const maxNodes = 10_000

// sharers is for how many nodes a share is. To ask costs a lock that others need, so
// it is done once a second.
func (l *Limiter) sharers(now int64) int64 {
	if at := l.fleetAt.Load(); (at == 0 || now-at >= 1e6 || now < at) && l.fleetAt.CompareAndSwap(at, now) {
		l.fleet.Store(int64(min(max(1, l.nodes()), maxNodes)))
	}
	return max(1, l.fleet.Load())
}

// Gate returns the gate of those of the named policies that count so, or nil when
// none of them does. A policy that has several gates has one count for all of them.
func (l *Limiter) Gate(count Count, names ...string) (*Gate, error) {
	g := &Gate{limiter: l}
	for _, name := range names {
		p := l.find(name)
		if p == nil {
			return nil, fmt.Errorf("ratelimit: no policy is named %q", name)
		}
		if p.Count == count && !slices.Contains(g.policies, p) {
			g.policies = append(g.policies, p)
		}
	}
	if g.policies == nil {
		return nil, nil
	}
	slices.SortFunc(g.policies, func(a, b *policy) int { return a.index - b.index })
	return g, nil
}

// Stats are a policy's counters since it was made.
type Stats struct {
	Policy      string `json:"policy"`
	Allowed     int64  `json:"allowed"`      // requests that it let pass, as did all that were asked with it
	Refused     int64  `json:"refused"`      // requests that it refused
	WouldRefuse int64  `json:"would_refuse"` // requests that it would have refused, were it not a dry run
	StoreErrors int64  `json:"store_errors"` // requests that Redis could not count, or not in time
	FallbackNow bool   `json:"fallback_now"` // the last one was such a request
}

// Stats returns the counters of all policies, in the order of Options.
func (l *Limiter) Stats() []Stats {
	all := make([]Stats, len(l.policies))
	for i, p := range l.policies {
		all[i] = Stats{
			Policy:      p.Name,
			Allowed:     p.allowed.Load(),
			Refused:     p.refused.Load(),
			WouldRefuse: p.wouldRefuse.Load(),
			StoreErrors: p.storeErrors.Load(),
			FallbackNow: p.failing.Load() != 0,
		}
	}
	return all
}
