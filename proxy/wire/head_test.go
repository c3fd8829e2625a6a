package wire

import (
	"bufio"
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestKinds: what may be followed by another head, and what may be answered here.
func TestKinds(t *testing.T) {
	const end = "\r\n\r\n"
	for _, test := range []struct {
		head     string
		bodiless bool
		answered bool
	}{
		{"GET / HTTP/1.1\r\nHost: h" + end, true, true},
		{"HEAD /a?b HTTP/1.1\r\nhOST:h" + end, true, true},
		{"GET / HTTP/1.1\r\nHost: h\r\nConnection: Keep-Alive" + end, true, true},
		{"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\nX: b" + end, true, true},
		{"GET / HTTP/1.1\r\nHost: h\r\nX:" + end, true, true},
		{"GET / HTTP/1.1\r\nHost: h\r\nTE: trailers" + end, true, false},
		{"GET / HTTP/1.1\r\nHost: h\r\nProxy-Connection: close" + end, true, false},

		{"POST / HTTP/1.1\r\nHost: h" + end, false, false},
		{"GET / HTTP/1.0\r\nHost: h" + end, false, false},
		{"GET / HTTP/1.1 \r\nHost: h" + end, false, false},
		{"GET  / HTTP/1.1\r\nHost: h" + end, false, false},
		{"GET http://h/ HTTP/1.1\r\nHost: h" + end, false, false},
		{"GET * HTTP/1.1\r\nHost: h" + end, false, false},
		{"GET /#a HTTP/1.1\r\nHost: h" + end, false, false},
		{"GET /\x7f HTTP/1.1\r\nHost: h" + end, false, false},
		{"GET /\xc3\xa9 HTTP/1.1\r\nHost: h" + end, false, false},
		{"\r\nGET / HTTP/1.1\r\nHost: h" + end, false, false},
		{"GET / HTTP/1.1" + end, false, false},
		{"GET / HTTP/1.1\r\nX: y" + end, false, false},
		{"GET / HTTP/1.1\r\nHost:" + end, false, false},
		{"GET / HTTP/1.1\r\nHost: a b" + end, false, false},
		{"GET / HTTP/1.1\r\nHost: a, b" + end, false, false},
		{"GET / HTTP/1.1\r\nHost: a@b" + end, false, false},
		{"GET / HTTP/1.1\r\nHost: h\r\nHost: h" + end, false, false},
		{"GET / HTTP/1.1\r\nHost: h\r\nConnection: close" + end, false, false},
		{"GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, X" + end, false, false},
		{"GET / HTTP/1.1\r\nHost: h\r\ncontent-LENGTH: 0" + end, false, false},
		{"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked" + end, false, false},
		{"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket" + end, false, false},
		{"GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue" + end, false, false},
		{"GET / HTTP/1.1\r\nHost: h\r\nTrailer: X" + end, false, false},
		{"GET / HTTP/1.1\r\nHost: h\r\nX : y" + end, false, false},
		{"GET / HTTP/1.1\r\nHost: h\r\n X: y" + end, false, false},
		{"GET / HTTP/1.1\r\nHost: h\r\nX: y\r\n folded" + end, false, false},
		{"GET / HTTP/1.1\r\nHost: h\r\nno colon" + end, false, false},
		{"GET / HTTP/1.1\r\nHost: h\r\n: y" + end, false, false},
		{"GET / HTTP/1.1\r\nHost: h\r\nX\x00: y" + end, false, false},
		{"GET / HTTP/1.1\r\nHost: h\r\nX: \x00" + end, false, false},
		{"GET / HTTP/1.1\r\nHost: h\r\nX: a\nContent-Length: 5" + end, false, false},
		{"GET / HTTP/1.1\r\nHost: h\r\nX: a\rb" + end, false, false},
		{"GET / HTTP/1.1\r\nHost: h\r\nX: \xe9" + end, false, false},
		{"GET / HTTP/1.1\nHost: h" + end, false, false},
	} {
		pool := newAnswerPool(context.Background())
		target, kind := parse(test.head, pool.get())
		if kind == bodiless != test.bodiless || target != "" != test.answered {
			t.Errorf("%q: kind %d, target %q", test.head, kind, target)
		}
		if _, alone := parse(test.head, nil); alone != kind {
			t.Errorf("%q: kind %d without an answer, %d with one", test.head, alone, kind)
		}
	}
}

// FuzzParse: what is taken for bodiless, net/http reads as the same request, and
// nothing is left over.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"GET /a?b=c HTTP/1.1\r\nHost: h\r\nAccept: */*\r\nx-a: 1\r\nX-A: 2\r\n\r\n",
		"HEAD //a/%2e%2E/;b HTTP/1.1\r\nHost: h:80\r\nCookie: a=b\r\n\r\n",
		"GET /? HTTP/1.1\r\nhost:h\r\nTE: trailers\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\nPragma: no-cache\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n\r\n",
	} {
		f.Add(seed)
	}
	pool := newAnswerPool(context.Background())
	f.Fuzz(func(t *testing.T, text string) {
		end := headEnd([]byte(text))
		if end == 0 {
			return
		}
		head := text[:end]
		a := pool.get()
		defer pool.put(a)
		target, kind := parse(head, a)
		if kind != bodiless {
			return
		}
		r := bufio.NewReader(strings.NewReader(head))
		want, err := http.ReadRequest(r)
		if err != nil {
			if target == "" || !a.aim(target) {
				return
			}
			t.Fatalf("%q: net/http says %v", head, err)
		}
		if want.ContentLength != 0 || want.TransferEncoding != nil || want.Close || r.Buffered() > 0 {
			t.Fatalf("%q: net/http expects more than a head", head)
		}
		if target == "" || !a.aim(target) {
			return
		}
		got := &a.request
		if got.Method != want.Method || got.Host != want.Host || got.RequestURI != want.RequestURI || *got.URL != *want.URL {
			t.Fatalf("%q: read as %q %q %+v", head, got.Method, got.Host, got.URL)
		}
		if want.Header.Get("Pragma") == "no-cache" {
			return // net/http adds a Cache-Control of its own
		}
		if !maps.EqualFunc(got.Header, want.Header, slices.Equal) {
			t.Fatalf("%q: fields %v, net/http has %v", head, got.Header, want.Header)
		}
	})
}
