package config

import (
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// headerRules are the header lines of a block, as read.
type headerRules struct {
	remove []string
	set    []Header
	add    []Header
}

// connectionHeaders belong to one connection (RFC 9110 section 7.6.1) or frame the
// message: the node removes or writes them itself, and a rule that did would split
// messages or hang connections.
var connectionHeaders = []string{
	"Connection", "Content-Length", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
	"Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// requestHeadersOfOurs say what the cache asks the origin for, and who asks.
var requestHeadersOfOurs = []string{
	"Cdn-Loop", "Expect", "If-Match", "If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since", "Range", "Via",
}

// responseHeadersOfOurs say what the cache did.
var responseHeadersOfOurs = []string{"Age", "Cache-Status", "Content-Range", "Date", "Via"}

// headersBlock reads request_headers { } or response_headers { }.
func (d *decoder) headersBlock(b *hcl.Block, ours []string) *headerRules {
	rules := &headerRules{}
	name := func(text string) (string, string) { return checkHeaderName(text, ours) }
	places := make(map[string]hcl.Range) // of the names that are set
	d.body(b.Body, lines{
		"remove": func(e hclsyntax.Expression) {
			names, _ := d.listOf(e, d.checked("Invalid header name", name))
			for _, n := range names {
				rules.remove = append(rules.remove, n.text)
			}
		},
		"set": func(e hclsyntax.Expression) {
			for _, header := range d.headers(e, name) {
				if _, twice := places[header.Name]; twice {
					d.fault(&header.at, "Duplicate element", "%s is already set. A second line of it is written in add.", header.Name)
				}
				places[header.Name] = header.at
				rules.set = append(rules.set, header.Header)
			}
		},
		"add": func(e hclsyntax.Expression) {
			for _, header := range d.headers(e, name) {
				rules.add = append(rules.add, header.Header)
			}
		},
	}, nil)
	for _, removed := range rules.remove {
		if at, ok := places[removed]; ok {
			d.fault(&at, "Contradiction", "%s is in remove too. To set a header replaces what was there.", removed)
		}
	}
	return rules
}

type headerAt struct {
	Header
	at hcl.Range // of the name
}

// headers reads { "Name" = "value" }.
func (d *decoder) headers(e hclsyntax.Expression, checkName func(string) (string, string)) []headerAt {
	pairs, _ := d.object(e)
	var headers []headerAt
	for _, pair := range pairs {
		value, ok := d.headerValue(pair.value)
		name, problem := checkName(pair.key.text)
		if problem != "" {
			d.fault(&pair.key.at, "Invalid header name", "%s", problem)
		} else if ok {
			headers = append(headers, headerAt{Header{Name: name, Value: value.text, Text: value.spelling, Constant: value.constant}, pair.key.at})
		}
	}
	return headers
}

// headerValue compiles a value that can never break out of its line: a constant
// with control characters is refused, and those that a request brings are left out.
func (d *decoder) headerValue(e hclsyntax.Expression) (term, bool) {
	t, ok := d.compileAs(e, kindText)
	if !ok {
		return term{}, false
	}
	if t.constant {
		if value := t.text(nil); value != fieldValue(value) {
			d.fault(e.Range().Ptr(), "Invalid header value", "A header value has no line breaks or other control characters.")
			return term{}, false
		}
		return t, true
	}
	text := t.text
	t.text = func(r *http.Request) string { return fieldValue(text(r)) }
	return t, true
}

// fieldValue returns s without the bytes that may not stand in a field value (RFC
// 9110 section 5.5): control characters other than the tab. It allocates only when
// there are some.
func fieldValue(s string) string {
	for i := range len(s) {
		if isControl(s[i]) {
			kept := []byte(s[:i])
			for _, c := range []byte(s[i:]) {
				if !isControl(c) {
					kept = append(kept, c)
				}
			}
			return string(kept)
		}
	}
	return s
}

func isControl(c byte) bool { return c < ' ' && c != '\t' || c == 0x7f }

// over returns the rules of a site with those of a route applied after them, either
// nil for none, as one set of rules: remove, then set, then add.
func (site *headerRules) over(route *headerRules) Headers {
	var merged Headers
	for _, rules := range []*headerRules{site, route} {
		if rules == nil {
			continue
		}
		replaced := func(h Header) bool {
			return slices.Contains(rules.remove, h.Name) ||
				slices.ContainsFunc(rules.set, func(set Header) bool { return set.Name == h.Name })
		}
		merged.Set = append(slices.DeleteFunc(merged.Set, replaced), rules.set...)
		merged.Add = append(slices.DeleteFunc(merged.Add, replaced), rules.add...)
		for _, name := range rules.remove {
			if !slices.Contains(merged.Remove, name) {
				merged.Remove = append(merged.Remove, name)
			}
		}
	}
	return merged
}

// checkHeaderName checks the name of a header that a rule changes.
func checkHeaderName(name string, ours []string) (normal, problem string) {
	if problem := headerNameProblem(name); problem != "" {
		return "", problem
	}
	switch normal = textproto.CanonicalMIMEHeaderKey(name); {
	case normal == "Host":
		return "", "The Host that an origin gets is written in its block: host = \"name\"."
	case slices.Contains(connectionHeaders, normal):
		return "", fmt.Sprintf("%s belongs to the connection or frames the message, so the node alone writes it.", normal)
	case slices.Contains(ours, normal):
		return "", fmt.Sprintf("%s is written by the cache itself.", normal)
	}
	return normal, ""
}

// headerNameProblem says what is wrong with a header's name, or "".
func headerNameProblem(name string) string {
	if strings.HasSuffix(name, ":") {
		return fmt.Sprintf("The colon is not part of a header's name. Did you mean %q?", strings.TrimSuffix(name, ":"))
	}
	if !isToken(name) {
		return fmt.Sprintf("%q cannot be the name of a header.", name)
	}
	return ""
}

// isToken reports whether s is a token (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	for _, c := range []byte(s) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}
