// Command bench measures the edge binary side by side with other caches on one
// machine and prints Markdown tables. README.md tells how the figures are taken.
//
//	go run ./integration/bench                        every work, every peer that is installed
//	go run ./integration/bench -work '1 KiB' -o FILE  works whose name matches, tables to a file as well
//	go run ./integration/bench -edge old=FILE -edge new=FILE -peers '^$'
//	                                                  two builds of edge beside one another, and no other cache
//
// It needs two cores and taskset; to compare with, nginx, haproxy, varnishd and
// traffic_server.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"edge/integration/bench/process"
)

// The server has a core of its own; everything else shares the other one, so
// that a load generator that is short of time never takes it from the server.
const (
	serverCore = "0"
	loadCore   = "1"
)

type options struct {
	rounds   int
	duration time.Duration
	works    []Work
	peers    []Peer // beside the builds of edge
	builds   []Build
	output   string
	profiles string // directory, "" for none
	wrk      bool   // has wrk make the load of closed loops
}

// Build is a binary of edge to be measured.
type Build struct {
	Name   string
	Binary string
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == floorArgument {
		fmt.Fprintln(os.Stderr, "bench:", beFloor(os.Args[2:]))
		os.Exit(1)
	}
	if len(os.Args) > 1 && os.Args[1] == loadArgument {
		if err := beLoad(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	o := options{}
	var ofWorks, ofPeers string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 3, "rounds; the tables show medians over them")
	flags.DurationVar(&o.duration, "duration", 5*time.Second, "how long each work loads each peer in a round, in whole seconds")
	flags.StringVar(&ofWorks, "work", "", "only works whose name matches this `expression`")
	flags.StringVar(&ofPeers, "peers", "", "beside edge, only caches whose name matches this `expression`; '^$' is none")
	flags.StringVar(&o.output, "o", "", "write the tables to `file` as well")
	flags.StringVar(&o.profiles, "profile", "", "after its rounds, load edge once more and write its CPU profile into this `directory`")
	flags.BoolVar(&o.wrk, "wrk", false, "have wrk make the load of closed loops: a check of the generator that comes with this program")
	flags.Func("edge", "measure this `[name=]binary` of edge instead of the checkout's; may be given several times", func(value string) error {
		build, err := parseBuild(value)
		o.builds = append(o.builds, build)
		return err
	})
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	work, err := regexp.Compile(ofWorks)
	if err != nil {
		return o, fmt.Errorf("-work: %w", err)
	}
	peer, err := regexp.Compile(ofPeers)
	if err != nil {
		return o, fmt.Errorf("-peers: %w", err)
	}
	o.works = slices.DeleteFunc(slices.Clone(works), func(w Work) bool { return !work.MatchString(w.Name()) })
	o.peers = slices.DeleteFunc(slices.Clone(peers), func(p Peer) bool { return !peer.MatchString(p.Name) })
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.rounds < 1:
		return o, errors.New("-rounds below 1")
	case o.duration < time.Second || o.duration%time.Second != 0:
		return o, errors.New("-duration must be whole seconds, at least one")
	case len(o.works) == 0:
		return o, fmt.Errorf("no work matches %q", ofWorks)
	}
	names := map[string]bool{}
	for _, build := range o.builds {
		if names[build.Name] {
			return o, fmt.Errorf("-edge: two are named %q", build.Name)
		}
		names[build.Name] = true
	}
	return o, nil
}

// parseBuild reads NAME=FILE, or a file that is named edge.
func parseBuild(value string) (Build, error) {
	name, file, found := strings.Cut(value, "=")
	if !found {
		name, file = "edge", value
	}
	if name == "" || strings.ContainsAny(name, "/|") || slices.ContainsFunc(peers, func(p Peer) bool { return p.Name == name }) {
		return Build{}, fmt.Errorf("%q is no name for a build", name)
	}
	file, err := filepath.Abs(file)
	if err != nil {
		return Build{}, err
	}
	_, err = os.Stat(file)
	return Build{Name: name, Binary: file}, err
}

func run(ctx context.Context, o options) (err error) {
	if err := equipped(o.wrk); err != nil {
		return err
	}
	if o.profiles != "" {
		if err := os.MkdirAll(o.profiles, 0o755); err != nil {
			return err
		}
	}
	lab, err := openLab(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.close()) }()
	bench, err := prepare(ctx, o, lab)
	if err != nil {
		return err
	}
	// This process is also the origin, and what it starts later makes the load.
	if err := process.PinSelf(ctx, loadCore); err != nil {
		return err
	}
	var tables []Table
	for _, work := range o.works {
		measured, failed := bench.measure(ctx, work)
		tables = append(tables, measured...)
		if failed != nil { // what else there is to measure is not lost
			err = errors.Join(err, fmt.Errorf("%s: %w", work.Name(), failed))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(err, write(o, tables, bench.skipped))
}

// equipped names what is missing before any time is spent.
func equipped(wrk bool) error {
	if runtime.NumCPU() < 2 {
		return errors.New("needs two cores: one for the server, one for the load")
	}
	if _, err := exec.LookPath("taskset"); err != nil {
		return errors.New("not installed: taskset (Debian: apt-get install util-linux)")
	}
	if _, err := exec.LookPath("wrk"); err != nil && wrk {
		return errors.New("not installed: wrk (Debian: apt-get install wrk)")
	}
	return nil
}

func write(o options, tables []Table, skipped []string) error {
	text := render(o, tables, skipped)
	if _, err := io.WriteString(os.Stdout, text); err != nil || o.output == "" {
		return err
	}
	return os.WriteFile(o.output, []byte(text), 0o644)
}
