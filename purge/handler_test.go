package purge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeRecorder is a fleet that answers as it is told.
type fakeRecorder struct {
	receipt Receipt                                               // of Record
	err     error                                                 // of Record
	follow  func(ctx context.Context, id string) (Receipt, error) // nil is ErrUnknownPurge
	hook    func(ctx context.Context)                             // during Record

	mu    sync.Mutex
	calls [][]Record
}

func (f *fakeRecorder) Record(ctx context.Context, records []Record) (Receipt, error) {
	if f.hook != nil {
		f.hook(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, records)
	return f.receipt, f.err
}

func (f *fakeRecorder) Follow(ctx context.Context, id string) (Receipt, error) {
	if f.follow == nil {
		return Receipt{}, ErrUnknownPurge
	}
	return f.follow(ctx, id)
}

// recorded writes out the records of every call, one line each.
func (f *fakeRecorder) recorded() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var lines []string
	for _, call := range f.calls {
		for _, r := range call {
			s := r.Selector
			line := fmt.Sprintf("%s site=%s authority=%s value=%s", s.Kind, s.Site, s.Authority, s.Value)
			if r.Soft {
				line += " soft"
			}
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

var (
	complete   = Receipt{ID: "1-1", Complete: true, Nodes: []NodeProgress{{ID: "a", Applied: true, Latency: 0.5}}}
	incomplete = Receipt{ID: "1-1", Nodes: []NodeProgress{{ID: "a", Applied: true}, {ID: "b", State: "lost"}}}
)

// locate knows the sites shop (shop.example, shop.example:8443) and blog. The shop
// keys the queries of its search in order too.
func locate(raw string) (Place, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return Place{}, errors.New("it is malformed")
	}
	authority := strings.ToLower(u.Host)
	if u.Scheme == "https" {
		authority = strings.TrimSuffix(authority, ":443")
	} else {
		authority = strings.TrimSuffix(authority, ":80")
	}
	site := map[string]string{"shop.example": "shop", "shop.example:8443": "shop", "blog.example": "blog"}[authority]
	if site == "" {
		return Place{}, errors.New("no site answers for its host")
	}
	place := Place{Site: site, Authority: authority, Path: u.EscapedPath(), Targets: []string{u.RequestURI()}}
	if u.Path == "/search" {
		params := strings.Split(u.RawQuery, "&")
		slices.Sort(params)
		place.Targets = append(place.Targets, "/search?"+strings.Join(params, "&"))
	}
	return place, nil
}

// newHandler serves a handler over a real listener.
func newHandler(t *testing.T, recorder Recorder, change func(*Handler)) (*Handler, string) {
	t.Helper()
	h := &Handler{Recorder: recorder, Sites: []string{"shop", "blog"}, Locate: locate}
	if change != nil {
		change(h)
	}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return h, server.URL
}

// answer is what a call gave.
type answer struct {
	status  int
	header  http.Header
	body    string
	problem Error
	receipt Receipt
}

// call sends a request; fields are names and values in turn, "Host" among them.
func call(t *testing.T, method, url, body string, fields ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		if fields[i] == "Host" {
			r.Host = fields[i+1]
			continue
		}
		r.Header.Add(fields[i], fields[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: res.StatusCode, header: res.Header, body: string(got)}
	switch kind := res.Header.Get("Content-Type"); kind {
	case "application/json":
		err = json.Unmarshal(got, &a.receipt)
	case "application/problem+json":
		err = json.Unmarshal(got, &a.problem)
	default:
		t.Fatalf("the answer is %q", kind)
	}
	if err != nil || res.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%v in %q, header %v", err, got, res.Header)
	}
	return a
}

const asJSON = "application/json"

// TestPurge: what a call is understood as, record by record.
func TestPurge(t *testing.T) {
	for _, c := range []struct{ name, body, want string }{
		{"key in every site", `{"surrogate_keys":["red"]}`, "surrogate key site=shop authority= value=red\nsurrogate key site=blog authority= value=red"},
		{"key in one site", `{"surrogate_keys":["red"],"site":"blog"}`, "surrogate key site=blog authority= value=red"},
		{"several keys, one twice", `{"surrogate_keys":["a","b","a"],"site":"shop","soft":true}`,
			"surrogate key site=shop authority= value=a soft\nsurrogate key site=shop authority= value=b soft"},
		{"URL", `{"urls":["https://Shop.Example/a?b=1"]}`, "url site=shop authority=shop.example value=/a?b=1"},
		{"URL under a site", `{"urls":["http://blog.example/"],"site":"blog"}`, "url site=blog authority=blog.example value=/"},
		{"URL that has two forms", `{"urls":["http://shop.example/search?b&a"]}`,
			"url site=shop authority=shop.example value=/search?b&a\nurl site=shop authority=shop.example value=/search?a&b"},
		{"URL whose forms are one", `{"urls":["http://shop.example/search?a&b"]}`, "url site=shop authority=shop.example value=/search?a&b"},
		{"URL with any query", `{"urls":["http://shop.example/search?b&a"],"ignore_query":true}`, "url, any query site=shop authority=shop.example value=/search"},
		{"prefix", `{"prefixes":["http://shop.example:8443/a/"]}`, "prefix site=shop authority=shop.example:8443 value=/a/"},
		{"host", `{"hosts":["BLOG.example"]}`, "host site=blog authority=blog.example value="},
		{"host with a port", `{"hosts":["shop.example:8443"]}`, "host site=shop authority=shop.example:8443 value="},
		{"host with http's port", `{"hosts":["shop.example:80"]}`, "host site=shop authority=shop.example value="},
		{"host with https's port", `{"hosts":["shop.example:443"]}`, "host site=shop authority=shop.example value="},
		{"all", `{"all":true}`, "everything site= authority= value="},
		{"all of a site", `{"all":true,"site":"shop","soft":true}`, "everything site=shop authority= value= soft"},
		{"one of each", `{"surrogate_keys":["k"],"urls":["http://shop.example/u"],"prefixes":["http://shop.example/p"],"hosts":["shop.example"],"all":true,"site":"shop"}`,
			"surrogate key site=shop authority= value=k\nurl site=shop authority=shop.example value=/u\nprefix site=shop authority=shop.example value=/p\n" +
				"host site=shop authority=shop.example value=\neverything site=shop authority= value="},
		{"lists that are not used", `{"surrogate_keys":[],"urls":["http://shop.example/a"],"prefixes":[],"hosts":[],"all":false,"site":"","soft":false,"ignore_query":false}`,
			"url site=shop authority=shop.example value=/a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			recorder := &fakeRecorder{receipt: complete}
			_, url := newHandler(t, recorder, nil)
			a := call(t, "POST", url+"/purge", c.body, "Content-Type", asJSON)
			if a.status != 200 || a.receipt.ID != complete.ID || !a.receipt.Complete || len(a.receipt.Nodes) != 1 {
				t.Errorf("answered %d %s", a.status, a.body)
			}
			if got := recorder.recorded(); got != c.want {
				t.Errorf("recorded\n%s\nwant\n%s", got, c.want)
			}
			if len(recorder.calls) != 1 {
				t.Errorf("recorded in %d parts", len(recorder.calls))
			}
		})
	}
}

// TestPurgeByHeader: as the users of other caches do it.
func TestPurgeByHeader(t *testing.T) {
	for _, c := range []struct {
		name, method, path string
		fields             []string
		want               string
	}{
		{"keys", "POST", "/purge", []string{"Surrogate-Key", "a  b"},
			"surrogate key site=shop authority= value=a\nsurrogate key site=shop authority= value=b\n" +
				"surrogate key site=blog authority= value=a\nsurrogate key site=blog authority= value=b"},
		{"keys in lines, soft", "POST", "/purge", []string{"Surrogate-Key", "a", "Surrogate-Key", "a", "Soft-Purge", "1"},
			"surrogate key site=shop authority= value=a soft\nsurrogate key site=blog authority= value=a soft"},
		{"hard in so many words", "POST", "/purge", []string{"Surrogate-Key", "a", "Soft-Purge", "0"},
			"surrogate key site=shop authority= value=a\nsurrogate key site=blog authority= value=a"},
		{"soft as Fastly's tools say", "POST", "/purge", []string{"Surrogate-Key", "a", "Fastly-Soft-Purge", "1"},
			"surrogate key site=shop authority= value=a soft\nsurrogate key site=blog authority= value=a soft"},
		{"PURGE", "PURGE", "/a?b=1", []string{"Host", "shop.example"}, "url site=shop authority=shop.example value=/a?b=1"},
		{"PURGE of what is a page here", "PURGE", "/purge", []string{"Host", "shop.example", "Soft-Purge", "1"}, "url site=shop authority=shop.example value=/purge soft"},
	} {
		t.Run(c.name, func(t *testing.T) {
			recorder := &fakeRecorder{receipt: complete}
			_, url := newHandler(t, recorder, nil)
			if a := call(t, c.method, url+c.path, "", c.fields...); a.status != 200 {
				t.Errorf("answered %d %s", a.status, a.body)
			}
			if got := recorder.recorded(); got != c.want {
				t.Errorf("recorded\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// A client that takes the listener for its proxy sends the URL whole.
func TestPurgeInAbsoluteForm(t *testing.T) {
	recorder := &fakeRecorder{receipt: complete}
	_, address := newHandler(t, recorder, nil)
	proxy, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{Proxy: http.ProxyURL(proxy)}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequest(MethodPurge, "http://Blog.example//a/?q=%20", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got, want := recorder.recorded(), "url site=blog authority=blog.example value=//a/?q=%20"; res.StatusCode != 200 || got != want {
		t.Errorf("answered %d, recorded %s", res.StatusCode, got)
	}
}

// TestRefusals: every 4xx, and that nothing is recorded then.
func TestRefusals(t *testing.T) {
	json := []string{"Content-Type", asJSON}
	for _, c := range []struct {
		name, method, path, body string
		fields                   []string
		status                   int
		field, title             string
	}{
		{"nothing", "POST", "/purge", "", nil, 400, "", "Surrogate-Key"},
		{"an empty object", "POST", "/purge", "{}", json, 400, "", "Nothing is selected"},
		{"options alone", "POST", "/purge", `{"soft":true,"site":"shop","all":false}`, json, 400, "", "Nothing is selected"},
		{"an empty list of keys", "POST", "/purge", `{"surrogate_keys":[]}`, json, 400, "surrogate_keys", "Nothing is selected"},
		{"an empty list of URLs", "POST", "/purge", `{"urls":[]}`, json, 400, "urls", "Nothing is selected"},
		{"an empty list of prefixes", "POST", "/purge", `{"prefixes":[]}`, json, 400, "prefixes", "Nothing is selected"},
		{"an empty list of hosts", "POST", "/purge", `{"hosts":[]}`, json, 400, "hosts", "Nothing is selected"},
		{"an unknown field", "POST", "/purge", `{"key":["a"]}`, json, 400, "key", "Did you mean"},
		{"trailing data", "POST", "/purge", `{"all":true}{}`, json, 400, "", "JSON"},
		{"an empty key", "POST", "/purge", `{"surrogate_keys":["a",""]}`, json, 400, "surrogate_keys[1]", "1 to"},
		{"a long key", "POST", "/purge", `{"surrogate_keys":["` + strings.Repeat("k", maxText+1) + `"]}`, json, 400, "surrogate_keys[0]", "1 to"},
		{"two keys in one", "POST", "/purge", `{"surrogate_keys":["a b"]}`, json, 400, "surrogate_keys[0]", "between two keys"},
		{"keys with a comma", "POST", "/purge", `{"surrogate_keys":["a,b"]}`, json, 400, "surrogate_keys[0]", "between two keys"},
		{"a key with a control", "POST", "/purge", `{"surrogate_keys":["a\u0000b"]}`, json, 400, "surrogate_keys[0]", "control"},
		{"half a surrogate pair", "POST", "/purge", `{"surrogate_keys":["\ud800"]}`, json, 400, "surrogate_keys[0]", "encoding"},
		{"a path for a URL", "POST", "/purge", `{"urls":["/a"]}`, json, 400, "urls[0]", "malformed"},
		{"a URL of nobody", "POST", "/purge", `{"urls":["http://shop.example/","http://other.example/"]}`, json, 400, "urls[1]", "no site"},
		{"a URL of another site", "POST", "/purge", `{"urls":["http://blog.example/"],"site":"shop"}`, json, 400, "urls[0]", `"shop"`},
		{"a prefix of nobody", "POST", "/purge", `{"prefixes":["http://other.example/"]}`, json, 400, "prefixes[0]", "no site"},
		{"a prefix with a query", "POST", "/purge", `{"prefixes":["http://shop.example/a?b"]}`, json, 400, "prefixes[0]", "no query"},
		{"a host of nobody", "POST", "/purge", `{"hosts":["other.example"]}`, json, 400, "hosts[0]", "no site"},
		{"a URL for a host", "POST", "/purge", `{"hosts":["http://shop.example"]}`, json, 400, "hosts[0]", "name or an address"},
		{"a user for a host", "POST", "/purge", `{"hosts":["user@shop.example"]}`, json, 400, "hosts[0]", "name or an address"},
		{"a host of another site", "POST", "/purge", `{"hosts":["blog.example"],"site":"shop"}`, json, 400, "hosts[0]", `"shop"`},
		{"an unknown site", "POST", "/purge", `{"all":true,"site":"shp"}`, json, 400, "site", "no site"},
		{"ignore_query without URLs", "POST", "/purge", `{"all":true,"ignore_query":true}`, json, 400, "ignore_query", "urls"},
		{"a timeout of an hour", "POST", "/purge", `{"all":true,"timeout":"1h"}`, json, 400, "timeout", "at most"},
		{"a timeout of less than nothing", "POST", "/purge", `{"all":true,"timeout":"-1s"}`, json, 400, "timeout", "at most"},
		{"too many things", "POST", "/purge", `{"surrogate_keys":["a","b","c","d","e","f"]}`, json, 400, "", "At most 5"},
		{"too many records", "POST", "/purge", `{"surrogate_keys":["a","b","c"]}`, json, 400, "", "At most 5"},
		{"options in the URL", "POST", "/purge?soft=1", `{"all":true}`, json, 400, "", "query"},
		{"body and header", "POST", "/purge", `{"all":true}`, []string{"Content-Type", asJSON, "Surrogate-Key", "a"}, 400, "", "not both"},
		{"a soft header beside a body", "POST", "/purge", `{"all":true}`, []string{"Content-Type", asJSON, "Soft-Purge", "1"}, 400, "soft", `"soft"`},
		{"a header without keys", "POST", "/purge", "", []string{"Surrogate-Key", "  "}, 400, "surrogate_keys", "Nothing is selected"},
		{"a soft header of another kind", "POST", "/purge", "", []string{"Surrogate-Key", "a", "Soft-Purge", "yes"}, 400, "Soft-Purge", "1 or 0"},
		{"two soft headers", "POST", "/purge", "", []string{"Surrogate-Key", "a", "Soft-Purge", "0", "Soft-Purge", "1"}, 400, "Soft-Purge", "1 or 0"},
		{"keys with commas in the header", "POST", "/purge", "", []string{"Surrogate-Key", "a,b"}, 400, "surrogate_keys[0]", "between two keys"},
		{"PURGE with a body", "PURGE", "/", "x", []string{"Host", "shop.example"}, 400, "", "no body"},
		{"PURGE with keys", "PURGE", "/", "", []string{"Host", "shop.example", "Surrogate-Key", "a"}, 400, "", "keys"},
		{"PURGE of nobody", "PURGE", "/", "", []string{"Host", "other.example"}, 400, "urls[0]", "no site"},
		{"a body without a type", "POST", "/purge", `{"all":true}`, nil, 415, "", "application/json"},
		{"a form", "POST", "/purge", `all=true`, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "", "application/json"},
		{"text, as a page may send", "POST", "/purge", `{"all":true}`, []string{"Content-Type", "text/plain"}, 415, "", "application/json"},
		{"two types", "POST", "/purge", `{"all":true}`, []string{"Content-Type", "text/plain;application/json"}, 415, "", "application/json"},
		{"a large body", "POST", "/purge", `{"surrogate_keys":["` + strings.Repeat("k", 64<<10) + `"]}`, json, 413, "", "larger than 32768"},
		{"GET", "GET", "/purge", "", nil, 405, "", "method"},
		{"PUT", "PUT", "/purge", `{"all":true}`, json, 405, "", "method"},
		{"a preflight", "OPTIONS", "/purge", "", nil, 405, "", "method"},
		{"DELETE of a receipt", "DELETE", "/purge/1-1", "", nil, 405, "", "method"},
		{"POST to a receipt", "POST", "/purge/1-1", `{"all":true}`, json, 405, "", "method"},
		{"an unknown receipt", "GET", "/purge/2-2", "", nil, 404, "", "this id"},
		{"no receipt", "GET", "/purge/", "", nil, 404, "", "this id"},
		{"another page", "GET", "/purger", "", nil, 404, "", "no such page"},
	} {
		t.Run(c.name, func(t *testing.T) {
			recorder := &fakeRecorder{receipt: complete}
			h, url := newHandler(t, recorder, func(h *Handler) { h.MaxBody, h.MaxSelectors = 32<<10, 5 })
			a := call(t, c.method, url+c.path, c.body, c.fields...)
			if a.status != c.status || a.problem.Status != c.status || a.problem.Title != http.StatusText(c.status) || a.problem.Field != c.field || !strings.Contains(a.problem.Detail, c.title) {
				t.Errorf("answered %d %s, want %d about %q: %s", a.status, a.body, c.status, c.field, c.title)
			}
			if got := recorder.recorded(); got != "" {
				t.Errorf("recorded %s", got)
			}
			if allow := a.header.Get("Allow"); (allow != "") != (c.status == 405) {
				t.Errorf("allows %q", allow)
			}
			if stats := h.Stats(); stats.Purges != 0 || stats.NotRecorded != 0 {
				t.Errorf("counted %+v", stats)
			}
		})
	}
}

// TestGrant: a caller reaches its own sites, and no call in part.
func TestGrant(t *testing.T) {
	for _, c := range []struct {
		name, body string
		sites      []string
		status     int
		want       string
	}{
		{"its own", `{"all":true,"site":"shop"}`, []string{"shop"}, 200, "everything site=shop authority= value="},
		{"keys reach its own only", `{"surrogate_keys":["a"]}`, []string{"shop"}, 200, "surrogate key site=shop authority= value=a"},
		{"all is all of its own", `{"all":true}`, []string{"shop"}, 200, "everything site=shop authority= value="},
		{"all of a list of all is still a list", `{"all":true}`, []string{"shop", "blog"}, 200, "everything site=shop authority= value=\neverything site=blog authority= value="},
		{"another's site", `{"surrogate_keys":["a"],"site":"blog"}`, []string{"shop"}, 403, ""},
		{"another's URL", `{"urls":["http://shop.example/","http://blog.example/"]}`, []string{"shop"}, 403, ""},
		{"another's prefix", `{"prefixes":["http://blog.example/"]}`, []string{"shop"}, 403, ""},
		{"another's host", `{"hosts":["blog.example"]}`, []string{"shop"}, 403, ""},
		{"a site that is gone", `{"surrogate_keys":["a"]}`, []string{"old"}, 403, ""},
		{"no site", `{"all":true}`, []string{}, 403, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			recorder := &fakeRecorder{receipt: complete}
			_, url := newHandler(t, recorder, func(h *Handler) {
				h.Grant = func(*http.Request) Grant { return Grant{Name: "deploy", Sites: c.sites} }
			})
			a := call(t, "POST", url+"/purge", c.body, "Content-Type", asJSON)
			if got := recorder.recorded(); a.status != c.status || got != c.want {
				t.Errorf("answered %d %s, recorded\n%s\nwant\n%s", a.status, a.body, got, c.want)
			}
		})
	}
}

// TestWaiting: what is waited for, and what the answer says of it.
func TestWaiting(t *testing.T) {
	completed := incomplete
	completed.Complete = true
	patient := func(ctx context.Context, _ string) (Receipt, error) {
		<-ctx.Done()
		return incomplete, nil
	}
	for _, c := range []struct {
		name, body string
		recorder   *fakeRecorder
		status     int
		complete   bool
	}{
		{"this node", `{"all":true}`, &fakeRecorder{receipt: incomplete}, 200, false},
		{"this node, in so many words", `{"all":true,"wait":"node","timeout":"1ms"}`, &fakeRecorder{receipt: incomplete}, 200, false},
		{"a fleet that is quick", `{"all":true,"wait":"cluster"}`, &fakeRecorder{receipt: completed}, 200, true},
		{"a fleet that takes a while", `{"all":true,"wait":"cluster","timeout":"60s"}`,
			&fakeRecorder{receipt: incomplete, follow: func(context.Context, string) (Receipt, error) { return completed, nil }}, 200, true},
		{"a fleet that is slow", `{"all":true,"wait":"cluster","timeout":"1ms"}`, &fakeRecorder{receipt: incomplete, follow: patient}, 202, false},
		{"a fleet that cannot be seen", `{"all":true,"wait":"cluster"}`,
			&fakeRecorder{receipt: incomplete, follow: func(context.Context, string) (Receipt, error) { return Receipt{}, errors.New("gone") }}, 202, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, url := newHandler(t, c.recorder, nil)
			a := call(t, "POST", url+"/purge", c.body, "Content-Type", asJSON)
			if a.status != c.status || a.receipt.ID != "1-1" || a.receipt.Complete != c.complete || len(a.receipt.Nodes) != 2 {
				t.Errorf("answered %d %s", a.status, a.body)
			}
			if location := a.header.Get("Location"); (location == "/purge/1-1") != (c.status == 202) {
				t.Errorf("Location is %q", location)
			}
			want := HandlerStats{Purges: 1}
			if c.status == 202 {
				want.Incomplete = 1
			}
			if got := h.Stats(); got != want {
				t.Errorf("counted %+v", got)
			}
		})
	}
}

// A purge that cannot be followed for the number of those that came after it is nothing
// to alarm anybody about: the receipt says why it is not complete.
func TestWaitIsOverrun(t *testing.T) {
	var log strings.Builder
	h := &Handler{Recorder: &fakeRecorder{receipt: incomplete}, Sites: []string{"shop"}, Locate: locate, Log: slog.New(slog.NewTextHandler(&log, nil))}
	r := httptest.NewRequest("POST", "/purge", strings.NewReader(`{"all":true,"wait":"cluster"}`))
	r.Header.Set("Content-Type", asJSON)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if body := w.Body.String(); w.Code != 202 || !strings.Contains(body, `"note":"so many purges`) || strings.Contains(log.String(), "ERROR") {
		t.Errorf("answered %d %s, logged %s", w.Code, body, &log)
	}
}

// The wait ends after two seconds, or what the request says, by the clock.
func TestTimeout(t *testing.T) {
	for body, want := range map[string]time.Duration{
		`{"all":true,"wait":"cluster"}`:                  DefaultTimeout,
		`{"all":true,"wait":"cluster","timeout":"60s"}`:  MaxTimeout,
		`{"all":true,"wait":"cluster","timeout":"10ms"}`: 10 * time.Millisecond,
	} {
		synctest.Test(t, func(t *testing.T) {
			h := &Handler{Sites: []string{"shop"}, Recorder: &fakeRecorder{receipt: incomplete, follow: func(ctx context.Context, _ string) (Receipt, error) {
				<-ctx.Done()
				return incomplete, nil
			}}}
			r := httptest.NewRequest("POST", "/purge", strings.NewReader(body))
			r.Header.Set("Content-Type", asJSON)
			w := httptest.NewRecorder()
			began := time.Now()
			h.ServeHTTP(w, r)
			if got := time.Since(began); got != want || w.Code != 202 {
				t.Errorf("%s: answered %d after %s, want %s", body, w.Code, got, want)
			}
		})
	}
}

// A caller that leaves while its purge is written takes nothing back.
func TestCallerLeaves(t *testing.T) {
	ctx, leave := context.WithCancel(t.Context())
	recorder := &fakeRecorder{receipt: complete, hook: func(ctx context.Context) {
		leave()
		if ctx.Err() != nil {
			t.Error("the purge is broken off")
		}
	}}
	h := &Handler{Recorder: recorder, Sites: []string{"shop"}}
	r := httptest.NewRequestWithContext(ctx, "POST", "/purge", strings.NewReader(`{"all":true}`))
	r.Header.Set("Content-Type", asJSON)
	h.ServeHTTP(httptest.NewRecorder(), r)
	if recorder.recorded() == "" {
		t.Error("nothing is recorded")
	}
}

func TestNotRecorded(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		title  string
		want   HandlerStats
	}{
		{fmt.Errorf("append: %w: refused", ErrNotRecorded), 503, "safe to repeat", HandlerStats{NotRecorded: 1}},
		{errors.New("a secret of ours"), 500, "could not be recorded", HandlerStats{}},
	} {
		h, url := newHandler(t, &fakeRecorder{err: c.err}, nil)
		a := call(t, "POST", url+"/purge", `{"all":true}`, "Content-Type", asJSON)
		if a.status != c.status || !strings.Contains(a.problem.Detail, c.title) || strings.Contains(a.body, "refused") || strings.Contains(a.body, "secret") {
			t.Errorf("%v: answered %d %s", c.err, a.status, a.body)
		}
		if got := h.Stats(); got != c.want {
			t.Errorf("%v: counted %+v", c.err, got)
		}
	}
}

func TestReceipt(t *testing.T) {
	recorder := &fakeRecorder{follow: func(ctx context.Context, id string) (Receipt, error) {
		if ctx.Err() == nil {
			t.Error("asked to wait")
		}
		switch id {
		case "1-1":
			return incomplete, nil
		case "broken":
			return Receipt{}, errors.New("a secret of ours")
		}
		return Receipt{}, ErrUnknownPurge
	}}
	_, url := newHandler(t, recorder, nil)
	if a := call(t, "GET", url+"/purge/1-1", ""); a.status != 200 || a.receipt.ID != "1-1" || a.receipt.Complete || a.receipt.Nodes[1].State != "lost" {
		t.Errorf("answered %d %s", a.status, a.body)
	}
	if a := call(t, "GET", url+"/purge/broken", ""); a.status != 500 || strings.Contains(a.body, "secret") {
		t.Errorf("answered %d %s", a.status, a.body)
	}
	for _, id := range []string{"2-2", "1-1/x", "%2e%2e"} {
		if a := call(t, "GET", url+"/purge/"+id, ""); a.status != 404 {
			t.Errorf("%s: answered %d %s", id, a.status, a.body)
		}
	}
}

// Each call that purges leaves one line: who, what, and how it went; and nobody can
// fill it.
func TestNote(t *testing.T) {
	var lines strings.Builder
	recorder := &fakeRecorder{receipt: complete}
	_, url := newHandler(t, recorder, func(h *Handler) {
		h.Log = slog.New(slog.NewJSONHandler(&lines, nil))
		h.Grant = func(*http.Request) Grant { return Grant{Name: "deploy"} }
	})
	call(t, "POST", url+"/purge", `{"surrogate_keys":["red","blue"],"site":"shop","soft":true}`, "Content-Type", asJSON)
	call(t, "POST", url+"/purge", `{"surrogate_keys":["`+strings.Repeat("x", 10_000)+`"],"wait":"`+strings.Repeat("y", 10_000)+`"}`, "Content-Type", asJSON)
	call(t, "PURGE", url+"/a", "", "Host", "other.example")
	call(t, "POST", url+"/purge", `{"urls":["http://me:hidden@shop.example/a"]}`, "Content-Type", asJSON)
	got := strings.Split(strings.TrimSpace(lines.String()), "\n")
	if len(got) != 4 || strings.Contains(lines.String(), "hidden") {
		t.Fatalf("%d lines: %s", len(got), &lines)
	}
	for i, holds := range [][]string{
		{`"level":"INFO"`, `"token":"deploy"`, `"status":200`, `"site":"shop"`, `"surrogate_keys":2`, `"first":"red"`, `"soft":true`, `"wait":"node"`, `"id":"1-1"`, `"complete":true`, `"client":"127.0.0.1`},
		{`"level":"WARN"`, `"status":400`, `wait`},
		{`"level":"WARN"`, `"status":400`, `"first":"http://other.example/a"`, `no site`},
		{`"first":"http://shop.example/a"`},
	} {
		for _, text := range holds {
			if !strings.Contains(got[i], text) {
				t.Errorf("line %d lacks %s: %s", i, text, got[i])
			}
		}
		if len(got[i]) > 1000 {
			t.Errorf("line %d has %d bytes", i, len(got[i]))
		}
	}
}
