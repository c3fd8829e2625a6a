package wire

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
)

// answer is one request and the answer to it. It is the http.ResponseWriter that
// is given to Options.Answer, and is used again for other requests.
type answer struct {
	request http.Request
	url     url.URL
	values  []string // one for each field, so that a request is not one allocation for each
	blank   http.Request

	conn     *Conn
	header   http.Header
	out      bytes.Buffer // written by the handler, not yet sent
	status   int
	declared int64 // length of the body by its header; unknown if negative
	written  int64
	err      error
}

// copied is how much of an answer is gathered before it is sent: less than that
// goes out in one piece, and body bytes beyond are sent from where they are.
const copied = 16 << 10

// errLength says that the body was not as long as its header said. The client
// must not take it for whole.
var errLength = errors.New("wire: the body is not as long as declared")

type answerPool struct{ pool sync.Pool }

func newAnswerPool(ctx context.Context) answerPool {
	blank := (&http.Request{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody}).WithContext(ctx)
	return answerPool{sync.Pool{New: func() any {
		a := &answer{blank: *blank, header: make(http.Header)}
		a.request = a.blank
		a.request.Header = make(http.Header)
		return a
	}}}
}

func (p *answerPool) get() *answer { return p.pool.Get().(*answer) }

func (p *answerPool) put(a *answer) {
	fields, header, out := a.request.Header, a.header, a.out
	clear(fields)
	clear(header)
	out.Reset()
	clear(a.values)
	*a = answer{blank: a.blank, values: a.values[:0], header: header, out: out}
	a.request = a.blank
	a.request.Header = fields
	p.pool.Put(a)
}

// add adds a request field.
func (a *answer) add(name, value string) {
	if earlier := a.request.Header[name]; earlier != nil {
		a.request.Header[name] = append(earlier[:len(earlier):len(earlier)], value)
		return
	}
	a.values = append(a.values, value)
	n := len(a.values)
	a.request.Header[name] = a.values[n-1 : n : n]
}

// aim gives the request its target.
func (a *answer) aim(target string) bool {
	a.request.RequestURI, a.request.URL = target, &a.url
	return parseTarget(&a.url, target)
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.status != 0 {
		panic("wire: a second head for one answer")
	}
	a.status, a.declared = status, -1
	a.frame()
	if lines := a.header["Content-Length"]; len(lines) == 1 {
		if n, err := strconv.ParseInt(lines[0], 10, 64); err == nil {
			a.declared = n
		}
	}
	a.out.WriteString("HTTP/1.1 ")
	a.out.Write(strconv.AppendInt(a.out.AvailableBuffer(), int64(status), 10))
	a.out.WriteByte(' ')
	if text := http.StatusText(status); text != "" {
		a.out.WriteString(text)
	} else {
		a.out.WriteString("status code ")
		a.out.Write(strconv.AppendInt(a.out.AvailableBuffer(), int64(status), 10))
	}
	a.out.WriteString("\r\n")
	_ = a.header.Write(&a.out) // a buffer takes everything
	a.out.WriteString("\r\n")
}

// frame takes out what an answer without a body must not say, as net/http does: an
// origin's wrong word about the length would have the next answer taken for a body
// (RFC 9110 section 8.6, RFC 9112 section 6.1).
func (a *answer) frame() {
	if a.status != http.StatusNoContent && a.status != http.StatusNotModified {
		return
	}
	delete(a.header, "Content-Length")
	delete(a.header, "Transfer-Encoding")
	if a.status == http.StatusNotModified {
		delete(a.header, "Content-Type")
	}
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	if a.err != nil {
		return 0, a.err
	}
	a.written += int64(len(p))
	if a.out.Len()+len(p) <= copied {
		return a.out.Write(p)
	}
	before := int64(a.out.Len())
	n, err := a.conn.writeAll(net.Buffers{a.out.Bytes(), p})
	a.out.Reset()
	a.err = err
	return int(max(0, n-before)), err
}

// finish sends what is left. An error ends the connection.
func (a *answer) finish() error {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	if a.err == nil && a.out.Len() > 0 {
		_, a.err = a.conn.Write(a.out.Bytes())
	}
	if a.err == nil && a.bodyAllowed() && a.written != a.declared {
		a.err = errLength
	}
	return a.err
}

// bodyAllowed reports whether the answer has a body (RFC 9112 section 6.3).
func (a *answer) bodyAllowed() bool {
	return a.request.Method != http.MethodHead && a.status >= 200 && a.status != http.StatusNoContent && a.status != http.StatusNotModified
}
