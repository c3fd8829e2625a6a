package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// What is asked of the two nodes of troubleWork.
const (
	troubleRate = 2000 // requests per second, both nodes together
	newOneIn    = 10   // requests for new objects; each is asked for once on either node

	popular uint8 = iota // class of requests for objects that both nodes have in memory
	newcomer
)

// crew is two nodes over one Redis, under load, and what is asked of them.
type crew struct {
	lab     *Lab
	origin  *Origin
	redis   *Redis
	nodes   []*Node
	objects int // that both nodes have in memory

	floors [2][]atomic.Int64 // of each object on each node: versions below are old
	asked  int               // requests made so far
	phases []phase
	purged int             // objects purged so far
	late   []time.Duration // from the return of Redis until the other node had heard of purges
}

// phase is a stretch of the load.
type phase struct {
	name     string
	from, to time.Duration
}

// troubleWork: Redis is stopped, killed and comes back empty, while two nodes serve.
func troubleWork(ctx context.Context, lab *Lab) (Table, error) {
	c := &crew{lab: lab, objects: pick(lab, 2000, 200)}
	if err := c.start(ctx); err != nil {
		return Table{}, err
	}
	span := pick(lab, 5*time.Second, 1500*time.Millisecond)
	var rounds [][]Sample
	var phases [][]phase
	for round := range lab.Rounds {
		samples, err := c.round(ctx, span)
		if err != nil {
			return Table{}, err
		}
		all := figures(samples, 0, time.Hour, isAny)
		lab.say("trouble: round %d: %d requests, %d failed, %d old, p99 %v", round+1, all.Requests, all.Failed, all.Old, all.P99)
		rounds, phases = append(rounds, samples), append(phases, c.phases)
	}
	return c.table(rounds, phases, span), nil
}

func isPopular(s *Sample) bool  { return s.Class == popular }
func isNewcomer(s *Sample) bool { return s.Class == newcomer }

func (c *crew) start(ctx context.Context) (err error) {
	if c.origin, err = c.lab.startOrigin(ctx, c.objects); err != nil {
		return err
	}
	if c.redis, err = c.lab.startRedis(ctx); err != nil {
		return err
	}
	for i := range c.floors {
		c.floors[i] = make([]atomic.Int64, c.objects)
		n, err := c.lab.startNode(ctx, c.origin, NodeOptions{Name: fmt.Sprint("edge", i), Memory: "1GiB", Redis: c.redis.Address})
		if err != nil {
			return err
		}
		c.nodes = append(c.nodes, n)
	}
	for _, n := range c.nodes {
		if err := errors.Join(n.fill(ctx, c.objects), n.together(ctx, len(c.nodes))); err != nil {
			return err
		}
	}
	return nil
}

// round loads both nodes while one trouble follows the other.
func (c *crew) round(ctx context.Context, span time.Duration) ([]Sample, error) {
	loading, cancel := context.WithCancel(ctx)
	defer cancel()
	l := &Load{Rate: troubleRate, Connections: 64, Next: c.next}
	for _, n := range c.nodes {
		l.Addresses = append(l.Addresses, n.Address)
	}
	run := l.start(loading)
	err := c.troubles(ctx, run, span)
	cancel()
	samples, failure := run.wait()
	if failure != nil {
		c.lab.say("trouble: the first request that failed: %v", failure)
	}
	return samples, err
}

// troubles plays one round of them. Purges are made in the middle of each, and must
// be honoured by the other node once Redis is back.
func (c *crew) troubles(ctx context.Context, run *Run, span time.Duration) error {
	c.phases = nil
	steps := []struct {
		name  string
		begin func() error
		purge func(context.Context) error
	}{
		{"before", func() error { return nil }, nil},
		{"Redis stopped (SIGSTOP)", c.redis.freeze, c.purgeAlone},
		{"running again (SIGCONT)", c.redis.thaw, c.honoured},
		{"Redis killed", func() error { c.redis.kill(); return nil }, c.purgeAlone},
		{"started again, empty", func() error { return c.redis.start(ctx) }, c.honoured},
	}
	for i, step := range steps {
		p := phase{name: step.name, from: run.since()}
		if i == 0 {
			p.from = span / 10 // the first moments are those of new connections
		}
		end := time.Now().Add(span)
		if err := step.begin(); err != nil {
			return err
		}
		if step.purge != nil {
			if err := step.purge(ctx); err != nil {
				return fmt.Errorf("%s: %w", step.name, err)
			}
		}
		select {
		case <-time.After(time.Until(end)):
		case <-ctx.Done():
			return ctx.Err()
		}
		p.to = run.since()
		c.phases = append(c.phases, p)
	}
	return c.nodes[1].together(ctx, len(c.nodes))
}

// purgesEach is how many objects are purged in one trouble.
const purgesEach = 20

// purgeAlone purges objects on the first node, which says that the others have not
// heard of it, and forgets the old itself.
func (c *crew) purgeAlone(ctx context.Context) error {
	conn, err := dial(ctx, c.nodes[0].Admin)
	if err != nil {
		return err
	}
	defer conn.close()
	for range purgesEach {
		object := c.purged % c.objects
		c.purged++
		now := c.origin.versions[object].Add(1)
		answer, err := conn.ask(post(c.nodes[0].Admin, fmt.Sprintf(`{"surrogate_keys":["object-%d"],"wait":"cluster"}`, object)))
		if err != nil {
			return err
		}
		if answer.Status != 503 {
			return fmt.Errorf("a purge without Redis was answered with %d: %s", answer.Status, answer.Body)
		}
		c.floors[0][object].Store(now)
	}
	return nil
}

// honoured waits until the second node serves nothing older than the purges that were
// made without Redis.
func (c *crew) honoured(ctx context.Context) error {
	conn, err := dial(ctx, c.nodes[1].Address)
	if err != nil {
		return err
	}
	defer conn.close()
	began := time.Now()
	for n := range purgesEach {
		object := (c.purged - 1 - n) % c.objects // the last one first
		now := c.origin.versions[object].Load()
		if err := await(ctx, func() (bool, error) {
			answer, err := conn.ask(get(object))
			if err == nil {
				err = proper(answer)
			}
			version, _ := versionOf(answer.Body)
			return version >= now, err
		}); err != nil {
			return fmt.Errorf("object %d: %w", object, err)
		}
		c.floors[1][object].Store(now)
	}
	c.late = append(c.late, time.Since(began))
	return nil
}

// next asks either node in turn: for what it has, and now and then for an object that
// it does not have, the second node for what the first was asked for a while ago.
func (c *crew) next() Request {
	const lag = 50
	c.asked++
	r := Request{Address: c.asked % 2, Class: popular}
	if turn := c.asked / 2; turn%newOneIn == 0 {
		object := turn / newOneIn
		if r.Address == 1 {
			object -= lag
		}
		if object > 0 {
			r.Class, r.Raw = newcomer, get(c.objects+object)
			return r
		}
	}
	object := rand.IntN(c.objects)
	r.Floor = c.floors[r.Address][object].Load()
	r.Raw = get(object)
	return r
}

func (c *crew) table(rounds [][]Sample, phases [][]phase, span time.Duration) Table {
	t := Table{
		Title: "Redis in trouble",
		Note: fmt.Sprintf("Two nodes and one Redis, all on both cores; %d requests/s, one in %d for a new object, which each node is asked for once. "+
			"Five phases of about %v one after the other, %d objects purged in each trouble. Rounds: %d; medians, sums of requests, the longest of all.",
			troubleRate, newOneIn, span, purgesEach, len(rounds)),
		Head: []string{"phase", "requests", "failed", "old content", "popular objects: hits", "p50", "p99", "longest", "new objects: p50", "p99", "longest"},
	}
	failed, old := 0, 0
	for i := range phases[0] {
		var requests, bad, stale int
		var shares []float64
		var p50, p99, new50, new99 []time.Duration
		var longest, newLongest time.Duration
		for round, samples := range rounds {
			p := phases[round][i]
			f, g := figures(samples, p.from, p.to, isPopular), figures(samples, p.from, p.to, isNewcomer)
			requests, bad, stale = requests+f.Requests+g.Requests, bad+f.Failed+g.Failed, stale+f.Old
			shares = append(shares, f.hitShare())
			p50, p99, longest = append(p50, f.P50), append(p99, f.P99), max(longest, f.Max)
			new50, new99, newLongest = append(new50, g.P50), append(new99, g.P99), max(newLongest, g.Max)
		}
		failed, old = failed+bad, old+stale
		t.add(phases[0][i].name, fmt.Sprint(requests), fmt.Sprint(bad), fmt.Sprint(stale), fmt.Sprintf("%.2f %%", median(shares)),
			micros(median(p50)), micros(median(p99)), millis(longest), micros(median(new50)), micros(median(new99)), millis(newLongest))
	}
	t.Foot = fmt.Sprintf("Failed requests: %d, old content after a purge: %d (%s). From the return of Redis until the other node honoured all purges "+
		"made without it: median %s, longest %s.", failed, old, verdict("bar 0 and 0", failed+old == 0), millis(median(c.late)), millis(quantile(c.late, 1)))
	return t
}
