package wire

import (
	"bytes"
	"encoding/binary"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"unsafe"
)

// Request is a request head as it was read. Its strings are views of the
// connection's buffer: they hold until the answer has been given, and whoever wants
// to keep one clones it.
type Request struct {
	Method string
	Target string  // as the client wrote it
	Host   string  // likewise; "" only in HTTP/1.0
	Fields []Field // in order, Host left out
	Has    FieldSet

	old     bool   // HTTP/1.0
	body    body   // what follows the head
	length  int64  // of a body of known length
	hosts   int    // how many Host fields there were
	lengths int    // likewise Content-Length
	codings int    // likewise Transfer-Encoding
	coding  string // the value of Transfer-Encoding
	expects int    // likewise Expect
	size    int    // of the head, line ends included
	empty   int    // bytes of it that are the empty line before it: who reads the head next need not forgive that
}

// Field is one line of a header section.
type Field struct {
	Name  string   // as the client wrote it
	Value string   // without the white space around it
	Is    FieldSet // the one that it is, or zero for one that is not named here
}

// FieldSet is a set of the request fields that the door, or who answers at the
// door, has to know of.
type FieldSet uint64

// The request fields that are told apart.
const (
	Accept FieldSet = 1 << iota
	AcceptEncoding
	AcceptLanguage
	Authorization
	CacheControl
	CDNLoop
	Connection
	ContentLength
	Cookie
	Expect
	Forwarded
	Host
	HTTP2Settings
	IfMatch
	IfModifiedSince
	IfNoneMatch
	IfRange
	IfUnmodifiedSince
	KeepAlive
	Pragma
	ProxyConnection
	Range
	TE
	Trailer
	TransferEncoding
	Upgrade
	UserAgent
	XForwardedFor
)

// fieldsBySize has the lower-case names of each length.
var fieldsBySize = [32][]struct {
	name string
	is   FieldSet
}{
	2:  {{"te", TE}},
	4:  {{"host", Host}},
	5:  {{"range", Range}},
	6:  {{"accept", Accept}, {"cookie", Cookie}, {"expect", Expect}, {"pragma", Pragma}},
	7:  {{"trailer", Trailer}, {"upgrade", Upgrade}},
	8:  {{"if-match", IfMatch}, {"if-range", IfRange}, {"cdn-loop", CDNLoop}},
	9:  {{"forwarded", Forwarded}},
	10: {{"user-agent", UserAgent}, {"connection", Connection}, {"keep-alive", KeepAlive}},
	13: {{"cache-control", CacheControl}, {"if-none-match", IfNoneMatch}, {"authorization", Authorization}},
	14: {{"content-length", ContentLength}, {"http2-settings", HTTP2Settings}},
	15: {{"accept-encoding", AcceptEncoding}, {"accept-language", AcceptLanguage}, {"x-forwarded-for", XForwardedFor}},
	16: {{"proxy-connection", ProxyConnection}},
	17: {{"if-modified-since", IfModifiedSince}, {"transfer-encoding", TransferEncoding}},
	19: {{"if-unmodified-since", IfUnmodifiedSince}},
}

func fieldOf(name string) FieldSet {
	if len(name) >= len(fieldsBySize) {
		return 0
	}
	for _, known := range fieldsBySize[len(name)] {
		if sameName(name, known.name) {
			return known.is
		}
	}
	return 0
}

// sameName compares a field name with one in lower case.
func sameName(name, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// Values appends the values of the field with this lower-case name to dst.
func (r *Request) Values(dst []string, lower string) []string {
	for i := range r.Fields {
		if sameName(r.Fields[i].Name, lower) {
			dst = append(dst, r.Fields[i].Value)
		}
	}
	return dst
}

// Limits bound one request head. A zero is no bound.
type Limits struct {
	Head   int // bytes of the whole, line ends included
	Target int // bytes of the target
	Field  int // bytes of one field, name and value
	Fields int // number of fields
}

// longLine reports whether the line of a field is too long even with a colon and the
// usual space. More white space than that counts, or how much of the line has come
// would make a difference.
func (l *Limits) longLine(line string) bool {
	return l.Field > 0 && len(line) > l.Field+len(": ")
}

// Refusal is why a request was not taken. The connection ends with it: what follows
// was framed by the same sender.
type Refusal struct {
	Status int    // what the client is told; zero when nothing is sent
	Reason string // one of Reasons
	title  string
}

// The reasons of refusals, for counters.
const (
	ReasonRequestLine    = "request-line"    // no method, target and version with one space between
	ReasonMethod         = "method"          // not served by any origin
	ReasonTarget         = "target"          // neither a path nor a URL, or a byte that must be encoded
	ReasonTargetTooLong  = "target-too-long" //
	ReasonVersion        = "version"         // neither HTTP/1.1 nor HTTP/1.0
	ReasonLineEnd        = "line-end"        // a line feed or a carriage return without the other
	ReasonFoldedLine     = "folded-line"     // a line that begins with white space
	ReasonFieldName      = "field-name"      // no token before the colon
	ReasonFieldValue     = "field-value"     // a control byte
	ReasonHost           = "host"            // none, several, malformed, or another than the target's
	ReasonLength         = "length"          // a Content-Length that is not one number
	ReasonTransferCoding = "transfer-coding" // another than chunked
	ReasonFraming        = "framing"         // two ways to tell where the body ends
	ReasonExpectation    = "expectation"     // another than 100-continue
	ReasonHeadTooLarge   = "head-too-large"  //
	ReasonTooManyFields  = "too-many-fields" //
	ReasonChunk          = "chunk"           // a chunked body that is malformed
	ReasonConnections    = "connections"     // too many of one client
	ReasonHeadTimeout    = "head-timeout"    // a head that did not end in time
	ReasonBodyTimeout    = "body-timeout"    // a body whose first bytes did not come in time
	ReasonDescriptors    = "descriptors"     // none is left for a connection of net/http's
)

// Reasons returns every reason, so that counters can be declared before the first
// request.
func Reasons() []string {
	return []string{ReasonRequestLine, ReasonMethod, ReasonTarget, ReasonTargetTooLong, ReasonVersion, ReasonLineEnd,
		ReasonFoldedLine, ReasonFieldName, ReasonFieldValue, ReasonHost, ReasonLength, ReasonTransferCoding, ReasonFraming,
		ReasonExpectation, ReasonHeadTooLarge, ReasonTooManyFields, ReasonChunk, ReasonConnections, ReasonHeadTimeout, ReasonBodyTimeout, ReasonDescriptors}
}

var (
	badRequestLine = &Refusal{http.StatusBadRequest, ReasonRequestLine, "The request line is malformed."}
	badMethod      = &Refusal{http.StatusMethodNotAllowed, ReasonMethod, "This method is not served here."}
	badTarget      = &Refusal{http.StatusBadRequest, ReasonTarget, "The target is neither a path nor an http or https URL, or holds a byte that must be encoded."}
	longTarget     = &Refusal{http.StatusRequestURITooLong, ReasonTargetTooLong, "The target is too long."}
	badVersion     = &Refusal{http.StatusHTTPVersionNotSupported, ReasonVersion, "This version of HTTP is not served here."}
	badLineEnd     = &Refusal{http.StatusBadRequest, ReasonLineEnd, "A line does not end with CR LF."}
	foldedLine     = &Refusal{http.StatusBadRequest, ReasonFoldedLine, "A header field is folded."}
	badName        = &Refusal{http.StatusBadRequest, ReasonFieldName, "The name of a header field is malformed."}
	badValue       = &Refusal{http.StatusBadRequest, ReasonFieldValue, "The value of a header field holds a control character."}
	badHost        = &Refusal{http.StatusBadRequest, ReasonHost, "The Host is missing, malformed, or not the only one."}
	badLength      = &Refusal{http.StatusBadRequest, ReasonLength, "The Content-Length is not one number."}
	badCoding      = &Refusal{http.StatusBadRequest, ReasonTransferCoding, "The Transfer-Encoding is malformed."}
	unknownCoding  = &Refusal{http.StatusNotImplemented, ReasonTransferCoding, "Only the transfer coding chunked is known."}
	badFraming     = &Refusal{http.StatusBadRequest, ReasonFraming, "The end of the body is ambiguous."}
	badTrailer     = &Refusal{http.StatusBadRequest, ReasonFraming, "The framing of a request cannot be told behind it."}
	badExpectation = &Refusal{http.StatusExpectationFailed, ReasonExpectation, "Only 100-continue can be expected."}
	largeHead      = &Refusal{http.StatusRequestHeaderFieldsTooLarge, ReasonHeadTooLarge, "The request's header fields are too large."}
	manyFields     = &Refusal{http.StatusRequestHeaderFieldsTooLarge, ReasonTooManyFields, "The request has too many header fields."}
	lateHead       = &Refusal{0, ReasonHeadTimeout, ""}
	lateBody       = &Refusal{http.StatusRequestTimeout, ReasonBodyTimeout, "The request body did not arrive in time."}
	noRoom         = &Refusal{http.StatusServiceUnavailable, ReasonDescriptors, "Too many connections are open."}
	tooMany        = &Refusal{0, ReasonConnections, ""}
)

// read reads the head that b begins with (RFC 9112 sections 2 to 6). It returns its
// length, or zero when it is not all there yet, or why it is refused, as soon as
// that is clear. Nothing is read leniently: what two readers could take for two
// things is nobody's request.
func (r *Request) read(b []byte, limits *Limits) (int, *Refusal) {
	*r = Request{Fields: r.Fields[:0]}
	at := 0
	if len(b) > 0 && b[0] == '\r' { // one empty line before a request is forgiven (RFC 9112 section 2.2)
		if len(b) == 1 {
			return 0, nil
		}
		if b[1] != '\n' {
			return 0, badLineEnd
		}
		at, r.empty = 2, 2
	}
	if at < len(b) && !tokenByte[b[at]] && b[at] != '\n' { // of another protocol, whatever follows
		return 0, badRequestLine
	}
	line, next, no := nextLine(b, at)
	if no != nil {
		return 0, no
	}
	if next == 0 {
		return 0, unfinishedLine(b, b[at:], limits)
	}
	if no := r.requestLine(line, limits); no != nil {
		return 0, no
	}
	for at = next; ; at = next {
		line, next, no = nextLine(b, at)
		switch {
		case no != nil:
			return 0, no
		case next == 0 && limits.Head > 0 && len(b) >= limits.Head, limits.Head > 0 && next > limits.Head:
			return 0, largeHead
		case next == 0 && limits.longLine(strings.TrimSuffix(line, "\r")):
			return 0, largeHead
		case next == 0:
			return 0, nil
		case line == "":
			if no := r.frame(); no != nil {
				return 0, no
			}
			r.size = next
			return next, nil
		}
		if no := r.field(line, limits); no != nil {
			return 0, no
		}
	}
}

// nextLine returns the line of b that begins at this place, without its end, and
// where the one after it begins: zero when this one has not ended.
func nextLine(b []byte, at int) (line string, next int, no *Refusal) {
	rest := b[at:]
	n := bytes.IndexByte(rest, '\n')
	if n < 0 {
		return view(rest), 0, nil
	}
	if n == 0 || rest[n-1] != '\r' {
		return "", 0, badLineEnd
	}
	return view(rest[:n-1]), at + n + 1, nil
}

// view is the bytes as a string that is not a copy. The buffer that they are in is
// not written to while a head in it is looked at.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// unfinishedLine judges a head of which there is only the beginning of the request
// line. Whoever speaks another protocol need not go on until the line is too long.
func unfinishedLine(head, line []byte, limits *Limits) *Refusal {
	method, target, cut := bytes.Cut(line, []byte(" "))
	switch {
	case len(method) > maxMethod:
		return badRequestLine
	case cut && limits.Target > 0 && len(target) > limits.Target+len(" HTTP/1.1\r"):
		return longTarget
	case limits.Head > 0 && len(head) >= limits.Head:
		return largeHead
	}
	return nil
}

// maxMethod is longer than any method that is registered.
const maxMethod = 32

// requestLine takes the first line apart (RFC 9112 section 3).
func (r *Request) requestLine(line string, limits *Limits) *Refusal {
	method, rest, _ := strings.Cut(line, " ")
	target, version, _ := strings.Cut(rest, " ")
	switch {
	case !isToken(method) || len(method) > maxMethod:
		return badRequestLine
	case limits.Target > 0 && len(target) > limits.Target:
		return longTarget
	case version == "HTTP/1.1":
	case version == "HTTP/1.0":
		r.old = true
	case len(version) == len("HTTP/1.1") && version[:5] == "HTTP/" && digit(version[5]) && version[6] == '.' && digit(version[7]):
		return badVersion
	case strings.HasSuffix(version, " HTTP/1.1"):
		return badTarget // with a space in it
	default:
		return badRequestLine
	}
	r.Method, r.Target = method, target
	switch {
	case method == "CONNECT" || method == "TRACE":
		return badMethod
	case target == "*" && method == "OPTIONS":
	case target == "" || !plainTarget(target):
		return badTarget
	case target[0] != '/':
		if _, ok := authorityOf(target); !ok {
			return badTarget
		}
	}
	return nil
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

func isToken(s string) bool {
	for i := range len(s) {
		if !tokenByte[s[i]] {
			return false
		}
	}
	return s != ""
}

// plainTarget reports whether every byte of the target may stand as it is, and what
// is encoded in its path is encoded well (RFC 9112 section 3.2, RFC 3986 section 2.1).
func plainTarget(target string) bool {
	inPath := true
	for i := range len(target) {
		switch c := target[i]; {
		case c <= ' ' || c >= 0x7f || c == '#':
			return false
		case c == '?':
			inPath = false
		case c == '%' && inPath && (i+2 >= len(target) || !hexByte[target[i+1]] || !hexByte[target[i+2]]):
			return false
		}
	}
	return true
}

// authorityOf returns the authority of a target in absolute form (RFC 9112 section
// 3.2.2), if it is an http or https URL.
func authorityOf(target string) (string, bool) {
	scheme, rest, _ := strings.Cut(target, "://")
	if !sameName(scheme, "http") && !sameName(scheme, "https") {
		return "", false
	}
	if end := strings.IndexAny(rest, "/?"); end >= 0 {
		rest = rest[:end]
	}
	return rest, validAuthority(rest)
}

// field takes one line of the header section (RFC 9112 section 5).
func (r *Request) field(line string, limits *Limits) *Refusal {
	if line[0] == ' ' || line[0] == '\t' {
		return foldedLine
	}
	colon := strings.IndexByte(line, ':')
	if colon <= 0 || !isToken(line[:colon]) {
		return badName
	}
	name, value := line[:colon], line[colon+1:]
	if !plainValue(value) {
		if strings.IndexByte(value, '\r') >= 0 {
			return badLineEnd
		}
		return badValue
	}
	value = trim(value)
	if limits.Field > 0 && len(name)+len(value) > limits.Field || limits.longLine(line) {
		return largeHead
	}
	if limits.Fields > 0 && len(r.Fields)+r.hosts >= limits.Fields {
		return manyFields
	}
	is := fieldOf(name)
	r.Has |= is
	switch is {
	case Host:
		r.Host = value
		r.hosts++
		return nil
	case ContentLength:
		var no *Refusal
		if r.length, no = contentLength(value); no != nil {
			return no
		}
		r.lengths++
	case TransferEncoding:
		r.coding = value
		r.codings++
	case Expect:
		if !sameName(value, "100-continue") {
			return badExpectation
		}
		r.expects++
	}
	r.Fields = append(r.Fields, Field{name, value, is})
	return nil
}

// contentLength reads a length (RFC 9110 section 8.6): digits, and nothing else.
func contentLength(value string) (int64, *Refusal) {
	for i := range len(value) {
		if !digit(value[i]) {
			return 0, badLength
		}
	}
	n, err := strconv.ParseUint(value, 10, 63)
	if err != nil {
		return 0, badLength
	}
	return int64(n), nil
}

// trim takes off the white space around a value. Few have more than the one space
// before it.
func trim(value string) string {
	if value != "" && value[0] == ' ' {
		value = value[1:]
	}
	if value == "" || value[0] > ' ' && value[len(value)-1] > ' ' {
		return value
	}
	return strings.Trim(value, " \t")
}

// plainValue reports whether a value has no control character in it but tabs (RFC
// 9110 section 5.5). It looks at eight bytes at a time; bytes of 0x80 and more are
// allowed.
func plainValue(value string) bool {
	b := unsafe.Slice(unsafe.StringData(value), len(value))
	for len(b) >= 8 {
		const ones, highs = 0x0101010101010101, 0x8080808080808080
		x := binary.LittleEndian.Uint64(b)
		del := x ^ 0x7f*ones // zero where a byte is DEL
		odd := (x-' '*ones)&^x | (del-ones)&^del
		if odd&highs != 0 && !plainBytes(b[:8]) { // a tab may be all it is
			return false
		}
		b = b[8:]
	}
	return plainBytes(b)
}

func plainBytes(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// body is what follows a head.
type body uint8

const (
	noBody  body = iota // another head
	lengthy             // as many bytes as the head says
	chunked             // chunks, up to the last
)

// frame judges the fields that say where the request ends and for whom it is, once
// all are there (RFC 9112 sections 3.2 and 6).
func (r *Request) frame() *Refusal {
	switch {
	case r.codings > 1:
		return badCoding
	case r.codings == 1 && (r.lengths > 0 || r.old):
		return badFraming
	case r.codings == 1 && !sameName(r.coding, "chunked"):
		return judgeCoding(r.coding)
	case r.codings == 1 && r.Has&Trailer != 0 && r.trailsFraming():
		return badTrailer
	case r.codings == 1:
		r.body = chunked
	case r.lengths > 1:
		return badLength
	case r.length > 0:
		r.body = lengthy
	}
	if r.body != noBody && r.Has&Upgrade != 0 && r.upgrades() {
		return badFraming // what looks like a body may be meant for the tunnel
	}
	if r.expects > 1 {
		return badExpectation
	}
	if r.hosts > 1 || r.hosts == 0 && !r.old || r.hosts == 1 && !validAuthority(r.Host) {
		return badHost
	}
	if r.Target[0] != '/' && r.Target != "*" && r.hosts > 0 {
		if authority, _ := authorityOf(r.Target); !sameAuthority(authority, r.Host, r.Target) {
			return badHost
		}
	}
	return nil
}

// trailsFraming reports whether a field that says how the request is framed is
// announced for its trailer section (RFC 9110 section 6.5.1).
func (r *Request) trailsFraming() bool {
	for i := range r.Fields {
		if r.Fields[i].Is != Trailer {
			continue
		}
		for name := range strings.SplitSeq(r.Fields[i].Value, ",") {
			if fieldOf(strings.Trim(name, " \t"))&(TransferEncoding|ContentLength|Trailer) != 0 {
				return true
			}
		}
	}
	return false
}

// upgrades reports whether the request asks for the one protocol that it may get.
func (r *Request) upgrades() bool {
	for i := range r.Fields {
		if r.Fields[i].Is == Upgrade && sameName(r.Fields[i].Value, "websocket") {
			return true
		}
	}
	return false
}

// judgeCoding tells a list of codings that are not known from one that is malformed
// or has chunked where it cannot be (RFC 9112 section 6.1).
func judgeCoding(list string) *Refusal {
	for {
		coding, rest, more := strings.Cut(list, ",")
		coding = strings.Trim(coding, " \t")
		if !isToken(coding) || more && sameName(coding, "chunked") {
			return badCoding
		}
		if !more {
			return unknownCoding
		}
		list = rest
	}
}

// validAuthority reports whether a host is a name or an address, perhaps with a port
// (RFC 9110 section 7.2).
func validAuthority(host string) bool {
	name, port := host, "1"
	if i := strings.LastIndexByte(host, ':'); i >= 0 && i > strings.LastIndexByte(host, ']') {
		name, port = host[:i], host[i+1:]
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil || port[0] == '0' {
		return false
	}
	if strings.HasPrefix(name, "[") {
		inner, closed := strings.CutSuffix(name[1:], "]")
		address, err := netip.ParseAddr(inner)
		return closed && err == nil && address.Is6() && address.Zone() == ""
	}
	for i := range len(name) {
		if !hostByte[name[i]] {
			return false
		}
	}
	return name != ""
}

// sameAuthority compares the authority of an absolute target with Host, as both are
// normalised (RFC 9110 section 4.2.3).
func sameAuthority(authority, host, target string) bool {
	port := ":80"
	if sameName(target[:min(5, len(target))], "https") {
		port = ":443"
	}
	return strings.EqualFold(strings.TrimSuffix(authority, port), strings.TrimSuffix(host, port))
}

// heldBack returns how many bytes of the body are waited for here, when most is what
// they may be. A body of unknown length may be a stream, whose other end has to see
// each byte as it comes, and a client that expects to be told to go on sends none. One
// of HTTP/1.0 is told nothing (RFC 9110 section 10.1.1).
func (r *Request) heldBack(most int) int {
	if r.body != lengthy || r.Has&Expect != 0 && !r.old {
		return 0
	}
	return int(min(r.length, int64(most)))
}

// plain reports whether the request may be answered at the door: a GET or HEAD of a
// path, with nothing about it that only net/http knows how to do.
func (r *Request) plain() bool {
	const strange = Upgrade | Expect | Trailer | HTTP2Settings | TE | ProxyConnection | KeepAlive | ContentLength | TransferEncoding
	return r.Has&strange == 0 && !r.old && r.Target[0] == '/' && (r.Method == http.MethodGet || r.Method == http.MethodHead) &&
		(r.Has&Connection == 0 || r.stays())
}

// stays reports whether the connection is said to stay open, and nothing else is
// said about it.
func (r *Request) stays() bool {
	for i := range r.Fields {
		if r.Fields[i].Is == Connection && !sameName(r.Fields[i].Value, "keep-alive") {
			return false
		}
	}
	return true
}

var (
	tokenByte = bytesOf("!#$%&'*+-.^_`|~")
	hostByte  = bytesOf("-._")
	hexByte   = hexBytes()
)

func hexBytes() (set [256]bool) {
	for _, c := range []byte("0123456789abcdefABCDEF") {
		set[c] = true
	}
	return set
}

// bytesOf returns the set of these characters and all letters and digits.
func bytesOf(these string) (set [256]bool) {
	for i := range len(these) {
		set[these[i]] = true
	}
	for c := range 0x80 {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		set[c] = set[c] || letter || '0' <= c && c <= '9'
	}
	return set
}
