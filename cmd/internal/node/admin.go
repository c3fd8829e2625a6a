package node

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"

	"edge/proxy"
)

// admin returns the operator's handler. It is on a listener of its own, answers
// peers on this machine alone, and reads only: nothing here changes the node.
func (n *Node) admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, status{"ok"})
	})
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if phase := n.phase(); phase != phaseReady {
			writeJSON(w, http.StatusServiceUnavailable, status{phase.String()})
			return
		}
		writeJSON(w, http.StatusOK, status{"ready"})
	})
	mux.HandleFunc("/stats", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, n.Stats())
	})
	mux.HandleFunc("/refreshes/failed", func(w http.ResponseWriter, _ *http.Request) {
		failed := n.cache.FailedRefreshes()
		if failed == nil {
			failed = []proxy.FailedRefresh{} // an empty list, not null
		}
		writeJSON(w, http.StatusOK, failed)
	})
	mux.Handle("/metrics", n.metricsHandler())
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		proxy.Problem(w, http.StatusNotFound, "The admin listener has no such page.")
	})
	return guardAdmin(mux, n.config.Admin.Listen)
}

// guardAdmin refuses whoever is not on this machine, and web pages that have a
// browser on this machine speak for them: by a name of their own that resolves to
// a loopback address (DNS rebinding), or by a request that changes something.
func guardAdmin(next http.Handler, listen string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !loopbackPeer(r.RemoteAddr):
			proxy.Problem(w, http.StatusForbidden, "The admin listener answers this machine only.")
		case !adminHost(r.Host, listen):
			proxy.Problem(w, http.StatusMisdirectedRequest, "The Host is not the admin listener's.")
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			proxy.Problem(w, http.StatusMethodNotAllowed, "The admin listener is read-only.")
		default:
			w.Header().Set("Cache-Control", "no-store")
			w.Header().Set("X-Content-Type-Options", "nosniff")
			next.ServeHTTP(w, r)
		}
	})
}

func loopbackPeer(remote string) bool {
	peer, err := netip.ParseAddrPort(remote)
	return err == nil && peer.Addr().Unmap().IsLoopback()
}

// adminHost reports whether a Host names the admin listener: a loopback address,
// localhost, or the host that it was told to listen on.
func adminHost(host, listen string) bool {
	name := hostname(host)
	if strings.EqualFold(name, "localhost") {
		return true
	}
	if a, err := netip.ParseAddr(name); err == nil && a.IsLoopback() {
		return true
	}
	own := hostname(listen)
	return own != "" && strings.EqualFold(name, own)
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
