package rfc9111

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dunglas/httpsfv"
	"github.com/pquerna/cachecontrol/cacheobject"
)

// directives is what a response says to caches, whichever field said it (RFC 9111
// section 5.2.2, RFC 5861, RFC 9213). The zero value says nothing.
type directives struct {
	field    string // that said it, as the operator or the RFC spells it; "" when none did
	targeted bool   // field is a targeted one: Cache-Control and Expires do not count

	noStore         bool
	mustUnderstand  bool
	private         bool // without a list of fields
	noCache         bool // without a list of fields
	public          bool
	mustRevalidate  bool
	proxyRevalidate bool

	omit []string // canonical names listed by private and no-cache

	maxAge              Limit
	sMaxAge             Limit
	whileRevalidate     Limit
	whileRevalidateBare bool // present without a value
	ifError             Limit
}

// responseDirectives reads the field that counts for this cache: the first that
// is valid and not empty of Surrogate-Control (if the policy wants it) and the
// targeted fields, else Cache-Control (RFC 9213 section 2.2).
func responseDirectives(res http.Header, p *Policy) directives {
	if lines := res["Surrogate-Control"]; p.SurrogateControl && len(lines) > 0 {
		if d, ok := surrogateControl(lines); ok {
			d.field, d.targeted = "Surrogate-Control", true
			return d
		}
	}
	for _, name := range p.Targets {
		if lines := res[http.CanonicalHeaderKey(name)]; len(lines) > 0 {
			if d, ok := targeted(lines); ok {
				d.field, d.targeted = name, true
				return d
			}
		}
	}
	return cacheControl(res["Cache-Control"])
}

// cacheControl reads the lines of a Cache-Control field. Each directive is read
// by itself, so that a bad one spoils no other.
func cacheControl(lines []string) directives {
	var r directives
	for _, line := range lines {
		for d, left, ok := nextDirective(line); ok; d, left, ok = nextDirective(left) {
			r.field = "Cache-Control"
			r.add(strings.ToLower(d.name), unescape(d.arg), d.hasArg, d.broken)
			if d.broken {
				r.restrictiveIn(d.rest)
			}
		}
	}
	return r
}

// restrictiveIn obeys the directives that forbid something in text that cannot be
// read: "max-age=60; private" comes from someone who does not want it shared.
func (r *directives) restrictiveIn(text string) {
	isSeparator := func(c rune) bool { return c >= 128 || !tokenByte(byte(c)) }
	for _, word := range strings.FieldsFunc(text, isSeparator) {
		switch word = strings.ToLower(word); word {
		case "no-store", "private", "no-cache", "must-revalidate", "proxy-revalidate":
			r.add(word, "", false, false)
		}
	}
}

// add takes one directive in. The ones that forbid win over those that allow, and
// the smaller of two numbers over the larger (RFC 9111 section 4.2.1). An argument
// to a directive that has none is ignored; what is wrong with an age makes the
// response stale; what is wrong with a window that allows stale use closes it.
func (r *directives) add(name, arg string, hasArg, broken bool) {
	switch name {
	case "no-store", "public", "must-revalidate", "proxy-revalidate", "must-understand":
		r.merge(name)

	case "max-age", "s-maxage":
		if broken || !isToken(arg) || !r.merge(name+"="+arg) {
			r.merge(name + "=0")
		}

	case "stale-while-revalidate", "stale-if-error":
		switch {
		case !hasArg && !broken && name == "stale-while-revalidate":
			r.whileRevalidateBare = true
		case broken || !isToken(arg) || !r.merge(name+"="+arg):
			r.merge(name + "=0")
		}

	case "private", "no-cache":
		fields, ok := fieldList(arg)
		if !hasArg || broken || !ok {
			r.merge(name)
			return
		}
		r.merge(name + `="` + strings.Join(fields, ",") + `"`)
	}
}

// merge has one directive, in canonical spelling, parsed and takes over what it
// means. It returns false when the value is no good.
func (r *directives) merge(spelling string) bool {
	d, err := cacheobject.ParseResponseCacheControl(spelling)
	if err != nil {
		return false
	}
	r.noStore = r.noStore || d.NoStore
	r.public = r.public || d.Public
	r.mustRevalidate = r.mustRevalidate || d.MustRevalidate
	r.proxyRevalidate = r.proxyRevalidate || d.ProxyRevalidate
	r.mustUnderstand = r.mustUnderstand || slices.Contains(d.Extensions, "must-understand")
	r.private = r.private || d.PrivatePresent && len(d.Private) == 0
	r.noCache = r.noCache || d.NoCachePresent && len(d.NoCache) == 0
	for _, names := range []cacheobject.FieldNames{d.Private, d.NoCache} {
		for name := range names {
			if !slices.Contains(r.omit, name) {
				r.omit = append(r.omit, name)
			}
		}
	}
	slices.Sort(r.omit)
	r.maxAge.mergeSeconds(d.MaxAge)
	r.sMaxAge.mergeSeconds(d.SMaxAge)
	r.whileRevalidate.mergeSeconds(d.StaleWhileRevalidate)
	r.ifError.mergeSeconds(d.StaleIfError)
	return true
}

func (l *Limit) mergeSeconds(n cacheobject.DeltaSeconds) {
	if n >= 0 {
		l.lowerTo(time.Duration(n) * time.Second)
	}
}

// fieldList reads the argument of private and no-cache. It returns false when it
// is no list of field names, is empty, or names a field without which the rest of
// the response would be misread: then the directive counts for the whole response.
func fieldList(arg string) (names []string, ok bool) {
	for name := range strings.SplitSeq(arg, ",") {
		name = trimOWS(name)
		if name == "" {
			continue
		}
		if !isToken(name) {
			return nil, false
		}
		name = http.CanonicalHeaderKey(name)
		switch name {
		case "Age", "Cache-Control", "Content-Encoding", "Content-Type", "Date", "Expires", "Vary":
			return nil, false
		}
		names = append(names, name)
	}
	return names, len(names) > 0
}

// targeted reads a targeted field, a Dictionary Structured Field. It returns false
// when the field is empty or malformed and must be ignored (RFC 9213 section 2.1).
// A directive with a value of the wrong type is ignored, unless it is one that
// forbids something: taking "private" in earnest harms nobody.
func targeted(lines []string) (directives, bool) {
	dictionary, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil || len(dictionary.Names()) == 0 {
		return directives{}, false
	}
	var r directives
	for _, name := range dictionary.Names() {
		member, _ := dictionary.Get(name)
		item, isItem := member.(httpsfv.Item)
		if isItem && item.Value == false {
			continue
		}
		switch name {
		case "no-store", "must-revalidate", "proxy-revalidate":
			r.add(name, "", false, false)
		case "public", "must-understand":
			if isItem && item.Value == true {
				r.add(name, "", false, false)
			}
		case "private", "no-cache":
			list, isString := item.Value.(string)
			r.add(name, list, isString, false)
		case "max-age", "s-maxage", "stale-while-revalidate", "stale-if-error":
			r.addInteger(name, item.Value)
		}
	}
	return r, true
}

func (r *directives) addInteger(name string, value any) {
	switch n := value.(type) {
	case int64: // negative: as expired as zero
		r.add(name, strconv.FormatInt(max(n, 0), 10), true, false)
	case bool:
		if name == "stale-while-revalidate" {
			r.add(name, "", false, false)
		}
	}
}

// surrogateControl reads Surrogate-Control (Edge Architecture Specification 1.0):
// directives like those of Cache-Control, where max-age=60+30 adds a time in which
// a stale response may still be used, and ";name" restricts a directive to the
// surrogate of that name, which is never this one. It returns false when nothing
// in it is about caching.
func surrogateControl(lines []string) (directives, bool) {
	var r directives
	said := false
	for _, line := range lines {
		for d, left, ok := nextDirective(line); ok; d, left, ok = nextDirective(left) {
			if strings.Contains(d.rest, ";") {
				continue
			}
			name := strings.ToLower(d.name)
			switch name {
			case "no-store-remote":
				name = "no-store" // "remote" is not defined well enough to be sure that this node is not
			case "max-age":
				// '+' may stand in a token, so the two numbers arrive as one argument.
				fresh, stale, plus := strings.Cut(d.arg, "+")
				d.arg = fresh
				if plus {
					r.add("stale-while-revalidate", stale, true, d.broken)
					r.add("stale-if-error", stale, true, d.broken)
				}
			case "no-store", "private", "no-cache", "must-revalidate", "stale-while-revalidate", "stale-if-error":
			default:
				continue
			}
			r.add(name, unescape(d.arg), d.hasArg, d.broken)
			said = true
		}
	}
	return r, said
}
