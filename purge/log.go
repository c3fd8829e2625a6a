package purge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"edge/cachestore"
	"edge/cachestore/redis/stream"
)

// Fleet is the log that the nodes share: package stream, on Redis.
type Fleet interface {
	Sync(context.Context, *stream.Sync) (*stream.Synced, error)
	Append(context.Context, *stream.Append) (*stream.Appended, error)
	Await(ctx context.Context, ring func(), after func() uint64, block time.Duration) error
	Leave(context.Context, stream.Node, time.Duration) error
}

// Log keeps a Ledger in step with the log of a fleet. It implements proxy.Ledger,
// Recorder, and what the shared tier needs to tell how old its entries are. Set the
// fields, call Open, and after the last request call Close. All other methods may be
// called by any number of goroutines between the two.
//
// What holds it together:
//
//   - A node is in the table of nodes before it reads the log, and again with each
//     read, in one step. So a purge is either among what it reads, or was written
//     when its row could be seen.
//   - A node reports a position only when its Ledger has applied all up to there.
//   - A node that has not read the log for as long as Fence trusts nothing, on its
//     own clock. Others believe that of it only after twice that time.
//   - Where something may have been missed, everything older is suspect.
type Log struct {
	Ledger *Ledger
	Fleet  Fleet
	Name   string       // this node's name; what makes it unique is added. Required
	Log    *slog.Logger // nil discards

	// Fence is how long the node may go without reading the log before everything
	// it holds is suspect. Zero means 10 minutes; negative is never, and receipts
	// say so.
	Fence time.Duration

	Remember  int                  // records kept to give back to a log that has lost them, and purges that wait for the log; zero means 10,000
	Deadline  time.Duration        // of one call to the log; zero means 1s
	Heartbeat time.Duration        // between reads of a quiet log; zero means 1s
	Settle    time.Duration        // how old a generation must be before its table of nodes is believed to be whole; zero means 3 times Heartbeat
	Gather    time.Duration        // at least, between two records of invalidations; zero means 100ms
	Batch     int                  // records read at a time; zero means 1,000
	Clock     func() time.Duration // monotonic; nil is this process's, the time counted in that a machine slept

	node     string // our row's name
	end      context.CancelFunc
	loops    sync.WaitGroup
	trust    atomic.Int64 // by Clock: until then, what the ledger says is all there is to know
	ready    atomic.Bool
	outbox   *outbox
	wake     chan struct{}      // holds one: there is something to do
	bell     chan chan struct{} // likewise; what is sent is closed when the log was read
	receipts watch
	counts   logCounts

	// mu guards what follows. The Ledger's and the outbox's locks are taken under
	// it, never the other way round.
	mu         sync.Mutex
	identity   string
	generation Generation
	position   uint64 // up to which the log is applied
	chain      stream.Chain
	chained    bool   // chain is known
	common     uint64 // in this generation: records up to here are of the one before
	before     Generation
	lived      map[Generation]uint64 // position up to which a generation that is over was applied
	history    *history
	awaited    map[stream.ID]chan struct{} // closed when the record was applied from the log
	roster     map[string]stream.Node      // the table as it was last read, ourselves left out
	rosterOf   Generation
	read       time.Duration // by Clock: when the last successful read of the log began

	// Of the loop that reads the log alone.
	tabled  time.Duration // when it last asked for the table
	sealed  time.Duration // when it last sealed the invalidations
	fails   int
	everHad bool
}

// logCounts only grow.
type logCounts struct {
	recorded, alone, applied, rewritten, skipped atomic.Uint64
	generations, holes, unknown, fenced          atomic.Uint64
	readErrors, writeErrors, incomplete          atomic.Uint64
}

// Open fills in defaults and starts to follow the log. It does not wait for it: see
// Ready. It panics when a field that is required is missing.
func (l *Log) Open() {
	if l.Ledger == nil || l.Fleet == nil || l.Name == "" || l.Remember < 0 || l.Batch < 0 {
		panic("purge: a Log needs a Ledger, a Fleet, a Name and bounds")
	}
	if l.Log == nil {
		l.Log = slog.New(slog.DiscardHandler)
	}
	orDefault(&l.Fence, 10*time.Minute)
	orDefault(&l.Remember, 10_000)
	orDefault(&l.Deadline, time.Second)
	orDefault(&l.Heartbeat, time.Second)
	orDefault(&l.Settle, 3*l.Heartbeat)
	orDefault(&l.Gather, 100*time.Millisecond)
	orDefault(&l.Batch, 1000)
	if l.Clock == nil {
		l.Clock = (&clock{start: time.Now()}).now
	}
	id := stream.NewID()
	l.node = fmt.Sprintf("%s-%x", l.Name, id[:4])
	l.outbox = newOutbox(l.Remember)
	l.wake = make(chan struct{}, 1)
	l.bell = make(chan chan struct{})
	l.lived = make(map[Generation]uint64)
	l.history = newHistory(l.Remember)
	l.awaited = make(map[stream.ID]chan struct{})
	l.roster = make(map[string]stream.Node)
	l.receipts.init()
	l.trust.Store(math.MinInt64)
	if l.Fence < 0 {
		l.trust.Store(math.MaxInt64)
	}
	l.tabled = -l.Heartbeat
	l.sealed = -l.Gather
	l.read = l.Clock()

	ctx, end := context.WithCancel(context.Background())
	l.end = end
	l.loops.Go(func() { l.follow(ctx) })
	l.loops.Go(func() { l.listen(ctx) })
	l.loops.Go(func() { l.poll(ctx) })
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Close writes what waits for the log, stops following it and tells the others that
// this node serves nothing more: call it when that is so. What may still be served is
// suspect. It waits no longer than about two Deadlines.
func (l *Log) Close() {
	l.end()
	l.loops.Wait()
	l.flush()
	l.trust.Store(math.MinInt64)
	l.ready.Store(false)
	l.mu.Lock()
	row := l.rowLocked()
	reached := l.everHad
	l.mu.Unlock()
	if !reached {
		return
	}
	if err := l.Fleet.Leave(context.Background(), *row, l.Deadline); err != nil {
		l.Log.Warn("the fleet will wait for this node until its fence has passed", "error", err)
	}
}

// flush writes what this node has applied alone and would take with it, as far as the
// log can be reached. The loops have ended.
func (l *Log) flush() {
	ctx, cancel := context.WithTimeout(context.Background(), l.Deadline)
	defer cancel()
	for l.fails = 0; l.fails == 0 && ctx.Err() == nil; l.round(ctx) {
		if waiting, _, _ := l.outbox.stats(); waiting == 0 {
			return
		}
		l.sealed = l.Clock() - l.Gather // there is no time to gather more
	}
	if waiting, _, _ := l.outbox.stats(); waiting > 0 {
		l.Log.Warn("purges and invalidations of this node alone are lost to the others", "count", waiting)
	}
}

// Sequence implements proxy.Ledger.
func (l *Log) Sequence() uint64 { return l.Ledger.Sequence() }

// Judge implements proxy.Ledger.
func (l *Log) Judge(e *cachestore.Entry, since uint64) cachestore.Verdict {
	return l.Ledger.Judge(e, since)
}

// Trusted implements proxy.Ledger: whether the log was read within the fence. It
// asks the clock, so that it is right at once in a process that was stopped.
func (l *Log) Trusted() bool {
	return int64(l.Clock()) < l.trust.Load() && l.Ledger.Trusted()
}

// Invalidate implements proxy.Ledger. It is applied here at once, and written to the
// log soon.
func (l *Log) Invalidate(key cachestore.Key) {
	l.invalidate(func() change { return l.Ledger.change(key) })
}

// invalidate applies an invalidation and notes that the other nodes may not know of
// it: no record of the log may be applied between the two.
func (l *Log) invalidate(apply func() change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.outbox.change(apply()) {
		l.rouse()
	}
}

// Ready reports whether this node knows all that the log held when it was last read,
// and the log all that this node knows. The shared tier is of use only then.
func (l *Log) Ready() bool { return l.ready.Load() }

// Encode returns the place in the log that stands for a sequence of this node; false
// when there is none, and an entry of that sequence cannot be shared.
func (l *Log) Encode(sequence uint64) (generation [16]byte, position uint64, ok bool) {
	return l.Ledger.encode(sequence)
}

// Generation returns the generation that this node follows; the zero Generation
// before it has reached the log for the first time.
func (l *Log) Generation() Generation { return l.Ledger.generation() }

// Decode returns the sequence on this node that stands for a place in the log. It is
// false when this node does not know all records after that place: the entry is
// suspect.
func (l *Log) Decode(generation [16]byte, position uint64) (sequence uint64, known bool) {
	sequence, known = l.Ledger.decode(generation, position)
	// Whoever stored the entry need not have known what is still on its way to the
	// log.
	if floor := l.outbox.floor.Load(); sequence >= floor {
		sequence = floor - 1
	}
	return sequence, known
}

// InvalidateGroup implements proxy.Ledger, as Invalidate does.
func (l *Log) InvalidateGroup(origin, group string) {
	l.invalidate(func() change { return l.Ledger.changeGroup(origin, group) })
}

// rouse has the log read, and written if there is something to write.
func (l *Log) rouse() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// listen has the log read when something was written to it.
func (l *Log) listen(ctx context.Context) {
	ring := func() {
		done := make(chan struct{})
		select {
		case l.bell <- done:
			select {
			case <-done:
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
		if !l.ready.Load() {
			pause(ctx, l.Heartbeat/4) // it would ring again at once for what could not be read
		}
	}
	after := func() uint64 {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.position
	}
	for ctx.Err() == nil {
		// An error is nothing to tell of: reading the log fails too.
		_ = l.Fleet.Await(ctx, ring, after, l.Heartbeat)
		pause(ctx, l.Heartbeat/4)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// follow reads the log, applies it, and writes to it what it does not have yet.
func (l *Log) follow(ctx context.Context) {
	for ctx.Err() == nil {
		wait := l.round(ctx)
		if wait == 0 {
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-l.wake:
		case done := <-l.bell:
			for again := true; again && ctx.Err() == nil; {
				again = l.round(ctx) == 0
			}
			close(done)
		}
		timer.Stop()
	}
}

// round is one turn of follow. It returns how long to wait before the next; zero
// when there is something to do already.
func (l *Log) round(ctx context.Context) time.Duration {
	began := l.Clock()
	request := l.request(began)
	synced, err := l.Fleet.Sync(ctx, request)
	if err != nil {
		return l.failed(ctx, "reading the log of purges failed", &l.counts.readErrors, err)
	}
	news := l.absorb(synced, request)
	if !synced.Whole {
		return 0
	}
	l.caughtUp(began)
	sent, err := l.send(ctx)
	switch {
	case errors.Is(err, stream.ErrChanged), errors.Is(err, stream.ErrBehind):
		return 0
	case err != nil:
		return l.failed(ctx, "writing to the log of purges failed", &l.counts.writeErrors, err)
	case sent:
		return 0 // it is ours only when it was read back
	}
	if l.fails > 0 {
		l.Log.Info("the log of purges is followed again", "position", synced.Last)
	}
	l.fails = 0
	if !l.ready.Load() {
		l.Ledger.settle()
		l.ready.Store(true)
	}
	if news {
		return 0 // tell the others
	}
	if l.outbox.gathered() {
		return max(time.Millisecond, l.sealed+l.Gather-l.Clock())
	}
	return l.Heartbeat
}

// failed notes that the log could not be reached, and returns how long to leave it
// alone.
func (l *Log) failed(ctx context.Context, what string, count *atomic.Uint64, err error) time.Duration {
	if ctx.Err() != nil {
		return l.Heartbeat
	}
	count.Add(1)
	l.ready.Store(false)
	if l.fails++; l.fails == 1 {
		l.Log.Warn(what, "error", err)
	}
	longest := min(l.Heartbeat, 25*time.Millisecond<<min(l.fails-1, 10))
	return longest/2 + rand.N(longest/2+1)
}

// request says what this node has, to be told what it has not.
func (l *Log) request(now time.Duration) *stream.Sync {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &stream.Sync{Node: l.rowLocked(), Identity: l.identity, Limit: l.Batch, Timeout: l.Deadline}
	if l.identity != "" {
		s.Known = append(s.Known, stream.Known{Position: l.position, Chain: l.chain})
		if anchor, ok := l.history.anchor(); ok && anchor.Position < l.position {
			s.Known = append(s.Known, anchor)
		}
	}
	if l.rosterOf != l.generation {
		for _, n := range l.roster {
			s.Restore = append(s.Restore, n)
		}
	}
	s.Table = now-l.tabled >= l.Heartbeat || len(s.Restore) > 0
	return s
}

func (l *Log) rowLocked() *stream.Node {
	return &stream.Node{Name: l.node, Fence: max(l.Fence, 0), Generation: l.generation, Applied: l.position}
}

// absorb applies what was read. It reports whether there was anything.
func (l *Log) absorb(s *stream.Synced, asked *stream.Sync) (news bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.Generation != l.generation {
		l.turnLocked(s, asked)
		news = true
	} else if s.From > l.position {
		l.hole("the log does not go back far enough", s.From)
		l.Ledger.leap(s.From)
		l.position, l.chained = s.From, false
	}
	var seen []stream.ID
	for i := range s.Records {
		r := &s.Records[i]
		if r.Position <= l.position {
			continue // cannot be; and harmless
		}
		l.applyLocked(r)
		seen = append(seen, r.ID)
		if wait := l.awaited[r.ID]; wait != nil {
			close(wait)
			delete(l.awaited, r.ID)
		}
	}
	l.outbox.seen(seen)
	if asked.Table {
		l.tabled = l.Clock()
		l.enrolLocked(s.Head, s.Nodes, len(asked.Restore) > 0)
	}
	return news || len(s.Records) > 0
}

// turnLocked begins to follow another generation of the log.
func (l *Log) turnLocked(s *stream.Synced, asked *stream.Sync) {
	// What was written to the last generation after we read it may be lost. No
	// receipt was complete without us, unless we were taken to be fenced.
	missed := !l.everHad || l.Fence >= 0 && int64(l.Clock()) >= l.trust.Load()
	common, chain := uint64(0), stream.Chain("")
	if s.Matched {
		common = s.From
		for _, k := range asked.Known {
			if k.Position == s.From {
				chain = k.Chain
			}
		}
	}
	l.Ledger.begin(s.Generation, s.From, missed)
	l.history.turn(s.Generation, common)
	if l.everHad {
		l.lived[l.generation] = max(l.lived[l.generation], l.position)
		l.counts.generations.Add(1)
		l.Log.Warn("the log of purges is another one now: what it has lost is written again",
			"position", l.position, "common", common, "last", s.Last, "missed", missed)
	}
	l.before, l.common = l.generation, 0
	if s.Matched && l.everHad {
		l.common = s.Start
	}
	l.identity, l.generation = s.Identity, s.Generation
	l.position, l.chain, l.chained = s.From, chain, s.Matched
	l.everHad = true
	l.ready.Store(false)
}

// hole tells that records of the log were missed. The caller has the Ledger distrust
// what is older.
func (l *Log) hole(why string, position uint64) {
	l.counts.holes.Add(1)
	l.Log.Warn("purges were missed: everything older is revalidated", "why", why, "position", position)
}

// applyLocked applies the next record of the log.
func (l *Log) applyLocked(r *stream.Record) {
	if r.Position != l.position+1 || l.chained && r.Chain != l.chain.Follows(r.ID) {
		l.hole("records are missing in the log", r.Position)
		if r.Position > l.position+1 {
			l.Ledger.leap(r.Position - 1)
		} else {
			l.Ledger.distrust()
		}
	}
	l.position, l.chain, l.chained = r.Position, r.Chain, true
	if l.before != (Generation{}) && r.First == (stream.Place{}) && r.Position <= l.common {
		l.lived[l.before] = max(l.lived[l.before], r.Position)
	}
	if old := l.history.byID[r.ID]; old != nil {
		// Given back to the log by someone. Here it was applied at its first place.
		l.history.move(old, r.Position, r.Chain)
		l.Ledger.skip(r.Position)
		l.counts.skipped.Add(1)
		return
	}
	if lived, ok := l.lived[r.First.Generation]; ok && r.First != (stream.Place{}) {
		if r.First.Position > lived+1 {
			l.hole("the log lost records that nobody has given back", r.Position)
			l.Ledger.distrust()
		}
		l.lived[r.First.Generation] = max(lived, r.First.Position)
	}
	action, err := parseAction(r.Payload, r.Time)
	if err != nil {
		l.counts.unknown.Add(1)
		l.Log.Warn("a purge is not understood: everything older is revalidated", "position", r.Position, "error", err)
		l.Ledger.leap(r.Position)
		return
	}
	l.Ledger.applyAt(r.Position, action)
	l.counts.applied.Add(1)
	first := r.First
	if first == (stream.Place{}) {
		first = stream.Place{Generation: l.generation, Position: r.Position}
	}
	l.history.add(&remembered{
		id: r.ID, payload: r.Payload, time: r.Time, soft: action.record.Soft,
		first: first, position: r.Position, chain: r.Chain,
	})
}

// caughtUp notes that all that the log held when the read began is applied.
func (l *Log) caughtUp(began time.Duration) {
	l.mu.Lock()
	l.read = began
	l.mu.Unlock()
	if l.Fence < 0 {
		return
	}
	if until := l.trust.Load(); until != math.MinInt64 && int64(began) >= until {
		l.counts.fenced.Add(1)
	}
	l.trust.Store(int64(began + l.Fence))
}

// sendBatch is how many records are written at once.
const sendBatch = 500

// send writes what the log should have: first what it has lost, then what this node
// has applied alone. It reports whether there was anything.
func (l *Log) send(ctx context.Context) (bool, error) {
	if now := l.Clock(); now-l.sealed >= l.Gather && l.outbox.gathered() {
		l.outbox.seal(l.Ledger.options.Now())
		l.sealed = now
	}
	l.mu.Lock()
	request := &stream.Append{Identity: l.identity, Upto: new(l.position), Timeout: l.Deadline}
	for _, r := range l.history.lost(sendBatch) {
		request.Records = append(request.Records, stream.Record{ID: r.id, Time: r.time, First: r.first, Payload: r.payload})
	}
	l.mu.Unlock()
	rewritten := len(request.Records)
	if rewritten == 0 {
		request.Records = l.outbox.next(sendBatch)
	}
	if len(request.Records) == 0 {
		return false, nil
	}
	if _, err := l.Fleet.Append(ctx, request); err != nil {
		return false, err
	}
	l.counts.rewritten.Add(uint64(rewritten))
	return true, nil
}
