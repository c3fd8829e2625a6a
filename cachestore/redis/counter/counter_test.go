package counter

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"edge/cachestore/redis/conn"
	"edge/cachestore/redis/redistest"
)

// adds is a script that adds to each count, and tells how many it was asked for.
const adds = `
local reply = {}
if ARGV[1] == 'fail' then return redis.error_reply('ERR as asked') end
if ARGV[1] == 'short' then return {1, 2, 3} end
for i, key in ipairs(KEYS) do
	for _, n in ipairs({redis.call('INCRBY', key, ARGV[i + 1]), #KEYS, 3, 4, 5, 6}) do reply[#reply + 1] = n end
end
return reply
`

func open(t *testing.T, url string, patience time.Duration) *Counter {
	t.Helper()
	c, err := conn.Open(conn.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return New(Options{Client: c, Prefix: "edge:", Script: adds, Patience: patience})
}

func items(n int) (all []Item) {
	for i := range n {
		all = append(all, Item{Tag: fmt.Sprint("t", i%3), Name: fmt.Sprint("n", i), Args: fmt.Sprint(10 * (i + 1))})
	}
	return all
}

// TestOneServer: all in one step.
func TestOneServer(t *testing.T) {
	server := redistest.Start(t)
	c := open(t, server.URL, 10*time.Second)
	for round := range int64(3) {
		asked := items(5)
		c.Run(t.Context(), []string{"add"}, asked)
		for i, item := range asked {
			if want := [Numbers]int64{(round + 1) * int64(10*(i+1)), 5, 3, 4, 5, 6}; item.Err != nil || item.Reply != want {
				t.Errorf("%+v, want %v", item, want)
			}
		}
	}
	if keys := server.Keys("edge:{t1}:n*"); len(keys) != 2 {
		t.Errorf("%q", keys)
	}
	for _, mode := range []string{"fail", "short"} {
		asked := items(2)
		c.Run(t.Context(), []string{mode}, asked)
		for _, item := range asked {
			if item.Err == nil || item.Reply != [Numbers]int64{} || mode == "short" && !errors.Is(item.Err, errReply) {
				t.Errorf("%s: %+v", mode, item)
			}
		}
	}
}

// TestCluster: what belongs together goes together, and a server that does not answer
// spoils nothing else.
func TestCluster(t *testing.T) {
	cluster := redistest.StartCluster(t)
	c := open(t, cluster.URL, 10*time.Second)
	for range 2 { // the first brings the script
		asked := items(5)
		c.Run(t.Context(), []string{"add"}, asked)
		for i, item := range asked {
			want := int64(2) // of its tag
			if i == 2 {
				want = 1
			}
			if item.Err != nil || item.Reply[1] != want {
				t.Errorf("%+v", item)
			}
		}
	}
}

// TestSilence: only those wait for a Redis that stands still who ask before that is
// known, and no longer than they have patience. What they have asked is counted when
// it can be, they are told, and then Redis is waited for again.
func TestSilence(t *testing.T) {
	server := redistest.Start(t)
	const patience = 200 * time.Millisecond
	c := open(t, server.URL, patience)
	c.deadline = time.Minute
	run := func(ctx context.Context) (asked []Item, late *Late) {
		asked = items(1)
		late = c.Run(ctx, []string{"add"}, asked)
		return asked, late
	}
	run(t.Context()) // brings the script
	server.Freeze()
	left, cancel := context.WithCancel(t.Context())
	cancel()
	answers := make(chan int64, maxLate)
	told := func(items []Item) { answers <- items[0].Reply[0] }
	asked, late := run(left)
	if late == nil || !errors.Is(asked[0].Err, ErrLate) {
		t.Fatalf("who leaves: %+v", asked)
	}
	late.Then(told)

	began := time.Now()
	asked, late = run(t.Context())
	if took := time.Since(began); late == nil || !errors.Is(asked[0].Err, ErrLate) || took < patience {
		t.Fatalf("the first, after %v: %+v", took, asked)
	}
	late.Then(told)
	began = time.Now()
	goOn := 2
	for range maxLate + 100 {
		asked, late = run(t.Context())
		if !errors.Is(asked[0].Err, ErrLate) {
			t.Fatalf("%+v of a server that stands still", asked)
		}
		if late != nil {
			goOn++
			late.Then(told)
		}
	}
	if took := time.Since(began); took > 20*patience || goOn != maxLate {
		t.Errorf("so many more took %v, and %d go on, want %d", took, goOn, maxLate)
	}
	server.Thaw()
	sum := int64(0)
	for range maxLate {
		sum += <-answers
	}
	const all = maxLate + 1 // with that which brought the script; each adds ten
	if want := int64(10 * (all*(all+1)/2 - 1)); sum != want {
		t.Errorf("the late answers add up to %d, want %d", sum, want)
	}
	if asked, late := run(t.Context()); late != nil || asked[0].Err != nil || asked[0].Reply[0] != 10*(all+1) {
		t.Errorf("after that: %+v", asked)
	}
	if n := c.late.Load(); n != 0 {
		t.Errorf("%d still go on", n)
	}
	c.Close()
}

// TestFailures: each item has the error, and none a reply of before; nobody waits for
// a server that is known to be gone.
func TestFailures(t *testing.T) {
	server := redistest.Start(t)
	c := open(t, server.URL, 10*time.Second)
	c.Run(t.Context(), []string{"add"}, items(4))
	server.Stop()
	for n := range 10 {
		asked := items(4)
		if c.Run(t.Context(), []string{"add"}, asked) != nil {
			t.Error("a question without a server goes on")
		}
		for _, item := range asked {
			if item.Err == nil || item.Reply != [Numbers]int64{} || n > 3 && !errors.Is(item.Err, conn.ErrUnavailable) {
				t.Errorf("%+v", item)
			}
		}
	}
}
