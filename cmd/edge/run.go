package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"edge/cachestore/memory"
	"edge/cmd/internal/node"
	"edge/config"
	"edge/purge"
)

// runFlags is the command line of run.
type runFlags struct {
	config                        string
	origin, listen, admin, policy string
}

func newRun() *cobra.Command {
	var flags runFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run a node",
		Long: `Run a node: from a file, or with the defaults in front of one origin.

The node runs until it gets SIGTERM or SIGINT. Then it takes no new connections,
lets the requests under way finish for as long as server.shutdown_grace says
(30 seconds by default), and exits with 0. A second signal ends it at once.`,
		Example: `  edge run --origin http://127.0.0.1:3000
  edge run --origin http://127.0.0.1:3000 --listen 127.0.0.1:8000 --policy rfc
  edge run --config edge.hcl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := flags.check(cmd.Flags()); err != nil {
				return err
			}
			cfg, err := flags.load()
			if err != nil {
				return err
			}
			if err := run(cmd.Context(), cfg, cmd.ErrOrStderr()); err != nil {
				return &failure{err}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVarP(&flags.config, "config", "c", "", "`file` that describes the node")
	f.StringVarP(&flags.origin, "origin", "o", "", "`URL` of the one origin, instead of a file")
	f.StringVarP(&flags.listen, "listen", "l", "", "`address` for clients (default \":8080\")")
	f.StringVar(&flags.policy, "policy", "", "cache policy: safe or rfc (default \"safe\")")
	f.StringVar(&flags.admin, "admin", "", "`address` for the operator, or off (default \"127.0.0.1:9090\")")
	return cmd
}

// check refuses flags that contradict each other: a file says everything that the
// other flags say.
func (f *runFlags) check(set *pflag.FlagSet) error {
	if f.config == "" && f.origin == "" {
		return errors.New("say what to front: --origin URL, or --config FILE")
	}
	if f.config == "" {
		return nil
	}
	for _, name := range []string{"origin", "listen", "policy", "admin"} {
		if set.Changed(name) {
			return fmt.Errorf("--%s cannot stand beside --config: the file says it", name)
		}
	}
	return nil
}

// load makes the configuration that the flags ask for.
func (f *runFlags) load() (*config.Config, error) {
	var cfg *config.Config
	var err error
	if f.config != "" {
		cfg, err = config.Load(f.config)
	} else {
		cfg, err = config.Default(f.origin, f.listen, f.admin, f.policy)
	}
	if err != nil {
		return nil, &failure{err}
	}
	return cfg, nil
}

// gcPercent lets the collector rest until the heap has grown fivefold. A hit leaves
// little garbage, and a cache that is not full yet need not be searched for it again
// and again.
const gcPercent = 400

// run runs the node until a signal or ctx ends it. What belongs to the process and
// not to a node is done here: signals, the collector's limit, the standard log.
func run(ctx context.Context, cfg *config.Config, stderr io.Writer) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal has its usual effect

	text := cfg.Log.Format == "text" || cfg.Log.Format == "auto" && isTerminal(stderr)
	written := &lines{to: stderr}
	defer written.prompt()
	logger := newLogger(written, cfg.Log.Level, text)
	// net/http's client side knows no other log than the standard one.
	ownStandardLog(logger)
	debug.SetMemoryLimit(memory.SoftLimit(cfg.Memory.Size, cfg.Fill.Budget))
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent) // the limit above bounds what it lets grow
	}
	for _, warning := range cfg.Warnings {
		logger.Warn(warning.Summary, "detail", warning.Detail, "file", warning.File, "line", warning.Line)
	}

	n, err := node.New(cfg, logger)
	if err != nil {
		return err
	}
	return n.Run(ctx, func() {
		announce(n, cfg, logger, stderr, text)
		if !text { // which a person may be reading
			written.gather()
		}
	})
}

// announce says in one line where the node listens and what it fronts: a sentence
// for a person, fields for a machine.
func announce(n *node.Node, cfg *config.Config, logger *slog.Logger, stderr io.Writer, text bool) {
	var fronts []string
	for _, o := range cfg.Origins {
		fronts = append(fronts, o.URL)
	}
	admin := n.Admin()
	if !text {
		logger.Info("ready",
			"listen", n.Listen(), "admin", admin, "fronts", fronts,
			"memory", formatSize(cfg.Memory.Size), "policy", policies(cfg),
			"node", cfg.Node, "version", node.Version())
		return
	}
	var listen []string
	for _, address := range n.Listen() {
		listen = append(listen, "http://"+reachable(address))
	}
	line := fmt.Sprintf("edge listens on %s, fronts %s", strings.Join(listen, " and "), strings.Join(fronts, " and "))
	if admin != "" {
		line += ", admin http://" + reachable(admin)
	}
	fmt.Fprintln(stderr, line)
}

// policies returns the names of the policies in use, most of the time one.
func policies(cfg *config.Config) string {
	var names []string
	for _, site := range cfg.Sites {
		for _, route := range site.Routes {
			if !slices.Contains(names, route.Cache.Policy) {
				names = append(names, route.Cache.Policy)
			}
		}
	}
	return strings.Join(names, ",")
}

// reachable turns the address of a listener on all interfaces into one that can
// be typed into a browser.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// formatSize writes a size as the configuration would.
func formatSize(n int64) string {
	for _, unit := range []struct {
		size int64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= unit.size && n%unit.size == 0 {
			return fmt.Sprintf("%d%s", n/unit.size, unit.name)
		}
	}
	return fmt.Sprintf("%dB", n)
}

// hint returns advice about an error, or "".
func hint(err error) string {
	if refused := new(purge.Error); errors.As(err, &refused) && refused.Status == http.StatusUnauthorized {
		return "Put the secret of a token with the scope \"purge\" into EDGE_TOKEN, or the variable that --token-env names."
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "Is a node running there? --admin says where its admin listener is."
	case errors.Is(err, syscall.EADDRINUSE):
		return "Another program listens there. Choose other addresses with --listen and --admin, or in the file."
	case errors.Is(err, syscall.EACCES):
		return "Ports below 1024 and protected files need rights that this user does not have."
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "The address is none of this machine's."
	case errors.Is(err, syscall.ENOENT) && strings.HasPrefix(err.Error(), "open configuration"):
		return "Start with edge.example.hcl, or without a file: edge run --origin URL."
	}
	return ""
}

// ownStandardLog has what is said to the standard log, as by net/http's client, come
// out as records of ours.
func ownStandardLog(logger *slog.Logger) {
	log.SetFlags(0)
	log.SetOutput(slog.NewLogLogger(logger.Handler(), slog.LevelWarn).Writer())
}
