package node

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"edge/proxy"
	"edge/proxy/upstream"
	"edge/ratelimit"
)

// metricsHandler serves the node's counters to Prometheus, from a registry of its
// own. Labels are names from the configuration and outcomes, never anything that a
// client can choose.
func (n *Node) metricsHandler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&exporter{n},
	)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry})
}

// exporter hands the counters that the node keeps anyway to Prometheus when it
// asks: requests pay for one set of counters only.
type exporter struct{ node *Node }

var (
	requestsDesc = prometheus.NewDesc("edge_requests_total",
		"Requests on the public listeners, by site and outcome.", []string{"site", "outcome"}, nil)
	bytesDesc = prometheus.NewDesc("edge_response_body_bytes_total",
		"Bytes of response bodies written to clients.", []string{"site"}, nil)
	durationDesc = prometheus.NewDesc("edge_request_duration_seconds",
		"Time from a request's head to the end of its response.", []string{"site"}, nil)
	originWaitDesc = prometheus.NewDesc("edge_origin_wait_seconds",
		"Time that requests waited for the origin's response head.", []string{"site"}, nil)
	refusedDesc = prometheus.NewDesc("edge_door_refused_total",
		"Requests and connections refused for what they are, by reason.", []string{"reason"}, nil)
)

// Describe and Collect implement prometheus.Collector.
func (e *exporter) Describe(ch chan<- *prometheus.Desc) {
	ch <- requestsDesc
	ch <- bytesDesc
	ch <- durationDesc
	ch <- originWaitDesc
	ch <- refusedDesc
	for i := range nodeFigures {
		ch <- nodeFigures[i].desc
	}
	for i := range fleetFigures {
		ch <- fleetFigures[i].desc
	}
	for i := range originFigures {
		ch <- originFigures[i].desc
	}
	for i := range limitFigures {
		ch <- limitFigures[i].desc
	}
}

func (e *exporter) Collect(ch chan<- prometheus.Metric) {
	e.node.tally.each(func(site string, s *siteTally) {
		for _, o := range proxy.Outcomes() {
			ch <- prometheus.MustNewConstMetric(requestsDesc, prometheus.CounterValue,
				float64(s.outcomes[o].Load()), site, o.String())
		}
		ch <- prometheus.MustNewConstMetric(bytesDesc, prometheus.CounterValue, float64(s.bytes.Load()), site)
		ch <- s.total.metric(durationDesc, site)
		ch <- s.origin.metric(originWaitDesc, site)
	})
	stats := e.node.Stats()
	for reason, count := range stats.Door.Refused {
		ch <- prometheus.MustNewConstMetric(refusedDesc, prometheus.CounterValue, float64(count), reason)
	}
	for _, f := range nodeFigures {
		ch <- prometheus.MustNewConstMetric(f.desc, f.kind, f.value(&stats))
	}
	if stats.Fleet != nil {
		for _, f := range fleetFigures {
			ch <- prometheus.MustNewConstMetric(f.desc, f.kind, f.value(stats.Fleet))
		}
	}
	for i := range stats.Limits {
		for _, f := range limitFigures {
			ch <- prometheus.MustNewConstMetric(f.desc, f.kind, f.value(&stats.Limits[i]), stats.Limits[i].Policy)
		}
	}
	for _, o := range e.node.origins {
		stats := stats.Origins[o.name]
		for _, f := range originFigures {
			ch <- prometheus.MustNewConstMetric(f.desc, f.kind, f.value(&stats), o.name)
		}
	}
}

// metric returns the histogram as Prometheus wants it, its buckets cumulated.
func (h *histogram) metric(desc *prometheus.Desc, labels ...string) prometheus.Metric {
	buckets := make(map[float64]uint64, len(bounds))
	count := uint64(0)
	for i := range h.buckets {
		count += uint64(h.buckets[i].Load())
		if i < len(bounds) {
			buckets[bounds[i].Seconds()] = count
		}
	}
	return prometheus.MustNewConstHistogram(desc, count, float64(h.sum.Load())/1e9, buckets, labels...)
}

// figure is one number out of a struct of statistics.
type figure[S any] struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*S) float64
}

func counter[S any, T number](name, help string, value func(*S) T, labels ...string) figure[S] {
	return figure[S]{prometheus.NewDesc("edge_"+name, help, labels, nil), prometheus.CounterValue,
		func(s *S) float64 { return float64(value(s)) }}
}

func gauge[S any, T number](name, help string, value func(*S) T, labels ...string) figure[S] {
	return figure[S]{prometheus.NewDesc("edge_"+name, help, labels, nil), prometheus.GaugeValue,
		func(s *S) float64 { return float64(value(s)) }}
}

type number interface {
	~int | ~int64 | ~uint64 | ~float64
}

// nodeFigures are what the node's parts count, each with its sentence.
var nodeFigures = []figure[Stats]{
	gauge("requests_active", "Requests under way, tunnels included.", func(s *Stats) int64 { return s.Requests.Active }),
	gauge("connections_open", "Connections of clients, idle ones included.", func(s *Stats) int64 { return s.Requests.Connections }),

	gauge("flights", "Fetches under way that may be joined.", func(s *Stats) int { return s.Cache.FlightsNow }),
	gauge("fill_bytes", "Bytes held by fetches under way.", func(s *Stats) int64 { return s.Cache.FillBytesNow }),
	gauge("marks", "Keys remembered as not shareable.", func(s *Stats) int { return s.Cache.MarksNow }),
	gauge("refreshes_pending", "Background refreshes waiting or running.", func(s *Stats) int { return s.Cache.RefreshesNow }),
	counter("stored_total", "Responses handed to the store.", func(s *Stats) int64 { return s.Cache.Stored }),
	counter("shrunk_total", "Empty answers that did not take the place of a large body.", func(s *Stats) int64 { return s.Cache.Shrunk }),
	counter("store_refused_total", "Responses that the store did not take.", func(s *Stats) int64 { return s.Cache.StoreRefused }),
	counter("fills_failed_total", "Fetches that broke off or were never answered.", func(s *Stats) int64 { return s.Cache.FillsFailed }),
	counter("fill_windows_total", "Bodies that outgrew what is kept.", func(s *Stats) int64 { return s.Cache.Windows }),
	counter("dead_entries_total", "Entries found purged when they were met.", func(s *Stats) int64 { return s.Cache.DeadEntries }),
	counter("invalidations_total", "URLs invalidated by unsafe methods.", func(s *Stats) int64 { return s.Cache.Invalidated }),
	counter("refreshes_total", "Background refreshes that succeeded.", func(s *Stats) int64 { return s.Cache.Refreshed }),
	counter("refresh_retries_total", "Tries of a refresh that failed and were put off.", func(s *Stats) int64 { return s.Cache.RefreshRetried }),
	counter("refreshes_failed_total", "Background refreshes given up.", func(s *Stats) int64 { return s.Cache.RefreshFailed }),
	counter("refreshes_dropped_total", "Background refreshes for which the queue had no room.", func(s *Stats) int64 { return s.Cache.RefreshDropped }),

	gauge("store_entries", "Entries stored.", func(s *Stats) int64 { return s.Store.Entries }),
	gauge("store_bytes", "Memory that the stored entries take.", func(s *Stats) int64 { return s.Store.Bytes }),
	gauge("store_capacity_bytes", "What store_bytes can reach.", func(s *Stats) int64 { return s.Store.Capacity }),
	gauge("store_pending", "Writes on their way into the store.", func(s *Stats) int64 { return s.Store.Pending }),
	counter("store_admitted_total", "Entries that the store took.", func(s *Stats) int64 { return s.Store.Admitted }),
	counter("store_rejected_total", "Entries that were worth less than what they would have displaced.", func(s *Stats) int64 { return s.Store.Rejected }),
	counter("store_evicted_total", "Entries that made room for others.", func(s *Stats) int64 { return s.Store.Evicted }),
	counter("store_expired_total", "Entries dropped because they were of no more use.", func(s *Stats) int64 { return s.Store.Expired }),
	counter("store_too_large_total", "Entries refused for their size.", func(s *Stats) int64 { return s.Store.TooLarge }),
	counter("store_variants_refused_total", "Entries refused because their key had enough variants.", func(s *Stats) int64 { return s.Store.VariantsRefused }),

	gauge("purge_sequence", "Latest purge applied.", func(s *Stats) uint64 { return s.Purge.Sequence }),
	gauge("purge_selectors", "Purge selectors remembered.", func(s *Stats) int { return s.Purge.Selectors }),
	counter("purges_total", "Purge records applied, invalidations by unsafe requests included.", func(s *Stats) uint64 { return s.Purge.Appended }),
	counter("purges_folded_total", "Purge selectors given up for a coarser one.", func(s *Stats) uint64 { return s.Purge.Folded }),
	counter("purge_calls_total", "Calls of the purge interface that were recorded.", func(s *Stats) int64 { return s.PurgeCalls.Purges }),
	counter("purge_calls_incomplete_total", "Calls answered before every node that was waited for had applied the purge.", func(s *Stats) int64 { return s.PurgeCalls.Incomplete }),
	counter("purge_calls_not_recorded_total", "Calls applied on this node alone, for want of the fleet's log.", func(s *Stats) int64 { return s.PurgeCalls.NotRecorded }),
	counter("purge_calls_refused_total", "Calls of the purge interface not understood, or not allowed.", func(s *Stats) int64 { return s.PurgeCalls.Refused }),
}

// fleetFigures are what a node counts that has others beside it.
var fleetFigures = []figure[FleetStats]{
	gauge("redis_up", "1 while Redis is asked, 0 after it has failed to answer.", func(s *FleetStats) int { return oneIf(s.RedisUp) }),
	gauge("redis_clock_skew_seconds", "By how much the clock of Redis is ahead.", func(s *FleetStats) float64 { return s.Skew }),
	counter("redis_commands_total", "Commands sent to Redis.", func(s *FleetStats) uint64 { return s.Commands }),

	gauge("purge_log_ready", "1 while the log of purges is followed, and holds all that this node knows.", func(s *FleetStats) int { return oneIf(s.Log.ReadyNow) }),
	gauge("purge_log_fenced", "1 while all that is stored is suspect, for want of news.", func(s *FleetStats) int { return oneIf(s.Log.FencedNow) }),
	gauge("purge_log_lag_seconds", "Time since the log of purges was last read.", func(s *FleetStats) float64 { return s.Log.SilentNow }),
	gauge("purge_log_position", "Latest record of the log applied.", func(s *FleetStats) uint64 { return s.Log.PositionNow }),
	gauge("purge_log_waiting", "Purges on their way to the log.", func(s *FleetStats) int { return s.Log.WaitingNow }),
	counter("purge_log_rewritten_total", "Records given back to a log that had lost them.", func(s *FleetStats) uint64 { return s.Log.Rewritten }),
	counter("purge_log_generations_total", "Times that the log became another one.", func(s *FleetStats) uint64 { return s.Log.Generations }),
	counter("purge_log_holes_total", "Times that records of the log were missed.", func(s *FleetStats) uint64 { return s.Log.Holes }),
	counter("purge_log_dropped_total", "Purges applied here alone that there was no room to keep for the log.", func(s *FleetStats) uint64 { return s.Log.Dropped }),
	counter("purge_log_errors_total", "Failed reads and writes of the log.", func(s *FleetStats) uint64 { return s.Log.ReadErrors + s.Log.WriteErrors }),

	counter("shared_hits_total", "Entries found in the shared tier and not in memory.", func(s *FleetStats) int64 { return s.Tiers.Hits }),
	counter("shared_misses_total", "Look-ups in the shared tier that found nothing.", func(s *FleetStats) int64 { return s.Tiers.Misses }),
	counter("shared_suspect_total", "Entries of the shared tier that had to be revalidated first.", func(s *FleetStats) int64 { return s.Tiers.Suspect }),
	counter("shared_overdue_total", "Look-ups in the shared tier that a request has waited for in vain.", func(s *FleetStats) int64 { return s.Tiers.Overdue }),
	counter("shared_skipped_total", "Look-ups there that no request waited for, since answers are overdue.", func(s *FleetStats) int64 { return s.Tiers.Skipped }),
	counter("shared_damaged_total", "Look-ups there that found what is not whole, or not ours.", func(s *FleetStats) int64 { return s.Shared.Damaged + s.Shared.Foreign }),
	counter("shared_written_total", "Entries that the shared tier took.", func(s *FleetStats) int64 { return s.Tiers.Written }),
	counter("shared_failed_total", "Entries that it did not take.", func(s *FleetStats) int64 { return s.Tiers.Failed }),
	counter("shared_dropped_total", "Writes to the shared tier for which the queue had no room.", func(s *FleetStats) int64 { return s.Tiers.Dropped }),
	gauge("shared_waiting", "Writes that wait for the shared tier.", func(s *FleetStats) int64 { return s.Tiers.Waiting }),
}

// limitFigures are what each limit counts.
var limitFigures = []figure[ratelimit.Stats]{
	counter("limit_allowed_total", "Requests that the limit let pass, and that passed.", func(s *ratelimit.Stats) int64 { return s.Allowed }, "limit"),
	counter("limit_refused_total", "Requests that the limit refused.", func(s *ratelimit.Stats) int64 { return s.Refused }, "limit"),
	counter("limit_would_refuse_total", "Requests that the limit would have refused, were it not a dry run.", func(s *ratelimit.Stats) int64 { return s.WouldRefuse }, "limit"),
	counter("limit_store_errors_total", "Requests that Redis could not count.", func(s *ratelimit.Stats) int64 { return s.StoreErrors }, "limit"),
	gauge("limit_fallback", "1 while Redis cannot count for the limit.", func(s *ratelimit.Stats) int { return oneIf(s.FallbackNow) }, "limit"),
}

func oneIf(is bool) int {
	if is {
		return 1
	}
	return 0
}

// originFigures are what each origin's pool counts.
var originFigures = []figure[upstream.Stats]{
	gauge("origin_requests_active", "Exchanges with the origin under way, bodies included.", func(s *upstream.Stats) int64 { return s.Active }, "origin"),
	counter("origin_requests_total", "Exchanges begun with the origin.", func(s *upstream.Stats) int64 { return s.Requests }, "origin"),
	counter("origin_dials_total", "Connections attempted to the origin.", func(s *upstream.Stats) int64 { return s.Dials }, "origin"),
	counter("origin_reused_total", "Requests sent on a connection used before.", func(s *upstream.Stats) int64 { return s.Reused }, "origin"),
	counter("origin_refused_total", "Exchanges that found nobody listening.", func(s *upstream.Stats) int64 { return s.Refused }, "origin"),
	counter("origin_resets_total", "Exchanges whose connection ended in the middle.", func(s *upstream.Stats) int64 { return s.Reset }, "origin"),
	counter("origin_timeouts_total", "Exchanges that waited too long.", func(s *upstream.Stats) int64 { return s.Timeout }, "origin"),
	counter("origin_tls_errors_total", "Handshakes and certificates that failed.", func(s *upstream.Stats) int64 { return s.TLS }, "origin"),
	counter("origin_protocol_errors_total", "Answers that were no HTTP, or none to the request.", func(s *upstream.Stats) int64 { return s.Protocol }, "origin"),
}
