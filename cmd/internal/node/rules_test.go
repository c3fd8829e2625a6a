package node

import (
	"testing"
	"time"

	"edge/config"
)

func TestDigestFollowsWhatChangesWhatIsStored(t *testing.T) {
	minute := time.Minute
	same := time.Minute
	base := func() (*config.Route, *config.Origin) {
		return &config.Route{Name: "r", Cache: config.Cache{Enabled: true, Cookies: "permission", TTL: &minute,
			Negative: map[int]time.Duration{404: time.Second, 410: time.Second}}}, &config.Origin{URL: "http://a.test"}
	}
	want := digest(base())
	for _, c := range []struct {
		name   string
		change func(*config.Route, *config.Origin)
		differ bool
	}{
		{"nothing", func(*config.Route, *config.Origin) {}, false},
		{"an equal lifetime elsewhere in memory", func(r *config.Route, _ *config.Origin) { r.Cache.TTL = &same }, false},
		{"the route's name", func(r *config.Route, _ *config.Origin) { r.Name = "s" }, false},
		{"what clients are shown", func(r *config.Route, _ *config.Origin) { r.Response.Remove = []string{"Server"} }, false},
		{"surrogate keys kept in what is stored", func(r *config.Route, _ *config.Origin) { r.Cache.ShowKeys = true }, true},
		{"a lifetime", func(r *config.Route, _ *config.Origin) { r.Cache.TTL = nil }, true},
		{"the negative list", func(r *config.Route, _ *config.Origin) { r.Cache.Negative[404] = time.Minute }, true},
		{"cookies", func(r *config.Route, _ *config.Origin) { r.Cache.Cookies = "strip" }, true},
		{"stripped response cookies", func(r *config.Route, _ *config.Origin) { r.Cache.StripSetCookie = true }, true},
		{"the key's expression", func(r *config.Route, _ *config.Origin) { r.Cache.Key.ValueText = "req.method" }, true},
		{"a query parameter kept", func(r *config.Route, _ *config.Origin) { r.Cache.Key.AllowQuery = []string{"a"} }, true},
		{"the same one dropped", func(r *config.Route, _ *config.Origin) { r.Cache.Key.DenyQuery = []string{"a"} }, true},
		{"a request header's expression", func(r *config.Route, _ *config.Origin) {
			r.Request.Set = []config.Header{{Name: "X-A", Text: `"1"`}}
		}, true},
		{"the origin", func(_ *config.Route, o *config.Origin) { o.URL = "http://b.test" }, true},
		{"the origin's Host", func(_ *config.Route, o *config.Origin) { o.Host = "c.test" }, true},
	} {
		route, origin := base()
		c.change(route, origin)
		if differ := digest(route, origin) != want; differ != c.differ {
			t.Errorf("%s: digests differ %v, want %v", c.name, differ, c.differ)
		}
	}
}

func TestNamedPoliciesArriveWhole(t *testing.T) {
	for name, wantPermission := range map[string]bool{"safe": true, "rfc": false} {
		cfg, err := config.Default("http://127.0.0.1:3000", "", "", name)
		if err != nil {
			t.Fatal(err)
		}
		got := rules(&cfg.Sites[0].Routes[0], &cfg.Origins[0])
		p := got.Policy
		if !got.Cache || !got.Upgrade || p.CookiesNeedPermission != wantPermission ||
			p.StoreSetCookie == wantPermission || p.Heuristic == wantPermission || len(p.Targets) != 1 ||
			p.IfUnreachable != time.Hour || got.MaxObject != 8<<20 || got.Digest == 0 {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}
