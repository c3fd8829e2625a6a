// Package streamtest runs real Redis servers for tests. Each has a free port of the
// loopback and a directory of its own, and is gone when the test ends.
package streamtest

import (
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Server is a Redis server.
type Server struct {
	Port int

	t    testing.TB
	dir  string
	args []string
	cmd  *exec.Cmd
}

// Start starts a server that keeps nothing on disk unless it is told to. It fails the
// test when there is no redis-server.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	s := &Server{Port: freePort(t), t: t, dir: t.TempDir(), args: args}
	s.run()
	t.Cleanup(s.Stop)
	return s
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Addr is where the server listens.
func (s *Server) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.Port) }

func (s *Server) run() {
	s.t.Helper()
	args := append([]string{"--port", fmt.Sprint(s.Port), "--bind", "127.0.0.1", "--dir", s.dir,
		"--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"}, s.args...)
	s.cmd = exec.Command("redis-server", args...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatalf("starting redis-server: %v", err)
	}
	for deadline := time.Now().Add(10 * time.Second); !s.answers(); {
		if time.Now().After(deadline) {
			s.t.Fatalf("redis-server does not answer")
		}
		time.Sleep(time.Millisecond)
	}
}

// answers reports whether the server has come up.
func (s *Server) answers() bool {
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		return false
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	fmt.Fprint(c, "PING\r\n")
	reply := make([]byte, 5)
	_, err = io.ReadFull(c, reply)
	return err == nil && string(reply) == "+PONG"
}

// Dial returns a client of the server, for the test itself.
func (s *Server) Dial() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: s.Addr(), DialerRetries: 1, MaxRetries: -1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
}

// Do runs one command.
func (s *Server) Do(args ...any) any {
	s.t.Helper()
	client := s.Dial()
	defer client.Close()
	value, err := client.Do(context.Background(), args...).Result()
	if err != nil && err != redis.Nil {
		s.t.Fatalf("%v: %v", args, err)
	}
	return value
}

// Stop kills the server.
func (s *Server) Stop() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Signal(syscall.SIGKILL)
	s.cmd.Wait() // killed: an error
	s.cmd = nil
}

// Restart kills the server and starts it again on the same port, with what it has
// saved.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.run()
}

// Freeze stops the server's process; it keeps its connections and answers nothing.
func (s *Server) Freeze() { s.cmd.Process.Signal(syscall.SIGSTOP) }

// Thaw ends Freeze.
func (s *Server) Thaw() { s.cmd.Process.Signal(syscall.SIGCONT) }

// Follow makes the server a replica of another, and returns when it has all of it.
func (s *Server) Follow(master *Server) {
	s.t.Helper()
	s.Do("REPLICAOF", "127.0.0.1", master.Port)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		info := s.Do("INFO", "replication").(string)
		if strings.Contains(info, "master_link_status:up") && s.Do("DBSIZE") == master.Do("DBSIZE") {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatal("the replica does not follow")
		}
	}
}

// Cut ends the link of a replica to its master: what is written there from now on
// does not reach it.
func (s *Server) Cut() { s.Do("REPLICAOF", "127.0.0.1", freePort(s.t)) }

// Promote makes a replica a master.
func (s *Server) Promote() { s.Do("REPLICAOF", "NO", "ONE") }

// Switch is a client of one server after another, as a failover has it. It is what
// package stream needs.
type Switch struct {
	current func() *redis.Client
}

// NewSwitch returns a Switch that asks which client to use before each call.
func NewSwitch(current func() *redis.Client) *Switch { return &Switch{current} }

// Client returns a client with short timeouts.
func (s *Server) Client(t testing.TB) *redis.Client {
	client := redis.NewClient(&redis.Options{
		Addr: s.Addr(), DialerRetries: 1, MaxRetries: -1, DialTimeout: 200 * time.Millisecond,
		ReadTimeout: time.Second, WriteTimeout: time.Second, ContextTimeoutEnabled: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.Cleanup(func() { client.Close() })
	return client
}

// Do implements stream.Client.
func (s *Switch) Do(ctx context.Context, deadline time.Duration, fn func(context.Context, redis.UniversalClient) error) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	return fn(ctx, s.current())
}

// Master implements stream.Client.
func (s *Switch) Master(context.Context, string) (*redis.Client, error) { return s.current(), nil }
