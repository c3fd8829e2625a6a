package rfc9111

import (
	"net/http"
	"net/url"
	"strings"
)

// Invalidates returns the URLs whose stored responses an unsafe request has made
// doubtful: after a 2xx or 3xx answer the target, and those of Location and
// Content-Location that have the target's origin; nil otherwise (RFC 9111 section
// 4.4). Target is absolute: scheme, authority, path and query. The URLs are new,
// absolute, without fragment, spell the origin as the target does, and differ from one
// another.
func Invalidates(method string, target *url.URL, status int, res http.Header) []*url.URL {
	if SafeMethod(method) || status < 200 || status > 399 {
		return nil
	}
	urls := []*url.URL{withoutFragment(target)}
	seen := map[string]bool{urls[0].String(): true}
	for _, name := range [...]string{"Location", "Content-Location"} {
		value, ok := single(res, name)
		if !ok {
			continue
		}
		reference, err := url.Parse(value)
		if err != nil {
			continue // what cannot be read names nothing that is stored
		}
		u := withoutFragment(target.ResolveReference(reference))
		if !sameOrigin(u, target) {
			continue
		}
		u.Scheme, u.Host = target.Scheme, target.Host // one spelling of one origin
		if text := u.String(); !seen[text] {
			seen[text] = true
			urls = append(urls, u)
		}
	}
	return urls
}

func withoutFragment(u *url.URL) *url.URL {
	c := *u
	c.Fragment, c.RawFragment = "", ""
	return &c
}

// sameOrigin compares scheme, host and port (RFC 9110 section 4.3.1). A URL with user
// information names nothing that a cache has.
func sameOrigin(a, b *url.URL) bool {
	return a.User == nil && a.Opaque == "" && strings.EqualFold(a.Scheme, b.Scheme) &&
		strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case strings.EqualFold(u.Scheme, "http"):
		return "80"
	case strings.EqualFold(u.Scheme, "https"):
		return "443"
	}
	return ""
}
