package config

import (
	"net/http"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// siteBlock is a site as read.
type siteBlock struct {
	name   string
	hosts  []textAt
	routes []*routeBlock
	at     hcl.Range // of its name
	routeLines
}

// routeBlock is a route as read.
type routeBlock struct {
	name    string
	path    string
	methods []string
	when    *term // nil is always
	at      hcl.Range
	hidden  bool // others take all its requests
	routeLines
}

// routeLines are what a site says for all its routes and a route for itself. Nil is
// not said.
type routeLines struct {
	policy   *string
	origin   *textAt
	upgrade  *bool
	cache    *cacheLines
	request  *headerRules
	response *headerRules
	limits   *[]textAt
}

// siteBlock reads site "name" { }.
func (d *decoder) siteBlock(b *hcl.Block) {
	site := &siteBlock{name: b.Labels[0], at: b.LabelRanges[0]}
	d.sites = append(d.sites, site)
	own := lines{
		"hosts": func(e hclsyntax.Expression) {
			var ok bool
			if site.hosts, ok = d.listOf(e, d.checked("Invalid host", checkAuthority)); ok {
				d.checkHosts(site.hosts, e.Range())
			}
		},
	}
	inner := blocks{
		"route": {named: true, read: func(b *hcl.Block) { site.routes = append(site.routes, d.routeBlock(b)) }},
	}
	d.shared(&site.routeLines, own, inner)
	d.body(b.Body, own, inner)
	d.required(b, "hosts")
}

func (d *decoder) checkHosts(hosts []textAt, at hcl.Range) {
	if len(hosts) == 0 {
		d.fault(&at, "Empty list", `A site answers for at least one host; "*" is any.`)
	}
	for i := range hosts {
		if hosts[i].text == "*" && len(hosts) > 1 {
			d.fault(&hosts[i].at, "Contradiction", `"*" is any host, so it stands alone. A site of its own may take the hosts that no other site names.`)
		}
	}
}

// routeBlock reads route "name" { }.
func (d *decoder) routeBlock(b *hcl.Block) *routeBlock {
	route := &routeBlock{name: b.Labels[0], at: b.LabelRanges[0]}
	own := lines{
		"path":    set(d, &route.path, d.checked("Invalid path", checkPath)),
		"methods": set(d, &route.methods, d.methods),
		"when": func(e hclsyntax.Expression) {
			if when, ok := d.compileAs(e, kindTruth); ok {
				route.when = &when
			}
		},
	}
	inner := blocks{}
	d.shared(&route.routeLines, own, inner)
	d.body(b.Body, own, inner)
	d.required(b, "path")
	return route
}

// shared adds the lines that sites and routes have in common.
func (d *decoder) shared(r *routeLines, own lines, inner blocks) {
	own["policy"] = d.policyLine(&r.policy)
	own["origin"] = func(e hclsyntax.Expression) {
		if name, ok := d.constantText(e); ok {
			r.origin = &textAt{name, e.Range()}
		}
	}
	own["upgrade"] = set(d, &r.upgrade, func(e hclsyntax.Expression) (*bool, bool) {
		value, ok := d.truth(e)
		return &value, ok
	})
	own["rate_limits"] = d.limitsLine(&r.limits)
	inner["cache"] = blockType{read: func(b *hcl.Block) { r.cache = d.cacheBlock(b) }}
	inner["request_headers"] = blockType{read: func(b *hcl.Block) { r.request = d.headersBlock(b, requestHeadersOfOurs) }}
	inner["response_headers"] = blockType{read: func(b *hcl.Block) { r.response = d.headersBlock(b, responseHeadersOfOurs) }}
}

// policyLine reads policy = "safe".
func (d *decoder) policyLine(target **string) func(hclsyntax.Expression) {
	read := d.oneOf("policy", policyNames...)
	return func(e hclsyntax.Expression) {
		if name, ok := read(e); ok {
			*target = &name
		}
	}
}

// methods reads the methods of a route. GET brings HEAD with it, as in net/http: a
// HEAD that took another route than its GET would get another answer.
func (d *decoder) methods(e hclsyntax.Expression) ([]string, bool) {
	methods, ok := d.list(d.checked("Invalid method", checkMethod))(e)
	if ok && len(methods) == 0 {
		d.fault(e.Range().Ptr(), "Empty list", "A route without methods serves nothing. Leave the line out for any method.")
		return nil, false
	}
	if slices.Contains(methods, http.MethodGet) && !slices.Contains(methods, http.MethodHead) {
		methods = append(methods, http.MethodHead)
	}
	return methods, ok
}
