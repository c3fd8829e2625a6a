package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"syscall"
	"time"

	"edge/integration/bench/pace"
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

	without, with []hits // purges beside the load: of each window
}

// hits are the times of hits in one window of a span.
type hits struct {
	p50, p99 time.Duration
	share    float64 // in all answers of the span, in percent
	purges   float64 // per second, made meanwhile
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
	// Short spans, and many, of which each tenth of a second is looked at: what else the
	// machine does then spoils some, and the quiet quarter stands.
	span := pick(lab, time.Second, 500*time.Millisecond)
	turns := pick(lab, lab.Rounds*turnsEach, 4)
	for turn := range turns {
		for i := range nodes {
			n := nodes[(turn+i)%len(nodes)]
			if err := n.timeHits(ctx, span, turn%2 == 1); err != nil {
				return Table{}, err
			}
		}
		if (turn+1)%turnsEach == 0 {
			for _, n := range nodes {
				lab.say("purge: after %d turns, %d objects: hits p99 %v, with purges %v", turn+1, n.objects, medianOf(n.without, p99), medianOf(n.with, p99))
			}
		}
	}
	return purgeTable(nodes, calls, turns, span), nil
}

// turnsEach is how many turns, each a span without purges and one with, a round has.
const turnsEach = 8

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

// timeHits loads the node for one turn: a span without purges and one with, or the
// other way round.
func (n *stocked) timeHits(ctx context.Context, span time.Duration, purgesFirst bool) error {
	for _, purging := range []bool{purgesFirst, !purgesFirst} {
		seen, err := n.load(ctx, span, purging)
		if err != nil {
			return err
		}
		if purging {
			n.with = append(n.with, seen...)
		} else {
			n.without = append(n.without, seen...)
		}
	}
	return nil
}

// load asks for random objects for a time, and purges meanwhile or does not. One thread
// that never sleeps does both: to wake a client takes longer than an answer.
func (n *stocked) load(ctx context.Context, span time.Duration, purging bool) (seen []hits, err error) {
	answers, found := 0, 0
	p := pace.Pace{
		Address: n.Address, Connections: hitConnections, Rate: hitRate, Span: span,
		Settle:  span / 10, // the first moments are those of new connections
		Request: func() []byte { return get(rand.IntN(n.objects)) },
		Answer: func(got []byte) (whole, counts bool, err error) {
			answer, err := parseAnswer(got)
			if answer == nil || err != nil {
				return false, false, err
			}
			answers++
			if answer.Hit {
				found++
			}
			return true, answer.Hit, proper(*answer)
		},
	}
	purger := &purger{n: n}
	if purging {
		p.Beside = purger
	}
	samples, err := p.Run(ctx)
	if err != nil {
		return nil, err
	}
	for _, times := range pace.Windows(samples) {
		seen = append(seen, hits{quantile(times, 0.50), quantile(times, 0.99),
			100 * float64(found) / float64(max(answers, 1)), float64(purger.made) / span.Seconds()})
	}
	return seen, nil
}

// purger purges random keys, one call after the other.
type purger struct {
	n     *stocked
	loop  *pace.Loop
	fd    int
	due   time.Time
	under bool // a call is under way
	got   []byte
	made  int
}

// Begin connects.
func (p *purger) Begin(loop *pace.Loop) error {
	to, err := pace.ParseAddress(p.n.Admin)
	if err != nil {
		return err
	}
	p.loop, p.due = loop, time.Now()
	p.fd, err = loop.Open(p, &to)
	return err
}

// Go makes the call that is due.
func (p *purger) Go() error {
	if p.under || time.Now().Before(p.due) {
		return nil
	}
	p.due, p.under, p.got = p.due.Add(purgePause), true, p.got[:0]
	_, err := syscall.Write(p.fd, p.n.purgeOne())
	return err
}

// Heard reads a receipt.
func (p *purger) Heard(any) (err error) {
	if p.got, err = pace.Read(p.fd, p.got); err != nil {
		return err
	}
	answer, err := parseAnswer(p.got)
	if answer == nil || err != nil {
		return err
	}
	if answer.Status != http.StatusOK {
		return fmt.Errorf("a purge was answered with %d: %.200q", answer.Status, answer.Body)
	}
	p.under = false
	p.made++
	return nil
}

// End closes the connection.
func (p *purger) End() { p.loop.Drop(p.fd) }

func purgeTable(nodes []*stocked, calls, turns int, span time.Duration) Table {
	t := Table{
		Title: "Purge of a key",
		Note: fmt.Sprintf("The node on a core of its own. %d calls of POST /purge one after the other; then %d requests/s for random objects, "+
			"in turn for %v without purges and for %v with 100 purges/s of random keys. Of each tenth of a second over %d turns.", calls, hitRate, span, span, turns),
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
	row("call of one purge, p50", func(n *stocked) string { return millis(quantile(slices.Clone(n.purges), 0.50)) })
	row("call of one purge, p99", func(n *stocked) string { return millis(quantile(slices.Clone(n.purges), 0.99)) })
	row("processor time of the node for one purge", func(n *stocked) string { return micros(n.cpu) })
	row("bar: under 1 ms of work", func(n *stocked) string { return verdict("1 ms", n.cpu < time.Millisecond) })
	row("its core in use when nobody asks", func(n *stocked) string { return fmt.Sprintf("%.1f %%", 100*n.idle) })
	row("hit, p50, no purges", func(n *stocked) string { return micros(medianOf(n.without, p50)) })
	row("hit, p50, 100 purges/s", func(n *stocked) string { return micros(medianOf(n.with, p50)) })
	row("hit, p99, no purges", func(n *stocked) string { return micros(medianOf(n.without, p99)) })
	row("hit, p99, 100 purges/s", func(n *stocked) string { return micros(medianOf(n.with, p99)) })
	row("purges/s reached", func(n *stocked) string {
		return fmt.Sprintf("%.0f/s", medianOf(n.with, func(h hits) float64 { return h.purges }))
	})
	row("hit, p99 of the quiet quarter, no purges", func(n *stocked) string { return micros(quietly(n.without)) })
	row("hit, p99 of the quiet quarter, 100 purges/s", func(n *stocked) string { return micros(quietly(n.with)) })
	row("p99 of the quiet quarter, with over without", func(n *stocked) string { return fmt.Sprintf("%.2f", n.ratio()) })
	row("the same of half the windows without over the other half", func(n *stocked) string { return fmt.Sprintf("%.2f", n.noise()) })
	row("bar: p99 within 10 %", func(n *stocked) string {
		if n.noise() > 1.10 {
			return "undecided: the machine is not quiet enough"
		}
		return verdict("1.10", n.ratio() <= 1.10)
	})
	row("hits among the answers", func(n *stocked) string {
		return fmt.Sprintf("%.2f %%", medianOf(n.with, func(h hits) float64 { return h.share }))
	})
	return t
}

func p50(h hits) time.Duration { return h.p50 }
func p99(h hits) time.Duration { return h.p99 }

func medianOf[T cmp.Ordered](spans []hits, figure func(hits) T) T {
	var all []T
	for _, h := range spans {
		all = append(all, figure(h))
	}
	return median(all)
}

// quietly is the lower quartile of the windows' p99: other programs can only add to
// it, and what purges do they do in every window.
func quietly(spans []hits) time.Duration {
	var all []time.Duration
	for _, h := range spans {
		all = append(all, h.p99)
	}
	return quantile(all, 0.25)
}

// ratio is the p99 with purges over that without.
func (n *stocked) ratio() float64 { return float64(quietly(n.with)) / float64(quietly(n.without)) }

// noise is the same of windows that should not differ: every other one without purges
// over the rest, the larger over the smaller.
func (n *stocked) noise() float64 {
	var halves [2][]hits
	for i, h := range n.without {
		halves[i%2] = append(halves[i%2], h)
	}
	a, b := float64(quietly(halves[0])), float64(quietly(halves[1]))
	return max(a, b) / min(a, b)
}
