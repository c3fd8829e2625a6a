package cachestore

import (
	"net/http"
	"testing"
	"time"
)

func TestAge(t *testing.T) {
	received := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	e := &Entry{Received: received, InitialAge: 10 * time.Second, Life: Life{Fresh: time.Minute, Keep: time.Hour}}
	for _, test := range []struct {
		after, age, remaining time.Duration
	}{
		{0, 10 * time.Second, time.Hour + 50*time.Second},
		{time.Minute, 70 * time.Second, time.Hour - 10*time.Second},
		{2 * time.Hour, 2*time.Hour + 10*time.Second, -(time.Hour - 50*time.Second)},
		{-time.Hour, 10 * time.Second, time.Hour + 50*time.Second}, // another node's clock is ahead
	} {
		now := received.Add(test.after)
		if got := e.Age(now); got != test.age {
			t.Errorf("%v after: age %v", test.after, got)
		}
		if got := e.Remaining(now); got != test.remaining {
			t.Errorf("%v after: remaining %v", test.after, got)
		}
	}
	if got := (&Entry{Received: received, InitialAge: -time.Hour}).Age(received); got != 0 {
		t.Errorf("a negative initial age gives the age %v", got)
	}
}

func TestWhole(t *testing.T) {
	for name, l := range map[string]Life{
		"revalidate":  {Fresh: time.Hour, WhileRevalidate: 4, IfError: 1, IfUnreachable: 2, Keep: 3},
		"error":       {Fresh: time.Hour, WhileRevalidate: 1, IfError: 4, IfUnreachable: 2, Keep: 3},
		"unreachable": {Fresh: time.Hour, WhileRevalidate: 1, IfError: 2, IfUnreachable: 4, Keep: 3},
		"keep":        {Fresh: time.Hour, WhileRevalidate: 1, IfError: 2, IfUnreachable: 3, Keep: 4},
	} {
		if got := l.Whole(); got != time.Hour+4 {
			t.Errorf("%s: %v", name, got)
		}
	}
	// The largest delta-seconds that is read (RFC 9111 section 1.2.2), everywhere.
	const largest = 1 << 31 * time.Second
	l := Life{Fresh: largest, Keep: largest}
	e := &Entry{Received: time.Now(), InitialAge: largest, Life: l}
	if got := e.Remaining(time.Now().Add(time.Minute)); got <= 0 || got > largest {
		t.Errorf("remaining %v", got)
	}
}

// TestCostCounts: every part of an entry that a stranger can make large is paid for.
func TestCostCounts(t *testing.T) {
	base := (&Entry{}).Cost()
	const n = 1000
	long := string(make([]byte, n))
	for name, e := range map[string]*Entry{
		"key":     {Key: Key(long)},
		"variant": {Vary: &Vary{Variant: long}},
		"vary":    {Vary: &Vary{On: []string{long}}},
		"head":    {Head: NewHead(http.Header{"A": {long}})},
		"name":    {Head: NewHead(http.Header{long: {""}})},
		"tags":    {Tags: make([]uint32, n/4)},
		"body":    {Body: NewBody(make([]byte, n))},
		"spare":   {Body: NewBody(make([]byte, 1, n))},
	} {
		if got := e.Cost() - base; got < n || got > n+200 {
			t.Errorf("%s of %d bytes costs %d", name, n, got)
		}
	}
}
