// Command fleet measures what purges cost and how a fleet of edge nodes takes the
// troubles of its Redis, on one machine over loopback, and prints Markdown tables.
// ../README.md tells how the figures are taken.
//
//	go run ./integration/bench/fleet                    every work, some six minutes
//	go run ./integration/bench/fleet -work collapse     works whose name matches
//	go run ./integration/bench/fleet -quick             a short form, not for figures
//
// It needs two cores, taskset and redis-server. It ends all that it starts, and
// nothing else.
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

// Where a work pins its processes, the node has a core of its own, and everything
// else shares the other one. Elsewhere all share both.
const (
	serverCore = "0"
	loadCore   = "1"
	bothCores  = "0,1"
)

// Work is one thing that is measured.
type Work struct {
	Name   string
	Pinned bool // one node, on serverCore; this process runs on loadCore
	Run    func(context.Context, *Lab) (Table, error)
}

// works is what is measured, in the order of the report.
var works = []Work{
	{Name: "purge", Pinned: true, Run: purgeWork},
	{Name: "receipts", Run: receiptsWork},
	{Name: "trouble", Run: troubleWork},
	{Name: "collapse", Pinned: true, Run: collapseWork},
}

type options struct {
	works  []Work
	rounds int
	quick  bool
	output string
}

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	o := options{}
	var match string
	flags := flag.NewFlagSet("fleet", flag.ContinueOnError)
	flags.StringVar(&match, "work", "", "only works whose name matches this `expression`: purge, receipts, trouble, collapse")
	flags.IntVar(&o.rounds, "rounds", 5, "rounds of a work; the tables show medians over them")
	flags.BoolVar(&o.quick, "quick", false, "one small round of each, less than a minute: shows that it runs, not how well")
	flags.StringVar(&o.output, "o", "", "write the tables to `file` as well")
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
	case len(o.works) == 0:
		return o, fmt.Errorf("no work matches %q", match)
	}
	if o.quick {
		o.rounds = 1
	}
	return o, nil
}

func run(ctx context.Context, o options) (err error) {
	if err := equipped(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(process.MemoryDir(), "edge-fleet-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	binary, err := process.BuildEdge(ctx, dir)
	if err != nil {
		return err
	}
	var out strings.Builder
	if o.quick {
		out.WriteString("The short form: what follows shows that it runs, not how well.\n\n")
	}
	for _, work := range o.works {
		table, err := measure(ctx, o, work, dir, binary)
		if err != nil {
			return fmt.Errorf("%s: %w", work.Name, err)
		}
		if _, err := io.WriteString(os.Stdout, table.render()); err != nil {
			return err
		}
		out.WriteString(table.render())
	}
	if o.output == "" {
		return nil
	}
	return os.WriteFile(o.output, []byte(out.String()), 0o644)
}

// measure runs one work in a Lab of its own.
func measure(ctx context.Context, o options, work Work, dir, binary string) (table Table, err error) {
	lab := &Lab{Dir: dir, Binary: binary, Quick: o.quick, Rounds: o.rounds, nodeCores: bothCores}
	cores := bothCores
	runtime.GOMAXPROCS(2)
	if work.Pinned {
		cores, lab.nodeCores = loadCore, serverCore
		runtime.GOMAXPROCS(1) // two would wait for each other on one core
	}
	if err := process.PinSelf(ctx, cores); err != nil {
		return table, err
	}
	defer func() { err = errors.Join(err, lab.close()) }()
	began := time.Now()
	table, err = work.Run(ctx, lab)
	lab.say("%s took %v", work.Name, time.Since(began).Round(time.Second))
	return table, err
}

// equipped names what is missing before any time is spent.
func equipped() error {
	if runtime.NumCPU() < 2 {
		return errors.New("needs two cores: one for the node, one for the load")
	}
	var missing []string
	for _, need := range [][2]string{{"redis-server", "redis-server"}, {"taskset", "util-linux"}} {
		if _, err := exec.LookPath(need[0]); err != nil {
			missing = append(missing, fmt.Sprintf("%s (Debian: apt-get install %s)", need[0], need[1]))
		}
	}
	if len(missing) > 0 {
		return errors.New("not installed: " + strings.Join(missing, ", "))
	}
	return nil
}
