package purge

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxText bounds one selector: a key, a URL, a host. It is what a response may
// carry in keys at most.
const maxText = 16 << 10

// Place is where the stored responses of a URL stand: the fields of their keys.
type Place struct {
	Site      string
	Authority string
	Path      string
	Targets   []string // path and query, in every form in which the site may key it
}

// Grant is what a caller may do.
type Grant struct {
	Name  string   // who it is, for the log
	Sites []string // that may be purged; nil is every one
}

func (g *Grant) may(site string) bool { return g.Sites == nil || slices.Contains(g.Sites, site) }

// check refuses what no configuration can give a sense to.
func (q *Request) check(maxSelectors int) error {
	switch n := q.selectors(); {
	case n == 0:
		return wrong(q.emptyList(), "Nothing is selected: a purge names surrogate_keys, urls, prefixes or hosts, or says all.")
	case n > maxSelectors:
		return tooMany(maxSelectors)
	case q.IgnoreQuery && len(q.URLs) == 0:
		return wrong("ignore_query", "It is about urls, and there are none.")
	case q.Timeout < 0 || q.Timeout > MaxTimeout:
		return wrong("timeout", "It must be at most %s.", MaxTimeout)
	}
	for _, list := range [...]struct {
		name  string
		texts []string
	}{{"surrogate_keys", q.SurrogateKeys}, {"urls", q.URLs}, {"prefixes", q.Prefixes}, {"hosts", q.Hosts}} {
		for i, text := range list.texts {
			if text == "" || len(text) > maxText {
				return wrong(place(list.name, i), "It must have 1 to %d bytes.", maxText)
			}
		}
	}
	for i, key := range q.SurrogateKeys {
		if problem := keyProblem(key); problem != "" {
			return wrong(place("surrogate_keys", i), "%s", problem)
		}
	}
	return nil
}

// emptyList is a selector that is there and empty, or "".
func (q *Request) emptyList() string {
	switch {
	case q.SurrogateKeys != nil:
		return "surrogate_keys"
	case q.URLs != nil:
		return "urls"
	case q.Prefixes != nil:
		return "prefixes"
	case q.Hosts != nil:
		return "hosts"
	}
	return ""
}

// keyProblem says why no response can carry a surrogate key, or "".
func keyProblem(key string) string {
	if strings.ContainsAny(key, " ,\t") {
		return "A key has no space, tab or comma: those stand between two keys."
	}
	if strings.Contains(key, string(utf8.RuneError)) {
		return "A key of this name is the work of a wrong encoding."
	}
	for _, c := range []byte(key) {
		if c < ' ' || c == 0x7f {
			return "A key has no control characters."
		}
	}
	return ""
}

// records turns a checked request into what is written to the log, each selector
// once.
func (h *Handler) records(q *Request, grant *Grant) ([]Record, error) {
	sites, err := h.sites(q.Site, grant)
	if err != nil {
		return nil, err
	}
	t := translation{handler: h, request: q, grant: grant, seen: make(map[Selector]bool)}
	for _, site := range sites {
		for _, key := range q.SurrogateKeys {
			t.add(Selector{Kind: Key, Site: site, Value: key})
		}
	}
	for i, url := range q.URLs {
		t.url(place("urls", i), url)
	}
	for i, url := range q.Prefixes {
		t.prefix(place("prefixes", i), url)
	}
	for i, host := range q.Hosts {
		t.host(place("hosts", i), host)
	}
	if q.All {
		t.everything(sites)
	}
	if t.err == nil && len(t.records) == 0 {
		t.err = problem(http.StatusForbidden, "", "The token may purge no site.")
	}
	return t.records, t.err
}

// sites are those that selectors without a host are about: the named one, or all
// that the caller may purge.
func (h *Handler) sites(named string, grant *Grant) ([]string, error) {
	if named != "" {
		if !slices.Contains(h.Sites, named) {
			return nil, wrong("site", "There is no site of this name.")
		}
		if !grant.may(named) {
			return nil, forbidden("site", named)
		}
		return []string{named}, nil
	}
	return slices.DeleteFunc(slices.Clone(h.Sites), func(site string) bool { return !grant.may(site) }), nil
}

// translation makes records of one request. It keeps its first error.
type translation struct {
	handler *Handler
	request *Request
	grant   *Grant
	seen    map[Selector]bool
	records []Record
	err     error
}

func (t *translation) add(s Selector) {
	if t.err != nil || t.seen[s] {
		return
	}
	if most := t.handler.maxSelectors(); len(t.records) == most {
		t.err = tooMany(most)
		return
	}
	t.seen[s] = true
	t.records = append(t.records, Record{Selector: s, Soft: t.request.Soft})
}

func (t *translation) url(field, url string) {
	place, ok := t.locate(field, url)
	if !ok {
		return
	}
	if t.request.IgnoreQuery {
		t.add(Selector{Kind: URLAnyQuery, Site: place.Site, Authority: place.Authority, Value: place.Path})
		return
	}
	for _, target := range place.Targets {
		t.add(Selector{Kind: URL, Site: place.Site, Authority: place.Authority, Value: target})
	}
}

func (t *translation) prefix(field, url string) {
	if strings.Contains(url, "?") {
		t.fail(wrong(field, "A prefix has no query: what lies below a path lies there with every query."))
		return
	}
	if place, ok := t.locate(field, url); ok {
		t.add(Selector{Kind: Prefix, Site: place.Site, Authority: place.Authority, Value: place.Path})
	}
}

// host selects the authority as either scheme spells it: keys leave out the port
// that is the scheme's own. One of the two may well be nobody's.
func (t *translation) host(field, host string) {
	if strings.ContainsAny(host, "/?#@\\") {
		t.fail(wrong(field, "A host is a name or an address, perhaps with a port, such as www.example.com."))
		return
	}
	var places []Place
	var first error
	for _, scheme := range [...]string{"http", "https"} {
		place, err := t.find(field, scheme+"://"+host+"/")
		if err == nil {
			places = append(places, place)
		} else if first == nil {
			first = err
		}
	}
	if len(places) == 0 {
		t.fail(first)
	}
	for _, place := range places {
		t.add(Selector{Kind: Host, Site: place.Site, Authority: place.Authority})
	}
}

func (t *translation) everything(sites []string) {
	if t.request.Site == "" && t.grant.Sites == nil {
		t.add(Selector{Kind: Everything})
		return
	}
	for _, site := range sites {
		t.add(Selector{Kind: Everything, Site: site})
	}
}

// locate is find, with its error kept.
func (t *translation) locate(field, url string) (Place, bool) {
	place, err := t.find(field, url)
	if err != nil {
		t.fail(err)
	}
	return place, err == nil
}

// find says where the responses of a URL stand, if this caller may purge them by
// this request.
func (t *translation) find(field, url string) (Place, error) {
	place, err := t.handler.Locate(url)
	switch {
	case err != nil:
		return Place{}, wrong(field, "This cannot be purged: %v.", err)
	case t.request.Site != "" && place.Site != t.request.Site:
		return Place{}, wrong(field, "The site %q does not answer for this host.", t.request.Site)
	case !t.grant.may(place.Site):
		return Place{}, forbidden(field, place.Site)
	}
	return place, nil
}

func (t *translation) fail(err error) {
	if t.err == nil {
		t.err = err
	}
}

func forbidden(field, site string) *Error {
	return problem(http.StatusForbidden, field, "The token may not purge the site %q.", site)
}

func tooMany(most int) *Error {
	return wrong("", "At most %d things are purged in one call.", most)
}

// place names an element of a list.
func place(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }
