package process

import (
	"bytes"
	"context"
	"strings"
	"syscall"
	"testing"
)

func shell(t *testing.T, script string, ready func(string) bool) (*Process, error) {
	t.Helper()
	return Start(t.Context(), Command{Path: "/bin/sh", Args: []string{"-c", script}, Ready: ready})
}

func TestStartWaitsForTheReadyLine(t *testing.T) {
	p, err := shell(t, `echo starting; echo ready at 7 >&2; exec sleep 600`, func(line string) bool {
		return strings.HasPrefix(line, "ready at")
	})
	if err != nil {
		t.Fatal(err)
	}
	if tail := p.Tail(); tail != "starting\nready at 7" {
		t.Errorf("output kept: %q", tail)
	}
	if !p.Alive() {
		t.Error("not running after Start")
	}
	if err := p.Stop(); err != nil {
		t.Errorf("Stop of a program that dies of SIGTERM: %v", err)
	}
	if p.Alive() {
		t.Error("running after Stop")
	}
	if err := p.Stop(); err != nil {
		t.Errorf("second Stop: %v", err)
	}
}

func TestStartQuotesAProgramThatEndsEarly(t *testing.T) {
	_, err := shell(t, `echo no such origin >&2; exit 3`, func(string) bool { return false })
	if err == nil || !strings.Contains(err.Error(), "no such origin") {
		t.Fatalf("error %v does not quote the output", err)
	}
}

func TestStopTellsOfABadEnd(t *testing.T) {
	p, err := shell(t, `trap 'echo lost; exit 4' TERM; echo up; while :; do sleep 0.05; done`, func(line string) bool {
		return line == "up"
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(); err == nil || !strings.Contains(err.Error(), "lost") {
		t.Fatalf("Stop: %v, want the exit status and the output", err)
	}
}

func TestCancelEndsTheProgram(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p, err := Start(ctx, Command{Path: "/bin/sleep", Args: []string{"600"}})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := p.Wait(); err == nil {
		t.Fatal("a sleep of ten minutes ended by itself")
	}
}

func TestStartEdgeReadsItsAddresses(t *testing.T) {
	script := `echo '{"level":"WARN","msg":"origin does not answer"}' >&2
echo '{"msg":"ready","listen":["127.0.0.1:81"],"admin":"127.0.0.1:91"}' >&2
echo "$1 $2"; exec sleep 600`
	var log bytes.Buffer
	edge, err := StartEdge(t.Context(), []string{"/bin/sh", "-c", script, "edge"}, []string{"--policy=rfc"}, nil, &log)
	if err != nil {
		t.Fatal(err)
	}
	if edge.Address != "127.0.0.1:81" || edge.Admin != "127.0.0.1:91" {
		t.Errorf("addresses %q and %q", edge.Address, edge.Admin)
	}
	if err := edge.Stop(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "origin does not answer") {
		t.Errorf("log not passed on: %q", log.String())
	}
}

func TestKillEndsAStoppedProgram(t *testing.T) {
	p, err := shell(t, `echo up; exec sleep 600`, func(line string) bool { return line == "up" })
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.Kill()
	if p.Alive() {
		t.Error("running after Kill")
	}
	if err := p.Signal(syscall.SIGCONT); err == nil {
		t.Error("a signal reached a program that is gone")
	}
}
