package wire

import (
	"bufio"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// tight are limits that the heads below keep, and some pass by one.
var tight = Limits{Head: 300, Target: 64, Field: 48, Fields: 8}

// heads are request heads and what becomes of them: read, with what follows and
// whether the door may answer, or refused.
var heads = []struct {
	head  string
	want  *Refusal
	body  body
	plain bool
}{
	// What is plain.
	{"GET / HTTP/1.1\r\nHost: h\r\n\r\n", nil, noBody, true},
	{"HEAD /a?b HTTP/1.1\r\nhOST:h\r\n\r\n", nil, noBody, true},
	{"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", nil, noBody, true},
	{"GET / HTTP/1.1\r\nHost: h\r\nConnection: Keep-Alive\r\n\r\n", nil, noBody, true},
	{"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\nX: b\r\nX:\r\n\r\n", nil, noBody, true},
	{"GET / HTTP/1.1\r\nHost: h\r\nX: \t a b \t\r\n\r\n", nil, noBody, true},
	{"GET / HTTP/1.1\r\nHost: h\r\nX: a\tlong\tvalue\twith\ttabs\r\n\r\n", nil, noBody, true},
	{"GET / HTTP/1.1\r\nHost: h\r\nX: \xe9\xff\x80 and more\r\n\r\n", nil, noBody, true},
	{"GET /a/../b;c=%2F?%zz[|] HTTP/1.1\r\nHost: h:8080\r\n\r\n", nil, noBody, true},
	{"GET //evil/x HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", nil, noBody, true},
	{"GET / HTTP/1.1\r\nHost: h\r\nX_Y: underscores\r\n\r\n", nil, noBody, true}, // dropped further on

	// What is sound, and for net/http.
	{"POST / HTTP/1.1\r\nHost: h\r\n\r\n", nil, noBody, false},
	{"GET / HTTP/1.0\r\nHost: h\r\n\r\n", nil, noBody, false},
	{"GET / HTTP/1.0\r\n\r\n", nil, noBody, false},
	{"GET http://h/ HTTP/1.1\r\nHost: h\r\n\r\n", nil, noBody, false},
	{"GET http://H:80 HTTP/1.1\r\nHost: h\r\n\r\n", nil, noBody, false},
	{"GET https://h?a HTTP/1.1\r\nHost: h:443\r\n\r\n", nil, noBody, false},
	{"GET HTTP://h/ HTTP/1.0\r\n\r\n", nil, noBody, false},
	{"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", nil, noBody, false},
	{"PURGE / HTTP/1.1\r\nHost: h\r\n\r\n", nil, noBody, false},
	{"GET / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\n\r\n", nil, noBody, false},
	{"GET / HTTP/1.1\r\nHost: h\r\nProxy-Connection: close\r\n\r\n", nil, noBody, false},
	{"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", nil, noBody, false},
	{"GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, X\r\n\r\n", nil, noBody, false},
	{"GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\nConnection: X\r\n\r\n", nil, noBody, false},
	{"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n", nil, noBody, false},
	{"GET / HTTP/1.1\r\nHost: h\r\nHTTP2-Settings: AA\r\n\r\n", nil, noBody, false},
	{"GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\n\r\n", nil, noBody, false},
	{"GET / HTTP/1.1\r\nHost: h\r\nTrailer: X\r\n\r\n", nil, noBody, false},
	{"GET / HTTP/1.1\r\nHost: h\r\ncontent-LENGTH: 0\r\n\r\n", nil, noBody, false},
	{"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n", nil, lengthy, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 010\r\n\r\n", nil, lengthy, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9223372036854775807\r\n\r\n", nil, lengthy, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked \r\n\r\n", nil, chunked, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X, Y\r\n\r\n", nil, chunked, false},

	// S1, CL.TE.
	{"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", badFraming, 0, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n", badFraming, 0, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X, content-length\r\n\r\n", badTrailer, 0, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: Transfer-Encoding\r\n\r\n", badTrailer, 0, false},

	// S2, TE.TE.
	{"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: ,chunked\r\n\r\n", badCoding, 0, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n\r\n", badCoding, 0, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, identity\r\n\r\n", badCoding, 0, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", badCoding, 0, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \"chunked\"\r\n\r\n", badCoding, 0, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked;a=b\r\n\r\n", badCoding, 0, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \xa0chunked\r\n\r\n", badCoding, 0, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", badValue, 0, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", badCoding, 0, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n", badCoding, 0, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", unknownCoding, 0, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n", unknownCoding, 0, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\n\r\n", unknownCoding, 0, false},

	// S3, lengths.
	{"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", badLength, 0, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", badLength, 0, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3, 3\r\n\r\n", badLength, 0, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\n", badLength, 0, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", badLength, 0, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x10\r\n\r\n", badLength, 0, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1_0\r\n\r\n", badLength, 0, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1 0\r\n\r\n", badLength, 0, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1e1\r\n\r\n", badLength, 0, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\n", badLength, 0, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9223372036854775808\r\n\r\n", badLength, 0, false},
	{"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551617\r\n\r\n", badLength, 0, false},

	// S4, expectations.
	{"PUT / HTTP/1.1\r\nHost: h\r\nExpect: y 100-continue\r\n\r\n", badExpectation, 0, false},
	{"PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue, x\r\n\r\n", badExpectation, 0, false},
	{"PUT / HTTP/1.1\r\nHost: h\r\nExpect:\r\n\r\n", badExpectation, 0, false},
	{"PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nExpect: 100-continue\r\n\r\n", badExpectation, 0, false},

	// S7, line ends.
	{"GET / HTTP/1.1\nHost: h\r\n\r\n", badLineEnd, 0, false},
	{"GET / HTTP/1.1\r\nHost: h\n\r\n", badLineEnd, 0, false},
	{"GET / HTTP/1.1\r\nHost: h\r\n\n", badLineEnd, 0, false},
	{"GET / HTTP/1.1\r\nHost: h\r\nX: a\nContent-Length: 5\r\n\r\n", badLineEnd, 0, false},
	{"GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n", badLineEnd, 0, false},
	{"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\r\n\r\n", badLineEnd, 0, false},
	{"GET / HTTP/1.1\r\nHost: h\r\n\rX: a\r\n\r\n", badName, 0, false},
	{"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", badLineEnd, 0, false},
	{"\rGET / HTTP/1.1\r\nHost: h\r\n\r\n", badLineEnd, 0, false},
	{"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", badRequestLine, 0, false}, // one empty line is forgiven, not two
	{"GET / HTTP/1.1\r\r\nHost: h\r\n\r\n", badRequestLine, 0, false},

	// S8, names, and D2, values.
	{"GET / HTTP/1.1\r\nHost: h\r\nContent-Length : 5\r\n\r\n", badName, 0, false},
	{"GET / HTTP/1.1\r\nHost: h\r\nContent-Length\t: 5\r\n\r\n", badName, 0, false},
	{"GET / HTTP/1.1\r\nHost: h\r\n\tContent-Length: 5\r\n\r\n", foldedLine, 0, false},
	{"GET / HTTP/1.1\r\n Host: h\r\n\r\n", foldedLine, 0, false},
	{"GET / HTTP/1.1\r\nHost: h\r\nX: y\r\n folded\r\n\r\n", foldedLine, 0, false},
	{"GET / HTTP/1.1\r\nHost: h\r\n \r\n\r\n", foldedLine, 0, false},
	{"GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n", badName, 0, false},
	{"GET / HTTP/1.1\r\nHost: h\r\nnocolon\r\n\r\n", badName, 0, false},
	{"GET / HTTP/1.1\r\nHost: h\r\n: y\r\n\r\n", badName, 0, false},
	{"GET / HTTP/1.1\r\nHost: h\r\nX\x00: y\r\n\r\n", badName, 0, false},
	{"GET / HTTP/1.1\r\nHost: h\r\nX\x85: y\r\n\r\n", badName, 0, false},
	{"GET / HTTP/1.1\r\nHost: h\r\nX\"Y: y\r\n\r\n", badName, 0, false},
	{"GET / HTTP/1.1\r\nHost: h\r\nX: \x00\r\n\r\n", badValue, 0, false},
	{"GET / HTTP/1.1\r\nHost: h\r\nX: bell \a in a long value\r\n\r\n", badValue, 0, false},
	{"GET / HTTP/1.1\r\nHost: h\r\nX: long value, then \x7f\r\n\r\n", badValue, 0, false},
	{"GET / HTTP/1.1\r\nHost: h\r\nX: \ttab and \x1f together\r\n\r\n", badValue, 0, false},

	// S9, versions.
	{"GET / HTTP/1.9\r\nHost: h\r\n\r\n", badVersion, 0, false},
	{"GET / HTTP/0.9\r\n\r\n", badVersion, 0, false},
	{"GET / HTTP/3.0\r\nHost: h\r\n\r\n", badVersion, 0, false},
	{"PRI * HTTP/2.0\r\n\r\n", badVersion, 0, false},
	{"GET /\r\n\r\n", badRequestLine, 0, false},
	{"GET / HTTP/1.10\r\nHost: h\r\n\r\n", badRequestLine, 0, false},
	{"GET / HTTP/11\r\nHost: h\r\n\r\n", badRequestLine, 0, false},
	{"GET / http/1.1\r\nHost: h\r\n\r\n", badRequestLine, 0, false},
	{"GET / HTTP/1.1 \r\nHost: h\r\n\r\n", badRequestLine, 0, false},
	{"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", badFraming, 0, false},

	// Methods and targets.
	{"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n", badMethod, 0, false},
	{"TRACE / HTTP/1.1\r\nHost: h\r\n\r\n", badMethod, 0, false},
	{"G(T / HTTP/1.1\r\nHost: h\r\n\r\n", badRequestLine, 0, false},
	{strings.Repeat("M", maxMethod+1) + " / HTTP/1.1\r\nHost: h\r\n\r\n", badRequestLine, 0, false},
	{" GET / HTTP/1.1\r\nHost: h\r\n\r\n", badRequestLine, 0, false},
	{"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", badTarget, 0, false},
	{"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", badTarget, 0, false},
	{"GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n", badRequestLine, 0, false},
	{"GET * HTTP/1.1\r\nHost: h\r\n\r\n", badTarget, 0, false},
	{"GET a HTTP/1.1\r\nHost: h\r\n\r\n", badTarget, 0, false},
	{"GET /#a HTTP/1.1\r\nHost: h\r\n\r\n", badTarget, 0, false},
	{"GET /?#a HTTP/1.1\r\nHost: h\r\n\r\n", badTarget, 0, false},
	{"GET /\x7f HTTP/1.1\r\nHost: h\r\n\r\n", badTarget, 0, false},
	{"GET /\x00 HTTP/1.1\r\nHost: h\r\n\r\n", badTarget, 0, false},
	{"GET /\r HTTP/1.1\r\nHost: h\r\n\r\n", badTarget, 0, false},
	{"GET /\xc3\xa9 HTTP/1.1\r\nHost: h\r\n\r\n", badTarget, 0, false},
	{"GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n", badTarget, 0, false},
	{"GET /%4 HTTP/1.1\r\nHost: h\r\n\r\n", badTarget, 0, false},
	{"GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n", badTarget, 0, false},
	{"GET http:/// HTTP/1.1\r\nHost: h\r\n\r\n", badTarget, 0, false},
	{"GET http://a@h/ HTTP/1.1\r\nHost: h\r\n\r\n", badTarget, 0, false},

	// P4, hosts.
	{"GET / HTTP/1.1\r\n\r\n", badHost, 0, false},
	{"GET / HTTP/1.1\r\nHost:\r\n\r\n", badHost, 0, false},
	{"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", badHost, 0, false},
	{"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", badHost, 0, false},
	{"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", badHost, 0, false},
	{"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", badHost, 0, false},
	{"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", badHost, 0, false},
	{"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", badHost, 0, false},
	{"GET / HTTP/1.1\r\nHost: a:bad\r\n\r\n", badHost, 0, false},
	{"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", badHost, 0, false},
	{"GET / HTTP/1.1\r\nHost: a:080\r\n\r\n", badHost, 0, false},
	{"GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n", badHost, 0, false},
	{"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", badHost, 0, false},
	{"GET / HTTP/1.1\r\nHost: [::1]a\r\n\r\n", badHost, 0, false},
	{"GET / HTTP/1.1\r\nHost: [1.2.3.4]\r\n\r\n", badHost, 0, false},
	{"GET / HTTP/1.1\r\nHost: [fe80::1%25e]\r\n\r\n", badHost, 0, false},
	{"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", badHost, 0, false},
	{"GET http://a/ HTTP/1.1\r\nHost: a:8080\r\n\r\n", badHost, 0, false},
	{"GET https://a/ HTTP/1.1\r\nHost: a:80\r\n\r\n", badHost, 0, false},
	{"GET http://a/ HTTP/1.1\r\n\r\n", badHost, 0, false},

	// Limits, at the bound and one past it.
	{"GET /" + strings.Repeat("t", 63) + " HTTP/1.1\r\nHost: h\r\n\r\n", nil, noBody, true},
	{"GET /" + strings.Repeat("t", 64) + " HTTP/1.1\r\nHost: h\r\n\r\n", longTarget, 0, false},
	{"GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("v", 47) + "\r\n\r\n", nil, noBody, true},
	{"GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("v", 48) + "\r\n\r\n", largeHead, 0, false},
	{"GET / HTTP/1.1\r\nHost: h\r\nX:" + strings.Repeat("v", 48) + "\r\n\r\n", largeHead, 0, false},
	{"GET / HTTP/1.1\r\nHost: h\r\nX:" + strings.Repeat(" ", 48) + "\r\n\r\n", nil, noBody, true},
	{"GET / HTTP/1.1\r\nHost: h\r\nX:" + strings.Repeat(" ", 49) + "\r\n\r\n", largeHead, 0, false},
	{"GET / HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("X: v\r\n", 7) + "\r\n", nil, noBody, true},
	{"GET / HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("X: v\r\n", 8) + "\r\n", manyFields, 0, false},
	{padded(300), nil, noBody, true},
	{padded(301), largeHead, 0, false},
}

// padded is a head of a length within tight's other limits.
func padded(size int) string {
	head := "GET / HTTP/1.1\r\nHost: h\r\n"
	const end = "\r\n"
	for left := size - len(head) - len(end); left > 0; left = size - len(head) - len(end) {
		n := min(left, 50)
		if rest := left - n; rest > 0 && rest < 10 {
			n -= 10 // room for one more field
		}
		head += "X: " + strings.Repeat("v", n-5) + "\r\n"
	}
	return head + end
}

func TestHeads(t *testing.T) {
	for _, test := range heads {
		const next = "GET /next HTTP/1.1\r\nHost: h\r\n\r\n" // must not make a difference
		for _, text := range []string{test.head, test.head + next} {
			var r Request
			n, no := r.read([]byte(text), &tight)
			switch {
			case no != test.want:
				t.Errorf("%q: refused with %+v, want %+v", text, no, test.want)
			case no != nil:
				if n != 0 {
					t.Errorf("%q: refused, and %d bytes were read", text, n)
				}
			case n != len(test.head) || r.size != n || r.body != test.body || r.plain() != test.plain:
				t.Errorf("%q: %d bytes, body %d, plain %v; want %d, %d, %v", text, n, r.body, r.plain(), len(test.head), test.body, test.plain)
			}
		}
	}
}

// TestHeadsInPieces: whatever of a head has come, it is either refused as it will be
// when all of it has, or waited for.
func TestHeadsInPieces(t *testing.T) {
	for _, test := range heads {
		if test.want != nil && test.want.Status >= 417 && test.want != badExpectation {
			continue // see TestLimitsOfUnfinishedHeads
		}
		var r Request
		for i := range len(test.head) {
			n, no := r.read([]byte(test.head[:i]), &tight)
			if n != 0 {
				t.Errorf("%q: %d bytes are a head", test.head[:i], n)
			}
			if no != nil && (test.want == nil || no.Status != test.want.Status) {
				t.Errorf("%q: refused with %+v, the whole with %+v", test.head[:i], no, test.want)
			}
		}
	}
}

// TestEarlyRefusals: nobody need go on with what can no longer become a request.
func TestEarlyRefusals(t *testing.T) {
	for _, test := range []struct {
		begun string
		want  *Refusal
	}{
		{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", badRequestLine}, // a TLS ClientHello
		{"\x16\x03\x01\n", badRequestLine},
		{"\x00", badRequestLine},
		{"\r\n ", badRequestLine},
		{"GET / HTTP/1.1\n", badLineEnd},
		{"\n", badLineEnd},
		{"\rG", badLineEnd},
		{"GET /# HTTP/1.1\r\n", badTarget},
		{"GET / HTTP/1.1\r\nA B: c\r\n", badName},
		{"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n", badLength},
		{"GET / HTTP/1.1\r\nHost: h\r\nX: y\r\n z\r\n", foldedLine},
		{"G", nil}, {"", nil}, {"\r", nil}, {"\r\n", nil}, {"GET / HTTP/1.1\r", nil}, {"GET / HTTP/1.1\r\nHost: h\r\n\r", nil},
	} {
		var r Request
		if n, no := r.read([]byte(test.begun), &tight); n != 0 || no != test.want {
			t.Errorf("%q: %d bytes and %+v, want %+v", test.begun, n, no, test.want)
		}
	}
}

// TestLimitsOfUnfinishedHeads: a head that has not ended is refused once it is past
// a bound whatever follows, and not before.
func TestLimitsOfUnfinishedHeads(t *testing.T) {
	const begun = "GET / HTTP/1.1\r\nHost: h\r\n"
	for name, test := range map[string]struct {
		most string // that may still become a request
		more string
		want *Refusal
	}{
		"method":         {strings.Repeat("M", maxMethod), "M", badRequestLine},
		"target":         {"GET /" + strings.Repeat("t", 63) + " HTTP/1.1\r", "x", longTarget},
		"field":          {begun + "X: " + strings.Repeat("v", 47) + "\r", "x", largeHead},
		"field of space": {begun + "X:" + strings.Repeat(" ", 48), " ", largeHead},
		"name":           {begun + strings.Repeat("n", 50), "n", largeHead},
		"fields":         {begun + strings.Repeat("X: v\r\n", 7), "X: v\r\n", manyFields},
		"head":           {padded(301)[:299], "\r", largeHead},
		"head, no line":  {"\r\n" + strings.Repeat("M", 4), "", nil},
	} {
		var r Request
		if n, no := r.read([]byte(test.most), &tight); n != 0 || no != nil {
			t.Errorf("%s: %q: %d bytes and %+v, want none of both", name, test.most, n, no)
		}
		if n, no := r.read([]byte(test.most+test.more), &tight); n != 0 || no != test.want {
			t.Errorf("%s: one more than %q: %d bytes and %+v, want %+v", name, test.most, n, no, test.want)
		}
	}
	line := Limits{Head: 100} // in the request line
	var r Request
	if _, no := r.read([]byte("GET /"+strings.Repeat("t", 94)), &line); no != nil {
		t.Errorf("99 bytes of a line: %+v", no)
	}
	if _, no := r.read([]byte("GET /"+strings.Repeat("t", 95)), &line); no != largeHead {
		t.Errorf("100 bytes of a line that has not ended: %+v", no)
	}
}

// TestFields: what a head says is told as it was said.
func TestFields(t *testing.T) {
	var r Request
	head := "GET /a?b HTTP/1.1\r\nhost: H:80\r\nX-A:  1 \r\nACCEPT: */*\r\nx-a: 2\r\ncache-control: a\r\n\r\n"
	if n, no := r.read([]byte(head), new(Limits)); n != len(head) || no != nil {
		t.Fatal(n, no)
	}
	want := []Field{{"X-A", "1", 0}, {"ACCEPT", "*/*", Accept}, {"x-a", "2", 0}, {"cache-control", "a", CacheControl}}
	if r.Method != "GET" || r.Target != "/a?b" || r.Host != "H:80" || !slices.Equal(r.Fields, want) {
		t.Errorf("got %+v", r)
	}
	if r.Has != Host|Accept|CacheControl {
		t.Errorf("has %b", r.Has)
	}
	if got := r.Values(nil, "x-a"); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("values %q", got)
	}
}

// TestKnownFields: each is found by its name, in any case, and by no other.
func TestKnownFields(t *testing.T) {
	var all FieldSet
	for size, known := range fieldsBySize {
		for _, k := range known {
			if len(k.name) != size || fieldOf(k.name) != k.is || fieldOf(strings.ToUpper(k.name)) != k.is || fieldOf(k.name+"x") != 0 {
				t.Errorf("%s is not found", k.name)
			}
			if all&k.is != 0 {
				t.Errorf("%s is another's", k.name)
			}
			all |= k.is
		}
	}
	if all != XForwardedFor<<1-1 {
		t.Errorf("fields %b have no name", all^(XForwardedFor<<1-1))
	}
	if fieldOf(strings.Repeat("x", 100)) != 0 || fieldOf("") != 0 {
		t.Error("a field that is not known has a bit")
	}
}

// TestReasons: whatever is refused has one of the reasons, each of them once.
func TestReasons(t *testing.T) {
	reasons := Reasons()
	if slices.Sort(reasons); len(slices.Compact(slices.Clone(reasons))) != len(reasons) {
		t.Errorf("twice in %q", reasons)
	}
	seen := map[string]bool{ReasonChunk: true, ReasonConnections: true, ReasonHeadTimeout: true,
		ReasonBodyTimeout: true, ReasonDescriptors: true} // elsewhere
	for _, test := range heads {
		if test.want != nil {
			seen[test.want.Reason] = true
		}
	}
	if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, reasons) {
		t.Errorf("refused for %q, want %q", got, reasons)
	}
}

// TestProblem: what a client is told can be read, and says that this is the end.
func TestProblem(t *testing.T) {
	for _, test := range heads {
		if test.want == nil {
			continue
		}
		res := problemOf(t, test.want)
		if res.StatusCode != test.want.Status || !res.Close || res.Header.Get("Cache-Control") != "no-store" ||
			(res.StatusCode == http.StatusMethodNotAllowed) != (res.Header.Get("Allow") != "") {
			t.Errorf("%s: %+v", test.want.Reason, res)
		}
	}
}

// FuzzHead: whatever is read, net/http reads as the same request; and the door says
// the same of it when it comes in two pieces.
func FuzzHead(f *testing.F) {
	for _, test := range heads {
		f.Add([]byte(test.head), uint16(len(test.head)/2))
	}
	f.Fuzz(func(t *testing.T, text []byte, at uint16) {
		var r, begun Request
		limits := new(Limits)
		if len(text)%2 == 0 {
			limits = &tight
		}
		n, no := r.read(text, limits)
		piece := text[:min(int(at), len(text))]
		switch m, early := begun.read(piece, limits); {
		case early != nil && n > 0 && len(piece) < n:
			t.Fatalf("%q: refused with %+v, and the whole is read", piece, early)
		case m > 0 && m != n:
			t.Fatalf("%q: ends after %d bytes, and with more after %d", piece, m, n)
		}
		if n == 0 {
			return
		}
		if no != nil {
			t.Fatalf("%q: both read and refused with %+v", text, no)
		}
		head := string(text[:n])
		if r.size != n {
			t.Fatalf("%q: size %d of %d", head, r.size, n)
		}
		in := bufio.NewReader(strings.NewReader(head))
		if strings.HasPrefix(head, "\r\n") {
			in.Discard(2) // net/http forgives no empty line
		}
		want, err := http.ReadRequest(in)
		if err != nil {
			t.Fatalf("%q: net/http says %v", head, err)
		}
		if in.Buffered() > 0 {
			t.Fatalf("%q: net/http has %d bytes left", head, in.Buffered())
		}
		compare(t, &r, want)
	})
}

// compare fails the test if the request is not what net/http takes it for. net/http
// leaves out of its fields what it has understood, and joins or adds some.
func compare(t *testing.T, r *Request, want *http.Request) {
	t.Helper()
	host := r.Host
	if r.Target[0] != '/' && r.Target != "*" { // the target's host goes before Host, and may differ in case and in a default port
		authority, ok := authorityOf(r.Target)
		if !ok || r.hosts > 0 && !sameAuthority(authority, host, r.Target) {
			t.Fatalf("%q is for %q and %q", r.Target, authority, host)
		}
		host = authority
	}
	if r.Method != want.Method || r.Target != want.RequestURI || host != want.Host || r.old != (want.ProtoMinor == 0) || want.ProtoMajor != 1 {
		t.Fatalf("read %+v, net/http has %+v", r, want)
	}
	length := r.length
	if r.body == chunked {
		length = -1
	}
	if want.ContentLength != length || (r.body == chunked) != slices.Equal(want.TransferEncoding, []string{"chunked"}) || len(want.TransferEncoding) > 1 {
		t.Fatalf("read body %d, length %d; net/http has %d and %q", r.body, r.length, want.ContentLength, want.TransferEncoding)
	}
	fields := make(http.Header)
	for _, f := range r.Fields {
		if f.Is == TransferEncoding || f.Is == Trailer && r.body == chunked {
			continue
		}
		fields.Add(f.Name, f.Value)
		if f.Is != fieldOf(f.Name) || f.Is&r.Has != f.Is {
			t.Fatalf("%q is taken for %b, among %b", f.Name, f.Is, r.Has)
		}
	}
	if p := fields["Pragma"]; len(p) > 0 && p[0] == "no-cache" && fields["Cache-Control"] == nil {
		fields.Set("Cache-Control", "no-cache") // as net/http has it
	}
	if !maps.EqualFunc(fields, want.Header, slices.Equal) {
		t.Fatalf("read fields %q, net/http has %q", fields, want.Header)
	}
	if r.plain() && (want.Close || want.ContentLength != 0 || fmt.Sprint(want.URL.Scheme, want.URL.Host) != "") {
		t.Fatalf("%+v is not plain", want)
	}
}
