package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"edge/proxy/rfc9111"
)

// Site is a set of authorities that are served alike.
type Site struct {
	Name   string
	Hosts  []string // normalised authorities; "*" is any authority that no other site names
	Routes []Route  // most specific first
}

// Route is one way of serving a part of a site.
type Route struct {
	Name    string
	Path    string                   // "/exact", "/prefix/*" or "/*", on the normalised path
	Methods []string                 // nil is any
	When    func(*http.Request) bool // nil is always
	Query   func(raw string) string  // the query that is keyed for the one that is asked for; nil is the same
	Gate    Gate                     // what each request passes first, hits too; nil lets all pass
	Handler http.Handler
}

// Router turns a request into its canonical form, so that what is keyed, matched
// and sent to the origin is one and the same, and hands it to its route. What is
// ambiguous or not ours is refused here.
type Router struct {
	node  string
	sites map[string]*Site
	any   *Site // nil when no site takes any authority
}

// NewRouter returns a Router for these sites. Node is our name in CDN-Loop. It
// fails when two sites claim one authority or a route has no handler.
func NewRouter(node string, sites []Site) (*Router, error) {
	router := &Router{node: node, sites: make(map[string]*Site)}
	for i := range sites {
		site := &sites[i]
		for _, route := range site.Routes {
			if route.Handler == nil {
				return nil, fmt.Errorf("proxy: route %q of site %q has no handler", route.Name, site.Name)
			}
		}
		for _, host := range site.Hosts {
			if host == "*" {
				if router.any != nil {
					return nil, errors.New("proxy: two sites take any authority")
				}
				router.any = site
				continue
			}
			if other := router.sites[host]; other != nil {
				return nil, fmt.Errorf("proxy: sites %q and %q both claim %s", other.Name, site.Name, host)
			}
			router.sites[host] = site
		}
	}
	return router, nil
}

// ServeHTTP refuses what may not pass, puts the rest into canonical form (in
// place: the request is ours from the listener on) and serves it by its route.
func (rt *Router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if refusal := rt.check(r); refusal != nil {
		refuse(w, r, refusal)
		return
	}
	site := rt.site(r.Host)
	if site == nil {
		refuse(w, r, &refusal{http.StatusMisdirectedRequest, reasonUnknownHost, "No site answers for this authority."})
		return
	}
	rec := recordOf(w)
	rec.Site = site.Name
	route := site.route(r)
	if route == nil {
		refuse(w, r, &refusal{http.StatusNotFound, reasonRoute, "No route serves this request."})
		return
	}
	rec.Route = route.Name
	if route.Gate != nil {
		leave, err := route.Gate.Admit(w.Header(), r)
		if err != nil {
			if !limited(w, rt.node, err) {
				panic("proxy: a gate that refuses without an answer: " + err.Error())
			}
			return
		}
		defer func() { leave(rec.Outcome == Limited) }()
	}
	route.Handler.ServeHTTP(w, r)
}

// route returns the first route that matches, or nil.
func (s *Site) route(r *http.Request) *Route {
	for i := range s.Routes {
		if s.Routes[i].matches(r) {
			return &s.Routes[i]
		}
	}
	return nil
}

func (rt *Router) site(authority string) *Site {
	if site := rt.sites[authority]; site != nil {
		return site
	}
	return rt.any
}

func (route *Route) matches(r *http.Request) bool {
	if !route.covers(r.URL.Path) {
		return false
	}
	if route.Methods != nil && !slices.Contains(route.Methods, r.Method) {
		return false
	}
	return route.When == nil || route.When(r)
}

// covers reports whether the route's pattern takes a path, as it is decoded.
func (route *Route) covers(path string) bool {
	if prefix, ok := strings.CutSuffix(route.Path, "*"); ok {
		// "/static/*" takes what lies below the folder; "/*" takes "*" of OPTIONS too.
		return strings.HasPrefix(path, prefix) || prefix == "/"
	}
	return path == route.Path
}

// refusal is an answer of our own to a request that may not be served.
type refusal struct {
	status int
	reason rfc9111.Reason
	title  string
}

func refuse(w http.ResponseWriter, r *http.Request, no *refusal) {
	rec := recordOf(w)
	rec.Outcome, rec.Reason = Refused, no.reason
	if no.status == http.StatusMethodNotAllowed {
		w.Header()["Allow"] = []string{"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"}
	}
	// Whatever else is on this connection was framed by the same sender: do not
	// go on reading it, and do not wait for a body that nobody wants.
	w.Header()["Connection"] = []string{"close"}
	Problem(w, no.status, no.title)
}

// check refuses what no route may see, and normalises authority and path.
func (rt *Router) check(r *http.Request) *refusal {
	switch r.Method {
	case http.MethodConnect, http.MethodTrace, "PURGE", "BAN":
		return &refusal{http.StatusMethodNotAllowed, reasonNotAllowed, "This method is not served here."}
	}
	absolute := r.URL.Scheme != "" || r.URL.Host != ""
	if r.URL.Opaque != "" || absolute && (r.URL.Host == "" || r.URL.Scheme != "http" && r.URL.Scheme != "https") {
		return &refusal{http.StatusBadRequest, reasonBadRequest, "The target is neither a path nor an http or https URL."}
	}
	if r.URL.Scheme == "https" && schemeOf(r) != "https" {
		return &refusal{http.StatusMisdirectedRequest, reasonUnknownHost, "An https resource is not served over a connection that is not secured."}
	}
	authority, ok := normalAuthority(r.Host, schemeOf(r))
	if !ok {
		return &refusal{http.StatusBadRequest, reasonBadRequest, "The Host is malformed."}
	}
	r.Host = authority
	if title := normaliseTarget(r); title != "" {
		return &refusal{http.StatusBadRequest, reasonBadRequest, title}
	}
	if loops(r.Header["Cdn-Loop"], rt.node) {
		return &refusal{http.StatusLoopDetected, reasonLoop, "The request has passed here before."}
	}
	if expect := r.Header["Expect"]; expect != nil && (len(expect) != 1 || !strings.EqualFold(expect[0], "100-continue")) {
		return &refusal{http.StatusExpectationFailed, reasonExpectation, "Only 100-continue can be expected."}
	}
	return nil
}

// schemeOf returns the scheme by which the client reached us.
func schemeOf(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// maxHops bounds the CDN-Loop members of a request: a loop through nodes that
// strip our token still ends.
const maxHops = 32

// loops reports whether our own token stands in CDN-Loop (RFC 8586 section 2).
func loops(lines []string, node string) bool {
	hops := 0
	for _, line := range lines {
		for member := range strings.SplitSeq(line, ",") {
			id, _, _ := strings.Cut(member, ";")
			if strings.TrimSpace(id) == node {
				return true
			}
			hops++
		}
	}
	return hops > maxHops
}
