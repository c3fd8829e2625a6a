package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// The checks of this file take a text as written and return the form that the
// Config has, or what is wrong with it.

// checkNodeName checks the node's name in Cache-Status and Via, where it stands
// unquoted (RFC 9211 section 2, RFC 9110 section 7.6.3).
func checkNodeName(name string) (normal, problem string) {
	if problem := nameProblem(name); problem != "" {
		return "", problem
	}
	if c := name[0] | 0x20; c < 'a' || c > 'z' {
		return "", fmt.Sprintf("%q does not begin with a letter, as a name in Cache-Status must.", name)
	}
	return name, ""
}

// checkAddress checks an address to listen on.
func checkAddress(address string) (normal, problem string) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		if _, err := strconv.ParseUint(address, 10, 16); err == nil {
			return "", fmt.Sprintf("%q is not an address. Did you mean %q?", address, ":"+address)
		}
		if address != "" && !strings.ContainsAny(address, ":/[]") {
			return "", fmt.Sprintf("%q has no port. Did you mean %q?", address, address+":8080")
		}
		return "", fmt.Sprintf("%q is not an address. Write host and port, such as \":8080\" or \"127.0.0.1:8080\".", address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Sprintf("%q has no port between 0 and 65535.", address)
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && !isHostname(host) {
		return "", fmt.Sprintf("%q has a host that is neither a name nor an address.", address)
	}
	return address, ""
}

// checkAdminAddress is checkAddress, or "off".
func checkAdminAddress(address string) (normal, problem string) {
	if address == "off" {
		return address, ""
	}
	return checkAddress(address)
}

// sameListener reports whether two addresses cannot both be listened on: one port,
// and one host or a host that stands for all.
func sameListener(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil {
		return false // "off"
	}
	// Checked above to be numbers; port 0 is a new one each time.
	a16, _ := strconv.ParseUint(portA, 10, 16)
	b16, _ := strconv.ParseUint(portB, 10, 16)
	return a16 == b16 && a16 != 0 && (hostA == hostB || everyHost(hostA) || everyHost(hostB))
}

func everyHost(host string) bool { return host == "" || host == "0.0.0.0" || host == "::" }

// checkNetwork checks a CIDR. A single address is written as one.
func checkNetwork(text string) (normal, problem string) {
	if address, err := netip.ParseAddr(text); err == nil {
		return "", fmt.Sprintf("%q is an address, not a network. Did you mean %q?", text, netip.PrefixFrom(address.WithZone(""), address.BitLen()))
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return "", fmt.Sprintf("%q is not a network. Write an address and the length of its prefix, such as \"10.0.0.0/8\".", text)
	}
	if prefix != prefix.Masked() {
		return "", fmt.Sprintf("%q has bits beyond its prefix. Did you mean %q?", text, prefix.Masked())
	}
	return prefix.String(), ""
}

// checkOriginURL checks the address of an origin: a scheme, a host, perhaps a port.
func checkOriginURL(text string) (normal, problem string) {
	if !strings.Contains(text, "://") {
		if _, problem := checkOriginURL("http://" + text); problem == "" {
			return "", fmt.Sprintf("%q has no scheme. Did you mean %q?", text, "http://"+text)
		}
		return "", fmt.Sprintf("%q is not a URL. Write scheme, host and port, such as \"http://127.0.0.1:3000\".", text)
	}
	u, err := url.Parse(text)
	if err != nil {
		return "", fmt.Sprintf("%q is not a URL. Write scheme, host and port, such as \"http://127.0.0.1:3000\".", text)
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return "", fmt.Sprintf("The scheme %q is not supported. Origins speak \"http\" or \"https\".", u.Scheme)
	}
	if u.User != nil {
		return "", "An origin has no user and password. Set an Authorization header in request_headers instead."
	}
	host := u.Hostname()
	if _, err := netip.ParseAddr(host); err != nil && !isHostname(host) {
		return "", fmt.Sprintf("%q has a host that is neither a name nor an address.", text)
	}
	if strings.HasSuffix(u.Host, ":") {
		return "", fmt.Sprintf("%q has a colon and no port.", text)
	}
	normal = u.Scheme + "://" + strings.ToLower(u.Host)
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "", fmt.Sprintf("%q has no port between 1 and 65535.", text)
		}
	}
	if u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || strings.Contains(text, "#") {
		return "", fmt.Sprintf("An origin has no path or query: it gets those of the request. Did you mean %q?", normal)
	}
	return normal, ""
}

// checkHostHeader checks the Host that is sent to an origin.
func checkHostHeader(text string) (normal, problem string) {
	normal, problem = checkAuthority(text)
	if problem == "" && normal == "*" {
		return "", "The Host of an origin is one name."
	}
	return normal, problem
}

// checkAuthority checks what a site answers for: a host, perhaps with a port, or
// "*" for any.
func checkAuthority(text string) (normal, problem string) {
	if text == "*" {
		return text, ""
	}
	if strings.HasPrefix(text, "*.") {
		return "", fmt.Sprintf("%q: a name is written out; only \"*\" alone stands for any.", text)
	}
	if i := strings.Index(text, "://"); i >= 0 {
		rest, _, _ := strings.Cut(text[i+3:], "/")
		return "", fmt.Sprintf("%q has a scheme. Did you mean %q?", text, strings.ToLower(rest))
	}
	if before, _, found := strings.Cut(text, "/"); found {
		return "", fmt.Sprintf("%q has a path. Did you mean %q? Paths are told apart by routes.", text, strings.ToLower(before))
	}
	name, port := strings.ToLower(text), ""
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, ']') {
		name, port = name[:i], name[i+1:]
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || port[0] == '0' {
			return "", fmt.Sprintf("%q has no port between 1 and 65535.%s", text, addressInBrackets(text))
		}
		if n == 80 || n == 443 {
			return "", fmt.Sprintf("The scheme's own port is not part of a name. Did you mean %q?", name)
		}
		port = ":" + port
	}
	if inner, ok := strings.CutPrefix(name, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		if address, err := netip.ParseAddr(inner); !ok || err != nil || !address.Is6() || address.Zone() != "" {
			return "", fmt.Sprintf("%q is not an IPv6 address in brackets.", text)
		}
		return name + port, ""
	}
	if trimmed := strings.TrimSuffix(name, "."); trimmed != name {
		return "", fmt.Sprintf("%q ends with a dot. Did you mean %q?", text, trimmed+port)
	}
	if !isHostname(name) {
		return "", fmt.Sprintf("%q is not a host name.%s", text, addressInBrackets(text))
	}
	return name + port, ""
}

// addressInBrackets is the hint for an IPv6 address that stands without brackets.
func addressInBrackets(text string) string {
	if address, err := netip.ParseAddr(text); err == nil && address.Is6() {
		return fmt.Sprintf(" Did you mean %q?", "["+text+"]")
	}
	for _, c := range []byte(text) {
		if c >= 0x80 {
			return " International names are written in their ASCII form, beginning with \"xn--\"."
		}
	}
	return ""
}

// isHostname reports whether text can be a name or an IPv4 address in an authority.
func isHostname(text string) bool {
	if text == "" || len(text) > 253 {
		return false
	}
	for label := range strings.SplitSeq(text, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, c := range []byte(label) {
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}

// checkPath checks the path of a route: "/exact", "/prefix/*" or "/*", decoded and
// without dot segments, as requests are matched.
func checkPath(path string) (normal, problem string) {
	if !strings.HasPrefix(path, "/") {
		return "", fmt.Sprintf("%q does not begin with a slash. Did you mean %q?", path, "/"+path)
	}
	if strings.Contains(path, "%") {
		if decoded, err := url.PathUnescape(path); err == nil && !strings.Contains(decoded, "%") {
			return "", fmt.Sprintf("Paths are matched decoded, so this could never match. Did you mean %q?", decoded)
		}
		return "", "Paths are matched decoded. Write the characters themselves instead of \"%\" and their codes."
	}
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		return "", fmt.Sprintf("A path ends before %q. Queries are matched by a condition: when = req.param[\"name\"] == \"value\".", path[i:i+1])
	}
	for _, c := range []byte(path) {
		if c < ' ' || c == 0x7f {
			return "", "A path has no control characters."
		}
	}
	if i := strings.IndexByte(path, '*'); i >= 0 {
		if i != len(path)-1 {
			return "", "\"*\" stands only at the end of a path. Other parts are matched by a condition: when = regex(\"...\", req.path)."
		}
		if path[i-1] != '/' {
			return "", fmt.Sprintf("\"*\" stands for what follows a slash. Did you mean %q?", path[:i]+"/*")
		}
	}
	for segment := range strings.SplitSeq(path[1:], "/") {
		if segment == "." || segment == ".." {
			return "", fmt.Sprintf("Requests are matched without %q segments, so this could never match.", segment)
		}
	}
	return path, ""
}
