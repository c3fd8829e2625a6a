package ratelimit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"time"

	"edge/cachestore/redis/counter"
)

// Gate asks the policies that hold in one place. Its methods may be called by many
// goroutines.
type Gate struct {
	limiter  *Limiter
	policies []*policy // in the order of their index
}

// Decision is what one policy says to one request.
type Decision struct {
	Policy  string
	Plan    string // "" is the policy's own rate
	Allowed bool   // by this policy; the others may refuse the request
	DryRun  bool   // the policy refuses nothing
	Counted bool   // false: Redis could not count it. Remaining and Reset are unknown then

	Limit      int64         // of the rate in force; on this node, its share
	Window     time.Duration // in which Limit holds; zero is at a time
	Remaining  int64         // requests for which there is room now
	RetryAfter time.Duration // a client that waits for so long, alone, is let pass; zero if Allowed
	Reset      time.Duration // until Remaining grows; zero when it cannot, or nobody knows

	policy *policy
}

// Verdict is what all policies of a gate say to one request.
type Verdict struct {
	Allowed   bool
	Decisions []Decision // of each policy, in the order of Options

	leave func(refused bool)
}

// Leave tells that the request has ended. It must be called once when it was allowed.
// Refused is that it was not served all the same, since something else refuses it:
// then it consumes nothing.
func (v *Verdict) Leave(refused bool) { v.leave(refused) }

// Check counts the request, unless a policy refuses it. It writes nothing.
func (g *Gate) Check(r *http.Request) Verdict {
	q := g.ask(r)
	v := q.verdict()
	v.Decisions = append([]Decision(nil), v.Decisions...)
	if !v.Allowed {
		g.limiter.questions.Put(q)
	}
	return v
}

// Admit counts the request, unless a policy refuses it: then the error is a *Refusal.
// Otherwise leave must be called once when the request has ended, as Verdict.Leave,
// and the fields that policies have for answers are added to the header.
func (g *Gate) Admit(answer http.Header, r *http.Request) (leave func(refused bool), err error) {
	q := g.ask(r)
	v := q.verdict()
	if !v.Allowed {
		defer g.limiter.questions.Put(q)
		return nil, v.Refusal()
	}
	v.Annotate(answer)
	return v.leave, nil
}

// Handler passes to next what the policies let through, and answers the rest.
func (g *Gate) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := g.Check(r)
		if !v.Allowed {
			v.Refusal().Refuse(w)
			return
		}
		defer v.Leave(false) // also when next panics
		v.Annotate(w.Header())
		next.ServeHTTP(w, r)
	})
}

// ask takes the request through all policies. What is counted in memory comes first:
// a client that is refused there costs Redis no write. Redis is asked all the same,
// since the answer must tell how long to wait for all of them.
func (g *Gate) ask(r *http.Request) *question {
	q := g.limiter.questions.Get().(*question)
	q.prepare(g, r)
	q.enter()
	q.countHere()
	q.countThere()
	q.countHere() // what could not be counted there
	q.close()
	return q
}

// question is one request before the policies of a gate, until it has ended. It is
// used again for others.
type question struct {
	limiter   *Limiter
	leave     func(refused bool) // its own end
	now       int64
	open      bool // nobody has refused so far
	demands   []demand
	items     []counter.Item
	late      *counter.Late // what Redis was asked and goes on; nil is nothing
	ended     bool
	decisions []Decision
	key       []byte
}

// demand is what one policy is asked.
type demand struct {
	*policy
	rule  rule
	plan  int // counting from one; zero is the policy's own rate
	id    id
	tag   string // of a shared policy: its key, for Redis
	here  bool   // counted on this node
	ahead int64  // by how much the clock that it is counted by here is ahead of ours
	shard *shard // locked, while it counts

	now     int64 // by the clock of what has counted
	rests   int64 // for how long that clock stands still
	state   state // after the count
	inside  int64 // of Concurrent: how many there are now
	verdict verdict
}

// verdict is what has become of a demand. Redis answers with the same numbers.
type verdict uint8

const (
	unasked   verdict = iota
	refused           // there is no room
	fits              // there is room, and it was not taken
	taken             // there was room
	uncounted         // Redis failed, and so it passes
	denied            // Redis failed, and so it does not
)

func (v verdict) allows() bool { return v == fits || v == taken || v == uncounted }

// prepare finds the plan and the key for each policy.
func (q *question) prepare(g *Gate, r *http.Request) {
	q.now, q.open, q.late, q.ended = g.limiter.now(), true, nil, false
	q.demands = q.demands[:0]
	for _, p := range g.policies {
		d := demand{policy: p, here: !p.Shared}
		for i := range p.Plans {
			if p.Plans[i].When(r) {
				d.plan = i + 1
				break
			}
		}
		d.rule = p.ruleOf(d.plan)
		if p.Key != nil {
			q.key = append(q.key[:0], p.Key(r)...)
		} else {
			q.key = appendClient(q.key[:0], r.RemoteAddr, p.IPv6Prefix)
		}
		d.id = p.table.id(d.plan, q.key)
		if p.Shared {
			d.tag = tag(q.key)
		}
		q.demands = append(q.demands, d)
	}
}

// tag names a key in Redis. The keys of one client lie together, under whatever
// policies.
func tag(key []byte) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:16])
}

// enter counts what runs at a time.
func (q *question) enter() {
	for i := range q.demands {
		d := &q.demands[i]
		if d.Algorithm != Concurrent {
			continue
		}
		var ok bool
		if d.inside, ok = d.running.enter(d.id, d.rule.limit); ok {
			d.verdict = taken
			continue
		}
		q.refuse(d, refused)
	}
}

func (q *question) refuse(d *demand, v verdict) {
	d.verdict = v
	q.open = q.open && d.DryRun
}

// countHere asks the tables: first all of them, and if nobody has refused it takes
// from all, under their locks together. The order of the locks is that of the
// policies.
func (q *question) countHere() {
	for i := range q.demands {
		d := &q.demands[i]
		if !d.here || d.verdict != unasked {
			continue
		}
		d.shard = d.table.shard(d.id)
		d.shard.mu.Lock()
		d.now = d.shard.nowLocked(q.now + d.ahead)
		d.rests = d.now - (q.now + d.ahead)
		stored := d.shard.stateLocked(d.id)
		d.state = d.rule.settle(stored, d.now)
		if d.rule.remaining(d.state, d.now) >= 1 {
			d.verdict = fits
		} else {
			q.refuse(d, refused)
			changed := d.state.changes(stored)
			if d.rule.block > 0 && d.state.until == 0 {
				d.state.until, changed = d.now+d.rule.block, true
			}
			if changed {
				d.shard.storeLocked(d.id, &d.rule, d.state, d.now)
			}
		}
	}
	for i := range q.demands {
		d := &q.demands[i]
		if d.shard == nil {
			continue
		}
		if d.verdict == fits && q.open {
			d.state, d.verdict = d.rule.take(d.state, 1), taken
			d.shard.storeLocked(d.id, &d.rule, d.state, d.now)
		}
		d.shard.mu.Unlock()
		d.shard = nil
	}
}

// countThere asks Redis, in one command. What it cannot count goes as the policy says.
func (q *question) countThere() {
	q.items = q.items[:0]
	for i := range q.demands {
		if d := &q.demands[i]; d.Shared {
			q.items = append(q.items, d.item())
		}
	}
	if len(q.items) == 0 {
		return
	}
	mode := modeTake
	if !q.open {
		mode = modeAsk
	}
	l := q.limiter
	q.late = l.run(context.Background(), mode, q.now, q.items)
	items, share := q.items, l.sharers(q.now)
	for i := range q.demands {
		d := &q.demands[i]
		if !d.Shared {
			continue
		}
		item := &items[0]
		items = items[1:]
		l.noteStore(d.policy, item.Err)
		switch {
		case item.Err == nil:
			d.read(item)
			l.ahead.Store(d.now - l.now())
			if d.OnError == Local {
				d.learn(share, false)
			}
			if d.verdict == refused {
				q.refuse(d, refused)
			}
		case d.OnError == Allow:
			d.verdict = uncounted
		case d.OnError == Deny:
			q.refuse(d, denied)
		default:
			d.here, d.rule, d.ahead = true, d.rule.share(share), l.ahead.Load()-tarries
		}
	}
}

// tarries is how far behind the clock of Redis is the one by which a node counts for
// itself. So it begins with what Redis has left, and nothing comes back before it is
// certain that Redis is away: what is late only is counted there in the end, where all
// comes back that may.
const tarries = int64(time.Second / time.Microsecond)

// learn remembers this node's share of what Redis has counted. So a Redis that goes,
// or is late once, gives nobody a fresh limit. A late answer does not undo what was
// counted here meanwhile.
func (d *demand) learn(nodes int64, late bool) {
	share := d.rule.share(nodes)
	shard := d.table.shard(d.id)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	shard.latest = d.now // backwards, too: it is Redis that knows
	part := share.settle(d.rule.part(d.state, &share, nodes), d.now)
	if late {
		part = share.stricter(part, share.settle(shard.stateLocked(d.id), d.now))
	}
	shard.storeLocked(d.id, &share, part, d.now)
}

// close ends the asking: it gives back what was taken from those who would have let
// the request pass, when another has not, and counts the outcome.
func (q *question) close() {
	q.items = q.items[:0]
	for i := range q.demands {
		d := &q.demands[i]
		if !q.open && d.verdict == taken {
			q.giveBack(d)
			d.verdict = fits
		}
		switch {
		case q.open && d.verdict.allows():
			d.allowed.Add(1)
		case d.verdict.allows():
		default:
			q.limiter.noteRefusal(d.policy, q.now)
		}
	}
	q.limiter.give(q.now, q.items)
	if q.late != nil {
		q.late.Then(q.amends())
	}
}

// end is the end of a request that has passed. One that was refused elsewhere gives
// back all that it has taken.
func (q *question) end(refused bool) {
	if q.ended {
		panic("ratelimit: a request has ended twice")
	}
	q.ended = true
	q.items = q.items[:0]
	for i := range q.demands {
		if d := &q.demands[i]; d.verdict == taken && (refused || d.Algorithm == Concurrent) {
			q.giveBack(d)
		}
	}
	q.limiter.give(q.limiter.now(), q.items)
	q.limiter.questions.Put(q)
}

func (q *question) giveBack(d *demand) {
	switch {
	case d.Algorithm == Concurrent:
		d.running.leave(d.id)
		d.inside--
		return
	case !d.here:
		q.items = append(q.items, d.given())
	default:
		shard := d.table.shard(d.id)
		shard.mu.Lock()
		now := shard.nowLocked(q.limiter.now() + d.ahead)
		left := d.rule.give(d.rule.settle(shard.stateLocked(d.id), now), now, d.state.at, 1)
		shard.storeLocked(d.id, &d.rule, left, now)
		shard.mu.Unlock()
	}
	d.state = d.rule.settle(d.rule.give(d.state, d.now, d.state.at, 1), d.now)
}

// give gives back in Redis. When it fails, the units come back in their own time.
func (l *Limiter) give(now int64, items []counter.Item) { l.tell(modeGive, now, items) }

// owe takes in Redis what was let pass. When it fails, that much too much has passed.
func (l *Limiter) owe(now int64, items []counter.Item) { l.tell(modeOwe, now, items) }

func (l *Limiter) tell(mode string, now int64, items []counter.Item) {
	if len(items) == 0 {
		return
	}
	if late := l.run(context.Background(), mode, now, items); late != nil {
		late.Then(nil)
	}
}

// amends returns what is to be done with answers of Redis that come late, since the
// request was let pass or refused without them. If refused, it consumes nothing there
// either. If let pass, it consumes there too, whether there is room or not: else
// each delay would let more pass than the limit.
func (q *question) amends() func([]counter.Item) {
	l, now, passed := q.limiter, q.now, q.open
	var shared []demand
	for _, d := range q.demands {
		if d.Shared {
			shared = append(shared, d)
		}
	}
	return func(items []counter.Item) {
		var back, owed []counter.Item
		for i := range items {
			d, item := &shared[i], &items[i]
			if item.Err != nil || !understood(item.Reply) {
				continue
			}
			d.rule = d.ruleOf(d.plan) // it was counted by the share
			d.read(item)
			if d.OnError == Local {
				d.learn(l.sharers(l.now()), true)
			}
			switch {
			case !passed && d.verdict == taken:
				back = append(back, d.given())
			case passed && d.verdict != taken && !d.DryRun:
				owed = append(owed, d.item())
			}
		}
		l.give(now, back)
		l.owe(now, owed)
	}
}

// verdict returns the decisions in a form that lasts until the question is used
// again.
func (q *question) verdict() Verdict {
	q.decisions = q.decisions[:0]
	for i := range q.demands {
		q.decisions = append(q.decisions, q.demands[i].decision())
	}
	return Verdict{Allowed: q.open, Decisions: q.decisions, leave: q.leave}
}

func (d *demand) decision() Decision {
	out := Decision{
		Policy:  d.Name,
		Allowed: d.verdict.allows(),
		DryRun:  d.DryRun,
		Counted: d.verdict != uncounted && d.verdict != denied,
		Limit:   d.rule.limit,
		Window:  micros(d.rule.period),
		policy:  d.policy,
	}
	if d.plan > 0 {
		out.Plan = d.Plans[d.plan-1].Name
	}
	switch {
	case d.Algorithm == Concurrent:
		out.Window, out.Remaining = 0, d.rule.limit-d.inside
	case out.Counted:
		out.Remaining = d.rule.remaining(d.state, d.now)
		if out.Remaining < d.rule.burst {
			out.Reset = micros(d.rule.wait(d.state, d.now, out.Remaining+1) + d.rests)
		}
	}
	if !out.Allowed {
		out.RetryAfter = out.Reset
		if out.Reset == 0 { // when there will be room nobody knows
			out.RetryAfter = time.Second
		}
	}
	return out
}

func micros(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

// item is the demand as Redis is told it.
func (d *demand) item() counter.Item {
	return counter.Item{Tag: d.tag, Name: d.names[d.plan], Args: d.texts[d.plan]}
}

// given is what was taken for the demand, to be given back in Redis.
func (d *demand) given() counter.Item {
	item := d.item()
	item.Args += strconv.FormatInt(d.state.at, 10)
	return item
}

// read takes the answer of Redis.
func (d *demand) read(item *counter.Item) {
	n := item.Reply
	d.now, d.verdict = n[0], verdict(n[1])
	d.state = d.rule.settle(state{at: n[2], used: n[3], before: n[4], until: n[5]}, d.now)
}

// run runs the script. The errors are with the items. What it returns goes on, and
// wants to know what then.
func (l *Limiter) run(ctx context.Context, mode string, now int64, items []counter.Item) *counter.Late {
	at := ""
	if l.ownClock {
		at = strconv.FormatInt(now, 10)
	}
	late := l.shared.Run(ctx, []string{mode, at}, items)
	for i := range items {
		if items[i].Err == nil && !understood(items[i].Reply) {
			items[i].Err = errReply
		}
	}
	return late
}

// noteStore notes whether Redis could count, and logs when it could not for so long
// that this is no delay. Delays show in the counters.
func (l *Limiter) noteStore(p *policy, err error) {
	if err == nil {
		if p.failing.Load() != 0 {
			p.failing.Store(0)
		}
		if p.alone.Load() && p.alone.CompareAndSwap(true, false) {
			l.log.Info("a limit is counted in Redis again", "policy", p.Name, "store_errors", p.storeErrors.Load())
		}
		return
	}
	p.storeErrors.Add(1)
	now := l.now()
	if p.failing.CompareAndSwap(0, now) || now-p.failing.Load() < tarries {
		return
	}
	if !p.alone.Load() && p.alone.CompareAndSwap(false, true) {
		l.log.Warn("a limit cannot be counted in Redis", "policy", p.Name, "on_store_error", p.OnError.String(), "error", err)
	}
}

// logEvery is how often a policy that refuses says so.
const logEvery = int64(time.Minute / time.Microsecond)

// noteRefusal counts a refusal, or what would be one, and logs the first of each
// minute.
func (l *Limiter) noteRefusal(p *policy, now int64) {
	said := "a limit refuses requests"
	if p.DryRun {
		said = "a limit would refuse requests"
		p.wouldRefuse.Add(1)
	} else {
		p.refused.Add(1)
	}
	if told := p.told.Load(); now-told >= logEvery && p.told.CompareAndSwap(told, now) {
		l.log.Info(said, "policy", p.Name, "allowed", p.allowed.Load(), "refused", p.refused.Load(), "would_refuse", p.wouldRefuse.Load())
	}
}
