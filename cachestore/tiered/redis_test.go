package tiered

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"edge/cachestore"
	"edge/cachestore/redis"
	"edge/cachestore/redis/conn"
	"edge/cachestore/redis/redistest"
	"edge/cachestore/storetest"
)

// oneLog is the log of purges that all nodes of these tests follow.
type oneLog struct{}

func (oneLog) Encode(sequence uint64) (generation [16]byte, position uint64, ok bool) {
	return [16]byte{1}, sequence, true
}

func (oneLog) Decode(generation [16]byte, position uint64) (sequence uint64, known bool) {
	return position, generation == [16]byte{1}
}

// patient is long enough for a busy machine: only what hangs uses it up.
const patient = 10 * time.Second

func connect(t testing.TB, url string) *conn.Conn {
	t.Helper()
	c, err := conn.Open(conn.Options{URL: url, DialTimeout: patient})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// node is the tiers of one node.
type node struct {
	*Store
	redis *redis.Store
}

func newNode(t testing.TB, url string, timeout time.Duration) *node {
	t.Helper()
	shared := redis.New(redis.Options{
		Client: connect(t, url), Generations: oneLog{}, GetTimeout: timeout, PutTimeout: timeout,
	})
	return &node{open(t, Options{Shared: shared}), shared}
}

// newNodeOf is a node whose requests have so much patience, and Redis any time.
func newNodeOf(t *testing.T, url string, patience time.Duration) *node {
	t.Helper()
	shared := redis.New(redis.Options{Client: connect(t, url), Generations: oneLog{}, GetTimeout: patient, PutTimeout: patient})
	return &node{open(t, Options{Shared: shared, Patience: patience}), shared}
}

// settled waits until all that was written is in Redis, or was given up.
func (n *node) settled(t *testing.T) {
	t.Helper()
	eventually(t, "all is written", func() bool { return len(busy(n.Store)) == 0 })
}

func (n *node) puts(t *testing.T, e *cachestore.Entry) {
	t.Helper()
	if err := n.Put(t.Context(), e); err != nil {
		t.Fatal(err)
	}
}

func (n *node) finds(t *testing.T, target, variant, want string) {
	t.Helper()
	if got := text(n.Get(t.Context(), key(target), variant)); got != want {
		t.Fatalf("%s %s: found %q, not %q", target, variant, got, want)
	}
}

func language(target, variant, body string, sequence uint64) *cachestore.Entry {
	e := entry(target, body, sequence)
	e.Vary = &cachestore.Vary{On: []string{"accept-language"}, Variant: variant}
	return e
}

func TestStoreOverRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c := connect(t, server.URL)
	nth := 0
	storetest.RunBriefly(t, func(t *testing.T) cachestore.Store {
		nth++
		shared := redis.New(redis.Options{
			Client: c, Generations: oneLog{}, Prefix: fmt.Sprintf("test%d:", nth), GetTimeout: patient, PutTimeout: patient,
		})
		s := open(t, Options{Shared: shared, Queue: roomy, QueueBytes: 1 << 30})
		t.Cleanup(func() {
			if stats := shared.Stats(); stats.Errors+stats.Unavailable+stats.Damaged+stats.Foreign > 0 {
				t.Errorf("Redis: %+v", stats)
			}
			if stats := s.Stats(); stats.Dropped > 0 || stats.Suspect > 0 {
				t.Errorf("%+v", stats)
			}
		})
		return s
	})
	if len(server.Keys("*")) == 0 {
		t.Error("nothing came to Redis")
	}
}

func TestMemoryHitsSendNothing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	n := newNode(t, server.URL, patient)
	n.puts(t, entry("/", "here", 1))
	n.puts(t, language("/varied", "de", "hier", 1))
	n.settled(t)
	lookUps := func() string { return server.Info("commandstats", "cmdstat_getrange") }
	before := lookUps() // those of the scripts that write
	for range 1000 {
		n.finds(t, "/", "", "here")
		n.finds(t, "/varied", "de", "hier")
		if found := n.Get(t.Context(), key("/varied"), ""); len(found.VaryOn) != 1 {
			t.Fatalf("found %+v", found)
		}
	}
	if after := lookUps(); after != before {
		t.Errorf("Redis was asked for what is in memory: %s, before %s", after, before)
	}
	n.Get(t.Context(), key("/missing"), "")
	if lookUps() == before {
		t.Error("the counter of look-ups does not count them")
	}
}

// TestColdKeyIsReadOnce: all who ask for a key that only Redis has are answered with
// one look-up there.
func TestColdKeyIsReadOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	one, other := newNode(t, server.URL, patient), newNode(t, server.URL, patient)
	one.puts(t, entry("/", "there", 1))
	one.settled(t)
	var clients sync.WaitGroup
	for range 500 {
		clients.Go(func() {
			if got := text(other.Get(t.Context(), key("/"), "")); got != "there" {
				t.Errorf("found %q", got)
			}
		})
	}
	clients.Wait()
	if stats := other.redis.Stats(); stats.Gets != 1 {
		t.Errorf("%d look-ups", stats.Gets)
	}
}

func TestNodesShare(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	one, other := newNode(t, server.URL, patient), newNode(t, server.URL, patient)

	// The key varies: the other node's memory knows one variant, Redis two.
	one.puts(t, language("/", "de", "hier", 1))
	one.settled(t)
	if found := other.Get(t.Context(), key("/"), ""); len(found.VaryOn) != 1 {
		t.Fatalf("found %+v", found)
	}
	other.finds(t, "/", "de", "hier")
	one.puts(t, language("/", "en", "here", 1))
	one.settled(t)
	other.finds(t, "/", "en", "here")
	other.finds(t, "/", "fr", "")

	// A node's newer entry stays, whoever writes last.
	one.puts(t, entry("/plain", "old", 1))
	one.settled(t)
	other.puts(t, entry("/plain", "new", 2))
	other.settled(t)
	one.puts(t, entry("/plain", "of between", 1))
	one.settled(t)
	newNode(t, server.URL, patient).finds(t, "/plain", "", "new")

	// What one node has deleted, no other finds in Redis.
	gone := entry("/gone", "text", 1)
	one.puts(t, gone)
	one.settled(t)
	one.Delete(t.Context(), gone)
	one.settled(t)
	other.finds(t, "/gone", "", "")
}

// TestRedisStandsStill: nobody waits for a Redis that does not answer, beyond the
// first few and their deadlines; what is in memory is found; and when it goes on,
// so does all.
func TestRedisStandsStill(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	one, other := newNode(t, server.URL, patient), newNode(t, server.URL, 20*time.Millisecond)
	one.puts(t, entry("/shared", "there", 1))
	one.settled(t)
	other.puts(t, entry("/own", "here", 1))
	other.settled(t)

	server.Freeze()
	asked := func() int64 {
		stats := other.redis.Stats()
		return stats.Gets - stats.Unavailable
	}
	eventually(t, "Redis is not asked any more", func() bool {
		before := asked()
		other.finds(t, "/shared", "", "")
		other.finds(t, "/own", "", "here")
		return asked() == before
	})
	before := asked()
	for n := range 1000 {
		other.finds(t, fmt.Sprint("/shared/", n), "", "")
		other.finds(t, "/own", "", "here")
	}
	if after := asked(); after != before {
		t.Errorf("asked %d times while it is known to stand still", after-before)
	}
	// The same for writes, which only the queue knows.
	failed := other.Stats().Failed
	for n := range 100 {
		other.puts(t, entry(fmt.Sprint("/own/", n), "here", 1))
	}
	other.settled(t)
	if stats := other.Stats(); stats.Failed != failed+100 {
		t.Errorf("%+v", stats)
	}

	server.Thaw()
	eventually(t, "Redis is asked again", func() bool {
		return text(other.Get(t.Context(), key("/shared"), "")) == "there"
	})
	eventually(t, "Redis is written to again", func() bool {
		written := other.Stats().Written
		other.puts(t, entry("/again", "here", 1))
		other.settled(t)
		return other.Stats().Written > written
	})
}

// TestOneWaitForRedis: of a Redis that stands still, one request learns by waiting, long
// before a call to it has failed; and when it goes on, it is asked again.
func TestOneWaitForRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	one, other := newNode(t, server.URL, patient), newNodeOf(t, server.URL, time.Millisecond)
	one.puts(t, entry("/shared", "there", 1))
	one.settled(t)
	eventually(t, "the connection is made", func() bool { return text(other.Get(t.Context(), key("/shared"), "")) == "there" })
	eventually(t, "no look-up is under way", func() bool { return len(busy(other.Store)) == 0 })

	server.Freeze()
	before := other.Stats()
	for n := range 1000 {
		other.finds(t, fmt.Sprint("/missing/", n), "", "")
		other.finds(t, "/shared", "", "there")
	}
	if s := other.Stats(); s.Overdue != before.Overdue+1 || s.Skipped != before.Skipped+999 {
		t.Errorf("%d requests have waited, and %d have not", s.Overdue-before.Overdue, s.Skipped-before.Skipped)
	}

	server.Thaw()
	one.puts(t, entry("/new", "there", 1))
	one.settled(t)
	eventually(t, "Redis is asked again", func() bool {
		return text(other.Get(t.Context(), key("/new"), "")) == "there"
	})
}

// TestRedisComesBackEmpty: killed and started anew without its data and scripts, it
// is filled again.
func TestRedisComesBackEmpty(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	n := newNode(t, server.URL, time.Second)
	n.puts(t, entry("/before", "here", 1))
	n.settled(t)
	server.Stop()
	for range 10 {
		n.finds(t, "/missing", "", "")
		n.finds(t, "/before", "", "here")
	}
	server.RestartEmpty()
	eventually(t, "Redis has what is put now", func() bool {
		n.puts(t, entry("/after", "here", 1))
		n.settled(t)
		return len(server.Keys("*")) == 1
	})
	n.finds(t, "/before", "", "here")
	newNode(t, server.URL, patient).finds(t, "/after", "", "here")
}

func TestCloseWritesWhatWaits(t *testing.T) {
	t.Parallel()
	const entries = 300
	server := redistest.Start(t)
	s := New(Options{Memory: openMemory(t), Shared: newNode(t, server.URL, patient).redis})
	for n := range entries {
		if err := s.Put(t.Context(), entry(fmt.Sprint("/", n), "text", 1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if n := len(server.Keys("*")); n != entries {
		t.Errorf("%d of %d are in Redis", n, entries)
	}
}
