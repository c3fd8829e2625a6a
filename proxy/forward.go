package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/textproto"
	"os"
	"strings"
	"sync"
	"time"

	"edge/proxy/rfc9111"
)

// newForwarder makes the reverse proxy that carries requests to the origin. Its
// transport is ours: what looks like a round trip may join another's fetch.
func (h *Handler) newForwarder() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:        h.rewrite,
		Transport:      originTransport{h},
		ModifyResponse: prepareHeader,
		ErrorHandler:   h.fail,
		FlushInterval:  flushAfter,
		BufferPool:     new(copyBuffers),
		ErrorLog:       slog.NewLogLogger(h.Cache.Log.Handler(), slog.LevelDebug),
	}
}

// flushAfter is how long what the origin sends of a body whose length is known is held
// for more of it. Most such bodies are whole by then, and go out with their head in one
// write. What has no length or is an event stream the reverse proxy never holds.
const flushAfter = time.Millisecond

// forward answers through the origin.
func (x *exchange) forward() {
	x.said = maps.Clone(x.w.Header())
	if x.r.ContentLength != 0 {
		// Else net/http would read what is left of the body, for as long as that takes,
		// before it lets an origin's early answer go. Only HTTP/1 needs to be told.
		_ = http.NewResponseController(x.w).EnableFullDuplex()
	}
	ctx := context.WithValue(x.r.Context(), exchangeKey{}, x)
	defer func() {
		if x.leave != nil {
			x.leave(false)
		}
	}()
	x.h.forwarder.ServeHTTP(x.w, x.r.WithContext(ctx))
}

// pass answers through the origin, past the cache.
func (x *exchange) pass(why rfc9111.Reason) {
	x.passing, x.why, x.query = true, why, x.r.URL.RawQuery
	x.forward()
}

// rewrite makes the request to the origin from the canonical one. The path and
// query sent are those of the key, byte for byte.
func (h *Handler) rewrite(pr *httputil.ProxyRequest) {
	x := exchangeOf(pr.In.Context())
	out := pr.Out
	out.URL.Scheme, out.URL.Host = h.OriginURL.Scheme, h.OriginURL.Host
	out.URL.RawQuery = x.query // the parser would have dropped what it does not understand
	out.Host = pr.In.Host
	if h.Rules.HostHeader != "" {
		out.Host = h.Rules.HostHeader
	}
	out.Trailer = nil // names alone, which say nothing: the values are not sent
	x.introduce(out.Header)
	if !x.passing {
		x.generalise(out.Header)
	}
	dropSeveralRanges(out.Header)
}

// dropSeveralRanges asks for the whole where the client asks for several parts: one
// short line could have an origin send its largest file many times over.
func dropSeveralRanges(header http.Header) {
	if ranges := header["Range"]; ranges != nil && !oneRange(ranges) {
		delete(header, "Range")
		delete(header, "If-Range")
	}
}

// oneRange tells whether a Range field is there and asks for one part.
func oneRange(values []string) bool { return len(values) == 1 && strings.IndexByte(values[0], ',') < 0 }

// generalise turns the request of one client into one that may be answered for
// all who share its key: nobody can put a coding or an order of his own making
// into what others get, and the whole is fetched, whatever part or condition this
// client asks for. A HEAD is for its client alone.
func (x *exchange) generalise(header http.Header) {
	if accepted := header["Accept-Encoding"]; accepted != nil {
		normal := rfc9111.NormalAcceptEncoding(accepted)
		if normal == "" {
			normal = "identity" // to leave the field out would say that any coding will do
		}
		header["Accept-Encoding"] = []string{normal}
	}
	if accepted := header["Accept-Language"]; accepted != nil {
		if normal, ok := rfc9111.NormalAcceptLanguage(accepted); ok {
			header["Accept-Language"] = []string{normal}
		}
	}
	if x.r.Method == http.MethodHead {
		return
	}
	for _, name := range conditionals {
		delete(header, name)
	}
}

// conditionals are the request fields that make an answer partial or empty.
var conditionals = []string{"Range", "If-Range", "If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since"}

// introduce writes the fields by which we make ourselves and the client known to
// the origin, and takes out those that are between the client and us. What a rule
// of the route has set already stays.
func (x *exchange) introduce(header http.Header) {
	delete(header, "Expect") // answered by our server when the body is read
	for name := range header {
		if rfc9111.HopByHop(name) && !(x.passing && (name == "Upgrade" || name == "Connection")) && name != "Te" {
			delete(header, name)
		}
	}
	if te := strings.Join(header["Te"], ","); te != "" {
		delete(header, "Te")
		for token := range strings.SplitSeq(te, ",") {
			if strings.EqualFold(strings.TrimSpace(token), "trailers") {
				header["Te"] = []string{"trailers"}
				header["Connection"] = append(header["Connection"], "TE") // RFC 9110 section 10.1.4
			}
		}
	}
	address, _, err := net.SplitHostPort(x.r.RemoteAddr)
	if err != nil {
		address = x.r.RemoteAddr
	}
	for _, field := range [...]struct{ name, value string }{
		{"X-Forwarded-For", address},
		{"X-Forwarded-Host", x.r.Host},
		{"X-Forwarded-Proto", schemeOf(x.r)},
	} {
		if ours := x.r.Header[field.name]; ours != nil {
			header[field.name] = ours
		} else {
			header[field.name] = []string{field.value}
		}
	}
	via := header["Via"]
	header["Via"] = append(via[:len(via):len(via)], fmt.Sprintf("%d.%d %s", x.r.ProtoMajor, x.r.ProtoMinor, x.h.Cache.Node))
	loop := header["Cdn-Loop"]
	header["Cdn-Loop"] = append(loop[:len(loop):len(loop)], x.h.Cache.Node)
}

// addVia adds our member to a response's Via, unless it is the last one already:
// what is stored carries it, and may come by here again.
func addVia(header http.Header, node string) {
	via := header["Via"]
	if len(via) > 0 && via[len(via)-1] == "1.1 "+node {
		return
	}
	header["Via"] = append(via[:len(via):len(via)], "1.1 "+node)
}

// originTransport is where the reverse proxy asks for an answer.
type originTransport struct{ h *Handler }

func (t originTransport) RoundTrip(out *http.Request) (*http.Response, error) {
	x := exchangeOf(out.Context())
	switch {
	case x.passing:
		return x.askAlone(out)
	case out.Method == http.MethodHead:
		return x.askHead(out)
	default:
		return x.fetch(out)
	}
}

// prepareHeader keeps what others have said in the response's header, and keeps
// net/http from making up a Content-Type that the origin did not give.
func prepareHeader(res *http.Response) error {
	x := exchangeOf(res.Request.Context())
	header := x.w.Header()
	for name, values := range x.said {
		if header[name] == nil {
			header[name] = values // the reverse proxy clears the header after a 1xx
		}
	}
	if res.Header["Content-Type"] == nil {
		header["Content-Type"] = nil
	}
	return nil
}

// cleanedInterim makes the 1xx responses of a round trip fit to be passed on;
// the reverse proxy itself would pass them on as they came.
func (h *Handler) cleanedInterim(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(_ int, header textproto.MIMEHeader) error {
			h.cleanInterim(http.Header(header))
			return nil
		},
	})
}

// dropHopByHop removes the fields that belong to one connection only (RFC 9110
// section 7.6.1), those that Connection names included.
func dropHopByHop(header http.Header) {
	for _, line := range header["Connection"] {
		for token := range strings.SplitSeq(line, ",") {
			delete(header, http.CanonicalHeaderKey(strings.TrimSpace(token)))
		}
	}
	for name := range header {
		if rfc9111.HopByHop(name) {
			delete(header, name)
		}
	}
}

// fail answers a request for which the origin gave nothing that could be used.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	x := exchangeOf(r.Context())
	x.failure = true
	if limited(w, h.Cache.Node, err) {
		return
	}
	x.rec.Err = err
	// A body that is malformed or late ends the request's context, too, and yet its
	// sender is still there.
	if x.r.Context().Err() != nil && (!clientFault(err) || errors.Is(err, io.ErrUnexpectedEOF)) {
		x.rec.Outcome, x.rec.Reason = Canceled, reasonClientGone
		panic(http.ErrAbortHandler)
	}
	status, why, title := failureOf(err)
	x.rec.Outcome, x.rec.Reason = Failed, why
	if status < http.StatusInternalServerError {
		x.rec.Outcome = Refused
		w.Header()["Connection"] = []string{"close"}
	}
	if x.r.Header["Upgrade"] != nil {
		w.Header()["Connection"] = []string{"close"} // what follows may have been meant for the tunnel
	}
	w.Header()["Cache-Status"] = []string{string(appendCacheStatus(nil, h.Cache.Node,
		&cacheStatus{outcome: Failed, forward: x.why, reason: why}))}
	Problem(w, status, title)
}

// failureOf says what a failed fetch is called towards the client: never what
// the error says.
func failureOf(err error) (status int, why rfc9111.Reason, title string) {
	var timeout interface{ Timeout() bool }
	switch {
	case clientFault(err) && errors.Is(err, os.ErrDeadlineExceeded):
		return http.StatusRequestTimeout, reasonBadRequest, "The request body did not arrive in time."
	case clientFault(err):
		return http.StatusBadRequest, reasonBadRequest, "The request body is malformed or was cut short."
	case errors.As(err, &timeout) && timeout.Timeout():
		return http.StatusGatewayTimeout, reasonOriginTimeout, "The origin did not answer in time."
	case unreachable(err):
		return http.StatusBadGateway, reasonUnreachable, "The origin cannot be reached."
	default:
		return http.StatusBadGateway, reasonOriginProtocol, "The origin's answer cannot be used."
	}
}

// clientFault tells whether the request's own body was the cause.
func clientFault(err error) bool {
	var fault interface{ ClientFault() bool }
	return errors.As(err, &fault) && fault.ClientFault()
}

// unreachable tells whether the origin was refused, reset or timed out, as
// opposed to having answered with something of no use.
func unreachable(err error) bool {
	var kind interface{ Unreachable() bool }
	return errors.As(err, &kind) && kind.Unreachable()
}

// copyBuffers lends the reverse proxy its copy buffers.
type copyBuffers struct{ pool sync.Pool }

func (p *copyBuffers) Get() []byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, 32<<10)
}

func (p *copyBuffers) Put(b []byte) { p.pool.Put(&b) }
