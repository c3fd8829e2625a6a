package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
)

// Resource is what a URL names to the cache, in the form in which keys have it.
type Resource struct {
	Site      string
	Authority string
	Path      string   // encoded
	Targets   []string // path and query as the URL has them, then as each route of the site keys them; at least one
}

// Resource puts an absolute http or https URL into the form that a request for it
// gets, so that what is said about the URL is said about its stored responses. It
// fails where no request could be served: when no site answers for the authority,
// or the URL has no canonical form. Methods and conditions of routes are not looked
// at, so there may be targets under which nothing is ever stored.
func (rt *Router) Resource(rawURL string) (Resource, error) {
	for _, c := range []byte(rawURL) {
		if c <= ' ' || c >= 0x7f {
			return Resource{}, errors.New("a byte in it must be encoded")
		}
		if c == '#' {
			return Resource{}, errors.New("no request has a fragment")
		}
	}
	u, err := url.Parse(rawURL)
	switch {
	case err != nil:
		return Resource{}, fmt.Errorf("it is malformed: %w", errors.Unwrap(err)) // without the URL itself
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return Resource{}, errors.New("it must be absolute, such as http://www.example.com/path")
	case u.User != nil:
		return Resource{}, errors.New("it must have no user name")
	}
	authority, ok := normalAuthority(u.Host, u.Scheme)
	if !ok {
		return Resource{}, errors.New("its host is malformed")
	}
	site := rt.site(authority)
	if site == nil {
		return Resource{}, errors.New("no site answers for its host")
	}
	if normaliseTarget(&http.Request{Method: http.MethodGet, URL: u}) != "" {
		return Resource{}, errors.New("its path has no canonical form")
	}
	return Resource{
		Site:      site.Name,
		Authority: authority,
		Path:      u.EscapedPath(),
		Targets:   site.targets(u),
	}, nil
}

// targets returns the forms in which the routes of the site key a canonical URL.
func (site *Site) targets(u *url.URL) []string {
	targets := []string{target(u, u.RawQuery)}
	for i := range site.Routes {
		route := &site.Routes[i]
		if route.Query == nil || !route.covers(u.Path) {
			continue
		}
		if t := target(u, route.Query(u.RawQuery)); !slices.Contains(targets, t) {
			targets = append(targets, t)
		}
	}
	return targets
}

// target is the path of a URL with this query, as exchange.target has it.
func target(u *url.URL, query string) string {
	if query == "" && !u.ForceQuery {
		return u.EscapedPath()
	}
	return u.EscapedPath() + "?" + query
}

// Query returns the query that the route keys and sends for the one that the client
// wrote.
func (h *Handler) Query(raw string) string { return h.query.apply(raw) }
