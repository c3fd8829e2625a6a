package config

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// resolve checks what the blocks of a file say of one another, and fills the Config
// with its origins and sites.
func (d *decoder) resolve() {
	if len(d.origins) == 0 && !d.incomplete {
		d.fault(nil, "No origin", `The file names no origin. Write origin "app" { url = "http://127.0.0.1:3000" }.`)
	}
	if len(d.sites) == 0 && !d.incomplete {
		d.fault(nil, "No site", `The file has no site. Write site "main" { hosts = ["*"] }.`)
	}
	d.uniqueHosts()
	d.resolveTokens()
	for _, site := range d.sites {
		d.config.Sites = append(d.config.Sites, d.site(site))
	}
	d.resolveLimits()
	d.checkUse(d.cache)
	for _, site := range d.sites {
		d.checkUse(site.cache)
		for _, route := range site.routes {
			d.checkUse(route.cache)
		}
	}
	for _, origin := range d.origins {
		if !origin.used && !d.failed() {
			d.warn(&origin.at, "Unused origin", "No site or route goes to the origin %q.", origin.origin.Name)
		}
		d.config.Origins = append(d.config.Origins, origin.origin)
	}
}

// uniqueHosts finds hosts that two sites claim.
func (d *decoder) uniqueHosts() {
	owners := make(map[string]*siteBlock)
	for _, site := range d.sites {
		for i := range site.hosts {
			host := &site.hosts[i]
			if owner := owners[host.text]; owner != nil && owner != site {
				d.fault(&host.at, "Duplicate host", "The site %q, on line %d, already answers for %q.", owner.name, owner.at.Start.Line, host.text)
				continue
			}
			owners[host.text] = site
		}
	}
}

// catchAll is the name of the route that is made from the site itself.
const catchAll = "default"

// site makes a Site with its routes in the order in which they are tried.
func (d *decoder) site(block *siteBlock) Site {
	site := Site{Name: block.name}
	for _, host := range block.hosts {
		site.Hosts = append(site.Hosts, host.text)
	}
	whole := &routeBlock{name: catchAll, path: "/*", at: block.at}
	routes := slices.DeleteFunc(slices.Clone(block.routes), func(r *routeBlock) bool { return d.never(r) })
	if !slices.ContainsFunc(routes, func(r *routeBlock) bool { return r.takes(whole) }) {
		routes = append(routes, whole)
	}
	slices.SortStableFunc(routes, bySpecificity)
	samePath := make(map[string][]*routeBlock) // by path, in order
	for _, route := range routes {
		if route != whole && route.name == catchAll && slices.Contains(routes, whole) {
			d.fault(&route.at, "Duplicate block", "The name %q is kept for the route that takes what no other route of the site does.", catchAll)
		}
		for _, before := range samePath[route.path] {
			if before.takes(route) && !d.incomplete {
				d.warn(&route.at, "Unreachable route", "The route %q, on line %d, takes all that this one would.", before.name, before.at.Start.Line)
				route.hidden = true
				break
			}
		}
		samePath[route.path] = append(samePath[route.path], route)
		site.Routes = append(site.Routes, d.route(block, route))
	}
	return site
}

// never reports, with a warning, a route whose condition is constant and false.
func (d *decoder) never(r *routeBlock) bool {
	if r.when == nil || !r.when.constant {
		return false
	}
	if r.when.truth(nil) {
		r.when = nil // always
		return false
	}
	d.warn(&r.at, "Unreachable route", "The condition of this route is never true.")
	return true
}

// bySpecificity orders routes as they are tried: an exact path before a prefix, a
// longer prefix before a shorter one, and on one path the route with more
// conditions (methods, when) before one with fewer. Equals keep the file's order.
func bySpecificity(a, b *routeBlock) int {
	prefixA, isPrefixA := strings.CutSuffix(a.path, "*")
	prefixB, isPrefixB := strings.CutSuffix(b.path, "*")
	switch {
	case isPrefixA != isPrefixB && isPrefixA:
		return 1
	case isPrefixA != isPrefixB:
		return -1
	case isPrefixA && len(prefixA) != len(prefixB):
		return cmp.Compare(len(prefixB), len(prefixA))
	default:
		return cmp.Compare(b.conditions(), a.conditions())
	}
}

func (r *routeBlock) conditions() (n int) {
	if r.methods != nil {
		n++
	}
	if r.when != nil {
		n++
	}
	return n
}

// takes reports whether every request that other takes on its path is taken by r.
// Routes with unlike paths never hide one another, thanks to their order.
func (r *routeBlock) takes(other *routeBlock) bool {
	if r.path != other.path {
		return false
	}
	if r.when != nil && (other.when == nil || r.when.spelling != other.when.spelling) {
		return false
	}
	if r.methods == nil {
		return true
	}
	return other.methods != nil && !slices.ContainsFunc(other.methods, func(m string) bool { return !slices.Contains(r.methods, m) })
}

// route makes a Route of what the file, the site and the route itself say.
func (d *decoder) route(site *siteBlock, block *routeBlock) Route {
	policy := defaultPolicy
	if named := cmp.Or(block.policy, site.policy, d.policy); named != nil {
		policy = *named
	}
	route := Route{
		Name:     block.name,
		Path:     block.path,
		Methods:  block.methods,
		Origin:   d.originOf(site, block),
		Upgrade:  true,
		Cache:    d.merge(policy, d.cache, site.cache, block.cache),
		Request:  site.request.over(block.request),
		Response: site.response.over(block.response),

		RateLimits: d.limitsOf(site, block),
	}
	if block.when != nil {
		route.When, route.WhenText = block.when.truth, block.when.spelling
	}
	if upgrade := cmp.Or(block.upgrade, site.upgrade); upgrade != nil {
		route.Upgrade = *upgrade
	}
	return route
}

// originOf finds the origin of a route: its own, or its site's, or the only one.
func (d *decoder) originOf(site *siteBlock, route *routeBlock) string {
	name := cmp.Or(route.origin, site.origin)
	if name == nil {
		if len(d.origins) == 1 {
			d.origins[0].used = true
			return d.origins[0].origin.Name
		}
		if len(d.origins) > 1 {
			d.fault(&site.at, "Missing argument", `The file has several origins, so the site %q needs an argument "origin".`, site.name)
		}
		return "" // without any origin, that is what was reported
	}
	var names []string
	for _, origin := range d.origins {
		if origin.origin.Name == name.text {
			origin.used = true
			return name.text
		}
		names = append(names, origin.origin.Name)
	}
	suggestion := didYouMean(name.text, names)
	if suggestion == "" && len(names) > 0 {
		suggestion = " There is " + quoted(names) + "."
	}
	d.fault(&name.at, "Unknown origin", "There is no origin named %q.%s", name.text, suggestion)
	return ""
}

// checkMethod checks a method of a route.
func checkMethod(method string) (normal, problem string) {
	if !isToken(method) {
		return "", fmt.Sprintf("%q cannot be a method.", method)
	}
	if upper := strings.ToUpper(method); upper != method {
		return "", fmt.Sprintf("Methods are case-sensitive. Did you mean %q?", upper)
	}
	if method == http.MethodConnect || method == http.MethodTrace {
		return "", fmt.Sprintf("%s is never served.", method)
	}
	return method, ""
}
