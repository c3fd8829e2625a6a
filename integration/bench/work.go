package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	kib = 1 << 10
	mib = 1 << 20
)

// Work is one thing that is measured.
type Work interface {
	Name() string
	need() Need
	measure(ctx context.Context, b *Bench, runners []Runner) ([]Table, error)
}

// works is what is measured, in the order of the report.
var works = []Work{
	Hits{name: "hit, 1 KiB, minimal head", objects: Objects{size: kib, keys: 1}, connections: 64},
	Hits{name: "hit, 1 KiB, ten browser headers", objects: Objects{size: kib, keys: 1, headers: browser}, connections: 64},
	Hits{name: "hit, 100 KiB", objects: Objects{size: 100 * kib, keys: 1}, connections: 32},
	Hits{name: "hit, 1 MiB", objects: Objects{size: mib, keys: 1}, connections: 16},
	Hits{name: "pass, 1 KiB, uncacheable", objects: Objects{size: kib, keys: 1, pass: true}, connections: 64},
	Hits{name: "hits over 20,000 keys of 1 KiB", objects: Objects{size: kib, keys: 20_000}, connections: 64},
	Hits{name: "hits over 1,000,000 keys of 1 KiB", objects: Objects{size: kib, keys: 1_000_000}, connections: 64},
	Latency{name: "latency of hits, 1 KiB", objects: Objects{size: kib, keys: 1}, connections: 64},
	Idle{name: "idle after a hit", objects: Objects{size: kib, keys: 1}, connections: 10_000},
	Idle{name: "idle after a pass", objects: Objects{size: kib, keys: 1, pass: true}, connections: 10_000},
	Slow{name: "slow clients", objects: Objects{size: kib, keys: 1}, connections: 64, rate: 10_000, number: 1000, deadline: 4 * time.Second},
}

// Objects is what is asked for, and how.
type Objects struct {
	size    int // of each, in bytes
	keys    int // how many
	pass    bool
	headers []Header // sent beside Host
}

// Header is a request header field.
type Header struct{ Name, Value string }

// browser is what a current browser sends with a page's sub-resource.
var browser = []Header{
	{"User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"},
	{"Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"},
	{"Accept-Encoding", "gzip, deflate, br, zstd"},
	{"Accept-Language", "en-GB,en;q=0.9,de;q=0.7"},
	{"Referer", "http://127.0.0.1/catalogue/index.html"},
	{"Sec-CH-UA", `"Chromium";v="140", "Not=A?Brand";v="24"`},
	{"Sec-CH-UA-Platform", `"Linux"`},
	{"Sec-Fetch-Dest", "empty"},
	{"Sec-Fetch-Mode", "cors"},
	{"Sec-Fetch-Site", "same-origin"},
}

// before and after are the parts of a request around the number of its key.
func (o Objects) before() string {
	if o.pass {
		return fmt.Sprintf("GET /pass/%d/", o.size)
	}
	return fmt.Sprintf("GET /%d/", o.size)
}

func (o Objects) after(host string) string {
	text := " HTTP/1.1\r\nHost: " + host + "\r\n"
	for _, header := range o.headers {
		text += header.Name + ": " + header.Value + "\r\n"
	}
	return text + "\r\n"
}

// one is the same with a single key.
func (o Objects) one() Objects {
	o.keys = 1
	return o
}

// errKept is that a cache does not do with the objects what the work is about.
type errKept struct{ told string }

func (e errKept) Error() string { return e.told }

// warm asks the server for each object until it is where hits come from. Then it
// asks for many of them on one connection, and checks what a measurement would not
// show: that answers have the right length, that the connection is kept, and that
// none of them came from the origin, or all did if they must not be stored. A server
// that answers with something else would be fast at the wrong thing.
func warm(ctx context.Context, lab *Lab, runner Runner, o Objects) error {
	if !o.pass {
		for range max(runner.Settle, 1) {
			if err := askAll(ctx, runner.Address, o); err != nil {
				return err
			}
		}
	}
	const batch = 16
	n := batch * max(1, min(10_000, 256*mib/o.size)/batch)
	keys := rand.New(rand.NewPCG(1, 2))
	conn, err := dial(ctx, runner.Address)
	if err != nil {
		return err
	}
	defer conn.close()
	fetched := lab.fetched.Load()
	var raw []byte
	for i := range n / batch {
		raw = raw[:0]
		for range batch {
			raw = fmt.Appendf(raw, "%s%d%s", o.before(), keys.IntN(o.keys), o.after(runner.Address))
		}
		if err := conn.ask(raw, batch, o.size); err != nil {
			return fmt.Errorf("within the requests %d to %d of a connection: %w", i*batch+1, (i+1)*batch, err)
		}
	}
	switch fetched = lab.fetched.Load() - fetched; {
	case o.pass && fetched != int64(n):
		return errKept{fmt.Sprintf("the origin saw %d of %d requests that no cache may answer", fetched, n)}
	case !o.pass && fetched > 0:
		return errKept{fmt.Sprintf("%d of %d requests went to the origin though everything had been asked for before", fetched, n)}
	}
	return nil
}

// warmAll warms all servers. Those that cannot do what the work is about are left out,
// and the reason is told; if it is edge that cannot, that is an error.
func warmAll(ctx context.Context, b *Bench, work string, runners []Runner, o Objects) (ready []Runner, notes []string, err error) {
	for _, runner := range runners {
		began := time.Now()
		err := warm(ctx, b.lab, runner, o)
		var kept errKept
		if errors.As(err, &kept) && !runner.ours() {
			notes = append(notes, fmt.Sprintf("%s is left out: %v", runner.Name, err))
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("warm %s: %w\n%s", runner.Name, err, runner.Tail())
		}
		if took := time.Since(began); took > 5*time.Second {
			fmt.Fprintf(os.Stderr, "%s, %s is warm after %v\n", work, runner.Name, took.Round(time.Second))
		}
		ready = append(ready, runner)
	}
	if len(ready) == 0 {
		return nil, nil, fmt.Errorf("nothing to measure: %s", strings.Join(notes, "; "))
	}
	return ready, notes, nil
}

// askAll asks for each object once, over several connections, some at a time on each.
func askAll(ctx context.Context, address string, o Objects) error {
	const clients, batch = 16, 32
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(clients, o.keys) {
		wg.Go(func() {
			conn, err := dial(ctx, address)
			if err != nil {
				cancel(err)
				return
			}
			defer conn.close()
			var raw []byte
			for ctx.Err() == nil {
				last := int(next.Add(batch))
				first := last - batch
				last = min(last, o.keys)
				if first >= last {
					return
				}
				raw = raw[:0]
				for key := first; key < last; key++ {
					raw = fmt.Appendf(raw, "%s%d%s", o.before(), key, o.after(address))
				}
				if err := conn.ask(raw, last-first, o.size); err != nil {
					cancel(errors.Join(fmt.Errorf("keys %d to %d: %w", first, last-1, err), ctx.Err()))
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}
