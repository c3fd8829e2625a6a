package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"edge/integration/bench/process"
)

// Peer is a cache that can be measured. To add one, write its start function and
// put it into peers.
type Peer struct {
	Name    string
	Program string // that must be installed; "" when Start knows what to run
	Start   func(ctx context.Context, place Place) (*Server, error)

	// PerKey is about what the peer takes of the machine's memory for an object of
	// 1 KiB, all included.
	PerKey int64

	// Settle is how often an object must be asked for until it is where hits come
	// from. 0 stands for once.
	Settle int
}

// peers is who is measured beside edge, in the order of the report. The first is
// the one that the others are compared with.
var peers = []Peer{
	{Name: "nginx", Program: "nginx", Start: startNginx, PerKey: 5632},
	{Name: "haproxy", Program: "haproxy", Start: startHAProxy, PerKey: 2900},
	{Name: "trafficserver", Program: "traffic_server", Start: startTrafficServer, PerKey: 4400, Settle: 2},
	{Name: "varnish", Program: "varnishd", Start: startVarnish, PerKey: 2700},
}

// Need is what a work asks of a server, which is to be sized for it.
type Need struct {
	Keys        int           // objects, of 1 KiB where there are more than a few
	Connections int           // of clients, at a time
	Deadline    time.Duration // for the head and the body of a request; 0 for one that is not met
}

// megabytes is room for the work's objects, ample for each peer's way to keep them.
func (n Need) megabytes() int { return 1024 + n.Keys*3/1024 }

// deadline is in seconds, for configurations.
func (n Need) deadline() int {
	if n.Deadline == 0 {
		return 3600
	}
	return int(n.Deadline.Seconds())
}

// Place is where a server is started.
type Place struct {
	Dir    string // its own, in memory where possible
	Disk   string // its own, wherever temporary files are
	Origin string // host:port
	Need   Need
}

// Server is a running peer, pinned to the server's core.
type Server struct {
	*process.Process
	Address string // host:port
	Admin   string // of edge; else ""
}

// Runner is a peer that runs.
type Runner struct {
	Peer
	*Server
	dirs []string
}

// ours tells whether it is a build of edge.
func (r Runner) ours() bool { return r.Admin != "" }

// Bench is a run of this command.
type Bench struct {
	options
	lab     *Lab
	all     []Peer   // those that are installed, then the builds of edge
	skipped []string // those that are not
}

// prepare finds out what there is to measure, and raises the limit on open files as
// far as it goes, for what is started later too.
func prepare(ctx context.Context, o options, lab *Lab) (*Bench, error) {
	b := &Bench{options: o, lab: lab}
	for _, peer := range o.peers {
		if _, err := exec.LookPath(peer.Program); err != nil {
			b.skipped = append(b.skipped, peer.Name)
			continue
		}
		b.all = append(b.all, peer)
	}
	if len(b.builds) == 0 {
		binary, err := process.BuildEdge(ctx, lab.Dir)
		if err != nil {
			return nil, err
		}
		b.builds = []Build{{Name: "edge", Binary: binary}}
	}
	for _, build := range b.builds {
		b.all = append(b.all, Peer{Name: build.Name, PerKey: 4000, Start: func(ctx context.Context, place Place) (*Server, error) {
			return startEdge(ctx, place, build.Binary)
		}})
	}
	limit, err := openFiles()
	if err != nil {
		return nil, err
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return nil, fmt.Errorf("raise the limit on open files: %w", err)
	}
	return b, nil
}

// openFiles is the limit on open files.
func openFiles() (limit syscall.Rlimit, err error) {
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return limit, fmt.Errorf("read the limit on open files: %w", err)
	}
	return limit, nil
}

// measure starts the peers anew, sized for the work, and ends them when it is done.
func (b *Bench) measure(ctx context.Context, work Work) (tables []Table, err error) {
	runners, left, err := b.start(ctx, work.need())
	defer func() {
		stopped := stop(runners)
		if ctx.Err() != nil { // then all have been told to end, and that they did is no news
			err = context.Cause(ctx)
			return
		}
		err = errors.Join(err, stopped)
	}()
	if err != nil {
		return nil, err
	}
	tables, err = work.measure(ctx, b, runners)
	if len(tables) > 0 {
		tables[0].Notes = append(tables[0].Notes, left...)
	}
	return tables, err
}

// start starts every peer that the machine has the memory for, and says why the
// others are left out. What it has started it returns with an error too, to be
// stopped.
func (b *Bench) start(ctx context.Context, need Need) (runners []Runner, left []string, err error) {
	promised := int64(0) // to those that have not filled up yet; ours come first
	for _, peer := range b.all[len(b.all)-len(b.builds):] {
		promised += int64(need.Keys) * peer.PerKey
	}
	for i, peer := range b.all {
		size := int64(need.Keys) * peer.PerKey
		if i >= len(b.all)-len(b.builds) {
			promised -= size
		}
		free, err := available()
		if err != nil {
			return runners, left, err
		}
		if free-promised < size+1<<30 {
			left = append(left, fmt.Sprintf("%s is left out: it would need some %.1f GiB of memory, %.1f GiB are free", peer.Name,
				float64(size)/(1<<30), float64(free-promised)/(1<<30)))
			continue
		}
		promised += size
		dir, err := os.MkdirTemp(b.lab.Dir, peer.Name+"-")
		if err != nil {
			return runners, left, err
		}
		disk, err := os.MkdirTemp("", "edge-bench-"+peer.Name+"-")
		if err != nil {
			return runners, left, err
		}
		server, err := peer.Start(ctx, Place{Dir: dir, Disk: disk, Origin: b.lab.Origin, Need: need})
		if err != nil {
			return runners, left, errors.Join(fmt.Errorf("start %s: %w", peer.Name, err), os.RemoveAll(dir), os.RemoveAll(disk))
		}
		runners = append(runners, Runner{Peer: peer, Server: server, dirs: []string{dir, disk}})
	}
	return runners, left, nil
}

// stop ends the servers and frees what they kept.
func stop(runners []Runner) error {
	var failures []error
	for _, runner := range runners {
		failures = append(failures, runner.Stop())
		for _, dir := range runner.dirs {
			failures = append(failures, os.RemoveAll(dir))
		}
	}
	return errors.Join(failures...)
}

// available is the memory that the machine has left.
func available() (int64, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "MemAvailable: %d kB", &kib); err == nil {
			return kib << 10, nil
		}
	}
	return 0, errors.New("/proc/meminfo does not say what is available")
}

// launch runs a server from a configuration: a template whose {{words}} are
// replaced, written into the server's directory.
func launch(ctx context.Context, place Place, file, template string, words []string, command []string, env ...string) (*Server, error) {
	address, err := process.FreePort(ctx)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	originHost, originPort, err := net.SplitHostPort(place.Origin)
	if err != nil {
		return nil, err
	}
	words = append([]string{"{{dir}}", place.Dir, "{{listen}}", address, "{{host}}", host, "{{port}}", port,
		"{{origin}}", place.Origin, "{{origin-host}}", originHost, "{{origin-port}}", originPort,
		"{{megabytes}}", fmt.Sprint(place.Need.megabytes()), "{{deadline}}", fmt.Sprint(place.Need.deadline())}, words...)
	fill := strings.NewReplacer(words...)
	if err := os.WriteFile(filepath.Join(place.Dir, file), []byte(fill.Replace(template)), 0o600); err != nil {
		return nil, err
	}
	command = slices.Clone(command)
	for i := range command {
		command[i] = fill.Replace(command[i])
	}
	command = process.Pinned(serverCore, command[0], command[1:]...)
	p, err := process.Start(ctx, process.Command{Path: command[0], Args: command[1:], Env: env})
	if err != nil {
		return nil, err
	}
	server := &Server{Process: p, Address: address}
	return server, answering(ctx, server)
}

// answering waits until the server accepts connections, for those that do not
// tell when they are ready.
func answering(ctx context.Context, server *Server) error {
	deadline := time.Now().Add(3 * time.Minute) // some first touch all the memory that they will use
	for server.Alive() && ctx.Err() == nil && time.Now().Before(deadline) {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", server.Address)
		if err == nil {
			return conn.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.Join(fmt.Errorf("does not listen on %s:\n%s", server.Address, server.Tail()), server.Stop())
}
