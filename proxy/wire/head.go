package wire

import (
	"bytes"
	"net/textproto"
	"net/url"
	"strings"
)

// headEnd returns the length of the first head in b, with the empty line that ends
// it, or zero when it is not all there.
func headEnd(b []byte) int {
	i := bytes.Index(b, []byte("\r\n\r\n"))
	if i < 0 {
		return 0
	}
	return i + len("\r\n\r\n")
}

// strange reports whether what has come of a head so far is not plain: it does not
// begin with a request line of ours, or a line ends without a carriage return.
// net/http may have its answer before we see an end, and must not be kept waiting.
func strange(b []byte) bool {
	if line, _, whole := bytes.Cut(b, []byte("\r\n")); whole {
		if _, _, ok := requestLine(string(line)); !ok {
			return true
		}
	}
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			return false
		}
		if i == 0 || b[i-1] != '\r' {
			return true
		}
		b = b[i+1:]
	}
}

// kind is what a head says about what follows it.
type kind uint8

const (
	unclear  kind = iota // not plain enough to tell
	bodiless             // another head
)

// parse reads a head strictly (RFC 9112 sections 2 to 5). It is bodiless only if
// every byte of it is beyond doubt and nothing in it asks for a body or another
// protocol; everything else is for net/http to judge.
//
// When the request may be answered here, target is not empty, and a has the
// method, host and fields as net/http would have them, in memory of its own.
// With a nil only the kind is of interest.
func parse(head string, a *answer) (target string, kind kind) {
	line, fields, ok := strings.Cut(head, "\r\n")
	if !ok {
		return "", unclear
	}
	method, target, ok := requestLine(line)
	if !ok {
		return "", unclear
	}
	host, simple := "", true
	for fields != "\r\n" {
		line, fields, ok = strings.Cut(fields, "\r\n")
		if !ok {
			return "", unclear
		}
		name, value, ok := field(line)
		if !ok {
			return "", unclear
		}
		switch use := useOf(name, value); {
		case use == forbidding:
			return "", unclear
		case use == naming && (host != "" || !plainHost(value)):
			return "", unclear
		case use == naming:
			host = value
		case use == complicating:
			simple = false
			fallthrough
		default:
			if a != nil {
				a.add(name, value)
			}
		}
	}
	if host == "" {
		return "", unclear
	}
	if a == nil || !simple {
		return "", bodiless
	}
	a.request.Method, a.request.Host = method, host
	return target, bodiless
}

// requestLine takes the first line apart (RFC 9112 section 3).
func requestLine(line string) (method, target string, ok bool) {
	method, line, _ = strings.Cut(line, " ")
	target, version, _ := strings.Cut(line, " ")
	return method, target, version == "HTTP/1.1" && (method == "GET" || method == "HEAD") && plainTarget(target)
}

// field takes a line apart. The name is in canonical form.
func field(line string) (name, value string, ok bool) {
	colon := strings.IndexByte(line, ':')
	if colon <= 0 {
		return "", "", false
	}
	name, value = line[:colon], line[colon+1:]
	for i := range len(name) {
		if !tokenByte[name[i]] {
			return "", "", false
		}
	}
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c >= 0x7f {
			return "", "", false
		}
	}
	return textproto.CanonicalMIMEHeaderKey(name), strings.Trim(value, " \t"), true
}

// use is what a field means for the connection.
type use uint8

const (
	harmless     use = iota
	naming           // Host
	complicating     // the answer may need what only net/http can do
	forbidding       // a body follows, or another protocol
)

func useOf(name, value string) use {
	switch name {
	case "Host":
		return naming
	case "Connection":
		if !strings.EqualFold(value, "keep-alive") {
			return forbidding
		}
	case "Content-Length", "Transfer-Encoding", "Upgrade", "Expect", "Trailer", "Http2-Settings":
		return forbidding
	case "Te", "Proxy-Connection", "Keep-Alive":
		return complicating
	}
	return harmless
}

// plainTarget reports whether the target is a path, perhaps with a query, in which
// every byte may stand as it is (RFC 9112 section 3.2.1).
func plainTarget(target string) bool {
	if target == "" || target[0] != '/' {
		return false
	}
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return false
		}
	}
	return true
}

// plainHost reports whether a host is a name or an address, perhaps with a port, as
// far as its bytes tell (RFC 9110 section 7.2).
func plainHost(host string) bool {
	for i := range len(host) {
		if !hostByte[host[i]] {
			return false
		}
	}
	return host != ""
}

// simplePath reports whether a path is the same encoded and decoded, in the eyes
// of net/url.
func simplePath(path string) bool {
	for i := range len(path) {
		if !pathByte[path[i]] {
			return false
		}
	}
	return true
}

// parseTarget fills in u as net/http would.
func parseTarget(u *url.URL, target string) bool {
	path, query, hasQuery := strings.Cut(target, "?")
	if simplePath(path) && !strings.HasPrefix(path, "//") {
		*u = url.URL{Path: path, RawQuery: query, ForceQuery: hasQuery && query == ""}
		return true
	}
	parsed, err := url.ParseRequestURI(target)
	if err != nil {
		return false
	}
	*u = *parsed
	return true
}

var (
	tokenByte = bytesOf("!#$%&'*+-.^_`|~", true)
	pathByte  = bytesOf("/-_.~$&+,:;=@", true)
	hostByte  = bytesOf("-._:[]", true)
)

// bytesOf returns the set of these characters and, perhaps, all letters and
// digits.
func bytesOf(these string, alphanumeric bool) (set [256]bool) {
	for i := range len(these) {
		set[these[i]] = true
	}
	for c := range 256 {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		set[c] = set[c] || alphanumeric && (letter && c < 0x80 || '0' <= c && c <= '9')
	}
	return set
}
