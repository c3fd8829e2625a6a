package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

const (
	kib = 1 << 10
	mib = 1 << 20
)

// Work is one kind of load: hits on objects of one size.
type Work struct {
	Name        string
	Size        int      // of each object, in bytes
	Keys        int      // objects, asked for in random order
	Connections int      // kept alive
	Headers     []Header // sent beside Host
}

// Header is a request header field.
type Header struct{ Name, Value string }

// works is what is measured, in the order of the report.
var works = []Work{
	{Name: "hit, 1 KiB, minimal head", Size: kib, Keys: 1, Connections: 64},
	{Name: "hit, 1 KiB, ten browser headers", Size: kib, Keys: 1, Connections: 64, Headers: browser},
	{Name: "hit, 100 KiB", Size: 100 * kib, Keys: 1, Connections: 32},
	{Name: "hit, 1 MiB", Size: mib, Keys: 1, Connections: 16},
	{Name: "hits over 20,000 keys of 1 KiB", Size: kib, Keys: 20_000, Connections: 64},
}

// browser is what a current browser sends with a page's sub-resource.
var browser = []Header{
	{"User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"},
	{"Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"},
	{"Accept-Encoding", "gzip, deflate, br, zstd"},
	{"Accept-Language", "en-GB,en;q=0.9,de;q=0.7"},
	{"Referer", "http://127.0.0.1/catalogue/index.html"},
	{"Sec-CH-UA", `"Chromium";v="140", "Not=A?Brand";v="24"`},
	{"Sec-CH-UA-Platform", `"Linux"`},
	{"Sec-Fetch-Dest", "empty"},
	{"Sec-Fetch-Mode", "cors"},
	{"Sec-Fetch-Site", "same-origin"},
}

func (w Work) path(key int) string { return fmt.Sprintf("/%d/%d", w.Size, key) }

// warm asks for each object twice and checks what comes: a peer that answers
// with something else would be fast at the wrong thing.
func warm(ctx context.Context, server *Server, work Work) error {
	const clients = 16
	transport := &http.Transport{MaxIdleConnsPerHost: clients, DisableCompression: true}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(clients, work.Keys) {
		wg.Go(func() {
			for ctx.Err() == nil {
				key := int(next.Add(1)) - 1
				if key >= 2*work.Keys {
					return
				}
				if err := fetch(ctx, transport, "http://"+server.Address+work.path(key%work.Keys), work); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func fetch(ctx context.Context, transport *http.Transport, url string, work Work) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	for _, header := range work.Headers {
		req.Header.Set(header.Name, header.Value)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil {
		return fmt.Errorf("%s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK || n != int64(work.Size) {
		return fmt.Errorf("%s: status %d with %d bytes", url, resp.StatusCode, n)
	}
	return nil
}
