package pace

import (
	"slices"
	"testing"
	"time"
)

func TestWindows(t *testing.T) {
	const ms = time.Millisecond
	samples := []Sample{{Due: 120 * ms, Took: 1}, {Due: 199 * ms, Took: 2}, {Due: 200 * ms, Took: 3}, {Due: 150 * ms, Took: 4}, {Due: 295 * ms, Took: 5}}
	want := [][]time.Duration{{1, 2, 4}, {3, 5}} // none before the first has settled
	if got := Windows(samples); !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("%v, want %v", got, want)
	}
	samples = append(samples, Sample{Due: 350 * ms, Took: 6}) // of half a window
	if got := Windows(samples); !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := Windows(nil); got != nil {
		t.Errorf("%v of nothing", got)
	}
}
