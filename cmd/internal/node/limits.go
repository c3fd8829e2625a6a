package node

import (
	"fmt"
	"slices"

	"edge/config"
	"edge/proxy"
	"edge/ratelimit"
)

// gate is a place where limits hold. It is filled when the node opens: limits may
// need Redis.
type gate struct {
	*ratelimit.Gate
	count ratelimit.Count
	names []string
}

// gateOf returns the gate of those limits of a route that count so, or nil when there
// are none.
func (n *Node) gateOf(route *config.Route, count ratelimit.Count) proxy.Gate {
	named := func(l config.RateLimit) bool {
		return slices.Contains(route.RateLimits, l.Name) && countOf(&l) == count
	}
	if !slices.ContainsFunc(n.config.RateLimits, named) {
		return nil
	}
	g := &gate{count: count, names: route.RateLimits}
	n.gates = append(n.gates, g)
	return g
}

// checkLimits finds what openLimits would fail for.
func (n *Node) checkLimits() error {
	for i := range n.config.RateLimits {
		p := policyOf(&n.config.RateLimits[i])
		if err := p.Check(); err != nil {
			return fmt.Errorf("limit %q: %w", p.Name, err)
		}
	}
	return nil
}

// openLimits makes the limits, and fills the gates.
func (n *Node) openLimits() error {
	options := ratelimit.Options{Log: n.log}
	if n.fleet != nil {
		options.Redis, options.Prefix, options.Nodes = n.fleet.conn, n.fleet.config.Prefix, n.fleet.nodes
		// A hit waits for a count, and for nothing else of Redis.
		options.Patience = n.fleet.config.Timeout / 3
	}
	for i := range n.config.RateLimits {
		options.Policies = append(options.Policies, policyOf(&n.config.RateLimits[i]))
	}
	limiter, err := ratelimit.New(options)
	if err != nil {
		return fmt.Errorf("limits: %w", err)
	}
	for _, g := range n.gates {
		if g.Gate, err = limiter.Gate(g.count, g.names...); err != nil {
			return fmt.Errorf("limits: %w", err)
		}
	}
	n.limiter = limiter
	return nil
}

// policyOf translates a limit of the configuration.
func policyOf(l *config.RateLimit) ratelimit.Policy {
	p := ratelimit.Policy{
		Name:       l.Name,
		Rate:       ratelimit.Rate{Limit: l.Limit, Period: l.Period},
		Key:        l.Key,
		IPv6Prefix: l.IPv6Prefix,
		BlockFor:   l.BlockFor,
		Count:      countOf(l),
		Shared:     l.Store == "redis",
		MaxKeys:    l.MaxKeys,
		DryRun:     l.DryRun,
		Headers:    l.Headers,
		Legacy:     l.LegacyHeaders,
	}
	switch {
	case l.Concurrent > 0:
		p.Algorithm, p.Rate = ratelimit.Concurrent, ratelimit.Rate{Limit: l.Concurrent}
	case l.Algorithm == "sliding_window":
		p.Algorithm = ratelimit.SlidingWindow
	case l.Algorithm == "fixed_window":
		p.Algorithm = ratelimit.FixedWindow
	default:
		p.Algorithm, p.Burst = ratelimit.TokenBucket, l.Burst
	}
	switch l.OnStoreError {
	case "allow":
		p.OnError = ratelimit.Allow
	case "deny":
		p.OnError = ratelimit.Deny
	}
	for _, plan := range l.Plans {
		translated := ratelimit.Plan{Name: plan.Name, When: plan.When, Rate: ratelimit.Rate{Limit: plan.Limit, Period: plan.Period}}
		if p.Algorithm == ratelimit.TokenBucket {
			translated.Burst = plan.Burst
		}
		p.Plans = append(p.Plans, translated)
	}
	return p
}

func countOf(l *config.RateLimit) ratelimit.Count {
	if l.Count == "misses" {
		return ratelimit.CountMisses
	}
	return ratelimit.CountAll
}
