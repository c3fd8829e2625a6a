package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"edge/integration/bench/pace"
	"edge/integration/bench/process"
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
	var tails [beside + 1][]tail
	var cpu [len(tails)][]time.Duration // that the server has used
	for k := range tails {
		tails[k], cpu[k] = make([]tail, len(ready)), make([]time.Duration, len(ready))
	}
	cut := make([][]string, len(ready))
	for i, runner := range ready {
		if cut[i], err = s.watch(ctx, runner); err != nil {
			return nil, fmt.Errorf("%s: %w", runner.Name, err)
		}
	}
	for n := range b.turns() {
		for i := range ready {
			i = (i + n) % len(ready)
			for k := range tails {
				k = (k + n) % len(tails)
				samples, used, err := s.turn(ctx, ready[i], k)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", ready[i].Name, err)
				}
				tails[k][i].take(samples)
				cpu[k][i] += used
			}
		}
		fmt.Fprintf(os.Stderr, "%s, turn %d of %d\n", s.name, n+1, b.turns())
	}
	t := Table{
		Title: fmt.Sprintf("%s, %d of each kind beside %.0f hits/s, deadlines of %v, %d turns of %v each",
			s.name, s.number, s.rate, s.deadline, b.turns(), turn),
		Columns: []string{"peer", "p99 without", "elsewhere", "beside", "of without", "of elsewhere", "noise",
			"p99 of turns without", "elsewhere", "beside", "of without", "of elsewhere", "noise", "core used without", "beside"},
		Notes: append(notes, quartile),
	}
	for _, kind := range slowKinds("") {
		t.Columns = append(t.Columns, kind.name+" cut after")
	}
	for i, runner := range ready {
		cells := []string{runner.Name}
		for _, by := range []struct {
			times func(tail) []time.Duration
			stand func([]time.Duration) time.Duration // for all of them
		}{
			{func(t tail) []time.Duration { return t.p99 }, quiet},
			{func(t tail) []time.Duration { return t.whole }, middle},
		} {
			var p99 [len(tails)]time.Duration
			for k := range tails {
				p99[k] = by.stand(by.times(tails[k][i]))
				cells = append(cells, micros(p99[k]))
			}
			cells = append(cells, over(p99[beside], p99[without]), over(p99[beside], p99[elsewhere]),
				fmt.Sprintf("%.2f", max(noise(by.times(tails[without][i]), by.stand), noise(by.times(tails[elsewhere][i]), by.stand))))
		}
		cells = append(cells, s.core(b, cpu[without][i]), s.core(b, cpu[beside][i]))
		t.Rows = append(t.Rows, append(cells, cut[i]...))
	}
	t.Notes = append(t.Notes, "elsewhere: the same slow clients, sent by the same thread, but to a socket that nobody reads from. What they cost beside that is the server's",
		"noise is the same ratio between the tenths, or turns, of a kind that have even and odd numbers, the larger by the smaller: no smaller effect can be seen")
	return []Table{t}, nil
}

// What kinds of turns there are: without slow clients, with those of a sink, and with
// those of the server.
const (
	without = iota
	elsewhere
	beside
)

// core tells how much of its core a server used in all turns of a kind, which the
// connecting of the slow clients belongs to.
func (s Slow) core(b *Bench, used time.Duration) string {
	return fmt.Sprintf("%.1f %%", 100*used.Seconds()/(float64(b.turns())*(settle+turn).Seconds()))
}

// turn is one turn of a kind. It returns how long requests took, and what the server
// has used of its processor meanwhile.
func (s Slow) turn(ctx context.Context, runner Runner, kind int) (samples []pace.Sample, used time.Duration, err error) {
	p := s.pace(runner, settle+turn)
	p.Settle = settle
	drips := &Drips{kinds: slowKinds(runner.Address), number: s.number, every: time.Second}
	if kind == elsewhere {
		if drips.sink, err = openSink(); err != nil {
			return nil, 0, err
		}
		defer drips.sink.close()
	}
	if kind != without {
		p.Beside = drips
	}
	before, err := process.CPUTime(runner.PID())
	if err != nil {
		return nil, 0, err
	}
	if samples, err = p.Run(ctx); err != nil {
		return nil, 0, err
	}
	after, err := process.CPUTime(runner.PID())
	return samples, after - before, err
}

func (s Slow) pace(runner Runner, span time.Duration) pace.Pace {
	return paceOf(runner.Address, s.objects, s.connections, s.rate, span)
}

// watch tells of each kind when those were cut that began together.
func (s Slow) watch(ctx context.Context, runner Runner) (told []string, err error) {
	drips := &Drips{kinds: slowKinds(runner.Address), number: s.number, every: time.Second}
	span := 3*s.deadline + 2*time.Second
	p := s.pace(runner, span)
	p.Beside = drips
	if _, err := p.Run(ctx); err != nil {
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

// noise compares times of a kind that should not differ, every other one with the rest.
func noise(times []time.Duration, stand func([]time.Duration) time.Duration) float64 {
	var sides [2][]time.Duration
	for i, d := range times {
		sides[i%2] = append(sides[i%2], d)
	}
	if len(sides[1]) == 0 {
		return 1
	}
	a, b := stand(sides[0]), stand(sides[1])
	return float64(max(a, b)) / float64(min(a, b))
}
