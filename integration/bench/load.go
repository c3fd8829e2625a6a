package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
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

// load has wrk ask the server for the objects and reads the server's CPU time before
// and after. Any answer that is not a 200 is an error, and so are connections that the
// server did not keep: wrk makes new ones without a word.
func load(ctx context.Context, b *Bench, runner Runner, o Objects, connections int) (Sample, error) {
	script := filepath.Join(b.lab.Dir, "work.lua")
	if err := os.WriteFile(script, []byte(luaScript(o, runner.Address)), 0o600); err != nil {
		return Sample{}, err
	}
	wrk := exec.CommandContext(ctx, "taskset", "-c", loadCore, "wrk",
		"--threads", "1", "--connections", strconv.Itoa(connections),
		"--duration", strconv.Itoa(int(b.duration.Seconds()))+"s", "--timeout", "10s",
		"--script", script, "http://"+runner.Address+"/")
	wrk.WaitDelay = time.Second

	closed, err := closedByServer(runner.Address)
	if err != nil {
		return Sample{}, err
	}
	fetched := b.lab.fetched.Load()
	before, err := process.CPUTime(runner.PID())
	if err != nil {
		return Sample{}, err
	}
	out, err := wrk.CombinedOutput()
	if err != nil {
		return Sample{}, fmt.Errorf("wrk: %w\n%s", err, out)
	}
	after, err := process.CPUTime(runner.PID())
	if err != nil {
		return Sample{}, err
	}
	sample, err := parseWrk(string(out))
	if err != nil {
		return sample, err
	}
	sample.CPU = after - before
	sample.Fetched = b.lab.fetched.Load() - fetched
	if sample.Requests == 0 || sample.CPU <= 0 {
		return sample, fmt.Errorf("no requests, or no CPU time seen: %+v", sample)
	}
	now, err := closedByServer(runner.Address)
	if now -= closed; err == nil && now > connections {
		err = fmt.Errorf("the server has closed %d connections of %d", now, connections)
	}
	return sample, err
}

// closedByServer counts the connections that a server was the first to close, as far
// as the kernel still remembers them: those of the last minute.
func closedByServer(address string) (int, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return 0, err
	}
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return 0, err
	}
	return countTimeWait(string(table), at), nil
}

// countTimeWait counts the lines of /proc/net/tcp that are about connections of a
// local address in the state TIME_WAIT, which is 06. Addresses are in the byte order
// of the machine there, and only the port is looked at.
func countTimeWait(table string, at netip.AddrPort) int {
	port := fmt.Sprintf(":%04X", at.Port())
	n := 0
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) > 3 && strings.HasSuffix(fields[1], port) && fields[3] == "06" {
			n++
		}
	}
	return n
}

// luaScript makes wrk send the requests and print one line of JSON at the end. The
// keys come in an order that is random and the same each time.
func luaScript(o Objects, host string) string {
	var b strings.Builder
	before, after := luaString(o.before()), luaString(o.after(host))
	if o.keys > 1 {
		fmt.Fprintf(&b, `
local random = math.random
math.randomseed(1)
request = function() return %s .. random(0, %d) .. %s end
`, before, o.keys-1, after)
	} else { // without a function wrk sends what it has at hand
		fmt.Fprintf(&b, "\nwrk.format = function() return %s .. 0 .. %s end\n", before, after)
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

// luaString quotes text as Lua does. What is sent needs no other escapes.
func luaString(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\r", `\r`, "\n", `\n`).Replace(text) + `"`
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
