package counter

import (
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

func open(t *testing.T, url string, deadline time.Duration) *Counter {
	t.Helper()
	c, err := conn.Open(conn.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return New(Options{Client: c, Prefix: "edge:", Script: adds, Deadline: deadline})
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

// TestFailures: each item has the error, and none a reply of before.
func TestFailures(t *testing.T) {
	server := redistest.Start(t)
	c := open(t, server.URL, 0)
	server.Freeze()
	began := time.Now()
	for range 3 {
		asked := items(4)
		c.Run(t.Context(), []string{"add"}, asked)
		for _, item := range asked {
			if item.Err == nil {
				t.Errorf("%+v of a server that stands still", item)
			}
		}
	}
	// The deadline is 10ms; a client that ignored it would wait for seconds.
	if took := time.Since(began); took > time.Second {
		t.Errorf("three calls took %v", took)
	}
	asked := items(1)
	c.Run(t.Context(), []string{"add"}, asked)
	if !errors.Is(asked[0].Err, conn.ErrUnavailable) {
		t.Errorf("after that: %v", asked[0].Err)
	}
}
