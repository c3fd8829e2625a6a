package ratelimit

import "net/netip"

// appendClient appends the client's address as it is counted: that of IPv6 without
// the bits after the prefix, since a client has all of those, and one of IPv4 as
// itself in whatever form it comes. What is no address stands for itself.
func appendClient(dst []byte, remote string, bits int) []byte {
	peer, err := netip.ParseAddrPort(remote)
	if err != nil {
		return append(dst, remote...)
	}
	address := peer.Addr().Unmap()
	if address.Is4() {
		return address.AppendTo(dst)
	}
	return netip.PrefixFrom(address, bits).Masked().AppendTo(dst)
}
