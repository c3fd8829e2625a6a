package main

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestParseWrk(t *testing.T) {
	result := `RESULT {"requests":5000,"micros":2000000,"p50":900,"p99":4100,"connect":0,"read":0,"write":0,"status":0,"timeout":0}`
	got, err := parseWrk("Running 2s test\n" + result + "\n")
	want := Sample{Requests: 5000, Wall: 2 * time.Second, P50: 900 * time.Microsecond, P99: 4100 * time.Microsecond}
	if err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	for _, bad := range []string{
		"unable to connect",
		"RESULT {",
		strings.Replace(result, `"status":0`, `"status":1`, 1),
		strings.Replace(result, `"read":0`, `"read":3`, 1),
	} {
		if got, err := parseWrk(bad); err == nil {
			t.Errorf("%q read as %+v", bad, got)
		}
	}
}

func TestRender(t *testing.T) {
	row := func(peer string, fetched int64, perCPU ...int64) Row {
		row := Row{Peer: peer}
		for _, n := range perCPU {
			row.Samples = append(row.Samples, Sample{Requests: n, CPU: time.Second, Wall: 2 * time.Second,
				P50: time.Millisecond, P99: 3 * time.Millisecond, Fetched: fetched})
		}
		return row
	}
	table := Table{Work: works[0], Rows: []Row{row("nginx", 0, 900, 1000, 4000), row("edge", 0, 100, 750, 800), row("other", 2, 500, 500, 500)}}
	text := render(options{rounds: 3, duration: 5 * time.Second}, []Table{table}, []string{"varnish"})
	for _, want := range []string{
		"Not installed, skipped: varnish.\n",
		"hit, 1 KiB, minimal head, 64 connections:\n",
		"| nginx | 1000 | 1.00 | 500 | 50% | 1ms | 3ms |  |\n",
		"| edge | 750 | 0.75 | 375 | 50% | 1ms | 3ms |  |\n",
		"| other | 500 | 0.50 | 250 | 50% | 1ms | 3ms | not all hits: 6 requests reached the origin |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the table lacks %q:\n%s", want, text)
		}
	}
}

func TestMedianOfAnEvenNumber(t *testing.T) {
	samples := []Sample{{Requests: 4}, {Requests: 1}, {Requests: 3}, {Requests: 2}}
	if got := median(samples, func(s Sample) int64 { return s.Requests }); got != 2 {
		t.Errorf("%d, want the lower middle one", got)
	}
}

// A peer that answers quickly with the wrong thing must not be measured.
func TestWarmRefusesWrongAnswers(t *testing.T) {
	lab, err := openLab(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.close(); err != nil {
			t.Error(err)
		}
	})
	right := Work{Size: 10, Keys: 40, Headers: browser}
	if err := warm(t.Context(), &Server{Address: lab.Origin}, right); err != nil {
		t.Error(err)
	}
	if got := lab.fetched.Load(); got != 80 {
		t.Errorf("%d requests, want each of 40 keys twice", got)
	}

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	short := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("short")) })}
	served := make(chan error, 1)
	go func() { served <- short.Serve(listener) }()
	t.Cleanup(func() { short.Close(); <-served })
	if err := warm(t.Context(), &Server{Address: listener.Addr().String()}, right); err == nil {
		t.Error("a body of the wrong length was accepted")
	}
}
