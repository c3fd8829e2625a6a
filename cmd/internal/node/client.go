package node

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"edge/proxy/wire"
)

// parseProxies returns the networks whose forwarding headers are believed.
func parseProxies(cidrs []string) ([]netip.Prefix, error) {
	var trusted []netip.Prefix
	for _, cidr := range cidrs {
		prefix, err := netip.ParsePrefix(cidr)
		if err != nil {
			return nil, fmt.Errorf("trusted proxy: %w", err)
		}
		trusted = append(trusted, prefix.Masked())
	}
	return trusted, nil
}

// resolveClients sets RemoteAddr to the address of the client itself when the peer
// is a trusted proxy. Without trusted proxies it does nothing.
func resolveClients(next http.Handler, trusted []netip.Prefix) http.Handler {
	if len(trusted) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resolveClient(r, trusted)
		next.ServeHTTP(w, r)
	})
}

func resolveClient(r *http.Request, trusted []netip.Prefix) {
	if len(trusted) == 0 {
		return
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return
	}
	if client := clientAddress(peer.Addr().Unmap(), r.Header, trusted); client != peer.Addr().Unmap() {
		// The port is not known, and nobody's business.
		r.RemoteAddr = net.JoinHostPort(client.String(), "0")
	}
}

// clientOf is resolveClient for a request at the door.
func clientOf(a *wire.Answer, trusted []netip.Prefix) string {
	peer := a.Remote()
	if len(trusted) == 0 || a.Has&(wire.XForwardedFor|wire.Forwarded) == 0 {
		return peer
	}
	r := &http.Request{RemoteAddr: peer, Header: make(http.Header)}
	for name, lower := range map[string]string{"X-Forwarded-For": "x-forwarded-for", "Forwarded": "forwarded"} {
		if values := a.Values(nil, lower); values != nil {
			r.Header[name] = values
		}
	}
	resolveClient(r, trusted)
	return r.RemoteAddr
}

// clientAddress returns the address of the client that peer speaks for.
//
// Each proxy appends the address that it was reached from, so the list is read
// from the right: as long as an address is a trusted proxy's, what stands left of
// it was written by that proxy and can be believed. The first address that is not
// trusted is the client; whatever stands left of it is the client's own story. An
// entry that is no address ends the walk at the proxy that let it through.
//
// X-Forwarded-For is read, and Forwarded (RFC 7239) only where the other is
// absent: a trusted proxy must remove the one that it does not write.
func clientAddress(peer netip.Addr, h http.Header, trusted []netip.Prefix) netip.Addr {
	client := peer
	if !contains(trusted, client) {
		return client
	}
	hops := forwardedFor(h)
	for i := len(hops) - 1; i >= 0; i-- {
		hop, ok := parseHop(hops[i])
		if !ok {
			return client
		}
		client = hop
		if !contains(trusted, client) {
			return client
		}
	}
	return client
}

func contains(networks []netip.Prefix, a netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// forwardedFor returns the hops that the request says it came by, nearest last.
func forwardedFor(h http.Header) []string {
	if lines := h["X-Forwarded-For"]; lines != nil {
		return strings.Split(strings.Join(lines, ","), ",")
	}
	var hops []string
	for _, line := range h["Forwarded"] {
		for element := range strings.SplitSeq(line, ",") {
			hop := "" // an element without "for" hides its hop
			for pair := range strings.SplitSeq(element, ";") {
				name, value, _ := strings.Cut(pair, "=")
				if strings.EqualFold(strings.TrimSpace(name), "for") {
					hop = strings.Trim(strings.TrimSpace(value), `"`)
				}
			}
			hops = append(hops, hop)
		}
	}
	return hops
}

// parseHop reads an address with or without port, and IPv6 with or without
// brackets.
func parseHop(s string) (netip.Addr, bool) {
	s = strings.TrimSpace(s)
	if a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil && a.Zone() == "" {
		return a.Unmap(), true
	}
	if a, err := netip.ParseAddrPort(s); err == nil && a.Addr().Zone() == "" {
		return a.Addr().Unmap(), true
	}
	return netip.Addr{}, false
}
