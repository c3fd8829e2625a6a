package proxy

import (
	"net/http"
	"sync"
	"time"

	"edge/proxy/rfc9111"
)

// Record is what one request came to. The request path fills it in; whoever
// observes requests reads it when they have ended.
type Record struct {
	Outcome Outcome
	Reason  rfc9111.Reason // why it ended so; "" where the outcome says it all
	Site    string         // name in the configuration; "" when none was found
	Route   string

	Status    int           // sent to the client; zero when nothing was
	Bytes     int64         // of body written to the client
	Started   time.Time     // when the request reached us
	FirstByte time.Duration // from Started to the response head; zero when none was written
	Total     time.Duration // from Started to the end

	Origin       time.Duration // waited for the origin's head; zero when it was not asked
	OriginStatus int           // zero when the origin was not asked, or did not answer
	Collapsed    bool          // answered from a fetch that another request had started
	Stored       bool          // this request's fetch is being stored
	Err          error         // for the log only, never for a client

	// Who asked for what, as the client wrote it. For the log, and not to be kept.
	Client, Method, Host, URL, UserAgent string
}

// Observer tells Done of every request that has ended.
type Observer struct {
	// Done is called once for each request, also when it was aborted by a panic. The
	// record must not be kept: it is used again for other requests.
	Done func(*Record)

	pool sync.Pool
}

// Observe wraps next, so that Done is told of all its requests.
func (o *Observer) Observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ob, _ := o.pool.Get().(*observed)
		if ob == nil {
			ob = new(observed)
		}
		*ob = observed{ResponseWriter: w, old: !r.ProtoAtLeast(1, 1), record: Record{Started: time.Now()}}
		agent := r.UserAgent() // before a rule of the route can write another
		defer func() {
			rec := &ob.record
			rec.Total = time.Since(rec.Started)
			rec.Client, rec.Method, rec.Host, rec.URL, rec.UserAgent = r.RemoteAddr, r.Method, r.Host, r.RequestURI, agent
			o.Done(rec)
			*ob = observed{}
			o.pool.Put(ob)
		}()
		next.ServeHTTP(ob, r)
	})
}

// recordOf returns the record that belongs to w, or one that nobody reads.
func recordOf(w http.ResponseWriter) *Record {
	if o, ok := w.(interface{ Record() *Record }); ok {
		return o.Record()
	}
	return &Record{Started: time.Now()}
}

// observed is an http.ResponseWriter that notes what passes.
type observed struct {
	http.ResponseWriter
	old    bool // the client speaks HTTP/1.0
	record Record
}

// Record returns what is noted about the request under way.
func (o *observed) Record() *Record { return &o.record }

// Unwrap lets http.ResponseController reach flushing, hijacking and deadlines.
func (o *observed) Unwrap() http.ResponseWriter { return o.ResponseWriter }

// WriteHeader notes the final status; informational ones only pass through, and not to
// a client of before there were any (RFC 9110 section 15.2).
func (o *observed) WriteHeader(status int) {
	switch {
	case status >= 200 || status == http.StatusSwitchingProtocols:
		o.note(status)
	case o.old:
		return
	}
	o.ResponseWriter.WriteHeader(status)
}

func (o *observed) Write(p []byte) (int, error) {
	if o.record.Status == 0 {
		o.note(http.StatusOK)
	}
	n, err := o.ResponseWriter.Write(p)
	o.record.Bytes += int64(n)
	return n, err
}

func (o *observed) note(status int) {
	if o.record.Status == 0 {
		o.record.Status = status
		o.record.FirstByte = time.Since(o.record.Started)
	}
}
