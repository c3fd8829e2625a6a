package proxy

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"edge/proxy/rfc9111"
)

// Guards against answers that were made for one request, or by mistake, and would be
// stored for all: errors that the request's own form has caused, and empty answers in
// the place of pages (cache-poisoned denial of service), and pages that a path makes
// look like files (web cache deception). RFC 9111 lets all of them be stored, and
// nothing in it asks for that.

// aboutThisRequest names the errors that speak of fields and body of the request
// that met them, none of which the key holds: of the next request for the same
// target they say nothing. They are stored where the operator's list has them. (428,
// 429, 431 and 511 are stored never, and 414 is about the target.)
func aboutThisRequest(status int) bool {
	switch status {
	case http.StatusNotAcceptable, http.StatusProxyAuthRequired, http.StatusRequestTimeout, http.StatusLengthRequired, http.StatusPreconditionFailed,
		http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusRequestedRangeNotSatisfiable,
		http.StatusExpectationFailed, http.StatusMisdirectedRequest, http.StatusTooEarly, http.StatusUpgradeRequired:
		return true
	}
	return false
}

// maybeAboutThisRequest names the errors that are as often about the target as about
// a field that the origin, or a firewall before it, did not like: all of the 4xx but
// those that can only mean the target. They take the place of nothing better, and do
// not last.
func maybeAboutThisRequest(status int) bool {
	switch status {
	case http.StatusNotFound, http.StatusGone, http.StatusRequestURITooLong, http.StatusUnavailableForLegalReasons:
		return false
	}
	return 400 <= status && status < 500
}

// guardErrors refuses or shortens the life of an error that may be one client's
// doing.
func (q *question) guardErrors(status int, verdict rfc9111.Storage) rfc9111.Storage {
	if _, listed := q.policy.Negative[status]; listed {
		return verdict
	}
	switch {
	case aboutThisRequest(status), maybeAboutThisRequest(status) && q.stored != nil && q.stored.Status < 400:
		verdict.OK, verdict.Reason = false, rfc9111.ReasonStatus
	case maybeAboutThisRequest(status):
		limit := q.policy.NegativeMax
		if limit <= 0 {
			limit = 10 * time.Second
		}
		life := &verdict.Life
		life.Fresh = min(life.Fresh, limit)
		life.WhileRevalidate, life.IfError, life.IfUnreachable = 0, 0, 0
	}
	return verdict
}

// errShrunk fails a fetch whose answer is held back, so that what is stored is served
// in its place.
var errShrunk = errors.New("proxy: the answer is empty where a large body is stored")

// shrunk reports whether the answer would put nothing in the place of a large body, on
// a route that is on its guard. A length that was not announced shows with the first
// byte, which is waited for.
func (q *question) shrunk(res *http.Response) bool {
	least := q.h.Rules.ShrinkGuard
	if least == 0 || q.stored == nil || q.stored.Body.Size() < least {
		return false
	}
	switch {
	case res.StatusCode == http.StatusNoContent:
		return true
	case res.StatusCode != http.StatusOK || res.ContentLength > 0:
		return false
	case res.ContentLength == 0:
		return true
	}
	rest := res.Body
	body := bufio.NewReaderSize(rest, 16) // the smallest that there is
	if _, err := body.Peek(1); err == io.EOF {
		return true
	}
	res.Body = &answerBody{ReadCloser: readCloser{body}, close: func() { rest.Close() }}
	return false
}

// hold keeps an empty answer from the store, and what is stored there. It goes to
// nobody for whom what is stored may stand in for a failure, and else to the one who
// asked.
func (q *question) hold(res *http.Response) {
	q.h.Cache.counts.shrunk.Add(1)
	if q.usable() {
		res.Body.Close()
		q.failed(errShrunk)
		return
	}
	q.h.Cache.Log.Warn("an empty answer was not stored in the place of a large one", "url", q.self, "site", q.h.Site, "route", q.h.Route)
	res.Body = &answerBody{ReadCloser: res.Body, close: q.fill.cancel}
	q.fill.keepPrivate(res, rfc9111.Storage{Reason: reasonShrunk})
}

// fileTypes are the media types of files by the ends of their names, for names that
// no page has.
var fileTypes = map[string][]string{
	".css": {"text/css"},
	".js":  scripts, ".mjs": scripts, ".cjs": scripts,
	".png": images, ".jpg": images, ".jpeg": images, ".gif": images, ".webp": images, ".avif": images, ".svg": images,
	".ico": images, ".bmp": images, ".tif": images, ".tiff": images,
	".woff": fonts, ".woff2": fonts, ".ttf": fonts, ".otf": fonts, ".eot": fonts,
	".mp3": media, ".mp4": media, ".m4a": media, ".m4v": media, ".ogg": media, ".oga": media, ".ogv": media, ".webm": media,
	".wav": media, ".flac": media, ".avi": media, ".mov": media, ".mkv": media,
	".pdf":  {"application/pdf", "application/x-pdf"},
	".zip":  {"application/zip", "application/x-zip-compressed"},
	".gz":   {"application/gzip", "application/x-gzip"},
	".wasm": {"application/wasm"},
}

var (
	scripts = []string{"text/javascript", "application/javascript", "application/x-javascript", "text/ecmascript", "application/ecmascript"}
	images  = []string{"image/*"}
	fonts   = []string{"font/*", "application/font*", "application/x-font*", "application/vnd.ms-fontobject", "application/vnd.ms-opentype", "image/svg+xml"}
	media   = []string{"audio/*", "video/*", "application/ogg", "application/mp4"}
)

// agrees tells whether the response is of the type that is expected at its path: the
// one that the operator names, or, where the response itself gave no lifetime and a
// rule would store it by its path, the one that the end of the path promises. Some
// origins answer for "/account/x.css" with the page of the account.
func (q *question) agrees(status int, verdict rfc9111.Storage, got string) bool {
	if want := q.h.Rules.StaticType; want != "" {
		return matchesType(want, got)
	}
	byRule := verdict.Reason == rfc9111.ReasonTTL || verdict.Reason == rfc9111.ReasonDefaultTTL || verdict.Reason == rfc9111.ReasonHeuristic
	if !byRule || status >= 300 {
		return true
	}
	types := fileTypes[strings.ToLower(path.Ext(q.out.URL.Path))]
	return types == nil || slices.ContainsFunc(types, func(want string) bool { return matchesType(want, got) })
}

// matchesType reports whether a media type is the wanted one, begins with what
// stands before a "*", or says nothing of what the bytes are.
func matchesType(want, got string) bool {
	if want == "*/*" || got == "application/octet-stream" {
		return true
	}
	if prefix, ok := strings.CutSuffix(want, "*"); ok {
		return strings.HasPrefix(got, prefix)
	}
	return got == want
}
