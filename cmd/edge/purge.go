package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"edge/purge"
)

// errIncomplete says that a purge is recorded, and that not every node has applied
// it yet.
var errIncomplete = errors.New("the purge is recorded, but not every node has applied it yet")

// overtime is what a node may take beyond the time that it was given to wait.
const overtime = 10 * time.Second

// purgeFlags is the command line of purge.
type purgeFlags struct {
	request         purge.Request
	wait            string
	admin, tokenEnv string
	json            bool
}

func newPurge() *cobra.Command {
	var flags purgeFlags
	cmd := &cobra.Command{
		Use:   "purge",
		Short: "Purge what a node, or a fleet, has stored",
		Long: `Purge what a node, or a fleet, has stored, through the admin listener of any node.

What is purged is selected by surrogate key, URL, prefix or host, each as often as
needed, or is everything. Once the purge is complete, no request gets it as it was.
A soft purge leaves it to be served stale while it is fetched anew, and when the
origin fails.

Exit codes: 0 the purge is complete (with --wait node: this node has applied it),
1 it was refused or failed, 2 the command line makes no sense, 3 it is recorded,
and when the timeout was over not every node had applied it.`,
		Example: `  edge purge --key product-42 --wait cluster
  edge purge --url http://www.example.com/products/42 --ignore-query
  edge purge --prefix http://www.example.com/products --soft
  EDGE_TOKEN=... edge purge --all --site shop --admin http://10.0.0.7:9090`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := flags.check(cmd.Flags())
			if err != nil {
				return err
			}
			return flags.run(cmd.Context(), client, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	q := &flags.request
	// Arrays, since a comma may stand in a URL.
	f.StringArrayVarP(&q.SurrogateKeys, "key", "k", nil, "surrogate `key`")
	f.StringArrayVarP(&q.URLs, "url", "u", nil, "`URL`, with all its variants")
	f.BoolVar(&q.IgnoreQuery, "ignore-query", false, "each --url with every query")
	f.StringArrayVarP(&q.Prefixes, "prefix", "p", nil, "`URL` and all that lies below it")
	f.StringArrayVar(&q.Hosts, "host", nil, "everything under a `host`")
	f.BoolVar(&q.All, "all", false, "everything")
	f.StringVarP(&q.Site, "site", "s", "", "only in the site of this `name` (default all that the token may purge)")
	f.BoolVar(&q.Soft, "soft", false, "make it stale, and no more")
	f.StringVarP(&flags.wait, "wait", "w", "node", "wait for `node|cluster`: the node that is asked, or all")
	f.DurationVarP(&q.Timeout, "timeout", "t", purge.DefaultTimeout, "how long to wait for the cluster, at most 60s")
	f.StringVar(&flags.admin, "admin", "http://127.0.0.1:9090", "`URL` of a node's admin listener")
	f.StringVar(&flags.tokenEnv, "token-env", "EDGE_TOKEN", "environment `variable` that holds the token")
	f.BoolVar(&flags.json, "json", false, "print the receipt as JSON")
	return cmd
}

// check refuses flags that make no sense, and returns the client that they ask for.
func (f *purgeFlags) check(set *pflag.FlagSet) (*purge.Client, error) {
	q := &f.request
	q.Wait = purge.Wait(f.wait)
	token := os.Getenv(f.tokenEnv)
	switch {
	case len(q.SurrogateKeys)+len(q.URLs)+len(q.Prefixes)+len(q.Hosts) == 0 && !q.All:
		return nil, errors.New("say what to purge: --key, --url, --prefix, --host or --all")
	case q.Wait != purge.WaitNode && q.Wait != purge.WaitCluster:
		return nil, fmt.Errorf("--wait is %s or %s, not %q", purge.WaitNode, purge.WaitCluster, f.wait)
	case q.Timeout <= 0 || q.Timeout > purge.MaxTimeout:
		return nil, fmt.Errorf("--timeout is more than 0s, and at most %gs", purge.MaxTimeout.Seconds())
	case q.IgnoreQuery && len(q.URLs) == 0:
		return nil, errors.New("--ignore-query is about --url")
	case !strings.HasPrefix(f.admin, "http://") && !strings.HasPrefix(f.admin, "https://"):
		return nil, fmt.Errorf("--admin is a URL, such as \"http://127.0.0.1:9090\", not %q", f.admin)
	case token == "" && set.Changed("token-env"):
		return nil, fmt.Errorf("the environment variable %s of --token-env is not set, or empty", f.tokenEnv)
	}
	return &purge.Client{URL: f.admin, Token: token}, nil
}

// run purges and prints the receipt.
func (f *purgeFlags) run(ctx context.Context, client *purge.Client, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, f.request.Timeout+overtime)
	defer cancel()
	receipt, err := client.Purge(ctx, f.request)
	if err != nil {
		return &failure{err}
	}
	show := printReceipt
	if f.json {
		show = printJSON
	}
	if err := show(stdout, &receipt); err != nil {
		return &failure{fmt.Errorf("print the receipt: %w", err)}
	}
	if f.request.Wait == purge.WaitCluster && !receipt.Complete {
		return errIncomplete
	}
	return nil
}

func printJSON(w io.Writer, receipt *purge.Receipt) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(receipt)
}

// printReceipt writes a receipt as a person wants to read it.
func printReceipt(w io.Writer, receipt *purge.Receipt) error {
	kind, state := "purge", "complete"
	if receipt.Soft {
		kind = "soft purge"
	}
	if !receipt.Complete {
		state = "not complete"
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "%s %s: %s\n", kind, receipt.ID, state)
	for _, node := range receipt.Nodes {
		fmt.Fprintf(table, "  %s\t%s\n", node.ID, progress(&node))
	}
	if receipt.Note != "" {
		fmt.Fprintf(table, "note: %s\n", receipt.Note)
	}
	return table.Flush()
}

// progress says how far a node is.
func progress(node *purge.NodeProgress) string {
	switch {
	case node.Applied && node.Latency > 0:
		return fmt.Sprintf("applied after %.3g ms", node.Latency)
	case node.Applied:
		return "applied"
	case node.State != "":
		return node.State
	default:
		return "not yet"
	}
}
