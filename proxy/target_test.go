package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// raw sends bytes as they stand and returns the first answer to them.
func (rg *rig) raw(request string) answer {
	rg.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(rg.url, "http://"))
	if err != nil {
		rg.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		rg.t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		rg.t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return answer{err: err}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if res.Close {
		res.Header.Set("Connection", "close") // ReadResponse takes it out
	}
	return answer{res.StatusCode, res.Header, string(body), err}
}

func TestATargetWithoutAPathPoisonsNoPath(t *testing.T) {
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprintf(w, "%s of %s", r.URL.Path, r.Host)
	}, nil)
	host := strings.TrimPrefix(rg.url, "http://")
	for _, target := range []string{"a:http://evil.example/admin", "http:evil", "x:http://" + host + "/other"} {
		got := rg.raw("GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n")
		if got.status != http.StatusBadRequest {
			t.Errorf("%s: answered %d %q, want 400", target, got.status, got.body)
		}
	}
	if got, want := rg.get("/"), "/ of "+host; got.body != want {
		t.Errorf("the front page is now %q, want %q", got.body, want)
	}
}

func TestThePathIsSentAsItWasWritten(t *testing.T) {
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RequestURI) }, nil)
	host := strings.TrimPrefix(rg.url, "http://")
	for _, target := range []string{"/filters:format(webp)/a!b*c'd.png", "/Products('7')?x=(1)", "/a[b]", "/a;b,c=d@e&f$g+h"} {
		got := rg.raw("GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n")
		if got.body != target {
			t.Errorf("%s was sent as %q", target, got.body)
		}
	}
}

// RFC 9110 section 7.4: an https resource is not for a connection that anybody can read.
func TestHTTPSNeedsASecuredConnection(t *testing.T) {
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) }, nil)
	host := strings.TrimPrefix(rg.url, "http://")
	for target, want := range map[string]int{"http://" + host + "/": 200, "https://" + host + "/": 421} {
		if got := rg.raw("GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n"); got.status != want {
			t.Errorf("%s: %d, want %d", target, got.status, want)
		}
	}
}

// RFC 9112 section 3.2.4: OPTIONS of an absolute target without a path is about the
// server.
func TestOptionsOfTheServer(t *testing.T) {
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-Target", r.RequestURI) }, nil)
	host := strings.TrimPrefix(rg.url, "http://")
	for target, want := range map[string]string{
		"http://" + host:       "", // the origin's net/http answers "OPTIONS *" itself
		"http://" + host + "/": "/",
		"http://" + host + "?": "/?",
		"/":                    "/",
	} {
		got := rg.raw("OPTIONS " + target + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n")
		if saw := got.header.Get("X-Target"); got.status != http.StatusOK || saw != want {
			t.Errorf("%s: %d, asked for as %q, want %q", target, got.status, saw, want)
		}
	}
}

// RFC 9110 sections 7.8 and 15.2: a client of HTTP/1.0 gets no interim response, and
// cannot ask for another protocol.
func TestOldClients(t *testing.T) {
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" || r.Header.Get("Connection") != "" {
			t.Errorf("%s: the origin is asked to upgrade: %v", r.URL.Path, r.Header)
		}
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusProcessing)
		if r.URL.Path == "/fill" {
			w.Header().Set("Cache-Control", "max-age=600")
		}
	}, nil)
	for _, line := range []string{"GET /fill", "GET /pass", "POST /post"} {
		got := rg.raw(line + " HTTP/1.0\r\nHost: " + strings.TrimPrefix(rg.url, "http://") + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		if got.status != http.StatusOK {
			t.Errorf("%s: the first answer is %d", line, got.status)
		}
	}
}

// RFC 9110 section 10.1.4: who sends TE says that it is for the next one only.
func TestTrailersAreAskedForOfTheNextOnly(t *testing.T) {
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Saw", r.Header.Get("TE")+" "+r.Header.Get("Connection"))
	}, nil)
	if got := rg.get("/", "TE", "gzip, trailers").header.Get("X-Saw"); got != "trailers TE" {
		t.Errorf("the origin saw %q", got)
	}
}

// What is noted for the log is what the client said, not what a rule made of it.
func TestTheRecordIsOfTheClient(t *testing.T) {
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.UserAgent()) }, func(h *Handler) {
		h.Rules.Request = HeaderRules{Set: []HeaderRule{constantly("User-Agent", "fixed")}}
	})
	if got := rg.get("/", "User-Agent", "own"); got.body != "fixed" {
		t.Errorf("the origin saw %q", got.body)
	}
	rg.eventually("one record", func() bool { return len(rg.observed()) == 1 })
	if got := rg.observed()[0].UserAgent; got != "own" {
		t.Errorf("noted as %q", got)
	}
}

// An origin that answers before it has read the body is heard before the client has sent
// all of it.
func TestEarlyAnswer(t *testing.T) {
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	}, nil)
	host := strings.TrimPrefix(rg.url, "http://")
	for _, framing := range []string{"Transfer-Encoding: chunked\r\n\r\n5\r\nhel", "Content-Length: 40000\r\n\r\nhel"} {
		if got := rg.raw("POST /early HTTP/1.1\r\nHost: " + host + "\r\n" + framing); got.status != http.StatusRequestEntityTooLarge {
			t.Errorf("%q: %d and %v", framing, got.status, got.err)
		}
	}
}
