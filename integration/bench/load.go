package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"time"

	"edge/integration/bench/pace"
	"edge/integration/bench/process"
)

// Sample is what one round of load showed.
type Sample struct {
	Requests int64
	Wall     time.Duration
	CPU      time.Duration // of all the server's processes, over the same span
	P50, P99 time.Duration
	Fetched  int64 // requests that reached the origin meanwhile; 0 when all were hits
}

// perCPUSecond is the figure that travels between machines best: what the server
// did with the time that it had.
func (s Sample) perCPUSecond() float64 { return float64(s.Requests) / s.CPU.Seconds() }

func (s Sample) perSecond() float64 { return float64(s.Requests) / s.Wall.Seconds() }

// coreUsed is the share of its core that the server had. Well below one means
// that something else ran there, or that the load generator was the slower one.
func (s Sample) coreUsed() float64 { return s.CPU.Seconds() / s.Wall.Seconds() }

func (s Sample) String() string {
	return fmt.Sprintf("%.0f/CPU-s, %.0f/s, p50 %v, p99 %v", s.perCPUSecond(), s.perSecond(), s.P50, s.P99)
}

// loadArgument, instead of all flags, has this program be the load generator of a closed
// loop, which gets its Order on stdin and writes a Sample to stdout.
const loadArgument = "load"

// Order is what a load generator is told.
type Order struct {
	Address       string
	Connections   int
	Span          time.Duration
	Before, After string // of a request, around the number of its key
	Keys, Size    int
}

// load has the server asked for the objects, and reads its CPU time before and after.
func load(ctx context.Context, b *Bench, runner Runner, o Objects, connections int) (Sample, error) {
	fetched := b.lab.fetched.Load()
	before, err := process.CPUTime(runner.PID())
	if err != nil {
		return Sample{}, err
	}
	var sample Sample
	if b.wrk {
		sample, err = askWithWrk(ctx, b, runner.Address, o, connections)
	} else {
		sample, err = generate(ctx, Order{Address: runner.Address, Connections: connections, Span: b.duration,
			Before: o.before(), After: o.after(runner.Address), Keys: o.keys, Size: o.size})
	}
	if err != nil {
		return sample, err
	}
	after, err := process.CPUTime(runner.PID())
	if err != nil {
		return sample, err
	}
	sample.CPU = after - before
	sample.Fetched = b.lab.fetched.Load() - fetched
	if sample.Requests == 0 || sample.CPU <= 0 {
		return sample, fmt.Errorf("no requests, or no CPU time seen: %+v", sample)
	}
	return sample, nil
}

// generate has a process of its own make the load. Any answer that is not a 200 of the
// right size is an error, and so is a connection that the server does not keep.
func generate(ctx context.Context, order Order) (sample Sample, err error) {
	self, err := os.Executable()
	if err != nil {
		return sample, err
	}
	text, err := json.Marshal(order)
	if err != nil {
		return sample, err
	}
	generator := exec.CommandContext(ctx, self, loadArgument)
	generator.Env = append(os.Environ(), "GOMAXPROCS=1")
	generator.Stdin = bytes.NewReader(text)
	var stderr bytes.Buffer
	generator.Stderr = &stderr
	generator.WaitDelay = time.Second
	out, err := generator.Output()
	if err != nil {
		return sample, fmt.Errorf("load: %w\n%s", err, stderr.String())
	}
	return sample, json.Unmarshal(out, &sample)
}

// beLoad is the program as a load generator. Keys come in an order that is random and
// the same each time.
func beLoad(in io.Reader, out io.Writer) error {
	var order Order
	if err := json.NewDecoder(in).Decode(&order); err != nil {
		return fmt.Errorf("%s: %w", loadArgument, err)
	}
	objects := Objects{size: order.Size, keys: order.Keys}
	keys := rand.New(rand.NewPCG(1, 2))
	var request []byte
	took, wall, err := pace.Closed{
		Address: order.Address, Connections: order.Connections, Span: order.Span,
		Request: func() []byte {
			request = strconv.AppendInt(append(request[:0], order.Before...), int64(keys.IntN(order.Keys)), 10)
			request = append(request, order.After...)
			return request
		},
		Answer: objects.whole,
	}.Run()
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(Sample{Requests: int64(len(took)), Wall: wall, P50: quantile(took, 0.50).Round(time.Microsecond), P99: quantile(took, 0.99).Round(time.Microsecond)})
}
