package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"edge/integration/bench/pace"
)

// turn is how long an open loop asks one server before the next has its turn. Many
// short turns take what else the machine does better than few long ones.
const turn = time.Second

// turns is how many of them a run has.
func (b *Bench) turns() int { return b.rounds * int(b.duration/turn) }

// Latency is an open loop at half of what a server can do, which the closed loop
// finds out first: at half of what the first peer can do, the same for all, and at
// half of what each can do itself. At that rate a floor is asked, too: more requests
// a second keep also the load generator longer, which is nothing of the server's.
type Latency struct {
	name        string
	objects     Objects
	connections int
}

// Name implements Work.
func (l Latency) Name() string { return l.name }

func (l Latency) need() Need { return Need{Keys: l.objects.keys, Connections: 2 * l.connections} }

// paceOf asks for the objects, of which there is one.
func paceOf(address string, o Objects, connections int, rate float64, span time.Duration) pace.Pace {
	request := []byte(o.before() + "0" + o.after(address))
	return pace.Pace{
		Address: address, Connections: connections, Rate: rate, Span: span,
		Request: func() []byte { return request },
		Answer:  func(got []byte) (whole, counts bool, err error) { whole, err = o.whole(got); return whole, whole, err },
	}
}

// whole tells whether all of an answer has come.
func (o Objects) whole(got []byte) (bool, error) {
	head := bytes.Index(got, []byte("\r\n\r\n"))
	if head < 0 {
		return false, nil
	}
	if !bytes.HasPrefix(got, []byte("HTTP/1.1 200 ")) {
		return false, fmt.Errorf("not a 200: %.100q", got)
	}
	switch body := len(got) - head - 4; {
	case body < o.size:
		return false, nil
	case body > o.size:
		return false, fmt.Errorf("%d bytes beyond an answer of %d", body-o.size, o.size)
	}
	return true, nil
}

// quantile is a quantile of times, which it sorts.
func quantile(times []time.Duration, q float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[min(int(q*float64(len(times))), len(times)-1)]
}

// tail is what the turns of a server at one rate have shown.
type tail struct {
	rate     float64
	p50, p99 []time.Duration // of each tenth of a second
	whole    []time.Duration // p99 of each turn
}

func (t *tail) take(samples []pace.Sample) {
	var all []time.Duration
	for _, times := range pace.Windows(samples) {
		all = append(all, times...)
		t.p50 = append(t.p50, quantile(times, 0.50))
		t.p99 = append(t.p99, quantile(times, 0.99))
	}
	t.whole = append(t.whole, quantile(all, 0.99))
}

// quiet is the lower quartile of what windows have shown: what else the machine does
// can only add to it, and what the server does all the time it does in all of them.
func quiet(of []time.Duration) time.Duration { return quantile(slices.Clone(of), 0.25) }

// middle is the median of what turns have shown: whatever delays one request in a
// hundred in most of them is in it, be it the server's doing or not.
func middle(of []time.Duration) time.Duration {
	return median(of, func(d time.Duration) time.Duration { return d })
}

func (l Latency) measure(ctx context.Context, b *Bench, runners []Runner) (tables []Table, err error) {
	ready, notes, err := warmAll(ctx, b, l.name, runners, l.objects)
	if err != nil {
		return nil, err
	}
	full := make([][]Sample, len(ready))
	for round := range b.rounds {
		for i := range ready {
			i = (i + round) % len(ready)
			sample, err := load(ctx, b, ready[i], l.objects, l.connections)
			if err != nil {
				return nil, fmt.Errorf("load %s: %w", ready[i].Name, err)
			}
			full[i] = append(full[i], sample)
		}
	}
	half := func(i int) float64 { return median(full[i], Sample.perSecond) / 2 }
	floor, err := startFloor(ctx, l.objects.size)
	if err != nil {
		return nil, fmt.Errorf("start a floor: %w", err)
	}
	defer func() { err = errors.Join(err, floor.Stop()) }()
	tails := make([][2]tail, len(ready))
	floors := make([]tail, len(ready)) // each at the server's own rate
	for i := range tails {
		tails[i][0].rate, tails[i][1].rate = half(0), half(i)
	}
	for n := range b.turns() {
		for i := range ready {
			i = (i + n) % len(ready)
			for kind := range tails[i] {
				if i == 0 && kind == 1 { // the same as the first
					continue
				}
				t := &tails[i][(kind+n)%len(tails[i])]
				if i == 0 {
					t = &tails[i][0]
				}
				times, err := paceOf(ready[i].Address, l.objects, l.connections, t.rate, turn).Run(ctx)
				if err != nil {
					return nil, fmt.Errorf("%s at %.0f/s: %w", ready[i].Name, t.rate, err)
				}
				t.take(times)
			}
			own := tails[i][1].rate
			times, err := paceOf(floor.Address, l.objects, l.connections, own, turn).Run(ctx)
			if err != nil {
				return nil, fmt.Errorf("the floor at %.0f/s: %w", own, err)
			}
			floors[i].take(times)
		}
		fmt.Fprintf(os.Stderr, "%s, turn %d of %d\n", l.name, n+1, b.turns())
	}
	tails[0][1] = tails[0][0]
	ofFirst := "of " + ready[0].Name + "'s"
	table := Table{
		Title:   fmt.Sprintf("%s, %d turns of %v, at half of what %s can do and at half of what each can do", l.name, b.turns(), turn, ready[0].Name),
		Columns: []string{"peer", "saturated at"},
		Notes: append(notes, quartile,
			"the floor is a server that does nothing but to read and to write the same answer, asked at each one's own rate: what it takes is the machine's, the kernel's and the load generator's"),
	}
	for _, rate := range []string{"rate", "own rate"} {
		table.Columns = append(table.Columns, rate, "p50", "p99", ofFirst, "p99 of turns", ofFirst)
	}
	table.Columns = append(table.Columns, "floor's p50", "p99", "p99 of turns")
	for i, runner := range ready {
		cells := []string{runner.Name, fmt.Sprintf("%.0f/s", 2*half(i))}
		for _, t := range tails[i] {
			first := tails[0][0]
			p99, whole := quiet(t.p99), middle(t.whole)
			cells = append(cells, fmt.Sprintf("%.0f/s", t.rate), micros(quiet(t.p50)),
				micros(p99), over(p99, quiet(first.p99)), micros(whole), over(whole, middle(first.whole)))
		}
		f := floors[i]
		cells = append(cells, micros(quiet(f.p50)), micros(quiet(f.p99)), micros(middle(f.whole)))
		table.Rows = append(table.Rows, cells)
	}
	return []Table{table}, nil
}

// quartile explains what the tables of open loops show.
const quartile = "p50 and p99 are the lower quartile of those of each tenth of a second, some of which what else the machine does spares; " +
	"the p99 of turns is the median of those of each second, none of which it spares"

func over(a, b time.Duration) string { return fmt.Sprintf("%.2f", float64(a)/float64(b)) }

func micros(d time.Duration) string { return d.Round(time.Microsecond).String() }
