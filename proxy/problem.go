package proxy

import (
	"fmt"
	"net/http"
	"strconv"
)

// Problem answers with a small problem+json body (RFC 9457) of our own: a status,
// its name and one sentence, nothing from inside. It is never stored.
func Problem(w http.ResponseWriter, status int, title string) {
	body := problemBody(status, title)
	h := w.Header()
	h["Content-Type"] = []string{"application/problem+json"}
	h["Cache-Control"] = []string{"no-store"}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body)) // the client may be gone; there is nobody left to tell
}

func problemBody(status int, title string) string {
	return fmt.Sprintf("{\"status\":%d,\"title\":%q,\"detail\":%q}\n", status, http.StatusText(status), title)
}
