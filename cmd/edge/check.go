package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"edge/cmd/internal/node"
	"edge/config"
)

func newCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Check a configuration file",
		Long: `Check a configuration file as run would, without running anything.

Findings go to stderr, each with its place and the line of the file; secrets in it
are not shown. A file that run would take gives a summary on stdout and the exit
code 0, warnings or not; one that run would refuse gives the exit code 1. The
environment, and the files that the configuration names, are read as run does.`,
		Example: `  edge check edge.hcl`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := config.Load(args[0])
			if err != nil {
				return &failure{err}
			}
			// What the parts of a node find out by themselves, as run would tell it.
			if _, err := node.New(cfg, nil); err != nil {
				return &failure{err}
			}
			for _, warning := range cfg.Warnings {
				fmt.Fprint(cmd.ErrOrStderr(), warning.Text)
			}
			summarise(cmd.OutOrStdout(), args[0], cfg)
			return nil
		},
	}
}

func summarise(w io.Writer, file string, cfg *config.Config) {
	routes := 0
	for _, site := range cfg.Sites {
		routes += len(site.Routes)
	}
	fmt.Fprintf(w, "%s: ok, %s, %s, %s", file,
		count(len(cfg.Sites), "site"), count(routes, "route"), count(len(cfg.Origins), "origin"))
	if n := len(cfg.Warnings); n > 0 {
		fmt.Fprintf(w, ", %s", count(n, "warning"))
	}
	fmt.Fprintln(w)
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
