package proxy

import (
	"context"
	"encoding/binary"
	"io"
	"iter"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"edge/cachestore"
	"edge/proxy/rfc9111"
)

// exchange is what is known about one request while it is served. It belongs to
// the goroutine that serves the request.
type exchange struct {
	search
	w   http.ResponseWriter
	r   *http.Request // canonical, sanitised
	rec *Record

	query string // as keyed and sent

	background bool        // a refresh: nobody reads the answer
	passing    bool        // the origin answers this request alone, untouched
	alone      bool        // joins no flight
	failure    bool        // the answer is a failure that a refresh should try again
	own        http.Header // fields of the answer that are for this client alone
	said       http.Header // what stood in the response's header before we were asked
	leave      func(bool)  // tells the gate before the origin that the request has ended; nil when it was not asked
	place      *reader     // in the fill that the answer comes from; nil for other answers

	buf [512]byte // for the key
}

// exchangePool keeps exchanges for use by later requests: a hit makes no new one.
type exchangePool struct{ pool sync.Pool }

func (p *exchangePool) get(h *Handler, w http.ResponseWriter, r *http.Request) *exchange {
	x, _ := p.pool.Get().(*exchange)
	if x == nil {
		x = new(exchange)
	}
	x.h, x.w, x.r = h, w, r
	x.rec = recordOf(w)
	x.now = x.rec.Started
	return x
}

// put takes back an exchange that nothing refers to any more. One that went to
// the origin never comes back: a fill or a trace may still know it.
func (p *exchangePool) put(x *exchange) {
	*x = exchange{}
	p.pool.Put(x)
}

type exchangeKey struct{}

// exchangeOf returns the exchange that a request to the origin belongs to.
func exchangeOf(ctx context.Context) *exchange { return ctx.Value(exchangeKey{}).(*exchange) }

// sanitise removes what no decision may rest on and no origin may see from a
// stranger, in place and before anything is looked at: fields that override
// others, and on a route that caches, fields about the body that a GET has not.
func (x *exchange) sanitise() {
	header := x.r.Header
	x.dropNominated()
	bodiless := x.bodiless()
	for name := range header {
		if x.h.drops(name) || bodiless && strings.HasPrefix(name, "Content-") {
			delete(header, name)
		}
	}
	if upgrade := header["Upgrade"]; upgrade != nil && !x.mayUpgrade(upgrade) {
		delete(header, "Upgrade")
	}
	if x.h.Rules.Cookies == CookiesStrip && header["Cookie"] != nil {
		x.keepCookies()
	}
	if !x.h.Rules.Request.empty() {
		x.h.Rules.Request.apply(header, x.r)
	}
}

// unkeyed names the request fields that some origins let override the host, the
// path, the method or the client's address. From strangers they are a way to have
// a response made for one request stored for another.
func unkeyed(name string) bool {
	if name[0] == 'X' {
		switch name {
		case "X-Forwarded", "X-Host", "X-Original-Url", "X-Original-Uri", "X-Original-Path", "X-Original-Host", "X-Original-Method",
			"X-Original-Forwarded-For", "X-Original-Forwarded-Host", "X-Original-Forwarded-Proto", "X-Original-Remote-Addr",
			"X-Rewrite-Url", "X-Override-Url", "X-Http-Path-Override", "X-Envoy-Original-Path", "X-Envoy-Original-Host",
			"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Http-Host-Override",
			"X-Real-Ip", "X-Azure-Clientip", "X-Client-Ip", "X-Cluster-Client-Ip", "X-Originating-Ip", "X-Remote-Ip", "X-Remote-Addr",
			"X-Scheme", "X-Url-Scheme", "X-Http-Scheme":
			return true
		}
		return strings.HasPrefix(name, "X-Forwarded-")
	}
	switch name {
	case "Forwarded", "Front-End-Https", "True-Client-Ip", "Client-Ip", "Cf-Connecting-Ip", "Fastly-Client-Ip", "Max-Forwards":
		return true
	}
	return false
}

// drops names the request fields that go no further: those that some origins let
// override others, by their names or by what they take underscores for.
func (h *Handler) drops(name string) bool {
	if strings.IndexByte(name, '_') < 0 {
		return unkeyed(name)
	}
	return !h.Rules.Underscores || unkeyed(http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-")))
}

// dropNominated removes the fields that Connection names (RFC 9110 section
// 7.6.1), before any decision. A client may not nominate end-to-end fields that
// the answer can depend on: that would let it strip what others are keyed by.
func (x *exchange) dropNominated() {
	lines := x.r.Header["Connection"]
	if len(lines) == 0 || len(lines) == 1 && (strings.EqualFold(lines[0], "keep-alive") || strings.EqualFold(lines[0], "close")) {
		return
	}
	var kept []string
	for _, line := range lines {
		for token := range strings.SplitSeq(line, ",") {
			name := http.CanonicalHeaderKey(strings.TrimSpace(token))
			switch {
			case name == "Close" || name == "Keep-Alive" || name == "Upgrade" || name == "Te":
				kept = append(kept, name)
			case !endToEnd(name):
				delete(x.r.Header, name)
			}
		}
	}
	x.r.Header["Connection"] = []string{strings.Join(kept, ", ")}
}

// endToEnd names the fields that Connection cannot make hop-by-hop.
func endToEnd(name string) bool {
	switch name {
	case "Authorization", "Cookie", "Cache-Control", "Pragma", "Host", "Range", "If-Range", "Via", "Cdn-Loop", "Forwarded",
		"Origin", "Referer", "User-Agent", "Date", "Expect", "Content-Length", "Content-Type", "Content-Encoding":
		return true
	}
	return strings.HasPrefix(name, "Accept") || strings.HasPrefix(name, "If-") || strings.HasPrefix(name, "X-Forwarded") ||
		strings.HasPrefix(name, "Sec-") || strings.HasPrefix(name, "Access-Control-")
}

// mayUpgrade lets only WebSocket through, where the route says so, and never with
// a body that could hold a second request, or from a client of HTTP/1.0 (RFC 9110
// section 7.8).
func (x *exchange) mayUpgrade(upgrade []string) bool {
	return x.h.Rules.Upgrade && len(upgrade) == 1 && strings.EqualFold(upgrade[0], "websocket") &&
		x.r.Method == http.MethodGet && x.r.ContentLength == 0 && x.r.ProtoAtLeast(1, 1)
}

// keepCookies removes all cookies but those that take part in the key.
func (x *exchange) keepCookies() {
	var kept []string
	for name, pair := range cookiePairs(x.r.Header["Cookie"]) {
		if slices.Contains(x.h.Rules.KeyCookies, name) {
			kept = append(kept, pair)
		}
	}
	if kept == nil {
		delete(x.r.Header, "Cookie")
		return
	}
	x.r.Header["Cookie"] = []string{strings.Join(kept, "; ")}
}

// cookiePairs yields the name of each cookie and the pair as it is written. It
// splits at ';' and no more: a parser that drops what it finds odd, or takes off
// quotes, would key less than the origin sees.
func cookiePairs(lines []string) iter.Seq2[string, string] {
	return func(yield func(name, pair string) bool) {
		for _, line := range lines {
			for pair := range strings.SplitSeq(line, ";") {
				pair = strings.TrimSpace(pair)
				name, _, _ := strings.Cut(pair, "=")
				if pair != "" && !yield(strings.TrimSpace(name), pair) {
					return
				}
			}
		}
	}
}

// passes tells why the request has nothing to do with the cache, or "".
func (x *exchange) passes() rfc9111.Reason {
	switch {
	case !x.h.Rules.Cache:
		return reasonRoute
	case x.r.Method != http.MethodGet && x.r.Method != http.MethodHead:
		return reasonMethod
	case x.r.Header["Upgrade"] != nil:
		return reasonUpgrade
	case x.r.Header["Accept"] != nil && x.r.Header["Accept"][0] == "text/event-stream":
		return reasonEventStream
	default:
		return ""
	}
}

// maxDroppedBody is what we read of a body that must not be there.
const maxDroppedBody = 64 << 10

// dropBody reads and drops the body of a GET or HEAD on a route that caches: to
// forward it would let it shape a response that is stored for requests without one
// (fat GET). It returns the status to refuse with when there is more than we care
// to read, or the body is malformed, and else zero.
func (x *exchange) dropBody() (refusal int) {
	if x.r.ContentLength == 0 || !x.bodiless() {
		return 0
	}
	n, err := io.Copy(io.Discard, io.LimitReader(x.r.Body, maxDroppedBody+1))
	switch {
	case n > maxDroppedBody:
		return http.StatusRequestEntityTooLarge
	case err != nil:
		return http.StatusBadRequest
	}
	x.r.Body, x.r.ContentLength, x.r.TransferEncoding = http.NoBody, 0, nil
	x.now = time.Now()
	return 0
}

// bodiless tells whether the request is of a kind that has no body here.
func (x *exchange) bodiless() bool {
	return x.h.Rules.Cache && (x.r.Method == http.MethodGet || x.r.Method == http.MethodHead)
}

// identify works out the key, and what the client asks of a cache.
func (x *exchange) identify() {
	x.query = x.h.query.apply(x.r.URL.RawQuery)
	x.directives = rfc9111.ParseRequest(x.r.Header)
	x.key = x.keyFor(x.target())
}

// target returns path and query as keyed and sent. Mostly that is what the client
// wrote, and then nothing is allocated.
func (x *exchange) target() string {
	path, uri := x.r.URL.EscapedPath(), x.r.RequestURI
	if x.query == "" && !x.r.URL.ForceQuery {
		return path
	}
	if len(uri) == len(path)+1+len(x.query) && strings.HasPrefix(uri, path) && strings.HasSuffix(uri, x.query) {
		return uri
	}
	return path + "?" + x.query
}

// keyFor builds the key of this request, or of the same request to another
// target.
func (x *exchange) keyFor(target string) cachestore.Key {
	parts := cachestore.KeyParts{Site: x.h.Site, Scheme: schemeOf(x.r), Authority: x.r.Host, Target: target, Extra: x.extraKey()}
	return cachestore.Key(cachestore.AppendKey(x.buf[:0], &parts))
}

// extraKey is what the route adds to the key: each part with its length, so that
// no value can pass for two.
func (x *exchange) extraKey() string {
	rules := &x.h.Rules
	if rules.KeyHeaders == nil && rules.KeyCookies == nil && rules.KeyValue == nil {
		return ""
	}
	var extra []byte
	for _, name := range rules.KeyHeaders {
		extra = binary.AppendUvarint(extra, uint64(len(x.r.Header[name]))) // none is not an empty one
		extra = cachestore.AppendField(extra, strings.Join(x.r.Header[name], ", "))
	}
	for _, name := range rules.KeyCookies {
		var pairs []string
		for other, pair := range cookiePairs(x.r.Header["Cookie"]) {
			if other == name {
				pairs = append(pairs, pair) // every one of the name: the origin sees them all
			}
		}
		extra = cachestore.AppendField(extra, strings.Join(pairs, ";"))
	}
	if rules.KeyValue != nil {
		extra = cachestore.AppendField(extra, rules.KeyValue(x.r))
	}
	return string(extra)
}

// variant identifies this request among those that a response varying on these
// fields tells apart.
func (x *exchange) variant(varyOn []string) string {
	if len(varyOn) == 0 {
		return ""
	}
	return rfc9111.Variant(varyOn, x.selecting(varyOn))
}

// selecting returns the header section as the origin gets it, as far as these
// fields are concerned: what we write or leave out counts as written or left out.
// (Accept-Encoding and Accept-Language are compared in the form that is sent.)
func (x *exchange) selecting(varyOn []string) http.Header {
	if !slices.ContainsFunc(varyOn, alteredByUs) {
		return x.r.Header
	}
	header := x.r.Header.Clone()
	x.introduce(header)
	x.generalise(header)
	return header
}

// alteredByUs names, in lower case, the request fields that the origin does not
// get as the client sent them.
func alteredByUs(name string) bool {
	switch name {
	case "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "via", "cdn-loop", "expect", "range", "connection", "keep-alive",
		"proxy-connection", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade":
		return true
	}
	return strings.HasPrefix(name, "if-")
}

// policy is the one that holds for this path.
func (x *exchange) policy() *rfc9111.Policy {
	if x.bent() {
		return &x.h.untouched
	}
	return &x.h.Rules.Policy
}

// bent tells whether the path may be read differently by the route's pattern and
// by the origin.
func (x *exchange) bent() bool { return encodedDelimiter(x.r.URL.EscapedPath()) }

// refuse answers with a problem of our own.
func (x *exchange) refuse(status int, why rfc9111.Reason, title string) {
	x.rec.Outcome, x.rec.Reason = Refused, why
	x.w.Header()["Cache-Status"] = []string{string(appendCacheStatus(nil, x.h.Cache.Node, &cacheStatus{outcome: Refused, reason: why}))}
	if status == http.StatusRequestEntityTooLarge {
		x.w.Header()["Connection"] = []string{"close"}
	}
	Problem(x.w, status, title)
}
