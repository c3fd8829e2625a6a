package node

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"
)

// boundBodies bounds the silence of clients that send a body. The bound is on
// each wait for bytes and not on the whole: a long upload lives as long as it
// moves.
func boundBodies(next http.Handler, silence time.Duration) http.Handler {
	if silence <= 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == http.NoBody {
			next.ServeHTTP(w, r)
			return
		}
		body := &clientBody{ReadCloser: r.Body, control: http.NewResponseController(w), silence: silence}
		// Armed from the start: should the answer come without the body having
		// been read, net/http reads the rest by itself before it goes on.
		body.arm()
		// A copy, since net/http looks at its own request's body again when
		// the answer begins.
		r = r.WithContext(r.Context())
		r.Body = body
		next.ServeHTTP(w, r)
	})
}

// clientBody is a request body whose reads end after a silence.
type clientBody struct {
	io.ReadCloser
	control *http.ResponseController
	silence time.Duration
	ended   bool
}

func (b *clientBody) Read(p []byte) (int, error) {
	if !b.ended {
		b.arm()
	}
	n, err := b.ReadCloser.Read(p)
	if err != nil && !b.ended {
		b.ended = true
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			// From here on net/http watches the connection for the client's
			// leaving; a deadline left behind would look like just that.
			_ = b.control.SetReadDeadline(time.Time{}) // a connection that is gone needs none
		}
	}
	return n, err
}

func (b *clientBody) arm() {
	_ = b.control.SetReadDeadline(time.Now().Add(b.silence)) // fails only where the connection is gone
}
