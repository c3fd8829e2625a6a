// Package redistest starts real redis-server processes for tests: one, with a
// replica, under Sentinels, or as a Cluster. Each listens on a free loopback port,
// works in a directory of its own, and is killed when the test ends, whatever its
// end. A test that asks for one fails where redis-server is not installed.
package redistest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// patience is how long a server may take for anything that a test waits for. Long,
// since it is only ever used up by a failure.
const patience = 20 * time.Second

// Server is one redis-server process. Its methods end the test when they fail, and
// may be called by any number of goroutines of a test that is still running.
type Server struct {
	Addr string // host:port, the same for as long as the test runs
	URL  string // of the form that package conn takes

	t      testing.TB
	dir    string
	file   []string // of a Sentinel, and that it is one
	args   []string
	tls    *tls.Config // for Do; nil is without
	client *redis.Client

	mu      sync.Mutex // guards process; held while it starts and ends
	process *process   // nil while stopped
}

// process is a running redis-server, and what tells that it has ended.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// Start starts a server without persistence. Arguments go to redis-server as they
// are, and win: "--maxmemory-policy", "allkeys-lru".
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return start(t, &Server{args: args})
}

// start gives the server a free port and starts it.
func start(t testing.TB, s *Server) *Server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Fatalf("this test needs redis-server: %v", err)
	}
	s.t = t
	if s.dir == "" {
		s.dir = t.TempDir()
	}
	t.Cleanup(s.end)
	var err error
	for range 5 { // a free port may be taken before the server has it
		s.end()
		s.use(freePort(t))
		if err = s.launch(); err == nil {
			return s
		}
	}
	t.Fatal(err)
	return nil
}

// use gives the server its address.
func (s *Server) use(port int) {
	s.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	scheme := "redis"
	if s.tls != nil {
		scheme = "rediss"
	}
	s.URL = scheme + "://" + s.Addr
	s.client = redis.NewClient(&redis.Options{
		Addr: s.Addr, TLSConfig: s.tls, MaxRetries: -1, DialerRetries: 1, PipelinePoolSize: -1, PoolSize: 4,
		ContextTimeoutEnabled: true, ReadTimeout: patience, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// launch starts the process and waits until it answers.
func (s *Server) launch() error {
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return fmt.Errorf("redistest: %w", err)
	}
	where := []string{"--port", port}
	if s.tls != nil {
		where = []string{"--port", "0", "--tls-port", port}
	}
	log := filepath.Join(s.dir, "log")
	args := slices.Concat(s.file, where, []string{"--bind", "127.0.0.1", "--dir", s.dir, "--logfile", log})
	if s.file == nil {
		args = append(args, "--save", "", "--enable-debug-command", "yes")
	}
	p, err := run(exec.Command("redis-server", append(args, s.args...)...))
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.process = p
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		// Asked only once it listens: a pool that has failed to connect too often
		// tries again once a second.
		conn, err := net.Dial("tcp", s.Addr)
		if err == nil {
			conn.Close()
			err = s.client.Ping(ctx).Err()
		}
		// A server that asks for a password, or is a Sentinel, is there too.
		if answered := new(redis.Error); err == nil || errors.As(err, answered) && !redis.IsLoadingError(err) {
			return nil
		}
		select {
		case <-p.ended:
		case <-ctx.Done():
		case <-time.After(time.Millisecond):
			continue
		}
		said, _ := os.ReadFile(log) // where there is none, the error alone must do
		return fmt.Errorf("redistest: redis-server at %s does not answer: %w\n%s", s.Addr, err, said)
	}
}

// run starts the command and waits for it in the background.
func run(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("redistest: starting redis-server: %w", err)
	}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait() // killed, as a rule
	}()
	return p, nil
}

// end kills the process and lets go of the connections.
func (s *Server) end() {
	s.kill()
	if s.client != nil {
		_ = s.client.Close() // nothing is left that could fail
	}
}

func (s *Server) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return
	}
	_ = s.process.cmd.Process.Kill() // it may have ended by itself
	<-s.process.ended
	s.process = nil
}

// Stop kills the server at once (SIGKILL) and waits until it is gone. What it held
// is lost, but for what Save or an append-only file has kept.
func (s *Server) Stop() { s.kill() }

// Freeze stops the server in its tracks (SIGSTOP): connections stay, nothing answers.
func (s *Server) Freeze() {
	s.t.Helper()
	s.signal(syscall.SIGSTOP)
	// The signal takes effect a moment later, and until then commands are answered.
	await(s.t, "the server to stand still", s.frozen)
}

// frozen reports whether the process stands still, as far as the system tells.
func (s *Server) frozen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.process.cmd.Process.Pid))
	if err != nil {
		return true // a system without it
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(state, "T")
}

// Thaw lets a frozen server go on.
func (s *Server) Thaw() { s.t.Helper(); s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		s.t.Fatalf("redistest: %v for a server that is stopped", sig)
	}
	if err := s.process.cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("redistest: %v: %v", sig, err)
	}
}

// Save writes what the server holds to its disk, from where Restart has it back.
func (s *Server) Save() { s.t.Helper(); s.Do("SAVE") }

// Restart kills the server if it runs, and starts it at the same address with what
// is on its disk.
func (s *Server) Restart() {
	s.t.Helper()
	s.kill()
	if err := s.launch(); err != nil {
		s.t.Fatal(err)
	}
}

// RestartEmpty is Restart with nothing on the disk.
func (s *Server) RestartEmpty() {
	s.t.Helper()
	s.kill()
	for _, name := range []string{"dump.rdb", "appendonlydir"} {
		if err := os.RemoveAll(filepath.Join(s.dir, name)); err != nil {
			s.t.Fatalf("redistest: emptying the disk: %v", err)
		}
	}
	s.Restart()
}

// Do sends one command, as its words, and returns the reply; nil is none. It speaks
// as the default user.
func (s *Server) Do(words ...any) any {
	s.t.Helper()
	reply, err := s.Try(words...)
	if err != nil && !errors.Is(err, redis.Nil) {
		s.t.Fatalf("redistest: %v: %v", words[0], err)
	}
	return reply
}

// Try is Do for commands that may fail.
func (s *Server) Try(words ...any) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return s.client.Do(ctx, words...).Result()
}

// Keys returns the names of all keys that match the pattern.
func (s *Server) Keys(pattern string) []string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	keys, err := s.client.Keys(ctx, pattern).Result()
	if err != nil {
		s.t.Fatalf("redistest: KEYS: %v", err)
	}
	return keys
}

// Info returns one field of INFO.
func (s *Server) Info(section, name string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	info, err := s.client.Info(ctx, section).Result()
	if err != nil {
		s.t.Fatalf("redistest: INFO: %v", err)
	}
	for line := range strings.SplitSeq(info, "\r\n") {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return value
		}
	}
	return ""
}

// StartReplica starts a replica of the server and waits until the two are in step.
// To let it fall behind, Freeze it.
func (s *Server) StartReplica(args ...string) *Server {
	s.t.Helper()
	host, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		s.t.Fatalf("redistest: %v", err)
	}
	s.Do("CONFIG", "SET", "repl-diskless-sync-delay", "0") // else it waits for more replicas to come
	r := Start(s.t, append([]string{"--replicaof", host + " " + port}, args...)...)
	await(s.t, "the replica to be in step", func() bool { return r.Info("replication", "master_link_status") == "up" })
	return r
}

// await waits until a state is reached.
func await(t testing.TB, what string, reached func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !reached(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("redistest: waited in vain for %s", what)
		}
	}
}

// freePort returns a port of the loopback that nothing listens on. It lies below
// those that the system hands out for outgoing connections, so that it stays free
// while a server is stopped.
func freePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := 12000 + rand.IntN(18000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatalf("redistest: %v", err)
		}
		return port
	}
	t.Fatal("redistest: no free port")
	return 0
}
