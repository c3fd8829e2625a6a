package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"edge/cachestore"
	"edge/proxy/rfc9111"
)

// question is what a fill asks the origin, with all that is needed to judge the
// answer. It knows nothing of the request that started it, which may end first.
type question struct {
	h          *Handler
	fill       *fill
	out        *http.Request // as sent, but for the conditions that we add
	header     http.Header   // of out, for all questions about the request
	key        cachestore.Key
	class      string   // see exchange.flightClass
	flight     string   // for the hit-for-miss mark
	varyOn     []string // what the flight's variant is of
	directives rfc9111.Directives
	sequence   uint64
	stored     *cachestore.Entry // to be revalidated; nil when there is nothing
	asked      bool              // whether stored still stands: it had a validator to ask with
	life       cachestore.Life   // of stored
	self       string            // URL, for redirects to itself
	policy     *rfc9111.Policy   // that holds for the path
	bent       bool              // rules by path do not apply: see exchange.bent
}

// variesNow ends a fill that nobody should have waited for: responses under its key
// are now known to vary, and each variant has a flight of its own.
type variesNow struct{ on []string }

func (*variesNow) Error() string { return "proxy: the flight of another variant is meant" }

var (
	errUnended = errors.New("proxy: a fetch ended without an answer")
	errUnasked = errors.New("proxy: the origin confirms what it was not asked about")
)

// run asks, and sees the fill through to its end: shared, private or failed.
func (q *question) run(ctx context.Context) {
	f, cache := q.fill, q.h.Cache
	cache.flights.begin(q.key)
	defer cache.flights.end(q.key)
	defer cache.flights.land(f)
	var res *http.Response
	defer func() {
		if problem := recover(); problem != nil {
			cache.Log.Error("a fetch panicked", "problem", fmt.Sprint(problem), "url", q.self)
			f.cancel()
			if res != nil {
				res.Body.Close()
			}
		}
		f.fail(errUnended) // of no effect on a fill that has ended
	}()

	e, varyOn := q.alreadyThere(ctx)
	switch {
	case e != nil:
		f.answerWith(e, nil, Joined, rfc9111.Storage{})
		f.cancel()
		return
	case f.key != "" && varyOn != nil && !slices.Equal(varyOn, q.varyOn):
		f.fail(&variesNow{varyOn}) // to ask here would be to ask beside the flights of the variants
		f.cancel()
		return
	}
	requested := time.Now()
	var err error
	res, err = q.ask(ctx, q.stored)
	if err == nil && res.StatusCode == http.StatusNotModified && q.asked && !rfc9111.Validates(q.stored.Head, res.Header) {
		// The origin confirms something that we do not have: ask for it whole.
		res.Body.Close()
		q.stored = nil
		res, err = q.ask(ctx, nil)
	}
	if err == nil && res.StatusCode == http.StatusNotModified && !q.asked {
		res.Body.Close()
		err = errUnasked
	}
	received := time.Now()
	switch {
	case err != nil:
		q.failed(err)
	case res.StatusCode == http.StatusNotModified:
		q.confirm(res, requested, received)
	case q.shrunk(res):
		q.hold(res)
	default:
		q.accept(ctx, res, requested, received)
	}
}

// ask sends the request, conditional on what is stored, and passes 1xx responses
// on to those who wait.
func (q *question) ask(ctx context.Context, stored *cachestore.Entry) (*http.Response, error) {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			if code != http.StatusContinue && code != http.StatusSwitchingProtocols {
				q.h.cleanInterim(http.Header(header))
				delete(header, "Set-Cookie") // it is not known yet whether anybody else may have it
				q.fill.inform(code, header)
			}
			return nil
		},
	})
	out := q.out.Clone(ctx)
	q.asked = stored != nil && rfc9111.Conditional(out.Header, stored.Head)
	res, err := q.h.Origin.RoundTrip(out)
	if err == nil {
		q.fill.heard(res.StatusCode)
	}
	return res, err
}

// failed ends the fill without an answer.
func (q *question) failed(err error) {
	q.h.Cache.counts.fillsFailed.Add(1)
	q.h.Cache.Log.Warn("a fetch failed", "url", q.self, "site", q.h.Site, "route", q.h.Route, "error", err)
	q.fill.fail(err)
	q.fill.cancel()
}

// alreadyThere looks once more before asking: between this request's look-up and
// its lead, another fetch may have ended, and what it stored is news: an entry to
// answer with, or that responses vary, and by which fields.
func (q *question) alreadyThere(ctx context.Context) (e *cachestore.Entry, varyOn []string) {
	found := q.h.Cache.near(ctx, q.key, "")
	if found.VaryOn != nil {
		varyOn = found.VaryOn[0]
		found = q.h.Cache.near(ctx, q.key, rfc9111.Variant(varyOn, q.header))
	}
	e = found.Entry // news unless it is what the look-up found, in the same place
	if e == nil || e == q.stored || found.Suspect || e.Rules != q.h.Rules.Digest || !q.h.Cache.Ledger.Trusted() ||
		q.h.Cache.Ledger.Judge(e, e.Sequence) != (cachestore.Verdict{}) {
		return nil, varyOn
	}
	if use, _ := rfc9111.Judge(q.directives, e.Life, e.Age(time.Now())); use != rfc9111.UseFresh {
		return nil, varyOn
	}
	return e, varyOn
}

// confirm renews what is stored by the origin's 304 (RFC 9111 section 4.3.4).
func (q *question) confirm(res *http.Response, requested, received time.Time) {
	res.Body.Close()
	q.fill.cancel()
	e, own, verdict := q.update(res.Header, requested, received)
	if !verdict.OK {
		// Still right for the one who asked, but not to be kept under today's rules.
		q.h.Cache.Store.Delete(context.Background(), q.stored)
		header := e.Head.Header()
		maps.Copy(header, own)
		q.fill.keepPrivate(&http.Response{StatusCode: e.Status, Header: header, ContentLength: e.Body.Size(),
			Body: readCloser{e.Body.Reader()}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}, verdict)
		return
	}
	q.put(e)
	q.h.Cache.flights.land(q.fill)
	q.fill.answerWith(e, own, Revalidated, verdict)
}

// update makes the entry that the stored one becomes by a 304, or by a HEAD's
// 200, and the fields of the update that are for the asking client alone. The
// purge sequence is that of this look-up, never a later one.
func (q *question) update(update http.Header, requested, received time.Time) (*cachestore.Entry, http.Header, rfc9111.Storage) {
	if update["Date"] == nil {
		update["Date"] = []string{received.UTC().Format(http.TimeFormat)}
	}
	var omit []string
	own := make(http.Header)
	if cookies := update["Set-Cookie"]; cookies != nil && !q.h.Rules.Policy.StoreSetCookie {
		// A cookie that comes with a confirmation is one client's; what is stored
		// has none, and stays as it is.
		omit = []string{"Set-Cookie"}
		if !q.h.Rules.StripSetCookie {
			own["Set-Cookie"] = cookies
		}
	}
	header := rfc9111.Merge(q.stored.Head, update, omit)
	if update["Age"] == nil {
		delete(header, "Age") // the old one spoke of the old answer
	}
	verdict := q.judge(q.stored.Status, header, received)
	e, more := q.entry(q.stored.Status, header, verdict, requested, received)
	maps.Copy(own, more)
	e.Body = q.stored.Body
	if !carriesKeys(update) {
		// What is stored has its key fields stripped. Of groups the old ones stay, too:
		// a purge that reaches too far is never wrong.
		e.Tags = union(q.stored.Tags, e.Tags)
	}
	return e, own, verdict
}

// accept takes a response that is not a 304: shared and stored, or private.
func (q *question) accept(ctx context.Context, res *http.Response, requested, received time.Time) {
	f, cache := q.fill, q.h.Cache
	verdict := q.judge(res.StatusCode, res.Header, received)
	if verdict.OK {
		verdict = q.judgeBody(res, verdict)
	}
	if !verdict.OK {
		q.remember(res.StatusCode, verdict.Reason)
		q.supersede(res.StatusCode, verdict.Reason)
		res.Body = &answerBody{ReadCloser: res.Body, close: f.cancel}
		f.keepPrivate(res, verdict)
		return
	}
	defer f.cancel()
	defer res.Body.Close()
	head, own := q.entry(res.StatusCode, res.Header, verdict, requested, received)
	if use, _ := rfc9111.Judge(rfc9111.ParseRequest(nil), head.Life, head.Age(received)); use == rfc9111.UseRevalidate {
		q.remember(res.StatusCode, rfc9111.ReasonStale) // stored, but of use to nobody without the origin's word
	} else {
		cache.marks.clear(q.flight)
	}
	cache.flights.expose(f, flightKey(q.class, head.Variant())) // before anybody can learn that it has one
	f.begin(head, own, verdict, res.ContentLength)
	body, kept, err := f.receive(ctx, res.Body)
	switch {
	case err == errNobodyReads:
		if f.tooLarge() {
			q.remember(res.StatusCode, reasonTooLarge)
		}
		f.fail(err)
	case err != nil:
		q.failed(err)
	case !kept:
		q.remember(res.StatusCode, reasonTooLarge)
		f.finish(nil)
	default:
		e := *head
		e.Body = body
		if bodyAllowed(e.Status) {
			header := e.Head.Header()
			header["Content-Length"] = []string{strconv.FormatInt(body.Size(), 10)}
			e.Head = cachestore.NewHead(header)
		}
		q.put(&e)
		cache.flights.land(f) // after put: whoever does not find the flight finds the entry
		f.finish(&e)
	}
}

func bodyAllowed(status int) bool { return status != http.StatusNoContent && status >= 200 }

// judge asks whether the response may be stored, by the RFC and by our rules.
func (q *question) judge(status int, header http.Header, received time.Time) rfc9111.Storage {
	rules := &q.h.Rules
	if rules.StripSetCookie && !q.bent {
		delete(header, "Set-Cookie")
	}
	verdict := rfc9111.Storable(http.MethodGet, q.header, status, header, received, q.policy)
	switch {
	case !verdict.OK:
	case mediaType(header) == "text/event-stream":
		verdict.OK, verdict.Reason = false, reasonEventStream
	case !q.agrees(status, verdict, mediaType(header)):
		verdict.OK, verdict.Reason = false, reasonStaticType
	case tooManyKeys(header):
		verdict.OK, verdict.Reason = false, reasonTooManyKeys
	case status >= 300 && status < 400 && q.redirectsToItself(header):
		verdict.OK, verdict.Reason = false, reasonSelfRedirect
	case status >= 500 && q.stored != nil && q.stands():
		// A failure never replaces what is of use to anybody, whatever this client
		// thinks of it: it may have provoked the one and refused the other.
		verdict.OK, verdict.Reason = false, rfc9111.ReasonStatus
	default:
		verdict = q.guardErrors(status, verdict)
	}
	return verdict
}

// usable tells whether the stored response may be served to who asks now instead of an
// error.
func (q *question) usable() bool { return q.standsFor(q.directives) }

// stands tells whether it may be served so to a client that asks for nothing special.
func (q *question) stands() bool { return q.standsFor(rfc9111.ParseRequest(nil)) }

func (q *question) standsFor(d rfc9111.Directives) bool {
	ok, _ := rfc9111.StaleOnError(d, q.life, q.stored.Age(time.Now()))
	return ok
}

// judgeBody asks whether the body can be kept, and proved whole.
func (q *question) judgeBody(res *http.Response, verdict rfc9111.Storage) rfc9111.Storage {
	chunked := len(res.TransferEncoding) > 0
	switch {
	case res.ContentLength > q.h.Rules.MaxObject:
		verdict.OK, verdict.Reason = false, reasonTooLarge
	case res.ContentLength < 0 && !chunked:
		verdict.OK, verdict.Reason = false, reasonLengthUnknown
	case q.h.Cache.budget.exhausted():
		verdict.OK, verdict.Reason = false, reasonNoBudget
	}
	return verdict
}

// redirectsToItself finds redirects that would loop for everyone who is served
// them from the cache.
func (q *question) redirectsToItself(header http.Header) bool {
	base, err := url.Parse(q.self)
	if err != nil {
		return true
	}
	location, err := base.Parse(firstOf(header["Location"]))
	if err != nil || header["Location"] == nil {
		return false
	}
	authority, ok := normalAuthority(location.Host, location.Scheme)
	if !ok || normaliseTarget(&http.Request{Method: http.MethodGet, URL: location}) != "" {
		return false
	}
	own, _ := q.key.Parts()
	return location.Scheme == own.Scheme && authority == own.Authority && target(location, q.h.query.apply(location.RawQuery)) == own.Target
}

// remember leaves a hit-for-miss mark, so that the next requests do not wait for
// one another. A failing origin leaves none: when it is back, they should. Nor does
// what is one client's affair: its wish not to be stored, or its errors.
func (q *question) remember(status int, why rfc9111.Reason) {
	if hold := q.h.Rules.HitForMiss; hold > 0 && status < 500 && !maybeAboutThisRequest(status) && why != rfc9111.ReasonRequestNoStore && why != reasonNoBudget {
		q.h.Cache.marks.set(q.flight, time.Now().Add(hold), q.sequence)
	}
}

// supersede drops what is stored when the origin now answers with something that
// may not be: the old answer would otherwise be served stale in its place. An
// answer that is private only because of this request's fields, or refuses this
// request alone, says nothing.
func (q *question) supersede(status int, why rfc9111.Reason) {
	personal := why == rfc9111.ReasonCookie || why == rfc9111.ReasonAuthorization || why == rfc9111.ReasonRequestNoStore
	gone := status < 400 || status == http.StatusNotFound || status == http.StatusGone
	if q.stored != nil && gone && !personal && why != reasonNoBudget {
		q.h.Cache.Store.Delete(context.Background(), q.stored)
	}
}

// entry makes the entry of a response, without its body. The header is as clients
// will get it, but for what depends on the moment; the fields that the response
// lets only the asking client have are returned beside it.
func (q *question) entry(status int, header http.Header, verdict rfc9111.Storage, requested, received time.Time) (*cachestore.Entry, http.Header) {
	header = header.Clone()
	tags := q.tags(header)
	initial := rfc9111.InitialAge(header, requested, received)
	q.h.cleanResponse(header, received)
	own := make(http.Header)
	for _, name := range verdict.Omit {
		if values := header[name]; values != nil {
			own[name] = values
			delete(header, name)
		}
	}
	e := &cachestore.Entry{
		Key:        q.key,
		Status:     status,
		Head:       cachestore.NewHead(header),
		Received:   received,
		InitialAge: initial,
		Life:       verdict.Life,
		Sequence:   q.sequence,
		Rules:      q.h.Rules.Digest,
		Tags:       tags,
	}
	if len(verdict.VaryOn) > 0 {
		e.Vary = &cachestore.Vary{On: verdict.VaryOn, Variant: rfc9111.Variant(verdict.VaryOn, q.header)}
	}
	return e, own
}

// patience is how long a store may keep a response waiting, and with it the ends
// of the bodies of all who read it.
const patience = 100 * time.Millisecond

// put hands an entry to the store. That the store does not take it is no
// failure: it was served all the same.
func (q *question) put(e *cachestore.Entry) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := q.h.Cache.Store.Put(ctx, e); err != nil {
		q.h.Cache.counts.storeRefused.Add(1)
		q.h.Cache.Log.Debug("a response was not stored", "url", q.self, "error", err)
		return
	}
	q.h.Cache.counts.stored.Add(1)
}

// surrogateKeyFields carry surrogate keys; they are for us, and for nobody behind
// us unless asked for.
var surrogateKeyFields = []string{"Surrogate-Key", "Cache-Tag", "Xkey"}

const (
	maxKeys     = 1024
	maxKeyBytes = 16 << 10
)

// tooManyKeys refuses responses whose keys could not all be tracked: a key
// dropped in silence would be a purge that does not reach.
func tooManyKeys(header http.Header) bool {
	count, size := 0, 0
	for _, name := range append(surrogateKeyFields, "Cache-Groups") {
		for _, line := range header[name] {
			size += len(line)
			count += len(strings.FieldsFunc(line, isKeySeparator))
		}
	}
	// A group with a space in it counts as two keys, and one without as one: close
	// enough for a bound.
	return count > maxKeys || size > maxKeyBytes
}

// tags returns the hashes of the response's surrogate keys, which belong to the
// site, and of its Cache-Groups, which belong to the URI's origin (RFC 9875 section
// 2.1).
func (q *question) tags(header http.Header) []uint32 {
	if q.h.Cache.Tag == nil {
		return nil
	}
	var tags []uint32
	for _, name := range surrogateKeyFields {
		for _, line := range header[name] {
			for _, key := range strings.FieldsFunc(line, isKeySeparator) {
				tags = append(tags, q.h.Cache.Tag(q.h.Site, key))
			}
		}
	}
	if groups := rfc9111.Groups(header["Cache-Groups"]); groups != nil {
		origin := originOf(q.key)
		for _, group := range groups {
			tags = append(tags, q.h.Cache.Tag(origin, group))
		}
	}
	return tags
}

// originOf returns the URI origin of a key, as package purge names it.
func originOf(key cachestore.Key) string {
	parts, ok := key.Parts()
	if !ok {
		panic("proxy: a key that was not made by cachestore")
	}
	return parts.Scheme + "://" + parts.Authority
}

func union(a, b []uint32) []uint32 {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

func isKeySeparator(r rune) bool { return r == ' ' || r == ',' || r == '\t' }

// cleanResponse puts a response header from the origin into the form in which it
// is passed on: no hop-by-hop fields, no surrogate keys, with a Date and our Via.
func (h *Handler) cleanResponse(header http.Header, received time.Time) {
	h.cleanInterim(header)
	if header["Date"] == nil {
		header["Date"] = []string{received.UTC().Format(http.TimeFormat)}
	}
	addVia(header, h.Cache.Node)
}

// cleanInterim does so for a 1xx response, which needs no Date and no Via.
func (h *Handler) cleanInterim(header http.Header) {
	dropHopByHop(header)
	if !h.Rules.ShowKeys {
		for _, name := range surrogateKeyFields {
			delete(header, name)
		}
	}
}

// hide takes out of a client's answer what is stored for our own use: the field
// that decides how long the response is kept must outlive a confirmation by 304.
func (h *Handler) hide(header http.Header) {
	if h.Rules.Policy.SurrogateControl {
		delete(header, "Surrogate-Control")
	}
}

// filterTrailers keeps trailers from bringing in what a head may not be given
// later: framing, routing, caching, cookies and credentials (RFC 9110 section 6.5.1).
// They come with or without an announcement.
func filterTrailers(res *http.Response) {
	if res.StatusCode == http.StatusSwitchingProtocols || res.ContentLength >= 0 && res.Trailer == nil {
		return
	}
	res.Body = &trailerBody{res.Body, res}
	dropForbiddenTrailers(res.Trailer)
}

// trailerBody filters trailers when they have come: at the end of the body.
type trailerBody struct {
	io.ReadCloser
	res *http.Response
}

func (b *trailerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		dropForbiddenTrailers(b.res.Trailer)
	}
	return n, err
}

func dropForbiddenTrailers(trailer http.Header) {
	for name := range trailer {
		switch name {
		case "Set-Cookie", "Cookie", "Cache-Control", "Expires", "Pragma", "Age", "Date", "Vary", "Location", "Surrogate-Key", "Cache-Tag",
			"Xkey", "Cache-Groups", "Cache-Group-Invalidation", "Surrogate-Control", "Cache-Status", "Via", "Www-Authenticate", "Authorization",
			"Authentication-Info", "Proxy-Authentication-Info", "Host", "Max-Forwards", "Forwarded", "Expect", "Retry-After", "Warning", "Etag",
			"Last-Modified", "Clear-Site-Data", "Strict-Transport-Security":
			delete(trailer, name)
		default:
			if rfc9111.HopByHop(name) || strings.HasSuffix(name, "-Cache-Control") || strings.HasPrefix(name, "Content-") ||
				strings.HasPrefix(name, "Access-Control-") || strings.HasPrefix(name, "X-Forwarded-") {
				delete(trailer, name)
			}
		}
	}
}

// carriesKeys tells whether a header names surrogate keys.
func carriesKeys(header http.Header) bool {
	for _, name := range surrogateKeyFields {
		if header[name] != nil {
			return true
		}
	}
	return false
}

// mediaType returns the response's media type in lower case, without parameters. One
// of several that are named is none: who reads it may take another.
func mediaType(header http.Header) string {
	if len(header["Content-Type"]) > 1 {
		return ""
	}
	name, _, _ := strings.Cut(firstOf(header["Content-Type"]), ";")
	return strings.ToLower(strings.TrimSpace(name))
}

func firstOf(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// answerBody tells when an answer's body is closed.
type answerBody struct {
	io.ReadCloser
	close func()
}

func (b *answerBody) Close() error {
	err := b.ReadCloser.Close()
	b.close()
	return err
}

// readCloser is a reader with nothing to close.
type readCloser struct{ io.Reader }

func (readCloser) Close() error { return nil }
