package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// raw sends bytes as they stand and returns the first answer to them.
func (rg *rig) raw(request string) answer {
	rg.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(rg.url, "http://"))
	if err != nil {
		rg.t.Fatal(err)
	}
	defer conn.Close()
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
