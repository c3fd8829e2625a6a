package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edge/integration/internal/node"
	"edge/integration/internal/origin"
	"edge/integration/internal/pattern"
)

// chaosBody is the body of one key: a title that names key and generation, then
// the pattern from an offset of the key's own. Its length depends on the key, so
// that a body taken from another key or cut short cannot look right.
func chaosBody(key, generation int) []byte {
	title := fmt.Sprintf("key %d generation %d\n", key, generation)
	return append([]byte(title), pattern.Bytes(int64(key)*977, int64(20_000+key*7_001))...)
}

// checkChaosBody says what is wrong with a body that looked complete, or "".
func checkChaosBody(key int, body []byte) string {
	title, _, _ := bytes.Cut(body, []byte("\n"))
	var gotKey, generation int
	if _, err := fmt.Sscanf(string(title), "key %d generation %d", &gotKey, &generation); err != nil {
		return fmt.Sprintf("no title in %d bytes", len(body))
	}
	if gotKey != key {
		return fmt.Sprintf("the body of key %d", gotKey)
	}
	if !bytes.Equal(body, chaosBody(key, generation)) {
		return fmt.Sprintf("%d bytes that are not generation %d whole", len(body), generation)
	}
	return ""
}

// Two hundred clients ask for ten keys, leave when they like and read as slowly as
// they like, before an origin that stalls, truncates and fails. Whatever looks
// complete must be one whole body of its key.
func TestChaosMixesNothing(t *testing.T) {
	t.Parallel()
	const keys, clients = 10, 200
	rounds := 10
	if soaking() {
		rounds = 100
	}
	const seed = 20260731
	t.Logf("seed %d", seed)

	var generation atomic.Int64
	o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
		key, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		g := int(generation.Add(1))
		random := rand.New(rand.NewPCG(seed, uint64(g)))
		body := chaosBody(key, g)
		// Short lifetimes in every form, so that fetches, hits, refreshes and
		// revalidations all happen.
		w.Header().Set("Cache-Control", []string{
			"max-age=1", "max-age=1, stale-while-revalidate=5", "max-age=1, stale-if-error=5", "no-store", "private", "max-age=0",
		}[random.IntN(6)])
		if random.IntN(2) == 0 {
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		}
		cut := len(body)
		if random.IntN(4) == 0 {
			cut = random.IntN(len(body)) // truncated, at times before the first byte
		}
		if random.IntN(8) == 0 {
			w.Header().Del("Content-Length")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		for sent := 0; sent < cut; {
			part := min(cut-sent, 1+random.IntN(8_000))
			if _, err := w.Write(body[sent : sent+part]); err != nil {
				return
			}
			sent += part
			if random.IntN(4) == 0 {
				http.NewResponseController(w).Flush()
				select {
				case <-time.After(time.Duration(random.IntN(10)) * time.Millisecond): // a stall
				case <-r.Context().Done():
					return
				}
			}
		}
		if cut < len(body) {
			panic(http.ErrAbortHandler)
		}
	})
	n := front(t, o)

	var whole, broken, left atomic.Int64
	var all sync.WaitGroup
	for c := range clients {
		random := rand.New(rand.NewPCG(seed, uint64(1<<32+c)))
		all.Go(func() {
			for range rounds {
				key := random.IntN(keys)
				body, status, err := chaosClient(t.Context(), n, key, random)
				switch {
				case err == nil && status == http.StatusOK:
					whole.Add(1)
					if wrong := checkChaosBody(key, body); wrong != "" {
						t.Errorf("client %d asked for key %d and got %s", c, key, wrong)
					}
				case err == errLeft:
					left.Add(1)
				default:
					broken.Add(1)
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d whole, %d broken or refused, %d left; %d fetches", whole.Load(), broken.Load(), left.Load(), o.Count(""))
	if whole.Load() == 0 || broken.Load() == 0 || left.Load() == 0 {
		t.Error("the test is no test: one of its ways never happened")
	}
	n.Settle(t)

	// What is stored now must be whole too.
	for key := range keys {
		a := ask(t, n, "GET", fmt.Sprintf("/%d", key), "", "Cache-Control", "only-if-cached, max-stale")
		if a.Status == http.StatusOK {
			if wrong := checkChaosBody(key, []byte(a.Body)); wrong != "" {
				t.Errorf("key %d is stored as %s", key, wrong)
			}
		}
	}
}

// errLeft tells that the client gave up by its own will.
var errLeft = errors.New("left")

// chaosClient sends one request and reads as it pleases.
func chaosClient(ctx context.Context, n *node.Node, key int, random *rand.Rand) ([]byte, int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	leaves := random.IntN(3) == 0
	if leaves && random.IntN(2) == 0 {
		// At times before there is an answer at all.
		after := time.AfterFunc(time.Duration(random.IntN(20))*time.Millisecond, cancel)
		defer after.Stop()
	}
	r, err := request(n, "GET", fmt.Sprintf("/%d", key), "")
	if err != nil {
		return nil, 0, err
	}
	res, err := n.Client.Do(r.WithContext(ctx))
	if ctx.Err() != nil {
		return nil, 0, errLeft
	}
	if err != nil {
		return nil, 0, err
	}
	defer res.Body.Close()
	if leaves {
		_, _ = io.CopyN(io.Discard, res.Body, int64(random.IntN(40_000))) // leaves in the middle, or at the end
		return nil, 0, errLeft
	}
	var body bytes.Buffer
	for {
		_, err := io.CopyN(&body, res.Body, int64(1+random.IntN(30_000)))
		if err == io.EOF {
			return body.Bytes(), res.StatusCode, nil
		}
		if ctx.Err() != nil {
			return nil, 0, errLeft
		}
		if err != nil {
			return nil, 0, err
		}
		if random.IntN(4) == 0 {
			time.Sleep(time.Duration(random.IntN(5)) * time.Millisecond) // a slow reader
		}
	}
}
