package proxy

import (
	"crypto/rand"
	"net/http"
	"strconv"
	"time"

	"edge/cachestore"
	"edge/proxy/rfc9111"
)

// deliver answers from the stored entry, straight to the client.
func (x *exchange) deliver(outcome Outcome) {
	e := x.stored
	x.rec.Outcome, x.rec.Reason = outcome, x.why
	header := x.w.Header()
	e.Head.CopyTo(header)
	status, body := x.represent(e, header)
	x.h.hide(header)
	x.describe(header, e, &cacheStatus{outcome: outcome, reason: x.why, ttl: x.ttl(e, x.life), status: status})
	x.h.Rules.Response.apply(header, x.r)
	if header["Content-Type"] == nil {
		header["Content-Type"] = nil // else net/http guesses one, also where a rule took it away
	}
	x.w.WriteHeader(status)
	if x.r.Method != http.MethodHead {
		_, _ = body.WriteTo(x.w) // it fails when the client has left: nothing to do, and nobody to tell
	}
}

// represent turns a whole entry into what this request is answered with: all of
// it, parts of it, or word that the client's copy is still good. It changes the
// header accordingly.
func (x *exchange) represent(e *cachestore.Entry, header http.Header) (status int, body cachestore.Body) {
	if rfc9111.NotModified(x.r.Method, x.r.Header, e.Status, e.Head) {
		rfc9111.StripFor304(header)
		return http.StatusNotModified, cachestore.Body{}
	}
	size := e.Body.Size()
	switch answer, ranges := rfc9111.Ranges(x.r.Method, x.r.Header, e.Status, e.Head, size, x.h.Rules.MaxRanges); answer {
	case rfc9111.RangeUnsatisfiable:
		unsatisfiable(header, size)
		return http.StatusRequestedRangeNotSatisfiable, cachestore.Body{}
	case rfc9111.RangePartial:
		if len(ranges) == 1 {
			partial(header, ranges[0], size)
			return http.StatusPartialContent, cachestore.NewBody(appendRange(nil, e.Body, ranges[0])...)
		}
		return http.StatusPartialContent, multipart(header, e.Body, ranges)
	default:
		return e.Status, e.Body
	}
}

// unsatisfiable makes the header of a 416 (RFC 9110 section 15.5.17).
func unsatisfiable(header http.Header, size int64) {
	for _, name := range []string{"Content-Encoding", "Content-Language", "Etag", "Last-Modified", "Cache-Control", "Expires"} {
		delete(header, name)
	}
	header["Content-Type"] = nil
	header["Content-Length"] = []string{"0"}
	header["Content-Range"] = []string{"bytes */" + strconv.FormatInt(size, 10)}
}

// partial makes the header of a 206 with one range (RFC 9110 section 15.3.7.1).
func partial(header http.Header, r rfc9111.Range, size int64) {
	header["Content-Range"] = []string{contentRange(r, size)}
	header["Content-Length"] = []string{strconv.FormatInt(r.Length, 10)}
}

func contentRange(r rfc9111.Range, size int64) string {
	b := strconv.AppendInt([]byte("bytes "), r.Start, 10)
	b = strconv.AppendInt(append(b, '-'), r.Start+r.Length-1, 10)
	return string(strconv.AppendInt(append(b, '/'), size, 10))
}

// multipart makes the header and body of a 206 with several ranges (RFC 9110
// section 15.3.7.2). The stored bytes are not copied.
func multipart(header http.Header, whole cachestore.Body, ranges []rfc9111.Range) cachestore.Body {
	boundary := rand.Text()
	var chunks [][]byte
	for i, r := range ranges {
		head := "\r\n--" + boundary + "\r\n"
		if i == 0 {
			head = head[2:]
		}
		if contentType := header["Content-Type"]; len(contentType) > 0 {
			head += "Content-Type: " + contentType[0] + "\r\n"
		}
		head += "Content-Range: " + contentRange(r, whole.Size()) + "\r\n\r\n"
		chunks = appendRange(append(chunks, []byte(head)), whole, r)
	}
	body := cachestore.NewBody(append(chunks, []byte("\r\n--"+boundary+"--\r\n"))...)
	header["Content-Type"] = []string{"multipart/byteranges; boundary=" + boundary}
	header["Content-Length"] = []string{strconv.FormatInt(body.Size(), 10)}
	return body
}

func appendRange(chunks [][]byte, whole cachestore.Body, r rfc9111.Range) [][]byte {
	for part := range whole.Range(r.Start, r.Length) {
		chunks = append(chunks, part)
	}
	return chunks
}

// describe writes Age and our member of Cache-Status. Hits of the same second
// share the lines of the first; no hit allocates more than the two of them.
func (x *exchange) describe(header http.Header, e *cachestore.Entry, status *cacheStatus) {
	if e == nil { // first hand: Age, if any, is the origin's
		addStatus(header, []string{string(appendCacheStatus(nil, x.h.Cache.Node, status))})
		return
	}
	age, ttl := int64(e.Age(x.now)/time.Second), int64(status.ttl/time.Second)
	var stamp *cachestore.Stamp
	if status.outcome == Hit && x.marks != nil {
		stamp = x.marks.Stamp.Load()
	}
	if stamp == nil || stamp.Age != age || stamp.TTL != ttl {
		stamp = x.stamp(age, ttl, status)
	}
	header["Age"] = stamp.AgeLine()
	addStatus(header, stamp.StatusLine())
}

// stamp makes the lines anew, and leaves those of a hit for the next.
func (x *exchange) stamp(age, ttl int64, status *cacheStatus) *cachestore.Stamp {
	var buf [160]byte
	text := strconv.AppendInt(buf[:0], age, 10)
	ageEnd := len(text)
	all := string(appendCacheStatus(text, x.h.Cache.Node, status))
	stamp := &cachestore.Stamp{Age: age, TTL: ttl, Lines: [2]string{all[:ageEnd], all[ageEnd:]}}
	if status.outcome == Hit && x.marks != nil {
		x.marks.Stamp.Store(stamp)
	}
	return stamp
}

// addStatus adds our member to Cache-Status: nearest to the client stands last
// (RFC 9211 section 2).
func addStatus(header http.Header, line []string) {
	if earlier := header["Cache-Status"]; earlier != nil {
		line = append(earlier[:len(earlier):len(earlier)], line...)
	}
	header["Cache-Status"] = line
}
