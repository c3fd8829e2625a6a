// Command conformance runs the public HTTP cache test suite (npm package
// http-cache-tests, pinned in package.json) against the edge binary, under both
// named policies, and writes the outcome to RESULTS.md beside it.
//
//	go run ./integration/conformance                     both policies, writes RESULTS.md
//	go run ./integration/conformance -policy rfc         one policy, printed only
//	go run ./integration/conformance -id ID              one test, with all it sends and receives
//	go run ./integration/conformance -suite DIR          another copy of the suite, printed only
//	go run ./integration/conformance -edge URL -port N   a proxy that already runs, in front of 127.0.0.1:N
//
// Each failed test must have its reason in explanations.json, and each reason a
// failed test; otherwise the run exits with 1. It needs Node and, once, npm.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"edge/integration/bench/process"
)

// policies are the named policies of `edge run --policy`, in the report's order.
var policies = []string{"safe", "rfc"}

type options struct {
	suite   string
	edge    string
	port    int
	ids     []string
	policy  string
	output  string
	timeout time.Duration
}

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	var ids string
	flags := flag.NewFlagSet("conformance", flag.ContinueOnError)
	flags.StringVar(&o.suite, "suite", "", "`directory` of another copy of the suite, its npm packages installed")
	flags.StringVar(&o.edge, "edge", "", "`URL` of a running proxy to test in place of the edge binary")
	flags.IntVar(&o.port, "port", 8000, "port of the suite's origin server when -edge is given")
	flags.StringVar(&ids, "id", "", "run only these `tests`, separated by commas, and print what they exchange")
	flags.StringVar(&o.policy, "policy", "", "run only this `policy`: "+strings.Join(policies, " or "))
	flags.StringVar(&o.output, "o", "", "write the report to `file`; default RESULTS.md for a whole run of the pinned suite, else none")
	flags.DurationVar(&o.timeout, "timeout", 8*time.Minute, "bound on one run of the suite; tests without a result by then are untested")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if ids != "" {
		o.ids = strings.Split(ids, ",")
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.policy != "" && !slices.Contains(policies, o.policy):
		return o, fmt.Errorf("unknown policy %q: want %s", o.policy, strings.Join(policies, " or "))
	case o.policy != "" && o.edge != "":
		return o, errors.New("-policy is the edge binary's own: not with -edge")
	case o.timeout < time.Second:
		return o, errors.New("-timeout below one second")
	}
	return o, nil
}

// whole tells whether o is the run that RESULTS.md records.
func (o options) whole() bool {
	return o.suite == "" && o.edge == "" && o.policy == "" && len(o.ids) == 0
}

func run(ctx context.Context, o options) error {
	root, err := process.ModuleRoot(ctx)
	if err != nil {
		return err
	}
	home := filepath.Join(root, "integration", "conformance")
	work, err := os.MkdirTemp("", "edge-conformance-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)

	suite, err := openSuite(ctx, home, o.suite, work)
	if err != nil {
		return err
	}
	if len(o.ids) > 0 {
		if err := suite.narrow(o.ids); err != nil {
			return err
		}
	}
	columns, err := runAll(ctx, o, suite, work)
	if err != nil {
		return err
	}
	printSummary(os.Stdout, suite.Groups, columns)
	return conclude(o, home, suite.Groups, columns)
}

// runAll runs the suite once for each column of the report, at the same time: a
// run spends nearly all of it in the suite's pauses.
func runAll(ctx context.Context, o options, suite *Suite, work string) ([]Column, error) {
	if o.edge != "" {
		results, err := runProxy(ctx, o, suite)
		return []Column{{Name: o.edge, Verdicts: judge(suite.Groups, results)}}, err
	}
	binary, err := process.BuildEdge(ctx, work)
	if err != nil {
		return nil, err
	}
	names := policies
	if o.policy != "" {
		names = []string{o.policy}
	}
	columns := make([]Column, len(names))
	failures := make([]error, len(names))
	var wg sync.WaitGroup
	for i, policy := range names {
		wg.Go(func() {
			results, err := runEdge(ctx, o, suite, binary, policy)
			columns[i] = Column{Name: policy, Verdicts: judge(suite.Groups, results)}
			failures[i] = err
		})
	}
	wg.Wait()
	return columns, errors.Join(failures...)
}

// runProxy tests a proxy that somebody else started.
func runProxy(ctx context.Context, o options, suite *Suite) (_ map[string]Result, err error) {
	origin, err := suite.startOrigin(ctx, o.port, o.log())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, origin.Stop()) }()
	return suite.run(ctx, strings.TrimSuffix(o.edge, "/"), o.timeout, o.ids)
}

// runEdge tests the edge binary under one policy, with an origin of its own.
func runEdge(ctx context.Context, o options, suite *Suite, binary, policy string) (_ map[string]Result, err error) {
	origin, err := suite.startOrigin(ctx, 0, o.log())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, origin.Stop()) }()
	edge, err := process.StartEdge(ctx, []string{binary}, []string{
		"--origin", "http://" + origin.Address, "--policy", policy,
		"--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
	}, nil, o.log())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, edge.Stop()) }()
	results, err := suite.run(ctx, "http://"+edge.Address, o.timeout, o.ids)
	if err == nil && !edge.Alive() {
		err = fmt.Errorf("the edge node did not outlive the run under policy %s", policy)
	}
	return results, err
}

// log is where the programs' own output goes: shown only for single tests, since
// a whole run writes thousands of lines.
func (o options) log() io.Writer {
	if len(o.ids) == 0 {
		return nil
	}
	return os.Stderr
}

// conclude writes the report, and fails when it and the explanations disagree.
func conclude(o options, home string, groups []Group, columns []Column) error {
	var explanations Explanations
	var problems error
	if o.suite == "" && o.edge == "" && len(o.ids) == 0 {
		var err error
		if explanations, err = loadExplanations(filepath.Join(home, "explanations.json")); err != nil {
			return err
		}
		problems = explanations.check(groups, columns)
	}
	output := o.output
	if output == "" && o.whole() {
		output = filepath.Join(home, "RESULTS.md")
	}
	if output != "" {
		if err := os.WriteFile(output, report(groups, columns, explanations), 0o644); err != nil {
			return err
		}
		fmt.Println("written to", output)
	}
	return problems
}
