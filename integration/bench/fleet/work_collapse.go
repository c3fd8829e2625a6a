package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// flood is one node under a steady load of reads, while far more keys are purged than
// its ledger keeps.
type flood struct {
	lab    *Lab
	origin *Origin
	node   *Node

	read   int // objects that the load asks for, all the time
	asleep int // objects after those: purged with the first call, and asked for at the end
	keys   int // purged; most of them no object has
	calls  int
	span   time.Duration // over which the calls are spread

	floors []atomic.Int64
	took   []time.Duration // by the calls
	bumped int             // objects among the load's that were purged

	before Stats // garbage collected
	peak   int64 // resident memory
	after  Stats // uncollected
	calmed Stats // collected
}

// second is what the origin had to do in one second.
type second struct{ conditional, whole int64 }

// collapseWork: the bound on records is reached, and nothing old is served.
func collapseWork(ctx context.Context, lab *Lab) (Table, error) {
	f := &flood{lab: lab, read: pick(lab, 20_000, 5_000), asleep: 1000,
		keys: pick(lab, 1_000_000, 400_000), span: pick(lab, 30*time.Second, 6*time.Second)}
	f.calls = f.keys / keysEach
	if err := f.start(ctx); err != nil {
		return Table{}, err
	}
	calm, after := pick(lab, 5*time.Second, 2*time.Second), pick(lab, 15*time.Second, 4*time.Second)

	loading, stop := context.WithCancel(ctx)
	defer stop()
	l := &Load{Addresses: []string{f.node.Address}, Rate: hitRate, Connections: hitConnections, Next: f.next}
	run := l.start(loading)
	var seconds []second
	var watching sync.WaitGroup
	watching.Go(func() { seconds = f.watch(loading) })

	time.Sleep(calm)
	began := run.since()
	err := f.purgeAll(ctx)
	ended := run.since()
	if err == nil {
		time.Sleep(after)
	}
	stop()
	watching.Wait()
	samples, failure := run.wait()
	if err = errors.Join(err, failure); err != nil {
		return Table{}, err
	}
	late, err := f.everything(ctx)
	if err != nil {
		return Table{}, err
	}
	if f.after, f.calmed, err = f.settled(ctx); err != nil {
		return Table{}, err
	}
	return f.table(samples, seconds, began, ended, late), nil
}

// keysEach is how many keys are purged in one call: as many as the handler takes.
const keysEach = 10_000

// objectsEach of them are those of objects that the load asks for.
const objectsEach = 20

func (f *flood) start(ctx context.Context) (err error) {
	objects := f.read + f.asleep
	f.floors = make([]atomic.Int64, objects)
	if f.origin, err = f.lab.startOrigin(ctx, objects); err != nil {
		return err
	}
	if f.node, err = f.lab.startNode(ctx, f.origin, NodeOptions{Name: "edge", Memory: "256MiB"}); err != nil {
		return err
	}
	if err := f.node.fill(ctx, objects); err != nil {
		return err
	}
	_, f.before, err = f.settled(ctx)
	return err
}

// settled is what the node says now, and once its garbage is collected.
func (f *flood) settled(ctx context.Context) (now, collected Stats, err error) {
	if now, err = f.node.stats(ctx); err != nil {
		return now, collected, err
	}
	if err = f.node.collect(ctx); err != nil {
		return now, collected, err
	}
	time.Sleep(2 * time.Second) // what was freed goes back to the system by and by
	collected, err = f.node.stats(ctx)
	return now, collected, err
}

func (f *flood) next() Request {
	object := rand.IntN(f.read)
	return Request{Floor: f.floors[object].Load(), Raw: get(object)}
}

// watch counts what the origin does in each second.
func (f *flood) watch(ctx context.Context) (seconds []second) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	conditional, fetched := f.origin.conditional.Load(), f.origin.fetched.Load()
	for {
		select {
		case <-ctx.Done():
			return seconds
		case <-ticker.C:
		}
		c, n := f.origin.conditional.Load(), f.origin.fetched.Load()
		seconds = append(seconds, second{c - conditional, n - fetched - (c - conditional)})
		conditional, fetched = c, n
	}
}

// purgeAll purges all the keys at an even pace. Some are those of objects, whose new
// version nobody may miss once the call is answered.
func (f *flood) purgeAll(ctx context.Context) error {
	c, err := dial(ctx, f.node.Admin)
	if err != nil {
		return err
	}
	defer c.close()
	ticker := time.NewTicker(f.span / time.Duration(f.calls))
	defer ticker.Stop()
	for call := range f.calls {
		objects := f.choose(call)
		now := make([]int64, len(objects))
		for i, object := range objects {
			now[i] = f.origin.versions[object].Add(1)
		}
		raw := post(f.node.Admin, f.body(call, objects))
		began := time.Now()
		if _, err := c.purge(raw); err != nil {
			return err
		}
		f.took = append(f.took, time.Since(began))
		for i, object := range objects {
			f.floors[object].Store(now[i])
		}
		s, err := f.node.stats(ctx)
		if err != nil {
			return err
		}
		f.peak = max(f.peak, s.Memory.Resident)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// choose returns the objects whose keys are among those of a call, each once.
func (f *flood) choose(call int) (objects []int) {
	if call == 0 {
		for i := range f.asleep {
			objects = append(objects, f.read+i)
		}
		return objects
	}
	for range objectsEach {
		objects = append(objects, f.bumped%f.read)
		f.bumped++
	}
	return objects
}

// body is a call's: the keys of the objects, and as many as there is room for that
// nothing carries.
func (f *flood) body(call int, objects []int) string {
	keys := make([]string, 0, keysEach)
	for _, object := range objects {
		keys = append(keys, fmt.Sprintf(`"object-%d"`, object))
	}
	for i := len(keys); i < keysEach; i++ {
		keys = append(keys, fmt.Sprintf(`"nothing-%d-%d"`, call, i))
	}
	return fmt.Sprintf(`{"surrogate_keys":[%s]}`, strings.Join(keys, ","))
}

// everything asks for all objects and returns how many were old: among them those
// purged so long ago that their records have collapsed.
func (f *flood) everything(ctx context.Context) (old int, err error) {
	c, err := dial(ctx, f.node.Address)
	if err != nil {
		return 0, err
	}
	defer c.close()
	for object := range f.floors {
		answer, err := c.ask(get(object))
		if err == nil {
			err = proper(answer)
		}
		if err != nil {
			return 0, fmt.Errorf("object %d: %w", object, err)
		}
		if version, _ := versionOf(answer.Body); version != f.origin.versions[object].Load() {
			old++
		}
	}
	return old, nil
}

func (f *flood) table(samples []Sample, seconds []second, began, ended time.Duration, late int) Table {
	t := Table{
		Title: "More purges than the ledger keeps",
		Note: fmt.Sprintf("One node on a core of its own; %d requests/s for %d objects all the time. In the middle %d distinct keys are purged, %d in a call, "+
			"over %v; %d in each call are keys of those objects. %d more objects, purged with the first call, nobody asks for until the end.",
			hitRate, f.read, f.keys, keysEach, (ended - began).Round(time.Second), objectsEach, f.asleep),
		Head: []string{"measure", "before", "while purging", "after"},
	}
	const warm = 500 * time.Millisecond // the moments of new connections
	spans := [3][2]time.Duration{{warm, began}, {began, ended}, {ended, time.Hour}}
	old := late
	row := func(measure string, cell func(i int, all, hits Figures) string) {
		cells := []string{measure}
		for i, span := range spans {
			cells = append(cells, cell(i, figures(samples, span[0], span[1], isAny), figures(samples, span[0], span[1], isHit)))
		}
		t.add(cells...)
	}
	row("requests", func(_ int, all, _ Figures) string { old += all.Old; return fmt.Sprint(all.Requests) })
	row("hits", func(_ int, all, _ Figures) string {
		return fmt.Sprintf("%.1f %%", all.hitShare())
	})
	row("hit, p50", func(_ int, _, hits Figures) string { return micros(hits.P50) })
	row("hit, p99", func(_ int, _, hits Figures) string { return micros(hits.P99) })
	row("any answer, p99", func(_ int, all, _ Figures) string { return micros(all.P99) })
	row("any answer, longest", func(_ int, all, _ Figures) string { return millis(all.Max) })
	row("revalidations at the origin, mean", func(i int, _, _ Figures) string {
		c, _, _ := originLoad(seconds, spans[i])
		return fmt.Sprintf("%.0f/s", c)
	})
	row("revalidations at the origin, busiest second", func(i int, _, _ Figures) string {
		_, _, peak := originLoad(seconds, spans[i])
		return fmt.Sprintf("%d/s", peak)
	})
	row("whole fetches at the origin, mean", func(i int, _, _ Figures) string {
		_, w, _ := originLoad(seconds, spans[i])
		return fmt.Sprintf("%.0f/s", w)
	})
	t.add("resident memory, highest", "", mebibytes(f.peak), mebibytes(f.after.Memory.Resident))
	t.add("resident memory, after a collection", mebibytes(f.before.Memory.Resident), "", mebibytes(f.calmed.Memory.Resident))
	t.add("heap in use, after a collection", mebibytes(f.before.Memory.Heap), "", mebibytes(f.calmed.Memory.Heap))
	t.add("purge_selectors", fmt.Sprint(f.before.Purge.Selectors), "", fmt.Sprint(f.calmed.Purge.Selectors))
	t.add("purges_folded_total", fmt.Sprint(f.before.Purge.Folded), "", fmt.Sprint(f.calmed.Purge.Folded))
	t.add(fmt.Sprintf("a call of %d keys, p50", keysEach), "", millis(quantile(f.took, 0.50)), "")
	t.add(fmt.Sprintf("a call of %d keys, p99", keysEach), "", millis(quantile(f.took, 0.99)), "")
	t.add("old content served", "", fmt.Sprint(old), verdict("bar 0", old == 0))
	return t
}

// originLoad is what the origin did in the whole seconds within a span: revalidations and
// whole fetches per second, and the most revalidations in one.
func originLoad(seconds []second, span [2]time.Duration) (conditional, whole float64, peak int64) {
	n := 0
	for i, s := range seconds {
		if from := time.Duration(i) * time.Second; from < span[0].Truncate(time.Second) || from+time.Second > span[1] {
			continue
		}
		n++
		conditional, whole, peak = conditional+float64(s.conditional), whole+float64(s.whole), max(peak, s.conditional)
	}
	n = max(n, 1)
	return conditional / float64(n), whole / float64(n), peak
}
