package purge

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"edge/cachestore/redis/stream"
)

// TestHistoryByName: through records that come, come again at other places and are
// forgotten, and logs that become others, a name leads to the record that a search
// would find.
func TestHistoryByName(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	h := newHistory(20)
	var turns uint32
	var now Generation
	var last uint64
	var places []stream.Place // that were ever given
	for step := range 5000 {
		switch n := random.IntN(100); {
		case n == 0 || step == 0: // generations do not come again
			turns++
			binary.BigEndian.PutUint32(now[:], turns)
			common := random.Uint64N(last + 1)
			h.turn(now, common)
			last = common
			for position := range common {
				places = append(places, stream.Place{Generation: now, Position: position + 1})
			}
		case n < 20 && len(h.all()) > 0: // given back
			last++
			h.move(h.all()[random.IntN(len(h.all()))], last, "")
		default:
			last++
			first := stream.Place{Generation: now, Position: last}
			if n < 40 { // given back by a node that knew it from an older log
				first = stream.Place{Generation: Generation{0xFF}, Position: uint64(step + 1)}
			}
			places = append(places, first)
			h.add(&remembered{id: stream.NewID(), first: first, position: last})
		}
		places = append(places, stream.Place{Generation: now, Position: last})
		places = places[max(0, len(places)-200):]
		for _, p := range places {
			var want *remembered
			for _, r := range h.all() {
				if r.first == p || p.Generation == now && r.position == p.Position && p.Position > 0 {
					want = r
				}
			}
			if got := h.called(nameOf(p)); got != want {
				t.Fatalf("step %d: %v is %+v, want %+v", step, p, got, want)
			}
		}
		if n := len(h.byName); n > 2*20 {
			t.Fatalf("%d names for 20 records", n)
		}
	}
}
