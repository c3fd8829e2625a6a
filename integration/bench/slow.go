package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"
)

// settle is how long slow clients may take to be let in, or to be forgotten, before a
// turn counts.
const settle = time.Second

// Slow is an open loop with and without clients beside it that send a byte a second.
type Slow struct {
	name        string
	objects     Objects // of the loop
	connections int     // of the loop
	rate        float64 // of the loop, a second
	number      int     // of slow clients of each kind
	deadline    time.Duration
}

// Name implements Work.
func (s Slow) Name() string { return s.name }

func (s Slow) need() Need {
	return Need{Keys: s.objects.keys, Connections: 2*s.connections + 3*s.number, Deadline: s.deadline}
}

func (s Slow) measure(ctx context.Context, b *Bench, runners []Runner) ([]Table, error) {
	ready, notes, err := warmAll(ctx, b, s.name, runners, s.objects)
	if err != nil {
		return nil, err
	}
	without, with := make([]tail, len(ready)), make([]tail, len(ready))
	cut := make([][]string, len(ready))
	for i, runner := range ready {
		if cut[i], err = s.watch(ctx, runner); err != nil {
			return nil, fmt.Errorf("%s: %w", runner.Name, err)
		}
	}
	for n := range b.turns() {
		for i := range ready {
			i = (i + n) % len(ready)
			for k := range 2 {
				t, drips := &without[i], (*Drips)(nil)
				if (k+n)%2 == 1 {
					t, drips = &with[i], &Drips{kinds: slowKinds(ready[i].Address), number: s.number, every: time.Second, reopen: true}
				}
				pace := s.pace(ready[i], settle+turn, drips)
				pace.settle = settle
				times, err := pace.run(ctx)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", ready[i].Name, err)
				}
				t.take(times)
			}
		}
		fmt.Fprintf(os.Stderr, "%s, turn %d of %d\n", s.name, n+1, b.turns())
	}
	t := Table{
		Title: fmt.Sprintf("%s, %d of each kind beside %.0f hits/s, deadlines of %v, %d turns of %v with them and without",
			s.name, s.number, s.rate, s.deadline, b.turns(), turn),
		Columns: []string{"peer", "p99 without", "p99 with", "ratio", "noise"},
		Notes:   notes,
	}
	for _, kind := range slowKinds("") {
		t.Columns = append(t.Columns, kind.name+" cut after")
	}
	for i, runner := range ready {
		p := median(without[i].p99, same)
		q := median(with[i].p99, same)
		t.Rows = append(t.Rows, append([]string{runner.Name, micros(p), micros(q),
			fmt.Sprintf("%.2f", float64(q)/float64(p)), fmt.Sprintf("%.2f", noise(without[i].p99))}, cut[i]...))
	}
	t.Notes = append(t.Notes, "noise is the same ratio between the turns without them that have even and odd numbers, the larger by the smaller: no smaller effect can be seen")
	return []Table{t}, nil
}

func (s Slow) pace(runner Runner, span time.Duration, drips *Drips) Pace {
	return Pace{address: runner.Address, objects: s.objects, connections: s.connections, rate: s.rate, span: span, drips: drips}
}

// watch tells of each kind when those were cut that began together.
func (s Slow) watch(ctx context.Context, runner Runner) (told []string, err error) {
	drips := &Drips{kinds: slowKinds(runner.Address), number: s.number, every: time.Second}
	span := 3*s.deadline + 2*time.Second
	if _, err := s.pace(runner, span, drips).run(ctx); err != nil {
		return nil, err
	}
	for _, cuts := range drips.cuts {
		told = append(told, tellCuts(cuts, s.number, span))
	}
	return told, nil
}

func tellCuts(cuts []time.Duration, number int, span time.Duration) string {
	if len(cuts) == 0 {
		return fmt.Sprintf("none within %v", span)
	}
	text := fmt.Sprintf("%.1f to %.1f s", slices.Min(cuts).Seconds(), slices.Max(cuts).Seconds())
	if len(cuts) < number {
		text += fmt.Sprintf(", %d of %d", len(cuts), number)
	}
	return text
}

// noise compares turns that should not differ.
func noise(p99 []time.Duration) float64 {
	var sides [2][]time.Duration
	for i, d := range p99 {
		sides[i%2] = append(sides[i%2], d)
	}
	if len(sides[1]) == 0 {
		return 1
	}
	a, b := median(sides[0], same), median(sides[1], same)
	return float64(max(a, b)) / float64(min(a, b))
}
