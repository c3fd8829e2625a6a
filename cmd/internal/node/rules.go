package node

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"

	"edge/config"
	"edge/proxy"
	"edge/proxy/rfc9111"
)

// rules translates the configuration of one route into what package proxy asks
// for. Origin is the one that the route names.
func rules(route *config.Route, origin *config.Origin) proxy.Rules {
	c := &route.Cache
	return proxy.Rules{
		Cache:          c.Enabled,
		Policy:         policy(c),
		Cookies:        cookieRule(c.Cookies),
		StripSetCookie: c.StripSetCookie,
		ShowKeys:       c.ShowKeys,
		Upgrade:        route.Upgrade,
		StaticType:     c.StaticType,
		ShrinkGuard:    c.ShrinkGuard,
		HitForMiss:     c.HitForMiss,
		MaxObject:      c.MaxObject,
		MaxRanges:      c.MaxRanges,

		KeySortQuery:  c.Key.SortQuery,
		KeyAllowQuery: c.Key.AllowQuery,
		KeyDenyQuery:  c.Key.DenyQuery,
		KeyHeaders:    c.Key.Headers,
		KeyCookies:    c.Key.Cookies,
		KeyValue:      (func(*http.Request) string)(c.Key.Value),

		Request:    headerRules(route.Request),
		Response:   headerRules(route.Response),
		HostHeader: origin.Host,

		Digest: digest(route, origin),
	}
}

func policy(c *config.Cache) rfc9111.Policy {
	return rfc9111.Policy{
		Targets:                c.Targets,
		SurrogateControl:       c.SurrogateControl,
		StrictSMaxAge:          c.StrictSMaxAge,
		Heuristic:              c.Heuristic,
		CookiesNeedPermission:  c.Cookies == "permission",
		StoreSetCookie:         c.StoreSetCookie,
		DefaultWhileRevalidate: c.DefaultWhileRevalidate,
		IfUnreachable:          c.IfUnreachable,
		Keep:                   c.Keep,
		TTL:                    c.TTL,
		DefaultTTL:             c.DefaultTTL,
		MinTTL:                 c.MinTTL,
		MaxTTL:                 c.MaxTTL,
		WhileRevalidate:        c.WhileRevalidate,
		IfError:                c.IfError,
		Negative:               c.Negative,
		NegativeMax:            c.NegativeMax,
	}
}

func cookieRule(name string) proxy.CookieRule {
	switch name {
	case "permission":
		return proxy.CookiesAsPolicy
	case "ignore":
		return proxy.CookiesIgnore
	case "strip":
		return proxy.CookiesStrip
	default:
		panic(fmt.Sprintf("node: cookie rule %q, which the configuration has let through", name))
	}
}

func headerRules(h config.Headers) proxy.HeaderRules {
	return proxy.HeaderRules{Remove: h.Remove, Set: fields(h.Set), Add: fields(h.Add)}
}

func fields(list []config.Header) []proxy.HeaderRule {
	var out []proxy.HeaderRule
	for _, f := range list {
		rule := proxy.HeaderRule{Name: f.Name, Value: f.Value}
		if f.Constant {
			rule.Constant = new(f.Value(nil))
		}
		out = append(out, rule)
	}
	return out
}

// digest is a fingerprint of everything about a route that can change what is
// stored under it. An entry carries the digest of the rules that allowed it; after
// a change of the file, one that carries another is revalidated before it is used.
// Equal rules have equal digests on every node and in every run.
func digest(route *config.Route, origin *config.Origin) uint64 {
	c := &route.Cache
	plain, err := json.Marshal(struct {
		Origin, Host                                  string
		Enabled                                       bool
		Policy                                        rfc9111.Policy
		Cookies                                       string
		StripSetCookie, ShowKeys                      bool
		StaticType                                    string
		SortQuery                                     bool
		AllowQuery, DenyQuery, KeyHeaders, KeyCookies []string
		KeyValue                                      string
		Request                                       []string
	}{
		Origin: origin.URL, Host: origin.Host,
		Enabled:        c.Enabled,
		Policy:         policy(c),
		Cookies:        c.Cookies,
		StripSetCookie: c.StripSetCookie,
		ShowKeys:       c.ShowKeys,
		StaticType:     c.StaticType,
		SortQuery:      c.Key.SortQuery,
		AllowQuery:     c.Key.AllowQuery, DenyQuery: c.Key.DenyQuery,
		KeyHeaders: c.Key.Headers, KeyCookies: c.Key.Cookies,
		KeyValue: c.Key.ValueText,
		Request:  headerText(route.Request),
	})
	if err != nil {
		panic("node: rules that are no plain data: " + err.Error())
	}
	sum := sha256.Sum256(plain)
	return binary.BigEndian.Uint64(sum[:])
}

// headerText writes header rules out, their expressions in source form. The rules
// towards the client are left out of the digest: they change no stored response.
func headerText(h config.Headers) []string {
	var text []string
	for _, name := range h.Remove {
		text = append(text, "remove", name)
	}
	for _, f := range h.Set {
		text = append(text, "set", f.Name, f.Text)
	}
	for _, f := range h.Add {
		text = append(text, "add", f.Name, f.Text)
	}
	return text
}
