package wire

import "math"

// framing follows a request's body as it passes, so that it is known where the next
// head begins (RFC 9112 sections 6 and 7). The bytes themselves are net/http's to
// read: framing only makes sure that there is one way to read them.
type framing struct {
	body  body
	left  int64 // bytes that are left of the body, or of the chunk
	step  chunkStep
	size  int // bytes so far of what is bounded: digits, an extension, the trailer section
	extra int // bytes of all extensions so far
}

// chunkStep is what comes next in a chunked body.
type chunkStep uint8

const (
	chunkSize  chunkStep = iota // a digit of the size, or what ends it
	extStart                    // the name of an extension
	extName                     //
	extGap                      // what comes behind a name: its value, or another extension
	extValue                    // the value
	extToken                    // of a value that is a token
	extQuoted                   // of one that is quoted
	extEscaped                  // what stands behind a backslash
	extEnd                      // what comes behind a quoted value
	chunkLF                     // the line feed after size and extension
	chunkData                   //
	dataCR                      // the end of the data
	dataLF                      //
	lineStart                   // a trailer field, or the empty line
	fieldName                   //
	fieldValue                  //
	fieldLF                     // the line feed after a trailer field
	lastLF                      // the line feed that ends the body
)

// Bounds on what a chunked body has beside its data, which nobody reads.
const (
	maxChunkDigits  = 16
	maxChunkExt     = 256     // of one chunk
	maxChunkExtras  = 4 << 10 // of all chunks
	maxTrailerBytes = 2 << 10 // net/http wants it all within its buffer
)

// follow begins with the body that a head announces.
func follow(r *Request) framing { return framing{body: r.body, left: r.length} }

// take goes on with bytes that have come. It returns how many of them belong to the
// body, and whether the body ends with them; or that they are malformed.
func (f *framing) take(p []byte) (n int, ended bool, no *Refusal) {
	if f.body != chunked {
		n = int(min(f.left, int64(len(p))))
		f.left -= int64(n)
		return n, f.left == 0, nil
	}
	for n < len(p) {
		if f.step == chunkData {
			m := int(min(f.left, int64(len(p)-n)))
			n += m
			if f.left -= int64(m); f.left == 0 {
				f.step = dataCR
			}
			continue
		}
		ended, ok := f.next(p[n])
		n++
		if !ok {
			return n, false, badChunk
		}
		if ended {
			return n, true, nil
		}
	}
	return n, false, nil
}

// foresee judges what has come already of a body that nobody has heard of yet.
func (f framing) foresee(p []byte) *Refusal {
	if f.body == noBody {
		return nil
	}
	_, _, no := f.take(p)
	return no
}

var badChunk = &Refusal{400, ReasonChunk, "The chunked body is malformed."}

// next takes one byte that is not data. It returns whether it ends the body, and
// whether it may stand here.
func (f *framing) next(c byte) (ended, ok bool) {
	switch f.step {
	case chunkSize:
		return false, f.sizeByte(c)
	case extStart, extName, extGap, extValue, extToken, extQuoted, extEscaped, extEnd:
		if c != '\r' {
			f.size++
			f.extra++
		}
		return false, f.size <= maxChunkExt && f.extra <= maxChunkExtras && f.extension(c)
	case chunkLF:
		if f.left == 0 {
			return false, c == '\n' && f.on(lineStart)
		}
		return false, c == '\n' && f.on(chunkData)
	case dataCR:
		return false, c == '\r' && f.on(dataLF)
	case dataLF:
		return false, c == '\n' && f.on(chunkSize)
	case lineStart:
		if c == '\r' {
			return false, f.on(lastLF)
		}
		f.step = fieldName
		return false, f.trailing() && tokenByte[c]
	case fieldName:
		if c == ':' {
			f.step = fieldValue
			return false, f.trailing()
		}
		return false, f.trailing() && tokenByte[c]
	case fieldValue:
		if c == '\r' {
			f.step = fieldLF
			return false, f.trailing()
		}
		return false, f.trailing() && plainByte(c)
	case fieldLF:
		f.step = lineStart
		return false, f.trailing() && c == '\n'
	case lastLF:
		return true, c == '\n'
	default:
		panic("wire: an unknown step in a chunked body")
	}
}

// on goes on to a step that counts its bytes anew.
func (f *framing) on(step chunkStep) bool {
	f.step, f.size = step, 0
	return true
}

// trailing counts a byte of the trailer section.
func (f *framing) trailing() bool {
	f.size++
	return f.size <= maxTrailerBytes
}

// sizeByte takes a byte of a chunk's size: hexadecimal digits, and right behind them
// an extension or the end of the line.
func (f *framing) sizeByte(c byte) bool {
	switch {
	case hexByte[c]:
		if f.size == 0 {
			f.left = 0
		}
		f.size++
		f.left = f.left<<4 | int64(unhex(c))
		return f.size <= maxChunkDigits && f.left >= 0 && f.left <= math.MaxInt64>>4
	case f.size == 0:
		return false
	case c == ';':
		return f.on(extStart)
	default:
		return c == '\r' && f.on(chunkLF)
	}
}

// extension takes a byte of the extensions of a chunk (RFC 9112 section 7.1.1), which
// are read and go no further.
func (f *framing) extension(c byte) bool {
	space := c == ' ' || c == '\t'
	switch f.step {
	case extStart:
		if tokenByte[c] {
			f.step = extName
		}
		return space || tokenByte[c]
	case extName:
		if space {
			f.step = extGap
		}
		return space || tokenByte[c] || c == '=' && f.to(extValue) || f.extensionEnds(c)
	case extGap:
		return space || c == '=' && f.to(extValue) || c == ';' && f.to(extStart)
	case extValue:
		return space || c == '"' && f.to(extQuoted) || tokenByte[c] && f.to(extToken)
	case extToken:
		return tokenByte[c] || f.extensionEnds(c)
	case extQuoted:
		return c == '\\' && f.to(extEscaped) || c == '"' && f.to(extEnd) || plainByte(c)
	case extEscaped:
		return plainByte(c) && f.to(extQuoted)
	default:
		return f.extensionEnds(c)
	}
}

// extensionEnds takes what ends an extension: another one, or the end of the line.
func (f *framing) extensionEnds(c byte) bool {
	return c == ';' && f.to(extStart) || c == '\r' && f.on(chunkLF)
}

// to goes on to a step that counts on.
func (f *framing) to(step chunkStep) bool {
	f.step = step
	return true
}

func unhex(c byte) byte {
	if c >= 'A' {
		return c&7 + 9
	}
	return c - '0'
}

func plainByte(c byte) bool { return c >= ' ' && c != 0x7f || c == '\t' }
