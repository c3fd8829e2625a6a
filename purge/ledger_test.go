package purge

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"edge/cachestore"
)

func at(seconds int) time.Time { return time.Unix(1_700_000_000+int64(seconds), 0) }

func still() time.Time { return at(0) }

func key(site, authority, target string) cachestore.Key {
	return cachestore.NewKey(cachestore.KeyParts{Site: site, Scheme: "https", Authority: authority, Target: target})
}

func entry(key cachestore.Key, sequence uint64, tags ...uint32) *cachestore.Entry {
	return &cachestore.Entry{Key: key, Sequence: sequence, Tags: tags}
}

// TestSelectors holds each kind against URLs that it must and must not reach.
func TestSelectors(t *testing.T) {
	const site, host = "shop", "www.example.com"
	everywhere := []string{"/", "/a", "/a?q=1", "/a/", "/a/b", "/a/b?q=1", "/a//b", "/ab", "/b", "*"}
	for _, test := range []struct {
		selector Selector
		dead     string // of everywhere, separated by spaces
	}{
		{Selector{Kind: URL, Value: "/a"}, "/a"},
		{Selector{Kind: URL, Value: "/a?q=1"}, "/a?q=1"},
		{Selector{Kind: URL, Value: "/a/"}, "/a/"},
		{Selector{Kind: URLAnyQuery, Value: "/a"}, "/a /a?q=1"},
		{Selector{Kind: URLAnyQuery, Value: "/a?other"}, "/a /a?q=1"},
		{Selector{Kind: Prefix, Value: "/a"}, "/a /a?q=1 /a/ /a/b /a/b?q=1 /a//b"},
		{Selector{Kind: Prefix, Value: "/a/"}, "/a /a?q=1 /a/ /a/b /a/b?q=1 /a//b"},
		{Selector{Kind: Prefix, Value: "/a/b"}, "/a/b /a/b?q=1"},
		{Selector{Kind: Prefix, Value: "/a/b?q"}, "/a/b /a/b?q=1"},
		{Selector{Kind: Prefix, Value: "/a//b"}, "/a//b"},
		{Selector{Kind: Prefix, Value: "/"}, strings.Join(everywhere, " ")},
		{Selector{Kind: Prefix}, strings.Join(everywhere, " ")},
		{Selector{Kind: Host}, strings.Join(everywhere, " ")},
		{Selector{Kind: Everything}, strings.Join(everywhere, " ")},
		{Selector{Kind: Key, Value: "red"}, "/b"},
		{Selector{Kind: Key, Value: "re"}, ""},
	} {
		s := test.selector
		s.Site = site
		if s.Kind != Key && s.Kind != Everything {
			s.Authority = host
		}
		for _, soft := range []bool{false, true} {
			l := New(Options{Now: still})
			l.Append(Record{Selector: s, Soft: soft, Time: at(9)})
			for _, target := range everywhere {
				var tags []uint32
				if target == "/b" {
					tags = []uint32{HashKey(site, "blue"), HashKey(site, "red")}
				}
				want := strings.Contains(" "+test.dead+" ", " "+target+" ")
				verdict := l.Judge(entry(key(site, host, target), 0, tags...), 0)
				dead, stale := verdict.Dead, verdict.StaleAt
				if dead != (want && !soft) || stale.Equal(at(9)) != (want && soft) || !stale.IsZero() != (want && soft) {
					t.Errorf("%s %q, soft %v, against %q: dead %v, stale at %v", s.Kind, s.Value, soft, target, dead, stale)
				}
				for _, other := range []cachestore.Key{key("blog", host, target), key(site, "example.com", target)} {
					dead := l.Judge(entry(other, 0, HashKey("blog", "red")), 0).Dead
					reaches := want && !soft && s.Authority == "" && other != key("blog", host, target) && s.Kind == Everything
					if dead != reaches {
						t.Errorf("%s %q against %q: dead %v", s.Kind, s.Value, other, dead)
					}
				}
			}
		}
	}
}

// TestEveryPartButTheURL: variants, Extra parts and both schemes of a URL go
// together.
func TestEveryPartButTheURL(t *testing.T) {
	l := New(Options{Now: still})
	l.Append(Record{Selector: Selector{Kind: URL, Site: "shop", Authority: "a", Value: "/x"}})
	for _, p := range []cachestore.KeyParts{
		{Site: "shop", Scheme: "https", Authority: "a", Target: "/x"},
		{Site: "shop", Scheme: "http", Authority: "a", Target: "/x", Extra: "cookie"},
	} {
		e := entry(cachestore.NewKey(p), 0)
		e.Vary = &cachestore.Vary{On: []string{"accept-language"}, Variant: "de"}
		if !l.Judge(e, 0).Dead {
			t.Errorf("%+v survived", p)
		}
	}
}

func TestEverythingEverywhere(t *testing.T) {
	l := New(Options{Now: still})
	l.Append(Record{Selector: Selector{Kind: Everything}})
	if !l.Judge(entry(key("shop", "a", "/"), 0), 0).Dead {
		t.Error("an entry of some site survived")
	}
	if l.Judge(entry(key("shop", "a", "/"), 1), 0).Dead {
		t.Error("a later entry is dead")
	}
}

// TestOrder: what an entry's sequence, and the one it was checked up to, decide.
func TestOrder(t *testing.T) {
	l := New(Options{Now: still})
	red := Selector{Kind: Key, Site: "shop", Value: "red"}
	k, tag := key("shop", "a", "/"), HashKey("shop", "red")
	if got := l.Sequence(); got != 0 {
		t.Fatalf("an empty ledger is at %d", got)
	}
	if got := l.Append(Record{Selector: red, Soft: true, Time: at(1)}); got != 1 || l.Sequence() != 1 {
		t.Fatalf("the first record got %d", got)
	}
	l.Append(Record{Selector: Selector{Kind: Host, Site: "shop", Authority: "a"}, Soft: true, Time: at(0)})
	l.Append(Record{Selector: red})
	l.Append(Record{Selector: red, Soft: true, Time: at(4)})
	for _, test := range []struct {
		sequence, since uint64
		dead            bool
		staleAt         time.Time
	}{
		{0, 0, true, time.Time{}},
		{2, 0, true, time.Time{}},
		{2, 2, true, time.Time{}},
		{3, 0, false, at(4)},
		{3, 3, false, at(4)},
		{4, 0, false, time.Time{}},
		{0, 4, false, time.Time{}}, // judged up to here before
		{9, 0, false, time.Time{}},
	} {
		verdict := l.Judge(entry(k, test.sequence, tag), test.since)
		dead, staleAt := verdict.Dead || verdict.Suspect, verdict.StaleAt
		if dead != test.dead || !staleAt.Equal(test.staleAt) {
			t.Errorf("entry of %d since %d: dead %v, stale at %v", test.sequence, test.since, dead, staleAt)
		}
	}
}

// TestEarliestSoft: of several soft records the earliest time counts, whatever
// their order.
func TestEarliestSoft(t *testing.T) {
	for _, order := range [][2]int{{1, 2}, {2, 1}} {
		l := New(Options{Now: still})
		l.Append(Record{Selector: Selector{Kind: Host, Site: "shop", Authority: "a"}, Soft: true, Time: at(order[0])})
		l.Append(Record{Selector: Selector{Kind: Key, Site: "shop", Value: "red"}, Soft: true, Time: at(order[1])})
		verdict := l.Judge(entry(key("shop", "a", "/"), 0, HashKey("shop", "red")), 0)
		dead, staleAt := verdict.Dead || verdict.Suspect, verdict.StaleAt
		if dead || !staleAt.Equal(at(1)) {
			t.Errorf("dead %v, stale at %v", dead, staleAt)
		}
	}
}

func TestUnreadableKeyIsDead(t *testing.T) {
	l := New(Options{Now: still})
	if l.Judge(entry("\xff", 0), 0).Dead {
		t.Error("dead though nothing was ever purged")
	}
	l.Append(Record{Selector: Selector{Kind: Host, Site: "shop", Authority: "a"}})
	if !l.Judge(entry("\xff", 0), 0).Dead {
		t.Error("an entry that cannot be judged is served")
	}
}

// TestCollapse: past the bound nothing that should be dead comes back.
func TestCollapse(t *testing.T) {
	l := New(Options{MaxSelectors: 16, Now: still})
	tag := func(n int) string { return fmt.Sprint("key ", n) }
	const purges = 40
	for n := range purges {
		l.Append(Record{Selector: Selector{Kind: Key, Site: "shop", Value: tag(n)}, Soft: n%3 == 0})
	}
	stats := l.Stats()
	if stats.Selectors > 16 || stats.Floor == 0 || stats.Folded != stats.Floor || stats.Sequence != purges {
		t.Errorf("%+v", stats)
	}
	for n := range purges {
		sequence := uint64(n + 1)
		verdict := l.Judge(entry(key("shop", "a", "/"), sequence-1, HashKey("shop", tag(n))), 0)
		dead, staleAt := verdict.Dead || verdict.Suspect, verdict.StaleAt
		if !dead && staleAt.IsZero() {
			t.Errorf("the purge of %d is forgotten", n)
		}
		if l.Judge(entry(key("shop", "a", "/"), sequence, HashKey("shop", tag(n))), 0).Suspect != (sequence < stats.Floor) {
			t.Errorf("an entry as new as record %d: suspect %v with the floor at %d", sequence, sequence >= stats.Floor, stats.Floor)
		}
	}
	// What is purged again and again is not old, and takes one place.
	for range 100 {
		l.Append(Record{Selector: Selector{Kind: Key, Site: "shop", Value: tag(purges - 1)}})
	}
	if got := l.Stats().Floor; got != stats.Floor {
		t.Errorf("the floor rose from %d to %d though no selector was new", stats.Floor, got)
	}
}

// TestRenewed: a selector that is purged again is the newest, and the next in line
// collapses instead.
func TestRenewed(t *testing.T) {
	l := New(Options{MaxSelectors: 16, Now: still})
	const room = 14 // the rest is for invalidations
	tag := func(n int) Selector { return Selector{Kind: Key, Site: "shop", Value: fmt.Sprint(n)} }
	for n := range room {
		l.Append(Record{Selector: tag(n)})
	}
	renewed := l.Append(Record{Selector: tag(0)})
	for n := range room - 1 {
		l.Append(Record{Selector: tag(room + n)})
		if got := l.Stats(); got.Floor != uint64(n+2) || got.Selectors != room {
			t.Fatalf("%+v", got)
		}
	}
	if !l.Judge(entry(key("shop", "a", "/"), renewed-1, HashKey("shop", "0")), 0).Dead {
		t.Error("the renewed purge is forgotten")
	}
	l.Append(Record{Selector: tag(-1)})
	if got := l.Stats().Floor; got != renewed {
		t.Errorf("the floor is at %d, not at %d", got, renewed)
	}
}

func TestForgetCoarse(t *testing.T) {
	l := New(Options{InvalidateBurst: 1, Now: still})
	l.Invalidate(key("shop", "a", "/1"))
	l.Invalidate(key("shop", "a", "/2"))
	l.Forget(1)
	if !l.Judge(entry(key("shop", "a", "/2"), 1), 0).Dead {
		t.Error("a coarse record that still matters was forgotten")
	}
	l.Forget(2)
	if got := l.Stats().Selectors; got != 0 {
		t.Errorf("%d selectors are kept for nothing", got)
	}
}

func TestForget(t *testing.T) {
	l := New(Options{InvalidateBurst: 10, MaxSelectors: 64, Now: still})
	for n := range 20 {
		l.Append(Record{Selector: Selector{Kind: URL, Site: "shop", Authority: "a", Value: fmt.Sprint("/", n)}})
		l.Invalidate(key("shop", "a", fmt.Sprint("/form/", n)))
	}
	judged := func(sequence uint64) (dead int) {
		for n := range 20 {
			for _, target := range []string{fmt.Sprint("/", n), fmt.Sprint("/form/", n)} {
				if l.Judge(entry(key("shop", "a", target), sequence), 0).Dead {
					dead++
				}
			}
		}
		return dead
	}
	before := judged(20)
	l.Forget(20)
	if got := judged(20); got != before || before < 20 {
		t.Errorf("%d entries of the oldest sequence are dead, before it was %d", got, before)
	}
	if got := l.Stats(); got.Selectors > 20 || got.Floor != 0 {
		t.Errorf("%+v", got)
	}
	l.Forget(l.Sequence())
	if got := l.Stats().Selectors; got != 0 {
		t.Errorf("%d selectors are kept for nothing", got)
	}
	l.Append(Record{Selector: Selector{Kind: URL, Site: "shop", Authority: "a", Value: "/1"}})
	if !l.Judge(entry(key("shop", "a", "/1"), 40), 0).Dead {
		t.Error("a purge after Forget does nothing")
	}
}

// TestModel plays stores, fetches under way and purges against the whole list of
// records, kept and matched one by one.
func TestModel(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { play(t, rand.New(rand.NewPCG(seed, 0))) })
	}
}

func play(t *testing.T, random *rand.Rand) {
	sites, hosts := []string{"shop", "blog", ""}, []string{"a", "b:8080"}
	targets := []string{"/", "/a", "/a?q", "/a/b", "/a/b?q", "/ab", "/a/b/c/"}
	names := []string{"red", "green", "blue"}
	pick := func(of []string) string { return of[random.IntN(len(of))] }

	type stored struct {
		entry   *cachestore.Entry
		site    string
		target  string
		host    string
		keys    []string
		checked uint64
		staleAt time.Time
	}
	now := 0
	l := New(Options{Now: func() time.Time { return at(now) }, InvalidateRate: 1, InvalidateBurst: 5, MaxSelectors: 4096})
	var records []Record // in order: records[n] has sequence n+1
	var entries []*stored
	for range 250 {
		now++
		switch random.IntN(4) {
		case 0, 1: // a fetch that began some records ago is stored
			began := l.Sequence() - uint64(random.IntN(3))
			began = min(began, l.Sequence()) // below zero wraps
			s := &stored{site: pick(sites), host: pick(hosts), target: pick(targets)}
			s.entry = entry(key(s.site, s.host, s.target), began)
			for _, name := range names {
				if random.IntN(3) == 0 {
					s.keys = append(s.keys, name)
					s.entry.Tags = append(s.entry.Tags, HashKey(s.site, name))
				}
			}
			s.checked = began
			entries = append(entries, s)
		case 2:
			r := Record{Time: at(now - random.IntN(3)), Soft: random.IntN(2) == 0}
			r.Selector = Selector{Kind: Kind(1 + random.IntN(int(kinds)-1)), Site: pick(sites), Authority: pick(hosts), Value: pick(targets)}
			switch r.Selector.Kind {
			case Key:
				r.Selector.Authority, r.Selector.Value = "", pick(names)
			case Host:
				r.Selector.Value = ""
			case Everything:
				if random.IntN(10) > 0 {
					continue // or little else would ever be tried
				}
				r.Selector.Authority, r.Selector.Value = "", ""
			}
			r.Sequence = l.Append(r)
			records = append(records, r)
		case 3:
			p := Selector{Kind: URL, Site: pick(sites), Authority: pick(hosts), Value: pick(targets)}
			l.Invalidate(key(p.Site, p.Authority, p.Value))
			records = append(records, Record{Sequence: l.Sequence(), Selector: p})
		}
		if uint64(len(records)) != l.Sequence() {
			t.Fatalf("%d records, the latest has sequence %d", len(records), l.Sequence())
		}
		for _, s := range entries {
			wantDead, softly := false, false
			for _, r := range records[s.entry.Sequence:] {
				if matches(&r.Selector, s.site, s.host, s.target, s.keys) {
					wantDead = wantDead || !r.Soft
					softly = softly || r.Soft
				}
			}
			// As the request path does: what was checked stays checked.
			upTo := l.Sequence()
			verdict := l.Judge(s.entry, s.checked)
			dead, staleAt := verdict.Dead || verdict.Suspect, verdict.StaleAt
			fromStart := l.Judge(s.entry, 0)
			whole, wholeAt := fromStart.Dead || fromStart.Suspect, fromStart.StaleAt
			if dead != wantDead || whole != wantDead {
				t.Fatalf("%+v: dead %v since %d, %v since 0, want %v", s, dead, s.checked, whole, wantDead)
			}
			if wantDead {
				continue
			}
			if !staleAt.IsZero() && (s.staleAt.IsZero() || staleAt.Before(s.staleAt)) {
				s.staleAt = staleAt
			}
			s.checked = upTo
			if s.staleAt.IsZero() == softly || wholeAt.IsZero() == softly {
				t.Fatalf("%+v: stale at %v, from the start at %v, want %v", s, s.staleAt, wholeAt, softly)
			}
			if s.staleAt.After(at(now)) {
				t.Fatalf("%+v: stale in the future", s)
			}
		}
		// The dead are deleted when met.
		live := entries[:0]
		for _, s := range entries {
			if !l.Judge(s.entry, 0).Dead {
				live = append(live, s)
			}
		}
		entries = live
	}
}

// matches is what the kinds mean, without hashes.
func matches(s *Selector, site, host, target string, keys []string) bool {
	path, _, _ := strings.Cut(target, "?")
	if s.Kind == Everything && s.Site == "" {
		return true
	}
	if s.Site != site {
		return false
	}
	switch s.Kind {
	case Key:
		for _, k := range keys {
			if k == s.Value {
				return true
			}
		}
		return false
	case Everything:
		return true
	}
	if s.Authority != host {
		return false
	}
	value, _, _ := strings.Cut(s.Value, "?")
	switch s.Kind {
	case URL:
		return s.Value == target
	case URLAnyQuery:
		return value == path
	case Prefix:
		below := strings.TrimSuffix(value, "/") + "/"
		return strings.HasPrefix(path+"/", below)
	}
	return s.Kind == Host
}

// TestAppendIsSeenAtOnce: a Judge that starts when Append or Invalidate has
// returned sees the record, and a sequence is never ahead of what can be found.
func TestAppendIsSeenAtOnce(t *testing.T) {
	l := New(Options{Now: still, MaxSelectors: 1024})
	var running sync.WaitGroup
	for worker := range 4 {
		running.Go(func() {
			for n := range 500 {
				k := key("shop", "a", fmt.Sprintf("/%d/%d", worker, n))
				e := entry(k, l.Sequence())
				if l.Judge(e, 0).Dead {
					t.Error("dead before it was purged") // only the floor could do this, and it lies far back
				}
				if n%2 == 0 {
					p, _ := k.Parts()
					if got := l.Append(Record{Selector: Selector{Kind: URL, Site: p.Site, Authority: p.Authority, Value: p.Target}}); got > l.Sequence() {
						t.Errorf("record %d is ahead of the ledger", got)
					}
				} else {
					l.Invalidate(k)
				}
				if !l.Judge(e, e.Sequence).Dead {
					t.Error("alive after it was purged")
				}
			}
		})
	}
	running.Wait()
	if got := l.Sequence(); got != 2000 {
		t.Errorf("2000 records, at %d", got)
	}
}
