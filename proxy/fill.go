package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"edge/cachestore"
	"edge/proxy/rfc9111"
)

// A fill is a response on its way from the origin. One goroutine writes it; any
// number of readers, each with its own place, follow from the first byte. What
// was received never changes, so readers share the chunks without copying.
//
//	waiting ──► streaming ──► complete    the answer may be shared
//	    │            └──────► failed
//	    ├─────► private                   the answer belongs to one request
//	    └─────► failed
//
// While everything received is kept, the fill runs at the origin's speed and ends
// in the store. When the body outgrows the object limit or the budget, the fill
// becomes a window: it drops what every reader has read, waits for the slowest,
// takes no newcomers and is not stored.
type fill struct {
	key      string    // in the table of flights; "" for a fill that nobody may join
	started  time.Time // when the origin was about to be asked
	sequence uint64    // of the ledger, before the look-up that led here
	cancel   context.CancelFunc
	budget   *budget
	limits   fillLimits
	windows  *atomic.Int64 // counts the fills that have become windows

	variantKey string // a second key in that table, or ""; guarded by flights.mu

	mu      sync.Mutex
	changed chan struct{} // closed at the next change; nil when nobody waits for one
	state   fillState
	early   []informational   // 1xx responses so far
	head    *cachestore.Entry // from streaming on: the entry without its body; when complete, with it
	answer  *http.Response    // in private: the one answer, until it is taken
	own     http.Header       // fields for the leader alone: not stored, and not for others
	verdict rfc9111.Storage   // what was decided from the head
	status  int               // of the origin's answer; zero before there was one
	asked   time.Duration     // from started to the origin's head
	outcome Outcome           // Miss, or Revalidated when a 304 confirmed what was stored
	length  int64             // of the body, -1 when not known yet
	err     error             // in failed
	chunks  [][]byte          // received and kept; only the last one still has room
	dropped int64             // bytes before chunks[0]; zero unless windowed
	size    int64             // bytes received
	held    int64             // bytes taken from the budget
	window  bool
	kept    bool // the head has its body
	readers []*reader

	slowest      int64     // where the slowest reader of a window was
	slowestSince time.Time // and since when
}

type fillState uint8

const (
	waiting   fillState = iota // no head yet: nothing may be read
	private                    // the answer is for the request that started the fill
	streaming                  // the head may be read, the body grows
	complete                   // the body is whole
	failed                     // err says why; what was received is worthless
)

// fillLimits bound one fill.
type fillLimits struct {
	object int64         // bytes up to which the body is kept whole
	window int64         // bytes kept once it is not
	stall  time.Duration // how long one reader may hold up others
}

// informational is a 1xx response from the origin.
type informational struct {
	code   int
	header textproto.MIMEHeader
}

const (
	firstChunk = 4 << 10
	largeChunk = 128 << 10
)

var (
	errNobodyReads  = errors.New("proxy: nobody reads the response any more")
	errReaderStalls = errors.New("proxy: the client held up others")
)

// changedLocked wakes everyone who waits for a change.
func (f *fill) changedLocked() {
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// changeLocked returns a channel that is closed at the next change.
func (f *fill) changeLocked() <-chan struct{} {
	if f.changed == nil {
		f.changed = make(chan struct{})
	}
	return f.changed
}

// inform passes a 1xx response on to all who wait for the head.
func (f *fill) inform(code int, header textproto.MIMEHeader) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.early = append(f.early, informational{code, header})
	f.changedLocked()
}

// keepPrivate ends the wait: the answer is for one request alone. When that
// request has left, the answer is dropped.
func (f *fill) keepPrivate(answer *http.Response, verdict rfc9111.Storage) {
	f.mu.Lock()
	f.mustBe(waiting)
	f.state, f.answer, f.verdict = private, answer, verdict
	f.changedLocked()
	led := slices.ContainsFunc(f.readers, func(r *reader) bool { return r.leads })
	f.mu.Unlock()
	if !led {
		f.dropAnswer()
	}
}

// takeAnswer hands out the private answer, once.
func (f *fill) takeAnswer() *http.Response {
	f.mu.Lock()
	defer f.mu.Unlock()
	answer := f.answer
	f.answer = nil
	return answer
}

// dropAnswer throws away a private answer that nobody has taken.
func (f *fill) dropAnswer() {
	if answer := f.takeAnswer(); answer != nil {
		answer.Body.Close()
		f.cancel()
	}
}

// begin publishes the head of a response that may be shared, but for the fields
// that are the leader's own. Length is that of the body, or -1.
func (f *fill) begin(head *cachestore.Entry, own http.Header, verdict rfc9111.Storage, length int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mustBe(waiting)
	f.state, f.head, f.own, f.verdict, f.length, f.outcome = streaming, head, own, verdict, length, Miss
	f.changedLocked()
}

// receive copies the body from the origin until it ends. It returns the whole
// body, or false when the body could not be kept whole; an error means that the
// response is worthless.
func (f *fill) receive(ctx context.Context, body io.Reader) (whole cachestore.Body, kept bool, err error) {
	for {
		room, err := f.room(ctx)
		if err != nil {
			return cachestore.Body{}, false, err
		}
		n, err := body.Read(room)
		f.advance(n)
		switch {
		case err == io.EOF:
			whole, kept = f.whole()
			return whole, kept, nil
		case err != nil:
			return cachestore.Body{}, false, err
		}
	}
}

// room returns free space to read into. In a window it waits until the slowest
// reader has made some.
func (f *fill) room(ctx context.Context) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.window {
		f.trimLocked()
		if len(f.readers) == 0 {
			return nil, errNobodyReads
		}
		if f.size-f.dropped < f.limits.window && !f.budget.exhausted() || f.slowestLocked() == f.size {
			break
		}
		if err := f.waitForReadersLocked(ctx); err != nil {
			return nil, err
		}
	}
	if n := len(f.chunks); n > 0 && len(f.chunks[n-1]) < cap(f.chunks[n-1]) {
		last := f.chunks[n-1]
		return last[len(last):cap(last)], nil
	}
	size := f.nextChunkLocked()
	switch {
	case f.window:
		if f.budget.exhausted() {
			size = firstChunk // many windows share what little there is
		}
		f.budget.force(size)
	case f.endedLocked():
		f.budget.force(size)
	case f.size > f.limits.object || !f.budget.take(size):
		f.becomeWindowLocked()
		f.budget.force(size)
	}
	f.held += size
	chunk := make([]byte, 0, size)
	f.chunks = append(f.chunks, chunk)
	return chunk[:size], nil
}

// endedLocked reports that the whole body is here, as far as its length was
// announced; what is left to read is its end.
func (f *fill) endedLocked() bool { return f.length >= 0 && f.size >= f.length }

// nextChunkLocked is the size of the next chunk: exact for bodies whose length is
// known, growing for others, so that small objects cost what they weigh.
func (f *fill) nextChunkLocked() int64 {
	if f.length >= 0 {
		// One byte more than is left would never be used: at the end, a token
		// room is enough for the read that finds the end.
		return max(min(f.length-f.size, largeChunk), 1)
	}
	size := min(max(f.size, firstChunk), largeChunk)
	if !f.window {
		size = min(size, f.limits.object-f.size+1) // the one byte more tells whether the limit is passed
	}
	return max(size, 1)
}

// waitForReadersLocked waits until a reader moved. Readers that have held up
// others for as long as the limit says are cut off.
func (f *fill) waitForReadersLocked(ctx context.Context) error {
	now := time.Now()
	if slowest := f.slowestLocked(); slowest != f.slowest || f.slowestSince.IsZero() {
		f.slowest, f.slowestSince = slowest, now
	}
	left := f.limits.stall - now.Sub(f.slowestSince)
	if left <= 0 && len(f.readers) > 1 {
		f.cutLocked(f.slowest)
		return nil
	}
	changed := f.changeLocked()
	f.mu.Unlock()
	defer f.mu.Lock()
	timer := time.NewTimer(max(left, time.Millisecond))
	defer timer.Stop()
	if left <= 0 {
		timer.Stop() // a single reader holds up nobody but itself
	}
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// cutLocked breaks off the readers that stand at offset.
func (f *fill) cutLocked(offset int64) {
	for _, r := range slices.Clone(f.readers) {
		if r.offset == offset {
			r.cut = true
			f.removeLocked(r)
		}
	}
	f.changedLocked()
}

func (f *fill) slowestLocked() int64 {
	slowest := f.size
	for _, r := range f.readers {
		slowest = min(slowest, r.offset)
	}
	return slowest
}

// becomeWindowLocked gives up keeping the body.
func (f *fill) becomeWindowLocked() {
	f.window = true
	if f.windows != nil {
		f.windows.Add(1)
	}
	f.changedLocked()
}

// trimLocked drops the chunks that every reader has behind it.
func (f *fill) trimLocked() {
	slowest := f.slowestLocked()
	for len(f.chunks) > 0 && f.dropped+int64(len(f.chunks[0])) <= slowest && len(f.chunks[0]) == cap(f.chunks[0]) {
		f.dropped += int64(len(f.chunks[0]))
		f.held -= int64(cap(f.chunks[0]))
		f.budget.release(int64(cap(f.chunks[0])))
		f.chunks[0] = nil
		f.chunks = f.chunks[1:]
	}
}

func (f *fill) advance(n int) {
	if n == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	last := &f.chunks[len(f.chunks)-1]
	*last = (*last)[:len(*last)+n]
	f.size += int64(n)
	f.changedLocked()
}

// whole returns the body when all of it was kept.
func (f *fill) whole() (cachestore.Body, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.window || f.size > f.limits.object {
		return cachestore.Body{}, false
	}
	chunks := slices.Clone(f.chunks)
	if n := len(chunks); n > 0 && cap(chunks[n-1])-len(chunks[n-1]) > cap(chunks[n-1])/8 {
		chunks[n-1] = append(make([]byte, 0, len(chunks[n-1])), chunks[n-1]...)
	}
	return cachestore.NewBody(chunks...), true
}

// tooLarge tells whether the body has outgrown the object limit.
func (f *fill) tooLarge() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.size > f.limits.object
}

// finish ends the fill: entry is the response with its body, or nil when it was
// not kept and readers have only the window.
func (f *fill) finish(entry *cachestore.Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mustBe(streaming)
	f.state, f.length = complete, f.size
	if entry != nil {
		f.head, f.kept = entry, true
	}
	f.settleLocked()
}

// answerWith ends the wait with an entry that is already whole.
func (f *fill) answerWith(entry *cachestore.Entry, own http.Header, outcome Outcome, verdict rfc9111.Storage) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mustBe(waiting)
	f.state, f.head, f.own, f.verdict, f.outcome = complete, entry, own, verdict, outcome
	f.length, f.size, f.kept = entry.Body.Size(), entry.Body.Size(), true
	f.chunks = slices.Collect(entry.Body.Chunks())
	f.settleLocked()
}

// publication is what a reader learns once there is a head.
type publication struct {
	head    *cachestore.Entry
	whole   bool        // head comes with its body
	own     http.Header // what the leader gets beside it; nil for others
	outcome Outcome
	verdict rfc9111.Storage
	status  int   // of the origin's answer
	length  int64 // of the body; -1 when not known yet
}

// published returns the head and what goes with it, once the state has one.
func (f *fill) published() publication {
	f.mu.Lock()
	defer f.mu.Unlock()
	return publication{f.head, f.kept, f.own, f.outcome, f.verdict, f.status, f.length}
}

// failure returns what ended the fill, if it failed.
func (f *fill) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// heard notes that the origin has answered.
func (f *fill) heard(status int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status, f.asked = status, time.Since(f.started)
}

// fail ends the fill: everyone is woken, once, and nobody mistakes what was
// received for the whole.
func (f *fill) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state != waiting && f.state != streaming {
		return
	}
	f.state, f.err = failed, err
	f.settleLocked()
}

// settleLocked ends the fill for those who wait. What it holds counts against the
// budget for as long as somebody reads it.
func (f *fill) settleLocked() {
	f.releaseLocked()
	f.changedLocked()
}

func (f *fill) releaseLocked() {
	if len(f.readers) == 0 && (f.state == complete || f.state == failed) {
		f.budget.release(f.held)
		f.held = 0
	}
}

func (f *fill) mustBe(state fillState) {
	if f.state != state {
		panic("proxy: a fill was moved on from a state that it was not in")
	}
}

// joinLocked adds a reader at the first byte.
func (f *fill) joinLocked(leads bool) *reader {
	r := &reader{fill: f, leads: leads, end: -1}
	f.readers = append(f.readers, r)
	return r
}

func (f *fill) removeLocked(r *reader) {
	if i := slices.Index(f.readers, r); i >= 0 {
		f.readers = slices.Delete(f.readers, i, i+1)
	}
	f.releaseLocked()
}

// reader is one request's place in a fill, from the moment it joined. It is an
// io.ReadCloser for the body; Close must be called, also by a request that never
// read.
type reader struct {
	fill  *fill
	ctx   context.Context // ends a Read that waits
	leads bool            // this request started the fill

	// Guarded by fill.mu.
	offset int64
	end    int64 // where to stop; -1 is the end of the body
	cut    bool  // held others up for too long
	told   int   // informational responses already passed on
}

// next waits for a change of the fill beyond what this reader has seen: a further
// 1xx, or a state other than waiting. It returns what is new, or the context's
// error.
func (r *reader) next(ctx context.Context, patience <-chan time.Time) ([]informational, fillState, error) {
	f := r.fill
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		if r.told < len(f.early) || f.state != waiting {
			news := f.early[r.told:]
			r.told = len(f.early)
			return news, f.state, nil
		}
		changed := f.changeLocked()
		f.mu.Unlock()
		var err error
		select {
		case <-changed:
		case <-patience:
			err = errStalledLeader
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		f.mu.Lock()
		if err != nil {
			return nil, f.state, err
		}
	}
}

// limit narrows the reader to a part of the body. It must be called before the
// first Read.
func (r *reader) limit(start, length int64) {
	r.fill.mu.Lock()
	defer r.fill.mu.Unlock()
	r.offset, r.end = start, start+length
	r.fill.changedLocked()
}

// Read waits for the next bytes of the body. It returns io.EOF only at the true
// end; a response that broke off is an error.
func (r *reader) Read(p []byte) (int, error) {
	part, err := r.part(len(p))
	if err != nil {
		return 0, err
	}
	n := copy(p, part) // outside the lock: received bytes never change
	r.fill.mu.Lock()
	r.offset += int64(n)
	if r.fill.window {
		r.fill.changedLocked() // the origin's side may be waiting for room
	}
	r.fill.mu.Unlock()
	return n, nil
}

// part returns received bytes at the reader's place, without moving it.
func (r *reader) part(most int) ([]byte, error) {
	f := r.fill
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		switch {
		case r.cut:
			return nil, errReaderStalls
		case f.state == failed:
			return nil, f.err
		case r.end >= 0 && r.offset >= r.end:
			return nil, io.EOF
		case r.offset < f.size:
			return r.bytesLocked(most), nil
		case f.state == complete:
			return nil, io.EOF
		}
		changed := f.changeLocked()
		f.mu.Unlock()
		select {
		case <-changed:
			f.mu.Lock()
		case <-r.ctx.Done():
			f.mu.Lock()
			return nil, context.Cause(r.ctx)
		}
	}
}

func (r *reader) bytesLocked(most int) []byte {
	f := r.fill
	at := f.dropped
	if r.offset < at {
		panic("proxy: a fill dropped bytes that a reader had not read")
	}
	for _, chunk := range f.chunks {
		if skip := r.offset - at; skip < int64(len(chunk)) {
			part := chunk[skip:]
			if r.end >= 0 {
				part = part[:min(int64(len(part)), r.end-r.offset)]
			}
			return part[:min(len(part), most)]
		}
		at += int64(len(chunk))
	}
	panic("proxy: a fill counts more bytes than it holds")
}

// outlast waits until the fill has ended, without reading. It does not hold up a
// window: what is not kept is of no use to a reader that wants none of it.
func (r *reader) outlast(ctx context.Context) error {
	f := r.fill
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.state == streaming && !f.window {
		changed := f.changeLocked()
		f.mu.Unlock()
		select {
		case <-changed:
			f.mu.Lock()
		case <-ctx.Done():
			f.mu.Lock()
			return context.Cause(ctx)
		}
	}
	return f.err
}

// Close gives up the reader's place. A private answer that was not taken is
// dropped with the request that it was for.
func (r *reader) Close() error {
	f := r.fill
	f.mu.Lock()
	f.removeLocked(r)
	f.changedLocked() // a window may have room now, or nobody left to read it
	forNobody := f.key == "" && f.state == waiting && len(f.readers) == 0
	f.mu.Unlock()
	if forNobody {
		f.cancel() // the answer was for one request alone, which has left
	}
	if r.leads {
		f.dropAnswer()
	}
	return nil
}

// budget is the memory that all fills together may hold.
type budget struct {
	limit int64
	held  atomic.Int64
}

// take reserves n bytes, or nothing when they would pass the limit.
func (b *budget) take(n int64) bool {
	if b.held.Add(n) > b.limit {
		b.held.Add(-n)
		return false
	}
	return true
}

// force reserves n bytes whatever the limit: a window is what makes a fill
// possible at all.
func (b *budget) force(n int64) { b.held.Add(n) }

// exhausted tells whether there is nothing left to take.
func (b *budget) exhausted() bool { return b.limit > 0 && b.held.Load() >= b.limit }

func (b *budget) release(n int64) { b.held.Add(-n) }
