package upstream

import (
	"bytes"
	"math"
	"strconv"
	"strings"
)

// net/http reads responses generously, and cleans up what it reads: a head with
// both Content-Length and Transfer-Encoding, lines that end in LF alone, or a field
// with a space before its colon reach us as if nothing had been wrong. Whoever
// stands behind us may read the same bytes otherwise, so that what we store would
// not be what the origin meant. Bytes of an origin therefore pass a framing first,
// which follows each response from its status line to its last byte and lets
// nothing through that could be read in two ways (RFC 9112 sections 2 to 7).

// fault is what is wrong with the bytes of an origin.
type fault string

func (f fault) Error() string { return "the origin sent " + string(f) }

const (
	// What a chunk size may have behind it. Nobody is known to send any.
	maxExtension = 256
	// Interim responses before one final. net/http does not count those that
	// somebody takes.
	maxInterim = 16
)

// phase is where on a connection the next byte stands.
type phase uint8

const (
	between    phase = iota // no request waits for an answer: nothing may come
	spent                   // the same, and the connection must not be used again
	inHead                  // a final or an interim head
	inCounted               // a body of known length
	inChunks                // a chunked body
	inTrailers              // the trailer section after the last chunk
	untilClose              // a body that ends with the connection
	tunnelled               // another protocol
)

// framing follows the responses on one connection.
type framing struct {
	limit int // bytes of one head, or of one trailer section
	phase phase
	bare  bool // the request was a HEAD: its answer has no body

	interim int // interim responses so far to this request

	// The section that is read: offsets from its first byte.
	next int // first byte of the line not read yet
	seen int // bytes known to hold no end of that line

	// The head that is read.
	minor  byte // of the version
	status int
	length int64 // -1 while no Content-Length was seen
	coded  bool  // Transfer-Encoding: chunked was seen

	// The body that is read.
	left   int64 // bytes of a counted body or of a chunk
	step   step
	digits int
	ext    int // bytes of the chunk extension
}

// step is where in a chunk the next byte stands.
type step uint8

const (
	atSize step = iota
	atExtension
	atSizeLF
	atData
	atDataCR
	atDataLF
)

// expect says that a request is on its way. It returns false when the response
// before is not over: then somebody has counted wrongly, and the connection is of
// no use.
func (f *framing) expect(method string) bool {
	if f.phase != between && !(f.phase == inHead && f.next == 0 && f.seen == 0 && f.interim == 0) {
		return false
	}
	f.bare, f.interim = method == "HEAD", 0
	f.beginHead()
	return true
}

func (f *framing) beginHead() {
	f.phase = inHead
	f.next, f.seen = 0, 0
	f.minor, f.status, f.length, f.coded = 0, 0, -1, false
}

// follow reads on. It returns how many leading bytes of b are sound; when there are
// more and no error, these begin a head or a trailer section that is not whole, and
// must be there again at the start of the next call's b.
func (f *framing) follow(b []byte) (sound int, err error) {
	for sound < len(b) && err == nil {
		rest, n := b[sound:], 0
		switch f.phase {
		case between, spent:
			return sound, fault("bytes that nobody asked for")
		case inHead, inTrailers:
			n, err = f.section(rest)
			if n == 0 {
				return sound, err
			}
		case inCounted:
			n = int(min(f.left, int64(len(rest))))
			if f.left -= int64(n); f.left == 0 {
				f.phase = between
			}
		case inChunks:
			n, err = f.chunks(rest)
		case untilClose, tunnelled:
			n = len(rest)
		default:
			panic("upstream: a framing in an unknown phase")
		}
		sound += n
	}
	return sound, err
}

// section reads a head or a trailer section, line by line, and returns its length
// once it is whole, or zero.
func (f *framing) section(b []byte) (int, error) {
	for {
		i := bytes.IndexByte(b[f.seen:], '\n')
		if i < 0 && len(b) < f.limit {
			f.seen = len(b)
			if f.phase == inHead && f.next == 0 && !bytes.HasPrefix(b, httpOne[:min(len(b), len(httpOne))]) {
				return 0, fault("something that is not HTTP/1")
			}
			return 0, nil
		}
		end := f.seen + i + 1
		if i < 0 || end > f.limit {
			return 0, fault("a head past the limit")
		}
		if end-f.next < 2 || b[end-2] != '\r' {
			return 0, fault("a line that ends in LF alone")
		}
		line, first := b[f.next:end-2], f.next == 0
		f.next, f.seen = end, end
		var err error
		switch {
		case first && f.phase == inHead:
			err = f.statusLine(line)
		case len(line) > 0:
			err = f.field(line)
		case f.phase == inTrailers:
			f.phase = between
			return end, nil
		default:
			if err := f.endHead(); err != nil {
				return 0, err
			}
			return end, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

var httpOne = []byte("HTTP/1.")

// statusLine reads the first line of a head (RFC 9112 section 4). The space after
// the status may be missing, as it often is where there is no reason.
func (f *framing) statusLine(line []byte) error {
	if len(line) < len("HTTP/1.1 200") || !bytes.HasPrefix(line, httpOne) || !isDigit(line[7]) || line[8] != ' ' {
		return fault("something that is not HTTP/1")
	}
	code, reason := line[9:12], line[12:]
	if code[0] < '1' || code[0] > '5' || !isDigit(code[1]) || !isDigit(code[2]) {
		return fault("a status that is none")
	}
	if len(reason) > 0 && reason[0] != ' ' || !isText(reason) {
		return fault("a malformed status line")
	}
	f.minor = line[7] - '0'
	f.status = int(code[0]-'0')*100 + int(code[1]-'0')*10 + int(code[2]-'0')
	return nil
}

// field reads a field line (RFC 9112 section 5), and what it says of the body when
// it stands in a head.
func (f *framing) field(line []byte) error {
	if line[0] == ' ' || line[0] == '\t' {
		return fault("a folded line")
	}
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 || !isToken(line[:colon]) {
		return fault("a malformed field name")
	}
	name, value := line[:colon], line[colon+1:]
	if !isText(value) {
		return fault("a control byte in a field")
	}
	if f.phase != inHead {
		return nil
	}
	switch {
	case len(name) == len("Content-Length") && strings.EqualFold(string(name), "Content-Length"):
		digits := bytes.Trim(value, " \t")
		length, err := strconv.ParseInt(string(digits), 10, 64)
		if f.length >= 0 || err != nil || !isDigit(digits[0]) {
			return fault("a Content-Length that is not one number")
		}
		f.length = length
	case len(name) == len("Transfer-Encoding") && strings.EqualFold(string(name), "Transfer-Encoding"):
		if f.coded || !strings.EqualFold(string(bytes.Trim(value, " \t")), "chunked") {
			return fault("a transfer coding other than chunked")
		}
		f.coded = true
	}
	return nil
}

// endHead works out what follows the head (RFC 9112 section 6.3).
func (f *framing) endHead() error {
	switch {
	case f.coded && f.length >= 0:
		return fault("both Content-Length and Transfer-Encoding")
	case f.coded && f.minor == 0:
		return fault("Transfer-Encoding in HTTP/1.0")
	case f.status < 200 && (f.coded || f.length >= 0):
		return fault("an interim response with a body")
	case f.status == 101:
		f.phase = tunnelled
	case f.status < 200:
		if f.interim++; f.interim > maxInterim {
			return fault("interim responses without end")
		}
		f.beginHead()
	case f.bare || f.status == 204 || f.status == 304:
		f.phase = between
		if f.coded || f.length > 0 {
			// An origin that speaks of a body may well send it, where none may be.
			f.phase = spent
		}
	case f.coded:
		f.phase, f.step, f.digits, f.left = inChunks, atSize, 0, 0
	case f.length > 0:
		f.phase, f.left = inCounted, f.length
	case f.length == 0:
		f.phase = between
	default:
		f.phase = untilClose
	}
	return nil
}

// chunks reads a chunked body (RFC 9112 section 7.1) as far as the last chunk.
func (f *framing) chunks(b []byte) (int, error) {
	for i := 0; i < len(b); i++ {
		c := b[i]
		switch f.step {
		case atSize:
			switch digit := hexDigit(c); {
			case digit >= 0:
				if f.digits++; f.left > math.MaxInt64>>4 || f.digits > 16 {
					return i, fault("a chunk size past all bounds")
				}
				f.left = f.left<<4 | int64(digit)
			case f.digits == 0:
				return i, fault("a malformed chunk size")
			case c == '\r':
				f.step = atSizeLF
			case c == ';':
				f.step, f.ext = atExtension, 1
			default:
				return i, fault("a malformed chunk size")
			}
		case atExtension:
			f.ext++
			switch {
			case f.ext > maxExtension:
				return i, fault("a chunk extension past the limit")
			case c == '\r':
				f.step = atSizeLF
			case !textByte[c]:
				return i, fault("a malformed chunk extension")
			}
		case atSizeLF:
			if c != '\n' {
				return i, fault("a malformed chunk size")
			}
			f.step, f.digits = atData, 0
			if f.left == 0 {
				f.phase, f.next, f.seen = inTrailers, 0, 0
				return i + 1, nil
			}
		case atData:
			n := min(f.left, int64(len(b)-i))
			i += int(n) - 1
			if f.left -= n; f.left == 0 {
				f.step = atDataCR
			}
		case atDataCR:
			if c != '\r' {
				return i, fault("a chunk longer than its size")
			}
			f.step = atDataLF
		case atDataLF:
			if c != '\n' {
				return i, fault("a chunk longer than its size")
			}
			f.step = atSize
		}
	}
	return len(b), nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// hexDigit returns the value of a hexadecimal digit, or -1.
func hexDigit(c byte) int {
	switch {
	case isDigit(c):
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// isToken reports whether b may be a field name (RFC 9110 section 5.6.2).
func isToken(b []byte) bool {
	for _, c := range b {
		if !tokenByte[c] {
			return false
		}
	}
	return len(b) > 0
}

// isText reports whether b may stand in a field value (RFC 9110 section 5.5):
// anything but control bytes.
func isText(b []byte) bool {
	for _, c := range b {
		if !textByte[c] {
			return false
		}
	}
	return true
}

var tokenByte, textByte = func() (token, text [256]bool) {
	for c := range 256 {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z' && c < 0x80
		token[c] = letter || isDigit(byte(c)) || c < 0x80 && strings.IndexByte("!#$%&'*+-.^_`|~", byte(c)) >= 0
		text[c] = c == '\t' || c >= ' ' && c != 0x7f
	}
	return token, text
}()
