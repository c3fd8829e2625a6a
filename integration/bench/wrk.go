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
)

// askWithWrk has wrk make the load. Any answer that is not a 200 is an error, and so are
// connections that the server did not keep: wrk makes new ones without a word.
func askWithWrk(ctx context.Context, b *Bench, address string, o Objects, connections int) (Sample, error) {
	script := filepath.Join(b.lab.Dir, "work.lua")
	if err := os.WriteFile(script, []byte(luaScript(o, address)), 0o600); err != nil {
		return Sample{}, err
	}
	wrk := exec.CommandContext(ctx, "wrk",
		"--threads", "1", "--connections", strconv.Itoa(connections),
		"--duration", strconv.Itoa(int(b.duration.Seconds()))+"s", "--timeout", "10s",
		"--script", script, "http://"+address+"/")
	wrk.WaitDelay = time.Second
	closed, err := closedByServer(address)
	if err != nil {
		return Sample{}, err
	}
	out, err := wrk.CombinedOutput()
	if err != nil {
		return Sample{}, fmt.Errorf("wrk: %w\n%s", err, out)
	}
	sample, err := parseWrk(string(out))
	if err != nil {
		return sample, err
	}
	now, err := closedByServer(address)
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
