package purge

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"
)

func actions() []*action {
	set := &changeSet{}
	set.add(change{site: "shop", url: 1 << 40, sequence: 3})
	set.add(change{site: "shop", url: 77, coarse: true, sequence: 2})
	return []*action{
		set.action("shop"),
		{record: Record{Selector: Selector{Kind: Key, Site: "shop", Value: "red"}}},
		{record: Record{Selector: Selector{Kind: URLAnyQuery, Site: "", Authority: "a:8080", Value: "/x"}, Soft: true}},
		{record: Record{Selector: Selector{Kind: Everything}}},
	}
}

func TestActionsComeBack(t *testing.T) {
	for _, a := range actions() {
		a.record.Time = at(3)
		if len(a.changes) > 0 {
			a.record.Time = at(0)
		}
		got, err := parseAction(a.append(nil), a.record.Time)
		if err != nil {
			t.Fatal(err)
		}
		if len(a.changes) == 0 && got.record != a.record || !reflect.DeepEqual(got.changes, a.changes) {
			t.Errorf("%+v became %+v", a, got)
		}
	}
}

func TestUnknownActions(t *testing.T) {
	good := actions()[1].append(nil)
	for _, b := range [][]byte{
		nil, {1}, {2, 1, 0, 0, 0, 0}, {1, 0, 0, 0, 0, 0}, {1, byte(kinds), 0, 0, 0, 0}, {1, 1, 2, 0, 0, 0},
		{1, actionChanges, 0, 0, 0, 0, 0}, {1, actionChanges, 0, 0, 0, 0, 1, 4, 0},
		good[:len(good)-1], append(good[:len(good):len(good)], 0),
	} {
		if _, err := parseAction(b, at(0)); !errors.Is(err, errUnknownAction) {
			t.Errorf("%x: %v", b, err)
		}
	}
}

func FuzzParseAction(f *testing.F) {
	for _, a := range actions() {
		f.Add(a.append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAction(b, at(0))
		if err != nil {
			return
		}
		again, err := parseAction(a.append(nil), at(0))
		if err != nil || again.record != a.record || len(again.changes) != len(a.changes) {
			t.Fatalf("%x became %x: %v", b, a.append(nil), err)
		}
		New(Options{Now: still}).applyAlone(a) // whatever it says, it can be applied
	})
}

// TestChangesReachOtherNodes: what one node's invalidations become in the log kills
// the same on another.
func TestChangesReachOtherNodes(t *testing.T) {
	here, there := New(Options{Now: still, InvalidateBurst: 1300}), New(Options{Now: still})
	there.begin(generation(1), 0, false)
	set := &changeSet{}
	for n := range 1500 { // past the budget, and past what one record takes
		set.add(here.change(form(n)))
	}
	if set.oldest != 1 || len(set.exact) != maxChangesOf {
		t.Fatalf("%d exact since %d", len(set.exact), set.oldest)
	}
	got, err := parseAction(set.action("shop").append(nil), at(0))
	if err != nil {
		t.Fatal(err)
	}
	before := there.Sequence()
	there.applyAt(1, got)
	for n := range 1500 {
		if !there.Judge(entry(form(n), before), 0).Dead {
			t.Fatalf("invalidation %d did not come across", n)
		}
	}
	if there.Judge(entry(form(1), there.Sequence()), 0).Dead || there.Judge(entry(key("blog", "a", "/"), before), 0).Dead {
		t.Error("it kills what it should not")
	}
}

// TestSoftPurgeByAClockAhead takes effect at once all the same.
func TestSoftPurgeByAClockAhead(t *testing.T) {
	l := New(Options{Now: func() time.Time { return at(10) }})
	l.begin(generation(1), 0, false)
	e := entry(form(1), l.Sequence())
	l.applyAt(1, &action{record: Record{Time: at(60), Soft: true, Selector: Selector{Kind: Everything}}})
	if got := l.Judge(e, 0).StaleAt; !got.Equal(at(10)) {
		t.Error(fmt.Sprint("stale at ", got))
	}
	l.applyAt(2, &action{record: Record{Time: at(5), Soft: true, Selector: Selector{Kind: Everything}}})
	if got := l.Judge(entry(form(1), e.Sequence+1<<localBits), 0).StaleAt; !got.Equal(at(5)) {
		t.Error(fmt.Sprint("stale at ", got))
	}
}
