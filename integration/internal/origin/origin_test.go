package origin

import (
	"errors"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
)

// An origin that is down refuses, and its port is nobody else's.
func TestDownKeepsThePort(t *testing.T) {
	o := Start(t, func(http.ResponseWriter, *http.Request) {})
	authority := strings.TrimPrefix(o.URL, "http://")
	for range 3 {
		up := o.Down(t)
		if _, err := net.Dial("tcp", authority); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("down: %v, want a refusal", err)
		}
		if _, err := net.Listen("tcp", authority); !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatalf("down: listening on its port: %v, want that it is taken", err)
		}
		up()
		answer, err := http.Get(o.URL)
		if err != nil {
			t.Fatalf("up: %v", err)
		}
		answer.Body.Close()
	}
}
