package ratelimit

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"
	"unsafe"
)

// TestFlood: however many keys there are, memory stays within its bound, and clients
// that are busy keep their counts.
func TestFlood(t *testing.T) {
	keys, flood := 8192, 80_000
	if os.Getenv("EDGE_SOAK") != "" {
		keys, flood = 1_000_000, 10_000_000
	}
	const busy = 50
	for _, algorithm := range rates {
		t.Run(algorithm.String(), func(t *testing.T) {
			p := Policy{Name: "p", Algorithm: algorithm, Rate: Rate{Limit: 10, Period: time.Second}, MaxKeys: keys}
			before := heap()
			alone, flooded := start(t, nil, p), start(t, nil, p)
			table := flooded.limit.policies[0].table
			rule := flooded.limit.policies[0].rule
			name := make([]byte, 0, 32)
			for n := range flood {
				if n%(flood/200) == 0 { // each busy client asks 200 times in 10 seconds, twice as often as it may
					alone.now = alone.now.Add(50 * time.Millisecond)
					flooded.now = alone.now
					for i := range busy {
						key := fmt.Sprint("busy ", i)
						if want, got := alone.check(key).Decisions[0], flooded.check(key).Decisions[0]; want.Allowed != got.Allowed || want.Remaining != got.Remaining {
							t.Fatalf("after %d other keys: %+v, want %+v", n, got, want)
						}
					}
				}
				// As Check does, and quick enough for millions.
				name = fmt.Appendf(name[:0], "stranger %d", n)
				id, now := table.id(0, name), flooded.now.UnixMicro()
				s := table.shard(id)
				s.mu.Lock()
				s.storeLocked(id, &rule, rule.take(rule.settle(s.stateLocked(id), now), 1), now)
				s.mu.Unlock()
			}
			if n := table.len(0); n < keys/4 || n > keys+keys/20 {
				t.Errorf("%d keys are held, of %d that may be", n, keys)
			}
			if used := heap() - before; used > 100*int64(keys) {
				t.Errorf("%d bytes for %d keys", used, keys)
			}
			runtime.KeepAlive(flooded)
		})
	}
	if size := unsafe.Sizeof(entry{}); size != 64 {
		t.Errorf("an entry has %d bytes", size)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestTableForgetsNothing that matters as long as there is room: not when it grows, nor
// for keys that have come back to rest.
func TestTableForgetsNothing(t *testing.T) {
	for _, algorithm := range rates {
		rg := start(t, nil, Policy{Name: "p", Algorithm: algorithm, Rate: Rate{Limit: 5, Period: time.Hour}, MaxKeys: 100_000})
		const keys = 5000
		for range 2 {
			for n := range keys {
				rg.check(fmt.Sprint(n))
			}
		}
		for n := range keys {
			if left := rg.check(fmt.Sprint(n)).Decisions[0].Remaining; left != 2 {
				t.Fatalf("%v: %d left of 5 after 3", algorithm, left)
			}
		}
		table := rg.limit.policies[0].table
		if n := table.len(rg.now.UnixMicro()); n != keys {
			t.Errorf("%v: %d keys held, want %d", algorithm, n, keys)
		}
		rows := func() (n int) {
			for i := range table.shards {
				n += len(table.shards[i].rows)
			}
			return n
		}
		grown := rows()
		for range 3 { // other keys take the places of those that have expired
			rg.now = rg.now.Add(3 * time.Hour)
			for n := range keys {
				rg.check(fmt.Sprint(rg.now, n))
			}
		}
		if after := rows(); after > 2*grown {
			t.Errorf("%v: grown from %d rows to %d, for as many keys", algorithm, grown, after)
		}
	}
}

// TestSmallTables: any bound will do.
func TestSmallTables(t *testing.T) {
	for _, keys := range []int{1, 7, 100, 127, 1000, 12_345} {
		rg := start(t, nil, Policy{Name: "p", Rate: Rate{Limit: 1, Period: time.Hour}, MaxKeys: keys})
		for n := range 3 * keys {
			if !rg.check(fmt.Sprint(n)).Allowed {
				t.Fatal("a newcomer is refused")
			}
			if rg.check(fmt.Sprint(n)).Allowed {
				t.Fatal("the last that came is forgotten")
			}
		}
		if n := rg.limit.policies[0].table.len(0); n > keys+keys/4+8*len(rg.limit.policies[0].table.shards) {
			t.Errorf("%d keys are held, of %d that may be", n, keys)
		}
	}
}
