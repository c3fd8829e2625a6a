package wire

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
)

// bodies are chunked bodies, each followed by something else.
var bodies = []struct {
	body string
	data int // bytes of data
	rest string
}{
	{"0\r\n\r\n", 0, ""},
	{"0\r\n\r\n", 0, "GET / HTTP/1.1\r\n"},
	{"5\r\nhello\r\n0\r\n\r\n", 5, "\r\n"},
	{"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", 11, "5\r\nhello\r\n0\r\n\r\n"},
	{"b\r\n0\r\n\r\nGET / \r\n0\r\n\r\n", 11, "x"},
	{"A\r\n0123456789\r\n00\r\n\r\n", 10, ""},
	{"000000000000000a\r\n0123456789\r\n0000000000000000\r\n\r\n", 10, "0"},
	{"1;z\r\na\r\n1; a\r\nb\r\n1;a=b; c=\"d\"\r\nc\r\n0;end\r\n\r\n", 3, ""},
	{"1;\t a=\"\xe9\"\r\na\r\n0\r\n\r\n", 1, ""},
	{"1;" + strings.Repeat("e", maxChunkExt) + "\r\na\r\n0\r\n\r\n", 1, ""},
	{strings.Repeat("1;"+strings.Repeat("e", maxChunkExt)+"\r\na\r\n", maxChunkExtras/maxChunkExt) + "0\r\n\r\n", maxChunkExtras / maxChunkExt, ""},
	{"0\r\nX: y\r\n\r\n", 0, "GET"},
	{"0\r\nX:\r\nY: \t z \r\nx-y:\xe9\r\n\r\n", 0, "GET"},
	{"0\r\nX: " + strings.Repeat("v", maxTrailerBytes-len("X: \r\n")) + "\r\n\r\n", 0, "GET"},
}

// malformedBodies end before what they end with.
var malformedBodies = []string{
	// S5, extensions.
	"2\r\r", "2\r;", "2;a\n", "2;a\r\r", "2;a\rb", "2;\x00", "2;a\x7f", "2\t", ";",
	"1;" + strings.Repeat("e", maxChunkExt+1),
	strings.Repeat("1;"+strings.Repeat("e", maxChunkExt)+"\r\na\r\n", maxChunkExtras/maxChunkExt) + "1;e",
	// S6, sizes.
	"0x", "+", "-", " ", "0_", "\r", "g", "2 ", "\t", ".", "1.",
	"00000000000000000", "0000000000000000a", "1111111111111111", "800000000000000", "fffffffffffffff",
	"2;\r", "2; \r", "2;;", "2;=", "2;a=\r", "2;a \r", "2;a b", "2;a=b ", "2;a=\"\r", "2;a=\"b\"c", "2;a=\"\\\r", "2;a=;", "2;\x00", "2;a\n",
	// S7, line ends.
	"2\n", "\n", "2\rx", "2\r\naax", "2\r\naa\n", "2\r\naa\rx", "2\r\naa\r\r", "2\r\naaa", "0\n", "0\r\n\n", "0\r\n\rx", "0\r\n\r\r",
	"2\r\naa\r\n\r",
	// Trailers.
	"0\r\n ", "0\r\n\t", "0\r\n:", "0\r\nX ", "0\r\nX\r", "0\r\nX\n", "0\r\n\x00", "0\r\nX: \x00", "0\r\nX: y\n", "0\r\nX: y\rz", "0\r\nX: y\r\n ", "0\r\nX: \x7f",
	"0\r\nX: " + strings.Repeat("v", maxTrailerBytes-len("X: ")+1),
	"0\r\n" + strings.Repeat("n", maxTrailerBytes+1),
	"0\r\n" + strings.Repeat("X:\r\n", maxTrailerBytes/4) + "X",
}

// feed has the framing take the text in pieces of a size. It returns how many bytes
// belong to the body, and whether it ended.
func feed(f *framing, text string, size int) (n int, ended bool, no *Refusal) {
	for n < len(text) && !ended && no == nil {
		var m int
		piece := text[n:min(n+size, len(text))]
		m, ended, no = f.take([]byte(piece))
		if n += m; m < len(piece) && !ended && no == nil {
			panic("a part of a piece was taken")
		}
	}
	return n, ended, no
}

func TestChunks(t *testing.T) {
	for _, test := range bodies {
		text := test.body + test.rest
		for size := 1; size <= len(text); size++ {
			f := framing{body: chunked}
			if n, ended, no := feed(&f, text, size); n != len(test.body) || !ended || no != nil {
				t.Fatalf("%q in pieces of %d: %d bytes, ended %v, %+v; want %d", text, size, n, ended, no, len(test.body))
			}
		}
		for at := range test.body { // in two pieces, and no end before the end
			f := framing{body: chunked}
			if n, ended, no := f.take([]byte(test.body[:at])); n != at || ended || no != nil {
				t.Fatalf("%q: %d bytes, ended %v, %+v", test.body[:at], n, ended, no)
			}
			if n, ended, no := f.take([]byte(text[at:])); at+n != len(test.body) || !ended || no != nil {
				t.Fatalf("%q then %q: %d bytes, ended %v, %+v", test.body[:at], text[at:], n, ended, no)
			}
		}
		if data, rest, err := readChunks(text); data != test.data || rest != test.rest || err != nil {
			t.Errorf("%q: net/http reads %d bytes and leaves %q, with error %v", text, data, rest, err)
		}
	}
}

func TestMalformedChunks(t *testing.T) {
	for _, body := range malformedBodies {
		for size := 1; size <= len(body); size++ {
			f := framing{body: chunked}
			if n, ended, no := feed(&f, body, size); n != len(body) || ended || no != badChunk {
				t.Fatalf("%q in pieces of %d: %d bytes of %d, ended %v, %+v", body, size, n, len(body), ended, no)
			}
		}
	}
}

// TestHugeChunk: the largest size that is taken can be counted down.
func TestHugeChunk(t *testing.T) {
	f := framing{body: chunked}
	if _, _, no := feed(&f, "7ffffffffffffff\r\nabc", 4); no != nil || f.left != 1<<59-1-3 || f.step != chunkData {
		t.Errorf("%+v %+v", f, no)
	}
}

func TestLengths(t *testing.T) {
	for _, length := range []int64{1, 2, 10, 1 << 40} {
		for size := 1; size < 12; size++ {
			r := &Request{body: lengthy, length: length}
			f := follow(r)
			text := "0123456789and more"
			n, ended, no := feed(&f, text, size)
			if want := int(min(length, int64(len(text)))); n != want || ended != (length <= 10) || no != nil {
				t.Errorf("length %d in pieces of %d: %d bytes, ended %v, %+v", length, size, n, ended, no)
			}
		}
	}
}

// readChunks reads a chunked body as net/http does. It returns how much data there
// was, and what came after the body.
func readChunks(text string) (data int, rest string, err error) {
	in := bufio.NewReader(strings.NewReader("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + text))
	r, err := http.ReadRequest(in)
	if err != nil {
		return 0, "", err
	}
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		return int(n), "", err
	}
	left, err := io.ReadAll(in)
	return int(n), string(left), err
}

// FuzzChunks: a body that is followed to its end, net/http reads to the same end,
// with as much data; and it makes no difference in which pieces it comes.
func FuzzChunks(f *testing.F) {
	for _, test := range bodies {
		f.Add(test.body+test.rest, uint8(3))
	}
	for _, body := range malformedBodies {
		f.Add(body+"\r\n0\r\n\r\n", uint8(1))
	}
	f.Fuzz(func(t *testing.T, text string, size uint8) {
		whole := framing{body: chunked}
		n, ended, no := whole.take([]byte(text))
		pieces := framing{body: chunked}
		m, endedToo, noToo := feed(&pieces, text, int(size)+1)
		if n != m || ended != endedToo || no != noToo {
			t.Fatalf("%q: at once %d, %v, %v; in pieces of %d %d, %v, %v", text, n, ended, no, int(size)+1, m, endedToo, noToo)
		}
		if !ended {
			return
		}
		data, rest, err := readChunks(text)
		if err != nil || rest != text[n:] {
			t.Fatalf("%q: net/http leaves %q of %q, with error %v", text, rest, text[n:], err)
		}
		if want := dataOf(text[:n]); data != want {
			t.Fatalf("%q: %d bytes of data, net/http has %d", text[:n], want, data)
		}
	})
}

// dataOf counts the bytes that the framing takes for data.
func dataOf(body string) (data int) {
	f := framing{body: chunked}
	for i := range len(body) {
		if f.step == chunkData {
			data++
		}
		f.take([]byte{body[i]})
	}
	return data
}
