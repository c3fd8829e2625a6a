package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"edge/integration/bench/process"
)

// What clients ask for while hits are timed: far from what the node could do.
const (
	hitRate        = 5000 // requests per second
	hitConnections = 64
	purgePause     = 10 * time.Millisecond // between two purges, 100 a second
)

// stocked is a node with so many objects, and what was seen of it.
type stocked struct {
	*Node
	objects int

	purges []time.Duration // calls, one after the other
	cpu    time.Duration   // of the node for each
	idle   float64         // share of its core that the node takes when nobody asks

	rounds []purgeRound
}

// purgeRound is hits without purges, with, and without.
type purgeRound struct{ before, with, after hits }

// hits are the times of hits, and their share in all answers in percent.
type hits struct {
	Figures
	share float64
}

// purgeWork: a purge of a key costs the same whatever is stored, and those who get
// hits do not notice.
func purgeWork(ctx context.Context, lab *Lab) (Table, error) {
	nodes := []*stocked{{objects: pick(lab, 10_000, 1_000)}, {objects: pick(lab, 1_000_000, 50_000)}}
	origin, err := lab.startOrigin(ctx, 0)
	if err != nil {
		return Table{}, err
	}
	for _, n := range nodes {
		lab.say("purge: fetching %d objects", n.objects)
		n.Node, err = lab.startNode(ctx, origin, NodeOptions{Name: fmt.Sprint("edge", n.objects), Memory: "4GiB"})
		if err == nil {
			err = errors.Join(n.fill(ctx, n.objects), n.collect(ctx))
		}
		if err != nil {
			return Table{}, err
		}
	}
	calls := pick(lab, 2000, 200)
	for _, n := range nodes {
		if err := n.timePurges(ctx, calls); err != nil {
			return Table{}, err
		}
	}
	span := pick(lab, 3*time.Second, time.Second)
	for round := range lab.Rounds {
		for turn := range nodes {
			n := nodes[(turn+round)%len(nodes)]
			r, err := n.timeHits(ctx, span)
			if err != nil {
				return Table{}, err
			}
			lab.say("purge: round %d, %d objects: hits p99 %v, with purges %v, without %v", round+1, n.objects, r.before.P99, r.with.P99, r.after.P99)
			n.rounds = append(n.rounds, r)
		}
	}
	return purgeTable(lab, nodes, calls, span), nil
}

// timePurges purges keys of stored objects, one call after the other.
func (n *stocked) timePurges(ctx context.Context, calls int) error {
	c, err := dial(ctx, n.Admin)
	if err != nil {
		return err
	}
	defer c.close()
	const rest = 2 * time.Second
	start, err := process.CPUTime(n.PID())
	if err != nil {
		return err
	}
	time.Sleep(rest)
	before, err := process.CPUTime(n.PID())
	if err != nil {
		return err
	}
	for range calls {
		began := time.Now()
		if _, err := c.purge(n.purgeOne()); err != nil {
			return err
		}
		n.purges = append(n.purges, time.Since(began))
	}
	after, err := process.CPUTime(n.PID())
	n.cpu = (after - before) / time.Duration(calls)
	n.idle = (before - start).Seconds() / rest.Seconds()
	return err
}

func (n *stocked) purgeOne() []byte {
	return post(n.Admin, fmt.Sprintf(`{"surrogate_keys":["object-%d"]}`, rand.IntN(n.objects)))
}

// timeHits loads the node three times, the second time beside purges.
func (n *stocked) timeHits(ctx context.Context, span time.Duration) (r purgeRound, err error) {
	for _, part := range []struct {
		hits   *hits
		beside func(context.Context) error
	}{{&r.before, nil}, {&r.with, n.purgeOn}, {&r.after, nil}} {
		if *part.hits, err = n.load(ctx, span, part.beside); err != nil {
			return r, err
		}
	}
	return r, nil
}

// load asks for random objects for a time, and runs beside meanwhile.
func (n *stocked) load(ctx context.Context, span time.Duration, beside func(context.Context) error) (hits, error) {
	ctx, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	other := make(chan error, 1)
	go func() {
		if beside == nil {
			beside = func(context.Context) error { return nil }
		}
		other <- beside(ctx)
	}()
	l := &Load{Addresses: []string{n.Address}, Rate: hitRate, Connections: hitConnections,
		Next: func() Request { return Request{Raw: get(rand.IntN(n.objects))} }}
	samples, err := l.run(ctx)
	if err := errors.Join(err, <-other); err != nil {
		return hits{}, err
	}
	// The first moments are those of new connections.
	from := span / 10
	return hits{figures(samples, from, span, isHit), figures(samples, from, span, isAny).hitShare()}, nil
}

// purgeOn purges random keys until ctx ends.
func (n *stocked) purgeOn(ctx context.Context) error {
	c, err := dial(context.WithoutCancel(ctx), n.Admin)
	if err != nil {
		return err
	}
	defer c.close()
	ticker := time.NewTicker(purgePause)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if _, err := c.purge(n.purgeOne()); err != nil {
			return err
		}
	}
}

func purgeTable(lab *Lab, nodes []*stocked, calls int, span time.Duration) Table {
	t := Table{
		Title: "Purge of a key",
		Note: fmt.Sprintf("The node on a core of its own. %d calls of POST /purge one after the other; then %d requests/s for random objects, "+
			"%v without purges, %v with 100 purges/s of random keys, and without again. Rounds: %d; medians.", calls, hitRate, span, span, lab.Rounds),
		Head: []string{"measure"},
	}
	for _, n := range nodes {
		t.Head = append(t.Head, fmt.Sprintf("%d objects stored", n.objects))
	}
	row := func(measure string, cell func(*stocked) string) {
		cells := []string{measure}
		for _, n := range nodes {
			cells = append(cells, cell(n))
		}
		t.add(cells...)
	}
	of := func(n *stocked, figure func(purgeRound) float64) float64 {
		var all []float64
		for _, r := range n.rounds {
			all = append(all, figure(r))
		}
		return median(all)
	}
	usual := func(r purgeRound, of func(hits) time.Duration) float64 {
		return float64(of(r.before)+of(r.after)) / 2
	}
	p50 := func(h hits) time.Duration { return h.P50 }
	p99 := func(h hits) time.Duration { return h.P99 }
	duration := func(f float64) string { return micros(time.Duration(f)) }

	row("call of one purge, p50", func(n *stocked) string { return millis(quantile(slices.Clone(n.purges), 0.50)) })
	row("call of one purge, p99", func(n *stocked) string { return millis(quantile(slices.Clone(n.purges), 0.99)) })
	row("processor time of the node for one purge", func(n *stocked) string { return micros(n.cpu) })
	row("bar: under 1 ms of work", func(n *stocked) string { return verdict("1 ms", n.cpu < time.Millisecond) })
	row("its core in use when nobody asks", func(n *stocked) string { return fmt.Sprintf("%.1f %%", 100*n.idle) })
	row("hit, p50, no purges", func(n *stocked) string { return duration(of(n, func(r purgeRound) float64 { return usual(r, p50) })) })
	row("hit, p50, 100 purges/s", func(n *stocked) string {
		return duration(of(n, func(r purgeRound) float64 { return float64(r.with.P50) }))
	})
	row("hit, p99, no purges", func(n *stocked) string { return duration(of(n, func(r purgeRound) float64 { return usual(r, p99) })) })
	row("hit, p99, 100 purges/s", func(n *stocked) string {
		return duration(of(n, func(r purgeRound) float64 { return float64(r.with.P99) }))
	})
	ratio := func(r purgeRound) float64 { return float64(r.with.P99) / usual(r, p99) }
	row("p99 with purges over without, in one round", func(n *stocked) string { return fmt.Sprintf("%.2f", of(n, ratio)) })
	row("bar: p99 within 10 %", func(n *stocked) string { return verdict("1.10", of(n, ratio) <= 1.10) })
	row("the same of two spans without purges (noise)", func(n *stocked) string {
		return fmt.Sprintf("%.2f", of(n, func(r purgeRound) float64 {
			a, b := float64(r.before.P99), float64(r.after.P99)
			return max(a, b) / min(a, b)
		}))
	})
	row("hits among the answers", func(n *stocked) string {
		return fmt.Sprintf("%.2f %%", of(n, func(r purgeRound) float64 { return r.with.share }))
	})
	return t
}
