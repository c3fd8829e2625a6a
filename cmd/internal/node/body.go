package node

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"
)

// boundBodies bounds how slowly clients may send a body. In each window, as long as
// the silence that is borne, so many bytes must come as the rate asks for, and one
// at least; or the body must end. The bound is not on the whole: a long upload lives
// as long as it moves.
func boundBodies(next http.Handler, silence time.Duration, rate int64) http.Handler {
	if silence <= 0 {
		return next
	}
	quota := bodyQuota(silence, rate)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == http.NoBody {
			next.ServeHTTP(w, r)
			return
		}
		body := &clientBody{ReadCloser: r.Body, control: http.NewResponseController(w), silence: silence, quota: quota}
		body.begin()
		// Armed from the start: should the answer come without the body having
		// been read, net/http reads the rest by itself before it goes on.
		body.arm(time.Now())
		// A copy, since net/http looks at its own request's body again when
		// the answer begins.
		r = r.WithContext(r.Context())
		r.Body = body
		next.ServeHTTP(w, r)
	})
}

// bodyQuota is how many bytes of a body must come in each window; zero, when windows
// are not bounded.
func bodyQuota(silence time.Duration, rate int64) int64 {
	if silence <= 0 {
		return 0
	}
	return max(1, int64(float64(rate)*silence.Seconds()))
}

// clientBody is a request body whose reads end when it comes too slowly. Only the
// time in which a read waits counts: the client cannot send faster than an origin
// takes it.
type clientBody struct {
	io.ReadCloser
	control *http.ResponseController
	silence time.Duration // of a window
	quota   int64         // bytes of a window, at least 1
	ended   bool

	left time.Duration // of this window; below zero when it has passed
	owed int64         // bytes that this window still lacks
}

func (b *clientBody) Read(p []byte) (int, error) {
	if b.ended {
		return b.ReadCloser.Read(p)
	}
	start := time.Now()
	b.arm(start)
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.ended = true
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			// From here on net/http watches the connection for the client's
			// leaving; a deadline left behind would look like just that.
			_ = b.control.SetReadDeadline(time.Time{}) // a connection that is gone needs none
		}
		return n, err
	}
	if b.owed -= int64(n); b.owed <= 0 {
		b.begin()
	} else {
		b.left -= time.Since(start)
	}
	return n, nil
}

// begin begins a window.
func (b *clientBody) begin() { b.left, b.owed = b.silence, b.quota }

// arm ends the wait for bytes with the window.
func (b *clientBody) arm(now time.Time) {
	_ = b.control.SetReadDeadline(now.Add(b.left)) // fails only where the connection is gone
}
