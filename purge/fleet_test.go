package purge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"edge/cachestore"
	"edge/cachestore/redis/conn"
	"edge/cachestore/redis/redistest"
	"edge/cachestore/redis/stream"
)

// fleet is some nodes' logs over one Redis, which may be another from one moment to
// the next.
type fleet struct {
	t       testing.TB
	server  *redistest.Server
	master  atomic.Pointer[conn.Conn]
	log     atomic.Pointer[stream.Log]
	records int // that the stream holds
}

func newFleet(t testing.TB) *fleet {
	t.Helper()
	f := &fleet{t: t}
	f.turnTo(redistest.Start(t))
	return f
}

// turnTo makes a server the master for all nodes.
func (f *fleet) turnTo(s *redistest.Server) {
	f.t.Helper()
	c, err := conn.Open(conn.Options{URL: s.URL})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	f.server = s
	f.master.Store(c)
	f.log.Store(stream.New(stream.Options{Client: c, Prefix: "edge:", MaxRecords: f.records}))
}

// replica starts a server that follows the master until it is cut off. Unlike one that
// was started as a replica, it stays a master through a restart.
func (f *fleet) replica() *redistest.Server {
	f.t.Helper()
	r := redistest.Start(f.t)
	host, port, _ := strings.Cut(f.server.Addr, ":")
	f.server.Do("CONFIG", "SET", "repl-diskless-sync-delay", "0")
	r.Do("REPLICAOF", host, port)
	for deadline := time.Now().Add(20 * time.Second); r.Info("replication", "master_link_status") != "up"; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatal("the replica does not follow")
		}
	}
	return r
}

// reached waits until the replica has what was written so far. The command WAIT does
// not tell: it is about writes of its own connection.
func (f *fleet) reached(replica *redistest.Server) {
	f.t.Helper()
	offset := func(s *redistest.Server) int {
		n, err := strconv.Atoi(s.Info("replication", "master_repl_offset"))
		if err != nil {
			f.t.Fatal(err)
		}
		return n
	}
	written := offset(f.server)
	for deadline := time.Now().Add(20 * time.Second); offset(replica) < written; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatal("the replica is never in step")
		}
	}
}

// cutOff ends the link of a replica to its master: what is written there from now on
// does not reach it.
func cutOff(replica *redistest.Server) { replica.Do("REPLICAOF", "127.0.0.1", 1) }

// failover kills the master and makes a replica the master.
func (f *fleet) failover(replica *redistest.Server) {
	f.t.Helper()
	f.server.Stop()
	replica.Do("REPLICAOF", "NO", "ONE")
	f.turnTo(replica)
}

// member is one node, and what stands between it and Redis: it is its own Fleet.
type member struct {
	*Log
	t    testing.TB
	f    *fleet
	cut  atomic.Bool
	busy atomic.Int64 // calls under way that a cut comes too late for
	late atomic.Int64 // how far its clock is ahead
}

// reach begins a call, unless the node is cut off; the end of the call counts it out.
func (m *member) reach() bool {
	m.busy.Add(1)
	if m.cut.Load() {
		m.busy.Add(-1)
		return false
	}
	return true
}

var errCut = errors.New("cut off")

func (m *member) Sync(ctx context.Context, s *stream.Sync) (*stream.Synced, error) {
	if !m.reach() {
		return nil, errCut
	}
	defer m.busy.Add(-1)
	return m.f.log.Load().Sync(ctx, s)
}

func (m *member) Append(ctx context.Context, a *stream.Append) (*stream.Appended, error) {
	if !m.reach() {
		return nil, errCut
	}
	defer m.busy.Add(-1)
	return m.f.log.Load().Append(ctx, a)
}

func (m *member) Await(ctx context.Context, ring func(), after func() uint64, block time.Duration) error {
	if m.cut.Load() {
		return errCut
	}
	return m.f.log.Load().Await(ctx, ring, after, block)
}

func (m *member) Leave(ctx context.Context, n stream.Node, timeout time.Duration) error {
	if m.cut.Load() {
		return errCut
	}
	return m.f.log.Load().Leave(ctx, n, timeout)
}

// open starts a node, changed by set before, and waits until it is ready.
func (f *fleet) open(name string, set ...func(*Log)) *member {
	f.t.Helper()
	m := f.start(name, set...)
	m.until("ready", m.Ready)
	return m
}

func (f *fleet) start(name string, set ...func(*Log)) *member {
	f.t.Helper()
	m := &member{t: f.t, f: f}
	began := time.Now()
	m.Log = &Log{
		Ledger: New(Options{}), Name: name,
		Fleet:     m,
		Heartbeat: 20 * time.Millisecond,
		Clock:     func() time.Duration { return time.Since(began) + time.Duration(m.late.Load()) },
		Log:       slog.New(slog.NewTextHandler(testLog{f.t}, nil)),
	}
	for _, s := range set {
		s(m.Log)
	}
	m.Open()
	f.t.Cleanup(m.Close)
	return m
}

// testLog shows what a node says when its test fails.
type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	if l.t.Context().Err() == nil { // else the test is over
		l.t.Log(strings.TrimSpace(string(b)))
	}
	return len(b), nil
}

// until waits for a state of the node.
func (m *member) until(what string, is func() bool) {
	m.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			m.t.Fatalf("%s is never %s: %+v", m.Name, what, m.Stats())
		}
	}
}

// caught waits until the node has read the log after now.
func (m *member) caught() {
	m.t.Helper()
	after := m.Clock()
	m.until("caught up", func() bool {
		m.mu.Lock()
		read := m.read
		m.mu.Unlock()
		return read > after && m.Ready()
	})
}

// hold returns an entry of a surrogate key that the node fetches now.
func (m *member) hold(name string) *cachestore.Entry {
	return entry(key("shop", "a", "/"), m.Sequence(), HashKey("shop", name))
}

// serves reports whether the node would answer with the entry unasked.
func (m *member) serves(e *cachestore.Entry) bool {
	if !m.Trusted() {
		return false
	}
	v := m.Judge(e, 0)
	return !v.Dead && !v.Suspect
}

// shared is an entry in the shared tier.
type shared struct {
	generation Generation
	position   uint64
	name       string
}

func (m *member) share(e *cachestore.Entry, name string) shared {
	m.t.Helper()
	g, position, ok := m.Encode(e.Sequence)
	if !ok {
		m.t.Fatal("an entry cannot be shared")
	}
	return shared{g, position, name}
}

// load is what the node makes of an entry of the shared tier: nil when it is suspect.
func (m *member) load(s shared) *cachestore.Entry {
	sequence, known := m.Decode(s.generation, s.position)
	if !known {
		return nil
	}
	return entry(key("shop", "a", "/"), sequence, HashKey("shop", s.name))
}

func red(name string) []Record {
	return []Record{{Selector: Selector{Kind: Key, Site: "shop", Value: name}}}
}

// purge records a purge and waits until all have applied it.
func (m *member) purge(records []Record) Receipt {
	m.t.Helper()
	r, err := m.Record(m.t.Context(), records)
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), 20*time.Second)
	defer cancel()
	full, err := m.Follow(ctx, r.ID)
	if err != nil || !full.Complete {
		m.t.Fatalf("%+v, %v", full, err)
	}
	return full
}

func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func (r *Receipt) of(m *member) *NodeProgress {
	for i := range r.Nodes {
		if r.Nodes[i].ID == m.node {
			return &r.Nodes[i]
		}
	}
	return nil
}

// TestFleet: with a complete receipt no node serves what was purged, and what was
// fetched later lives.
func TestFleet(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 4} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			var nodes []*member
			for i := range n {
				nodes = append(nodes, f.open(fmt.Sprint("edge-", i)))
			}
			for round := range 20 {
				var held, others []*cachestore.Entry
				for _, m := range nodes {
					held = append(held, m.hold("red"))
					others = append(others, m.hold("blue"))
				}
				r := nodes[round%n].purge(append(red("red"), red("green")...))
				if len(r.Nodes) != n || r.Soft || r.Note != "" {
					t.Fatalf("%+v", r)
				}
				for i, m := range nodes {
					if m.serves(held[i]) {
						t.Fatalf("%s serves what was purged", m.Name)
					}
					if !m.serves(others[i]) || !m.serves(m.hold("red")) {
						t.Fatalf("%s does not serve what was not", m.Name)
					}
					if p := r.of(m); !p.Applied || p.State != "" || p.Latency <= 0 {
						t.Errorf("%+v", p)
					}
				}
			}
		})
	}
}

// TestReceiptAnywhere: every node knows how a purge stands, and what it never heard
// of.
func TestReceiptAnywhere(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.open("a"), f.open("b")
	soft := red("red")
	soft[0].Soft = true
	r := a.purge(soft)
	got, err := b.Follow(ended(), r.ID)
	if err != nil || got.ID != r.ID || !got.Complete || !got.Soft || len(got.Nodes) != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	if later := f.open("c"); true {
		if got, err := later.Follow(ended(), r.ID); err != nil || !got.Soft || len(got.Nodes) != 3 {
			t.Errorf("%+v, %v", got, err)
		}
	}
	prefix, _, _ := strings.Cut(r.ID, "-")
	for _, id := range []string{"", "x", "-", prefix, prefix + "-0", prefix + "-99", "00000000-1", prefix + "-x", r.ID + "0"} {
		if got, err := b.Follow(ended(), id); !errors.Is(err, ErrUnknownPurge) {
			t.Errorf("%q: %+v, %v", id, got, err)
		}
	}
}

// TestLateNode: a node that starts, or was away, applies what it missed before it is
// ready, and tells old entries of the shared tier from new ones.
func TestLateNode(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a := f.open("a")
	old := a.share(a.hold("red"), "red")
	a.purge(red("red"))
	young := a.share(a.hold("red"), "red")
	b := f.open("b")
	if e := b.load(old); e != nil && b.serves(e) {
		t.Error("a new node serves an old entry of the shared tier")
	}
	if e := b.load(young); e == nil || !b.serves(e) {
		t.Error("a new node does not serve a new entry of the shared tier")
	}

	mine := b.hold("red")
	b.cut.Store(true)
	b.until("without the log", func() bool { return !b.Ready() })
	if !b.Trusted() {
		t.Error("a node that has just lost the log trusts nothing")
	}
	r, err := a.Record(t.Context(), red("red"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if got, err := a.Follow(ctx, r.ID); err != nil || got.Complete || got.of(b).Applied || !got.of(a).Applied {
		t.Errorf("%+v, %v", got, err)
	}
	b.cut.Store(false)
	if got, err := a.Follow(t.Context(), r.ID); err != nil || !got.Complete {
		t.Errorf("%+v, %v", got, err)
	}
	if b.serves(mine) {
		t.Error("served after the receipt")
	}
}

// TestLeave: nobody waits for a node that has left.
func TestLeave(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.open("a"), f.open("b")
	e := b.hold("red")
	b.Close()
	if b.serves(e) {
		t.Error("a node serves after it has said that it does not")
	}
	if r := a.purge(red("red")); len(r.Nodes) != 1 {
		t.Errorf("%+v", r)
	}
	b.Log.Fleet = nil // Close again, from the clean-up, must not be needed
	b.Log.everHad = false
}

// testLostLog has a fleet lose its log, of which kept records are left.
func testLostLog(t *testing.T, lose func(f *fleet), kept int) {
	f := newFleet(t)
	a, b := f.open("a"), f.open("b")
	before := a.hold("red")
	first := a.purge(red("red"))
	middle := a.share(a.hold("red"), "red")
	old := b.share(b.hold("blue"), "blue")
	inFlight := b.hold("blue")
	lose(f)
	// a receipt that is complete, for a purge that the log may not have kept.
	for _, m := range []*member{a, b} {
		m.until("another", func() bool { return m.Stats().Generations > 0 })
		m.caught()
		if m.serves(before) {
			t.Errorf("%s serves what was purged before", m.Name)
		}
		if e := m.load(middle); e == nil || !m.serves(e) {
			t.Errorf("%s does not know its own past", m.Name)
		}
		if s := m.Stats(); s.Holes != 0 || s.Applied != 1 {
			t.Errorf("%+v", s)
		}
		// In the new log, the purge may stand where others had not read it yet.
		if e := m.load(shared{m.generation, 0, "red"}); e != nil && m.serves(e) {
			t.Errorf("%s takes an entry for newer than a purge that came again", m.Name)
		}
	}
	c := f.open("c")
	for _, s := range []shared{middle, old} {
		if e := c.load(s); e != nil && c.serves(e) {
			t.Error("a new node takes an entry of an older log for certain")
		}
	}
	got, err := b.Follow(t.Context(), first.ID)
	if err != nil || !got.Complete || len(got.Nodes) != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	b.purge(red("blue"))
	for _, m := range []*member{a, b, c} {
		if e := m.load(old); e != nil && m.serves(e) || m.serves(inFlight) && m == b {
			t.Errorf("%s serves what was purged after", m.Name)
		}
		if e := m.load(a.share(a.hold("blue"), "blue")); e == nil || !m.serves(e) {
			t.Errorf("%s does not serve what is new", m.Name)
		}
	}
	if n := a.Stats().Rewritten + b.Stats().Rewritten; (n > 0) != (kept == 0) {
		t.Errorf("%d records were given back", n)
	}
}

func TestRedisRestartsEmpty(t *testing.T) {
	t.Parallel()
	testLostLog(t, func(f *fleet) { f.server.Restart() }, 0)
}

func TestRedisRestartsWhole(t *testing.T) {
	t.Parallel()
	testLostLog(t, func(f *fleet) { f.server.Save(); f.server.Restart() }, 1)
}

func TestRedisFlushed(t *testing.T) {
	t.Parallel()
	testLostLog(t, func(f *fleet) { f.server.Do("FLUSHALL") }, 0)
}

func TestFailoverLosesNothing(t *testing.T) {
	t.Parallel()
	testLostLog(t, func(f *fleet) { f.failover(f.replica()) }, 1)
}

// TestFailoverLosesTheLast: the replica lacks a purge that has a complete receipt.
func TestFailoverLosesTheLast(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.open("a"), f.open("b")
	for n := range 30 {
		a.purge(red(fmt.Sprint(n)))
	}
	mine, theirs := a.hold("red"), b.hold("red")
	stored := a.share(mine, "red")
	replica := f.replica()
	cutOff(replica)
	r := a.purge(red("red"))
	f.failover(replica)
	c := f.open("c")
	for _, m := range []*member{a, b, c} {
		m.caught()
		if m.serves(mine) && m == a || m.serves(theirs) && m == b {
			t.Errorf("%s serves from memory", m.Name)
		}
		if e := m.load(stored); e != nil && m.serves(e) {
			t.Errorf("%s serves from the shared tier", m.Name)
		}
	}
	if got, err := b.Follow(t.Context(), r.ID); err != nil || !got.Complete || len(got.Nodes) != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	if s := c.Stats(); s.Applied != 31 {
		t.Errorf("%+v", s)
	}
	if n := a.Stats().Rewritten + b.Stats().Rewritten; n < 1 || n > 2 {
		t.Errorf("%d records were given back", n)
	}
}

// TestRedisFrozen: a purge is applied here, the caller is told that it is not
// recorded, and it reaches the others when Redis is back.
func TestRedisFrozen(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	quick := func(l *Log) { l.Deadline = 50 * time.Millisecond }
	a, b := f.open("a", quick), f.open("b", quick)
	mine, theirs := a.hold("red"), b.hold("red")
	f.server.Freeze()
	r, err := a.Record(ended(), red("red"))
	if !errors.Is(err, ErrNotRecorded) || r.Complete || len(r.Nodes) != 1 || !r.Nodes[0].Applied {
		t.Fatalf("%+v, %v", r, err)
	}
	if a.serves(mine) {
		t.Error("the node that was asked still serves it")
	}
	young := a.hold("red")
	if !a.serves(young) {
		t.Error("what is fetched later is not served")
	}
	a.Invalidate(key("shop", "b", "/form"))
	form := entry(key("shop", "b", "/form"), theirs.Sequence)
	f.server.Thaw()
	b.until("told", func() bool { return !b.serves(theirs) && !b.serves(form) })
	a.until("done", func() bool { return a.Stats().WaitingNow == 0 })
	a.caught()
	if s := a.Stats(); s.Alone != 1 || s.Generations != 0 || s.Dropped != 0 {
		t.Errorf("%+v", s)
	}
	if _, err := a.Record(ended(), red("red")); err != nil {
		t.Error(err)
	}
}

// TestAloneIsOlderThanShared: what a node has purged alone holds for every entry that
// the others store until the log has the purge.
func TestAloneIsOlderThanShared(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.open("a"), f.open("b")
	a.cut.Store(true)
	if _, err := a.Record(t.Context(), red("red")); !errors.Is(err, ErrNotRecorded) {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := b.Record(t.Context(), red("other")); err != nil {
			t.Fatal(err)
		}
	}
	stored := b.share(b.hold("red"), "red") // b does not know
	if e := a.load(stored); e != nil && a.serves(e) {
		t.Error("served while the purge waits")
	}
	a.cut.Store(false)
	a.until("done", func() bool { return a.Stats().WaitingNow == 0 })
	for _, m := range []*member{a, b} {
		m.caught()
		if e := m.load(stored); e != nil && m.serves(e) {
			t.Errorf("%s serves it after the purge", m.Name)
		}
		if e := m.load(m.share(m.hold("red"), "red")); e == nil || !m.serves(e) {
			t.Errorf("%s does not serve what is newer", m.Name)
		}
	}
}

// TestFence: a node that hears nothing trusts nothing in the end, and nobody counts on
// that before twice the time.
func TestFence(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.open("a"), f.open("b")
	a.purge(red("blue")) // the table is believed from now on
	e := b.hold("red")
	b.cut.Store(true)
	b.until("without the log", func() bool { return !b.Ready() })
	b.late.Add(int64(10*time.Minute - time.Second))
	if !b.serves(e) {
		t.Fatal("fenced too early")
	}
	b.late.Add(int64(time.Second))
	if b.Trusted() || !b.Stats().FencedNow {
		t.Fatal("not fenced")
	}
	r, err := a.Record(t.Context(), red("red"))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		silent   time.Duration
		state    string
		complete bool
	}{{0, "", false}, {10 * time.Second, "lost", false}, {19 * time.Minute, "lost", false}, {21 * time.Minute, "fenced", true}} {
		row := fmt.Sprintf("%d %d 0 %x 0", time.Now().Add(-test.silent).UnixMicro(), (10 * time.Minute).Microseconds(), Generation{})
		f.server.Do("HSET", "edge:{purge}:nodes", b.node, row)
		got, err := a.Follow(ended(), r.ID)
		if p := got.of(b); err != nil || got.Complete != test.complete || p.State != test.state || p.Applied {
			t.Errorf("silent for %v: %+v, %v", test.silent, got, err)
		}
	}
	b.cut.Store(false)
	b.until("back", b.Trusted)
	if b.serves(e) || !b.serves(b.hold("red")) {
		t.Error("not caught up when it is trusted again")
	}
	if s := b.Stats(); s.Fences != 1 || s.Holes != 0 {
		t.Errorf("%+v", s)
	}
}

// TestFencedThroughALostLog: what was purged meanwhile may be in no log any more, and
// had a complete receipt.
func TestFencedThroughALostLog(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.open("a"), f.open("b")
	e := b.hold("red")
	stored := b.share(e, "red")
	b.cut.Store(true)
	b.late.Add(int64(11 * time.Minute))
	if _, err := a.Record(t.Context(), red("red")); err != nil {
		t.Fatal(err)
	}
	a.Close()
	f.server.Restart()
	b.cut.Store(false)
	b.until("back", b.Trusted)
	b.caught()
	if b.serves(e) {
		t.Error("served from memory")
	}
	if e := b.load(stored); e != nil && b.serves(e) {
		t.Error("served from the shared tier")
	}
}

func TestFenceOff(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.open("a"), f.open("b", func(l *Log) { l.Fence = -1 })
	if r := a.purge(red("red")); r.Note == "" {
		t.Errorf("%+v", r)
	}
	if r := b.purge(red("red")); r.Note == "" {
		t.Errorf("%+v", r)
	}
	b.cut.Store(true)
	b.late.Add(int64(1000 * time.Hour))
	if !b.Trusted() {
		t.Error("fenced")
	}
	alone := f.start("alone", func(l *Log) { l.Fence = -1 }, func(l *Log) { l.Fleet = b })
	if !alone.Trusted() || alone.Ready() {
		t.Error("a node without a fence is not trusted, or ready without the log")
	}
}

// TestStartsWithoutRedis: nobody knows of the node, so it trusts nothing; and what it
// held before the log was reached stays suspect.
func TestStartsWithoutRedis(t *testing.T) {
	t.Parallel()
	for _, fence := range []time.Duration{0, -1} {
		t.Run(fmt.Sprint(fence), func(t *testing.T) { t.Parallel(); testStartsWithoutRedis(t, fence) })
	}
}

func testStartsWithoutRedis(t *testing.T, fence time.Duration) {
	f := newFleet(t)
	a := f.open("a")
	f.server.Freeze()
	b := f.start("b", func(l *Log) { l.Deadline, l.Fence = 20*time.Millisecond, fence })
	e := b.hold("red")
	if b.Trusted() != (fence < 0) || b.Ready() {
		t.Error("trusted, or not")
	}
	if _, _, ok := b.Encode(e.Sequence); ok {
		t.Error("an entry of before the log can be shared")
	}
	b.Invalidate(key("shop", "a", "/other"))
	f.server.Thaw()
	b.until("ready", b.Ready)
	if b.serves(e) || !b.serves(b.hold("red")) {
		t.Error("what was held before is served, or nothing after")
	}
	a.purge(red("red"))
}

// TestTrimmed: a node that was away for longer than the log goes back.
func TestTrimmed(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.records = 100
	f.turnTo(f.server)
	a, b := f.open("a"), f.open("b")
	e := b.hold("blue")
	b.cut.Store(true)
	b.until("without the log", func() bool { return !b.Ready() })
	var many []Record
	for n := range 20 {
		many = append(many, red(fmt.Sprint(n))...)
	}
	for range 30 {
		if _, err := a.Record(t.Context(), many); err != nil {
			t.Fatal(err)
		}
	}
	b.cut.Store(false)
	b.until("ready", b.Ready)
	if s := b.Stats(); s.Holes != 1 || s.PositionNow != 600 {
		t.Errorf("%+v", s)
	}
	if b.serves(e) || b.Judge(e, 0).Dead || !b.serves(b.hold("blue")) {
		t.Error("what is older than the hole is not suspect, or what is newer is")
	}
}

// TestBehindThroughAFailover: a node that was a little behind when the log changed has
// missed nothing when all of it is given back.
func TestBehindThroughAFailover(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	replica := f.replica()
	a, b := f.open("a"), f.open("b")
	a.purge(red("0"))
	mine, theirs := b.hold("other"), b.hold("4")
	b.cut.Store(true)
	b.until("without the log", func() bool { return !b.Ready() })
	record := func(name string) {
		t.Helper()
		if _, err := a.Record(t.Context(), red(name)); err != nil {
			t.Fatal(err)
		}
	}
	record("1")
	record("2")
	f.reached(replica)
	cutOff(replica)
	record("3")
	record("4")
	f.failover(replica)
	a.until("done", func() bool { return a.Stats().Rewritten == 2 && a.Ready() })
	b.cut.Store(false)
	b.until("ready", b.Ready)
	if s := b.Stats(); s.Holes != 0 || s.Applied != 5 {
		t.Errorf("%+v", s)
	}
	if !b.serves(mine) || b.serves(theirs) {
		t.Error("serves what it should not, or does not what it should")
	}
}

// TestEmptiedAndWritten: what stands in the new log at the place of an old record is
// not taken for it.
func TestEmptiedAndWritten(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.open("a"), f.open("b")
	a.purge(red("red"))
	for _, m := range []*member{a, b} {
		m.cut.Store(true)
		m.until("without the log", func() bool { return !m.Ready() })
	}
	e := b.hold("later")
	f.server.Do("FLUSHALL")
	c := f.open("c")
	if _, err := c.Record(t.Context(), append(red("later"), red("again")...)); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*member{a, b} {
		m.cut.Store(false)
		m.until("ready", func() bool { return m.Ready() && m.Stats().Generations == 1 })
	}
	if b.serves(e) {
		t.Error("a purge was taken for another")
	}
	if s := c.Stats(); a.Stats().Rewritten+b.Stats().Rewritten == 0 {
		t.Errorf("nothing was given back: %+v", s)
	}
	c.until("told", func() bool { return c.Stats().PositionNow >= 3 })
}

// TestReceiptRows holds a receipt against tables of nodes.
func TestReceiptRows(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a := f.open("a")
	if _, err := a.Record(t.Context(), append(red("red"), red("green")...)); err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	m := a.history.all()[1]
	now := time.Now()
	head := stream.Head{Generation: a.generation, Now: now, Born: now.Add(-time.Hour), Last: 2}
	row := stream.Node{Name: "b", Seen: now, Fence: time.Minute, Generation: a.generation, Applied: 2}
	a.roster["c"] = row
	for _, test := range []struct {
		name     string
		change   func(h *stream.Head, n *stream.Node)
		complete bool
		nodes    int
		state    string
		note     string
	}{
		{"all is well", func(*stream.Head, *stream.Node) {}, true, 2, "", ""},
		{"further on", func(_ *stream.Head, n *stream.Node) { n.Applied = 9 }, true, 2, "", ""},
		{"half of it", func(_ *stream.Head, n *stream.Node) { n.Applied = 1 }, false, 2, "", ""},
		{"in another log", func(_ *stream.Head, n *stream.Node) { n.Generation[0]++ }, false, 2, "", ""},
		{"left", func(_ *stream.Head, n *stream.Node) { n.Applied, n.Left = 1, true }, true, 1, "", ""},
		{"lost", func(_ *stream.Head, n *stream.Node) { n.Applied, n.Seen = 1, now.Add(-4*time.Second) }, false, 2, "lost", ""},
		{"lost for long", func(_ *stream.Head, n *stream.Node) { n.Applied, n.Seen = 1, now.Add(-2*time.Minute) }, false, 2, "lost", ""},
		{"fenced", func(_ *stream.Head, n *stream.Node) { n.Applied, n.Seen = 1, now.Add(-2*time.Minute-1) }, true, 2, "fenced", ""},
		{"applied, then silent", func(_ *stream.Head, n *stream.Node) { n.Seen = now.Add(-time.Hour) }, true, 2, "", ""},
		{"silent without a fence", func(_ *stream.Head, n *stream.Node) { n.Applied, n.Fence, n.Seen = 1, 0, now.Add(-time.Hour) }, false, 2, "lost", unfenced},
		{"without a fence", func(_ *stream.Head, n *stream.Node) { n.Fence = 0 }, true, 2, "", unfenced},
		{"a young log", func(h *stream.Head, _ *stream.Node) { h.Born = now.Add(-a.Settle + 1) }, false, 2, "", anew},
		{"a table of before", func(h *stream.Head, _ *stream.Node) { h.Last = 1 }, false, 2, "", ""},
		{"a table of another log", func(h *stream.Head, _ *stream.Node) { h.Generation[0]++ }, false, 3, "", ""},
	} {
		h, n := head, row
		test.change(&h, &n)
		r := a.receiptLocked(m, &snapshot{head: h, nodes: []stream.Node{{Name: a.node}, n}, at: a.Clock()})
		if r.Complete != test.complete || len(r.Nodes) != test.nodes || r.Note != test.note || len(r.Nodes) > 1 && r.Nodes[1].State != test.state {
			t.Errorf("%s: %+v", test.name, r)
		}
	}
	// A table of this log in which those of the last one are not restored yet.
	a.rosterOf = Generation{}
	a.roster["c"] = stream.Node{Name: "c", Seen: now, Fence: time.Minute}
	if r := a.receiptLocked(m, &snapshot{head: head, nodes: []stream.Node{row}, at: a.Clock()}); r.Complete || len(r.Nodes) != 3 {
		t.Errorf("%+v", r)
	}
	a.rosterOf = a.generation
	delete(a.roster, "c")
}

// TestForgotten: what so many purges came after that it is not remembered is unknown,
// for those too who follow it.
func TestForgotten(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.open("a", func(l *Log) { l.Remember = 3 }), f.open("b")
	b.cut.Store(true)
	first, err := a.Record(t.Context(), red("red"))
	if err != nil || first.Complete {
		t.Fatalf("%+v, %v", first, err)
	}
	gone := make(chan error)
	go func() {
		_, err := a.Follow(context.Background(), first.ID)
		gone <- err
	}()
	for _, name := range []string{"green", "blue", "grey"} {
		if _, err := a.Record(t.Context(), red(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-gone; !errors.Is(err, ErrUnknownPurge) {
		t.Errorf("followed until %v", err)
	}
	if n := len(a.history.byName); n != 3 {
		t.Errorf("%d are remembered by name", n)
	}
	b.cut.Store(false)
}

// TestReceiptWithoutRedis: what cannot be said of a purge now is said as of any other.
func TestReceiptWithoutRedis(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a := f.open("a", func(l *Log) { l.Deadline = 50 * time.Millisecond })
	known := a.purge(red("red"))
	a.cut.Store(true)
	for _, id := range []string{known.ID, "00000000-1"} {
		if r, err := a.Follow(ended(), id); err != nil || r.Complete || r.Nodes == nil || r.Note == "" {
			t.Errorf("%s: %+v, %v", id, r, err)
		}
	}
	a.cut.Store(false)
}

// TestLostForGood: records were lost with the log, and nobody has them to give back.
func TestLostForGood(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	few := func(l *Log) { l.Remember = 3 }
	a, b := f.open("a", few), f.open("b", few)
	a.purge(red("0"))
	e := b.hold("1")
	b.cut.Store(true)
	b.until("without the log", func() bool { return !b.Ready() })
	for n := range 9 {
		if _, err := a.Record(t.Context(), red(fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
	}
	f.server.Restart()
	a.until("done", func() bool { return a.Stats().Rewritten == 3 })
	b.cut.Store(false)
	b.until("ready", func() bool { return b.Ready() && b.Stats().Generations == 1 })
	if s := b.Stats(); s.Holes != 1 || b.serves(e) {
		t.Errorf("%+v", s)
	}
}

// TestUnknownRecord: of a later version, say.
func TestUnknownRecord(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a := f.open("a")
	e := a.hold("red")
	if _, err := f.log.Load().Append(t.Context(), &stream.Append{Records: []stream.Record{{ID: stream.NewID(), Payload: []byte{99}}}, Timeout: time.Second}); err != nil {
		t.Fatal(err)
	}
	a.until("told", func() bool { return a.Stats().Unknown == 1 })
	a.caught()
	if a.serves(e) || !a.serves(a.hold("red")) {
		t.Error("what is older is not suspect, or what is newer is")
	}
}

// TestInvalidationsReachAll: and however many there are, the log gets few records.
func TestInvalidationsReachAll(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.open("a"), f.open("b")
	other := entry(key("blog", "a", "/"), b.Sequence())
	before := b.Sequence()
	start := a.Clock()
	const many = 3000
	for n := range many {
		a.Invalidate(form(n))
	}
	for n := range many {
		e := entry(form(n), before)
		b.until("told", func() bool { return !b.serves(e) })
	}
	if !b.serves(other) {
		t.Error("another site suffers")
	}
	a.until("done", func() bool { return a.Stats().WaitingNow == 0 })
	rounds := uint64((a.Clock()-start)/a.Gather) + 2
	if s := b.Stats(); s.Applied > rounds {
		t.Errorf("%d records for %d invalidations", s.Applied, many)
	}
}

// TestTableLost: when the table of nodes goes with the log, a node that was cut off
// before is still waited for, by those that remember it and by those that they tell.
func TestTableLost(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.open("a"), f.open("b")
	a.purge(red("red"))
	a.caught()
	b.cut.Store(true)
	b.until("without the log", func() bool { return !b.Ready() })
	f.server.Do("FLUSHALL")
	a.until("another", func() bool { return a.Stats().Generations == 1 })
	a.caught()
	c := f.open("c")
	for _, m := range []*member{a, c} {
		r, err := m.Record(t.Context(), red("red"))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if got, err := m.Follow(ctx, r.ID); err != nil || got.Complete || got.of(b) == nil {
			t.Errorf("%s: %+v, %v", m.Name, got, err)
		}
	}
}

// TestOneReader: however many follow purges, the table is read by one.
func TestFollowers(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a := f.open("a")
	done := make(chan Receipt)
	const many = 50
	for n := range many {
		go func() {
			r, err := a.Record(context.Background(), red(fmt.Sprint(n)))
			if err == nil {
				r, err = a.Follow(context.Background(), r.ID)
			}
			if err != nil {
				t.Error(err)
			}
			done <- r
		}()
	}
	for range many {
		if r := <-done; !r.Complete {
			t.Errorf("%+v", r)
		}
	}
	if s := a.Stats(); s.PositionNow != many || s.Recorded != many {
		t.Errorf("%+v", s)
	}
}

// TestClosingLosesNothing: what a node has applied alone is in the log when it leaves,
// though it has just been gathered.
func TestClosingLosesNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a := f.open("a", func(l *Log) { l.Gather = time.Hour })
	b := f.open("b")
	k := key("shop", "a", "/")
	e := entry(k, b.Sequence())
	a.Invalidate(k) // written at once, as the first in an hour
	a.until("without a backlog", func() bool { return a.Stats().WaitingNow == 0 })
	b.until("told", func() bool { return !b.serves(e) })
	held, other := entry(k, b.Sequence()), entry(key("blog", "a", "/"), b.Sequence())
	a.Invalidate(k)
	a.Invalidate(key("blog", "a", "/"))
	a.Close()
	b.caught()
	if b.serves(held) || b.serves(other) {
		t.Error("an invalidation was lost")
	}
	if n := a.Stats().WaitingNow; n != 0 {
		t.Errorf("%d wait", n)
	}

	c := f.open("c", func(l *Log) { l.Gather = time.Hour })
	c.cut.Store(true)
	c.Invalidate(k)
	c.Close() // nobody can be told, and nobody waits for that
}
