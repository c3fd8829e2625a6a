//go:build !race

package memory

import "testing"

// TestHitAllocatesNothing is not for the race detector, under which pools forget.
func TestHitAllocatesNothing(t *testing.T) {
	s := open(t, Options{Size: 1 << 20})
	plain, varied := sized(1, 100), variantOf(sized(2, 100), "a")
	put(t, s, plain)
	put(t, s, varied)
	quiet(t, s)
	ctx := t.Context()
	allocs := testing.AllocsPerRun(1000, func() {
		if !same(s.Get(ctx, plain.Key, "").Entry, plain) || !same(s.Get(ctx, varied.Key, "a").Entry, varied) {
			t.Error("missed")
		}
	})
	if allocs != 0 {
		t.Errorf("two hits allocate %v times", allocs)
	}
}
