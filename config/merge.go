package config

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
)

// merge makes the cache policy of a route: the named policy fills it, then the
// lines of the file's, the site's and the route's cache block override in that
// order. Blocks that are not there are nil.
func (d *decoder) merge(policy string, levels ...*cacheLines) Cache {
	cache := d.policies[policy]
	cache.MaxObject = min(d.config.Memory.MaxObject, d.config.Fill.Budget)
	levels = slices.DeleteFunc(levels, func(block *cacheLines) bool { return block == nil })
	for _, block := range levels {
		for _, apply := range block.apply {
			apply(&cache)
		}
	}
	for _, block := range levels {
		block.live = block.live || cache.Enabled
		if !cache.Enabled {
			block.off = nearest(levels, "enabled")
		}
	}
	if !d.incomplete {
		d.checkLives(&cache, levels)
		d.checkMaxObject(&cache, levels)
	}
	return cache
}

// nearest is the place of the innermost of these lines, of several in one block the
// last, or nil.
func nearest(levels []*cacheLines, names ...string) *hcl.Range {
	for _, block := range slices.Backward(levels) {
		var last *hcl.Range
		for _, name := range names {
			if at, ok := block.places[name]; ok && (last == nil || at.Start.Byte > last.Start.Byte) {
				last = &at
			}
		}
		if last != nil {
			return last
		}
	}
	return nil
}

// checkLives finds lifetimes that contradict their bounds.
func (d *decoder) checkLives(cache *Cache, levels []*cacheLines) {
	above := func(name string, life, bound time.Duration, boundName string) {
		if life > bound {
			d.fault(nearest(levels, name, boundName), "Contradiction", "%s (%s) is longer than %s (%s).", name, formatDuration(life), boundName, formatDuration(bound))
		}
	}
	if cache.MaxTTL > 0 {
		above("min_ttl", cache.MinTTL, cache.MaxTTL, "max_ttl")
		above("ttl", valueOf(cache.TTL), cache.MaxTTL, "max_ttl")
		above("default_ttl", valueOf(cache.DefaultTTL), cache.MaxTTL, "max_ttl")
	}
	if cache.TTL != nil {
		above("min_ttl", cache.MinTTL, *cache.TTL, "ttl")
	}
	for _, status := range slices.Sorted(maps.Keys(cache.Negative)) {
		if life := cache.Negative[status]; life > cache.NegativeMax {
			d.fault(nearest(levels, "negative", "negative_max"), "Contradiction", "The lifetime of status %d (%s) is longer than negative_max (%s).",
				status, formatDuration(life), formatDuration(cache.NegativeMax))
		}
	}
}

// checkMaxObject finds a bound that nothing stored could reach.
func (d *decoder) checkMaxObject(cache *Cache, levels []*cacheLines) {
	at := nearest(levels, "max_object")
	if at == nil {
		return // as large as it may be
	}
	if cache.MaxObject > d.config.Memory.MaxObject {
		d.fault(at, "Contradiction", "The memory tier stores nothing larger than %s: raise max_object in memory { }.", formatSize(d.config.Memory.MaxObject))
	} else if cache.MaxObject > d.config.Fill.Budget {
		d.fault(at, "Contradiction", "No fill may hold more than the budget of fill { }, %s.", formatSize(d.config.Fill.Budget))
	}
}

// checkUse finds lines about storing in a block that reaches no cached route. The
// lines about cookies, keys and headers mean something without a cache too.
func (d *decoder) checkUse(block *cacheLines) {
	if block == nil || block.live || block.off == nil || d.incomplete {
		return
	}
	for _, name := range slices.SortedFunc(maps.Keys(block.places), func(a, b string) int {
		return cmp.Compare(block.places[a].Start.Byte, block.places[b].Start.Byte)
	}) {
		switch name {
		case "enabled", "cookies", "strip_set_cookie", "show_keys":
			continue
		}
		if !strings.HasPrefix(name, "key.") {
			at := block.places[name]
			d.fault(&at, "Contradiction", "%s has no effect: the cache is off here, by line %d.", name, block.off.Start.Line)
		}
	}
}
