package purge

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Handler is the purge interface of a node:
//
//	POST /purge        a Request as JSON, or no body and the header Surrogate-Key
//	PURGE <url>        one URL, absolute or as Host and path, hard or with Soft-Purge: 1
//	GET /purge/{id}    a receipt as it stands
//
// A purge is answered with its Receipt: 200 when all that it waits for have applied
// it, 202 when it is recorded and some have not. Everything else is an Error: 400
// for what is not understood, 403 for a site that the caller may not purge, 404 for
// an unknown receipt, 405, 413, 415, and 503 for ErrNotRecorded.
//
// The handler stands behind what authenticates callers and keeps web pages out. Set
// the fields and serve; it may then be used by any number of goroutines.
type Handler struct {
	Recorder Recorder
	Sites    []string                        // the names of all
	Locate   func(url string) (Place, error) // resolves an absolute URL as a request for it would be; the error is shown to the caller
	Grant    func(*http.Request) Grant       // what the caller may do; nil is everything
	Log      *slog.Logger                    // one line for each call that purges; nil discards

	MaxBody      int64 // bytes of a request body; zero means 1 MiB
	MaxSelectors int   // things purged in one call; zero means 10,000

	counts struct{ purges, incomplete, notRecorded, refused atomic.Int64 }
}

// HandlerStats count calls that purge; each only grows.
type HandlerStats struct {
	Purges      int64 `json:"purges"`       // recorded, incomplete ones included
	Incomplete  int64 `json:"incomplete"`   // answered before everybody waited for had applied them
	NotRecorded int64 `json:"not_recorded"` // applied on this node alone, for want of the fleet's log
	Refused     int64 `json:"refused"`      // not understood, or not allowed
}

// Stats returns the counters as they stand.
func (h *Handler) Stats() HandlerStats {
	return HandlerStats{
		Purges:      h.counts.purges.Load(),
		Incomplete:  h.counts.incomplete.Load(),
		NotRecorded: h.counts.notRecorded.Load(),
		Refused:     h.counts.refused.Load(),
	}
}

// MethodPurge is the request method by which Varnish and Squid are told to purge.
const MethodPurge = "PURGE"

// bodyPatience bounds how long a caller may take for its body.
const bodyPatience = 10 * time.Second

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, isReceipt := strings.CutPrefix(r.URL.Path, "/purge/")
	switch {
	case r.Method == MethodPurge:
		h.purge(w, r, readPurge)
	case isReceipt && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		h.receipt(w, r, id)
	case isReceipt:
		notAllowed(w, "GET, HEAD")
	case r.URL.Path != "/purge":
		writeError(w, problem(http.StatusNotFound, "", "There is no such page."))
	case r.Method == http.MethodPost:
		h.purge(w, r, h.readPost)
	default:
		notAllowed(w, http.MethodPost)
	}
}

// purge answers one call that purges. Read makes the request of it.
func (h *Handler) purge(w http.ResponseWriter, r *http.Request, read func(http.ResponseWriter, *http.Request) (Request, error)) {
	grant := h.grant(r)
	request, err := read(w, r)
	if err == nil {
		err = request.check(h.maxSelectors())
	}
	var records []Record
	if err == nil {
		records, err = h.records(&request, &grant)
	}
	var receipt Receipt
	if err == nil {
		receipt, err = h.record(r.Context(), &request, records)
	}
	status := h.answer(w, &request, receipt, err)
	h.note(r, &grant, &request, receipt, status, err)
}

func (h *Handler) grant(r *http.Request) Grant {
	if h.Grant == nil {
		return Grant{}
	}
	return h.Grant(r)
}

func (h *Handler) maxSelectors() int { return cmp.Or(h.MaxSelectors, 10_000) }

// readPost reads a POST: a JSON body, or the keys in the header.
func (h *Handler) readPost(w http.ResponseWriter, r *http.Request) (Request, error) {
	if r.URL.RawQuery != "" {
		return Request{}, wrong("", "The URL of this call has no query: what is to be done stands in the body.")
	}
	if r.ContentLength != 0 {
		if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
			return Request{}, problem(http.StatusUnsupportedMediaType, "", "The body must be application/json.")
		}
	}
	body, err := h.readBody(w, r)
	if err != nil {
		return Request{}, err
	}
	keys := r.Header["Surrogate-Key"]
	switch {
	case len(body) == 0 && keys == nil:
		return Request{}, wrong("", "Nothing is selected: send a JSON body, or the header Surrogate-Key.")
	case len(body) == 0:
		return readKeys(r, keys)
	case keys != nil:
		return Request{}, wrong("", "Send a body or the header Surrogate-Key, not both.")
	case isSet(r.Header, "Soft-Purge") || isSet(r.Header, "Fastly-Soft-Purge"):
		return Request{}, wrong("soft", `With a body it is "soft": true that makes a purge soft, not a header.`)
	}
	return decodeRequest(body)
}

// readBody reads a bounded body within a bounded time.
func (h *Handler) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	limit := cmp.Or(h.MaxBody, 1<<20)
	control := http.NewResponseController(w)
	// Every connection of a server has deadlines; what has none is not slow either.
	_ = control.SetReadDeadline(time.Now().Add(bodyPatience))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return nil, problem(http.StatusRequestEntityTooLarge, "", "The body is larger than %d bytes.", limit)
	}
	if err != nil {
		return nil, wrong("", "The body could not be read.")
	}
	_ = control.SetReadDeadline(time.Time{}) // the wait that follows is bounded by itself
	return body, nil
}

// readKeys makes a request of the header Surrogate-Key, its keys split at spaces.
func readKeys(r *http.Request, lines []string) (Request, error) {
	q := Request{SurrogateKeys: []string{}}
	for _, line := range lines {
		q.SurrogateKeys = append(q.SurrogateKeys, strings.Fields(line)...)
	}
	var err error
	q.Soft, err = softHeader(r.Header)
	return q, err
}

// readPurge makes a request of PURGE <url>. What is named by Host and path is taken
// for http; the scheme takes no part in what is purged.
func readPurge(_ http.ResponseWriter, r *http.Request) (Request, error) {
	url := r.RequestURI
	if strings.HasPrefix(url, "/") {
		url = "http://" + r.Host + url
	}
	switch {
	case r.ContentLength != 0:
		return Request{}, wrong("", "PURGE has no body. Send it by POST to /purge.")
	case isSet(r.Header, "Surrogate-Key"):
		return Request{}, wrong("", "PURGE is about its URL. Send keys by POST to /purge.")
	}
	soft, err := softHeader(r.Header)
	return Request{URLs: []string{url}, Soft: soft}, err
}

// softHeader reads Soft-Purge, or Fastly-Soft-Purge as their tools send it.
func softHeader(header http.Header) (bool, error) {
	for _, name := range [...]string{"Soft-Purge", "Fastly-Soft-Purge"} {
		if !isSet(header, name) {
			continue
		}
		switch values := header[name]; {
		case len(values) == 1 && values[0] == "1":
			return true, nil
		case len(values) == 1 && values[0] == "0":
			return false, nil
		default:
			return false, wrong(name, "It must be 1 or 0.")
		}
	}
	return false, nil
}

func isSet(header http.Header, name string) bool { return header[name] != nil }

// record writes the records to the log, and waits as the request asks. A caller
// that leaves takes nothing back.
func (h *Handler) record(ctx context.Context, q *Request, records []Record) (Receipt, error) {
	receipt, err := h.Recorder.Record(context.WithoutCancel(ctx), records)
	if err != nil || receipt.Complete || q.Wait != WaitCluster {
		return receipt, err
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(q.Timeout, DefaultTimeout))
	defer cancel()
	followed, err := h.Recorder.Follow(ctx, receipt.ID)
	switch {
	case err == nil:
		return followed, nil
	case errors.Is(err, ErrUnknownPurge):
		receipt.Note = "so many purges came after it that it cannot be followed any more"
	default:
		h.log().Error("a purge cannot be followed", "id", receipt.ID, "error", err)
	}
	return receipt, nil // it is recorded all the same, and that is what the caller must know
}

// answer writes the receipt or the error, and returns the status.
func (h *Handler) answer(w http.ResponseWriter, q *Request, receipt Receipt, err error) int {
	if err == nil {
		h.counts.purges.Add(1)
		if q.Wait == WaitCluster && !receipt.Complete {
			h.counts.incomplete.Add(1)
			w.Header().Set("Location", "/purge/"+receipt.ID)
			writeJSON(w, http.StatusAccepted, "application/json", receipt)
			return http.StatusAccepted
		}
		writeJSON(w, http.StatusOK, "application/json", receipt)
		return http.StatusOK
	}
	answer := new(Error)
	switch {
	case errors.As(err, &answer):
		h.counts.refused.Add(1)
	case errors.Is(err, ErrNotRecorded):
		h.counts.notRecorded.Add(1)
		answer = problem(http.StatusServiceUnavailable, "",
			"This node has applied the purge, but the log of the fleet cannot be reached. It is safe to repeat the call.")
	default:
		answer = problem(http.StatusInternalServerError, "", "The purge could not be recorded.")
	}
	writeError(w, answer)
	return answer.Status
}

// receipt answers with a receipt as it stands.
func (h *Handler) receipt(w http.ResponseWriter, r *http.Request, id string) {
	now, cancel := context.WithCancel(r.Context())
	cancel()
	receipt, err := h.Recorder.Follow(now, id)
	switch {
	case err == nil:
		writeJSON(w, http.StatusOK, "application/json", receipt)
	case errors.Is(err, ErrUnknownPurge):
		writeError(w, problem(http.StatusNotFound, "", "No purge of this id is known, or not any more."))
	default:
		h.log().Error("a receipt cannot be read", "id", shorten(id), "error", err)
		writeError(w, problem(http.StatusInternalServerError, "", "The receipt cannot be read."))
	}
}

// note logs who purged what, and how that went.
func (h *Handler) note(r *http.Request, grant *Grant, q *Request, receipt Receipt, status int, err error) {
	attrs := append(make([]slog.Attr, 0, 16),
		slog.String("client", r.RemoteAddr),
		slog.String("token", grant.Name),
		slog.Int("status", status),
		slog.String("site", shorten(q.Site)),
		slog.Int("surrogate_keys", len(q.SurrogateKeys)),
		slog.Int("urls", len(q.URLs)),
		slog.Int("prefixes", len(q.Prefixes)),
		slog.Int("hosts", len(q.Hosts)),
		slog.Bool("all", q.All),
		slog.String("first", q.first()),
		slog.Bool("soft", q.Soft),
		slog.String("wait", string(cmp.Or(q.Wait, WaitNode))),
	)
	level := slog.LevelInfo
	if err != nil {
		level = slog.LevelWarn
		attrs = append(attrs, slog.String("error", err.Error()))
	} else {
		attrs = append(attrs, slog.String("id", receipt.ID), slog.Bool("complete", receipt.Complete))
	}
	h.log().LogAttrs(r.Context(), level, "purge", attrs...)
}

// first is the first thing that the request names, to find it again in a log.
func (q *Request) first() string {
	for _, list := range [...][]string{q.SurrogateKeys, q.URLs, q.Prefixes, q.Hosts} {
		if len(list) > 0 {
			return shorten(withoutUser(list[0]))
		}
	}
	return ""
}

// withoutUser returns a URL without the user and password that it should not have.
func withoutUser(url string) string {
	scheme, rest, _ := strings.Cut(url, "://")
	authority, _, _ := strings.Cut(rest, "/")
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		return scheme + "://" + rest[at+1:]
	}
	return url
}

func (h *Handler) log() *slog.Logger {
	if h.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return h.Log
}

func notAllowed(w http.ResponseWriter, allow string) {
	w.Header().Set("Allow", allow)
	writeError(w, problem(http.StatusMethodNotAllowed, "", "This method is not served here."))
}

func writeError(w http.ResponseWriter, e *Error) {
	writeJSON(w, e.Status, "application/problem+json", e)
}

func writeJSON(w http.ResponseWriter, status int, kind string, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic("purge: an answer that is no JSON: " + err.Error())
	}
	header := w.Header()
	header.Set("Content-Type", kind)
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the caller may be gone; what it asked for is done
}
