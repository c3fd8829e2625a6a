package purge

import (
	"testing"
	"time"
)

// TestClock: a sleep of the machine counts, and nothing that happens to the wall clock
// makes the time go back.
func TestClock(t *testing.T) {
	c := &clock{start: time.Now()}
	for i, step := range []struct{ monotonic, wall, want time.Duration }{
		{0, 0, 0},
		{time.Second, time.Second, time.Second},
		{2 * time.Second, 2*time.Second + 10*time.Millisecond, 2 * time.Second}, // kept on time
		{3 * time.Second, time.Hour, time.Hour},                                 // slept
		{4 * time.Second, time.Hour + time.Second, time.Hour + time.Second},
		{5 * time.Second, -time.Hour, time.Hour + 2*time.Second}, // set back
		{6 * time.Second, 2 * time.Hour, 2 * time.Hour},
	} {
		if got := c.read(step.monotonic, step.wall); got != step.want {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
	if a, b := c.now(), c.now(); b < a {
		t.Errorf("%v after %v", b, a)
	}
}
