package node

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"edge/config"
	"edge/proxy"
	"edge/purge"
)

// admin returns the operator's handler. It is on a listener of its own. Each page
// names the scopes of which a token must have one; the two probes need none.
func (n *Node) admin() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/healthz", reading(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, status{Status: "ok"})
	}))
	mux.Handle("/readyz", reading(func(w http.ResponseWriter, _ *http.Request) {
		if phase := n.phase(); phase != phaseReady {
			writeJSON(w, http.StatusServiceUnavailable, status{Status: phase.String()})
			return
		}
		if n.fleet != nil {
			if lacks := n.fleet.degraded(); lacks != "" {
				writeJSON(w, http.StatusOK, status{"degraded", lacks}) // it serves, and must not be taken out
				return
			}
		}
		writeJSON(w, http.StatusOK, status{Status: "ready"})
	}))

	read := func(path string, h http.HandlerFunc) { mux.Handle(path, n.demand(reading(h), scopeRead)) }
	read("/stats", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, n.Stats())
	})
	read("/refreshes/failed", func(w http.ResponseWriter, _ *http.Request) {
		failed := n.cache.FailedRefreshes()
		if failed == nil {
			failed = []proxy.FailedRefresh{} // an empty list, not null
		}
		writeJSON(w, http.StatusOK, failed)
	})
	read("/metrics", n.metricsHandler().ServeHTTP)

	debug := func(path string, h http.HandlerFunc) { mux.Handle(path, n.demand(reading(unlinked(h)), scopeDebug)) }
	debug("/debug/pprof/", pprof.Index)
	debug("/debug/pprof/cmdline", pprof.Cmdline)
	debug("/debug/pprof/profile", pprof.Profile)
	debug("/debug/pprof/symbol", pprof.Symbol)
	debug("/debug/pprof/trace", pprof.Trace)

	purging := n.demand(n.purges, scopePurge)
	mux.Handle("/purge", purging)
	mux.Handle("/purge/", n.demand(n.purges, scopePurge, scopeRead)) // receipts

	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		proxy.Problem(w, http.StatusNotFound, "The admin listener has no such page.")
	})
	return logAdmin(n.log, n.guardAdmin(mux, purging))
}

// reading refuses methods that do more than read.
func reading(h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			proxy.Problem(w, http.StatusMethodNotAllowed, "This page is read-only.")
			return
		}
		h(w, r)
	})
}

// unlinked refuses what a page of another site has a browser ask for, be it as an image
// or a link: profiles cost much, for as long as the asker wants, and a node without
// tokens takes a browser on its machine for the operator.
func unlinked(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if from := r.Header.Get("Sec-Fetch-Site"); from == "cross-site" || from == "same-site" {
			proxy.Problem(w, http.StatusForbidden, "A web page of another site may not ask for this.")
			return
		}
		h(w, r)
	}
}

// newPurgeHandler wires the purge interface to the sites and the tokens.
func (n *Node) newPurgeHandler(recorder purge.Recorder) *purge.Handler {
	h := &purge.Handler{Recorder: recorder, Locate: n.locate, Grant: grant, Log: n.log}
	for i := range n.config.Sites {
		h.Sites = append(h.Sites, n.config.Sites[i].Name)
	}
	return h
}

// locate puts a URL into the form of the keys of its responses.
func (n *Node) locate(url string) (purge.Place, error) {
	resource, err := n.router.Resource(url)
	return purge.Place(resource), err
}

// adminPatience bounds how long a caller may take for its body, whoever it is: before
// it is known, and where nobody wants a body, net/http waits for the rest of it.
const adminPatience = 10 * time.Second

// guardAdmin stands before all pages. Without tokens it refuses whoever is not on
// this machine. And it refuses web pages that have a browser speak for them: by a
// name of their own that resolves to our address (DNS rebinding), or by a request
// that does more than read. PURGE, whose Host and path are those of a URL to be
// purged, goes to purging, all else to pages.
func (n *Node) guardAdmin(pages, purging http.Handler) http.Handler {
	browsers := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if r.Body != http.NoBody {
			// It fails only where the connection is gone.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(adminPatience))
		}
		if len(n.tokens) == 0 && !loopbackPeer(r.RemoteAddr) {
			proxy.Problem(w, http.StatusForbidden, "The admin listener has no token, and answers its own machine only.")
			return
		}
		ours := adminHost(r, &n.config.Admin)
		if r.Method == purge.MethodPurge {
			switch {
			case r.Header["Origin"] != nil || r.Header["Sec-Fetch-Site"] != nil:
				proxy.Problem(w, http.StatusForbidden, "PURGE is not for web pages.")
			case ours && samePort(r):
				proxy.Problem(w, http.StatusBadRequest, "The Host is the admin listener's own. PURGE names what is to be purged: "+
					"curl -X PURGE --proxy http://"+r.Host+" http://www.example.com/path.")
			default:
				purging.ServeHTTP(w, r)
			}
			return
		}
		switch {
		case !ours:
			proxy.Problem(w, http.StatusMisdirectedRequest, "The admin listener is not known by this Host. The names that it has stand in hosts of admin { }.")
		case browsers.Check(r) != nil:
			proxy.Problem(w, http.StatusForbidden, "A web page of another site may not do this.")
		default:
			pages.ServeHTTP(w, r)
		}
	})
}

func loopbackPeer(remote string) bool {
	peer, err := netip.ParseAddrPort(remote)
	return err == nil && peer.Addr().Unmap().IsLoopback()
}

// adminHost reports whether the Host of a request names the admin listener: a
// loopback address, localhost, the address that was reached, the host that the
// configuration listens on, or a name that it gives.
func adminHost(r *http.Request, admin *config.Admin) bool {
	name := strings.ToLower(hostname(r.Host))
	if name == "localhost" || slices.Contains(admin.Hosts, name) {
		return true
	}
	if own := hostname(admin.Listen); own != "" && strings.EqualFold(name, own) {
		return true
	}
	address, err := netip.ParseAddr(name)
	if err != nil {
		return false
	}
	local := localAddress(r).Addr().Unmap()
	return address.IsLoopback() || address.Unmap() == local || slices.Contains(admin.Hosts, address.String())
}

// samePort reports whether the Host of a request has the port that was reached.
func samePort(r *http.Request) bool {
	_, port, err := net.SplitHostPort(r.Host)
	return err == nil && port == strconv.Itoa(int(localAddress(r).Port()))
}

// localAddress is the address of ours that a request has reached, or the zero one.
func localAddress(r *http.Request) netip.AddrPort {
	if address, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
		return address.AddrPort()
	}
	return netip.AddrPort{}
}

// hostname returns an authority without port and brackets.
func hostname(authority string) string {
	if host, _, err := net.SplitHostPort(authority); err == nil {
		return host
	}
	return strings.TrimSuffix(strings.TrimPrefix(authority, "["), "]")
}

// status is the answer of the two probes.
type status struct {
	Status string `json:"status"`
	Detail string `json:"detail,omitempty"`
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic("node: an answer that is no JSON: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(body, '\n')) // the reader may be gone
}
