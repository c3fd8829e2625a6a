package proxy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// FailedRefresh is a background refresh that was given up. What it was to renew
// is still served for as long as its windows allow.
type FailedRefresh struct {
	URL      string    `json:"url"`
	Site     string    `json:"site"`
	Route    string    `json:"route"`
	Attempts int       `json:"attempts"`
	Error    string    `json:"error"`
	At       time.Time `json:"at"`
}

// maxFailedRefreshes bounds the list that operators see.
const maxFailedRefreshes = 256

// refreshQueue holds the stale-while-revalidate refreshes that wait: one for each
// flight, no more than the queue has room for.
type refreshQueue struct {
	jobs chan *refreshJob

	mu      sync.Mutex
	pending map[string]struct{} // flights waiting, running, or put off
	failed  []FailedRefresh     // newest last
}

// refreshJob is one refresh: the request that found its answer stale, to be made
// again without a client.
type refreshJob struct {
	h       *Handler
	request *http.Request
	flight  string
	attempt int
}

func (q *refreshQueue) open(size int) {
	q.jobs = make(chan *refreshJob, size)
	q.pending = make(map[string]struct{})
}

func (q *refreshQueue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.pending)
}

// claim reserves the flight for one refresh. Those that run or are put off count
// against the room as well as those that wait.
func (q *refreshQueue) claim(flight string, dropped *atomic.Int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, taken := q.pending[flight]; taken {
		return false
	}
	if len(q.pending) >= cap(q.jobs) {
		dropped.Add(1)
		return false
	}
	q.pending[flight] = struct{}{}
	return true
}

func (q *refreshQueue) release(flight string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.pending, flight)
}

// FailedRefreshes returns the refreshes lately given up, oldest first.
func (c *Cache) FailedRefreshes() []FailedRefresh {
	c.refresh.mu.Lock()
	defer c.refresh.mu.Unlock()
	return slices.Clone(c.refresh.failed)
}

// enqueueRefresh has the exchange's answer fetched anew in the background, unless
// that is already so or the queue is full.
func (c *Cache) enqueueRefresh(x *exchange) {
	x.varyOn = x.stored.VaryOn()
	job := &refreshJob{h: x.h, flight: x.flightKey()}
	if !c.refresh.claim(job.flight, &c.counts.refreshDropped) {
		return
	}
	job.request = x.r.Clone(context.WithoutCancel(x.r.Context()))
	job.request.Body, job.request.Method = http.NoBody, http.MethodGet
	for _, name := range append(conditionals, "Cache-Control", "Pragma") {
		delete(job.request.Header, name)
	}
	c.offer(job)
}

func (c *Cache) offer(job *refreshJob) {
	select {
	case c.refresh.jobs <- job:
	default:
		c.counts.refreshDropped.Add(1)
		c.refresh.release(job.flight)
	}
}

// refreshWorker runs refreshes until the cache closes.
func (c *Cache) refreshWorker() {
	for {
		select {
		case job := <-c.refresh.jobs:
			c.runRefresh(job)
		case <-c.ctx.Done():
			return
		}
	}
}

// runRefresh makes one try, by the same path that a client's request takes.
func (c *Cache) runRefresh(job *refreshJob) {
	err := job.run(c.ctx)
	job.attempt++
	switch {
	case err == nil:
		c.counts.refreshed.Add(1)
		c.refresh.release(job.flight)
	case c.ctx.Err() != nil:
		c.refresh.release(job.flight)
	case job.attempt >= c.RefreshAttempts:
		c.giveUp(job, err)
	default:
		c.counts.refreshRetried.Add(1)
		c.start(func() { c.putOff(job) })
	}
}

// putOff waits before the next try: doubled each time, and jittered, so that what
// failed together does not come back together.
func (c *Cache) putOff(job *refreshJob) {
	wait := c.RefreshBackoff << min(job.attempt-1, 10)
	timer := time.NewTimer(wait/2 + rand.N(wait))
	defer timer.Stop()
	select {
	case <-timer.C:
		c.offer(job)
	case <-c.ctx.Done():
	}
}

func (c *Cache) giveUp(job *refreshJob, err error) {
	c.counts.refreshFailed.Add(1)
	failed := FailedRefresh{URL: schemeOf(job.request) + "://" + job.request.Host + job.request.URL.RequestURI(), Site: job.h.Site,
		Route: job.h.Route, Attempts: job.attempt, Error: err.Error(), At: time.Now()}
	c.Log.Warn("a refresh was given up", "url", failed.URL, "attempts", failed.Attempts, "error", err)
	q := &c.refresh
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.pending, job.flight)
	if len(q.failed) == maxFailedRefreshes {
		q.failed = slices.Delete(q.failed, 0, 1)
	}
	q.failed = append(q.failed, failed)
}

// run sends the request through the handler's own path to the origin, with nobody
// reading.
func (job *refreshJob) run(ctx context.Context) (err error) {
	w := &nobody{make(http.Header)}
	x := &exchange{search: search{h: job.h, now: time.Now()}, w: w, r: job.request.Clone(ctx), rec: &Record{Started: time.Now()}, background: true}
	defer func() {
		if problem := recover(); problem != nil {
			err = fmt.Errorf("proxy: the refresh broke off: %v", problem)
		}
	}()
	x.identify()
	x.consult()
	if found := x.find(x.get, x.variant); found.Entry != nil && x.alive(found) {
		x.stored = found.Entry
		if x.judge(found.Entry) == Hit {
			return nil // somebody else has renewed it
		}
	}
	x.forward()
	switch {
	case x.rec.Err != nil:
		return x.rec.Err
	case x.failure:
		return fmt.Errorf("proxy: the origin answered %d", x.rec.OriginStatus)
	case x.place != nil:
		return x.place.fill.failure()
	default:
		return nil
	}
}

// nobody is a ResponseWriter that takes everything and keeps nothing.
type nobody struct{ header http.Header }

func (n *nobody) Header() http.Header         { return n.header }
func (n *nobody) Write(p []byte) (int, error) { return len(p), nil }
func (n *nobody) WriteHeader(int)             {}
func (n *nobody) Flush()                      {}
