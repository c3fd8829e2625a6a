package integration

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"edge/integration/internal/node"
	"edge/integration/internal/origin"
)

// Far more is fetched than the memory tier holds: the process stays within what
// the file says.
func TestOverfilledMemoryTierKeepsItsSize(t *testing.T) {
	if !soaking() {
		t.Skip("hundreds of thousands of requests are for make soak")
	}
	const size, objects, clients = 256 << 20, 1_000_000, 16
	body := strings.Repeat("x", 1<<10)
	o := origin.Start(t, fields(body, "Cache-Control", "max-age=3600"))
	n := node.Start(t, node.Options{
		Binary: built(t, plainBinary),
		Config: configuration("memory {\n  size = \"256MiB\"\n}\nlog {\n  access = false\n}\n" + site(o.URL, `"*"`, "")),
	})
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() {
			for i := c; i < objects; i += clients {
				r, err := request(n, http.MethodGet, fmt.Sprintf("/%d", i), "")
				if err != nil {
					t.Error(err)
					return
				}
				if a := exchange(n, r); a.Err != nil || a.Body != body {
					t.Errorf("object %d: status %d, %d bytes, %v", i, a.Status, len(a.Body), a.Err)
					return
				}
			}
		})
	}
	all.Wait()
	now, peak := n.Memory(t)
	t.Logf("%d objects: resident memory %d MiB, %d MiB at its highest", objects, now>>20, peak>>20)
	if bound := int64(size*3/2 + 64<<20); peak > bound {
		t.Errorf("resident memory reached %d MiB, want at most %d MiB", peak>>20, bound>>20)
	}
}
