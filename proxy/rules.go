package proxy

import (
	"net/http"
	"slices"
	"time"

	"edge/proxy/rfc9111"
)

// Rules are what the operator says about one route. The zero value passes every
// request to the origin and stores nothing.
type Rules struct {
	Cache          bool           // false: every request passes
	Policy         rfc9111.Policy // what may be stored, and for how long
	Cookies        CookieRule     // what a request's Cookie means; Policy.CookiesNeedPermission goes with CookiesAsPolicy
	StripSetCookie bool           // remove Set-Cookie from responses, and so let them be stored
	ShowKeys       bool           // leave surrogate keys in client responses
	Upgrade        bool           // let WebSocket upgrades through
	Underscores    bool           // let request fields with "_" in their names through, which some origins take for "-"
	StaticType     string         // media type, or "type/*", that a path rule expects; "" expects nothing
	ShrinkGuard    int64          // bytes of stored body, from which on an empty answer does not take its place; zero is no guard
	HitForMiss     time.Duration  // how long an answer that may not be shared is remembered; zero is not at all
	MaxObject      int64          // bytes of body stored at most; zero means 8 MiB
	MaxRanges      int            // ranges answered in one response; zero means 8

	KeySortQuery  bool
	KeyAllowQuery []string // raw parameter names kept in key and request; nil keeps all
	KeyDenyQuery  []string // raw parameter names dropped from key and request
	KeyHeaders    []string // canonical names of request headers in the key
	KeyCookies    []string // names of cookies in the key
	KeyValue      func(*http.Request) string

	Request    HeaderRules // towards the origin, before anything is decided
	Response   HeaderRules // towards the client, on every answer that is not our own
	HostHeader string      // Host towards the origin; "" passes the client's

	Digest uint64 // of all the above that can change what is stored
}

// CookieRule says what a request's Cookie header does on a route.
type CookieRule uint8

const (
	// CookiesAsPolicy forwards cookies; Policy.CookiesNeedPermission decides
	// whether a response to them may be stored.
	CookiesAsPolicy CookieRule = iota
	// CookiesIgnore forwards cookies and stores as if there were none: the
	// operator knows that the origin does not look at them.
	CookiesIgnore
	// CookiesStrip removes cookies before the request is looked at, except those
	// in KeyCookies.
	CookiesStrip
)

// HeaderRules change a header section: Remove, then Set, then Add.
type HeaderRules struct {
	Remove []string
	Set    []HeaderRule
	Add    []HeaderRule
}

// HeaderRule is one field to write. Value must not change the request.
type HeaderRule struct {
	Name     string // canonical
	Value    func(*http.Request) string
	Constant *string // what Value returns for every request; nil when that depends
}

// bends tells whether entries of the route stand under other keys than the plain
// ones of their URLs.
func (rules *Rules) bends() bool {
	return rules.KeyHeaders != nil || rules.KeyCookies != nil || rules.KeyValue != nil ||
		rules.KeySortQuery || rules.KeyAllowQuery != nil || rules.KeyDenyQuery != nil
}

// byPath tells whether the operator has rules for this path by which more is stored than
// the responses allow, or for longer. Heuristics and negative answers, which are seldom
// about a path, do not make a route one of files.
func (rules *Rules) byPath() bool {
	p := &rules.Policy
	return rules.Cache && (p.TTL != nil || p.DefaultTTL != nil || p.MinTTL > 0 || rules.StripSetCookie || rules.Cookies == CookiesIgnore || rules.StaticType != "")
}

// untouched is the policy for a path that the route's pattern and the origin may
// read differently (web cache deception): nothing is stored there that the
// response itself does not allow.
func untouched(rules *Rules) rfc9111.Policy {
	p := rules.Policy
	p.TTL, p.DefaultTTL, p.MinTTL, p.Negative, p.Heuristic, p.StoreSetCookie = nil, nil, 0, nil, false, false
	p.CookiesNeedPermission = rules.Cookies != CookiesStrip
	return p
}

func (rules *HeaderRules) empty() bool {
	return len(rules.Remove) == 0 && len(rules.Set) == 0 && len(rules.Add) == 0
}

// names returns the fields that the rules are about.
func (rules *HeaderRules) names() []string {
	names := slices.Clone(rules.Remove)
	for _, rule := range rules.lines() {
		names = append(names, rule.Name)
	}
	return names
}

// lines returns the fields that the rules write.
func (rules *HeaderRules) lines() []HeaderRule { return slices.Concat(rules.Set, rules.Add) }

// constant tells whether the rules write the same for every request.
func (rules *HeaderRules) constant() bool {
	return !slices.ContainsFunc(rules.lines(), func(rule HeaderRule) bool { return rule.Constant == nil })
}

// replaces tells whether what a field was does not matter.
func (rules *HeaderRules) replaces(name string) bool {
	if len(rules.Remove) == 0 && len(rules.Set) == 0 {
		return false
	}
	return slices.Contains(rules.Remove, name) ||
		slices.ContainsFunc(rules.Set, func(rule HeaderRule) bool { return rule.Name == name })
}

// apply changes h; the values are computed from r.
func (rules *HeaderRules) apply(h http.Header, r *http.Request) {
	for _, name := range rules.Remove {
		delete(h, name)
	}
	for _, rule := range rules.Set {
		h[rule.Name] = []string{rule.Value(r)}
	}
	for _, rule := range rules.Add {
		values := h[rule.Name]
		h[rule.Name] = append(values[:len(values):len(values)], rule.Value(r))
	}
}
