package tiered

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"edge/cachestore"
)

// distant is a shared tier whose answers take their time.
type distant struct {
	cachestore.Store
	mu    sync.Mutex
	delay time.Duration // until there is an answer; below zero there is none for so long
	rest  time.Duration // until it is complete
	reads bool          // what it has before the delay, not after it
	asked int
}

func (d *distant) set(delay, rest time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.delay, d.rest = delay, rest
}

func (d *distant) lookUps() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked
}

func (d *distant) Look(ctx context.Context, key cachestore.Key, variant string, answered func(time.Duration)) cachestore.Found {
	d.mu.Lock()
	d.asked++
	delay, rest, before := d.delay, d.rest, d.reads
	d.mu.Unlock()
	found := d.Store.Get(ctx, key, variant)
	time.Sleep(delay.Abs())
	if delay < 0 {
		return cachestore.Found{}
	}
	if !before {
		found = d.Store.Get(ctx, key, variant)
	}
	answered(rest)
	time.Sleep(rest)
	return found
}

const patience = 5 * time.Millisecond

// far is a store whose shared tier is distant, by the clock of the test's bubble.
type far struct {
	*Store
	t      *testing.T
	shared *distant
}

func newFar(t *testing.T, o Options) *far {
	shared := &distant{Store: openMemory(t)}
	o.Shared = shared
	if o.Patience == 0 {
		o.Patience = patience
	}
	return &far{open(t, o), t, shared}
}

// gets looks up, and checks what is found and how long that takes.
func (f *far) gets(target, want string, took time.Duration) {
	f.t.Helper()
	began := time.Now()
	if got := text(f.Get(f.t.Context(), key(target), "")); got != want || time.Since(began) != took {
		f.t.Errorf("%s: got %q after %v, want %q after %v", target, got, time.Since(began), want, took)
	}
}

func (f *far) counted(overdue, skipped int64) {
	f.t.Helper()
	if s := f.Stats(); s.Overdue != overdue || s.Skipped != skipped {
		f.t.Errorf("%d overdue and %d skipped, want %d and %d", s.Overdue, s.Skipped, overdue, skipped)
	}
}

// TestPatience: of a shared tier that is silent one request learns it by waiting; no
// other waits until it answers. What it brings too late is in memory for the next.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFar(t, Options{})
		f.shared.Store.Put(t.Context(), entry("/", "there", 1))
		f.shared.Store.Put(t.Context(), entry("/more", "more", 1))
		f.shared.set(4*time.Millisecond, 0)
		f.gets("/missing", "", 4*time.Millisecond)
		f.counted(0, 0)

		f.shared.set(20*time.Millisecond, 0)
		f.gets("/", "", patience)
		f.gets("/", "", 0) // not for the same again either
		for n := range 1000 {
			f.gets(fmt.Sprint("/", n), "", 0)
		}
		f.counted(1, 1001)
		if n := f.shared.lookUps(); n != 2 {
			t.Errorf("%d look-ups, want the first two", n)
		}

		f.shared.set(time.Millisecond, 0)
		time.Sleep(15 * time.Millisecond)
		synctest.Wait()
		f.gets("/", "there", 0)
		f.gets("/more", "more", time.Millisecond)
		f.counted(1, 1001)
	})
}

// TestSilence: while no look-up has an answer, nobody waits, and one at a time is made.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFar(t, Options{})
		f.shared.set(-20*time.Millisecond, 0)
		f.gets("/", "", patience)
		for n := range 20 { // 100 ms
			f.gets(fmt.Sprint("/", n), "", 0)
			time.Sleep(5 * time.Millisecond)
			synctest.Wait()
		}
		f.counted(1, 20)
		if n := f.shared.lookUps(); n < 5 || n > 6 {
			t.Errorf("%d look-ups of 20 ms each in 100 ms", n)
		}
		// Those that have failed were no answers. The first that is one is not waited for.
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		f.shared.set(0, 0)
		f.gets("/1", "", 0)
		synctest.Wait()
		f.shared.set(2*time.Millisecond, 0)
		f.gets("/2", "", 2*time.Millisecond)
	})
}

// TestSilenceIsJoined: who asks for what others wait for does not wait with them once
// it is known that there is no answer.
func TestSilenceIsJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFar(t, Options{})
		f.shared.set(-20*time.Millisecond, 0)
		var requests sync.WaitGroup
		requests.Go(func() { f.gets("/1", "", patience) })
		time.Sleep(3 * time.Millisecond)
		requests.Go(func() { f.gets("/2", "", patience) })
		time.Sleep(3 * time.Millisecond)
		f.gets("/2", "", 0)
		requests.Wait()
		f.counted(2, 1)
	})
}

// TestOthersAreAnswered: one answer that is late says nothing about a shared tier that
// answers others meanwhile.
func TestOthersAreAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFar(t, Options{})
		var slow sync.WaitGroup
		f.shared.set(20*time.Millisecond, 0)
		slow.Go(func() { f.gets("/slow", "", patience) })
		synctest.Wait()
		f.shared.set(2*time.Millisecond, 0)
		f.gets("/1", "", 2*time.Millisecond)
		slow.Wait()
		f.gets("/2", "", 2*time.Millisecond)
		f.gets("/slow", "", 0) // except for the one that is late itself
		f.counted(1, 1)
	})
}

// TestAllAtOnce: those who have begun to wait before it is known that there is no
// answer wait no longer than their patience, however many ask for whatever.
func TestAllAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFar(t, Options{})
		f.shared.set(-time.Second, 0)
		var requests sync.WaitGroup
		for n := range 100 {
			for range 2 {
				requests.Go(func() { f.gets(fmt.Sprint("/", n), "", patience) })
			}
		}
		requests.Wait()
		f.gets("/0", "", 0)
		f.gets("/100", "", 0)
		f.counted(200, 2)
		if n := f.shared.lookUps(); n != 100 {
			t.Errorf("%d look-ups, want 100", n)
		}
	})
}

// TestAbandonedLookUpsAreBounded: of a shared tier that answers, but not soon enough,
// little more is asked than what requests wait for. It makes no difference whether they
// have lost their patience or their clients.
func TestAbandonedLookUpsAreBounded(t *testing.T) {
	const bound = 4
	for name, abandon := range map[string]func(f *far, n int){
		"patience": func(f *far, n int) {
			var slow sync.WaitGroup
			f.shared.set(100*time.Millisecond, 0)
			slow.Go(func() { f.gets(fmt.Sprint("/", n), "", patience) })
			synctest.Wait()
			f.shared.set(time.Millisecond, 0)
			f.gets("/quick", "", time.Millisecond) // so that nobody takes it for silent
			slow.Wait()
		},
		"clients": func(f *far, n int) {
			f.shared.set(100*time.Millisecond, 0)
			ctx, leave := context.WithTimeout(f.t.Context(), time.Millisecond)
			defer leave()
			f.Get(ctx, key(fmt.Sprint("/", n)), "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFar(t, Options{Abandoned: bound})
				for n := range bound {
					abandon(f, n)
				}
				before := f.shared.lookUps()
				f.gets("/more", "", 0)
				if n := f.shared.lookUps(); n != before {
					t.Error("one more is made")
				}
				time.Sleep(100 * time.Millisecond)
				synctest.Wait()
				f.shared.set(time.Millisecond, 0)
				f.gets("/more", "", time.Millisecond)
				if f.abandoned != 0 || f.under != 0 {
					t.Errorf("in the end %d are under way, %d abandoned", f.under, f.abandoned)
				}
			})
		})
	}
}

// TestLargeEntries: the rest of a large entry may take its time, and not more.
func TestLargeEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFar(t, Options{})
		f.shared.Store.Put(t.Context(), entry("/", "large", 1))
		f.shared.set(2*time.Millisecond, 50*time.Millisecond)
		f.gets("/", "large", 52*time.Millisecond)
		f.gets("/", "large", 0)
		f.counted(0, 0)
	})
}

// TestLateAnswersAreJudged: what has been deleted or replaced before an answer came is
// not in memory after it.
func TestLateAnswersAreJudged(t *testing.T) {
	for _, before := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := newFar(t, Options{})
			f.shared.reads = before
			f.shared.Store.Put(t.Context(), entry("/", "old", 1))
			f.shared.Store.Put(t.Context(), entry("/deleted", "old", 1))
			f.shared.set(20*time.Millisecond, 0)
			f.gets("/", "", patience)
			if err := f.Put(t.Context(), entry("/", "new", 2)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
			synctest.Wait()
			f.gets("/", "new", 0)

			f.gets("/deleted", "", patience)
			f.Delete(t.Context(), entry("/deleted", "old", 1))
			time.Sleep(20 * time.Millisecond)
			synctest.Wait()
			if got := text(f.options.Memory.Get(t.Context(), key("/deleted"), "")); got != "" {
				t.Errorf("memory has %q, which was deleted", got)
			}
		})
	}
}

// TestCloseWaitsForLookUps: none is left behind by those who have given up.
func TestCloseWaitsForLookUps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFar(t, Options{})
		f.shared.set(20*time.Millisecond, 0)
		f.gets("/", "", patience)
		began := time.Now()
		if err := f.Close(t.Context()); err != nil || time.Since(began) != 15*time.Millisecond {
			t.Errorf("closed after %v: %v", time.Since(began), err)
		}
		f.gets("/", "", 0)
		if keys := busy(f.Store); len(keys) > 0 {
			t.Errorf("left behind: %q", keys)
		}
	})
}
