package upstream

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

const testLimit = 4 << 10

// soundResponses end where they stand, and the connection may be used again unless
// the text says that it may not.
var soundResponses = []struct{ name, method, text string }{
	{"counted", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"},
	{"no reason", "GET", "HTTP/1.1 200\r\ncontent-length:3\r\n\r\nabc"},
	{"empty reason", "GET", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"},
	{"reason and value beyond ASCII", "GET", "HTTP/1.1 200 D\xe9j\xe0\r\nX-A: \xe9\tb\r\nContent-Length: 0\r\n\r\n"},
	{"later version", "GET", "HTTP/1.7 200 OK\r\nContent-Length: 0\r\n\r\n"},
	{"length with zeros in front", "GET", "HTTP/1.1 200 OK\r\nContent-Length: \t007 \r\n\r\nabcdefg"},
	{"empty value", "GET", "HTTP/1.1 200 OK\r\nX-A:\r\nX-A: \r\nContent-Length: 0\r\n\r\n"},
	{"chunked", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n00a\r\n0123456789\r\n0\r\n\r\n"},
	{"chunked in another case", "GET", "HTTP/1.1 200 OK\r\ntransfer-encoding:  Chunked\t\r\n\r\nA;a=b\r\n0123456789\r\n0000\r\n\r\n"},
	{"chunk extensions", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\"b;\xe9\" ; c\r\nx\r\n0;end\r\n\r\n"},
	{"trailers", "GET", "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 1\r\nX-B:\r\n\r\n"},
	{"answer to HEAD", "HEAD", "HTTP/1.1 200 OK\r\nX-A: b\r\n\r\n"},
	{"no content", "GET", "HTTP/1.1 204 No Content\r\n\r\n"},
	{"no content of no length", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"},
	{"not modified", "GET", "HTTP/1.1 304 Not Modified\r\nEtag: \"a\"\r\n\r\n"},
	{"interim before final", "GET", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"},
}

// unsoundResponses break off at the first byte that makes them so.
var unsoundResponses = []struct{ name, method, text string }{
	{"no HTTP", "GET", "220 smtp.example ESMTP\r\n"},
	{"no HTTP, and no end of line", "GET", "SSH-2.0-x"},
	{"empty line first", "GET", "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
	{"HTTP/2", "GET", "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"},
	{"HTTP/1.10", "GET", "HTTP/1.10 200 OK\r\nContent-Length: 0\r\n\r\n"},
	{"http/1.1", "GET", "http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
	{"two spaces before the status", "GET", "HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n"},
	{"tab before the status", "GET", "HTTP/1.1\t200 OK\r\nContent-Length: 0\r\n\r\n"},
	{"status of two digits", "GET", "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"},
	{"status of four digits", "GET", "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"},
	{"status with a sign", "GET", "HTTP/1.1 +20 OK\r\nContent-Length: 0\r\n\r\n"},
	{"status 099", "GET", "HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n"},
	{"status 600", "GET", "HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n"},
	{"control byte in the reason", "GET", "HTTP/1.1 200 O\x00K\r\nContent-Length: 0\r\n\r\n"},
	{"bare LF after the status line", "GET", "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n"},
	{"bare LF after a field", "GET", "HTTP/1.1 200 OK\r\nX-A: b\nSet-Cookie: evil=1\r\nContent-Length: 0\r\n\r\n"},
	{"bare LF as the end", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\n"},
	{"bare CR in a field", "GET", "HTTP/1.1 200 OK\r\nX-A: b\rc\r\nContent-Length: 0\r\n\r\n"},
	{"two CR at the end of a line", "GET", "HTTP/1.1 200 OK\r\nX-A: b\r\r\nContent-Length: 0\r\n\r\n"},
	{"NUL in a field", "GET", "HTTP/1.1 200 OK\r\nX-A: b\x00c\r\nContent-Length: 0\r\n\r\n"},
	{"DEL in a field", "GET", "HTTP/1.1 200 OK\r\nX-A: b\x7fc\r\nContent-Length: 0\r\n\r\n"},
	{"BEL in a field", "GET", "HTTP/1.1 200 OK\r\nX-A: b\ac\r\nContent-Length: 0\r\n\r\n"},
	{"space before the colon", "GET", "HTTP/1.1 200 OK\r\nCache-Control : no-store\r\nContent-Length: 0\r\n\r\n"},
	{"space in a name", "GET", "HTTP/1.1 200 OK\r\nX A: b\r\nContent-Length: 0\r\n\r\n"},
	{"no colon", "GET", "HTTP/1.1 200 OK\r\nX-A\r\nContent-Length: 0\r\n\r\n"},
	{"no name", "GET", "HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 0\r\n\r\n"},
	{"name beyond ASCII", "GET", "HTTP/1.1 200 OK\r\nX-\xc3\xa9: a\r\nContent-Length: 0\r\n\r\n"},
	{"folded line", "GET", "HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 0\r\n\r\n"},
	{"folded first line", "GET", "HTTP/1.1 200 OK\r\n\tX-A: b\r\nContent-Length: 0\r\n\r\n"},
	{"length and coding", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"coding and length", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"},
	{"two lengths", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc"},
	{"one length twice", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"},
	{"list of lengths", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc"},
	{"empty length", "GET", "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n"},
	{"length with a sign", "GET", "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc"},
	{"negative length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc"},
	{"hexadecimal length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0x3\r\n\r\nabc"},
	{"length with an underscore", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\nabc"},
	{"length past all bounds", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\nabc"},
	{"length within a quotation", "GET", "HTTP/1.1 200 OK\r\nContent-Length: \"3\"\r\n\r\nabc"},
	{"gzip, chunked", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"},
	{"chunked, chunked", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"},
	{"chunked twice", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"comma before chunked", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n"},
	{"xchunked", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\nabc"},
	{"identity", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nabc"},
	{"empty coding", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\nabc"},
	{"vertical tab before chunked", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n"},
	{"chunked after a hard space", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: \xa0chunked\r\n\r\n0\r\n\r\n"},
	{"chunked in HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"interim with a length", "GET", "HTTP/1.1 103 Early Hints\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
	{"interim with a coding", "GET", "HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"malformed interim", "GET", "HTTP/1.1 103 Early Hints\r\nLink : </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
	{"interim without end", "GET", strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", maxInterim+1)},
	{"head past the limit", "GET", "HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("a", testLimit) + "\r\nContent-Length: 0\r\n\r\n"},
	{"head past the limit that never ends", "GET", "HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("a", testLimit)},
	{"bytes after an answer to HEAD", "HEAD", "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"},
	{"bytes after 304", "GET", "HTTP/1.1 304 Not Modified\r\n\r\nabc"},
	{"bytes after a counted body", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd"},
	{"bytes after a chunked body", "GET", chunked("0\r\n\r\nd")},
	{"second response", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
	{"chunk size with 0x", "GET", chunked("0x2\r\nab\r\n0\r\n\r\n")},
	{"chunk size with +", "GET", chunked("+2\r\nab\r\n0\r\n\r\n")},
	{"chunk size with -", "GET", chunked("-0\r\n\r\n")},
	{"space before the chunk size", "GET", chunked(" 2\r\nab\r\n0\r\n\r\n")},
	{"space after the chunk size", "GET", chunked("2 \r\nab\r\n0\r\n\r\n")},
	{"underscore in the chunk size", "GET", chunked("0_2\r\nab\r\n0\r\n\r\n")},
	{"no chunk size", "GET", chunked("\r\n\r\n")},
	{"no chunk size before an extension", "GET", chunked(";a\r\n\r\n")},
	{"chunk size of 17 digits", "GET", chunked("00000000000000002\r\nab\r\n0\r\n\r\n")},
	{"chunk size past all bounds", "GET", chunked("8000000000000000\r\nab")},
	{"bare LF after the chunk size", "GET", chunked("2\nab\r\n0\r\n\r\n")},
	{"bare CR after the chunk size", "GET", chunked("2\r\rab\r\n0\r\n\r\n")},
	{"bare LF in a chunk extension", "GET", chunked("2;a\nab\r\n0\r\n\r\n")},
	{"bare CR in a chunk extension", "GET", chunked("2;a\rb\r\nab\r\n0\r\n\r\n")},
	{"NUL in a chunk extension", "GET", chunked("2;a\x00\r\nab\r\n0\r\n\r\n")},
	{"space before a chunk extension", "GET", chunked("2 ;a\r\nab\r\n0\r\n\r\n")},
	{"chunk extension without semicolon", "GET", chunked("2 a\r\nab\r\n0\r\n\r\n")},
	{"chunk extension past the limit", "GET", chunked("2;" + strings.Repeat("a", maxExtension) + "\r\nab\r\n0\r\n\r\n")},
	{"chunk longer than its size", "GET", chunked("2\r\nabc\r\n0\r\n\r\n")},
	{"bare LF after a chunk", "GET", chunked("2\r\nab\n0\r\n\r\n")},
	{"bare CR after a chunk", "GET", chunked("2\r\nab\r0\r\n\r\n")},
	{"nothing after a chunk", "GET", chunked("2\r\nab0\r\n\r\n")},
	{"bare LF at the end", "GET", chunked("0\r\n\n")},
	{"malformed trailer", "GET", chunked("0\r\nX-A : b\r\n\r\n")},
	{"folded trailer", "GET", chunked("0\r\nX-A: b\r\n c\r\n\r\n")},
	{"NUL in a trailer", "GET", chunked("0\r\nX-A: \x00\r\n\r\n")},
	{"trailers past the limit", "GET", chunked("0\r\nX-A: " + strings.Repeat("a", testLimit))},
}

func chunked(body string) string {
	return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body
}

// feed gives text to a framing in parts of at most size bytes, as conn does, and
// returns what it let through.
func feed(f *framing, text string, size int) (passed string, err error) {
	var held []byte
	for len(text) > 0 && err == nil {
		n := min(size, len(text))
		held = append(held, text[:n]...)
		text = text[n:]
		var sound int
		sound, err = f.follow(held)
		passed += string(held[:sound])
		held = held[sound:]
	}
	return passed, err
}

func expecting(t testing.TB, method string) *framing {
	f := &framing{limit: testLimit}
	if !f.expect(method) {
		t.Fatal("a new connection expects nothing")
	}
	return f
}

func TestSoundResponsesPass(t *testing.T) {
	for _, c := range soundResponses {
		for _, size := range []int{1, 2, 3, 7, 1 << 20} {
			f := expecting(t, c.method)
			if passed, err := feed(f, c.text, size); err != nil || passed != c.text || f.phase != between {
				t.Errorf("%s, %d bytes at a time: %q passed, then %v in phase %d", c.name, size, passed, err, f.phase)
			}
			if !f.expect("GET") {
				t.Errorf("%s: no further response is expected", c.name)
			}
		}
	}
}

func TestUnsoundResponsesDoNotPass(t *testing.T) {
	for _, c := range unsoundResponses {
		want := ""
		for _, size := range []int{1 << 20, 1, 3} {
			passed, err := feed(expecting(t, c.method), c.text, size)
			var f fault
			if !errors.As(err, &f) || len(passed) == len(c.text) {
				t.Errorf("%s, %d bytes at a time: %q passed, then %v", c.name, size, passed, err)
				continue
			}
			if want == "" {
				want = passed
			} else if passed != want {
				t.Errorf("%s: %q passed %d bytes at a time, and %q at once", c.name, passed, size, want)
			}
		}
	}
}

// What may follow cannot be told where a response speaks of a body that it must not
// have.
func TestConnectionIsSpentByABodyThatMayCome(t *testing.T) {
	for _, c := range []struct{ method, text string }{
		{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"},
		{"HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{"GET", "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n"},
		{"GET", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"},
	} {
		f := expecting(t, c.method)
		if passed, err := feed(f, c.text, 5); err != nil || passed != c.text {
			t.Errorf("%q: %q passed, then %v", c.text, passed, err)
		}
		if f.expect("GET") {
			t.Errorf("%q: a further response is expected", c.text)
		}
	}
}

func TestTunnelsAndBodiesWithoutEndPassWhole(t *testing.T) {
	for _, text := range []string{
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\n\r\x00",
		"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nHTTP/1.1 \x00\n",
		"HTTP/1.0 200 OK\r\n\r\nabc",
	} {
		f := expecting(t, "GET")
		if passed, err := feed(f, text, 3); err != nil || passed != text {
			t.Errorf("%q passed, then %v", passed, err)
		}
		if f.expect("GET") {
			t.Errorf("%q: a further response is expected", text)
		}
	}
}

// FuzzFraming: what is let through as whole responses, net/http reads alike: the
// same statuses, the same fields, and ends at the same bytes.
func FuzzFraming(f *testing.F) {
	for _, c := range soundResponses {
		f.Add(c.method == "HEAD", []byte(c.text), uint8(3))
	}
	for _, c := range unsoundResponses {
		f.Add(c.method == "HEAD", []byte(c.text), uint8(0))
	}
	f.Fuzz(func(t *testing.T, head bool, text []byte, size uint8) {
		method := "GET"
		if head {
			method = "HEAD"
		}
		framing := expecting(t, method)
		passed, err := feed(framing, string(text), int(size)+1)
		if !strings.HasPrefix(string(text), passed) {
			t.Fatalf("%q passed of %q", passed, text)
		}
		again := expecting(t, method)
		if at, once := feed(again, string(text), len(text)+1); at != passed || (once == nil) != (err == nil) {
			t.Fatalf("%q passed in parts, then %v; %q at once, then %v", passed, err, at, once)
		}
		if framing.phase != between && framing.phase != spent {
			return
		}
		source := bytes.NewReader([]byte(passed))
		in := bufio.NewReader(source)
		for {
			status, fields, length := plainHead(passed[len(passed)-source.Len()-in.Buffered():])
			res, err := http.ReadResponse(in, &http.Request{Method: method})
			if err != nil {
				if strings.Contains(err.Error(), "trailer") {
					return // net/http does not like what the Trailer field names: refused all the same
				}
				t.Fatalf("net/http does not read what passed: %v: %q", err, passed)
			}
			if res.StatusCode != status {
				t.Fatalf("net/http reads status %d, not %d, of %q", res.StatusCode, status, passed)
			}
			for _, name := range []string{"Transfer-Encoding", "Trailer"} {
				delete(fields, name) // net/http takes these out
				delete(res.Header, name)
			}
			if pragma := fields["Pragma"]; len(pragma) > 0 && pragma[0] == "no-cache" && fields["Cache-Control"] == nil {
				delete(res.Header, "Cache-Control") // as net/http adds it
			}
			if !reflect.DeepEqual(map[string][]string(res.Header), fields) {
				t.Fatalf("net/http reads fields %q, not %q, of %q", res.Header, fields, passed)
			}
			if status < 200 {
				continue
			}
			n, err := io.Copy(io.Discard, res.Body)
			if err != nil && !strings.Contains(err.Error(), "trailer") {
				t.Fatalf("net/http does not read the body that passed: %v: %q", err, passed)
			}
			if length >= 0 && n != length && !head && status != 204 && status != 304 {
				t.Fatalf("net/http reads a body of %d bytes, not %d, of %q", n, length, passed)
			}
			if left := source.Len() + in.Buffered(); err == nil && left != 0 {
				t.Fatalf("net/http leaves %d bytes of %q", left, passed)
			}
			return
		}
	})
}

// plainHead takes a sound head apart in the plainest way.
func plainHead(text string) (status int, fields map[string][]string, length int64) {
	head, _, _ := strings.Cut(text, "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	status, _ = strconv.Atoi(lines[0][9:12])
	fields, length = map[string][]string{}, -1
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		name, value = textproto.CanonicalMIMEHeaderKey(name), strings.Trim(value, " \t")
		fields[name] = append(fields[name], value)
		if name == "Content-Length" {
			length, _ = strconv.ParseInt(value, 10, 64)
		}
	}
	return status, fields, length
}
