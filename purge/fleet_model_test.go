package purge

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"edge/cachestore"
)

// TestFleetModel plays nodes that fetch, share, purge, come, go, crash and are cut
// off, over a Redis that freezes, restarts, is emptied and fails over. Whatever
// happens, after a complete receipt no node serves what is older, from its memory or
// from the shared tier; and no node ever serves what it has purged itself.
func TestFleetModel(t *testing.T) {
	t.Parallel()
	seeds, steps := 5, 120
	if os.Getenv("EDGE_SOAK") != "" {
		seeds, steps = 100, 400
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := &world{t: t, f: newFleet(t), random: rand.New(rand.NewPCG(seed, 7)), due: make(map[string]int), origin: make(map[string]int)}
			w.play(steps)
		})
	}
}

// copyOf is a version of what the origin had, somewhere.
type copyOf struct {
	name    string
	version int
	entry   *cachestore.Entry // in a node's memory
	shared  shared            // in the shared tier
}

type world struct {
	t      *testing.T
	f      *fleet
	random *rand.Rand
	nodes  []*modelNode
	shared []copyOf
	origin map[string]int // what the origin has
	due    map[string]int // what complete receipts say is served at least
	gone   []*modelNode
	opened int
	full   int // complete receipts
	story  []string
}

type modelNode struct {
	*member
	memory []copyOf
	flying []copyOf       // fetched, not stored yet
	due    map[string]int // what this node has purged itself
}

var modelNames = []string{"red", "green", "blue"}

func (w *world) say(format string, args ...any) {
	w.story = append(w.story, fmt.Sprintf(format, args...))
}

func (w *world) play(steps int) {
	w.open()
	w.open()
	for range steps {
		w.step()
		w.check()
	}
	// In the end all heal, and the fleet works as on its first day.
	for _, n := range w.nodes {
		n.cut.Store(false)
	}
	for _, n := range w.nodes {
		n.until("ready", n.Ready)
	}
	// Of those that left or crashed just before a table was lost, others may have told
	// the new one: they are waited for until their fence must have passed.
	for _, n := range w.gone {
		w.age(n)
	}
	for _, name := range modelNames {
		w.purge(w.nodes[0], name, 20*time.Second)
		if w.due[name] != w.origin[name] {
			w.t.Fatalf("a healthy fleet gives no receipt\n%s", strings.Join(w.story, "\n"))
		}
		w.check()
	}
	w.t.Logf("%d complete receipts of %d versions, %d shared", w.full, w.origin["red"]+w.origin["green"]+w.origin["blue"], len(w.shared))
}

// check looks at all that any node could serve.
func (w *world) check() {
	w.t.Helper()
	for _, n := range w.nodes {
		for _, c := range n.memory {
			if floor := max(w.due[c.name], n.due[c.name]); c.version < floor && n.serves(c.entry) {
				w.t.Fatalf("%s serves version %d of %s from memory, %d is due\n%s", n.node, c.version, c.name, floor, strings.Join(w.story, "\n"))
			}
		}
		for _, c := range w.shared {
			e := n.load(c.shared)
			if floor := max(w.due[c.name], n.due[c.name]); e != nil && c.version < floor && n.serves(e) {
				w.t.Fatalf("%s serves version %d of %s (%+v) from the shared tier, %d is due\n%s", n.node, c.version, c.name, c.shared, floor, strings.Join(w.story, "\n"))
			}
		}
	}
}

func (w *world) step() {
	n := w.nodes[w.random.IntN(len(w.nodes))]
	name := modelNames[w.random.IntN(len(modelNames))]
	switch dice := w.random.IntN(100); {
	case dice < 25:
		// A fetch: its look-up now, its storing later.
		n.flying = append(n.flying, copyOf{name: name, entry: n.hold(name), version: w.origin[name]})
	case dice < 40:
		n.memory = append(n.memory, n.flying...)
		for _, c := range n.flying {
			if g, position, ok := n.Encode(c.entry.Sequence); ok {
				c.shared = shared{g, position, c.name}
				w.shared = append(w.shared, c)
			}
		}
		n.flying = nil
	case dice < 48:
		if len(w.shared) > 0 {
			c := w.shared[w.random.IntN(len(w.shared))]
			if e := n.load(c.shared); e != nil && n.serves(e) {
				n.memory = append(n.memory, copyOf{name: c.name, version: c.version, entry: e})
			}
		}
	case dice < 72:
		w.purge(n, name, time.Duration(w.random.IntN(150))*time.Millisecond)
	case dice < 78:
		w.origin[name]++
		n.Invalidate(key("shop", "a", "/"))
		for _, all := range modelNames {
			n.due[all] = w.origin[all] // one URL has them all
		}
		w.say("%s invalidates", n.node)
	case dice < 82:
		w.say("%s is cut off, or back", n.node)
		n.cut.Store(!n.cut.Load())
	case dice < 85:
		w.fence(n)
	case dice < 88:
		if len(w.nodes) < 5 {
			w.open()
		}
	case dice < 90:
		if len(w.nodes) > 2 {
			w.say("%s leaves", n.node)
			n.Close()
			if n.cut.Load() {
				w.age(n) // it could not say so
			}
			w.remove(n)
		}
	case dice < 92:
		if len(w.nodes) > 2 {
			w.say("%s crashes", n.node)
			n.cut.Store(true)
			w.age(n)
			w.remove(n)
		}
	case dice < 94:
		w.say("Redis freezes")
		w.f.server.Freeze()
		w.purge(n, name, 0)
		w.check()
		w.f.server.Thaw()
	default:
		w.harm(dice - 94)
	}
}

// purge has a new version made, and the old ones purged.
func (w *world) purge(n *modelNode, name string, wait time.Duration) {
	w.origin[name]++
	version := w.origin[name]
	r, err := n.Record(w.t.Context(), red(name))
	n.due[name] = version
	if errors.Is(err, ErrNotRecorded) {
		w.say("%s purges %s, not recorded", n.node, name)
		return
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.check()
	if !r.Complete {
		ctx, cancel := context.WithTimeout(w.t.Context(), wait)
		defer cancel()
		if got, err := n.Follow(ctx, r.ID); err == nil {
			r = got
		}
	}
	if r.Complete {
		w.full++
		w.due[name] = version
	}
	w.say("%s purges %s: version %d, %+v", n.node, name, version, r)
}

func (w *world) open() {
	w.opened++
	m := w.f.start(fmt.Sprint("edge-", w.opened), func(l *Log) {
		l.Deadline = 60 * time.Millisecond
		l.Settle = 60 * time.Millisecond // harm waits for those in touch
		l.Remember = 50
		l.Log = nil
	})
	w.nodes = append(w.nodes, &modelNode{member: m, due: make(map[string]int)})
	w.say("%s starts", m.node)
}

func (w *world) remove(n *modelNode) {
	w.gone = append(w.gone, n)
	for i := range w.nodes {
		if w.nodes[i] == n {
			w.nodes = append(w.nodes[:i:i], w.nodes[i+1:]...)
			return
		}
	}
}

// age makes the table say that a node was silent for more than twice its fence.
func (w *world) age(n *modelNode) {
	n.mu.Lock()
	row := fmt.Sprintf("%d %d 0 %x %d", time.Now().Add(-21*time.Minute).UnixMicro(), (10 * time.Minute).Microseconds(), n.generation, n.position)
	n.mu.Unlock()
	// A row is there only if the table was not lost since.
	if w.f.server.Do("HEXISTS", "edge:{purge}:nodes", n.node) == int64(1) {
		w.f.server.Do("HSET", "edge:{purge}:nodes", n.node, row)
	}
}

// fence cuts a node off for so long that it is taken to be fenced.
func (w *world) fence(n *modelNode) {
	w.say("%s is cut off for long", n.node)
	n.cut.Store(true)
	n.until("without the log", func() bool { return !n.Ready() })
	n.until("without a call that was under way", func() bool { return n.busy.Load() == 0 })
	n.late.Add(int64(21 * time.Minute))
	w.age(n)
}

// harm does something to the log. The nodes that are in touch have met each other
// before: whom nobody remembers, nobody can wait for.
func (w *world) harm(what int) {
	in := 0
	for _, n := range w.nodes {
		if !n.cut.Load() {
			n.until("ready", n.Ready)
			n.caught()
			in++
		}
	}
	if in == 0 {
		return
	}
	for _, n := range w.nodes {
		if !n.cut.Load() {
			// Twice, since the table may be read one turn later.
			n.caught()
			n.caught()
		}
	}
	switch what {
	case 0:
		w.say("Redis restarts empty")
		w.f.server.RestartEmpty()
	case 1:
		w.say("Redis restarts")
		w.f.server.Save()
		w.purge(w.nodes[0], "red", 50*time.Millisecond)
		w.f.server.Restart()
	case 2:
		w.say("Redis is emptied")
		w.f.server.Do("FLUSHALL")
	case 3:
		w.say("the log is deleted")
		w.f.server.Do("DEL", "edge:{purge}:log")
	default:
		w.say("Redis fails over")
		replica := w.f.replica()
		if what == 4 {
			cutOff(replica)
		}
		for range 3 {
			w.purge(w.nodes[w.random.IntN(len(w.nodes))], modelNames[w.random.IntN(3)], 50*time.Millisecond)
		}
		w.f.failover(replica)
	}
	w.check()
	for _, n := range w.nodes {
		if !n.cut.Load() {
			n.until("ready", n.Ready)
			n.caught()
		}
	}
}
