package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"edge/config"
)

// Exit codes, as the manual in main.go gives them.
const (
	exitFailed     = 1
	exitUsage      = 2
	exitIncomplete = 3
)

// failure is an error of what a command did, as opposed to how it was called.
type failure struct{ err error }

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// execute runs the command line and returns the exit code.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	var refused *config.Error
	if errors.As(err, &refused) {
		// The findings say it all; should stderr be gone, so does the exit code.
		_, _ = refused.WriteTo(stderr)
		return exitFailed
	}
	fmt.Fprintf(stderr, "edge: %v\n", err)
	if failed := new(failure); errors.As(err, &failed) {
		if hint := hint(err); hint != "" {
			fmt.Fprintln(stderr, hint)
		}
		return exitFailed
	}
	if errors.Is(err, errIncomplete) {
		return exitIncomplete
	}
	fmt.Fprintf(stderr, "See '%s --help'.\n", command.CommandPath())
	return exitUsage
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "edge",
		Short: "A caching reverse proxy",
		Long: `edge is a shared HTTP cache (RFC 9111) that runs in front of HTTP origins.

Exit codes: 0 all went well, 1 the configuration is refused, the node cannot run or
a purge failed, 2 the command line makes no sense, 3 a purge is recorded and not
complete.`,
		Example: `  edge run --origin http://127.0.0.1:3000
  edge run --config edge.hcl
  edge check edge.hcl
  edge purge --key product-42`,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("a command is needed: run, check, purge or version")
		},
	}
	root.AddCommand(newRun(), newCheck(), newPurge(), newVersion())
	root.CompletionOptions.HiddenDefaultCmd = true
	return root
}
