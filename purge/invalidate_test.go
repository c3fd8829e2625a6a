package purge

import (
	"fmt"
	"testing"
	"time"

	"edge/cachestore"
)

func form(n int) cachestore.Key { return key("shop", "a", fmt.Sprint("/form/", n)) }

// TestBudget: past its budget a site's invalidations reach further than they should
// but are never lost, and other sites and purges do not suffer.
func TestBudget(t *testing.T) {
	now := at(0)
	l := New(Options{InvalidateRate: 10, InvalidateBurst: 100, Now: func() time.Time { return now }})
	neighbours := func(sequence uint64) (dead int) {
		for n := range 2000 {
			if l.Judge(entry(key("shop", "a", fmt.Sprint("/other/", n)), sequence), 0).Dead {
				dead++
			}
		}
		return dead
	}
	invalidate := func(n int) {
		t.Helper()
		e := entry(form(n), l.Sequence())
		l.Invalidate(e.Key)
		if !l.Judge(e, 0).Dead {
			t.Fatalf("invalidation %d is lost", n)
		}
	}
	for n := range 100 {
		invalidate(n)
	}
	if got := neighbours(0); got != 0 {
		t.Errorf("within the budget, %d neighbours are dead", got)
	}
	for n := range 50 {
		invalidate(100 + n)
	}
	if got := neighbours(0); got == 0 || got > 2000/5 {
		t.Errorf("50 invalidations past the budget killed %d of 2000 neighbours", got)
	}
	for n := range 150 {
		if !l.Judge(entry(form(n), uint64(n)), 0).Dead {
			t.Errorf("invalidation %d was lost later", n)
		}
	}
	if l.Judge(entry(key("blog", "a", "/"), 0), 0).Dead {
		t.Error("another site suffers")
	}

	since := l.Sequence()
	now = now.Add(time.Second) // brings ten
	for n := range 10 {
		invalidate(200 + n)
	}
	if got := neighbours(since); got != 0 {
		t.Errorf("with the budget filled again, %d neighbours are dead", got)
	}
	now = now.Add(-time.Hour)
	invalidate(300)
	if got := l.Stats().Folded; got != 51 {
		t.Errorf("%d were made coarse, a clock set back included", got)
	}
}

// TestFlood: whatever strangers do, purges by the operator keep their places, and
// no floor rises.
func TestFlood(t *testing.T) {
	now := at(0)
	l := New(Options{MaxSelectors: 1024, Now: func() time.Time { return now }})
	red := Selector{Kind: Key, Site: "shop", Value: "red"}
	l.Append(Record{Selector: red})
	const flood = 20_000
	for n := range flood {
		now = now.Add(10 * time.Millisecond) // within the budget all the while
		l.Invalidate(form(n))
	}
	stats := l.Stats()
	if stats.Floor != 0 || stats.Selectors > 1024+1024 || stats.Folded != flood-128 {
		t.Errorf("%+v", stats)
	}
	if !l.Judge(entry(key("blog", "a", "/"), 0, HashKey("shop", "red")), 0).Dead {
		t.Error("a purge was displaced")
	}
	for n := range flood {
		if !l.Judge(entry(form(n), uint64(1+n)), 0).Dead {
			t.Fatalf("invalidation %d was lost", n)
		}
	}
	if l.Judge(entry(form(flood-1), l.Sequence()), 0).Dead {
		t.Error("an entry of after the flood is dead")
	}
}

// TestAgain: a second invalidation of the same URL is a record of its own, since an
// entry may have been fetched between the two, and takes no second place.
func TestAgain(t *testing.T) {
	l := New(Options{Now: still})
	l.Invalidate(form(1))
	between := entry(form(1), l.Sequence())
	if l.Judge(between, 0).Dead {
		t.Fatal("dead too early")
	}
	l.Invalidate(form(1))
	if !l.Judge(between, 0).Dead {
		t.Error("an entry fetched between the two survived")
	}
	if got := l.Stats(); got.Selectors != 1 || got.Appended != 2 {
		t.Errorf("%+v", got)
	}
}

func TestInvalidateGroup(t *testing.T) {
	const origin = "https://a"
	l := New(Options{Now: still, InvalidateRate: 1, InvalidateBurst: 1})
	member := entry(key("shop", "a", "/"), 0, HashKey(origin, "lists"))
	others := []*cachestore.Entry{
		entry(key("shop", "a", "/"), 0, HashKey(origin, "Lists")),
		entry(key("shop", "b", "/"), 0, HashKey("https://b", "lists")),
		entry(key("shop", "a", "/"), 0, HashKey("shop", "lists")),
	}
	l.InvalidateGroup(origin, "lists")
	if !l.Judge(member, 0).Dead {
		t.Error("a member survived")
	}
	for _, e := range others {
		if l.Judge(e, 0).Dead {
			t.Errorf("%+v was no member", e)
		}
	}
	member.Sequence = l.Sequence()
	if l.Judge(member, 0).Dead {
		t.Error("a later member is dead")
	}
	l.InvalidateGroup(origin, "lists") // past the budget
	if got := l.Stats(); got.Folded != 1 || !l.Judge(member, 0).Dead {
		t.Errorf("past the budget: %+v", got)
	}
	l.Invalidate(key("shop", "a", "/")) // a budget of its own
	if got := l.Stats(); got.Folded != 1 {
		t.Errorf("groups have taken a site's budget: %+v", got)
	}
}
