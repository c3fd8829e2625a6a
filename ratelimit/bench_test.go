package ratelimit

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"edge/cachestore/redis/conn"
	"edge/cachestore/redis/redistest"
)

// BenchmarkAdmit is one decision, by the address of the client, under the real clock.
func BenchmarkAdmit(b *testing.B) {
	for _, algorithm := range []Algorithm{TokenBucket, SlidingWindow, FixedWindow, Concurrent} {
		b.Run(algorithm.String(), func(b *testing.B) {
			admit(b, Options{Policies: []Policy{{Name: "p", Algorithm: algorithm, Rate: Rate{Limit: 1_000_000_000, Period: time.Second}}}}, 1)
		})
	}
	b.Run("three", func(b *testing.B) {
		admit(b, Options{Policies: []Policy{
			{Name: "p", Rate: Rate{Limit: 1_000_000_000, Period: time.Second}},
			{Name: "q", Algorithm: SlidingWindow, Rate: Rate{Limit: 1_000_000_000, Period: time.Minute}},
			{Name: "r", Algorithm: FixedWindow, Rate: Rate{Limit: 1_000_000_000, Period: time.Hour}},
		}}, 1)
	})
	b.Run("a million clients", func(b *testing.B) {
		admit(b, Options{Policies: []Policy{{Name: "p", Rate: Rate{Limit: 10, Period: time.Second}}}}, 1_000_000)
	})
}

// BenchmarkRedis is one decision that takes a round trip.
func BenchmarkRedis(b *testing.B) {
	redis, err := conn.Open(conn.Options{URL: redistest.Start(b).URL})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { redis.Close() })
	for n := range 3 {
		b.Run(fmt.Sprint(n+1, " policies"), func(b *testing.B) {
			var policies []Policy
			for i := range n + 1 {
				policies = append(policies, Policy{Name: fmt.Sprint("p", i), Shared: true, OnError: Deny, Rate: Rate{Limit: 1_000_000_000, Period: time.Second}})
			}
			admit(b, Options{Redis: redis, Prefix: "bench:", Patience: time.Second, Policies: policies}, 1)
		})
	}
}

func admit(b *testing.B, o Options, clients int) {
	l, err := New(o)
	if err != nil {
		b.Fatal(err)
	}
	var names []string
	for _, p := range o.Policies {
		names = append(names, p.Name)
	}
	g, err := l.Gate(CountAll, names...)
	if err != nil {
		b.Fatal(err)
	}
	addresses := make([]string, clients)
	for i := range addresses {
		addresses[i] = "203." + strconv.Itoa(i>>16) + "." + strconv.Itoa(i>>8&255) + "." + strconv.Itoa(i&255) + ":4711"
	}
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		r, h := request("k"), make(http.Header)
		for n := 0; pb.Next(); n++ {
			r.RemoteAddr = addresses[n*7919%clients]
			if leave, err := g.Admit(h, r); err == nil {
				leave(false)
			}
		}
	})
	for _, s := range l.Stats() {
		if s.StoreErrors > 0 {
			b.Fatalf("%+v", s)
		}
	}
}
