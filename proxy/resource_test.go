package proxy

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// resourceRouter has a site with names, routes that change the query, and one that
// takes every other authority.
func resourceRouter(t *testing.T) *Router {
	t.Helper()
	nothing := http.NotFoundHandler()
	sorted := queryRule{sort: true}
	bare := queryRule{allow: []string{}}
	router, err := NewRouter("edge", []Site{
		{Name: "shop", Hosts: []string{"shop.example", "shop.example:8443"}, Routes: []Route{
			{Name: "search", Path: "/search/*", Query: sorted.apply, Handler: nothing},
			{Name: "searching", Path: "/search/*", Methods: []string{"GET"}, Query: bare.apply, Handler: nothing},
			{Name: "rest", Path: "/*", Handler: nothing},
		}},
		{Name: "any", Hosts: []string{"*"}, Routes: []Route{{Name: "all", Path: "/*", Handler: nothing}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return router
}

func TestResource(t *testing.T) {
	router := resourceRouter(t)
	for _, c := range []struct{ url, site, authority, path, targets string }{
		{"http://shop.example", "shop", "shop.example", "/", "/"},
		{"http://shop.example/", "shop", "shop.example", "/", "/"},
		{"HTTPS://Shop.Example:443/a/../b", "shop", "shop.example", "/b", "/b"},
		{"http://shop.example:80/%7ea?b=2&a=1", "shop", "shop.example", "/~a", "/~a?b=2&a=1"},
		{"https://shop.example:8443/a%2fb?", "shop", "shop.example:8443", "/a%2Fb", "/a%2Fb?"},
		{"http://shop.example:443/", "any", "shop.example:443", "/", "/"},
		{"http://127.0.0.1:8080//x?q=%zz", "any", "127.0.0.1:8080", "//x", "//x?q=%zz"},
		{"http://shop.example/search/x?b=2&a=1", "shop", "shop.example", "/search/x", "/search/x?b=2&a=1 /search/x?a=1&b=2 /search/x"},
		{"http://shop.example/search/x?a=1", "shop", "shop.example", "/search/x", "/search/x?a=1 /search/x"},
		{"http://shop.example/%73earch/x?b&a", "shop", "shop.example", "/search/x", "/search/x?b&a /search/x?a&b /search/x"},
	} {
		got, err := router.Resource(c.url)
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		if got.Site != c.site || got.Authority != c.authority || got.Path != c.path || !slices.Equal(got.Targets, strings.Fields(c.targets)) {
			t.Errorf("%s: got %+v, want %+v", c.url, got, c)
		}
	}
}

func TestResourceRefuses(t *testing.T) {
	router := resourceRouter(t)
	router.any = nil
	for _, url := range []string{
		"", "/path", "shop.example/path", "//shop.example/", "http:///path", "http:opaque", "ftp://shop.example/", "http://user@shop.example/",
		"http://other.example/", "http://shop.example:0/", "http://shop.example:x/", "http://sh op.example/", "http://shop.example/caf\xc3\xa9",
		"http://shop.example/a#b", "http://shop.example/%zz", "http://shop.example/%00", "http://shop.example/share/%2f../x", "http://shop.example/a\n",
	} {
		if got, err := router.Resource(url); err == nil {
			t.Errorf("%q: accepted as %+v", url, got)
		} else if len(url) > 20 && strings.Contains(err.Error(), url) {
			t.Errorf("%q: the message repeats it: %v", url, err)
		}
	}
}

// What a request is keyed by is among the targets of its URL, whatever its form.
func TestResourceIsWhatIsKeyed(t *testing.T) {
	for _, uri := range []string{"/", "/a?b=2&a=1", "/a?", "/%41//b/../c?x;y", "/(item)?utm=1&b&a", "/a%2fb"} {
		for _, rule := range []queryRule{{}, {sort: true}, {deny: []string{"utm"}}, {allow: []string{}}} {
			rg := newRig(t, func(http.ResponseWriter, *http.Request) {}, nil)
			rg.handler.query = rule
			router, err := NewRouter("edge", []Site{{Name: "site", Hosts: []string{"*"}, Routes: []Route{
				{Name: "route", Path: "/*", Query: rg.handler.Query, Handler: rg.handler}}}})
			if err != nil {
				t.Fatal(err)
			}
			r, err := http.NewRequest(http.MethodGet, "http://h.example"+uri, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.RequestURI = uri
			resource, err := router.Resource("http://h.example" + uri)
			if err != nil {
				t.Fatal(err)
			}
			if refusal := router.check(r); refusal != nil {
				t.Fatal(refusal.title)
			}
			x := &exchange{search: search{h: rg.handler}, r: r}
			x.identify()
			if parts, _ := x.key.Parts(); !slices.Contains(resource.Targets, parts.Target) || parts.Authority != resource.Authority {
				t.Errorf("%s under %+v: keyed as %+v, and resolved as %+v", uri, rule, parts, resource)
			}
		}
	}
}

// FuzzResource: the form that a URL is put into is its own form.
func FuzzResource(f *testing.F) {
	for _, seed := range []string{"http://shop.example/a/../b?x#y", "https://SHOP.example:443/%7e%2f", "http://[::1]:80", "http://h/%2f%2e%2e?", "http://u:p@h/", "//h/a", "http://h?a=b"} {
		f.Add(seed)
	}
	router, err := NewRouter("edge", []Site{{Name: "any", Hosts: []string{"*"}, Routes: []Route{
		{Name: "sorted", Path: "/*", Query: (&queryRule{sort: true}).apply, Handler: http.NotFoundHandler()}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := router.Resource(raw)
		if err != nil {
			return
		}
		scheme, _, _ := strings.Cut(raw, ":")
		for _, target := range got.Targets {
			again, err := router.Resource(scheme + "://" + got.Authority + target)
			if err != nil || again.Authority != got.Authority || again.Path != got.Path || again.Targets[0] != target {
				t.Fatalf("%q is %+v, and that is %+v, %v", raw, got, again, err)
			}
		}
	})
}
