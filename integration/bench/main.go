// Command bench measures the edge binary side by side with other caches on one
// machine and prints a Markdown table. README.md tells how the figures are taken.
//
//	go run ./integration/bench                       every work, every peer that is installed
//	go run ./integration/bench -work '1 KiB' -o FILE works whose name matches, table to a file as well
//
// It needs two cores, taskset, wrk and, to compare with, nginx.
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
	"regexp"
	"runtime"
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
	output   string
}

func main() {
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
	var match string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 3, "rounds; the table shows medians over them")
	flags.DurationVar(&o.duration, "duration", 5*time.Second, "how long each work loads each peer in a round, in whole seconds")
	flags.StringVar(&match, "work", "", "only works whose name matches this `expression`")
	flags.StringVar(&o.output, "o", "", "write the table to `file` as well")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	name, err := regexp.Compile(match)
	if err != nil {
		return o, fmt.Errorf("-work: %w", err)
	}
	for _, work := range works {
		if name.MatchString(work.Name) {
			o.works = append(o.works, work)
		}
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.rounds < 1:
		return o, errors.New("-rounds below 1")
	case o.duration < time.Second || o.duration%time.Second != 0:
		return o, errors.New("-duration must be whole seconds, at least one")
	case len(o.works) == 0:
		return o, fmt.Errorf("no work matches %q", match)
	}
	return o, nil
}

func run(ctx context.Context, o options) (err error) {
	if err := equipped(); err != nil {
		return err
	}
	lab, err := openLab(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.close()) }()

	runners, skipped, err := startPeers(ctx, lab)
	defer func() { err = errors.Join(err, stopPeers(runners)) }()
	if err != nil {
		return err
	}
	// This process is also the origin, and what it starts later makes the load.
	if err := process.PinSelf(ctx, loadCore); err != nil {
		return err
	}
	var tables []Table
	for _, work := range o.works {
		table, err := measure(ctx, lab, o, work, runners)
		if err != nil {
			return fmt.Errorf("%s: %w", work.Name, err)
		}
		tables = append(tables, table)
	}
	return write(o, tables, skipped)
}

// equipped names what is missing before any time is spent.
func equipped() error {
	if runtime.NumCPU() < 2 {
		return errors.New("needs two cores: one for the server, one for the load")
	}
	var missing []string
	for program, pack := range map[string]string{"wrk": "wrk", "taskset": "util-linux"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, fmt.Sprintf("%s (Debian: apt-get install %s)", program, pack))
		}
	}
	if len(missing) > 0 {
		return errors.New("not installed: " + strings.Join(missing, ", "))
	}
	return nil
}

// measure warms every peer and then loads one after the other, round by round, in
// turning order, so that what else happens on the machine falls on all alike.
func measure(ctx context.Context, lab *Lab, o options, work Work, runners []Runner) (Table, error) {
	table := Table{Work: work, Rows: make([]Row, len(runners))}
	for i, runner := range runners {
		table.Rows[i].Peer = runner.Name
		if err := warm(ctx, runner.Server, work); err != nil {
			return table, fmt.Errorf("warm %s: %w\n%s", runner.Name, err, runner.Tail())
		}
	}
	for round := range o.rounds {
		for turn := range runners {
			i := (turn + round) % len(runners)
			sample, err := load(ctx, lab, runners[i].Server, work, o.duration)
			if err != nil {
				return table, fmt.Errorf("load %s: %w", runners[i].Name, err)
			}
			fmt.Fprintf(os.Stderr, "%s, round %d, %s: %v\n", work.Name, round+1, runners[i].Name, sample)
			table.Rows[i].Samples = append(table.Rows[i].Samples, sample)
		}
	}
	return table, nil
}

func write(o options, tables []Table, skipped []string) error {
	text := render(o, tables, skipped)
	if _, err := io.WriteString(os.Stdout, text); err != nil || o.output == "" {
		return err
	}
	return os.WriteFile(o.output, []byte(text), 0o644)
}
