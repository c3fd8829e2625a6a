package purge

import (
	"errors"
	"fmt"
	"sync"
	"testing"
)

func TestLocal(t *testing.T) {
	ledger := New(Options{Now: still})
	local := NewLocal(ledger, "here")
	red := entry(key("shop", "a", "/"), 0, HashKey("shop", "red"))
	receipt, err := local.Record(t.Context(), []Record{
		{Selector: Selector{Kind: Key, Site: "shop", Value: "red"}},
		{Selector: Selector{Kind: URL, Site: "shop", Authority: "a", Value: "/x"}},
	})
	if err != nil || !receipt.Complete || receipt.Soft || len(receipt.Nodes) != 1 || receipt.Nodes[0].ID != "here" || !receipt.Nodes[0].Applied {
		t.Fatalf("%+v, %v", receipt, err)
	}
	if !ledger.Judge(red, 0).Dead || !ledger.Judge(entry(key("shop", "a", "/x"), 0), 0).Dead {
		t.Error("a record was not applied")
	}
	soft, err := local.Record(t.Context(), []Record{{Selector: Selector{Kind: Everything}, Soft: true}})
	if err != nil || !soft.Soft || soft.ID == receipt.ID {
		t.Errorf("%+v, %v", soft, err)
	}
	for _, want := range []Receipt{receipt, soft} {
		if got, err := local.Follow(t.Context(), want.ID); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	if _, err := NewLocal(ledger, "here").Follow(t.Context(), receipt.ID); !errors.Is(err, ErrUnknownPurge) {
		t.Errorf("a purge of another process: %v", err)
	}
}

// Receipts are bounded, and those of purges side by side are told apart.
func TestLocalReceipts(t *testing.T) {
	local := NewLocal(New(Options{Now: still}), "here")
	all := []Record{{Selector: Selector{Kind: Everything}}}
	first, _ := local.Record(t.Context(), all)
	var wg sync.WaitGroup
	ids := make(chan string, maxRecent)
	for range 4 {
		wg.Go(func() {
			for range maxRecent / 4 {
				receipt, _ := local.Record(t.Context(), all)
				ids <- receipt.ID
			}
		})
	}
	wg.Wait()
	close(ids)
	seen := map[string]bool{first.ID: true}
	for id := range ids {
		if seen[id] {
			t.Fatalf("two purges are %s", id)
		}
		seen[id] = true
		if _, err := local.Follow(t.Context(), id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	if _, err := local.Follow(t.Context(), first.ID); !errors.Is(err, ErrUnknownPurge) {
		t.Errorf("the oldest is still there: %v", err)
	}
}
