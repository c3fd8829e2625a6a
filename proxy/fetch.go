package proxy

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptrace"
	"time"

	"edge/cachestore"
	"edge/proxy/rfc9111"
)

// maxRegroups is how often a request may find that the fetch it joined is not for
// it before it goes alone.
const maxRegroups = 4

// fetch answers a GET from a fill: one under way that the request may join, or one
// that it leads.
func (x *exchange) fetch(out *http.Request) (*http.Response, error) {
	x.consultMarks()
	if x.passing {
		x.restoreConditionals(out)
		return x.askAlone(out)
	}
	for tries := 0; ; tries++ {
		x.alone = x.alone || tries == maxRegroups
		place, err := x.board(out)
		if err != nil {
			return nil, err
		}
		res, again, err := x.follow(place, out)
		if again {
			continue
		}
		if x.passing { // found too large to store, and only a part was asked for
			x.restoreConditionals(out)
			return x.askAlone(out)
		}
		return x.orStale(out, res, err)
	}
}

// consultMarks sends the request to the origin by itself when its answer was
// lately found not to be shareable. With a Range or a condition, and nothing of
// ours to ask about, it goes as the client wrote it.
func (x *exchange) consultMarks() {
	if x.directives.NoStore {
		x.alone = true // its answer will not be stored: nobody should wait for it
		return
	}
	sequence, marked := x.h.Cache.marks.get(x.flightKey(), x.now)
	if !marked || x.purgedSince(sequence) {
		return
	}
	x.alone = true
	if x.stored == nil {
		x.why = reasonHitForMiss
		x.passing = x.conditional()
	}
}

// conditional reports whether the client asked for less than the whole.
func (x *exchange) conditional() bool {
	for _, name := range conditionals {
		if x.r.Header[name] != nil {
			return true
		}
	}
	return false
}

func (x *exchange) restoreConditionals(out *http.Request) {
	for _, name := range conditionals {
		if values := x.r.Header[name]; values != nil {
			out.Header[name] = values
		}
	}
	dropSeveralRanges(out.Header)
}

// purgedSince reports whether this key, whatever is stored under it, was purged
// later than the sequence.
func (x *exchange) purgedSince(sequence uint64) bool {
	if x.h.Cache.Ledger.Sequence() == sequence {
		return false
	}
	verdict := x.h.Cache.Ledger.Judge(&cachestore.Entry{Key: x.key, Sequence: sequence}, sequence)
	return verdict != cachestore.Verdict{}
}

// flightKey names the flight that this request belongs to: its class, and the
// variant as far as it can be foreseen.
func (x *exchange) flightKey() string { return flightKey(x.flightClass(), x.variant(x.varyOn)) }

func flightKey(class, variant string) string { return class + "\x00" + variant }

// flightClass is the key, and whether the answer could be personal. That keeps one
// user's uncacheable answer from holding up everybody else.
func (x *exchange) flightClass() string {
	class := string(x.key) + "\x00"
	if x.r.Header["Authorization"] != nil {
		class += "a"
	}
	if x.r.Header["Cookie"] != nil && x.policy().CookiesNeedPermission {
		class += "c"
	}
	return class
}

// board finds the request a place: in the flight under way, or at the head of a
// new one, which then also starts.
func (x *exchange) board(out *http.Request) (*reader, error) {
	flights := &x.h.Cache.flights
	if x.alone {
		if err := x.mayAsk(); err != nil {
			return nil, err
		}
		f, run := x.newFill("", out)
		f.mu.Lock()
		place := f.joinLocked(true)
		f.mu.Unlock()
		return place, x.launch(f, run)
	}
	key := x.flightKey()
	for {
		current := flights.current(key)
		if current != nil && x.mayJoin(current) {
			if place := current.join(time.Now(), x.h.Cache.FillWait); place != nil {
				return place, nil
			}
		}
		f, run := x.newFill(key, out)
		place := flights.lead(f, current)
		if place == nil {
			f.cancel() // somebody else was first: look again
			continue
		}
		if err := x.mayAsk(); err != nil { // only who leads asks: the others reach no origin
			flights.land(f)
			f.cancel()
			f.fail(errUnled)
			place.Close()
			return nil, err
		}
		return place, x.launch(f, run)
	}
}

func (x *exchange) launch(f *fill, run func()) error {
	if x.h.Cache.start(run) {
		return nil
	}
	x.h.Cache.flights.land(f)
	f.cancel()
	f.fail(errClosed)
	return errClosed
}

// mayJoin tells whether the flight can be of use: its look-up is not older than a
// purge that concerns it, and the client does not ask for news. Where purges may be
// unknown here, only an answer that came after the request did is surely as new as
// that.
func (x *exchange) mayJoin(f *fill) bool {
	if x.directives.NoCache {
		return false
	}
	head := f.published().head
	if head != nil && x.outgrown(head) {
		return false
	}
	if head != nil && head.Received.Before(x.now) && !x.h.Cache.Ledger.Trusted() {
		return false
	}
	if x.h.Cache.Ledger.Sequence() == f.sequence {
		return true
	}
	if head == nil {
		head = &cachestore.Entry{Key: x.key, Sequence: f.sequence}
	}
	verdict := x.h.Cache.Ledger.Judge(head, f.sequence)
	return verdict == cachestore.Verdict{}
}

// outgrown tells whether a response that was of use when it came has since become
// too old for this request. One that never was of use without the origin's word is
// another matter: see mayShare.
func (x *exchange) outgrown(head *cachestore.Entry) bool {
	return x.of(head, time.Now()) == rfc9111.UseRevalidate && x.of(head, head.Received) != rfc9111.UseRevalidate
}

// of tells how this request may use a response at that time. What came after the
// request did is as new as can be, whatever age the client would take.
func (x *exchange) of(head *cachestore.Entry, now time.Time) rfc9111.Use {
	asked := x.directives
	if !head.Received.Before(x.now) {
		asked.MaxAge = rfc9111.Limit{}
	}
	use, _ := rfc9111.Judge(asked, head.Life, head.Age(now))
	return use
}

// newFill prepares a fill led by this request, and the function that runs it. The
// fill has a context of its own: this client may leave, and the others still get
// their answer.
func (x *exchange) newFill(key string, out *http.Request) (*fill, func()) {
	cache := x.h.Cache
	ctx, cancel := context.WithCancel(cache.ctx)
	f := &fill{
		key:      key,
		started:  time.Now(),
		sequence: x.sequence,
		cancel:   cancel,
		budget:   &cache.budget,
		windows:  &cache.counts.windows,
		limits:   fillLimits{object: x.h.Rules.MaxObject, window: cache.FillWindow, stall: cache.FillStall},
		length:   -1,
	}
	q := x.question(out)
	q.fill = f
	return f, func() { q.run(ctx) }
}

// question prepares what is asked of the origin, free of this request.
func (x *exchange) question(out *http.Request) *question {
	header := out.Header.Clone()
	if header.Get("User-Agent") == "" {
		delete(header, "User-Agent") // empty only to keep net/http from naming itself
	}
	return &question{
		h: x.h, out: out, header: header, key: x.key, class: x.flightClass(), flight: x.flightKey(),
		varyOn: x.varyOn, directives: x.directives, sequence: x.sequence, stored: x.stored, life: x.life, self: schemeOf(x.r) + "://" + x.r.Host + x.target(),
		policy: x.policy(), bent: x.bent(),
	}
}

// follow waits for the fill's answer and judges whether this request may have it,
// before it sees a byte. Again says that it may not, and must look elsewhere.
func (x *exchange) follow(place *reader, out *http.Request) (res *http.Response, again bool, err error) {
	place.ctx = x.r.Context()
	var patience <-chan time.Time
	if !place.leads {
		timer := time.NewTimer(x.h.Cache.FillWait - time.Since(place.fill.started))
		defer timer.Stop()
		patience = timer.C
	}
	for {
		news, state, err := place.next(x.r.Context(), patience)
		if err != nil {
			place.Close()
			return nil, err == errStalledLeader, err
		}
		if err := relay(out.Context(), news); err != nil {
			place.Close()
			return nil, false, err
		}
		switch state {
		case waiting:
			continue
		case failed:
			err := place.fill.failure()
			x.noteOrigin(place)
			place.Close()
			if err == errUnled {
				return nil, true, nil
			}
			if err == errShrunk && !x.background && !x.mayBeStale() {
				x.alone = true // what is stored may stand in for others, but not for this request
				return nil, true, nil
			}
			if varies := (*variesNow)(nil); errors.As(err, &varies) {
				x.varyOn, x.why = varies.on, reasonVariant
				return nil, true, nil
			}
			return nil, false, err
		case private:
			return x.receivePrivate(place, out)
		case streaming, complete:
			if !place.leads && !x.mayShare(place) {
				place.Close()
				return nil, true, nil
			}
			res, err := x.receiveShared(place, out)
			return res, false, err
		default:
			panic("proxy: a fill in an unknown state")
		}
	}
}

// relay passes 1xx responses on to the client by way of the reverse proxy.
func relay(ctx context.Context, news []informational) error {
	trace := httptrace.ContextClientTrace(ctx)
	if trace == nil || trace.Got1xxResponse == nil {
		return nil
	}
	for _, info := range news {
		if err := trace.Got1xxResponse(info.code, info.header); err != nil {
			return err
		}
	}
	return nil
}

// receivePrivate takes an answer that is for the leader alone. Everybody else
// goes to the origin at once, side by side.
func (x *exchange) receivePrivate(place *reader, out *http.Request) (*http.Response, bool, error) {
	var answer *http.Response
	if place.leads {
		answer = place.fill.takeAnswer()
	}
	if answer == nil {
		place.Close()
		if res := x.staleInstead(place.fill.published().status, out); res != nil {
			return res, false, nil
		}
		x.alone = true
		return nil, true, nil
	}
	x.noteOrigin(place)
	why := place.fill.verdict.Reason
	if x.background {
		// Nobody reads it, and it will not be kept: it may even be endless.
		answer.Body.Close()
		answer.Body, answer.ContentLength = http.NoBody, 0
	}
	if why == reasonTooLarge && oneRange(x.r.Header["Range"]) && answer.StatusCode == http.StatusOK {
		answer.Body.Close()
		x.passing = true
		return nil, false, nil
	}
	// The answer now lives as long as this client.
	stop := context.AfterFunc(x.r.Context(), place.fill.cancel)
	answer.Body = &answerBody{ReadCloser: answer.Body, close: func() { stop(); place.fill.cancel() }}
	place.Close()
	answer.Request = out
	x.dress(answer, &cacheStatus{outcome: Pass, forward: x.why, reason: why, originStatus: place.fill.status})
	return answer, false, nil
}

// mayShare judges a response that another request's fetch brought: alive under the
// ledger, selected by this request's header fields, and good enough for what its
// client asks. A request that may not have it leads or joins the flight of its own
// variant.
func (x *exchange) mayShare(place *reader) bool {
	head := place.fill.published().head
	if !x.mayJoin(place.fill) {
		return false
	}
	if x.variant(head.VaryOn()) != head.Variant() {
		x.varyOn, x.why = head.VaryOn(), reasonVariant
		return false
	}
	if x.of(head, time.Now()) == rfc9111.UseRevalidate {
		x.alone = true // nobody may share it: all go at once
		return false
	}
	return true
}

// receiveShared answers from a fill that this request may have.
func (x *exchange) receiveShared(place *reader, out *http.Request) (*http.Response, error) {
	x.noteOrigin(place)
	x.place = place
	published := place.fill.published()
	head := published.head
	status := &cacheStatus{outcome: published.outcome, forward: x.why, ttl: head.Life.Fresh - head.Age(time.Now()),
		originStatus: published.status, stored: place.leads && published.verdict.OK}
	if place.leads {
		x.own = published.own
	} else {
		status.outcome, x.rec.Collapsed = Joined, true
	}
	x.rec.Stored = status.stored
	if x.background {
		err := place.outlast(x.r.Context())
		place.Close()
		return &http.Response{StatusCode: head.Status, Header: make(http.Header), Body: http.NoBody, Request: out}, err
	}
	if published.whole {
		res := x.answerFrom(head, out, status)
		res.Body = &answerBody{res.Body, func() { place.Close() }} // what it holds counts until it is sent
		return res, nil
	}
	header := head.Head.Header()
	res := &http.Response{StatusCode: head.Status, Header: header, Body: place, ContentLength: published.length, Request: out,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	switch {
	case rfc9111.NotModified(out.Method, x.r.Header, head.Status, head.Head):
		rfc9111.StripFor304(header)
		place.Close()
		res.StatusCode, res.Body, res.ContentLength = http.StatusNotModified, http.NoBody, 0
	case published.length >= 0:
		x.narrow(res, head, place, published.length)
	}
	x.finish(res, head, status)
	return res, nil
}

// narrow answers a single range from a body that is still arriving.
func (x *exchange) narrow(res *http.Response, head *cachestore.Entry, place *reader, size int64) {
	switch answer, ranges := rfc9111.Ranges(x.r.Method, x.r.Header, head.Status, head.Head, size, x.h.Rules.MaxRanges); {
	case answer == rfc9111.RangeUnsatisfiable:
		place.Close()
		unsatisfiable(res.Header, size)
		res.StatusCode, res.Body, res.ContentLength = http.StatusRequestedRangeNotSatisfiable, http.NoBody, 0
	case answer == rfc9111.RangePartial && len(ranges) == 1:
		place.limit(ranges[0].Start, ranges[0].Length)
		partial(res.Header, ranges[0], size)
		res.StatusCode, res.ContentLength = http.StatusPartialContent, ranges[0].Length
	}
}

// answerFrom makes a response from a whole entry, for the reverse proxy to send.
func (x *exchange) answerFrom(e *cachestore.Entry, out *http.Request, status *cacheStatus) *http.Response {
	header := e.Head.Header()
	code, body := x.represent(e, header)
	res := &http.Response{StatusCode: code, Header: header, Body: readCloser{body.Reader()}, ContentLength: body.Size(), Request: out,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	if out.Method == http.MethodHead {
		res.Body = http.NoBody
	}
	x.finish(res, e, status)
	return res
}

// finish writes what stands on every answer that a stored response, or one being
// stored, is the source of.
func (x *exchange) finish(res *http.Response, e *cachestore.Entry, status *cacheStatus) {
	x.rec.Outcome, x.rec.Reason = status.outcome, status.reason
	if x.rec.Reason == "" {
		x.rec.Reason = x.why
	}
	status.status = res.StatusCode
	if status.outcome == Miss || status.outcome == Revalidated {
		e = nil // first hand: Age, if any, is the origin's
	}
	maps.Copy(res.Header, x.own)
	x.h.hide(res.Header)
	x.describe(res.Header, e, status)
	x.h.Rules.Response.apply(res.Header, x.r)
}

// dress writes what stands on an answer that goes past the cache.
func (x *exchange) dress(res *http.Response, status *cacheStatus) {
	x.rec.Outcome, x.rec.Reason = status.outcome, status.reason
	if status.reason == "" {
		x.rec.Reason = x.why
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		x.rec.Status, x.rec.FirstByte = res.StatusCode, time.Since(x.rec.Started) // nothing is written by way of w
		return
	}
	if x.r.Header["Upgrade"] != nil {
		x.w.Header()["Connection"] = []string{"close"} // what follows may have been meant for the tunnel
	}
	status.status = res.StatusCode
	x.h.cleanResponse(res.Header, time.Now())
	x.h.hide(res.Header)
	filterTrailers(res)
	x.describe(res.Header, nil, status)
	x.h.Rules.Response.apply(res.Header, x.r)
}

// orStale returns the stored response in place of a failure, where its own rules
// and the client's allow that.
func (x *exchange) orStale(out *http.Request, res *http.Response, err error) (*http.Response, error) {
	if err == nil && !isFailure(res.StatusCode) {
		return res, nil
	}
	x.failure = true
	if x.stored == nil || x.background || errors.Is(err, context.Canceled) && x.r.Context().Err() != nil {
		return res, err
	}
	x.now = time.Now() // the wait for the origin has made it older
	age := x.stored.Age(x.now)
	allowed, why := rfc9111.StaleOnError(x.directives, x.life, age)
	if !allowed && err != nil && unreachable(err) {
		allowed, why = rfc9111.StaleOnUnreachable(x.directives, x.life, age)
	}
	if !allowed {
		return res, err
	}
	if res != nil {
		res.Body.Close()
	}
	x.rec.Err = err
	return x.answerFrom(x.stored, out, &cacheStatus{outcome: StaleError, reason: why, ttl: x.ttl(x.stored, x.life)}), nil
}

// staleInstead answers a request whose flight has met a failure, where what is
// stored may stand in for it: a failing origin is not asked by each of those who
// waited. It returns nil when it may not.
func (x *exchange) staleInstead(status int, out *http.Request) *http.Response {
	if !isFailure(status) || x.stored == nil || x.background {
		return nil
	}
	x.now = time.Now()
	allowed, why := rfc9111.StaleOnError(x.directives, x.life, x.stored.Age(x.now))
	if !allowed {
		return nil
	}
	x.rec.Collapsed = true
	return x.answerFrom(x.stored, out, &cacheStatus{outcome: StaleError, reason: why, ttl: x.ttl(x.stored, x.life)})
}

// mayBeStale tells whether what is stored may be served to this request instead of an
// error.
func (x *exchange) mayBeStale() bool {
	if x.stored == nil {
		return false
	}
	ok, _ := rfc9111.StaleOnError(x.directives, x.life, x.stored.Age(time.Now()))
	return ok
}

// isFailure names the answers that stale-if-error stands in for (RFC 5861 section
// 4).
func isFailure(status int) bool {
	switch status {
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// askAlone sends the request as it is, for this client alone.
func (x *exchange) askAlone(out *http.Request) (*http.Response, error) {
	if err := x.mayAsk(); err != nil {
		return nil, err
	}
	started := time.Now()
	res, err := x.h.Origin.RoundTrip(out.WithContext(x.h.cleanedInterim(out.Context())))
	x.rec.Origin = time.Since(started)
	if err != nil {
		return nil, err
	}
	res.Request = out
	x.rec.OriginStatus = res.StatusCode
	x.invalidate(res)
	x.dress(res, &cacheStatus{outcome: Pass, forward: x.why, originStatus: res.StatusCode})
	return res, nil
}

// askHead sends a HEAD as it is. Its answer has no body to store, but tells
// whether what is stored still stands (RFC 9111 section 4.3.5).
func (x *exchange) askHead(out *http.Request) (*http.Response, error) {
	if x.why == reasonNotStored || x.why == reasonVariant {
		x.why = reasonHead
	}
	if err := x.mayAsk(); err != nil {
		return nil, err
	}
	requested := time.Now()
	res, err := x.h.Origin.RoundTrip(out.WithContext(x.h.cleanedInterim(out.Context())))
	x.rec.Origin = time.Since(requested)
	if err != nil {
		return x.orStale(out, nil, err)
	}
	res.Request = out
	x.rec.OriginStatus = res.StatusCode
	if x.stored != nil && res.StatusCode == http.StatusOK {
		x.freshen(res, requested)
	}
	x.dress(res, &cacheStatus{outcome: Pass, forward: x.why, originStatus: res.StatusCode})
	return x.orStale(out, res, nil)
}

// freshen updates or drops the stored response by what a HEAD said of it. What was
// purged softly, or may have been purged, is not vouched for by its length.
func (x *exchange) freshen(res *http.Response, requested time.Time) {
	switch rfc9111.Freshen(x.stored.Head, x.stored.Body.Size(), res.Header) {
	case rfc9111.HeadInvalidates:
		x.h.Cache.Store.Delete(x.r.Context(), x.stored)
	case rfc9111.HeadFreshens:
		doubted := x.suspect || x.marks.StaleAt.Load() != 0
		if doubted && res.Header["Etag"] == nil && res.Header["Last-Modified"] == nil {
			return
		}
		q := x.question(res.Request)
		if e, _, verdict := q.update(res.Header.Clone(), requested, time.Now()); verdict.OK {
			q.put(e)
		}
	}
}

// invalidate purges what an unsafe request has changed, once the origin has said
// that it did (RFC 9111 section 4.4), and the groups that it names (RFC 9875 section
// 3).
func (x *exchange) invalidate(res *http.Response) {
	if rfc9111.SafeMethod(x.r.Method) {
		return
	}
	ctx := context.WithoutCancel(x.r.Context()) // the origin has acted, whether or not the client is still there
	target := *x.r.URL
	target.Scheme, target.Host = schemeOf(x.r), x.r.Host
	for _, changed := range rfc9111.Invalidates(x.r.Method, &target, res.StatusCode, res.Header) {
		path, wrong := normalPath(changed.EscapedPath())
		if wrong != "" {
			continue // nothing is ever stored under such a path
		}
		x.invalidateTarget(ctx, path, changed.RawQuery, changed.ForceQuery)
		if ruled := x.h.query.apply(changed.RawQuery); ruled != changed.RawQuery {
			x.invalidateTarget(ctx, path, ruled, false)
		}
	}
	if res.StatusCode < 200 || res.StatusCode > 399 {
		return
	}
	origin := schemeOf(x.r) + "://" + x.r.Host
	for _, group := range rfc9111.Groups(res.Header["Cache-Group-Invalidation"]) {
		x.h.Cache.counts.invalidated.Add(1)
		x.h.Cache.Ledger.InvalidateGroup(origin, group)
	}
}

func (x *exchange) invalidateTarget(ctx context.Context, path, query string, force bool) {
	if query != "" || force {
		path += "?" + query
	}
	key := cachestore.NewKey(cachestore.KeyParts{Site: x.h.Site, Scheme: schemeOf(x.r), Authority: x.r.Host, Target: path})
	if x.h.Cache.holds(ctx, x.h.Site, key) {
		x.h.Cache.counts.invalidated.Add(1)
		x.h.Cache.Ledger.Invalidate(key)
	}
}

// noteOrigin records how the origin did for the fill that this request followed.
func (x *exchange) noteOrigin(place *reader) {
	f := place.fill
	f.mu.Lock()
	defer f.mu.Unlock()
	x.rec.Origin, x.rec.OriginStatus = f.asked, f.status
}
