package conn

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"edge/cachestore/redis/redistest"
)

// No goroutine may outlive the tests, of ours or of the library.
func TestMain(m *testing.M) {
	code := m.Run()
	left := ""
	for range 5000 {
		if left = goroutines(); left == "" {
			os.Exit(code)
		}
		time.Sleep(time.Millisecond)
	}
	fmt.Fprintf(os.Stderr, "goroutines were left behind:\n%s", left)
	os.Exit(1)
}

func goroutines() (left string) {
	stacks := make([]byte, 1<<20)
	for stack := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		// The library has one for the process, which keeps a clock.
		if strings.Contains(stack, "go-redis") && !strings.Contains(stack, "pool.init") || strings.Contains(stack, "conn.(*Conn)") {
			left += stack + "\n\n"
		}
	}
	return left
}

func open(t *testing.T, o Options) *Conn {
	t.Helper()
	c, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return c
}

func ping(c *Conn) error {
	// Much longer than it takes: only a frozen server uses it up.
	return c.Do(context.Background(), time.Second, func(ctx context.Context, client redis.UniversalClient) error {
		return client.Get(ctx, "ping").Err()
	})
}

// await waits until the state is as wanted.
func await(t *testing.T, c *Conn, what string, reached func(State) bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !reached(c.State()); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s: %+v", what, c.State())
		}
	}
}

func isUp(s State) bool { return s.Up }

// fail makes calls until Redis counts as down.
func fail(t *testing.T, c *Conn, deadline time.Duration, want Fault) {
	t.Helper()
	for n := range threshold {
		if !c.State().Up {
			t.Fatalf("down after %d failures", n)
		}
		err := c.Do(t.Context(), deadline, func(ctx context.Context, client redis.UniversalClient) error {
			return client.Get(ctx, "x").Err()
		})
		if got := faultOf(err); got != want {
			t.Fatalf("call %d: %v is %q, not %q", n, err, got, want)
		}
	}
	if s := c.State(); s.Up || s.Fault != want || s.Err == nil {
		t.Fatalf("after %d failures: %+v", threshold, s)
	}
	called := false
	err := c.Do(t.Context(), deadline, func(context.Context, redis.UniversalClient) error { called = true; return nil })
	if !errors.Is(err, ErrUnavailable) || called {
		t.Fatalf("Redis is asked though it is down: %v", err)
	}
}

// patient is a deadline for what must succeed, on a machine that is busy, too.
const patient = 10 * time.Second

func TestRepliesAreNoFailures(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := open(t, Options{URL: s.URL, Timeout: patient, DialTimeout: patient})
	if s := c.State(); !s.Up || s.Contacted || c.Commands() != 0 {
		t.Errorf("before the first call: %+v, %d commands", s, c.Commands())
	}
	for range 10 * threshold {
		if err := ping(c); !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
		err := c.Do(t.Context(), 0, func(ctx context.Context, client redis.UniversalClient) error {
			return client.Do(ctx, "NO", "SUCH", "COMMAND").Err()
		})
		if reply := redis.Error(nil); !errors.As(err, &reply) {
			t.Fatal(err)
		}
	}
	if s := c.State(); !s.Up || !s.Contacted || s.Fault != "" {
		t.Errorf("%+v", s)
	}
	if got := c.Commands(); got < 20*threshold {
		t.Errorf("%d commands counted", got)
	}
}

func TestCommandsCounted(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	// A clock that is an hour off shows when the look at the server is over that
	// follows the first contact.
	c := open(t, Options{URL: s.URL, Now: func() time.Time { return time.Now().Add(time.Hour) }})
	if err := ping(c); !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	await(t, c, "the look at Redis", func(s State) bool { return s.Skew != 0 })
	before := c.Commands()
	err := c.Do(t.Context(), time.Second, func(ctx context.Context, client redis.UniversalClient) error {
		_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
			p.Set(ctx, "a", 1, 0)
			p.Set(ctx, "b", 1, 0)
			return nil
		})
		return errors.Join(err, client.Get(ctx, "a").Err())
	})
	if got := c.Commands() - before; err != nil || got != 3 {
		t.Errorf("%d commands counted, not 3; %v", got, err)
	}
}

func TestServerGoneAndBack(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	var log safeBuffer
	c := open(t, Options{URL: s.URL, Log: slog.New(slog.NewTextHandler(&log, nil))})
	for range 2 {
		if err := ping(c); !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
		s.Stop()
		if err := ping(c); err == nil {
			t.Fatal("a server that is gone answers")
		}
		// What was connected breaks; after that nobody listens.
		for c.State().Up {
			if err := ping(c); faultOf(err) != FaultBroken && faultOf(err) != FaultRefused {
				t.Fatal(err)
			}
		}
		if err := ping(c); !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
		s.Restart()
		await(t, c, "Redis to be back", isUp)
	}
	if err := c.Close(); err != nil { // and with it the last line of the log
		t.Error(err)
	}
	if got := log.String(); strings.Count(got, "is unavailable") != 2 || strings.Count(got, "available again") != 2 {
		t.Errorf("the log says\n%s", got)
	}
}

func TestServerFrozen(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := open(t, Options{URL: s.URL})
	if err := ping(c); !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	s.Freeze()
	fail(t, c, 20*time.Millisecond, FaultTimeout)
	s.Thaw()
	await(t, c, "Redis to be back", isUp)
	if err := ping(c); !errors.Is(err, redis.Nil) {
		t.Error(err)
	}
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Stop()
	c := open(t, Options{URL: s.URL})
	fail(t, c, time.Second, FaultRefused)
	s.Restart()
	await(t, c, "Redis to be there", func(s State) bool { return s.Up && s.Contacted })
}

func TestDenied(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("ACL", "SETUSER", "edge", "on", ">right", "~edge:*", "&*", "+@all", "-@dangerous")
	c := open(t, Options{URL: strings.Replace(s.URL, "//", "//edge:hunter2@", 1)})
	fail(t, c, time.Second, FaultDenied)
	if state := c.State(); strings.Contains(state.Err.Error(), "hunter2") {
		t.Errorf("the password is shown: %v", state.Err)
	}
	// The user may do what belongs to it, and a refusal is only a reply.
	c = open(t, Options{URL: s.URL, Username: "edge", Password: "right"})
	for range 2 * threshold {
		if err := ping(c); !redis.IsPermissionError(err) {
			t.Fatalf("a key of others: %v", err)
		}
	}
	err := c.Do(t.Context(), time.Second, func(ctx context.Context, client redis.UniversalClient) error {
		return client.Set(ctx, "edge:a", 1, 0).Err()
	})
	if err != nil || !c.State().Up {
		t.Errorf("%v, %+v", err, c.State())
	}
}

// A server that refuses every command, since it loads or has lost its master, is as
// good as none.
func TestBusyIsDown(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--replica-serve-stale-data", "no")
	c := open(t, Options{URL: s.URL})
	if err := ping(c); !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	s.Do("REPLICAOF", "127.0.0.1", "1") // where nobody is
	fail(t, c, time.Second, FaultBusy)
	s.Do("REPLICAOF", "NO", "ONE")
	await(t, c, "Redis to serve again", isUp)
}

func TestCallersWhoLeave(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := open(t, Options{URL: s.URL})
	for range 2 * threshold {
		ctx, cancel := context.WithCancel(t.Context())
		err := c.Do(ctx, time.Minute, func(ctx context.Context, client redis.UniversalClient) error {
			cancel()
			return client.Get(ctx, "x").Err()
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if err := c.Do(ctx, 0, nil); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if s := c.State(); !s.Up || s.Fault != "" {
		t.Errorf("callers who left count as failures: %+v", s)
	}
	// That they leave while a frozen server keeps them waiting is no excuse for it.
	s.Freeze()
	for range threshold {
		ctx, cancel := context.WithCancel(t.Context())
		_ = c.Do(ctx, 10*time.Millisecond, func(bounded context.Context, client redis.UniversalClient) error {
			err := client.Get(bounded, "x").Err()
			cancel()
			return err
		})
	}
	if s := c.State(); s.Up || s.Fault != FaultTimeout {
		t.Errorf("%+v", s)
	}
}

// Outcomes of calls that began before Redis was found down say nothing about a later
// time.
func TestBreakerForgetsTheLate(t *testing.T) {
	b := breaker{state: State{Up: true}}
	now := time.Now()
	old, _ := b.allow()
	for range threshold - 1 {
		b.report(old, io.EOF, now)
	}
	if b.report(old, nil, now); b.run != 0 {
		t.Error("a success does not end a run of failures")
	}
	for n := range threshold {
		if _, tripped := b.report(old, io.EOF, now); tripped != (n == threshold-1) {
			t.Errorf("failure %d: tripped %v", n, tripped)
		}
	}
	b.report(old, nil, now)
	if _, ok := b.allow(); ok {
		t.Error("a late success has reset the breaker")
	}
	if since := b.reset(now.Add(time.Minute)); !since.Equal(now) {
		t.Errorf("down since %v", since)
	}
	for range 2 * threshold {
		b.report(old, io.EOF, now)
	}
	if trips, ok := b.allow(); !ok || trips != 1 {
		t.Errorf("late failures have tripped the breaker: %d, %v", trips, ok)
	}
}

func TestTLSAndUser(t *testing.T) {
	t.Parallel()
	s, trust := redistest.StartTLS(t)
	s.Do("ACL", "SETUSER", "edge", "on", ">p@ss/word", "~*", "&*", "+@all")
	s.Do("ACL", "SETUSER", "default", "off")
	url := strings.Replace(s.URL, "//", "//edge:p%40ss%2Fword@", 1)
	if err := ping(open(t, Options{URL: url, TLS: trust, Timeout: patient, DialTimeout: patient})); !errors.Is(err, redis.Nil) {
		t.Error(err)
	}
	fail(t, open(t, Options{URL: url, TLS: &tls.Config{MinVersion: tls.VersionTLS12}, DialTimeout: patient}), patient, FaultDenied)
	if err := ping(open(t, Options{URL: strings.Replace(url, "rediss", "redis", 1)})); faultOf(err) == "" {
		t.Errorf("without TLS: %v", err)
	}
}

func TestSentinelsLeadToTheMaster(t *testing.T) {
	t.Parallel()
	first := redistest.Start(t)
	second := first.StartReplica()
	watch := first.StartSentinels(second)
	c := open(t, Options{URL: watch.URL})
	set := func() error {
		return c.Do(t.Context(), time.Second, func(ctx context.Context, client redis.UniversalClient) error {
			return client.Set(ctx, "a", "1", 0).Err()
		})
	}
	if err := set(); err != nil {
		t.Fatal(err)
	}
	first.Stop()
	watch.AwaitMaster(second)
	for set() != nil {
		await(t, c, "the new master", isUp)
	}
	if got := second.Do("GET", "a"); got != "1" {
		t.Errorf("the new master has %v", got)
	}
	if got := second.Info("replication", "role"); got != "master" {
		t.Errorf("wrote to a %s", got)
	}
	unknown := open(t, Options{URL: strings.Replace(watch.URL, "=edge", "=other", 1)})
	fail(t, unknown, time.Second, FaultRefused)
}

func TestClusterLeadsToEachMaster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	c := open(t, Options{URL: cluster.URL})
	seen := map[string]bool{}
	for n := range 20 {
		key := fmt.Sprint("key ", n)
		err := c.Do(t.Context(), time.Second, func(ctx context.Context, client redis.UniversalClient) error {
			return client.Set(ctx, key, n, 0).Err()
		})
		if err != nil {
			t.Fatal(err)
		}
		master, err := c.Master(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		seen[master.Options().Addr] = true
		if got, err := master.Get(t.Context(), key).Int(); err != nil || got != n {
			t.Errorf("the master of %q has %d, %v", key, got, err)
		}
	}
	if len(seen) != 3 {
		t.Errorf("keys lie on %v", seen)
	}
	if c.Commands() < 40 {
		t.Errorf("%d commands counted", c.Commands())
	}
	await(t, c, "the look at each master", func(State) bool { return c.Commands() >= 40+3 })

	// With a part of the slots gone, the nodes that are left refuse all others.
	cluster.Nodes[0].Stop()
	for n := 0; c.State().Up; n++ {
		_ = c.Do(t.Context(), 50*time.Millisecond, func(ctx context.Context, client redis.UniversalClient) error {
			return client.Get(ctx, fmt.Sprint("key ", n%20)).Err()
		})
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		err := c.ping(ctx)
		cancel()
		if errors.Is(err, errClusterDown) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a cluster that is down answers a probe with %v", err)
		}
	}
	cluster.Nodes[0].Restart()
	await(t, c, "the cluster to be whole", isUp)
}

func TestMasterWithoutCluster(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := open(t, Options{URL: s.URL})
	master, err := c.Master(t.Context(), "a")
	if err != nil || redis.UniversalClient(master) != c.Client() {
		t.Errorf("%v, %v", master, err)
	}
}

func TestExamination(t *testing.T) {
	t.Parallel()
	for policy, warned := range map[string]bool{"allkeys-lfu": true, "volatile-lru": false, "noeviction": false} {
		for _, refused := range []string{"", "config"} {
			s := redistest.Start(t, "--maxmemory-policy", policy)
			if refused != "" {
				s.Do("ACL", "SETUSER", "edge", "on", ">p", "~*", "+@all", "-"+refused)
			} else {
				s.Do("ACL", "SETUSER", "edge", "on", ">p", "~*", "+@all")
			}
			var log safeBuffer
			c := open(t, Options{
				URL: s.URL, Username: "edge", Password: "p", Log: slog.New(slog.NewTextHandler(&log, nil)),
				Now: func() time.Time { return time.Now().Add(-time.Hour) },
			})
			if err := ping(c); !errors.Is(err, redis.Nil) {
				t.Fatal(err)
			}
			await(t, c, "the look at Redis", func(s State) bool { return s.Skew != 0 })
			if state := c.State(); state.Skew < 59*time.Minute || state.Skew > 61*time.Minute || (state.Evicts != "") != warned {
				t.Errorf("%s without %q: %+v", policy, refused, state)
			}
			if err := c.Close(); err != nil { // and with it the last line of the log
				t.Error(err)
			}
			if got := strings.Contains(log.String(), policy); got != warned {
				t.Errorf("%s without %q: the log says\n%s", policy, refused, log.String())
			}
			if !strings.Contains(log.String(), "clock") {
				t.Errorf("an hour's difference is not worth a word:\n%s", log.String())
			}
		}
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := open(t, Options{URL: s.URL})
	if err := ping(c); !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	// Under calls that still run, also of a server that does not answer.
	s.Freeze()
	var calls sync.WaitGroup
	for range 4 {
		calls.Go(func() { _ = ping(c) })
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	calls.Wait()
	if err := ping(c); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
	s.Thaw()
	for deadline := time.Now().Add(20 * time.Second); s.Info("clients", "connected_clients") != "1"; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("connections stay open") // the one is the test's own
		}
	}
}

// Close returns when the watcher is gone, also when it is waiting for Redis. It is
// not parallel, so that there is no other.
func TestCloseWaits(t *testing.T) {
	s := redistest.Start(t)
	s.Stop()
	for range 20 {
		c := open(t, Options{URL: s.URL})
		fail(t, c, time.Second, FaultRefused)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if left := goroutines(); strings.Contains(left, "(*Conn).watch") {
			t.Fatalf("still running:\n%s", left)
		}
	}
}

func TestOptionsRefused(t *testing.T) {
	for name, o := range map[string]Options{
		"TLS":          {URL: "redis://h", TLS: &tls.Config{MinVersion: tls.VersionTLS12}},
		"URL":          {},
		"Timeout":      {URL: "redis://h", Timeout: -1},
		"DialTimeout":  {URL: "redis://h", DialTimeout: -1},
		"PoolSize":     {URL: "redis://h", PoolSize: -1},
		"URL as typed": {URL: "redis://h:hunter2@"},
	} {
		c, err := Open(o)
		if err == nil {
			t.Errorf("%s: accepted", name)
			c.Close()
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the password is shown: %v", err)
		}
	}
}

// safeBuffer is a log that is read while it is written.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
