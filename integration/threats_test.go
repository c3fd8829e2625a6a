package integration

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"edge/integration/internal/node"
	"edge/integration/internal/origin"
)

// Attacks on caching proxies, as far as they show in requests and responses. Each
// test is named for a class; each case begins with the attack's name.

// mirror answers with what it was asked, stored for everyone: whatever an attacker
// can make it say, the next client would read.
func mirror(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=600")
	fmt.Fprintf(w, "%s %s at %s\n", r.Method, r.RequestURI, r.Host)
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		fmt.Fprintf(w, "%s: %s\n", name, r.Header[name])
	}
	body, _ := io.ReadAll(r.Body) // as far as it came
	fmt.Fprintf(w, "\n%s", body)
}

// Unkeyed input (P1, P2, D3, H3): named headers of an untrusted client never reach
// the origin, so that no answer can be made of them.
func TestPoisonByUnkeyedHeader(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, mirror)
	n := front(t, o)
	for i, test := range []struct{ id, name, value string }{
		{"P1", "X-Forwarded-Host", "evil.test"},
		{"P1", "X-Host", "evil.test"},
		{"P1", "X-Forwarded-Server", "evil.test"},
		{"P1", "X-Forwarded-Scheme", "evil"},
		{"P1", "X-Forwarded-Proto", "evil"},
		{"P1", "X-Forwarded-Port", "evil"},
		{"P1", "Forwarded", "host=evil.test;for=66.6.6.6"},
		{"P1", "X-Original-Url", "/evil"},
		{"P1", "X-Rewrite-Url", "/evil"},
		{"D3", "X-Http-Method-Override", "DELETE"},
		{"D3", "X-Http-Method", "DELETE"},
		{"D3", "X-Method-Override", "DELETE"},
		{"H3", "X-Forwarded-For", "66.6.6.6"},
		{"H3", "X-Forwarded-User", "evil"},
		{"H3", "X-Forwarded-Client-Cert", "evil"},
		{"H3", "X-Original-Uri", "/evil"},
		{"H3", "X-Original-Forwarded-For", "66.6.6.6"},
		{"H3", "Client-Ip", "66.6.6.6"},
	} {
		target := fmt.Sprintf("/%d", i)
		get(t, n, target, test.name, test.value)
		a := warm(t, n, target)
		if strings.Contains(a.Body, test.value) {
			t.Errorf("%s: %s of one client is read by all:\n%s", test.id, test.name, a.Body)
		}
	}
}

// P1: what the key or Vary names is the operator's or the origin's decision, and
// all other fields pass.
func TestFieldsThatAreNoThreatPass(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, fields("x", "Cache-Control", "no-store"))
	n := front(t, o)
	get(t, n, "/", "X-Shop", "a", "Accept-Language", "de", "X-Request-Id", "7")
	for name, value := range map[string]string{"X-Shop": "a", "Accept-Language": "de", "X-Request-Id": "7"} {
		equal(t, name, o.Last(t).Header.Get(name), value)
	}
}

// P2, W6: an answer to a request with a cookie is for that request, unless the
// answer says that it is for all.
func TestPoisonByCookie(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
		fields(r.Header.Get("Cookie"), "Cache-Control", "max-age=600")(w, r)
	})
	n := front(t, o)
	equal(t, "own answer", get(t, n, "/", "Cookie", "fehost=evil").Body, "fehost=evil")
	equal(t, "answer without a cookie", get(t, n, "/").Body, "")
	equal(t, "requests to the origin", o.Count(""), 2)
}

// P3, P5, P12: the authority is part of every key.
func TestPoisonByAuthority(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, mirror)
	n := front(t, o)
	for range 2 {
		for _, host := range []string{"a.test", "a.test:31337", "b.test", "evil.test"} {
			if a := warm(t, n, "/", "Host", host); !strings.Contains(a.Body, " at "+host+"\n") {
				t.Errorf("the answer for %s is that of another: %.60q", host, a.Body)
			}
		}
	}
	equal(t, "requests to the origin", o.Count(""), 4)
}

// W2, W3, W4: paths that two readers would take for two are refused, and never reach
// the origin. What else the door refuses is in wire_test.go.
func TestAmbiguousPathsAreRefused(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, fields("x", "Cache-Control", "max-age=600"))
	n := front(t, o)
	for _, test := range []struct {
		name   string
		target string
	}{
		{"W2 encoded NUL", "/account%00.css"},
		{"W3 encoded separators and dots", "/share/%2F..%2Fapi/auth/session"},
		{"W3 backslash and dots", "/static/..%5caccount"},
		{"W4 known file", "/account/..%2frobots.txt"},
	} {
		statuses, _ := n.Raw(t, "GET "+test.target+" HTTP/1.1\r\nHost: a.test\r\n\r\nGET /second HTTP/1.1\r\nHost: a.test\r\n\r\n", 2)
		if len(statuses) == 0 || statuses[0] != 400 {
			t.Errorf("%s: statuses %v, want 400 first", test.name, statuses)
		}
	}
	for _, q := range o.Requests() {
		if q.Target != "/second" {
			t.Errorf("%s reached the origin", q.Target)
		}
	}
	equal(t, "status of a good request after all", get(t, n, "/").Status, 200)
}

// P6, P7, P8, W3: no two targets that an origin could tell apart share a key, and
// what is keyed is what is sent.
func TestKeyConfusion(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, mirror)
	n := front(t, o)
	targets := []string{
		"/a__b", "/a/b", "/a%2Fb", "/a%0ab", "/a%0db", "/a%3Fb", "/a?b", "/a%23b", "/a;b", "/a%3Bb", "/a.b", "/a%26b", "/a%7Cb", "//a", "/a//b", "/A__B",
		"/?utm=x;callback=evil", "/?a=1&%61=2", "/?%61=1&a=2", "/?a=1&a=2", "/?a=2&a=1", "/?a", "/?a=", "/?&a", "/?a=1?b=2", "/?a=%26b=1", "/?a=+", "/?a=%20",
	}
	for range 2 {
		for _, target := range targets {
			sent, err := url.ParseRequestURI(target)
			if err != nil {
				t.Fatal(err)
			}
			a := warm(t, n, target)
			got := strings.Fields(a.Body)[1]
			// Another spelling of the same path may be sent, but never another path.
			seen, err := url.ParseRequestURI(got)
			if err != nil || seen.RawQuery != sent.RawQuery || !strings.EqualFold(seen.EscapedPath(), sent.EscapedPath()) {
				t.Errorf("the answer for %s is that for %s", target, got)
			}
		}
	}
	equal(t, "requests to the origin", o.Count(""), len(targets))
}

// P8, P9: what a rule leaves out of the key is not sent either, and a parameter is
// left out by its whole raw name.
func TestExcludedParameters(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, mirror)
	n := configured(t, site(o.URL, `"*"`, `
  cache {
    key {
      deny_query = ["utm_content", "a"]
    }
  }`))
	for target, want := range map[string]string{
		"/1?utm_content='><script>":      "/1",
		"/2?b=1&utm_content=x":           "/2?b=1",
		"/3?utm_content=x;callback=evil": "/3", // one parameter, whatever an origin may see in it
		"/4?%61=2":                       "/4?%61=2",
		"/5?utm_content2=x":              "/5?utm_content2=x",
	} {
		equal(t, "sent for "+target, strings.Fields(get(t, n, target).Body)[1], want)
	}
}

// P10: a body on a GET is never part of the answer of a cacheable route.
func TestFatGet(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, mirror)
	n := front(t, o)
	for name, request := range map[string]string{
		"length":  "GET /length HTTP/1.1\r\nHost: a.test\r\nContent-Type: text/evil\r\nContent-Length: 6\r\n\r\na=evil",
		"chunked": "GET /chunked HTTP/1.1\r\nHost: a.test\r\nContent-Type: text/evil\r\nTransfer-Encoding: chunked\r\n\r\n6\r\na=evil\r\n0\r\n\r\n",
	} {
		statuses, bodies := n.Raw(t, request+"GET /second HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n", 2)
		if !slices.Equal(statuses, []int{200, 200}) {
			t.Fatalf("%s: statuses %v, want two answers", name, statuses)
		}
		if strings.Contains(bodies[0], "evil") || !strings.HasPrefix(bodies[0], "GET /"+name) {
			t.Errorf("%s: the body of a GET is read by all: %q", name, bodies[0])
		}
		if !strings.HasPrefix(bodies[1], "GET /second") {
			t.Errorf("%s: the second request was misread: %q", name, bodies[1])
		}
	}
	size := 128 << 10
	statuses, _ := n.Raw(t, fmt.Sprintf("GET /large HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size)), 1)
	if len(statuses) != 1 || statuses[0] != 413 {
		t.Errorf("large body: statuses %v, want 413", statuses)
	}
	equal(t, "requests for /large", o.Count("/large"), 0)
}

// P13: thousands of values of a Vary field cost neither right answers nor memory
// without bound.
func TestVaryFlood(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
		fields("for "+r.Header.Get("User-Agent"), "Cache-Control", "max-age=600", "Vary", "User-Agent")(w, r)
	})
	n := front(t, o)
	for i := range 500 {
		agent := fmt.Sprintf("agent %d", i)
		if a := get(t, n, "/", "User-Agent", agent); a.Body != "for "+agent {
			t.Fatalf("%s is answered %q", agent, a.Body)
		}
	}
	equal(t, "answer", warm(t, n, "/", "User-Agent", "a browser that comes again").Body, "for a browser that comes again")
}

// P14, H4: a request that has been here before ends, and all that pass are marked.
func TestLoopEnds(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, mirror)
	n := front(t, o)
	get(t, n, "/")
	token := o.Last(t).Header.Get("Cdn-Loop")
	if token == "" || o.Last(t).Header.Get("Via") == "" {
		t.Fatalf("the origin is told neither CDN-Loop nor Via: %v", o.Last(t).Header)
	}
	wantProblem(t, get(t, n, "/again", "CDN-Loop", token), 508)
	wantProblem(t, get(t, n, "/again", "CDN-Loop", "other; a=1, "+token), 508)
	equal(t, "requests of another network pass", get(t, n, "/again", "CDN-Loop", "other").Status, 200)
	if passed := strings.Join(o.Last(t).Header["Cdn-Loop"], ", "); !strings.Contains(passed, "other") || !strings.Contains(passed, token) {
		t.Errorf("CDN-Loop at the origin is %q", passed)
	}
}

// D1: a head that an origin might refuse is refused at the edge, and not cached.
func TestOversizeHeads(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, fields("x", "Cache-Control", "max-age=600"))
	n := front(t, o)
	many := []string{}
	for i := range 150 {
		many = append(many, fmt.Sprintf("X-%d", i), "a")
	}
	for name, fields := range map[string][]string{
		"one field of 5 KB":  {"X-A", strings.Repeat("a", 5<<10)},
		"16 KB":              {"X-A", strings.Repeat("a", 4000), "X-B", strings.Repeat("b", 4000), "X-C", strings.Repeat("c", 4000), "X-D", strings.Repeat("d", 4000)},
		"one field of 20 KB": {"X-A", strings.Repeat("a", 20<<10)},
		"150 fields":         many,
	} {
		equal(t, name, get(t, n, "/", fields...).Status, 431)
	}
	equal(t, "requests to the origin", o.Count(""), 0)
	equal(t, "a common head", get(t, n, "/", "Cookie", strings.Repeat("c", 3<<10)).Status, 200)
}

// D4, D6: errors and empty answers are stored only when the origin says for how long.
func TestErrorsAreNotStoredUnasked(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
		var status int
		fmt.Sscanf(r.URL.Path, "/%d", &status)
		w.Header().Set("Last-Modified", "Tue, 04 Feb 2025 10:00:00 GMT")
		w.WriteHeader(status)
	})
	for _, policy := range []string{"safe", "rfc"} {
		n := front(t, o, "--policy", policy)
		for _, status := range []int{400, 403, 413, 416, 429, 431, 500, 502, 503} {
			target := fmt.Sprintf("/%d?%s", status, policy)
			for range 2 {
				equal(t, fmt.Sprint(policy, ": status"), get(t, n, target).Status, status)
			}
			equal(t, fmt.Sprint(policy, ": requests for ", target), o.Count(target), 2)
		}
	}
	n := front(t, o)
	for _, status := range []int{204, 404, 405, 414, 301} {
		target := fmt.Sprintf("/%d?again", status)
		get(t, n, target)
		get(t, n, target)
		equal(t, "safe: requests for "+target, o.Count(target), 2)
	}
}

// D4: a failed fetch never takes the place of what is still of use.
func TestErrorDoesNotReplaceAnEntry(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, inTurn(
		fields("good", "Cache-Control", "max-age=60, stale-if-error=600", "Age", "60"),
		func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", "max-age=600")
			w.WriteHeader(http.StatusInternalServerError)
		}))
	n := front(t, o)
	get(t, n, "/")
	for range 3 {
		equal(t, "body", get(t, n, "/").Body, "good")
	}
}

// D5: odd fields of one client do not change what all get.
func TestOddFieldsDoNotReachTheOriginOnAFill(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"Range", "If-Range", "If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since", "Content-Type", "Content-Encoding", "Expect", "Max-Forwards"} {
			if r.Header.Get(name) != "" {
				fields("refused for "+name, "Cache-Control", "max-age=600")(w, r)
				return
			}
		}
		fields("good", "Cache-Control", "max-age=600")(w, r)
	})
	n := front(t, o)
	for i, fields := range [][]string{
		{"Range", "bytes=cow"},
		{"Range", "bytes=9999-"},
		{"Range", "bytes=0-0", "If-Range", "cow"},
		{"If-None-Match", "cow"},
		{"If-Modified-Since", "cow"},
		{"If-Match", `"cow"`},
		{"If-Unmodified-Since", "Tue, 04 Feb 1997 10:00:00 GMT"},
		{"Content-Type", "evil"},
		{"Content-Encoding", "evil"},
		{"Max-Forwards", "0"},
	} {
		target := fmt.Sprintf("/%d", i)
		get(t, n, target, fields...)
		equal(t, "answer after "+strings.Join(fields, " "), warm(t, n, target).Body, "good")
	}
}

// D7: a redirect to itself would be everybody's loop.
func TestRedirectToItselfIsNotStored(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		location := r.URL.Path
		switch r.URL.Path {
		case "/absolute":
			location = "HTTP://" + r.Host + r.URL.Path
		case "/fragment":
			location += "#below"
		case "/escaped":
			location = "/%65scaped"
		case "/dots":
			location = "/a/../dots"
		}
		w.Header().Set("Location", location)
		w.WriteHeader(http.StatusMovedPermanently)
	})
	n := front(t, o)
	for _, target := range []string{"/relative", "/absolute", "/fragment", "/escaped", "/dots"} {
		get(t, n, target)
		equal(t, target+": hit", get(t, n, target).hit(), false)
	}
}

// W1 to W4: a path that looks like a file of style does not make an answer one.
func TestDeceptionByPath(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
		fields("orders of "+r.Header.Get("Cookie"), "Content-Type", "text/html")(w, r)
	})
	n := configured(t, site(o.URL, `"*"`, `
  route "styles" {
    path = "/static/*"
    cache {
      ttl         = "1h"
      static_type = "text/css"
    }
  }`))
	for _, target := range []string{
		// W1, W2: outside the route nothing depends on how the path ends.
		"/account/x.css", "/account/.css", "/account%2Fx.css", "/account;x.css", "/account.css", "/account%0a.css", "/account%23.css", "/account%3f.css",
		"/account%26.css", "/account$.css", "/account!.css",
		// W3, W4: inside or outside after dots are resolved, never both.
		"/static/../account", "/static/%2e%2e/account", "/account/../static/../account",
		// W2: the route's own prefix before an encoded delimiter.
		"/static/..;/account", "/static/%3f/../../account",
		// W5: the answer is not what the rule expects.
		"/static/account",
	} {
		equal(t, target+": own answer", get(t, n, target, "Cookie", "alice").Status/100 == 5, false)
		a := get(t, n, target)
		if a.hit() || strings.Contains(a.Body, "alice") {
			t.Errorf("%s: the page of one user is read by another: %q", target, a.Body)
		}
	}
	// W2: there a control byte is refused, and what comes behind it is not misread.
	for _, target := range []string{"/static/account%0a.css", "/static/account%0D.css", "/static/account%7f.css", "/static/%01"} {
		statuses, _ := n.Raw(t, "GET "+target+" HTTP/1.1\r\nHost: a.test\r\n\r\nGET /static/second HTTP/1.1\r\nHost: a.test\r\n\r\n", 2)
		equal(t, target+": statuses", fmt.Sprint(statuses), "[400 200]")
		equal(t, target+": requests to the origin", o.Count(target), 0)
	}
	for _, q := range o.Requests() {
		if decoded, err := url.PathUnescape(q.Target); err != nil || strings.Contains(decoded+"/", "/../") {
			t.Errorf("W3: dots are left for the origin to resolve: %s", q.Target)
		}
	}
}

// W5: a rule that expects styles stores styles, and nothing else.
func TestStaticRuleLooksAtTheType(t *testing.T) {
	t.Parallel()
	o := origin.Mux(t, map[string]http.HandlerFunc{
		"/static/a.css":  fields("a{}", "Content-Type", "text/css; charset=utf-8"),
		"/static/a.html": fields("<p>", "Content-Type", "text/html"),
	})
	n := configured(t, site(o.URL, `"*"`, `
  route "styles" {
    path = "/static/*"
    cache {
      ttl         = "1h"
      static_type = "text/css"
    }
  }`))
	warm(t, n, "/static/a.css")
	get(t, n, "/static/a.html")
	equal(t, "another type is a hit", get(t, n, "/static/a.html").hit(), false)
}

// D6: an empty answer does not take the place of a page where the file says so.
func TestEmptyAnswerReplacesNoPage(t *testing.T) {
	t.Parallel()
	var empty atomic.Bool
	page := strings.Repeat("page ", 1000)
	o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=0, stale-if-error=600")
		if empty.Load() {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		io.WriteString(w, page)
	})
	n := configured(t, site(o.URL, `"*"`, "  cache {\n    shrink_guard = \"1KiB\"\n  }"))
	get(t, n, "/")
	empty.Store(true)
	for range 3 {
		equal(t, "the body", get(t, n, "/").Body, page)
	}
	if metrics := adminGet(t, n, "/metrics"); !strings.Contains(metrics, "\nedge_shrunk_total 3\n") {
		t.Error("the metrics do not tell of three empty answers")
	}
	empty.Store(false)
	equal(t, "the body of after", get(t, n, "/").Body, page)
}

// R4: who asks for ever new targets reaches the origin as often as the file allows; hits
// and other clients are none the worse.
func TestCacheBustingHasABudget(t *testing.T) {
	t.Parallel()
	o := fresh(t)
	n := limited(t, o.URL, "rate_limit \"busting\" {\n  rate  = \"10/1h\"\n  count = \"misses\"\n}\n", "busting")
	warm(t, n, "/page")
	used := o.Count("")
	refused := 0
	for i := range 200 {
		if get(t, n, fmt.Sprintf("/page?%d", i)).Status == http.StatusTooManyRequests {
			refused++
		}
	}
	equal(t, "fetches of the one client", o.Count(""), 10)
	equal(t, "refused", refused, 200-(10-used))
	equal(t, "its hits", get(t, n, "/page").hit(), true)
	r, err := request(n, "GET", "/page?other", "")
	if err != nil {
		t.Fatal(err)
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	other := &http.Transport{DialContext: dialer.DialContext}
	defer other.CloseIdleConnections()
	res, err := other.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	equal(t, "another client", res.StatusCode, http.StatusOK)
}

// H1: naming a field in Connection does not take it away from us before we have
// decided by it.
func TestConnectionCannotHideFields(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, unguarded)
	n := front(t, o)
	for i, fields := range [][]string{
		{"Cookie", "session=alice", "Connection", "close, Cookie"},
		{"Authorization", "Bearer alice", "Connection", "close, Authorization"},
		{"Cookie", "session=alice", "Connection", "cookie"},
	} {
		target := fmt.Sprintf("/%d", i)
		get(t, n, target, fields...)
		a := get(t, n, target)
		if a.hit() || strings.Contains(a.Body, "alice") {
			t.Errorf("%v: the answer to one user is read by another: %q", fields, a.Body)
		}
	}
	get(t, n, "/forwarded", "Connection", "close, X-Forwarded-For, Host, Cache-Control, Via")
	for _, name := range []string{"X-Forwarded-For", "Via"} {
		if o.Last(t).Header.Get(name) == "" {
			t.Errorf("%s, which we write, is gone from the request", name)
		}
	}
}

// unguarded is an origin that says how long, and not for whom.
func unguarded(w http.ResponseWriter, r *http.Request) {
	fields(r.Header.Get("Cookie")+r.Header.Get("Authorization"), "Cache-Control", "max-age=600")(w, r)
}

// H1, H2: hop-by-hop fields end here, in both directions.
func TestHopByHopFieldsEndHere(t *testing.T) {
	t.Parallel()
	hop := []string{"Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Te", "Trailer", "X-Own-Hop"}
	o := origin.Start(t, fields("x", "Cache-Control", "max-age=600", "Connection", "X-Own-Hop", "X-Own-Hop", "secret",
		"Keep-Alive", "timeout=5", "Proxy-Authenticate", "Basic", "Proxy-Connection", "x"))
	n := front(t, o)
	get(t, n, "/", "Connection", "X-Own-Hop", "X-Own-Hop", "a", "Keep-Alive", "a", "Proxy-Connection", "a", "Proxy-Authorization", "a", "Te", "deflate")
	for _, name := range hop {
		equal(t, name+" at the origin", o.Last(t).Header.Get(name), "")
	}
	for _, a := range []answer{get(t, n, "/"), warm(t, n, "/")} {
		for _, name := range append(hop, "Proxy-Authenticate") {
			equal(t, name+" at the client", a.Header.Get(name), "")
		}
	}
}

// H3: only a trusted peer is believed about who the client is, and of its list only
// the last address that is not itself trusted.
func TestClientAddress(t *testing.T) {
	t.Parallel()
	text := func(o *origin.Origin) string {
		return site(o.URL, `"*"`, "  request_headers {\n    set = { \"X-Client\" = \"${req.client_ip}\" }\n  }")
	}
	ask := func(n *node.Node, o *origin.Origin, value string) string {
		get(t, n, "/", "X-Forwarded-For", value)
		return o.Last(t).Header.Get("X-Client")
	}
	o := origin.Start(t, fields("x", "Cache-Control", "no-store"))
	stranger := configured(t, text(o))
	equal(t, "untrusted peer", ask(stranger, o, "66.6.6.6"), "127.0.0.1")
	trusting := configured(t, text(o), `trusted_proxies = ["127.0.0.0/8", "10.0.0.0/8"]`)
	equal(t, "trusted peer", ask(trusting, o, "192.0.2.7"), "192.0.2.7")
	equal(t, "trusted chain", ask(trusting, o, "66.6.6.6, 192.0.2.7, 10.1.2.3"), "192.0.2.7")
	equal(t, "not an address", ask(trusting, o, "evil"), "127.0.0.1")
}

// P15: an answer with control bytes in its head is nobody's.
func TestSplitResponseIsRefused(t *testing.T) {
	t.Parallel()
	n := front(t, origin.Raw(t, "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nX-A: a\x00b\r\nContent-Length: 0\r\n\r\n"))
	wantProblem(t, get(t, n, "/"), 502)
}
