package redistest

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestServerLives(t *testing.T) {
	t.Parallel()
	s := Start(t, "--maxmemory-policy", "allkeys-lru")
	if got := s.Info("memory", "maxmemory_policy"); got != "allkeys-lru" {
		t.Errorf("an argument did not arrive: the policy is %q", got)
	}
	addr := s.Addr
	s.Do("SET", "kept", "1")
	s.Save()
	s.Do("SET", "lost", "1")
	s.Stop()
	if c, err := net.Dial("tcp", s.Addr); err == nil {
		t.Error("a stopped server takes connections")
		c.Close()
	}
	s.Stop()
	s.Restart()
	if got := s.Keys("*"); len(got) != 1 || got[0] != "kept" {
		t.Errorf("restarted with %q", got)
	}
	s.Restart()
	s.RestartEmpty()
	if got := s.Keys("*"); len(got) != 0 {
		t.Errorf("restarted empty with %q", got)
	}
	if s.Addr != addr {
		t.Errorf("moved from %s to %s", addr, s.Addr)
	}
	if got := s.Do("GET", "kept"); got != nil {
		t.Errorf("no value is %v", got)
	}
}

func TestServerFreezes(t *testing.T) {
	t.Parallel()
	s := Start(t)
	for range 3 {
		s.Freeze()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if err := s.client.Ping(ctx).Err(); !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a frozen server answers: %v", err)
		}
		cancel()
		s.Thaw()
		s.Do("PING")
	}
	s.Freeze() // and is killed all the same at the end
}

// What a test has started is gone when it has ended.
func TestServerEndsWithTheTest(t *testing.T) {
	t.Parallel()
	var s *Server
	var p *process
	t.Run("inner", func(t *testing.T) {
		s = Start(t)
		p = s.process
	})
	select {
	case <-p.ended:
	default:
		t.Error("the process runs on")
	}
	if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
		t.Errorf("its directory is still there: %v", err)
	}
}

func TestReplicaFollows(t *testing.T) {
	t.Parallel()
	master := Start(t)
	replica := master.StartReplica()
	master.Do("SET", "a", "1")
	master.Do("WAIT", 1, 0)
	if got := replica.Do("GET", "a"); got != "1" {
		t.Errorf("the replica has %v", got)
	}
}

func TestSentinelsReplaceTheMaster(t *testing.T) {
	t.Parallel()
	master := Start(t)
	replica := master.StartReplica()
	watch := master.StartSentinels(replica)
	if got := watch.Master(); got != master.Addr {
		t.Fatalf("the master is %s, not %s", got, master.Addr)
	}
	master.Stop()
	watch.AwaitMaster(replica)
	if got := watch.Master(); got != replica.Addr {
		t.Errorf("the master is %s, not %s", got, replica.Addr)
	}
}

func TestClusterIsOne(t *testing.T) {
	t.Parallel()
	c := StartCluster(t)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{c.Nodes[0].Addr}})
	defer client.Close()
	for _, key := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		if err := client.Set(t.Context(), key, key, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	var counts []int
	for _, node := range c.Nodes {
		counts = append(counts, len(node.Keys("*")))
	}
	if counts[0] == 0 || counts[1] == 0 || counts[2] == 0 || counts[0]+counts[1]+counts[2] != 8 {
		t.Errorf("the nodes have %v keys", counts)
	}
}

func TestTLSOnly(t *testing.T) {
	t.Parallel()
	s, config := StartTLS(t)
	if got := s.Do("PING"); got != "PONG" {
		t.Errorf("answers %v", got)
	}
	config.RootCAs = nil
	stranger := redis.NewClient(&redis.Options{Addr: s.Addr, TLSConfig: config, MaxRetries: -1, DialerRetries: 1})
	defer stranger.Close()
	if err := stranger.Ping(t.Context()).Err(); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("trusted without reason: %v", err)
	}
	plain := redis.NewClient(&redis.Options{Addr: s.Addr, MaxRetries: -1, DialerRetries: 1})
	defer plain.Close()
	if err := plain.Ping(t.Context()).Err(); err == nil {
		t.Error("speaks without TLS")
	}
}
