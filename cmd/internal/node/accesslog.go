package node

import (
	"context"
	"log/slog"
	"net"
	"time"

	"edge/proxy"
)

// accessLog returns what writes one line for each request that has ended. The
// handler of log escapes what clients put into it.
func accessLog(log *slog.Logger) func(*proxy.Record) {
	return func(rec *proxy.Record) {
		ctx := context.Background()
		if !log.Enabled(ctx, slog.LevelInfo) {
			return
		}
		client, _, err := net.SplitHostPort(rec.Client)
		if err != nil {
			client = rec.Client // not of the form that a TCP listener gives
		}
		attrs := append(make([]slog.Attr, 0, 20),
			slog.String("client", client),
			slog.String("method", rec.Method),
			slog.String("host", rec.Host),
			slog.String("url", rec.URL), // as the client wrote it
			slog.Int("status", rec.Status),
			slog.String("outcome", rec.Outcome.String()),
			slog.String("reason", string(rec.Reason)),
			slog.String("site", rec.Site),
			slog.String("route", rec.Route),
			slog.Int64("bytes", rec.Bytes),
			slog.Float64("total_ms", milliseconds(rec.Total)),
			slog.Float64("ttfb_ms", milliseconds(rec.FirstByte)),
			slog.Float64("origin_ms", milliseconds(rec.Origin)),
			slog.Int("origin_status", rec.OriginStatus),
			slog.Bool("collapsed", rec.Collapsed),
			slog.Bool("stored", rec.Stored),
			slog.String("user_agent", rec.UserAgent),
		)
		if rec.Err != nil {
			attrs = append(attrs, slog.String("error", rec.Err.Error()))
		}
		log.LogAttrs(ctx, slog.LevelInfo, "request", attrs...)
	}
}

// milliseconds rounds to the microsecond, which is what a reader can use.
func milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}
