package purge

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"edge/cachestore"
)

func subject() *cachestore.Entry {
	return entry(key("shop", "www.example.com", "/catalogue/shoes/1234?colour=red"), 0,
		HashKey("shop", "product-1234"), HashKey("shop", "category-shoes"), HashKey("shop", "all"))
}

// filled is a ledger with as many purges of other things.
func filled(purges int) *Ledger {
	l := New(Options{})
	for n := range purges {
		l.Append(Record{Selector: Selector{Kind: Kind(1 + n%5), Site: "shop", Authority: "gone.example.com", Value: fmt.Sprint("/", n)}})
	}
	return l
}

// BenchmarkJudge: nothing new since the entry was checked, then one new record of
// something else, then records of every kind.
func BenchmarkJudge(b *testing.B) {
	l := filled(100_000)
	l.Append(Record{Selector: Selector{Kind: Key, Site: "shop", Value: "something else"}})
	e := subject()
	for _, test := range []struct {
		name  string
		since uint64
	}{{"nothing new", l.Sequence()}, {"one new", l.Sequence() - 1}, {"all new", 0}} {
		b.Run(test.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if l.Sequence() < test.since {
					b.Fatal("the ledger went back")
				}
				if l.Judge(e, test.since).Dead {
					b.Fatal("dead")
				}
			}
		})
	}
}

// BenchmarkAppend shows that a purge costs the same however many entries there are
// and however many of them it reaches: it never sees them.
func BenchmarkAppend(b *testing.B) {
	for _, entries := range []int{0, 1_000_000} {
		b.Run(fmt.Sprint("entries=", entries), func(b *testing.B) {
			held := make([]*cachestore.Entry, entries)
			for n := range held {
				held[n] = &cachestore.Entry{Tags: []uint32{HashKey("shop", "all")}}
			}
			l := filled(1000)
			b.ReportAllocs()
			for b.Loop() {
				l.Append(Record{Selector: Selector{Kind: Key, Site: "shop", Value: "all"}})
			}
			if len(held) != entries {
				b.Fatal("entries were lost")
			}
		})
	}
}

// BenchmarkAppendAtTheBound has every record collapse another.
func BenchmarkAppendAtTheBound(b *testing.B) {
	l := New(Options{MaxSelectors: 4096})
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		l.Append(Record{Selector: Selector{Kind: Key, Site: "shop", Value: strconv.Itoa(n)}})
	}
}

// BenchmarkTrusted is asked on every hit of a node in a fleet.
func BenchmarkTrusted(b *testing.B) {
	a := newFleet(b).open("a")
	for b.Loop() {
		if !a.Trusted() {
			b.Fatal("not trusted")
		}
	}
}

// BenchmarkFleet is from the call to the last of four nodes having applied a purge,
// one after another.
func BenchmarkFleet(b *testing.B) {
	f := newFleet(b)
	var nodes []*member
	for i := range 4 {
		nodes = append(nodes, f.open(fmt.Sprint("edge-", i), func(l *Log) { l.Heartbeat, l.Settle = time.Second, time.Millisecond }))
	}
	nodes[0].purge(red("first")) // the table of nodes is believed from now on
	var took []time.Duration
	for n := 0; b.Loop(); n++ {
		began := time.Now()
		nodes[n%4].purge(red(strconv.Itoa(n)))
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}
