package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"edge/cachestore/redis/conn"
	"edge/cachestore/redis/redistest"
)

// rig is one log on a server of its own.
type rig struct {
	t      *testing.T
	server *redistest.Server
	log    *Log
}

func start(t *testing.T, o Options) *rig {
	t.Helper()
	s := redistest.Start(t)
	o.Client = dial(t, s.URL)
	o.Prefix = "edge:"
	return &rig{t, s, New(o)}
}

func dial(t testing.TB, url string) *conn.Conn {
	t.Helper()
	c, err := conn.Open(conn.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (r *rig) append(payloads ...string) *Appended {
	r.t.Helper()
	a := &Append{Timeout: time.Second}
	for _, p := range payloads {
		a.Records = append(a.Records, Record{ID: NewID(), Payload: []byte(p)})
	}
	got, err := r.log.Append(r.t.Context(), a)
	if err != nil {
		r.t.Fatal(err)
	}
	return got
}

func (r *rig) sync(s *Sync) *Synced {
	r.t.Helper()
	s.Timeout = time.Second
	if s.Limit == 0 {
		s.Limit = 1000
	}
	got, err := r.log.Sync(r.t.Context(), s)
	if err != nil {
		r.t.Fatal(err)
	}
	return got
}

// known is what a reader knows that has read all of it.
func known(s *Synced) *Sync {
	last := s.Records[len(s.Records)-1]
	return &Sync{Identity: s.Identity, Known: []Known{{last.Position, last.Chain}}}
}

func (s *Synced) payloads() (all string) {
	for _, r := range s.Records {
		all += string(r.Payload) + " "
	}
	return strings.TrimSpace(all)
}

func TestRecordsInOrder(t *testing.T) {
	r := start(t, Options{})
	empty := r.sync(&Sync{})
	if empty.First != 0 || empty.Last != 0 || !empty.Whole || empty.Generation == (Generation{}) {
		t.Errorf("an empty log: %+v", empty)
	}
	first := r.append("a\x00\xff", "b")
	if got := fmt.Sprint(first.Positions); got != "[1 2]" || first.Last != 2 || first.Generation != empty.Generation {
		t.Errorf("%+v", first)
	}
	r.append("c")
	all := r.sync(&Sync{Limit: 2})
	if all.payloads() != "a\x00\xff b" || all.Whole || all.From != 0 || all.First != 1 || all.Last != 3 {
		t.Errorf("%+v", all)
	}
	chain := Chain("")
	for _, record := range all.Records {
		if chain = chain.Follows(record.ID); record.Chain != chain {
			t.Errorf("the chain of %q is %q, not %q", record.Payload, record.Chain, chain)
		}
		if d := time.Since(record.Time); d < -time.Minute || d > time.Minute {
			t.Errorf("written at %v", record.Time)
		}
	}
	rest := r.sync(known(all))
	if rest.payloads() != "c" || !rest.Matched || rest.From != 2 || !rest.Whole {
		t.Errorf("%+v", rest)
	}
	if none := r.sync(known(rest)); len(none.Records) != 0 || !none.Matched || none.From != 3 || !none.Whole {
		t.Errorf("%+v", none)
	}
}

// TestAppendAgain: what may have been written before is not written twice, and
// nothing is written to a log that is another one.
func TestAppendAgain(t *testing.T) {
	r := start(t, Options{})
	r.append("a")
	when, was := time.UnixMicro(1_700_000_000_000_001), Place{Generation{7}, 9}
	record := Record{ID: NewID(), Time: when, First: was, Payload: []byte("b")}
	again := &Append{Records: []Record{record, {ID: NewID()}}, Upto: new(uint64(1)), Timeout: time.Second}
	if _, err := r.log.Append(t.Context(), &Append{Records: again.Records[:1], Timeout: time.Second}); err != nil {
		t.Fatal(err)
	}
	r.append("c")
	got, err := r.log.Append(t.Context(), again)
	if err != nil || fmt.Sprint(got.Positions) != "[2 4]" {
		t.Fatalf("%+v, %v", got, err)
	}
	all := r.sync(&Sync{})
	if b := all.Records[1]; len(all.Records) != 4 || !b.Time.Equal(when) || b.First != was {
		t.Errorf("%+v", all)
	}
	again.Identity = "another"
	if _, err := r.log.Append(t.Context(), again); !errors.Is(err, ErrChanged) {
		t.Error(err)
	}
	again.Identity = all.Identity
	for range 11 {
		r.append(strings.Split(strings.Repeat("x ", 100), " ")...)
	}
	if _, err := r.log.Append(t.Context(), again); !errors.Is(err, ErrBehind) {
		t.Error(err)
	}
}

// TestTrimmed: a reader that is too far behind is told where the log begins.
func TestTrimmed(t *testing.T) {
	r := start(t, Options{MaxRecords: 100})
	r.append("a")
	behind := known(r.sync(&Sync{}))
	for range 10 {
		r.append(strings.Fields(strings.Repeat("x ", 100))...)
	}
	got := r.sync(behind)
	if got.Matched || got.First < 2 || got.From != got.First-1 || got.Records[0].Position != got.First || !got.Whole {
		t.Errorf("from %d, first %d, last %d, matched %v", got.From, got.First, got.Last, got.Matched)
	}
	if n := got.Last - got.First; n > 300 {
		t.Errorf("%d records are held", n)
	}
	if r.sync(behind).Generation != got.Generation {
		t.Error("a reader that is behind made another log of it")
	}
}

func TestNodes(t *testing.T) {
	r := start(t, Options{})
	g := Generation{1, 2}
	a, b := Node{Name: "a", Fence: 90 * time.Millisecond}, Node{Name: "b b", Generation: g, Applied: 7}
	r.sync(&Sync{Node: &a})
	got := r.sync(&Sync{Node: &b, Table: true})
	if len(got.Nodes) != 2 {
		t.Fatalf("%+v", got.Nodes)
	}
	for _, n := range got.Nodes {
		if silent := got.Now.Sub(n.Seen); silent < 0 || silent > time.Minute {
			t.Errorf("%+v is silent for %v", n, silent)
		}
		if n.Name == "a" && n.Fence != a.Fence || n.Name == "b b" && (n.Generation != g || n.Applied != 7) || n.Left {
			t.Errorf("%+v", n)
		}
	}
	if err := r.log.Leave(t.Context(), b, time.Second); err != nil {
		t.Fatal(err)
	}
	appended := r.append("x")
	for _, n := range appended.Nodes {
		if n.Left != (n.Name == "b b") {
			t.Errorf("%+v", n)
		}
	}
	// A row that was lost is restored as it was, unless there is a newer one.
	kept := appended.Nodes
	r.server.Do("HDEL", "edge:{purge}:nodes", "a")
	r.sync(&Sync{Node: &Node{Name: "b b"}, Restore: kept})
	for _, n := range r.sync(&Sync{Table: true}).Nodes {
		if n.Name == "a" && n != kept[0] && n != kept[1] || n.Left {
			t.Errorf("%+v", n)
		}
	}
	// Who was silent for an hour and twice the fence is forgotten.
	r.server.Do("HSET", "edge:{purge}:nodes", "old", fmt.Sprintf("%d 1000000 0 %032x 0", time.Now().Add(-time.Hour-5*time.Second).UnixMicro(), 0))
	r.server.Do("HSET", "edge:{purge}:nodes", "older", fmt.Sprintf("%d 10000000 0 %032x 0", time.Now().Add(-time.Hour-5*time.Second).UnixMicro(), 0))
	names := ""
	for _, n := range r.sync(&Sync{Table: true}).Nodes {
		names += n.Name + ","
	}
	if strings.Contains(names, "old,") || !strings.Contains(names, "older,") {
		t.Errorf("the table has %s", names)
	}
	for _, key := range []string{"log", "head", "nodes"} {
		if ttl := r.server.Do("TTL", "edge:{purge}:"+key); ttl != int64(-1) {
			t.Errorf("%s ends in %v seconds", key, ttl)
		}
	}
}

// TestGenerations: whatever happens to the log, a reader can tell, and what is the
// same as before is known to be.
func TestGenerations(t *testing.T) {
	for _, test := range []struct {
		name    string
		harm    func(*rig)
		matched uint64 // position that a reader of all three finds again; zero is none
		left    string
	}{
		{"restarted empty", func(r *rig) { r.server.Restart() }, 0, ""},
		{"restarted whole", func(r *rig) { r.server.Save(); r.server.Restart() }, 3, "a b c"},
		{"flushed", func(r *rig) { r.server.Do("FLUSHALL") }, 0, ""},
		{"flushed and written", func(r *rig) { r.server.Do("FLUSHALL"); r.append("x", "x", "x", "x") }, 0, "x x x x"},
		{"log deleted", func(r *rig) { r.server.Do("DEL", "edge:{purge}:log") }, 0, ""},
		{"head deleted", func(r *rig) { r.server.Do("DEL", "edge:{purge}:head") }, 3, "a b c"},
		{"table deleted", func(r *rig) { r.server.Do("DEL", "edge:{purge}:nodes") }, 3, "a b c"},
		{"end cut off", func(r *rig) { r.server.Do("XDEL", "edge:{purge}:log", "3-0") }, 2, "a b"},
		{"all cut off", func(r *rig) { r.server.Do("XTRIM", "edge:{purge}:log", "MAXLEN", "0") }, 0, ""},
		{"set back", func(r *rig) {
			dumped := map[string]any{}
			for _, key := range []string{"edge:{purge}:log", "edge:{purge}:head", "edge:{purge}:nodes"} {
				dumped[key] = r.server.Do("DUMP", key)
			}
			r.append("d", "e")
			for key, dump := range dumped {
				r.server.Do("RESTORE", key, 0, dump, "REPLACE")
			}
			r.append("f")
		}, 3, "a b c f"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, Options{})
			r.append("a", "b", "c")
			before := r.sync(&Sync{Node: &Node{Name: "n"}})
			s := known(before)
			for i := range before.Records {
				k := before.Records[len(before.Records)-1-i]
				s.Known = append(s.Known, Known{k.Position, k.Chain})
			}
			if test.name == "set back" {
				defer func() {
					// This reader had read on: what it knows was there is not there now.
					s.Known = append([]Known{{5, "0123"}}, s.Known...)
					got := r.sync(s)
					if got.Generation == before.Generation || got.From != 3 || got.payloads() != "f" {
						t.Errorf("%+v", got)
					}
				}()
				test.harm(r)
				return
			}
			test.harm(r)
			got := r.sync(s)
			if got.Generation == before.Generation {
				t.Error("it seems the same log")
			}
			if got.Matched != (test.matched > 0) || got.From != test.matched {
				t.Errorf("matched %v at %d", got.Matched, got.From)
			}
			if all := r.sync(&Sync{Table: true}); all.payloads() != test.left || len(all.Nodes) != 0 && test.matched != 3 || all.Generation != got.Generation {
				t.Errorf("left is %q, %+v", all.payloads(), all.Nodes)
			}
			r.append("next")
			if last := r.sync(&Sync{}); last.Generation != got.Generation || last.payloads() != strings.TrimSpace(test.left+" next") {
				t.Errorf("%q in %x after %x", last.payloads(), last.Generation, got.Generation)
			}
		})
	}
}

// TestFailover: a replica that lacks the last record is another generation, and tells
// how far it is the same. While it is a replica it answers nothing.
func TestFailover(t *testing.T) {
	r := start(t, Options{})
	r.append("a", "b")
	replica := r.server.StartReplica()
	before := r.sync(&Sync{})
	other := New(Options{Client: dial(t, replica.URL), Prefix: "edge:"})
	if _, err := other.Sync(t.Context(), &Sync{Timeout: time.Second}); err == nil {
		t.Fatal("a replica is read")
	}
	replica.Do("REPLICAOF", "127.0.0.1", 1) // the link is cut
	r.append("c")
	all := r.sync(&Sync{})
	r.server.Stop()
	replica.Do("REPLICAOF", "NO", "ONE")
	s := known(all)
	s.Known = append(s.Known, known(before).Known...)
	s.Timeout = time.Second
	s.Limit = 10
	got, err := other.Sync(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if got.Generation == all.Generation {
		t.Error("it seems the same log")
	}
	if got.Last != 2 || !got.Matched || got.From != 2 || got.Start != 2 {
		t.Errorf("%+v", got)
	}
}

// TestAwait: the doorbell rings for what is written later, and is left at once.
func TestAwait(t *testing.T) {
	r := start(t, Options{})
	r.append("a")
	ctx, cancel := context.WithCancel(t.Context())
	rung := make(chan struct{})
	ended := make(chan error)
	go func() {
		ended <- r.log.Await(ctx, func() { rung <- struct{}{} }, func() uint64 { return 1 }, time.Hour)
	}()
	r.append("b")
	<-rung
	cancel()
	for {
		select {
		case <-rung:
		case err := <-ended:
			if err == nil {
				t.Error("it ended by itself")
			}
			return
		}
	}
}

// TestClusterAndSentinel: the log lies on one server of a cluster, and moves with its
// master; the doorbell finds it too.
func TestClusterAndSentinel(t *testing.T) {
	for _, test := range []struct {
		name string
		url  func() string
	}{
		{"cluster", func() string { return redistest.StartCluster(t).URL }},
		{"sentinel", func() string {
			s := redistest.Start(t)
			return s.StartSentinels(s.StartReplica()).URL
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := New(Options{Client: dial(t, test.url()), Prefix: "edge:"})
			r := &rig{t: t, log: l}
			r.append("a")
			if got := r.sync(&Sync{Node: &Node{Name: "n"}, Table: true}); got.payloads() != "a" || len(got.Nodes) != 1 {
				t.Errorf("%+v", got)
			}
			ctx, cancel := context.WithCancel(t.Context())
			rung := make(chan error, 1)
			rung <- l.Await(ctx, cancel, func() uint64 { return 0 }, time.Hour)
			if err := <-rung; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
}

// TestOutOfMemory: purges are written when nothing else can be.
func TestOutOfMemory(t *testing.T) {
	r := start(t, Options{})
	r.server.Do("CONFIG", "SET", "maxmemory", "1")
	r.append("a")
	if got := r.sync(&Sync{Node: &Node{Name: "n"}, Table: true}); got.payloads() != "a" || len(got.Nodes) != 1 {
		t.Errorf("%+v", got)
	}
}

func BenchmarkAppendAndSync(b *testing.B) {
	l := New(Options{Client: dial(b, redistest.Start(b).URL)})
	payload := []byte("a purge of something that is somewhere")
	state := &Sync{Node: &Node{Name: "n"}, Timeout: time.Second, Limit: 1000}
	for b.Loop() {
		if _, err := l.Append(b.Context(), &Append{Records: []Record{{ID: NewID(), Payload: payload}}, Timeout: time.Second}); err != nil {
			b.Fatal(err)
		}
		got, err := l.Sync(b.Context(), state)
		if err != nil {
			b.Fatal(err)
		}
		last := got.Records[len(got.Records)-1]
		state.Identity, state.Known = got.Identity, []Known{{last.Position, last.Chain}}
	}
}
