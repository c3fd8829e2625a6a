package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"edge/integration/bench/process"
)

// Lab is what all peers share: scratch space and the origin.
type Lab struct {
	Dir    string // in memory, so that no peer waits for a disk
	Origin string // host:port

	fetched atomic.Int64 // requests that the origin has answered
	server  http.Server
	serving sync.WaitGroup
	failure error // of the origin, valid once serving is done
}

func openLab(ctx context.Context) (*Lab, error) {
	lab := &Lab{}
	var err error
	if lab.Dir, err = os.MkdirTemp(process.MemoryDir(), "edge-bench-"); err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(lab.Dir))
	}
	lab.Origin = listener.Addr().String()
	lab.server.Handler = http.HandlerFunc(lab.serve)
	lab.server.ReadHeaderTimeout = 10 * time.Second
	lab.serving.Go(func() {
		if err := lab.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			lab.failure = fmt.Errorf("origin: %w", err)
		}
	})
	return lab, nil
}

func (l *Lab) close() error {
	err := l.server.Close()
	l.serving.Wait()
	return errors.Join(err, l.failure, os.RemoveAll(l.Dir))
}

// serve answers /SIZE/KEY with that many bytes, fresh for a day.
func (l *Lab) serve(w http.ResponseWriter, r *http.Request) {
	l.fetched.Add(1)
	size, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	n, err := strconv.Atoi(size)
	if err != nil || n < 0 || n > 1<<26 {
		http.Error(w, "the path is /SIZE/KEY", http.StatusNotFound)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/plain")
	header.Set("Content-Length", strconv.Itoa(n))
	header.Set("Cache-Control", "public, max-age=86400")
	header.Set("ETag", `"`+size+`"`)
	w.Write(make([]byte, n)) // a peer that hangs up is seen by whoever asked it
}
