package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"edge/purge"
)

// fleet answers every purge alike, and remembers what was asked.
type fleet struct {
	receipt purge.Receipt
	err     error
	records []purge.Record
}

func (f *fleet) Record(_ context.Context, records []purge.Record) (purge.Receipt, error) {
	f.records = records
	return f.receipt, f.err
}

func (f *fleet) Follow(context.Context, string) (purge.Receipt, error) { return f.receipt, f.err }

// serveFleet serves the purge interface to those with the token.
func serveFleet(t *testing.T, f *fleet, token string) (url string) {
	t.Helper()
	handler := &purge.Handler{Recorder: f, Sites: []string{"shop"}, Locate: func(url string) (purge.Place, error) {
		rest, ok := strings.CutPrefix(url, "http://shop.example")
		if !ok {
			return purge.Place{}, errors.New("no site answers for its host")
		}
		path, _, _ := strings.Cut(rest, "?")
		return purge.Place{Site: "shop", Authority: "shop.example", Path: path, Targets: []string{rest}}, nil
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token != "" && r.Header.Get("Authorization") != "Bearer "+token {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"status":401,"title":"Unauthorized","detail":"There is no such token."}`)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// edgePurge runs the command.
func edgePurge(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = execute(t.Context(), append([]string{"purge"}, args...), &out, &errs)
	return out.String(), errs.String(), code
}

func TestPurgeCommand(t *testing.T) {
	all := purge.Receipt{ID: "1-7", Complete: true, Nodes: []purge.NodeProgress{{ID: "a", Applied: true, Latency: 0.1234}, {ID: "node-b", Applied: true}}}
	part := purge.Receipt{ID: "1-7", Soft: true, Note: "the fence is off", Nodes: []purge.NodeProgress{{ID: "a", Applied: true}, {ID: "b"}, {ID: "c", State: "lost"}}}
	t.Setenv("EDGE_TOKEN", "0123456789abcdef")
	for _, c := range []struct {
		name    string
		args    []string
		receipt purge.Receipt
		code    int
		stdout  string
		stderr  string
	}{
		{"complete", []string{"--key", "k", "--wait", "cluster"}, all, 0, "purge 1-7: complete\n  a       applied after 0.123 ms\n  node-b  applied\n", ""},
		{"this node alone is waited for", []string{"--key", "k"}, part, 0, "soft purge 1-7: not complete\n  a  applied\n  b  not yet\n  c  lost\nnote: the fence is off\n", ""},
		{"incomplete", []string{"--key", "k", "-w", "cluster", "-t", "5ms"}, part, exitIncomplete, "soft purge 1-7: not complete\n  a  applied\n  b  not yet\n  c  lost\nnote: the fence is off\n",
			"edge: the purge is recorded, but not every node has applied it yet\n"},
	} {
		stdout, stderr, code := edgePurge(t, append(c.args, "--admin", serveFleet(t, &fleet{receipt: c.receipt}, "0123456789abcdef"))...)
		if stdout != c.stdout || stderr != c.stderr || code != c.code {
			t.Errorf("%s: exit %d, printed %q, %q", c.name, code, stdout, stderr)
		}
		stdout, _, code = edgePurge(t, append(c.args, "--json", "--admin", serveFleet(t, &fleet{receipt: c.receipt}, ""))...)
		var got purge.Receipt
		if err := json.Unmarshal([]byte(stdout), &got); err != nil || !reflect.DeepEqual(got, c.receipt) || code != c.code {
			t.Errorf("%s: exit %d, %v in %s", c.name, code, err, stdout)
		}
	}
}

// TestPurgeFlags: every flag reaches the node.
func TestPurgeFlags(t *testing.T) {
	f := &fleet{receipt: purge.Receipt{ID: "1-1", Complete: true}}
	url := serveFleet(t, f, "")
	var got []string
	for _, args := range [][]string{
		{"--key", "a", "-k", "b,c d", "--admin", url},
		{"--key", "a", "-k", "b", "--site", "shop", "--soft"},
		{"--url", "http://shop.example/a,b?x", "-u", "http://shop.example/c", "--prefix", "http://shop.example/p", "-p", "http://shop.example/q", "--host", "shop.example", "--all"},
		{"--url", "http://shop.example/a?x", "--ignore-query"},
	} {
		f.records = nil
		_, _, code := edgePurge(t, append(args, "--admin", url)...)
		line := fmt.Sprint("exit ", code, ":")
		for _, r := range f.records {
			line += fmt.Sprintf(" %s %s%s soft=%v;", r.Selector.Kind, r.Selector.Site, r.Selector.Value, r.Soft)
		}
		got = append(got, line)
	}
	want := []string{
		"exit 1:",
		"exit 0: surrogate key shopa soft=true; surrogate key shopb soft=true;",
		"exit 0: url shop/a,b?x soft=false; url shop/c soft=false; prefix shop/p soft=false; prefix shop/q soft=false; host shop soft=false; everything  soft=false;",
		"exit 0: url, any query shop/a soft=false;",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestPurgeCommandFails(t *testing.T) {
	t.Setenv("EDGE_TEST_TOKEN", "a-secret-that-is-wrong")
	for _, c := range []struct {
		name   string
		args   []string
		stderr []string
	}{
		{"nobody there", []string{"--all", "--admin", "http://127.0.0.1:1"}, []string{"ask the node", "--admin"}},
		{"no token", []string{"--all", "--admin", serveFleet(t, &fleet{}, "0123456789abcdef")}, []string{"no such token", "EDGE_TOKEN"}},
		{"a wrong token", []string{"--all", "--token-env", "EDGE_TEST_TOKEN", "--admin", serveFleet(t, &fleet{}, "0123456789abcdef")}, []string{"no such token", "--token-env"}},
		{"a bad URL", []string{"--url", "/a", "--admin", serveFleet(t, &fleet{}, "")}, []string{"urls[0]: This cannot be purged"}},
		{"not recorded", []string{"--all", "--admin", serveFleet(t, &fleet{err: purge.ErrNotRecorded}, "")}, []string{"safe to repeat"}},
	} {
		stdout, stderr, code := edgePurge(t, c.args...)
		if code != exitFailed || stdout != "" || strings.Contains(stderr, "a-secret-that-is-wrong") {
			t.Errorf("%s: exit %d, printed %q, %q", c.name, code, stdout, stderr)
		}
		for _, text := range c.stderr {
			if !strings.Contains(stderr, text) {
				t.Errorf("%s: no %q in %q", c.name, text, stderr)
			}
		}
	}
}
