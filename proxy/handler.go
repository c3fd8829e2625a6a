// Package proxy is the path of a request: from the canonical request through the
// cache to the origin and back. Open handler.go first; it reads in the order of
// the story.
package proxy

import (
	"errors"
	"net/http"
	"net/http/httputil"
	"net/url"

	"edge/proxy/rfc9111"
)

// Handler serves one route. Set the fields, call Open once, and serve; a Handler
// may then be used by any number of goroutines.
type Handler struct {
	Cache       *Cache
	Site, Route string            // names in the configuration
	OriginURL   *url.URL          // scheme and host of the origin
	Origin      http.RoundTripper // asks the origin
	OriginGate  Gate              // what a client's request passes before the origin is asked for it; nil lets all pass
	Rules       Rules

	query     queryRule
	quick     quickness
	adds      []HeaderRule   // that Rules.Response writes
	byPath    bool           // Rules.byPath
	untouched rfc9111.Policy // Policy where path rules do not apply
	forwarder *httputil.ReverseProxy
	exchanges exchangePool
}

// Open checks the fields and prepares the handler.
func (h *Handler) Open() error {
	switch {
	case h.Cache == nil || h.Origin == nil:
		return errors.New("proxy: a handler needs a cache and an origin")
	case h.OriginURL == nil || h.OriginURL.Host == "":
		return errors.New("proxy: a handler needs the origin's URL")
	}
	h.Rules.MaxObject = orDefault(h.Rules.MaxObject, 8<<20)
	h.Rules.MaxRanges = orDefault(h.Rules.MaxRanges, 8)
	h.query = queryRule{h.Rules.KeySortQuery, h.Rules.KeyAllowQuery, h.Rules.KeyDenyQuery}
	h.byPath, h.untouched = h.Rules.byPath(), untouched(&h.Rules)
	h.quick, h.adds = h.Rules.quickness(), h.Rules.Response.lines()
	if h.Rules.bends() {
		h.Cache.bent(h.Site)
	}
	h.forwarder = h.newForwarder()
	return nil
}

// ServeHTTP answers one request: from the cache where it may, else through the
// origin. The request must have come through a Router.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := h.exchanges.get(h, w, r)
	x.sanitise()
	if h.byPath && encodedControl(r.URL.Path) {
		x.refuse(http.StatusBadRequest, reasonBadRequest, "The path holds an encoded control byte.")
		return
	}
	if status := x.dropBody(); status != 0 {
		x.refuse(status, reasonBodyOnGet, "A body is not taken with this method.")
		return
	}
	if why := x.passes(); why != "" {
		x.pass(why)
		return
	}
	x.identify()

	switch outcome := x.lookup(); outcome {
	case Hit, Stale:
		if x.refreshing {
			h.Cache.enqueueRefresh(x) // a client that reads slowly does not put it off
		}
		x.deliver(outcome)
		h.exchanges.put(x)
	case Refused:
		x.refuse(http.StatusGatewayTimeout, reasonOnlyIfCached, "Nothing stored may answer this request.")
	default:
		x.forward()
	}
}
