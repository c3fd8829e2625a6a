package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMain lets this program be a load generator, as the benchmark's is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == loadArgument {
		main()
		return
	}
	os.Exit(m.Run())
}

// A load generator keeps all its connections busy, and takes nothing but what was asked
// for.
func TestGenerate(t *testing.T) {
	asked := make(map[string]int)
	var mu sync.Mutex // guards asked
	server := serve(t, func(conn net.Conn, in *bufio.Reader) {
		for {
			target, _, err := readRequest(in)
			if err != nil {
				return
			}
			mu.Lock()
			asked[string(target)]++
			mu.Unlock()
			io.WriteString(conn, whole[:20]) // in two pieces
			io.WriteString(conn, whole[20:])
		}
	})
	objects := Objects{size: 10, keys: 3, headers: browser}
	order := Order{Address: server.Address, Connections: 8, Span: time.Second, Before: objects.before(), After: objects.after(server.Address), Keys: 3, Size: 10}
	got, err := generate(t.Context(), order)
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	total := 0
	for _, n := range asked {
		total += n
	}
	if int64(total) != got.Requests || len(asked) != 3 || got.Wall < time.Second || got.P50 <= 0 || got.P99 < got.P50 {
		t.Errorf("%+v; the server had %v", got, asked)
	}
	mu.Unlock()
	for what, bad := range map[string]Runner{
		"long bodies":          fake(t, 1<<30, whole+"x"),
		"errors":               fake(t, 1<<30, strings.Replace(whole, "200", "500", 1)),
		"connections that end": fake(t, 100, whole),
	} {
		order.Address = bad.Address
		if got, err := generate(t.Context(), order); err == nil {
			t.Errorf("%s: %+v", what, got)
		}
	}
}

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

func TestTheTableOfHits(t *testing.T) {
	samples := func(fetched int64, perCPU ...int64) (all []Sample) {
		for _, n := range perCPU {
			all = append(all, Sample{Requests: n, CPU: time.Second, Wall: 2 * time.Second,
				P50: time.Millisecond, P99: 3 * time.Millisecond, Fetched: fetched})
		}
		return all
	}
	hits := Hits{name: "hits", objects: Objects{size: kib, keys: 20}, connections: 64}
	table := hits.table([]row{
		{peer: "nginx", samples: samples(0, 900, 1000, 4000), single: samples(0, 2000, 2000, 2000)},
		{peer: "edge", samples: samples(0, 100, 750, 800), single: samples(0, 750, 750, 750)},
		{peer: "other", samples: samples(2, 500, 500, 500), single: samples(0, 500, 500, 500)},
	})
	table.Notes = append(table.Notes, "last is left out: why")
	text := render(options{rounds: 3, duration: 5 * time.Second}, []Table{table}, []string{"varnish"})
	for _, want := range []string{
		"Not installed, skipped: varnish.\n",
		"hits, 64 connections:\n\n| peer | requests per CPU-second | of nginx | with one key | of that |",
		"\n| --- | ---: |",
		"| nginx | 1000 | 1.00 | 2000 | 0.50 | 500 | 50% | 1ms | 3ms |\n",
		"| edge | 750 | 0.75 | 750 | 1.00 | 375 | 50% | 1ms | 3ms |\n",
		"| other | 500 | 0.50 | 500 | 1.00 | 250 | 50% | 1ms | 3ms |\n\n- other had not all hits: 6 of 1500 requests reached the origin\n",
		"- last is left out: why\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the table lacks %q:\n%s", want, text)
		}
	}
	hits.objects.pass = true
	if got := hits.strayed(row{peer: "other", samples: samples(2, 500)}); !strings.Contains(got, "2 of 500") {
		t.Errorf("a cache that answered what is to be passed: %q", got)
	}
}

func TestMedianOfAnEvenNumber(t *testing.T) {
	if got := median([]int{4, 1, 3, 2}, func(n int) int { return n }); got != 2 {
		t.Errorf("%d, want the lower middle one", got)
	}
}

func TestParse(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o, err := parse([]string{"-edge", self, "-edge", "new=" + self, "-peers", "^h", "-work", "1 MiB"})
	if err != nil {
		t.Fatal(err)
	}
	if len(o.peers) != 1 || o.peers[0].Name != "haproxy" || len(o.works) != 1 || o.works[0].Name() != "hit, 1 MiB" {
		t.Errorf("peers %v, works %v", o.peers, o.works)
	}
	if want := []Build{{"edge", self}, {"new", self}}; !slices.Equal(o.builds, want) {
		t.Errorf("builds %v, want %v", o.builds, want)
	}
	for _, bad := range [][]string{
		{"-edge", self, "-edge", "edge=" + self},
		{"-edge", "nginx=" + self},
		{"-edge", "new=" + self + ".missing"},
		{"-work", "none is called so"},
		{"-duration", "1500ms"},
		{"-rounds", "0"},
	} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestCountTimeWait(t *testing.T) {
	table := `  sl  local_address rem_address   st tx_queue
   0: 0100007F:1F90 00000000:0000 0A 0
   1: 0100007F:1F90 0100007F:C001 06 0
   2: 0100007F:1F90 0100007F:C002 01 0
   3: 0100007F:C003 0100007F:1F90 06 0
`
	if got := countTimeWait(table, netip.MustParseAddrPort("127.0.0.1:8080")); got != 1 {
		t.Errorf("%d connections closed by the server, want 1", got)
	}
}

func openTestLab(t *testing.T) *Lab {
	lab, err := openLab(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.close(); err != nil {
			t.Error(err)
		}
	})
	return lab
}

// serve runs a server for the length of the test.
func serve(t *testing.T, handle func(net.Conn, *bufio.Reader)) Runner {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				handle(conn, bufio.NewReader(conn))
			})
		}
	})
	t.Cleanup(func() { listener.Close(); serving.Wait() })
	return Runner{Server: &Server{Address: listener.Addr().String()}}
}

// fake is a server that answers each request of a connection alike, for so long.
func fake(t *testing.T, answers int, answer string) Runner {
	return serve(t, func(conn net.Conn, in *bufio.Reader) {
		for range answers {
			if _, _, err := readRequest(in); err != nil {
				return
			}
			io.WriteString(conn, answer)
		}
	})
}

// A peer that answers quickly with the wrong thing must not be measured.
func TestWarmRefusesWrongAnswers(t *testing.T) {
	lab := openTestLab(t)
	objects := Objects{size: 10, keys: 40, headers: browser}
	if err := warm(t.Context(), lab, fake(t, 1<<30, whole), objects); err != nil {
		t.Errorf("a cache: %v", err)
	}
	passing := objects
	passing.pass = true
	origin := Runner{Server: &Server{Address: lab.Origin}}
	if err := warm(t.Context(), lab, origin, passing); err != nil {
		t.Errorf("no cache, where none is wanted: %v", err)
	}
	var kept errKept
	if err := warm(t.Context(), lab, origin, objects); !errors.As(err, &kept) {
		t.Errorf("no cache: %v", err)
	}
	if err := warm(t.Context(), lab, fake(t, 1<<30, whole), passing); !errors.As(err, &kept) {
		t.Errorf("a cache, where none is wanted: %v", err)
	}
	for what, bad := range map[string]Runner{
		"short bodies":         fake(t, 1<<30, strings.Replace(whole, "10\r", "9\r", 1)),
		"errors":               fake(t, 1<<30, strings.Replace(whole, "200", "500", 1)),
		"connections that end": fake(t, 1000, whole),
	} {
		if err := warm(t.Context(), lab, bad, objects); err == nil || errors.As(err, &kept) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

const whole = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789"

// Requests are due whether or not answers keep up, and count from then.
func TestPaceCountsFromWhenRequestsAreDue(t *testing.T) {
	const stall = 300 * time.Millisecond
	server := serve(t, func(conn net.Conn, in *bufio.Reader) {
		for n := 0; ; n++ {
			if _, _, err := readRequest(in); err != nil {
				return
			}
			if n == 0 {
				time.Sleep(stall)
			}
			io.WriteString(conn, whole)
		}
	})
	pace := paceOf(server.Address, Objects{size: 10, keys: 1}, 1, 200, stall)
	took, err := pace.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(took) < 30 || len(took) > 90 {
		t.Errorf("%d requests in %v, want about 60", len(took), stall)
	}
	var times []time.Duration
	for _, s := range took {
		times = append(times, s.Took)
	}
	if p50 := quantile(times, 0.5); p50 < stall/10 {
		t.Errorf("half of the requests were answered within %v though all had to wait for the first", p50)
	}
	pace = paceOf(server.Address, Objects{size: 9, keys: 1}, 1, 200, stall)
	if _, err := pace.Run(t.Context()); err == nil {
		t.Error("a longer answer was taken")
	}
}

// Slow clients go on until they are cut, and it is noted of each kind when that was.
func TestDripsNoteTheirCuts(t *testing.T) {
	const short, long = 100 * time.Millisecond, 200 * time.Millisecond
	server := serve(t, func(conn net.Conn, in *bufio.Reader) {
		for {
			conn.SetReadDeadline(time.Time{})
			in.Peek(1) // what is wrong shows below
			conn.SetReadDeadline(time.Now().Add(short))
			_, length, err := readRequest(in)
			if err != nil {
				return
			}
			if length == 0 {
				io.WriteString(conn, whole)
				continue
			}
			conn.SetReadDeadline(time.Now().Add(long))
			if _, err := io.CopyN(io.Discard, in, length); err != nil {
				return
			}
		}
	})
	drips := &Drips{kinds: slowKinds(server.Address), number: 5, every: 100 * time.Millisecond}
	pace := paceOf(server.Address, Objects{size: 10, keys: 1}, 1, 1000, time.Second)
	pace.Beside = drips
	if _, err := pace.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for kind, deadline := range []time.Duration{short, long} {
		cuts := drips.cuts[kind]
		if n := len(cuts); n == 0 || n > 5 { // a busy machine may have cut fewer by the end
			t.Errorf("%s: %d cuts of 5 connections", drips.kinds[kind].name, n)
		}
		if len(cuts) > 0 && slices.Min(cuts) < deadline {
			t.Errorf("%s: cut after %v, before the deadline", drips.kinds[kind].name, slices.Min(cuts))
		}
	}
	// A sink takes the same, and cuts nobody.
	sink, err := openSink()
	if err != nil {
		t.Fatal(err)
	}
	defer sink.close()
	drips.sink = sink
	if took, err := pace.Run(t.Context()); err != nil || len(took) == 0 || len(drips.cuts[0])+len(drips.cuts[1]) != 0 {
		t.Errorf("%d answers beside clients of a sink, %d of which were cut; %v", len(took), len(drips.cuts[0])+len(drips.cuts[1]), err)
	}
}

func TestTellCuts(t *testing.T) {
	for want, cuts := range map[string][]time.Duration{
		"none within 14s":      nil,
		"4.0 to 4.2 s":         {4200 * time.Millisecond, 4 * time.Second},
		"4.0 to 4.0 s, 1 of 2": {4 * time.Second},
	} {
		if got := tellCuts(cuts, 2, 14*time.Second); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestTheOriginReadsBodies(t *testing.T) {
	lab := openTestLab(t)
	conn, err := dial(t.Context(), lab.Origin)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.close()
	post := "POST /pass/5/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nGET"
	if err := conn.ask([]byte(post+post), 2, 5); err != nil {
		t.Error(err)
	}
	if got := lab.fetched.Load(); got != 2 {
		t.Errorf("%d requests counted", got)
	}
}
