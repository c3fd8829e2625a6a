package node

import (
	"context"
	"log/slog"
	"net"
	"net/http"
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

// logAdmin writes one line for each request to the admin listener that has ended: a
// warning when the caller was kept out, else for those who look closely. What was
// purged stands in a line of its own.
func logAdmin(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		answer := &answered{ResponseWriter: w}
		var caller caller
		defer func() { // also for a request that is broken off
			level := slog.LevelDebug
			switch answer.status {
			case http.StatusUnauthorized, http.StatusForbidden, http.StatusMisdirectedRequest:
				level = slog.LevelWarn
			}
			log.LogAttrs(r.Context(), level, "admin request", slog.String("client", r.RemoteAddr), slog.String("token", caller.token),
				slog.String("method", r.Method), slog.String("host", r.Host), slog.String("path", r.URL.Path),
				slog.Int("status", answer.status), slog.Float64("total_ms", milliseconds(time.Since(began))))
		}()
		next.ServeHTTP(answer, r.WithContext(context.WithValue(r.Context(), callerKey{}, &caller)))
	})
}

// caller is who has sent a request to the admin listener, as far as that is found out.
type caller struct{ token string }

// callerKey is where a request's context has the *caller.
type callerKey struct{}

// answered remembers the status of a response.
type answered struct {
	http.ResponseWriter
	status int // 0 before the header was written
}

func (a *answered) WriteHeader(status int) {
	if a.status < 200 { // what came before may have been 1xx
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answered) Write(b []byte) (int, error) {
	if a.status < 200 {
		a.status = http.StatusOK
	}
	return a.ResponseWriter.Write(b)
}

func (a *answered) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// milliseconds rounds to the microsecond, which is what a reader can use.
func milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}
