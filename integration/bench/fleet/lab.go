package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"edge/integration/bench/process"
)

// Lab is what one work runs in. What a work starts in it ends with it.
type Lab struct {
	Dir    string
	Binary string // of the node
	Quick  bool
	Rounds int

	nodeCores string
	ends      []func() error // in the order of the starts
}

// say tells how far the run is.
func (l *Lab) say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// pick returns the one for figures, or the one for the short form.
func pick[T any](l *Lab, full, quick T) T {
	if l.Quick {
		return quick
	}
	return full
}

// close ends what was started, the last first.
func (l *Lab) close() error {
	var failures []error
	for i := len(l.ends) - 1; i >= 0; i-- {
		failures = append(failures, l.ends[i]())
	}
	return errors.Join(failures...)
}

func (l *Lab) startOrigin(ctx context.Context, versions int) (*Origin, error) {
	o, err := startOrigin(ctx, versions)
	if err == nil {
		l.ends = append(l.ends, o.close)
	}
	return o, err
}

// Node is a running edge node.
type Node struct {
	*process.Edge
}

// NodeOptions say how a node is started.
type NodeOptions struct {
	Name   string
	Memory string // size of its memory tier
	Redis  string // host:port; "" is none
}

const nodeConfig = `server {
  listen = ["127.0.0.1:0"]
  name   = "{{name}}"
}
admin {
  listen = "127.0.0.1:0"
}
log {
  access = false
}
memory {
  size = "{{memory}}"
}
origin "bench" {
  url = "http://{{origin}}"
}
site "bench" {
  hosts  = ["*"]
  origin = "bench"
}
`

func (l *Lab) startNode(ctx context.Context, origin *Origin, o NodeOptions) (*Node, error) {
	config := strings.NewReplacer("{{name}}", o.Name, "{{memory}}", o.Memory, "{{origin}}", origin.Address).Replace(nodeConfig)
	if o.Redis != "" {
		config += fmt.Sprintf("redis {\n  url = \"redis://%s\"\n}\n", o.Redis)
	}
	file := filepath.Join(l.Dir, o.Name+".hcl")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	var env []string
	if l.nodeCores == serverCore {
		env = []string{"GOMAXPROCS=1"}
	}
	edge, err := process.StartEdge(ctx, process.Pinned(l.nodeCores, l.Binary), []string{"--config", file}, env, nil)
	if err != nil {
		return nil, err
	}
	l.ends = append(l.ends, edge.Stop)
	return &Node{edge}, nil
}

// Stats is what is read of a node's counters.
type Stats struct {
	Store struct {
		Entries int64 `json:"entries"`
		Pending int64 `json:"pending"`
	} `json:"store"`
	Memory struct {
		Resident int64 `json:"resident"`
		Heap     int64 `json:"heap"`
	} `json:"memory"`
	Purge struct {
		Selectors int64 `json:"selectors"`
		Folded    int64 `json:"folded"`
	} `json:"purge"`
}

func (n *Node) stats(ctx context.Context) (Stats, error) {
	var s Stats
	return s, n.read(ctx, "/stats", &s)
}

// collect has the node's garbage collected.
func (n *Node) collect(ctx context.Context) error { return n.read(ctx, "/debug/pprof/heap?gc=1", nil) }

// read gets a page of the admin listener.
func (n *Node) read(ctx context.Context, page string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.Admin+page, nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	res, err := client.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %d", page, res.StatusCode)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(res.Body).Decode(into)
}

// fill fetches the objects through the node, and checks that it has stored them.
func (n *Node) fill(ctx context.Context, objects int) error {
	const clients = 64
	before, err := n.stats(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(clients, objects) {
		wg.Go(func() {
			if err := fetch(ctx, n.Address, func() (int, bool) {
				object := int(next.Add(1)) - 1
				return object, object < objects
			}); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	var s Stats
	return await(ctx, func() (bool, error) {
		if s, err = n.stats(ctx); err != nil || s.Store.Pending > 0 {
			return false, err
		}
		if stored := s.Store.Entries - before.Store.Entries; stored < int64(objects)*999/1000 {
			return false, fmt.Errorf("of %d objects %d were stored", objects, stored)
		}
		return true, nil
	})
}

// fetch asks for objects on one connection until there are no more.
func fetch(ctx context.Context, address string, next func() (int, bool)) error {
	c, err := dial(ctx, address)
	if err != nil {
		return err
	}
	defer c.close()
	for object, ok := next(); ok; object, ok = next() {
		answer, err := c.ask(get(object))
		if err == nil {
			err = proper(answer)
		}
		if err != nil {
			return fmt.Errorf("object %d: %w", object, err)
		}
	}
	return nil
}

// await asks until the answer is true or an error, for as long as patience lasts.
func await(ctx context.Context, done func() (bool, error)) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if ok, err := done(); ok || err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return fmt.Errorf("waited for %v in vain", patience)
}

// Receipt is what is read of the answer to a purge.
type Receipt struct {
	Complete bool `json:"complete"`
	Nodes    []struct {
		Latency float64 `json:"latency_ms"`
	} `json:"nodes"`
}

// together waits until a purge told to the node reaches so many nodes.
func (n *Node) together(ctx context.Context, nodes int) error {
	c, err := dial(ctx, n.Admin)
	if err != nil {
		return err
	}
	defer c.close()
	return await(ctx, func() (bool, error) {
		r, err := c.purge(post(n.Admin, `{"surrogate_keys":["nothing-has-this-key"],"wait":"cluster"}`))
		if errors.Is(err, errNotRecorded) {
			return false, nil // the load before it may have had the node take Redis for gone
		}
		return r.Complete && len(r.Nodes) == nodes, err
	})
}

// errNotRecorded is the answer of a node that cannot reach the log of purges now.
var errNotRecorded = errors.New("purge: the log of purges cannot be reached")

// purge sends a purge that is to be recorded, and returns its receipt.
func (c *Conn) purge(raw []byte) (Receipt, error) {
	var r Receipt
	answer, err := c.ask(raw)
	if err != nil {
		return r, fmt.Errorf("purge: %w", err)
	}
	if answer.Status == http.StatusServiceUnavailable {
		return r, errNotRecorded
	}
	if answer.Status != http.StatusOK && answer.Status != http.StatusAccepted {
		return r, fmt.Errorf("purge: status %d: %s", answer.Status, answer.Body)
	}
	return r, json.Unmarshal(answer.Body, &r)
}

// Redis is a redis-server that keeps nothing on disk: started again it is empty.
type Redis struct {
	Address string

	lab     *Lab
	process *process.Process // nil while killed
}

func (l *Lab) startRedis(ctx context.Context) (*Redis, error) {
	address, err := process.FreePort(ctx)
	if err != nil {
		return nil, err
	}
	r := &Redis{Address: address, lab: l}
	l.ends = append(l.ends, r.end)
	return r, r.start(ctx)
}

func (r *Redis) start(ctx context.Context) (err error) {
	_, port, _ := strings.Cut(r.Address, ":")
	command := process.Pinned(r.lab.nodeCores, "redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--dir", r.lab.Dir)
	r.process, err = process.Start(ctx, process.Command{Path: command[0], Args: command[1:], Ready: func(line string) bool {
		return strings.Contains(line, "Ready to accept connections")
	}})
	return err
}

func (r *Redis) freeze() error { return r.process.Signal(syscall.SIGSTOP) }
func (r *Redis) thaw() error   { return r.process.Signal(syscall.SIGCONT) }

func (r *Redis) kill() {
	r.process.Kill()
	r.process = nil
}

// end ends the server in whatever state it is. There is nothing that it could lose.
func (r *Redis) end() error {
	if r.process != nil {
		r.kill()
	}
	return nil
}
