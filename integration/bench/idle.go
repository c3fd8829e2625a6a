package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"edge/integration/bench/process"
)

// Idle is what connections cost that are kept alive after one request each.
type Idle struct {
	name        string
	objects     Objects // of a single key
	connections int
}

// Name implements Work.
func (i Idle) Name() string { return i.name }

func (i Idle) need() Need { return Need{Keys: i.objects.keys, Connections: i.connections + 100} }

func (i Idle) measure(ctx context.Context, b *Bench, runners []Runner) ([]Table, error) {
	ready, notes, err := warmAll(ctx, b, i.name, runners, i.objects)
	if err != nil {
		return nil, err
	}
	t := Table{
		Title:   fmt.Sprintf("%s: resident memory of the server, %d connections", i.name, i.connections),
		Columns: []string{"peer", "before", "with them", "each", "each, after a collection"},
		Notes:   notes,
	}
	for _, runner := range ready {
		cells, note, err := i.one(ctx, runner)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", runner.Name, err)
		}
		t.Rows = append(t.Rows, cells)
		if note != "" {
			t.Notes = append(t.Notes, note)
		}
	}
	return []Table{t}, nil
}

func (i Idle) one(ctx context.Context, runner Runner) (cells []string, note string, err error) {
	before, err := settled(ctx, runner.PID())
	if err != nil {
		return nil, "", err
	}
	conns := make([]*Conn, i.connections)
	defer func() {
		for _, conn := range conns {
			if conn != nil {
				conn.close()
			}
		}
	}()
	request := []byte(i.objects.before() + "0" + i.objects.after(runner.Address))
	ask := func(n int) error { return conns[n].ask(request, 1, i.objects.size) }
	if err := each(ctx, i.connections, func(n int) (err error) {
		if conns[n], err = dial(ctx, runner.Address); err != nil {
			return err
		}
		return ask(n)
	}); err != nil {
		return nil, "", err
	}
	after, err := settled(ctx, runner.PID())
	if err != nil {
		return nil, "", err
	}
	share := func(bytes int64) string {
		return fmt.Sprintf("%.1f KiB", float64(bytes-before)/kib/float64(i.connections))
	}
	cells = []string{runner.Name, fmt.Sprintf("%.1f MiB", float64(before)/mib), fmt.Sprintf("%.1f MiB", float64(after)/mib), share(after), ""}
	if runner.ours() {
		if err := collect(ctx, runner.Admin); err != nil {
			return nil, "", err
		}
		if after, err = settled(ctx, runner.PID()); err != nil {
			return nil, "", err
		}
		cells[4] = share(after)
	}
	var gone atomic.Int64
	if err := each(ctx, i.connections, func(n int) error {
		if ask(n) != nil {
			gone.Add(1)
		}
		return nil
	}); err != nil {
		return nil, "", err
	}
	if n := gone.Load(); n > 0 && runner.ours() {
		return nil, "", fmt.Errorf("%d connections were not kept", n)
	} else if n > 0 {
		note = fmt.Sprintf("%s has not kept %d of the connections", runner.Name, n)
	}
	return cells, note, nil
}

// each calls f for all numbers below n, many at a time, until one fails.
func each(ctx context.Context, n int, f func(int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := f(i); err != nil {
					cancel(fmt.Errorf("connection %d: %w", i+1, err))
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// settled is the memory of a server once it has not changed by more than a hundredth
// for three seconds, or after twenty.
func settled(ctx context.Context, pid int) (int64, error) {
	since, last := time.Now(), int64(0)
	for end := time.Now().Add(20 * time.Second); ; {
		now, err := process.Memory(pid)
		if err != nil {
			return 0, err
		}
		if change := now - last; change > last/100 || -change > last/100 {
			since, last = time.Now(), now
		}
		if time.Since(since) >= 3*time.Second || time.Now().After(end) {
			return now, nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// collect has a node collect its garbage.
func collect(ctx context.Context, admin string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/debug/pprof/heap?gc=1", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("collect garbage: status %d", resp.StatusCode)
	}
	return errors.Join(err, resp.Body.Close())
}
