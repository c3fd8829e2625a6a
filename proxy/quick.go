package proxy

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"edge/cachestore"
	"edge/proxy/rfc9111"
	"edge/proxy/wire"
)

// Door answers plain requests for what is fresh in memory where they are read, on
// the connection, exactly as its Router would. What it declines has left no trace.
// Its methods may be used by any number of goroutines, and never wait.
type Door struct {
	Router   *Router
	Observer *Observer // told of what is answered here

	// Client returns the address of the client, for the record; nil leaves it out,
	// and what else only a log has a use for.
	Client func(*wire.Answer) string

	pool    sync.Pool // of *quick
	batches sync.Pool // of *batch
}

// quick is what is known about a request while it is answered at the door.
type quick struct {
	inquiry
	header http.Header  // the fields that are looked at
	lines  []string     // their values
	buf    [2][512]byte // for key and variant
}

// inquiry is the part of it that is new for each request.
type inquiry struct {
	search
	a      *wire.Answer
	meant  bool // for the door, as far as route and key tell
	sought bool
	spot   cachestore.Spot // where the key is in memory, if it was sought
	record Record
}

// quickness says which requests of a route may be answered at the door.
type quickness uint8

const (
	neverQuick    quickness = iota // what a hit is depends on more than is looked at here
	quickButVary                   // but where responses vary, that does
	quickWherever                  //
)

// quickness looks for rules that reach what is decided or written at the door.
func (rules *Rules) quickness() quickness {
	if !rules.Cache || rules.KeyHeaders != nil || rules.KeyCookies != nil || rules.KeyValue != nil || !rules.Response.constant() {
		return neverQuick
	}
	for _, name := range rules.Request.names() {
		switch name {
		case "Accept", "Cache-Control", "Pragma", "Upgrade":
			return neverQuick
		}
		if slices.Contains(conditionals, name) {
			return neverQuick
		}
	}
	if !rules.Request.empty() || rules.Cookies == CookiesStrip {
		return quickButVary
	}
	return quickWherever
}

// Answer answers the request if a fresh entry in memory may answer it. It is for
// wire.Options.Answer.
func (d *Door) Answer(a *wire.Answer) bool {
	q, ok := a.State.(*quick)
	if !ok {
		q = d.begin(a)
	}
	if q.meant && !q.sought {
		b := d.batch()
		b.add(q)
		b.seek()
		d.done(b)
	}
	if !q.meant || !q.hit() {
		a.State = nil
		d.put(q)
		return false
	}
	q.write()
	if d.Client != nil {
		q.record.Client = d.Client(a)
	}
	return true
}

// Prefetch begins to answer requests that Answer is going to be asked about. It is for
// wire.Options.Prefetch.
func (d *Door) Prefetch(coming []*wire.Answer) {
	b := d.batch()
	defer d.done(b)
	for _, a := range coming {
		b.add(d.begin(a))
	}
	b.seek()
}

// batch is requests that are looked up together.
type batch struct {
	all   []*quick
	keys  []cachestore.Key
	spots []cachestore.Spot
}

func (d *Door) batch() *batch {
	if b, ok := d.batches.Get().(*batch); ok {
		return b
	}
	return new(batch)
}

func (d *Door) done(b *batch) {
	clear(b.all)
	clear(b.keys)
	clear(b.spots)
	b.all, b.keys, b.spots = b.all[:0], b.keys[:0], b.spots[:0]
	d.batches.Put(b)
}

// add adds a request if it has a key. Those of another memory than the first's are looked
// up by themselves.
func (b *batch) add(q *quick) {
	if q.meant && (len(b.all) == 0 || q.h.Cache.Memory == b.all[0].h.Cache.Memory) {
		b.all, b.keys, b.spots = append(b.all, q), append(b.keys, q.key), append(b.spots, nil)
	}
}

// seek finds where memory has what is asked for.
func (b *batch) seek() {
	if len(b.all) == 0 {
		return
	}
	for _, q := range b.all {
		q.consult()
	}
	b.all[0].h.Cache.Memory.Seek(b.keys, b.spots)
	for i, q := range b.all {
		q.spot, q.sought = b.spots[i], true
	}
}

// begin finds route and key of a request.
func (d *Door) begin(a *wire.Answer) *quick {
	q, _ := d.pool.Get().(*quick)
	if q == nil {
		q = &quick{header: make(http.Header)}
	}
	q.a, q.now, a.State = a, a.Started, q
	q.meant = d.Router.quick(q)
	return q
}

// Answered tells the observer of an answer that has gone. It is for
// wire.Options.Answered.
func (d *Door) Answered(a *wire.Answer, written int64) {
	q := a.State.(*quick)
	rec := &q.record
	rec.Bytes, rec.Total = written, time.Since(rec.Started)
	if rec.FirstByte == 0 {
		rec.FirstByte = rec.Total
	}
	if d.Client != nil {
		rec.Method, rec.URL = a.Method, a.Target // now: the request may have been read again
		rec.Host, _ = normalAuthority(a.Host, "http")
		rec.UserAgent = q.userAgent()
	}
	d.Observer.Done(rec)
	d.put(q)
}

func (d *Door) put(q *quick) {
	if len(q.header) > 0 {
		clear(q.header)
	}
	clear(q.lines)
	q.inquiry, q.lines = inquiry{}, q.lines[:0]
	d.pool.Put(q)
}

func (q *quick) userAgent() string {
	for i := range q.a.Fields {
		if q.a.Fields[i].Is == wire.UserAgent {
			return q.a.Fields[i].Value
		}
	}
	return ""
}

// quick finds the route and the key of a request, or returns false: it is of a kind
// that takes more than a look.
func (rt *Router) quick(q *quick) bool {
	a := q.a
	const intricate = wire.CDNLoop | wire.Range | wire.IfRange | wire.IfMatch | wire.IfUnmodifiedSince
	if a.Has&intricate != 0 || a.Has&wire.Accept != 0 && q.wantsEvents() {
		return false
	}
	authority, ok := normalAuthority(a.Host, "http")
	if !ok {
		return false
	}
	path, query, _ := strings.Cut(a.Target, "?")
	decoded, target, ok := quickTarget(path, a.Target)
	if !ok {
		return false
	}
	site := rt.site(authority)
	if site == nil {
		return false
	}
	route := site.quickRoute(decoded, a.Method)
	if route == nil || route.Gate != nil { // to ask it twice would count the request twice
		return false
	}
	h, ok := route.Handler.(*Handler)
	if !ok || h.quick == neverQuick {
		return false
	}
	if ruled := h.query.apply(query); len(ruled) != len(query) || ruled != query {
		target = target[:len(target)-len(query)] + ruled
		target = strings.TrimSuffix(target, "?")
	}
	q.record = Record{Started: q.now, Site: site.Name, Route: route.Name}
	q.h = h
	parts := cachestore.KeyParts{Site: h.Site, Scheme: "http", Authority: authority, Target: target}
	q.key = cachestore.Key(borrow(cachestore.AppendKey(q.buf[0][:0], &parts)))
	return true
}

// borrow is the bytes as a string that is not a copy: nothing keeps it for longer
// than the look-up that it is for.
func borrow(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// quickTarget returns the path as it is matched, and path and query as they are keyed,
// where that takes little.
func quickTarget(path, whole string) (decoded, target string, ok bool) {
	encoded := false
	for i := range len(path) {
		if c := path[i]; !pathByte[c] {
			if c != '%' {
				return "", "", false
			}
			encoded = true
		}
	}
	if !encoded {
		return path, whole, plainPath(path)
	}
	normal, wrong := normalPath(path)
	decoded, err := url.PathUnescape(normal)
	if wrong != "" || err != nil || encodedControl(decoded) {
		return "", "", false
	}
	if normal != path {
		whole = normal + whole[len(path):]
	}
	return decoded, whole, true
}

// pathByte has the bytes that stand for themselves in a path, in the eyes of net/url.
var pathByte = func() (set [256]bool) {
	for c := range 0x80 {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		set[c] = letter || '0' <= c && c <= '9' || strings.IndexByte("/-_.~!$&'()*+,:;=@[]", byte(c)) >= 0
	}
	return set
}()

// quickRoute returns the route of a request, or nil when there is none, or that
// depends on more than path and method.
func (s *Site) quickRoute(path, method string) *Route {
	for i := range s.Routes {
		route := &s.Routes[i]
		switch {
		case !route.covers(path):
		case route.When != nil:
			return nil
		case route.Methods == nil || slices.Contains(route.Methods, method):
			return route
		}
	}
	return nil
}

// wantsEvents is exchange.passes, as far as it concerns event streams.
func (q *quick) wantsEvents() bool {
	for i := range q.a.Fields {
		if f := &q.a.Fields[i]; f.Is == wire.Accept {
			return f.Value == "text/event-stream"
		}
	}
	return false
}

// hit looks at what memory has, and reports whether it is a hit.
func (q *quick) hit() bool {
	if q.a.Has&(wire.CacheControl|wire.Pragma) != 0 {
		q.collect("Cache-Control", "cache-control")
		q.collect("Pragma", "pragma")
		q.directives = rfc9111.ParseRequest(q.header)
	}
	found := q.find(q.get, q.variant)
	if found.Entry == nil || !q.alive(found) || q.judge(found.Entry) != Hit {
		return false
	}
	q.stored, q.marks = found.Entry, found.Marks
	return true
}

// collect takes the values of a field, by its canonical and its lower-case name.
func (q *quick) collect(name, lower string) {
	start := len(q.lines)
	if q.lines = q.a.Values(q.lines, lower); len(q.lines) > start {
		q.header[name] = q.lines[start:len(q.lines):len(q.lines)]
	}
}

// unknowable is a variant that nothing is stored under: those that are have names.
const unknowable = "\x00"

// get asks memory for what was sought there. A miss has counted as demand by then, and
// counts once more on the long way: that is the same for all keys, and to seek without
// counting first would take as long again.
func (q *quick) get(variant string) cachestore.Found {
	if variant == unknowable {
		return cachestore.Found{}
	}
	return q.h.Cache.Memory.Find(q.now, q.spot, q.key, variant)
}

// variant is exchange.variant, for fields that reach the origin as the client sent
// them.
func (q *quick) variant(varyOn []string) string {
	if q.h.quick != quickWherever || slices.ContainsFunc(varyOn, alteredByUs) {
		return unknowable
	}
	for _, name := range varyOn {
		if canonical := http.CanonicalHeaderKey(name); !q.h.drops(canonical) && !strings.HasPrefix(name, "content-") {
			q.collect(canonical, name)
		}
	}
	return borrow(rfc9111.AppendVariant(q.buf[1][:0], varyOn, q.header))
}

// write writes the answer as exchange.deliver does.
func (q *quick) write() {
	e, a, rec := q.stored, q.a, &q.record
	rec.Outcome, rec.Reason, rec.Status = Hit, q.why, e.Status
	if a.Has&(wire.IfNoneMatch|wire.IfModifiedSince) != 0 {
		q.collect("If-None-Match", "if-none-match")
		q.collect("If-Modified-Since", "if-modified-since")
		if rfc9111.NotModified(a.Method, q.header, e.Status, e.Head) {
			rec.Status = http.StatusNotModified
		}
	}
	hasBody := bodyAllowed(rec.Status) && rec.Status != http.StatusNotModified
	dst := append(a.Head, "HTTP/1.1 "...)
	dst = append(strconv.AppendInt(dst, int64(rec.Status), 10), ' ')
	if text := http.StatusText(rec.Status); text != "" {
		dst = append(dst, text...)
	} else {
		dst = strconv.AppendInt(append(dst, "status code "...), int64(rec.Status), 10)
	}
	dst = append(dst, "\r\n"...)
	dst = e.Head.Append(dst, q.leaves)
	if hasBody {
		dst = strconv.AppendInt(append(dst, "Content-Length: "...), e.Body.Size(), 10)
		dst = append(dst, "\r\n"...)
	}
	dst = strconv.AppendInt(append(dst, "Age: "...), int64(e.Age(q.now)/time.Second), 10)
	dst = appendCacheStatus(append(dst, "\r\nCache-Status: "...), q.h.Cache.Node, &cacheStatus{outcome: Hit, reason: q.why, ttl: q.ttl(e, q.life)})
	dst = append(dst, "\r\n"...)
	for _, rule := range q.h.adds {
		if rule.Name == "Content-Type" && rec.Status == http.StatusNotModified {
			continue
		}
		dst = append(append(append(append(dst, rule.Name...), ": "...), *rule.Constant...), "\r\n"...)
	}
	a.Head = append(dst, "\r\n"...)
	if hasBody && a.Method != http.MethodHead {
		a.Body = e.Body.AppendChunks(a.Body)
		if e.Body.Size() > longBody {
			rec.FirstByte = time.Since(rec.Started)
		}
	}
}

// longBody is what may take its time to be sent.
const longBody = 16 << 10

// leaves names the stored fields that are not in the answer, or are written anew.
func (q *quick) leaves(name string) bool {
	switch name {
	case "Age", "Content-Length":
		return true
	case "Surrogate-Control":
		return q.h.Rules.Policy.SurrogateControl
	}
	return q.record.Status == http.StatusNotModified && rfc9111.LeftOutOf304(name, q.stored.Head.Get("Etag") != "") ||
		q.h.Rules.Response.replaces(name)
}
