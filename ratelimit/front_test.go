package ratelimit

import (
	"testing"
	"time"

	"github.com/ulule/limiter/v3"

	"edge/cachestore/redis/conn"
)

// TestFront: the types of the library, over the same counts as the gate's.
func TestFront(t *testing.T) {
	both(t, func(t *testing.T, redis *conn.Conn) {
		for _, algorithm := range rates {
			rg := start(t, redis, Policy{Name: algorithm.String(), Algorithm: algorithm, Rate: Rate{Limit: 10, Period: time.Hour}, BlockFor: 2 * time.Hour})
			front := rg.limit.Front(algorithm.String())
			rg.allowed(3, "k")
			step := func(what string, got limiter.Context, err error, remaining int64, reached bool) {
				t.Helper()
				if err != nil || got.Limit != 10 || got.Remaining != remaining || got.Reached != reached {
					t.Errorf("%v, %s: %+v, %v", algorithm, what, got, err)
				}
			}
			got, err := front.Peek(t.Context(), "k")
			step("peek", got, err, 7, false)
			got, err = front.Get(t.Context(), "k")
			step("get", got, err, 6, false)
			got, err = front.Increment(t.Context(), "k", 5)
			step("five", got, err, 1, false)
			got, err = front.Increment(t.Context(), "k", 1)
			step("the last", got, err, 0, false)
			got, err = front.Peek(t.Context(), "k")
			step("peek", got, err, 0, true)
			if d := rg.check("k").Decisions[0]; d.Allowed || d.RetryAfter != 2*time.Hour {
				t.Errorf("%v: %+v", algorithm, d)
			}
			if got, err = front.Peek(t.Context(), "k"); err != nil || got.Reset != epoch.Add(2*time.Hour+time.Second).Unix() {
				t.Errorf("%v: blocked: %+v, %v", algorithm, got, err)
			}
			got, err = front.Reset(t.Context(), "k")
			step("reset", got, err, 10, false)
			if n := rg.allowed(20, "k"); n != 10 {
				t.Errorf("%v: %d passed after a reset", algorithm, n)
			}
			for _, n := range []int64{0, -1, 11} {
				if _, err := front.Increment(t.Context(), "k", n); err == nil {
					t.Errorf("%v: a count of %d is taken", algorithm, n)
				}
			}
			if rg.limit.Front("none") != nil {
				t.Error("a policy that is not there")
			}
		}
	})
}
