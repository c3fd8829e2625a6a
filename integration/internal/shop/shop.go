// Package shop is the Go twin of the Node origin in origins/node: the same small
// application, path by path, so that one suite of tests holds for both.
package shop

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"edge/integration/internal/pattern"
	"edge/integration/internal/websocket"
)

// Shop is the application. New makes one; it is used by many goroutines.
type Shop struct {
	mux *http.ServeMux

	mu        sync.Mutex // guards all below
	seen      []seen
	products  map[string]product
	visitors  int
	exported  int
	listeners map[chan string]bool
	held      map[string]chan struct{}
}

type seen struct {
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
}

type product struct {
	ID       string `json:"id"`
	Version  int    `json:"version"`
	Language string `json:"language,omitempty"`
	Name     string `json:"name,omitempty"`
}

// New returns a shop in which nothing was changed and nothing asked for yet.
func New() *Shop {
	s := &Shop{
		mux:       http.NewServeMux(),
		products:  map[string]product{},
		listeners: map[chan string]bool{},
		held:      map[string]chan struct{}{},
	}
	for pattern, handler := range map[string]http.HandlerFunc{
		"GET /-/log":             s.log,
		"GET /-/count":           s.count,
		"GET /-/exported":        s.exportedRows,
		"POST /-/emit":           s.emit,
		"POST /-/release/{name}": s.release,

		"GET /products/{id}":  s.product,
		"PUT /products/{id}":  s.update,
		"POST /products/{id}": s.update,
		"POST /products":      s.create,

		"POST /login":  s.login,
		"GET /account": s.account,
		"GET /welcome": s.welcome,

		"GET /export.csv":  s.export,
		"GET /events":      s.events,
		"GET /big":         s.big,
		"GET /ws":          s.echo,
		"GET /slow":        s.slow,
		"GET /held/{name}": s.hold,
		"GET /fail":        s.fail,
		"GET /truncate":    s.truncate,
		"GET /hints":       s.hints,
	} {
		s.mux.HandleFunc(pattern, handler)
	}
	return s
}

// ServeHTTP records the request and answers it.
func (s *Shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.URL.Path, "/-/") {
		headers := map[string]string{"host": r.Host}
		for name, values := range r.Header {
			headers[strings.ToLower(name)] = strings.Join(values, ", ")
		}
		s.mu.Lock()
		s.seen = append(s.seen, seen{r.Method, r.RequestURI, headers})
		s.mu.Unlock()
	}
	s.mux.ServeHTTP(w, r)
}

// What tests ask.

func (s *Shop) log(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	writeJSON(w, http.StatusOK, s.seen)
}

func (s *Shop) count(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, q := range s.seen {
		if method := r.FormValue("method"); q.URL == r.FormValue("url") && (method == "" || q.Method == method) {
			n++
		}
	}
	writeJSON(w, http.StatusOK, map[string]int{"count": n})
}

// Products: cached for everyone, one answer for each language.

var words = map[string]string{"en": "Product", "de": "Produkt", "fr": "Produit"}

// language takes the first language that the shop speaks; the tests send no weights.
func language(r *http.Request) string {
	for l := range strings.SplitSeq(r.Header.Get("Accept-Language"), ",") {
		if l = strings.TrimSpace(l); words[l] != "" {
			return l
		}
	}
	return "en"
}

func (s *Shop) findLocked(id string) product {
	if p, ok := s.products[id]; ok {
		return p
	}
	return product{ID: id, Version: 1}
}

func (s *Shop) product(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	p := s.findLocked(r.PathValue("id"))
	s.mu.Unlock()
	p.Language = language(r)
	if p.Name == "" {
		p.Name = words[p.Language] + " " + p.ID
	}
	etag := fmt.Sprintf(`"%s-%d-%s"`, p.ID, p.Version, p.Language)
	h := w.Header()
	h.Set("Cache-Control", "public, max-age=60, stale-while-revalidate=300")
	h.Set("CDN-Cache-Control", "max-age=300, stale-while-revalidate=600")
	h.Set("Surrogate-Key", "products product-"+p.ID)
	h.Set("Content-Language", p.Language)
	h.Set("Vary", "Accept-Language")
	h.Set("ETag", etag)
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	writeJSON(w, http.StatusOK, p)
}

func (s *Shop) update(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, http.StatusOK, s.change(r.PathValue("id"), r.Body))
}

func (s *Shop) create(w http.ResponseWriter, r *http.Request) {
	p := s.change("", r.Body)
	w.Header().Set("Location", "/products/"+p.ID)
	writeJSON(w, http.StatusCreated, p)
}

// change stores the next version of the product. An empty id is taken from the body.
func (s *Shop) change(id string, body io.Reader) product {
	var in product
	_ = json.NewDecoder(body).Decode(&in) // a body that cannot be read changes the version only
	if id == "" {
		id = in.ID
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.findLocked(id)
	p.Version++
	if in.Name != "" {
		p.Name = in.Name
	}
	s.products[id] = p
	return product{ID: p.ID, Version: p.Version}
}

// Pages for one user.

func (s *Shop) login(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, &http.Cookie{Name: "session", Value: r.URL.Query().Get("user"), Path: "/", HttpOnly: true})
	w.WriteHeader(http.StatusNoContent)
}

// account is careless on purpose, as such pages often are: it says how long, and
// not for whom.
func (s *Shop) account(w http.ResponseWriter, r *http.Request) {
	session, err := r.Cookie("session")
	if err != nil {
		w.Header().Set("Cache-Control", "no-store")
		http.Redirect(w, r, "/sign-in", http.StatusFound)
		return
	}
	w.Header().Set("Cache-Control", "max-age=60")
	writeHTML(w, "<p>Orders of "+session.Value+"</p>")
}

func (s *Shop) welcome(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	s.visitors++
	n := s.visitors
	s.mu.Unlock()
	w.Header().Set("Cache-Control", "public, max-age=60")
	http.SetCookie(w, &http.Cookie{Name: "visitor", Value: strconv.Itoa(n), Path: "/"})
	writeHTML(w, "<p>Welcome</p>")
}

// Streams.

func (s *Shop) export(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	io.WriteString(w, "id,name,price\n")
	for i := 1; i <= number(r, "rows", 1000); i++ {
		s.mu.Lock()
		s.exported = i
		s.mu.Unlock()
		// The format is JavaScript's: no trailing zeroes.
		price := strconv.FormatFloat(float64(i%10000)/100, 'f', -1, 64)
		if _, err := fmt.Fprintf(w, "%d,Product %d,%s\n", i, i, price); err != nil {
			return
		}
	}
}

func (s *Shop) exportedRows(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	writeJSON(w, http.StatusOK, map[string]int{"count": s.exported})
}

func (s *Shop) events(w http.ResponseWriter, r *http.Request) {
	events := make(chan string, 16)
	s.mu.Lock()
	s.listeners[events] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.listeners, events)
	}()
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w).Flush
	io.WriteString(w, ": welcome\n\n")
	for flush() == nil {
		select {
		case e := <-events:
			fmt.Fprintf(w, "data: %s\n\n", e)
		case <-r.Context().Done():
			return
		}
	}
}

func (s *Shop) emit(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.listeners {
		select {
		case l <- r.URL.Query().Get("data"):
		default: // a listener that is sixteen events behind misses one
		}
	}
	writeJSON(w, http.StatusOK, map[string]int{"count": len(s.listeners)})
}

func (s *Shop) big(w http.ResponseWriter, r *http.Request) {
	size := int64(number(r, "bytes", 1<<20))
	w.Header().Set("Cache-Control", "no-store")
	if age := number(r, "cache", 0); age > 0 {
		w.Header().Set("Cache-Control", fmt.Sprintf("max-age=%d", age))
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if r.FormValue("chunked") == "" {
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	}
	_ = pattern.Write(w, size) // fails when the reader leaves, which is its right
}

func (s *Shop) echo(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r)
	if err != nil {
		return
	}
	defer c.Close()
	for {
		message, err := c.Receive()
		if err != nil || c.Send(message) != nil {
			return
		}
	}
}

// Slow, held, failing, truncated.

func (s *Shop) slow(w http.ResponseWriter, r *http.Request) {
	select {
	case <-time.After(time.Duration(number(r, "ms", 500)) * time.Millisecond):
	case <-r.Context().Done():
	}
	w.Header().Set("Cache-Control", "max-age=60")
	writeHTML(w, "slow")
}

func (s *Shop) gate(name string) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[name] == nil {
		s.held[name] = make(chan struct{})
	}
	return s.held[name]
}

func (s *Shop) hold(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	select {
	case <-s.gate(name):
	case <-r.Context().Done():
		return
	}
	w.Header().Set("Cache-Control", "max-age=60")
	writeHTML(w, "held "+name)
}

func (s *Shop) release(w http.ResponseWriter, r *http.Request) {
	gate := s.gate(r.PathValue("name"))
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-gate:
	default:
		close(gate)
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Shop) fail(w http.ResponseWriter, r *http.Request) {
	w.WriteHeader(number(r, "status", 500))
	io.WriteString(w, "failed")
}

func (s *Shop) truncate(w http.ResponseWriter, r *http.Request) {
	send := number(r, "send", 100)
	w.Header().Set("Cache-Control", "max-age=60")
	if r.FormValue("chunked") == "" {
		w.Header().Set("Content-Length", strconv.Itoa(2*send))
	}
	io.WriteString(w, strings.Repeat("x", send))
	_ = http.NewResponseController(w).Flush() // the connection is cut next either way
	panic(http.ErrAbortHandler)
}

func (s *Shop) hints(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Link", "</style.css>; rel=preload; as=style")
	w.WriteHeader(http.StatusEarlyHints)
	w.Header().Del("Link")
	w.Header().Set("Cache-Control", "no-store")
	writeHTML(w, "<p>hinted</p>")
}

func number(r *http.Request, name string, otherwise int) int {
	if n, err := strconv.Atoi(r.FormValue(name)); err == nil {
		return n
	}
	return otherwise
}

func writeHTML(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	io.WriteString(w, body)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // fails when the reader leaves, which is its right
}
