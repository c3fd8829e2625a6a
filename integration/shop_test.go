package integration

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"edge/integration/internal/node"
	"edge/integration/internal/websocket"
)

// The same small shop on Node and on Go, and the same tests through the node for
// both.
func TestShop(t *testing.T) {
	for name, start := range map[string]func(*testing.T) string{"node": startNodeShop, "go": startGoShop} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, test := range []struct {
				name string
				run  func(*testing.T, *shopFront)
			}{
				{"product is fetched once for each language", shopProduct},
				{"targeted field governs and is passed on", shopTargetedField},
				{"update is seen at once", shopUpdate},
				{"creation invalidates its Location", shopCreate},
				{"account page is never shared", shopAccount},
				{"page that sets a cookie is never shared", shopWelcome},
				{"login sets its cookie", shopLogin},
				{"export streams whole", shopExport},
				{"export waits for its reader", shopBackPressure},
				{"events arrive one by one", shopEvents},
				{"WebSocket echoes", shopWebSocket},
				{"early hints arrive", shopHints},
				{"large bodies are whole", shopBig},
				{"held fetch is shared", shopHeld},
				{"failure passes", shopFailure},
				{"truncation is passed on as such", shopTruncated},
			} {
				t.Run(test.name, func(t *testing.T) {
					t.Parallel()
					url := start(t)
					n := node.Start(t, node.Options{Binary: built(t, raceBinary), Origin: url})
					test.run(t, &shopFront{Node: n, origin: url})
				})
			}
		})
	}
}

func startGoShop(t *testing.T) string {
	t.Helper()
	return startOriginProcess(t, ".", built(t, originBinary))
}

func startNodeShop(t *testing.T) string {
	t.Helper()
	dir := filepath.Join("origins", "node")
	if _, err := os.Stat(filepath.Join(dir, "node_modules")); err != nil {
		t.Fatalf("the Node origin is not installed (%v): run `make deps`", err)
	}
	return startOriginProcess(t, dir, "node", "server.js")
}

// startOriginProcess runs an origin that prints a line with its URL when it is
// ready, and ends on SIGTERM.
func startOriginProcess(t *testing.T, dir, command string, args ...string) string {
	t.Helper()
	cmd := exec.Command(command, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PORT=0")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it must not outlive a killed test
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start the origin: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it has ended already, which is as good
		if err := cmd.Wait(); err != nil {
			t.Errorf("the origin ended with %v", err)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	var ready struct{ URL string }
	if err != nil || json.Unmarshal([]byte(line), &ready) != nil || ready.URL == "" {
		t.Fatalf("the origin is not ready: %q, %v", line, err)
	}
	return ready.URL
}

// shopFront is a node before a shop.
type shopFront struct {
	*node.Node
	origin string
}

// control calls the shop behind the node's back and returns the count it tells.
func (f *shopFront) control(t *testing.T, method, path string) int {
	t.Helper()
	r, err := http.NewRequest(method, f.origin+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Close = true
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatalf("ask the origin: %v", err)
	}
	defer res.Body.Close()
	var told struct{ Count int }
	if err := json.NewDecoder(res.Body).Decode(&told); err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("ask the origin %s: %v", path, err)
	}
	return told.Count
}

func (f *shopFront) count(t *testing.T, target string) int {
	t.Helper()
	return f.control(t, "GET", "/-/count?url="+url.QueryEscape(target))
}

type shopProductJSON struct {
	Version  int
	Language string
	Name     string
}

func product(t *testing.T, a answer) (p shopProductJSON) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.Body), &p); err != nil {
		t.Fatalf("not a product: %q", a.Body)
	}
	return p
}

func shopProduct(t *testing.T, f *shopFront) {
	names := map[string]string{"en": "Product 7", "de": "Produkt 7", "fr": "Produit 7"}
	for range 2 {
		for language, want := range names {
			p := product(t, warm(t, f.Node, "/products/7", "Accept-Language", language))
			equal(t, "name in "+language, p.Name, want)
		}
	}
	equal(t, "requests to the origin", f.count(t, "/products/7"), 3)
	a := get(t, f.Node, "/products/7", "Accept-Language", "de", "If-None-Match", `"7-1-de"`)
	equal(t, "status for a known tag", a.Status, 304)
	equal(t, "requests to the origin", f.count(t, "/products/7"), 3)
}

func shopTargetedField(t *testing.T, f *shopFront) {
	a := warm(t, f.Node, "/products/7")
	if ttl := a.cacheStatus()["ttl"]; len(ttl) != 3 || ttl < "250" || ttl > "300" {
		t.Errorf("ttl is %s, want the 300 s of CDN-Cache-Control, less a little", ttl)
	}
	equal(t, "CDN-Cache-Control", a.Header.Get("CDN-Cache-Control"), "max-age=300, stale-while-revalidate=600")
	equal(t, "Cache-Control", a.Header.Get("Cache-Control"), "public, max-age=60, stale-while-revalidate=300")
	equal(t, "Surrogate-Key", a.Header.Get("Surrogate-Key"), "")
}

func shopUpdate(t *testing.T, f *shopFront) {
	for i, method := range []string{"PUT", "POST"} {
		warm(t, f.Node, "/products/7")
		name := "renamed by " + method
		a := ask(t, f.Node, method, "/products/7", fmt.Sprintf(`{"name":%q}`, name), "Content-Type", "application/json")
		equal(t, "status of "+method, a.Status, 200)
		p := product(t, get(t, f.Node, "/products/7"))
		equal(t, "name after "+method, p.Name, name)
		equal(t, "version after "+method, p.Version, i+2)
	}
}

func shopCreate(t *testing.T, f *shopFront) {
	equal(t, "version before", product(t, warm(t, f.Node, "/products/8")).Version, 1)
	a := ask(t, f.Node, "POST", "/products", `{"id":"8","name":"eight"}`, "Content-Type", "application/json")
	equal(t, "status", a.Status, 201)
	equal(t, "name after", product(t, get(t, f.Node, "/products/8")).Name, "eight")
}

func shopAccount(t *testing.T, f *shopFront) {
	for range 2 {
		for _, user := range []string{"alice", "bob"} {
			a := get(t, f.Node, "/account", "Cookie", "session="+user)
			equal(t, "page of "+user, a.Body, "<p>Orders of "+user+"</p>")
			equal(t, "hit", a.hit(), false)
		}
		equal(t, "status without a session", get(t, f.Node, "/account").Status, 302)
	}
}

func shopWelcome(t *testing.T, f *shopFront) {
	seen := map[string]bool{}
	for range 3 {
		cookie := get(t, f.Node, "/welcome").Header.Get("Set-Cookie")
		if seen[cookie] {
			t.Errorf("two visitors got %q", cookie)
		}
		seen[cookie] = true
	}
}

func shopLogin(t *testing.T, f *shopFront) {
	a := ask(t, f.Node, "POST", "/login?user=alice", "")
	equal(t, "status", a.Status, 204)
	if !strings.HasPrefix(a.Header.Get("Set-Cookie"), "session=alice;") {
		t.Errorf("Set-Cookie is %q", a.Header.Get("Set-Cookie"))
	}
}

func shopExport(t *testing.T, f *shopFront) {
	const rows = 20_000
	res := open(t, f.Node, fmt.Sprintf("/export.csv?rows=%d", rows))
	lines := bufio.NewScanner(res.Body)
	count := -1 // the title is no row
	for ; lines.Scan(); count++ {
		if count >= 0 && !strings.HasPrefix(lines.Text(), fmt.Sprintf("%d,Product %d,", count+1, count+1)) {
			t.Fatalf("row %d is %q", count+1, lines.Text())
		}
	}
	equal(t, "rows", count, rows)
	if lines.Err() != nil {
		t.Error(lines.Err())
	}
}

// The origin has far more rows than all buffers hold, and this reader takes one.
func shopBackPressure(t *testing.T, f *shopFront) {
	const rows = 8_000_000 // some 200 MB
	res := open(t, f.Node, fmt.Sprintf("/export.csv?rows=%d", rows))
	if line, err := bufio.NewReaderSize(res.Body, 16).ReadSlice('\n'); err != nil || string(line) != "id,name,price\n" {
		t.Fatalf("first line: %q, %v", line, err)
	}
	// The origin has come to rest when it tells the same number five times in a row.
	last, same := -1, 0
	until(t, "an origin at rest", func() (int, bool) {
		switch now := f.control(t, "GET", "/-/exported"); now {
		case last:
			same++
		default:
			last, same = now, 0
		}
		return last, same == 5
	})
	if last >= rows/2 {
		t.Errorf("the origin wrote %d of %d rows for a reader of one", last, rows)
	}
}

func shopEvents(t *testing.T, f *shopFront) {
	res := open(t, f.Node, "/events", "Accept", "text/event-stream")
	in := bufio.NewReader(res.Body)
	read := func(want string) {
		t.Helper()
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatalf("events ended: %v", err)
			}
			if line != "\n" {
				equal(t, "event", line, want+"\n")
				return
			}
		}
	}
	read(": welcome")
	for i := range 3 {
		equal(t, "listeners", f.control(t, "POST", fmt.Sprintf("/-/emit?data=%d", i)), 1)
		read(fmt.Sprintf("data: %d", i))
	}
	res.Body.Close()
	until(t, "no listener left at the origin", func() (int, bool) {
		listeners := f.control(t, "POST", "/-/emit?data=gone")
		return listeners, listeners == 0
	})
	f.Settle(t)
}

func shopWebSocket(t *testing.T, f *shopFront) {
	c, err := websocket.Dial(f.Addr, "", "/ws", patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, message := range []string{"a", strings.Repeat("long ", 5000), ""} {
		if err := c.Send(message); err != nil {
			t.Fatal(err)
		}
		echo, err := c.Receive()
		if err != nil || echo != message {
			t.Fatalf("echo of %d bytes is %d bytes, %v", len(message), len(echo), err)
		}
	}
	c.Close()
	f.Settle(t)
}

func shopHints(t *testing.T, f *shopFront) {
	status, bodies := f.Raw(t, "GET /hints HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n", 2)
	if len(status) != 2 || status[0] != 103 || status[1] != 200 || bodies[1] != "<p>hinted</p>" {
		t.Errorf("statuses %v, bodies %q", status, bodies)
	}
}

func shopBig(t *testing.T, f *shopFront) {
	const size = 20 << 20 // past the largest object that is stored
	for _, query := range []string{"", "&chunked=1", "&cache=60", "&cache=60&chunked=1"} {
		wholePattern(t, open(t, f.Node, fmt.Sprintf("/big?bytes=%d%s", size, query)), size)
	}
}

func shopHeld(t *testing.T, f *shopFront) {
	await := sendAll(t, f.Node, "/held/door", 10, nothing)
	until(t, "a request at the origin", func() (int, bool) {
		n := f.count(t, "/held/door")
		return n, n > 0
	})
	f.control(t, "POST", "/-/release/door")
	for _, a := range await() {
		equal(t, "body", a.Body, "held door")
	}
	equal(t, "requests to the origin", f.count(t, "/held/door"), 1)
}

func shopFailure(t *testing.T, f *shopFront) {
	for range 2 {
		a := get(t, f.Node, "/fail?status=503")
		equal(t, "status", a.Status, 503)
		equal(t, "body", a.Body, "failed")
	}
	equal(t, "requests to the origin", f.count(t, "/fail?status=503"), 2)
}

func shopTruncated(t *testing.T, f *shopFront) {
	for _, target := range []string{"/truncate?send=5000", "/truncate?send=5000&chunked=1"} {
		for range 2 {
			if a := ask(t, f.Node, "GET", target, ""); a.Err == nil && a.Status != http.StatusBadGateway || a.hit() {
				t.Errorf("%s: status %d with %d bytes looks complete", target, a.Status, len(a.Body))
			}
		}
	}
}
