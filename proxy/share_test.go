package proxy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestClientsThatTakeNoCodingAreServedFromTheCache(t *testing.T) {
	for _, accepted := range []string{"identity", "identity;q=1, *;q=0", "deflate", ""} {
		t.Run(accepted, func(t *testing.T) {
			var fetches atomic.Int64
			rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
				fetches.Add(1)
				w.Header().Set("Cache-Control", "max-age=60")
				w.Header().Set("Vary", "Accept-Encoding")
				io.WriteString(w, "plain")
			}, nil)
			rg.get("/", "Accept-Encoding", accepted)
			rg.eventually("stored", func() bool { return rg.cache.Stats().Stored == 1 })
			if got := rg.get("/", "Accept-Encoding", accepted); !strings.HasPrefix(got.header.Get("Cache-Status"), "edge; hit") {
				t.Errorf("the same request again: %d fetches, Cache-Status %q", fetches.Load(), got.header.Get("Cache-Status"))
			}
		})
	}
}

func TestVaryOnFieldsThatAreNotSentSelectsByWhatIsSent(t *testing.T) {
	for _, c := range []struct{ vary, value string }{
		{"Range", "bytes=0-3"}, {"If-None-Match", `"x"`}, {"Te", "trailers, deflate"}, {"User-Agent", ""},
	} {
		t.Run(c.vary, func(t *testing.T) {
			var fetches atomic.Int64
			rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
				fetches.Add(1)
				w.Header().Set("Cache-Control", "max-age=60")
				w.Header().Set("Vary", c.vary)
				io.WriteString(w, "0123456789")
			}, nil)
			rg.get("/", c.vary, c.value)
			rg.eventually("stored", func() bool { return rg.cache.Stats().Stored == 1 })
			if got := rg.get("/", c.vary, c.value); !strings.HasPrefix(got.header.Get("Cache-Status"), "edge; hit") {
				t.Errorf("the same request again: %d fetches, Cache-Status %q", fetches.Load(), got.header.Get("Cache-Status"))
			}
		})
	}
}

func TestFieldsKeptOutOfTheCacheStillReachTheOneWhoAsked(t *testing.T) {
	for _, directive := range []string{`private="Set-Cookie"`, `no-cache="Set-Cookie"`} {
		t.Run(directive, func(t *testing.T) {
			rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", "max-age=60, "+directive)
				w.Header().Set("Set-Cookie", "session=1")
				io.WriteString(w, "page")
			}, nil)
			if got := rg.get("/"); got.header.Get("Set-Cookie") != "session=1" {
				t.Errorf("the client that asked got Set-Cookie %q", got.header.Get("Set-Cookie"))
			}
			rg.eventually("the page is stored", func() bool { return rg.cache.Stats().Stored == 1 })
			if got := rg.get("/"); got.header.Get("Set-Cookie") != "" || !strings.Contains(got.header.Get("Cache-Status"), "hit") {
				t.Errorf("the next got Set-Cookie %q, Cache-Status %q", got.header.Get("Set-Cookie"), got.header.Get("Cache-Status"))
			}
		})
	}
}

// lastCookie is an origin that takes the last of several cookies of one name, and
// reads the field for itself, as many do.
func lastCookie(w http.ResponseWriter, r *http.Request) {
	lang := "en"
	for pair := range strings.SplitSeq(r.Header.Get("Cookie"), ";") {
		if value, ok := strings.CutPrefix(strings.TrimSpace(pair), "lang="); ok {
			lang = value
		}
	}
	w.Header().Set("Cache-Control", "public, max-age=60")
	io.WriteString(w, "in "+lang)
}

func TestACookieIsKeyedAsItIsSent(t *testing.T) {
	for _, rule := range []CookieRule{CookiesStrip, CookiesIgnore, CookiesAsPolicy} {
		for _, c := range []struct{ evil, honest, want string }{
			{"lang=de; lang=evil", "lang=de", "in de"},
			{`lang=e"vil`, "", "in en"},
			{`lang=e\vil`, "", "in en"},
			{`lang="de"`, "lang=de", "in de"},
		} {
			t.Run(fmt.Sprint(rule, " ", c.evil), func(t *testing.T) {
				rg := newRig(t, lastCookie, func(h *Handler) {
					h.Rules.Cookies = rule
					h.Rules.KeyCookies = []string{"lang"}
				})
				rg.get("/", "Cookie", c.evil)
				var fields []string
				if c.honest != "" {
					fields = []string{"Cookie", c.honest}
				}
				if got := rg.get("/", fields...); got.body != c.want {
					t.Errorf("after Cookie: %s, a client with %q got %q, want %q", c.evil, c.honest, got.body, c.want)
				}
			})
		}
	}
}

func TestAnEmptyKeyHeaderIsNotAnAbsentOne(t *testing.T) {
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprintf(w, "%q", r.Header["X-Tenant"])
	}, func(h *Handler) { h.Rules.KeyHeaders = []string{"X-Tenant"} })
	rg.get("/", "X-Tenant", "")
	if got := rg.get("/"); got.body != "[]" {
		t.Errorf("a client without the field got what was made for %s", got.body)
	}
}

// A rule for a folder does not reach a path that origin and rule read differently.
func TestNoPathRuleAppliesBehindAnEncodedDelimiter(t *testing.T) {
	hour := time.Hour
	for _, c := range []struct {
		name, cacheControl string
		change             func(*Rules)
	}{
		{"ttl", "", func(r *Rules) { r.Policy.TTL = &hour }},
		{"cookies ignored", "max-age=60", func(r *Rules) { r.Cookies, r.Policy.CookiesNeedPermission = CookiesIgnore, false }},
		{"set-cookie stripped", "max-age=60", func(r *Rules) { r.StripSetCookie = true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
				if c.cacheControl != "" {
					w.Header().Set("Cache-Control", c.cacheControl)
				}
				w.Header().Set("Set-Cookie", "session=2")
				if c.name != "set-cookie stripped" {
					w.Header().Del("Set-Cookie")
				}
				io.WriteString(w, "account of "+r.Header.Get("X-User"))
			}, func(h *Handler) { c.change(&h.Rules) })
			fields := []string{"X-User", "alice"}
			if c.name == "cookies ignored" {
				fields = append(fields, "Cookie", "session=alice")
			}
			rg.get("/account%3bx.css", fields...)
			if got := rg.get("/account%3bx.css", "X-User", "mallory"); strings.Contains(got.body, "alice") {
				t.Errorf("mallory got the %s", got.body)
			}
		})
	}
}

func TestHeadDoesNotBringAPathRuleBack(t *testing.T) {
	hour := time.Hour
	var gets atomic.Int64
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=0")
		w.Header().Set("Etag", `"1"`)
		if r.Method == http.MethodGet {
			gets.Add(1)
			io.WriteString(w, "body")
		}
	}, func(h *Handler) { h.Rules.Policy.TTL = &hour })
	rg.get("/account%3bx.css")
	rg.eventually("stored", func() bool { return rg.cache.Stats().Stored == 1 })
	rg.do(http.MethodHead, "/account%3bx.css")
	rg.get("/account%3bx.css")
	if gets.Load() != 2 {
		t.Error("the rule's lifetime came into force by way of a HEAD")
	}
}

func TestABodyOfAGetIsNotForwardedOnARouteThatCaches(t *testing.T) {
	var sent atomic.Value
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		sent.Store(string(body))
	}, nil)
	host := strings.TrimPrefix(rg.url, "http://")
	for _, field := range []string{"Accept: text/event-stream", "X-Nothing: 1"} {
		rg.raw("GET / HTTP/1.1\r\nHost: " + host + "\r\n" + field + "\r\nContent-Length: 3\r\nConnection: close\r\n\r\na=2")
		if got := sent.Load(); got != "" {
			t.Errorf("%s: the origin got the body %q", field, got)
		}
	}
}

func TestNamedAddressFieldsOfStrangersAreDropped(t *testing.T) {
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		for name := range r.Header {
			if strings.Contains(strings.Join(r.Header[name], ""), "1.2.3.4") {
				io.WriteString(w, name+" ")
			}
		}
	}, nil)
	fields := []string{}
	for _, name := range []string{"X-Forwarded-For", "X-Real-IP", "CF-Connecting-IP", "Forwarded", "True-Client-IP", "X_Forwarded_For"} {
		fields = append(fields, name, "for=1.2.3.4")
	}
	if got := rg.get("/", fields...); got.body != "" {
		t.Errorf("the origin got %s", got.body)
	}
}

// What is keyed in one form is sent in that form: else an origin that goes by the
// order of equal weights gives the one's page to the other.
func TestAcceptLanguageIsSentAsItIsKeyed(t *testing.T) {
	rg := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Vary", "Accept-Language")
		io.WriteString(w, r.Header.Get("Accept-Language"))
	}, nil)
	if one, other := rg.get("/one", "Accept-Language", "de, en").body, rg.get("/other", "Accept-Language", "en, de").body; one != other {
		t.Errorf("equal keys are sent as %q and %q", one, other)
	}
}
