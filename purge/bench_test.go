package purge

import (
	"fmt"
	"strconv"
	"testing"

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
