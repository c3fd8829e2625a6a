package purge

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"edge/cachestore/redis/stream"
)

const (
	lostAfter = 3 * time.Second       // a node silent for longer is called lost
	pollEvery = 2 * time.Millisecond  // while someone follows a purge
	pollSlow  = 50 * time.Millisecond // at the latest, when it takes long
)

// Record implements Recorder. It ends within about two Deadlines whatever becomes of
// ctx: a purge that was asked for is made.
func (l *Log) Record(ctx context.Context, records []Record) (Receipt, error) {
	if len(records) == 0 {
		panic("purge: recording nothing")
	}
	asked := l.Clock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.Deadline)
	defer cancel()
	batch := l.prepare(records)
	appended, err := l.Fleet.Append(ctx, &stream.Append{Records: batch.records, Timeout: l.Deadline})
	if err != nil {
		l.counts.writeErrors.Add(1)
	} else {
		l.rouse()
		batch.wait(ctx)
	}
	alone := l.applyAlone(batch)
	soft := records[len(records)-1].Soft
	if err != nil && alone > 0 {
		l.counts.alone.Add(uint64(alone))
		return Receipt{
			Soft:  soft,
			Nodes: []NodeProgress{{ID: l.node, Applied: true, Latency: millis(l.Clock() - asked)}},
			Note:  "this node has applied it and will write it to the log when it can",
		}, fmt.Errorf("%w: %w", ErrNotRecorded, err)
	}
	l.counts.recorded.Add(uint64(len(records)))

	l.mu.Lock()
	defer l.mu.Unlock()
	last := batch.records[len(batch.records)-1].ID
	m := l.history.byID[last]
	if m != nil && m.latency == nil {
		m.asked, m.latency = asked, make(map[string]time.Duration)
	}
	if err != nil || m == nil || m.first.Generation != appended.Generation {
		// It is in the log, but what was said of the log then, if anything, says
		// nothing now.
		r := Receipt{Soft: soft, Nodes: []NodeProgress{{ID: l.node, Applied: true, Latency: millis(l.Clock() - asked)}}}
		switch {
		case m != nil:
			r.ID = receiptID(m.first)
		case err == nil:
			r.ID = receiptID(stream.Place{Generation: appended.Generation, Position: appended.Positions[len(appended.Positions)-1]})
		}
		return r, nil
	}
	return l.receiptLocked(m, &snapshot{head: appended.Head, nodes: appended.Nodes, at: l.Clock()}), nil
}

// batch is the records of one call.
type batch struct {
	records []stream.Record
	actions []*action
	applied []chan struct{} // closed when each was applied from the log
}

func (l *Log) prepare(records []Record) *batch {
	b := &batch{}
	for i := range records {
		a := &action{record: records[i]}
		id := stream.NewID()
		b.records = append(b.records, stream.Record{ID: id, Time: records[i].Time, Payload: a.append(nil)})
		b.actions = append(b.actions, a)
		b.applied = append(b.applied, make(chan struct{}))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range b.records {
		l.awaited[b.records[i].ID] = b.applied[i]
	}
	return b
}

func (b *batch) wait(ctx context.Context) {
	for _, applied := range b.applied {
		select {
		case <-applied:
		case <-ctx.Done():
			return
		}
	}
}

// applyAlone applies those of the batch that did not come back from the log, and
// has them written to it. It returns their number.
func (l *Log) applyAlone(b *batch) (alone int) {
	now := l.Ledger.options.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range b.records {
		r := b.records[i]
		if l.awaited[r.ID] == nil {
			continue
		}
		delete(l.awaited, r.ID)
		alone++
		if r.Time.IsZero() {
			r.Time = now
		}
		b.actions[i].record.Time = r.Time
		sequence := l.Ledger.applyAlone(b.actions[i])
		l.outbox.add(&outgoing{record: r, action: b.actions[i], sequence: sequence})
	}
	if alone > 0 {
		l.rouse()
	}
	return alone
}

// Follow implements Recorder.
func (l *Log) Follow(ctx context.Context, id string) (Receipt, error) {
	name, err := parseReceiptID(id)
	if err != nil {
		return Receipt{}, err
	}
	began := l.Clock()
	defer l.receipts.join(began)()
	for {
		now, next := l.receipts.newest()
		r, err := l.receipt(id, name, now)
		if r.Complete || err != nil && now != nil {
			return r, err
		}
		select {
		case <-next:
			if leave := patience(l.Clock() - began); leave > 0 && now != nil {
				pause(ctx, leave)
			}
			continue
		case <-ctx.Done():
		}
		if now != nil {
			l.counts.incomplete.Add(1)
			return r, err
		}
		// Whoever asks how it stands now is told that, though its ctx has ended.
		select {
		case <-next:
		case <-time.After(l.Deadline):
			r, err := l.receipt(id, name, nil)
			if err == nil {
				r.Note = "the log of the fleet cannot be reached"
			}
			return r, err
		}
		now, _ = l.receipts.newest()
		return l.receipt(id, name, now)
	}
}

// patience is how long to leave a purge alone that was followed for so long already:
// not at all while it may be applied any moment. One that waits for a lost node is
// looked at ever more rarely, since there may be thousands of them.
func patience(followed time.Duration) time.Duration {
	if followed < 50*pollEvery {
		return 0
	}
	return min(followed/8, pollSlow)
}

// receipt returns how a purge stands.
func (l *Log) receipt(id string, name receiptName, now *snapshot) (Receipt, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := func(g Generation) bool { return name.generation == [4]byte(g[:]) }
	m := l.history.called(name)
	switch {
	case m != nil:
		r := l.receiptLocked(m, now)
		r.ID = id
		return r, nil
	case now == nil, // nobody can say yet
		of(now.head.Generation) && name.position <= now.head.Last && (now.head.Generation != l.generation || name.position > l.position): // not read here yet
		return Receipt{ID: id, Nodes: []NodeProgress{}}, nil
	}
	return Receipt{}, ErrUnknownPurge
}

// receiptLocked holds the table of nodes against a record.
func (l *Log) receiptLocked(m *remembered, now *snapshot) Receipt {
	r := Receipt{ID: receiptID(m.first), Soft: m.soft, Complete: true}
	if now == nil {
		now = &snapshot{at: l.Clock()}
	}
	young := false
	switch {
	case m.position == 0, now.head.Generation != l.generation:
		r.Complete = false
	case now.head.Last < m.position:
		r.Complete = false // the table was read before the purge was made: a node may have come between
	case now.head.Now.Sub(now.head.Born) < l.Settle:
		// The nodes that are in touch have not all had the time to enter a new
		// table.
		r.Complete, young = false, true
	}
	applied := func(n *stream.Node) bool {
		return m.position > 0 && n.Generation == l.generation && n.Applied >= m.position
	}
	// We have, in whatever generation.
	r.Nodes = append(r.Nodes, l.progressLocked(m, l.node, true, now))
	for _, n := range l.membersLocked(now) {
		if n.Left {
			continue
		}
		p := l.progressLocked(m, n.Name, applied(&n), now)
		silent := now.head.Now.Sub(n.Seen)
		switch {
		case p.Applied:
		case n.Fence > 0 && silent > 2*n.Fence:
			p.State = "fenced"
		default:
			r.Complete = false
			if silent > lostAfter {
				p.State = "lost"
			}
		}
		if n.Fence == 0 {
			r.Note = unfenced
		}
		r.Nodes = append(r.Nodes, p)
	}
	switch {
	case l.Fence < 0:
		r.Note = unfenced
	case r.Note == "" && young:
		r.Note = anew
	}
	slices.SortFunc(r.Nodes, func(a, b NodeProgress) int { return cmp.Compare(a.ID, b.ID) })
	return r
}

// Notes of receipts.
const (
	anew     = "the log of purges is a new one: for some seconds, nodes may be missing here that have still to come to it"
	unfenced = "a node runs without a fence: cut off from the log for longer than an hour, it is not waited for though it may serve older content"
)

// progressLocked tells of one node, and remembers how long it took.
func (l *Log) progressLocked(m *remembered, node string, applied bool, now *snapshot) NodeProgress {
	p := NodeProgress{ID: node, Applied: applied}
	if !applied || m.latency == nil {
		return p
	}
	took, known := m.latency[node]
	if !known {
		took = now.at - m.asked
		m.latency[node] = took
	}
	p.Latency = millis(took)
	return p
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// membersLocked returns the other nodes that have to be waited for: those in the
// table, and those remembered from a table that is lost, until they are in the new
// one.
func (l *Log) membersLocked(now *snapshot) []stream.Node {
	var members []stream.Node
	listed := make(map[string]bool, len(now.nodes))
	for _, n := range now.nodes {
		if listed[n.Name] = true; n.Name != l.node {
			members = append(members, n)
		}
	}
	if now.head.Generation == l.rosterOf && now.nodes != nil {
		return members
	}
	for name, n := range l.roster {
		if !listed[name] {
			members = append(members, n)
		}
	}
	return members
}

// enrolLocked remembers the table of nodes. One of another generation takes the place
// of what is remembered only when that was restored in it.
func (l *Log) enrolLocked(h stream.Head, nodes []stream.Node, restored bool) {
	if h.Generation != l.generation {
		return
	}
	if l.rosterOf == h.Generation || restored || len(l.roster) == 0 {
		clear(l.roster)
		l.rosterOf = h.Generation
	}
	for _, n := range nodes {
		if n.Name != l.node {
			l.roster[n.Name] = n
		}
	}
}

// receiptID names a purge: the start of the generation, and the position in it.
func receiptID(p stream.Place) string { return fmt.Sprintf("%x-%d", p.Generation[:4], p.Position) }

func parseReceiptID(id string) (receiptName, error) {
	generation, number, _ := strings.Cut(id, "-")
	prefix, err1 := hex.DecodeString(generation)
	position, err2 := strconv.ParseUint(number, 10, 64)
	if err1 != nil || err2 != nil || len(prefix) != 4 || position == 0 {
		return receiptName{}, fmt.Errorf("%w: %q is not the name of one", ErrUnknownPurge, id)
	}
	return receiptName{[4]byte(prefix), position}, nil
}

// snapshot is the table of nodes at one moment.
type snapshot struct {
	head  stream.Head
	nodes []stream.Node
	at    time.Duration // by Clock, when it was here
}

// watch hands one reader's snapshots to all who follow purges.
type watch struct {
	wanted chan struct{} // holds one: somebody follows

	mu      sync.Mutex // guards all below
	joined  int
	latest  time.Duration // when the last one joined
	current *snapshot
	changed chan struct{} // closed with the next snapshot
}

func (w *watch) init() {
	w.wanted = make(chan struct{}, 1)
	w.changed = make(chan struct{})
}

// join asks for snapshots from now on, until the returned function is called.
func (w *watch) join(now time.Duration) (leave func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.joined++
	w.latest = now
	select {
	case w.wanted <- struct{}{}:
	default:
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.joined--; w.joined == 0 {
			w.current = nil // too old for the next who asks
		}
	}
}

// newest returns the latest snapshot, or nil, and what is closed when there is
// another.
func (w *watch) newest() (*snapshot, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.current, w.changed
}

// publish hands out a snapshot. It reports whether anybody waits for more, and when
// the last of them came.
func (w *watch) publish(s *snapshot) (wanted bool, latest time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.joined == 0 {
		return false, 0
	}
	if s != nil {
		w.current = s
		close(w.changed)
		w.changed = make(chan struct{})
	}
	return true, w.latest
}

// poll reads the table of nodes while somebody follows a purge: one reader, however
// many they are.
func (l *Log) poll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.receipts.wanted:
		}
		for wanted := true; wanted && ctx.Err() == nil; {
			var latest time.Duration
			synced, err := l.Fleet.Sync(ctx, &stream.Sync{Table: true, Timeout: l.Deadline})
			if err != nil {
				wanted, _ = l.receipts.publish(nil)
				pause(ctx, pollSlow)
				continue
			}
			wanted, latest = l.receipts.publish(&snapshot{head: synced.Head, nodes: synced.Nodes, at: l.Clock()})
			if wanted {
				pause(ctx, pollEvery)
				l.receipts.idle(ctx, patience(l.Clock()-latest))
			}
		}
	}
}

// idle waits, but not longer than until somebody joins.
func (w *watch) idle(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-w.wanted:
	case <-time.After(d):
	}
}

// LogStats are a Log's counters and gauges. Gauges are named for what is now, the
// rest only grows.
type LogStats struct {
	Node        string  `json:"node"`         // this node's name in receipts
	ReadyNow    bool    `json:"ready_now"`    // the log is followed, and holds all this node knows
	FencedNow   bool    `json:"fenced_now"`   // everything held is suspect, for want of news
	PositionNow uint64  `json:"position_now"` // of the last record applied, in this generation
	SilentNow   float64 `json:"silent_now"`   // seconds since the log was last read
	WaitingNow  int     `json:"waiting_now"`  // what is on its way to the log
	NodesNow    int     `json:"nodes_now"`    // other nodes in the table
	Recorded    uint64  `json:"recorded"`     // purges that the log took from this node
	Alone       uint64  `json:"alone"`        // purges that it did not take, applied here alone
	Applied     uint64  `json:"applied"`      // records applied from the log
	Skipped     uint64  `json:"skipped"`      // records that came again
	Rewritten   uint64  `json:"rewritten"`    // records given back to a log that had lost them
	Dropped     uint64  `json:"dropped"`      // purges applied here alone that there was no room to keep for the log
	Coarse      uint64  `json:"coarse"`       // invalidations made coarse on their way to the log
	Generations uint64  `json:"generations"`  // times that the log became another one
	Holes       uint64  `json:"holes"`        // times that records were missed
	Unknown     uint64  `json:"unknown"`      // records not understood
	Fences      uint64  `json:"fences"`       // times that the fence had closed when the log was read again
	ReadErrors  uint64  `json:"read_errors"`  // failed reads of the log
	WriteErrors uint64  `json:"write_errors"` // failed writes to it
	Incomplete  uint64  `json:"incomplete"`   // receipts given out before they were complete, after a wait
}

// Stats returns the log's state at one moment.
func (l *Log) Stats() LogStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &l.counts
	s := LogStats{
		Node:        l.node,
		ReadyNow:    l.ready.Load(),
		FencedNow:   !l.Trusted(),
		PositionNow: l.position,
		SilentNow:   (l.Clock() - l.read).Seconds(),
		NodesNow:    len(l.roster),
		Recorded:    c.recorded.Load(),
		Alone:       c.alone.Load(),
		Applied:     c.applied.Load(),
		Skipped:     c.skipped.Load(),
		Rewritten:   c.rewritten.Load(),
		Generations: c.generations.Load(),
		Holes:       c.holes.Load(),
		Unknown:     c.unknown.Load(),
		Fences:      c.fenced.Load(),
		ReadErrors:  c.readErrors.Load(),
		WriteErrors: c.writeErrors.Load(),
		Incomplete:  c.incomplete.Load(),
	}
	s.WaitingNow, s.Dropped, s.Coarse = l.outbox.stats()
	return s
}
