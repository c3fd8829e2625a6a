package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// profiled loads a build of edge once more while the node profiles itself, which
// costs it time: no figure is taken meanwhile.
func profiled(ctx context.Context, b *Bench, work string, runner Runner, load func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", runner.Admin, int(b.duration.Seconds()))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune(" ,/", r) {
			return '-'
		}
		return r
	}, runner.Name+"-"+work)
	taken := make(chan error, 1)
	go func() { taken <- save(req, filepath.Join(b.profiles, name+".pprof")) }() // is waited for below
	err = load()
	if err != nil {
		cancel()
	}
	return errors.Join(err, <-taken)
}

// save writes the answer to a request into a file.
func save(req *http.Request, file string) error {
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %d: %.200q", req.URL, resp.StatusCode, body)
	}
	return os.WriteFile(file, body, 0o644)
}
