package node

import (
	"net/http"

	"edge/proxy"
	"edge/proxy/rfc9111"
)

const (
	maxFields     = 100     // fields of a request head
	maxFieldBytes = 4 << 10 // one field, name and value
)

// reasonHeadTooLarge is the reason of a request that was refused for its head.
const reasonHeadTooLarge rfc9111.Reason = "head-too-large"

// limitHead refuses with 431 a request head larger than the smallest that origins
// are known to take. What an origin would refuse for its size must end here:
// otherwise one client's oversized head makes an error of everybody's page.
func limitHead(next http.Handler, maxBytes int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !headFits(r, maxBytes) {
			if rec := recordOf(w); rec != nil {
				rec.Outcome, rec.Reason = proxy.Refused, reasonHeadTooLarge
			}
			w.Header().Set("Connection", "close")
			proxy.Problem(w, http.StatusRequestHeaderFieldsTooLarge, "The request's header fields are too large.")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// headFits counts the head as it was on the wire, a colon, a space and a line end
// for each field.
func headFits(r *http.Request, maxBytes int64) bool {
	total := int64(len(r.Method) + len(r.RequestURI) + len(r.Proto) + len("  \r\n"))
	total += int64(len("Host: \r\n") + len(r.Host))
	fields := 1 // Host, which net/http keeps apart
	for name, values := range r.Header {
		fields += len(values)
		for _, value := range values {
			size := len(name) + len(value)
			if size > maxFieldBytes {
				return false
			}
			total += int64(size + len(": \r\n"))
		}
	}
	return fields <= maxFields && total <= maxBytes
}

// recordOf returns the record under way for w, or nil where none is kept.
func recordOf(w http.ResponseWriter) *proxy.Record {
	if o, ok := w.(interface{ Record() *proxy.Record }); ok {
		return o.Record()
	}
	return nil
}
