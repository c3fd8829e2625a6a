package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

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

// load has wrk ask the server for the work's objects and reads the server's CPU
// time before and after. Any answer that is not a 200 is an error.
func load(ctx context.Context, lab *Lab, server *Server, work Work, duration time.Duration) (Sample, error) {
	script := filepath.Join(lab.Dir, "work.lua")
	if err := os.WriteFile(script, []byte(luaScript(work)), 0o600); err != nil {
		return Sample{}, err
	}
	wrk := exec.CommandContext(ctx, "taskset", "-c", loadCore, "wrk",
		"--threads", "1", "--connections", strconv.Itoa(work.Connections),
		"--duration", strconv.Itoa(int(duration.Seconds()))+"s", "--timeout", "10s",
		"--script", script, "http://"+server.Address+work.path(0))
	wrk.WaitDelay = time.Second

	fetched := lab.fetched.Load()
	before, err := process.CPUTime(server.PID())
	if err != nil {
		return Sample{}, err
	}
	out, err := wrk.CombinedOutput()
	if err != nil {
		return Sample{}, fmt.Errorf("wrk: %w\n%s", err, out)
	}
	after, err := process.CPUTime(server.PID())
	if err != nil {
		return Sample{}, err
	}
	sample, err := parseWrk(string(out))
	sample.CPU = after - before
	sample.Fetched = lab.fetched.Load() - fetched
	if err == nil && (sample.Requests == 0 || sample.CPU <= 0) {
		err = fmt.Errorf("no requests, or no CPU time seen: %+v", sample)
	}
	return sample, err
}

// luaScript makes wrk send the work's requests, built once, and print one line of
// JSON at the end. The keys come in an order that is random and the same each time.
func luaScript(work Work) string {
	var b strings.Builder
	for _, header := range work.Headers {
		fmt.Fprintf(&b, "wrk.headers[%s] = %s\n", luaString(header.Name), luaString(header.Value))
	}
	if work.Keys > 1 {
		fmt.Fprintf(&b, `
local requests = {}
init = function(args)
  math.randomseed(1)
  for key = 0, %d do requests[key + 1] = wrk.format("GET", string.format("/%d/%%d", key)) end
end
request = function() return requests[math.random(#requests)] end
`, work.Keys-1, work.Size)
	}
	b.WriteString(`
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('RESULT {"requests":%d,"micros":%d,"p50":%d,"p99":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect, e.read, e.write, e.status, e.timeout))
end
`)
	return b.String()
}

// luaString quotes text as Lua does. What the works hold needs no other escapes.
func luaString(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

// parseWrk finds the line of JSON in what wrk printed.
func parseWrk(output string) (Sample, error) {
	_, line, found := strings.Cut(output, "RESULT ")
	if !found {
		return Sample{}, fmt.Errorf("wrk printed no result:\n%s", output)
	}
	var r struct {
		Requests, Micros, P50, P99            int64
		Connect, Read, Write, Status, Timeout int64
	}
	if err := json.NewDecoder(strings.NewReader(line)).Decode(&r); err != nil {
		return Sample{}, fmt.Errorf("wrk's result: %w:\n%s", err, output)
	}
	if r.Connect+r.Read+r.Write+r.Status+r.Timeout > 0 {
		return Sample{}, fmt.Errorf("failed requests: %s", line)
	}
	return Sample{
		Requests: r.Requests,
		Wall:     time.Duration(r.Micros) * time.Microsecond,
		P50:      time.Duration(r.P50) * time.Microsecond,
		P99:      time.Duration(r.P99) * time.Microsecond,
	}, nil
}
