package ratelimit

import (
	"context"
	"fmt"
	"time"

	"github.com/ulule/limiter/v3"

	"edge/cachestore/redis/counter"
)

// Front returns one policy in the types of github.com/ulule/limiter, for those who
// ask about the count of a key, or reset it. The keys are what Policy.Key returns, or
// addresses. Counts are those of the policy's own rate; plans have others. Nil is
// that there is no such policy, or that it counts what runs at a time.
//
// Unlike in the stores of that library, what is over the limit consumes nothing, an
// Increment by more than there is room for takes nothing at all, and Reset is when
// there will be room for one more than now.
func (l *Limiter) Front(name string) *limiter.Limiter {
	p := l.find(name)
	if p == nil || p.Algorithm == Concurrent {
		return nil
	}
	return limiter.New(&front{l, p}, p.Rate)
}

// front is a limiter.Store.
type front struct {
	limiter *Limiter
	policy  *policy
}

// Get takes one.
func (f *front) Get(ctx context.Context, key string, rate Rate) (limiter.Context, error) {
	return f.count(ctx, modeTake, key, 1, rate)
}

// Peek takes none.
func (f *front) Peek(ctx context.Context, key string, rate Rate) (limiter.Context, error) {
	return f.count(ctx, modePeek, key, 1, rate)
}

// Increment takes so many, or none.
func (f *front) Increment(ctx context.Context, key string, count int64, rate Rate) (limiter.Context, error) {
	return f.count(ctx, modeTake, key, count, rate)
}

// Reset forgets the key, and that it is blocked.
func (f *front) Reset(ctx context.Context, key string, rate Rate) (limiter.Context, error) {
	return f.count(ctx, modeReset, key, 1, rate)
}

func (f *front) count(ctx context.Context, mode, key string, n int64, rate Rate) (limiter.Context, error) {
	r, err := newRule(f.policy.Algorithm, rate, f.policy.Burst, f.policy.BlockFor)
	if err == nil && (n < 1 || n > r.burst) {
		err = fmt.Errorf("a count of %d: it must be from 1 to %d", n, r.burst)
	}
	if err != nil {
		return limiter.Context{}, fmt.Errorf("ratelimit: policy %q: %w", f.policy.Name, err)
	}
	d := demand{policy: f.policy, rule: r, id: f.policy.table.id(0, []byte(key)), tag: tag([]byte(key))}
	if f.policy.Shared {
		item := d.item()
		item.Args = r.text(n, false)
		items := []counter.Item{item}
		if late := f.limiter.run(ctx, mode, f.limiter.now(), items); late != nil {
			late.Then(nil) // what it has counted stays counted
		}
		if err := items[0].Err; err != nil {
			return limiter.Context{}, fmt.Errorf("ratelimit: policy %q: %w", f.policy.Name, err)
		}
		d.read(&items[0])
	} else {
		d.countAlone(mode, n, f.limiter.now())
	}
	out := limiter.Context{
		Limit:     r.limit,
		Remaining: r.remaining(d.state, d.now),
		Reached:   d.verdict == refused,
	}
	reset := time.UnixMicro(d.now)
	if out.Remaining < r.burst {
		reset = reset.Add(micros(r.wait(d.state, d.now, out.Remaining+1)))
	}
	out.Reset = reset.Add(time.Second - 1).Unix()
	return out, nil
}

// countAlone counts n in memory for this demand alone.
func (d *demand) countAlone(mode string, n, now int64) {
	shard := d.table.shard(d.id)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	d.now = shard.nowLocked(now)
	d.state = d.rule.settle(shard.stateLocked(d.id), d.now)
	room := d.rule.remaining(d.state, d.now) >= n
	switch {
	case mode == modeReset:
		d.verdict, d.state = fits, d.rule.settle(state{}, d.now)
	case !room:
		d.verdict = refused
		if mode == modeTake && d.state.until == 0 && d.rule.block > 0 {
			d.state.until = d.now + d.rule.block
		}
	case mode == modeTake:
		d.verdict, d.state = taken, d.rule.take(d.state, n)
	default:
		d.verdict = fits
	}
	if mode != modePeek {
		shard.storeLocked(d.id, &d.rule, d.state, d.now)
	}
}
