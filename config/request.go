package config

import (
	"net/http"
	"net/netip"
	"net/textproto"
	"net/url"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// attributeNames are the attributes of req, in the order of the manual.
var attributeNames = []string{"host", "method", "path", "query", "scheme", "client_ip", "header", "cookie", "param"}

// attribute compiles a reference to the request: req.host or req.header["Accept"].
func (d *decoder) attribute(e *hclsyntax.ScopeTraversalExpr) (term, bool) {
	root := e.Traversal.RootName()
	if root != "req" {
		detail := " Text is written in quotes: \"" + root + "\"."
		if slices.Contains(attributeNames, root) {
			detail = " Did you mean \"req." + root + "\"?"
		} else if didYouMean(root, []string{"req", "request"}) != "" {
			detail = " Did you mean \"req\"?"
		}
		d.fault(e.Range().Ptr(), "Unknown name", "There is no value named %q; expressions know the request as \"req\".%s", root, detail)
		return term{}, false
	}
	if len(e.Traversal) == 1 {
		d.fault(e.Range().Ptr(), "Incomplete reference", "The request has these attributes: %s.", strings.Join(attributeNames, ", "))
		return term{}, false
	}
	step, ok := e.Traversal[1].(hcl.TraverseAttr)
	if !ok {
		d.fault(e.Traversal[1].SourceRange().Ptr(), "Unsupported index", `The request has attributes, such as req.host; only req.header, req.cookie and req.param have elements.`)
		return term{}, false
	}
	var ask func(*http.Request) string
	switch step.Name {
	case "host":
		ask = requestHost
	case "method":
		ask = func(r *http.Request) string { return r.Method }
	case "path":
		ask = func(r *http.Request) string { return r.URL.Path }
	case "query":
		ask = func(r *http.Request) string { return r.URL.RawQuery }
	case "scheme":
		ask = requestScheme
	case "client_ip":
		ask = d.clientIP
	case "header", "cookie", "param":
		return d.element(e, step)
	default:
		suggestion := didYouMean(step.Name, attributeNames)
		if suggestion == "" {
			suggestion = " Its attributes are " + strings.Join(attributeNames, ", ") + "."
		}
		d.fault(&step.SrcRange, "Unknown attribute", "The request has no attribute named %q.%s", step.Name, suggestion)
		return term{}, false
	}
	if len(e.Traversal) > 2 {
		d.fault(e.Traversal[2].SourceRange().Ptr(), "Unsupported index", "req.%s is text and has no parts.", step.Name)
		return term{}, false
	}
	return term{kind: kindText, spelling: "req." + step.Name, text: ask}, true
}

// element compiles req.header["name"], req.cookie["name"] and req.param["name"],
// which may also be written req.cookie.name.
func (d *decoder) element(e *hclsyntax.ScopeTraversalExpr, of hcl.TraverseAttr) (term, bool) {
	if len(e.Traversal) != 3 {
		d.fault(e.Range().Ptr(), "Incomplete reference", `One element is meant, by its name: req.%s["name"].`, of.Name)
		return term{}, false
	}
	var name string
	at := e.Traversal[2].SourceRange().Ptr()
	switch step := e.Traversal[2].(type) {
	case hcl.TraverseAttr:
		name = step.Name
	case hcl.TraverseIndex:
		if step.Key.Type() != cty.String {
			d.fault(at, "Wrong type", `The name is text: req.%s["name"].`, of.Name)
			return term{}, false
		}
		name = step.Key.AsString()
	default:
		panic("config: a traversal with a step of another type")
	}
	t := term{kind: kindText}
	switch of.Name {
	case "header":
		if problem := headerNameProblem(name); problem != "" {
			d.fault(at, "Invalid header name", "%s", problem)
			return term{}, false
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		if name == "Host" {
			d.fault(at, "Unknown header", `The Host field is not among the headers. Did you mean "req.host"?`)
			return term{}, false
		}
		t.text = func(r *http.Request) string { return requestHeader(r, name) }
	case "cookie":
		if !isToken(name) {
			d.fault(at, "Invalid cookie name", "%q cannot be the name of a cookie.", name)
			return term{}, false
		}
		t.text = func(r *http.Request) string { return requestCookie(r, name) }
	case "param":
		if name == "" {
			d.fault(at, "Invalid parameter name", "The name of a query parameter is missing.")
			return term{}, false
		}
		t.text = func(r *http.Request) string { return requestParam(r.URL.RawQuery, name) }
	}
	t.spelling = "req." + of.Name + "[" + constantText(name).spelling + "]"
	return t, true
}

// requestHost is the host that the client asked for, in lower case, without port.
func requestHost(r *http.Request) string {
	host := r.Host
	if i := strings.LastIndexByte(host, ':'); i >= 0 && i > strings.LastIndexByte(host, ']') {
		host = host[:i]
	}
	return strings.ToLower(host)
}

// requestScheme is the scheme by which the client reached the node.
func requestScheme(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// clientIP is the client's address without port and brackets.
func clientIP(r *http.Request) string {
	address := r.RemoteAddr
	if end := strings.LastIndexByte(address, ']'); end > 0 && address[0] == '[' {
		return address[1:end]
	}
	if i := strings.LastIndexByte(address, ':'); i >= 0 && i == strings.IndexByte(address, ':') {
		return address[:i]
	}
	return address
}

// clientNetwork is the client's address, of IPv6 the network of so many bits.
func clientNetwork(r *http.Request, bits int) string {
	text := clientIP(r)
	address, err := netip.ParseAddr(text)
	if err != nil || address.Is4() {
		return text
	}
	if address.Is4In6() {
		return address.Unmap().String()
	}
	return netip.PrefixFrom(address, bits).Masked().String()
}

// requestHeader is the value of a header, "" when it is absent. The lines of a
// header that came several times are one list (RFC 9110 section 5.3): a condition
// that looked at the first alone could be walked around with a second. It
// allocates only to join lines.
func requestHeader(r *http.Request, name string) string {
	switch lines := r.Header[name]; len(lines) {
	case 0:
		return ""
	case 1:
		return lines[0]
	default:
		if name == "Cookie" {
			return strings.Join(lines, "; ")
		}
		return strings.Join(lines, ", ")
	}
}

// requestCookie is the value of the first cookie of that name, without the quotes
// around it, "" when there is none. It does not allocate.
func requestCookie(r *http.Request, name string) string {
	for _, line := range r.Header["Cookie"] {
		for more := true; more; {
			var pair string
			pair, line, more = strings.Cut(line, ";")
			key, value, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
			if key == name {
				if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
					value = value[1 : len(value)-1]
				}
				return value
			}
		}
	}
	return ""
}

// requestParam is the value of the first query parameter of that name, decoded, ""
// when there is none. Parameters are split at '&' only, as keys and origins see
// them. It allocates only to decode.
func requestParam(query, name string) string {
	for more := true; more; {
		var pair string
		pair, query, more = strings.Cut(query, "&")
		key, value, _ := strings.Cut(pair, "=")
		if unescapeParam(key) == name {
			return unescapeParam(value)
		}
	}
	return ""
}

// unescapeParam decodes one half of a parameter; what cannot be decoded stands for
// itself.
func unescapeParam(raw string) string {
	if strings.IndexByte(raw, '%') < 0 && strings.IndexByte(raw, '+') < 0 {
		return raw
	}
	if decoded, err := url.QueryUnescape(raw); err == nil {
		return decoded
	}
	return raw
}
