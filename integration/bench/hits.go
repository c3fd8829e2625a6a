package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// Hits is a closed loop: each connection asks again as soon as it has its answer. It
// shows what the server can do with its core.
type Hits struct {
	name        string
	objects     Objects
	connections int // kept alive
}

// Name implements Work.
func (h Hits) Name() string { return h.name }

func (h Hits) need() Need { return Need{Keys: h.objects.keys, Connections: h.connections} }

// row is one peer's samples, one for each round.
type row struct {
	peer    string
	samples []Sample
	single  []Sample // with a single key, where the work has many
	again   int64    // objects fetched in run-ins, though they had been fetched before
}

// measure warms every peer and then loads one after the other, round by round, in
// turning order, so that what else happens on the machine falls on all alike.
func (h Hits) measure(ctx context.Context, b *Bench, runners []Runner) ([]Table, error) {
	ready, notes, err := warmAll(ctx, b, h.name, runners, h.objects)
	if err != nil {
		return nil, err
	}
	rows := make([]row, len(ready))
	for i, runner := range ready {
		rows[i].peer = runner.Name
	}
	for round := range b.rounds {
		for turn := range ready {
			i := (turn + round) % len(ready)
			if h.objects.keys > 1 {
				fetched := b.lab.fetched.Load()
				if err := askAll(ctx, ready[i].Address, h.objects); err != nil {
					return nil, fmt.Errorf("run %s in: %w", ready[i].Name, err)
				}
				rows[i].again += b.lab.fetched.Load() - fetched
				sample, err := load(ctx, b, ready[i], h.objects.one(), h.connections)
				if err != nil {
					return nil, fmt.Errorf("load %s: %w", ready[i].Name, err)
				}
				fmt.Fprintf(os.Stderr, "%s, round %d, %s, one key: %v\n", h.name, round+1, ready[i].Name, sample)
				rows[i].single = append(rows[i].single, sample)
			}
			sample, err := load(ctx, b, ready[i], h.objects, h.connections)
			if err != nil {
				return nil, fmt.Errorf("load %s: %w", ready[i].Name, err)
			}
			fmt.Fprintf(os.Stderr, "%s, round %d, %s: %v\n", h.name, round+1, ready[i].Name, sample)
			rows[i].samples = append(rows[i].samples, sample)
		}
	}
	for _, runner := range ready {
		if b.profiles == "" || !runner.ours() {
			continue
		}
		err := profiled(ctx, b, h.name, runner, func() error {
			_, err := load(ctx, b, runner, h.objects, h.connections)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("profile %s: %w", runner.Name, err)
		}
	}
	table := h.table(rows)
	table.Notes = append(table.Notes, notes...)
	return []Table{table}, nil
}

// table shows each figure as the median over the rounds of that figure. The ratio is
// that of the medians, to the first peer.
func (h Hits) table(rows []row) Table {
	t := Table{
		Title:   fmt.Sprintf("%s, %d connections", h.name, h.connections),
		Columns: []string{"peer", "requests per CPU-second", "of " + rows[0].peer},
	}
	many := h.objects.keys > 1
	if many {
		t.Columns = append(t.Columns, "with one key", "of that")
	}
	t.Columns = append(t.Columns, "requests/s", "core used", "p50", "p99")
	reference := median(rows[0].samples, Sample.perCPUSecond)
	for _, row := range rows {
		perCPU := median(row.samples, Sample.perCPUSecond)
		cells := []string{row.peer, fmt.Sprintf("%.0f", perCPU), fmt.Sprintf("%.2f", perCPU/reference)}
		if many {
			single := median(row.single, Sample.perCPUSecond)
			cells = append(cells, fmt.Sprintf("%.0f", single), fmt.Sprintf("%.2f", perCPU/single))
		}
		t.Rows = append(t.Rows, append(cells,
			fmt.Sprintf("%.0f", median(row.samples, Sample.perSecond)),
			fmt.Sprintf("%.0f%%", 100*median(row.samples, Sample.coreUsed)),
			median(row.samples, func(s Sample) time.Duration { return s.P50 }).String(),
			median(row.samples, func(s Sample) time.Duration { return s.P99 }).String()))
		if note := h.strayed(row); note != "" {
			t.Notes = append(t.Notes, note)
		}
	}
	return t
}

// strayed tells when a row is not what the work's name says.
func (h Hits) strayed(row row) string {
	var requests, fetched int64
	for _, sample := range row.samples {
		requests += sample.Requests
		fetched += sample.Fetched
	}
	switch {
	case h.objects.pass && fetched < requests:
		return fmt.Sprintf("%s did not pass all: %d of %d requests reached the origin", row.peer, fetched, requests)
	case row.again > 0:
		return fmt.Sprintf("%s had to fetch %d objects again before its turns, and %d of %d requests reached the origin in them", row.peer, row.again, fetched, requests)
	case !h.objects.pass && fetched > 0:
		return fmt.Sprintf("%s had not all hits: %d of %d requests reached the origin", row.peer, fetched, requests)
	}
	return ""
}
