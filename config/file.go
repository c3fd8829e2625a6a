package config

import (
	"fmt"
	"math"
	"time"

	"github.com/hashicorp/hcl/v2"
)

// file reads a whole file, and then resolves what its parts say of one another.
func (d *decoder) file(body hcl.Body) {
	d.body(body, lines{
		"policy": d.policyLine(&d.policy),
	}, blocks{
		"server":  {read: d.server},
		"admin":   {read: d.admin},
		"log":     {read: d.log},
		"memory":  {read: d.memory},
		"fill":    {read: d.fill},
		"refresh": {read: d.refresh},
		"redis":   {read: d.redis},
		"cache":   {read: func(b *hcl.Block) { d.cache = d.cacheBlock(b) }},
		"origin":  {named: true, read: d.originBlock},

		"rate_limit": {named: true, read: d.rateLimit},
		"site":       {named: true, read: d.siteBlock},
	})
	d.incomplete = d.failed()
	d.checkListeners()
	d.checkHeads()
	d.checkMemory()
	d.resolve()
}

// Bounds that several lines share. A time of a day is longer than any exchange;
// the longest lifetime keeps sums of lifetimes and windows far from overflow.
const (
	shortest    = time.Millisecond
	longest     = 24 * time.Hour
	longestLife = 3650 * 24 * time.Hour
	mostBytes   = math.MaxInt64
)

func (d *decoder) server(b *hcl.Block) {
	s := &d.config.Server
	d.body(b.Body, lines{
		"name":             set(d, &d.config.Node, d.checked("Invalid name", checkNodeName)),
		"listen":           set(d, &d.config.Listen, d.list(d.checked("Invalid address", checkAddress))),
		"header_timeout":   set(d, &s.HeaderTimeout, d.duration(shortest, longest)),
		"body_timeout":     set(d, &s.BodyTimeout, d.duration(shortest, longest)),
		"idle_timeout":     set(d, &s.IdleTimeout, d.duration(shortest, longest)),
		"write_timeout":    set(d, &s.WriteTimeout, d.duration(shortest, longest)),
		"min_body_rate":    set(d, &s.MinBodyRate, d.size(0, 1<<30)),
		"max_header_bytes": set(d, &s.MaxHeaderBytes, d.size(1*kib, 1*mib)),
		"max_target_bytes": set(d, &s.MaxTargetBytes, d.size(64, 1*mib)),
		"max_fields":       set(d, &s.MaxFields, d.integer(1, 10_000)),
		"max_field_bytes":  set(d, &s.MaxFieldBytes, d.size(64, 1*mib)),
		"underscores":      set(d, &s.Underscores, d.oneOf("treatment", "drop", "pass")),
		"quick":            set(d, &s.Quick, d.truth),
		"shutdown_grace":   set(d, &s.ShutdownGrace, d.duration(0, longest)),
		"trusted_proxies":  set(d, &s.TrustedProxies, d.list(d.checked("Invalid network", checkNetwork))),
		"proxy_protocol":   set(d, &s.ProxyProtocol, d.list(d.checked("Invalid network", checkNetwork))),

		"connections_per_client": set(d, &s.ConnectionsPerClient, d.integer(0, 10_000_000)),
	}, nil)
}

func (d *decoder) log(b *hcl.Block) {
	l := &d.config.Log
	d.body(b.Body, lines{
		"level":  set(d, &l.Level, d.oneOf("level", "debug", "info", "warn", "error")),
		"format": set(d, &l.Format, d.oneOf("format", "auto", "text", "json")),
		"access": set(d, &l.Access, d.truth),
	}, nil)
}

func (d *decoder) memory(b *hcl.Block) {
	m := &d.config.Memory
	d.body(b.Body, lines{
		"size":         set(d, &m.Size, d.size(1*mib, 1<<50)),
		"max_object":   set(d, &m.MaxObject, d.size(1*kib, mostBytes)),
		"max_variants": set(d, &m.MaxVariants, d.integer(1, 10_000)),
	}, nil)
}

func (d *decoder) fill(b *hcl.Block) {
	f := &d.config.Fill
	d.body(b.Body, lines{
		"budget": set(d, &f.Budget, d.size(1*mib, 1<<50)),
		"window": set(d, &f.Window, d.size(64*kib, 1<<30)),
		"wait":   set(d, &f.Wait, d.duration(shortest, longest)),
		"stall":  set(d, &f.Stall, d.duration(shortest, longest)),
	}, nil)
}

func (d *decoder) refresh(b *hcl.Block) {
	r := &d.config.Refresh
	d.body(b.Body, lines{
		"workers":  set(d, &r.Workers, d.integer(1, 10_000)),
		"queue":    set(d, &r.Queue, d.integer(1, 1_000_000)),
		"attempts": set(d, &r.Attempts, d.integer(1, 100)),
		"backoff":  set(d, &r.Backoff, d.duration(shortest, longest)),
	}, nil)
}

// originBlock is an origin as read.
type originBlock struct {
	origin Origin
	at     hcl.Range // of its name
	used   bool      // some route goes to it
}

func (d *decoder) originBlock(b *hcl.Block) {
	block := &originBlock{origin: d.origin, at: b.LabelRanges[0]}
	d.origins = append(d.origins, block)
	o := &block.origin
	o.Name = b.Labels[0]
	d.body(b.Body, lines{
		"url":              set(d, &o.URL, d.checked("Invalid origin", checkOriginURL)),
		"host":             set(d, &o.Host, d.checked("Invalid host", checkHostHeader)),
		"connect_timeout":  set(d, &o.ConnectTimeout, d.duration(shortest, longest)),
		"first_byte":       set(d, &o.FirstByte, d.duration(shortest, longest)),
		"between_bytes":    set(d, &o.BetweenBytes, d.duration(shortest, longest)),
		"idle_timeout":     set(d, &o.IdleTimeout, d.duration(shortest, longest)),
		"max_connections":  set(d, &o.MaxConnections, d.integer(0, 1_000_000)),
		"max_header_bytes": set(d, &o.MaxHeaderBytes, d.size(1*kib, 16*mib)),
	}, nil)
	d.required(b, "url")
}

// required reports the arguments that a block lacks.
func (d *decoder) required(b *hcl.Block, names ...string) {
	schema := &hcl.BodySchema{}
	for _, name := range names {
		schema.Attributes = append(schema.Attributes, hcl.AttributeSchema{Name: name})
	}
	content, _, _ := b.Body.PartialContent(schema) // finds attributes that d.body has read without fault
	for _, name := range names {
		if content.Attributes[name] == nil {
			what := b.Type
			if len(b.Labels) > 0 {
				what = fmt.Sprintf("%s %q", b.Type, b.Labels[0])
			}
			d.fault(&b.DefRange, "Missing argument", "The %s needs an argument %q.", what, name)
		}
	}
}
