package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Origin answers /N with the version of object N, fresh for a day, under the keys
// "object-N" and "all". Objects past the versions it was given stay at version 0.
type Origin struct {
	Address  string
	versions []atomic.Int64

	fetched     atomic.Int64 // requests answered
	conditional atomic.Int64 // of those, to revalidate

	server  http.Server
	serving sync.WaitGroup
	failure error // valid once serving is done
}

// objectSize is that of every body.
const objectSize = 128

func startOrigin(ctx context.Context, versions int) (*Origin, error) {
	o := &Origin{versions: make([]atomic.Int64, versions)}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	o.Address = listener.Addr().String()
	o.server.Handler = o
	o.server.ReadHeaderTimeout = patience
	o.serving.Go(func() {
		if err := o.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			o.failure = fmt.Errorf("origin: %w", err)
		}
	})
	return o, nil
}

func (o *Origin) close() error {
	err := o.server.Close()
	o.serving.Wait()
	return errors.Join(err, o.failure)
}

// ServeHTTP implements http.Handler.
func (o *Origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	object, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
	if err != nil || object < 0 {
		http.NotFound(w, r)
		return
	}
	o.fetched.Add(1)
	version := int64(0)
	if object < len(o.versions) {
		version = o.versions[object].Load()
	}
	tag := fmt.Sprintf("%q", fmt.Sprintf("%d-%d", object, version))
	header := w.Header()
	header["Date"] = nil // the clock of one machine needs no telling
	header.Set("Cache-Control", "public, max-age=86400")
	header.Set("Surrogate-Key", fmt.Sprintf("object-%d all", object))
	header.Set("Etag", tag)
	if match := r.Header.Get("If-None-Match"); match != "" {
		o.conditional.Add(1)
		if match == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	header.Set("Content-Type", "text/plain")
	header.Set("Content-Length", strconv.Itoa(objectSize))
	w.Write(bodyOf(version)) // whoever hangs up sees it
}

// bodyOf is a body that tells its version.
func bodyOf(version int64) []byte {
	text := append(strconv.AppendInt(nil, version, 10), '\n')
	return append(text, bytes.Repeat([]byte{'.'}, objectSize-len(text))...)
}

// versionOf reads it back; false for anything but a whole body.
func versionOf(body []byte) (int64, bool) {
	text, _, ok := bytes.Cut(body, []byte("\n"))
	version, err := strconv.ParseInt(string(text), 10, 64)
	return version, ok && err == nil && len(body) == objectSize
}

// perSecond is a number of things over a time.
func perSecond(n int64, over time.Duration) float64 { return float64(n) / over.Seconds() }
