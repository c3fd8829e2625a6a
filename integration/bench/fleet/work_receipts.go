package main

import (
	"context"
	"fmt"
	"time"
)

// receiptsWork: how long it takes until all nodes of a fleet have applied a purge.
func receiptsWork(ctx context.Context, lab *Lab) (Table, error) {
	const nodes = 4
	calls := pick(lab, 1000, 100)
	origin, err := lab.startOrigin(ctx, 0)
	if err != nil {
		return Table{}, err
	}
	redis, err := lab.startRedis(ctx)
	if err != nil {
		return Table{}, err
	}
	var first *Node
	for i := range nodes {
		n, err := lab.startNode(ctx, origin, NodeOptions{Name: fmt.Sprint("edge", i), Memory: "64MiB", Redis: redis.Address})
		if err != nil {
			return Table{}, err
		}
		if i == 0 {
			first = n
		}
	}
	if err := first.together(ctx, nodes); err != nil {
		return Table{}, fmt.Errorf("the nodes do not find each other: %w", err)
	}
	t := Table{
		Title: "From POST /purge to the last node",
		Note: fmt.Sprintf("%d nodes, one Redis, all on both cores. %d calls one after the other, as the client measures each whole call. "+
			"Rounds: %d; medians, and the longest of all.", nodes, calls, lab.Rounds),
		Head: []string{"call", "p50", "p99", "longest", "complete receipts", "bar"},
	}
	for _, wait := range []string{"cluster", "node"} {
		var p50, p99 []time.Duration
		var longest time.Duration
		complete, all := 0, 0
		for round := range lab.Rounds {
			took, whole, err := first.timeReceipts(ctx, wait, calls)
			if err != nil {
				return t, err
			}
			lab.say("receipts: round %d, %s: p50 %v, p99 %v, longest %v", round+1, wait, quantile(took, 0.50), quantile(took, 0.99), quantile(took, 1))
			p50, p99 = append(p50, quantile(took, 0.50)), append(p99, quantile(took, 0.99))
			longest = max(longest, quantile(took, 1))
			complete, all = complete+whole, all+calls
		}
		bar, share := "", "not waited for"
		if wait == "cluster" {
			bar = verdict("p99 under 20 ms", median(p99) < 20*time.Millisecond && complete == all)
			share = fmt.Sprintf("%d of %d", complete, all)
		}
		t.add(fmt.Sprintf(`"wait": %q`, wait), millis(median(p50)), millis(median(p99)), millis(longest), share, bar)
	}
	return t, nil
}

func (n *Node) timeReceipts(ctx context.Context, wait string, calls int) (took []time.Duration, complete int, err error) {
	c, err := dial(ctx, n.Admin)
	if err != nil {
		return nil, 0, err
	}
	defer c.close()
	for i := range calls {
		raw := post(n.Admin, fmt.Sprintf(`{"surrogate_keys":["object-%d"],"wait":%q}`, i, wait))
		began := time.Now()
		r, err := c.purge(raw)
		if err != nil {
			return nil, 0, err
		}
		took = append(took, time.Since(began))
		if r.Complete {
			complete++
		}
	}
	return took, complete, nil
}
