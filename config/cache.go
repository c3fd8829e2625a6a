package config

import (
	"fmt"
	"mime"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// cacheLines is one cache block as read: its lines, to be applied in order to what
// the policy and the blocks above gave.
type cacheLines struct {
	apply  []func(*Cache)
	places map[string]hcl.Range // of the lines, by name
	on     map[string]bool      // the lines that are true, or a list
	live   bool                 // it reaches a route that is cached
	off    *hcl.Range           // the line that switched off a route that it reaches; nil for none
}

// patch makes a line of a cache block.
func patch[T any](block *cacheLines, name string, parse parser[T], apply func(*Cache, T)) func(hclsyntax.Expression) {
	return func(e hclsyntax.Expression) {
		if value, ok := parse(e); ok {
			block.apply = append(block.apply, func(c *Cache) { apply(c, value) })
			block.places[name] = e.Range()
		}
	}
}

// nullable reads null as nil: it takes back a line of a block above.
func nullable[T any](parse parser[T]) parser[*T] {
	return func(e hclsyntax.Expression) (*T, bool) {
		if literal, ok := e.(*hclsyntax.LiteralValueExpr); ok && literal.Val.IsNull() {
			return nil, true
		}
		value, ok := parse(e)
		return &value, ok
	}
}

// cacheBlock reads cache { }.
func (d *decoder) cacheBlock(b *hcl.Block) *cacheLines {
	block := &cacheLines{places: make(map[string]hcl.Range), on: make(map[string]bool)}
	life := d.duration(0, longestLife)
	flag := func(name string, apply func(*Cache, bool)) func(hclsyntax.Expression) {
		return patch(block, name, func(e hclsyntax.Expression) (bool, bool) {
			value, ok := d.truth(e)
			block.on[name] = value
			return value, ok
		}, apply)
	}
	window := func(name string, apply func(*Cache, time.Duration)) func(hclsyntax.Expression) {
		return patch(block, name, life, apply)
	}
	optional := func(name string, apply func(*Cache, *time.Duration)) func(hclsyntax.Expression) {
		return patch(block, name, nullable(life), apply)
	}
	d.body(b.Body, lines{
		"enabled": flag("enabled", func(c *Cache, v bool) { c.Enabled = v }),

		"targets":           patch(block, "targets", d.list(d.checked("Invalid header name", checkTarget)), func(c *Cache, v []string) { c.Targets = v }),
		"surrogate_control": flag("surrogate_control", func(c *Cache, v bool) { c.SurrogateControl = v }),
		"strict_s_maxage":   flag("strict_s_maxage", func(c *Cache, v bool) { c.StrictSMaxAge = v }),
		"heuristic":         flag("heuristic", func(c *Cache, v bool) { c.Heuristic = v }),

		// To store and to strip exclude one another, so the nearer line wins.
		"store_set_cookie": flag("store_set_cookie", func(c *Cache, v bool) { c.StoreSetCookie = v; c.StripSetCookie = c.StripSetCookie && !v }),
		"strip_set_cookie": flag("strip_set_cookie", func(c *Cache, v bool) { c.StripSetCookie = v; c.StoreSetCookie = c.StoreSetCookie && !v }),
		"cookies":          patch(block, "cookies", d.oneOf("cookie rule", "permission", "ignore", "strip"), func(c *Cache, v string) { c.Cookies = v }),
		"show_keys":        flag("show_keys", func(c *Cache, v bool) { c.ShowKeys = v }),

		"ttl":                            optional("ttl", func(c *Cache, v *time.Duration) { c.TTL = v }),
		"default_ttl":                    optional("default_ttl", func(c *Cache, v *time.Duration) { c.DefaultTTL = v }),
		"min_ttl":                        window("min_ttl", func(c *Cache, v time.Duration) { c.MinTTL = v }),
		"max_ttl":                        patch(block, "max_ttl", nullable(d.duration(time.Second, longestLife)), func(c *Cache, v *time.Duration) { c.MaxTTL = valueOf(v) }),
		"stale_while_revalidate":         optional("stale_while_revalidate", func(c *Cache, v *time.Duration) { c.WhileRevalidate = v }),
		"stale_if_error":                 optional("stale_if_error", func(c *Cache, v *time.Duration) { c.IfError = v }),
		"default_stale_while_revalidate": window("default_stale_while_revalidate", func(c *Cache, v time.Duration) { c.DefaultWhileRevalidate = v }),
		"stale_if_unreachable":           window("stale_if_unreachable", func(c *Cache, v time.Duration) { c.IfUnreachable = v }),
		"keep":                           window("keep", func(c *Cache, v time.Duration) { c.Keep = v }),
		"negative":                       patch(block, "negative", d.negative, func(c *Cache, v map[int]time.Duration) { c.Negative = v }),
		"negative_max":                   patch(block, "negative_max", d.duration(time.Second, longestLife), func(c *Cache, v time.Duration) { c.NegativeMax = v }),
		"hit_for_miss":                   patch(block, "hit_for_miss", d.duration(0, longest), func(c *Cache, v time.Duration) { c.HitForMiss = v }),
		"max_object":                     patch(block, "max_object", d.size(1, mostBytes), func(c *Cache, v int64) { c.MaxObject = v }),
		"max_ranges":                     patch(block, "max_ranges", d.integer(1, 1000), func(c *Cache, v int) { c.MaxRanges = v }),
		"shrink_guard":                   patch(block, "shrink_guard", d.size(0, mostBytes), func(c *Cache, v int64) { c.ShrinkGuard = v }),
		"static_type":                    patch(block, "static_type", d.checked("Invalid media type", checkMediaType), func(c *Cache, v string) { c.StaticType = v }),
	}, blocks{
		"key": {read: func(b *hcl.Block) { d.keyBlock(b, block) }},
	})
	d.exclusive(block, "store_set_cookie", "strip_set_cookie", "A response with Set-Cookie is either stored with it or without it.")
	d.exclusive(block, "key.allow_query", "key.deny_query", "A list of the parameters that are kept leaves nothing to deny.")
	return block
}

// keyBlock reads key { } within a cache block.
func (d *decoder) keyBlock(b *hcl.Block, block *cacheLines) {
	names := func(summary string, check func(string) (string, string)) parser[[]string] {
		return d.list(d.checked(summary, check))
	}
	params := func(line string, apply func(*Key, []string)) func(hclsyntax.Expression) {
		read := nullable(names("Invalid parameter name", checkParam))
		return patch(block, line, func(e hclsyntax.Expression) (*[]string, bool) {
			list, ok := read(e)
			if list != nil && *list == nil {
				*list = []string{} // nil would keep all parameters
			}
			block.on[line] = list != nil
			return list, ok
		}, func(c *Cache, v *[]string) { apply(&c.Key, valueOf(v)) })
	}
	d.body(b.Body, lines{
		"sort_query": patch(block, "key.sort_query", d.truth, func(c *Cache, v bool) { c.Key.SortQuery = v }),
		// A list takes the place of one of the other sense from a block above.
		"allow_query": params("key.allow_query", func(k *Key, v []string) { k.AllowQuery, k.DenyQuery = v, nil }),
		"deny_query":  params("key.deny_query", func(k *Key, v []string) { k.AllowQuery, k.DenyQuery = nil, v }),
		"headers":     patch(block, "key.headers", names("Invalid header name", checkKeyHeader), func(c *Cache, v []string) { c.Key.Headers = v }),
		"cookies":     patch(block, "key.cookies", names("Invalid cookie name", checkCookie), func(c *Cache, v []string) { c.Key.Cookies = v }),
		"value": patch(block, "key.value", func(e hclsyntax.Expression) (term, bool) { return d.compileAs(e, kindText) },
			func(c *Cache, v term) { c.Key.Value, c.Key.ValueText = v.text, v.spelling }),
	}, nil)
}

func valueOf[T any](pointer *T) (value T) {
	if pointer != nil {
		value = *pointer
	}
	return value
}

// exclusive reports two lines of one block that cannot both hold.
func (d *decoder) exclusive(block *cacheLines, a, b, why string) {
	if block.on[a] && block.on[b] {
		at := block.places[b]
		d.fault(&at, "Contradiction", "This line and %q, on line %d, exclude one another. %s", lineName(a), block.places[a].Start.Line, why)
	}
}

// lineName is the name of a line without its block's.
func lineName(name string) string { return strings.TrimPrefix(name, "key.") }

// neverStored are the statuses that no cache may store (RFC 6585 sections 3 to 6).
var neverStored = []int{428, 429, 431, 511}

// negative reads the statuses that are stored without explicit freshness.
func (d *decoder) negative(e hclsyntax.Expression) (map[int]time.Duration, bool) {
	pairs, ok := d.object(e)
	var list map[int]time.Duration
	if len(pairs) > 0 {
		list = make(map[int]time.Duration)
	}
	for _, pair := range pairs {
		status, err := strconv.Atoi(pair.key.text)
		switch {
		case err != nil || status < 400 || status > 599:
			d.fault(&pair.key.at, "Invalid status", "Negative caching is for the statuses from 400 to 599, and this is %q.", pair.key.text)
			ok = false
		case slices.Contains(neverStored, status):
			d.fault(&pair.key.at, "Invalid status", "A response with status %d is never stored (RFC 6585).", status)
			ok = false
		}
		if _, twice := list[status]; twice {
			d.fault(&pair.key.at, "Duplicate element", "Status %d is already in the list.", status)
			ok = false
		}
		life, lifeOK := d.duration(time.Millisecond, longestLife)(pair.value)
		ok = ok && lifeOK
		list[status] = life
	}
	return list, ok
}

// checkTarget checks the name of a targeted field (RFC 9213).
func checkTarget(name string) (normal, problem string) {
	if problem := headerNameProblem(name); problem != "" {
		return "", problem
	}
	switch normal = textproto.CanonicalMIMEHeaderKey(name); normal {
	case "Cdn-Cache-Control":
		return "CDN-Cache-Control", "" // as the RFC spells it
	case "Cache-Control":
		return "", "Cache-Control comes after all targeted fields, and is not named."
	case "Surrogate-Control":
		return "", "Surrogate-Control has a grammar of its own. Write surrogate_control = true."
	}
	return normal, ""
}

// checkKeyHeader checks the name of a request header in the key.
func checkKeyHeader(name string) (normal, problem string) {
	if problem := headerNameProblem(name); problem != "" {
		return "", problem
	}
	normal = textproto.CanonicalMIMEHeaderKey(name)
	if normal == "Host" {
		return "", "The host is part of every key."
	}
	if slices.Contains(connectionHeaders, normal) {
		return "", fmt.Sprintf("%s belongs to one connection and cannot be part of a key.", normal)
	}
	return normal, ""
}

func checkCookie(name string) (normal, problem string) {
	if !isToken(name) {
		return "", fmt.Sprintf("%q cannot be the name of a cookie.", name)
	}
	return name, ""
}

// checkParam checks the name of a query parameter, which is compared as it stands
// in the query.
func checkParam(name string) (normal, problem string) {
	if strings.Contains(name, "*") {
		return "", fmt.Sprintf("%q: names are compared whole; \"*\" stands for nothing else here.", name)
	}
	if name == "" || strings.ContainsAny(name, "&=# ?") {
		return "", fmt.Sprintf("%q cannot be the name of a parameter as it stands in a query.", name)
	}
	for _, c := range []byte(name) {
		if c < ' ' || c >= 0x7f {
			return "", fmt.Sprintf("%q cannot be the name of a parameter as it stands in a query: names are written encoded.", name)
		}
	}
	return name, ""
}

// checkMediaType checks type/subtype without parameters.
func checkMediaType(text string) (normal, problem string) {
	if text == "" {
		return "", "" // no guard: takes back a line of a block above
	}
	normal, params, err := mime.ParseMediaType(text)
	if err != nil || !strings.Contains(normal, "/") || len(params) > 0 {
		return "", fmt.Sprintf("%q is not a media type. Write type and subtype alone, such as \"text/css\".", text)
	}
	return normal, ""
}
