package purge

import (
	"errors"
	"testing"
	"time"

	"edge/cachestore"
	"edge/cachestore/redis"
)

// TestTheLogThatIsFollowedWins: in the shared tier, what was looked up under the log
// that is over does not take the place of what was looked up under the present one,
// since a node that starts could not tell which purges it has outlived.
func TestTheLogThatIsFollowedWins(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a := f.open("a")
	old := a.hold("red")
	f.server.RestartEmpty()
	a.caught()
	young := a.hold("red")
	young.Received = time.Now()
	old.Received = young.Received.Add(time.Second)
	old.Status, young.Status = 200, 200
	old.Life.Fresh, young.Life.Fresh = time.Hour, time.Hour

	s := redis.New(redis.Options{Client: f.master.Load(), Generations: a.Log, GetTimeout: 10 * time.Second, PutTimeout: 10 * time.Second})
	if err := s.Put(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), young); err != nil {
		t.Fatalf("the present log: %v", err)
	}
	if err := s.Put(t.Context(), old); !errors.Is(err, cachestore.ErrOlder) {
		t.Errorf("the log that is over: %v", err)
	}
	if found := s.Get(t.Context(), young.Key, ""); found.Entry == nil || found.Suspect || !found.Entry.Received.Equal(young.Received) {
		t.Errorf("found %+v", found)
	}
}
