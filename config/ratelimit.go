package config

import (
	"fmt"
	"math/bits"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// limitBlock is a rate limit as read.
type limitBlock struct {
	limit RateLimit
	at    hcl.Range // of its name
	key   *term     // nil is the client's address
	rate  *hcl.Range
	burst *hcl.Range
	used  bool // some route that can be reached is under it
}

// rateLimit reads rate_limit "name" { }.
func (d *decoder) rateLimit(b *hcl.Block) {
	block := &limitBlock{at: b.LabelRanges[0], limit: defaultRateLimit()}
	d.limits = append(d.limits, block)
	l := &block.limit
	l.Name = b.Labels[0]
	var store, concurrent *hcl.Range
	own := lines{
		"rate":       d.rateLine(&l.Limit, &l.Period, &block.rate),
		"burst":      d.noting(&block.burst, set(d, &l.Burst, d.count(1, 1_000_000_000))),
		"concurrent": d.noting(&concurrent, set(d, &l.Concurrent, d.count(1, 1_000_000_000))),
		"algorithm":  set(d, &l.Algorithm, d.oneOf("algorithm", "token_bucket", "sliding_window", "fixed_window")),
		"key": func(e hclsyntax.Expression) {
			// A client has all addresses of its network: to count each would be to
			// count none.
			d.clientIP = func(r *http.Request) string { return clientNetwork(r, l.IPv6Prefix) }
			defer func() { d.clientIP = clientIP }()
			if key, ok := d.compileAs(e, kindText); ok {
				block.key = &key
				if key.constant {
					d.warn(e.Range().Ptr(), "One count for all", "This key is the same for every request, so that one client can use up what all have.")
				}
			}
		},
		"ipv6_prefix":    set(d, &l.IPv6Prefix, d.integer(1, 128)),
		"block_for":      set(d, &l.BlockFor, d.duration(time.Second, longest)),
		"count":          set(d, &l.Count, d.oneOf("value", "all", "misses")),
		"store":          d.noting(&store, set(d, &l.Store, d.oneOf("store", "memory", "redis"))),
		"on_store_error": set(d, &l.OnStoreError, d.oneOf("value", "local", "allow", "deny")),
		"max_keys":       set(d, &l.MaxKeys, d.integer(1000, 1_000_000_000)),
		"dry_run":        set(d, &l.DryRun, d.truth),
		"headers":        set(d, &l.Headers, d.truth),
		"legacy_headers": set(d, &l.LegacyHeaders, d.truth),
	}
	d.body(b.Body, own, blocks{
		"plan": {named: true, read: func(b *hcl.Block) { d.plan(block, b) }},
	})
	if block.key != nil {
		l.Key, l.KeyText = block.key.text, block.key.spelling
	}
	switch {
	case block.rate == nil && concurrent == nil && !d.failed():
		d.fault(&b.DefRange, "Missing argument", `The rate_limit %q limits nothing: write rate = "100/1m", or concurrent = 20.`, l.Name)
	case block.rate != nil && concurrent != nil:
		d.fault(concurrent, "Contradiction", "A limit is on the rate of requests, or on how many run at a time. Write two limits, and name both where they hold.")
	case concurrent != nil && (block.burst != nil || len(l.Plans) > 0 || l.BlockFor > 0):
		d.fault(concurrent, "Contradiction", "A limit on what runs at a time has no burst, no plans and no block_for.")
	case block.burst != nil && l.Algorithm != "token_bucket":
		d.fault(block.burst, "Contradiction", "Only the algorithm \"token_bucket\" has a burst.")
	}
	if store == nil {
		l.Store = "" // that of the fleet, if there is one
	} else if l.Store == "redis" && concurrent != nil {
		d.fault(store, "Contradiction", "What runs at a time is counted on each node alone.")
	}
	if l.Burst == 0 {
		l.Burst = l.Limit
	}
	d.checkBurst(block.burst, l.Burst, l.Limit, l.Period)
}

// century is how long a burst may take to come back: so far do the counts reach.
const century = 100 * 365 * 24 * time.Hour

func (d *decoder) checkBurst(at *hcl.Range, burst, limit int64, period time.Duration) {
	if at == nil || limit == 0 {
		return
	}
	hi, lo := bits.Mul64(uint64(burst), uint64(period))
	most, least := bits.Mul64(uint64(century), uint64(limit))
	if hi > most || hi == most && lo > least {
		d.fault(at, "Out of range", "At this rate a burst of %d takes more than a century to come back.", burst)
	}
}

// plan reads plan "name" { } of a rate limit.
func (d *decoder) plan(block *limitBlock, b *hcl.Block) {
	plan := RatePlan{Name: b.Labels[0]}
	var rate, burst *hcl.Range
	d.body(b.Body, lines{
		"rate":  d.rateLine(&plan.Limit, &plan.Period, &rate),
		"burst": d.noting(&burst, set(d, &plan.Burst, d.count(1, 1_000_000_000))),
		"when": func(e hclsyntax.Expression) {
			when, ok := d.compileAs(e, kindTruth)
			if !ok {
				return
			}
			plan.When, plan.WhenText = when.truth, when.spelling
			if when.constant {
				d.warn(e.Range().Ptr(), "Constant condition", "This plan is for every request, or for none.")
			}
		},
	}, nil)
	d.required(b, "rate", "when")
	if plan.Burst == 0 {
		plan.Burst = plan.Limit
	}
	if burst != nil && block.limit.Algorithm != "token_bucket" {
		d.fault(burst, "Contradiction", "Only the algorithm \"token_bucket\" has a burst.")
	}
	d.checkBurst(burst, plan.Burst, plan.Limit, plan.Period)
	block.limit.Plans = append(block.limit.Plans, plan)
}

// resolveLimits checks the limits against the rest of the file, and fills the Config
// with them.
func (d *decoder) resolveLimits() {
	for _, block := range d.limits {
		l := &block.limit
		if l.Store == "" {
			l.Store = "memory"
			if d.config.Redis != nil && l.Concurrent == 0 {
				l.Store = "redis"
			}
		} else if l.Store == "redis" && d.config.Redis == nil && !d.incomplete {
			d.fault(&block.at, "Missing block", `The limit %q is counted in Redis: write redis { url = "redis://..." }.`, l.Name)
		}
		if !block.used && !d.failed() {
			d.warn(&block.at, "Unused limit", "No site or route that requests reach has the limit %q in its rate_limits.", l.Name)
		}
		d.config.RateLimits = append(d.config.RateLimits, *l)
	}
}

// limitsOf returns the names of the limits of a route: its own, or its site's.
func (d *decoder) limitsOf(site *siteBlock, route *routeBlock) []string {
	named := site.limits
	if route.limits != nil {
		named = route.limits
	}
	if named == nil {
		return nil
	}
	var known []string
	for _, block := range d.limits {
		known = append(known, block.limit.Name)
	}
	var names []string
	for _, name := range *named {
		i := slices.Index(known, name.text)
		if i < 0 {
			d.fault(&name.at, "Unknown limit", "There is no rate_limit named %q.%s", name.text, didYouMean(name.text, known))
			continue
		}
		d.limits[i].used = d.limits[i].used || !route.hidden
		names = append(names, name.text)
	}
	return names
}

// limitsLine reads rate_limits = ["a", "b"]; an empty list takes those of the site
// away.
func (d *decoder) limitsLine(target **[]textAt) func(hclsyntax.Expression) {
	return func(e hclsyntax.Expression) {
		if names, ok := d.listOf(e, d.constantText); ok {
			*target = &names
		}
	}
}

// rateLine reads "100/1m".
func (d *decoder) rateLine(limit *int64, period *time.Duration, at **hcl.Range) func(hclsyntax.Expression) {
	return func(e hclsyntax.Expression) {
		*at = e.Range().Ptr()
		text, ok := d.constantText(e)
		if !ok {
			return
		}
		var problem string
		if *limit, *period, problem = parseRate(text); problem != "" {
			d.fault(*at, "Invalid rate", "%s", problem)
		}
	}
}

// parseRate reads a number of requests and the time that they are for.
func parseRate(text string) (limit int64, period time.Duration, problem string) {
	const example = `Write how many in what time, such as "100/1m" or "10/s".`
	number, length, ok := strings.Cut(text, "/")
	if !ok {
		return 0, 0, fmt.Sprintf("%q is not a rate. %s", text, example)
	}
	limit, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	if err != nil || limit < 1 || limit > 1_000_000_000 {
		return 0, 0, fmt.Sprintf("%q is not a number of requests from 1 to 1000000000. %s", number, example)
	}
	length = strings.TrimSpace(length)
	if length == "s" || length == "m" || length == "h" {
		length = "1" + length
	}
	period, problem = parseDuration(length)
	switch {
	case problem != "":
		return 0, 0, problem + " " + example
	case period < time.Second || period > longest:
		return 0, 0, fmt.Sprintf("The time of a rate must be from %s to %s. %s", formatDuration(time.Second), formatDuration(longest), example)
	}
	return limit, period, ""
}

// count reads a whole number within bounds, as an int64.
func (d *decoder) count(low, high int) parser[int64] {
	read := d.integer(low, high)
	return func(e hclsyntax.Expression) (int64, bool) {
		n, ok := read(e)
		return int64(n), ok
	}
}

// noting makes a line that remembers its place.
func (d *decoder) noting(at **hcl.Range, line func(hclsyntax.Expression)) func(hclsyntax.Expression) {
	return func(e hclsyntax.Expression) {
		*at = e.Range().Ptr()
		line(e)
	}
}

// maxListFile bounds a file whose lines are a list.
const maxListFile = 16 * mib

// linesOf reads file("name"), the lines of a file next to the configuration. Empty
// lines and those that begin with "#" are left out.
func (d *decoder) linesOf(e *hclsyntax.FunctionCallExpr) (map[string]struct{}, string, bool) {
	if len(e.Args) != 1 {
		d.fault(e.Range().Ptr(), "Wrong number of arguments", "The function file takes 1, and has %d here.", len(e.Args))
		return nil, "", false
	}
	name, ok := d.constantText(e.Args[0])
	if !ok {
		return nil, "", false
	}
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(d.name), path)
	}
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxListFile {
		d.fault(e.Range().Ptr(), "File too large", "The file %q has more than %s.", name, formatSize(maxListFile))
		return nil, "", false
	}
	text, err := os.ReadFile(path)
	if err != nil {
		d.fault(e.Range().Ptr(), "Unreadable file", "The file %q cannot be read: %s.", name, cause(err))
		return nil, "", false
	}
	list := make(map[string]struct{})
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			list[line] = struct{}{}
		}
	}
	return list, "file(" + constantText(name).spelling + ")", true
}

// cause is why a file cannot be read, without the path, which the finding has.
func cause(err error) string {
	if path, ok := err.(*os.PathError); ok {
		return path.Err.Error()
	}
	return err.Error()
}
