package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"time"

	"edge/integration/bench/process"
)

// Peer is a cache that can be measured. To add one, write its start function and
// put it into peers.
type Peer struct {
	Name    string
	Program string // that must be installed; "" when start builds what it needs
	Start   func(ctx context.Context, lab *Lab) (*Server, error)
}

// peers is who is measured, in the order of the report. The first is the one
// that the others are compared with.
var peers = []Peer{
	{Name: "nginx", Program: "nginx", Start: startNginx},
	{Name: "edge", Start: startEdge},
}

// Server is a running peer, pinned to the server's core.
type Server struct {
	*process.Process
	Address string // host:port
}

// Runner is a peer that runs.
type Runner struct {
	Peer
	*Server
}

// startPeers starts every peer that is installed, and names the others. What it
// has started it returns with an error too, to be stopped.
func startPeers(ctx context.Context, lab *Lab) (runners []Runner, skipped []string, err error) {
	for _, peer := range peers {
		if peer.Program != "" {
			if _, err := exec.LookPath(peer.Program); err != nil {
				skipped = append(skipped, peer.Name)
				continue
			}
		}
		server, err := peer.Start(ctx, lab)
		if err != nil {
			return runners, skipped, fmt.Errorf("start %s: %w", peer.Name, err)
		}
		runners = append(runners, Runner{Peer: peer, Server: server})
	}
	return runners, skipped, nil
}

func stopPeers(runners []Runner) error {
	var failures []error
	for _, runner := range runners {
		failures = append(failures, runner.Stop())
	}
	return errors.Join(failures...)
}

// answering waits until the server accepts connections, for those that do not
// tell when they are ready.
func answering(ctx context.Context, server *Server) error {
	deadline := time.Now().Add(20 * time.Second)
	for server.Alive() && ctx.Err() == nil && time.Now().Before(deadline) {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", server.Address)
		if err == nil {
			return conn.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.Join(fmt.Errorf("does not listen on %s:\n%s", server.Address, server.Tail()), server.Stop())
}
