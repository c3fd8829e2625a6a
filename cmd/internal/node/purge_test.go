package node

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"edge/config"
	"edge/proxy"
	"edge/purge"
)

// shop is a node in front of an origin that counts its answers; each carries the
// number and the keys "all" and that of its path, and stale ones may be used.
type shop struct {
	t       *testing.T
	node    *Node
	client  *http.Client
	fetches atomic.Int64
	purge   purge.Client
}

func newShop(t *testing.T, change func(*config.Config)) *shop {
	t.Helper()
	s := &shop{t: t, client: client(t)}
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600, stale-while-revalidate=600")
		w.Header().Set("Surrogate-Key", "all page"+strings.ReplaceAll(r.URL.Path, "/", "-"))
		w.Header().Set("Vary", "X-Variant")
		fmt.Fprint(w, s.fetches.Add(1))
	}))
	t.Cleanup(origin.Close)
	s.node = start(t, origin.URL, io.Discard, change)
	s.purge = purge.Client{URL: "http://" + s.node.Admin(), HTTP: s.client}
	return s
}

// get asks for a page, and returns which of the origin's answers it got.
func (s *shop) get(path string, fields ...string) string {
	s.t.Helper()
	r, err := http.NewRequest("GET", "http://"+s.node.Listen()[0]+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	res, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(body)
}

// warm fetches pages until they are stored.
func (s *shop) warm(pages ...string) {
	s.t.Helper()
	for _, page := range pages {
		before := s.get(page)
		eventually(s.t, page+" is stored", func() bool {
			now := s.get(page)
			again := now == before
			before = now
			return again
		})
	}
}

// must purges, and fails the test when that is not complete.
func (s *shop) must(request purge.Request) {
	s.t.Helper()
	request.Wait = purge.WaitCluster
	receipt, err := s.purge.Purge(s.t.Context(), request)
	if err != nil || !receipt.Complete || receipt.Soft != request.Soft || len(receipt.Nodes) != 1 || receipt.Nodes[0].ID != "edge" {
		s.t.Fatalf("%+v: %+v, %v", request, receipt, err)
	}
	again, err := s.purge.Receipt(s.t.Context(), receipt.ID)
	if err != nil || fmt.Sprint(again) != fmt.Sprint(receipt) {
		s.t.Errorf("the receipt reads %+v, %v, later %+v", receipt, err, again)
	}
}

// TestPurgeReaches: of these pages, a purge takes those away that it should, from
// the next request on, and no other.
func TestPurgeReaches(t *testing.T) {
	pages := []string{"/a", "/a?q=1", "/a?q=2", "/a/b", "/ab", "/sorted?b=2&a=1"}
	s := newShop(t, func(c *config.Config) {
		sorted := c.Sites[0].Routes[0]
		sorted.Name, sorted.Path, sorted.Cache.Key.SortQuery = "sorted", "/sorted", true
		c.Sites[0].Routes = append([]config.Route{sorted}, c.Sites[0].Routes...)
	})
	at := "http://" + s.node.Listen()[0]
	for _, c := range []struct {
		name    string
		request purge.Request
		gone    string
	}{
		{"a key of one page", purge.Request{SurrogateKeys: []string{"page-a-b"}}, "/a/b"},
		{"a key of one site", purge.Request{SurrogateKeys: []string{"page-ab"}, Site: "default"}, "/ab"},
		{"a key of all", purge.Request{SurrogateKeys: []string{"all"}}, strings.Join(pages, " ")},
		{"a key of none", purge.Request{SurrogateKeys: []string{"al", "page"}}, ""},
		{"a URL", purge.Request{URLs: []string{at + "/a"}}, "/a"},
		{"a URL in other letters", purge.Request{URLs: []string{at + "/x/../%61?q=1"}}, "/a?q=1"},
		{"a URL over https", purge.Request{URLs: []string{strings.Replace(at, "http:", "https:", 1) + "/ab"}}, "/ab"},
		{"a URL of another host", purge.Request{URLs: []string{"http://other.example/a"}}, ""},
		{"a URL whose query is sorted", purge.Request{URLs: []string{at + "/sorted?b=2&a=1"}}, "/sorted?b=2&a=1"},
		{"a URL whose query is sorted, sorted", purge.Request{URLs: []string{at + "/sorted?a=1&b=2"}}, "/sorted?b=2&a=1"},
		{"a URL with any query", purge.Request{URLs: []string{at + "/a?x"}, IgnoreQuery: true}, "/a /a?q=1 /a?q=2"},
		{"a prefix", purge.Request{Prefixes: []string{at + "/a"}}, "/a /a?q=1 /a?q=2 /a/b"},
		{"a host", purge.Request{Hosts: []string{s.node.Listen()[0]}}, strings.Join(pages, " ")},
		{"everything", purge.Request{All: true}, strings.Join(pages, " ")},
		{"everything of the site", purge.Request{All: true, Site: "default"}, strings.Join(pages, " ")},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.t = t
			s.warm(pages...)
			before := make(map[string]string)
			for _, page := range pages {
				before[page] = s.get(page)
			}
			s.must(c.request)
			for _, page := range pages {
				gone := s.get(page) != before[page]
				if want := strings.Contains(" "+c.gone+" ", " "+page+" "); gone != want {
					t.Errorf("%s is gone: %v, want %v", page, gone, want)
				}
			}
		})
	}
}

// All variants of a URL go together.
func TestPurgeReachesVariants(t *testing.T) {
	s := newShop(t, nil)
	s.warm("/a")
	first, second := s.get("/a", "X-Variant", "1"), s.get("/a", "X-Variant", "2")
	eventually(t, "the variants are stored", func() bool {
		one, two := s.get("/a", "X-Variant", "1"), s.get("/a", "X-Variant", "2")
		again := one == first && two == second
		first, second = one, two
		return again
	})
	s.must(purge.Request{URLs: []string{"http://" + s.node.Listen()[0] + "/a"}})
	if s.get("/a", "X-Variant", "1") == first || s.get("/a", "X-Variant", "2") == second {
		t.Error("a variant outlived the purge")
	}
}

// What is purged softly is served stale while it is fetched anew.
func TestSoftPurge(t *testing.T) {
	s := newShop(t, nil)
	s.warm("/a")
	old := s.get("/a")
	s.must(purge.Request{SurrogateKeys: []string{"page-a"}, Soft: true})
	if got := s.get("/a"); got != old {
		t.Errorf("the first request after the purge got %s, want the stale %s", got, old)
	}
	eventually(t, "the new one is there", func() bool { return s.get("/a") != old })
	if stale := s.node.Stats().Requests.Outcomes[proxy.Stale.String()]; stale == 0 {
		t.Error("nothing was served stale")
	}
	if got := s.node.Stats().PurgeCalls; got != (purge.HandlerStats{Purges: 1}) {
		t.Errorf("counted %+v", got)
	}
}

// As the tools of Varnish, Squid and Fastly do it.
func TestPurgeByOtherTools(t *testing.T) {
	s := newShop(t, nil)
	admin, at := "http://"+s.node.Admin(), s.node.Listen()[0]
	send := func(c *http.Client, method, target, host string, fields ...string) int {
		t.Helper()
		r, err := http.NewRequest(method, target, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		for i := 0; i < len(fields); i += 2 {
			r.Header.Set(fields[i], fields[i+1])
		}
		res, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	proxyURL, err := url.Parse(admin)
	if err != nil {
		t.Fatal(err)
	}
	// Go's own rules leave out proxies for this machine.
	transport := &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { return proxyURL, nil }}
	defer transport.CloseIdleConnections()
	for name, purging := range map[string]func() int{
		"keys in a header":             func() int { return send(s.client, "POST", admin+"/purge", "", "Surrogate-Key", "page-a other") },
		"PURGE with a Host":            func() int { return send(s.client, "PURGE", admin+"/a", at) },
		"PURGE through the listener":   func() int { return send(&http.Client{Transport: transport}, "PURGE", "http://"+at+"/a", "") },
		"PURGE of the listener itself": func() int { return send(s.client, "PURGE", admin+"/a", "") },
		"PURGE on the public listener": func() int { return send(s.client, "PURGE", "http://"+at+"/a", "") },
		"keys on the public listener":  func() int { return send(s.client, "POST", "http://"+at+"/purge", "", "Surrogate-Key", "page-a") },
	} {
		s.warm("/a")
		before, wantStatus, wantGone := s.get("/a"), 200, true
		switch name {
		case "PURGE of the listener itself":
			wantStatus, wantGone = 400, false
		case "PURGE on the public listener":
			wantStatus, wantGone = 405, false
		case "keys on the public listener":
			wantGone = false
		}
		if status := purging(); status != wantStatus {
			t.Errorf("%s: answered %d, want %d", name, status, wantStatus)
		}
		if gone := s.get("/a") != before; gone != wantGone {
			t.Errorf("%s: gone %v, want %v", name, gone, wantGone)
		}
	}
}
