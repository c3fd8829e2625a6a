package wire

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// Answer is one plain request, and the answer to it. It belongs to the goroutine
// that reads the connection.
type Answer struct {
	Request
	Started time.Time // when the head had come
	Head    []byte    // status line, fields and the empty line; whoever answers appends them
	Body    [][]byte  // what follows, sent from where it is; its length is what the head says
	State   any       // of whoever answers: what Options.Prefetch leaves for Options.Answer, and that for Options.Answered

	peer interface{ remote() string }
	sent int64 // bytes of head and body that have gone
	size int64 // of head and body
}

// Remote returns the peer's address as text.
func (a *Answer) Remote() string { return a.peer.remote() }

// own makes the request independent of the buffer that it was read from.
func (a *Answer) own(head []byte) {
	if n, no := a.Request.read(bytes.Clone(head), new(Limits)); n != len(head) || no != nil {
		panic("wire: a head that was sound is not when it is read again")
	}
}

// measure notes how much there is to send.
func (a *Answer) measure() {
	a.sent, a.size = 0, int64(len(a.Head))
	for _, chunk := range a.Body {
		a.size += int64(len(chunk))
	}
}

// written is what has gone of the body.
func (a *Answer) written() int64 { return max(0, a.sent-int64(len(a.Head))) }

// answerPool lends answers.
type answerPool struct{ pool sync.Pool }

func (p *answerPool) get() *Answer {
	if a, ok := p.pool.Get().(*Answer); ok {
		return a
	}
	return new(Answer)
}

// put takes back an answer that has been given. Of what it refers to nothing is
// kept but room.
func (p *answerPool) put(a *Answer) {
	a.reset()
	a.peer = nil
	clear(a.Fields[:cap(a.Fields)])
	a.Request = Request{Fields: a.Fields[:0]}
	p.pool.Put(a)
}

// reset makes an answer ready for the next request of the same peer.
func (a *Answer) reset() {
	clear(a.Body)
	a.Head, a.Body, a.State, a.sent, a.size = a.Head[:0], a.Body[:0], nil, 0, 0
}

// copied is how much of an answer is gathered before it is sent: less than that
// goes out in one piece, and body bytes beyond are sent from where they are.
const copied = 16 << 10

// errMalformed ends the reading of a body that is malformed.
var errMalformed = errors.New("wire: the request body is malformed")

// problem writes the answer to the request that these bytes begin with, which is
// refused: a small problem+json body (RFC 9457), and the end of the connection. To HEAD
// the body is left out (RFC 9110 section 9.3.2).
func (no *Refusal) problem(now time.Time, request []byte) []byte {
	body := fmt.Sprintf("{\"status\":%d,\"title\":%q,\"detail\":%q}\n", no.Status, http.StatusText(no.Status), no.title)
	allow := ""
	if no.Status == http.StatusMethodNotAllowed {
		allow = "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"
	}
	answer := fmt.Appendf(nil, "HTTP/1.1 %d %s\r\n%sCache-Control: no-store\r\nConnection: close\r\nContent-Length: %d\r\n"+
		"Content-Type: application/problem+json\r\nDate: %s\r\n\r\n",
		no.Status, http.StatusText(no.Status), allow, len(body), now.UTC().Format(http.TimeFormat))
	if bytes.HasPrefix(bytes.TrimPrefix(request, []byte("\r\n")), []byte("HEAD ")) {
		return answer
	}
	return append(answer, body...)
}
