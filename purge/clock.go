package purge

import (
	"sync/atomic"
	"time"
)

// clock measures from its start and never goes back. The monotonic clock alone stands
// still while a machine sleeps or is paused, when purges go on without it and the
// fence must run out. So where the wall clock has passed it by, that counts. A wall
// clock that was only set forward closes the fence too early, until the log is read.
type clock struct {
	start time.Time
	ahead atomic.Int64 // the furthest that the wall clock was ahead of the monotonic one
}

func (c *clock) now() time.Duration {
	now := time.Now()
	return c.read(now.Sub(c.start), now.Round(0).Sub(c.start.Round(0))) // Round takes off the monotonic reading
}

// jump is what the wall clock must gain at once to be believed: less is its being
// kept on time.
const jump = int64(time.Second)

func (c *clock) read(monotonic, wall time.Duration) time.Duration {
	gained := int64(wall - monotonic)
	for ahead := c.ahead.Load(); gained >= ahead+jump && !c.ahead.CompareAndSwap(ahead, gained); {
		ahead = c.ahead.Load()
	}
	return monotonic + time.Duration(c.ahead.Load())
}
