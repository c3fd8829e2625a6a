package integration

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// importRules says which packages of this module a part of it may import. The
// first rule whose part holds the package governs; "x/..." is x and all below it.
var importRules = []struct {
	part string
	may  []string
}{
	{"edge/cmd/...", []string{"edge/..."}},

	{"edge/config/...", []string{"edge/config/..."}},

	{"edge/proxy/rfc9111", []string{"edge/cachestore"}},
	{"edge/proxy/socket", nil},
	{"edge/proxy/upstream", []string{"edge/proxy/socket"}},
	{"edge/proxy/wire", []string{"edge/proxy/socket"}},
	{"edge/proxy", []string{"edge/proxy/...", "edge/cachestore/..."}},

	{"edge/cachestore", nil},
	{"edge/cachestore/storetest", []string{"edge/cachestore"}},
	{"edge/cachestore/...", []string{"edge/cachestore/..."}},

	{"edge/purge/...", []string{"edge/purge/...", "edge/cachestore/..."}},
	{"edge/ratelimit/...", []string{"edge/ratelimit/...", "edge/cachestore/..."}},

	// HTTP only: what a stranger could not see is not tested here.
	// The one exception starts Redis servers.
	{"edge/integration/...", []string{"edge/integration/...", "edge/cachestore/redis/redistest"}},
}

// libraryHomes names the one place where each library from outside is used; its
// quirks are written down there. A second one is where only tests use it.
var libraryHomes = map[string]string{
	"github.com/dgraph-io/ristretto":      "edge/cachestore/memory",
	"github.com/redis/go-redis":           "edge/cachestore/redis/...",
	"github.com/pquerna/cachecontrol":     "edge/proxy/rfc9111",
	"github.com/dunglas/httpsfv":          "edge/proxy/rfc9111 edge/ratelimit",
	"github.com/ulule/limiter":            "edge/ratelimit/...",
	"github.com/pires/go-proxyproto":      "edge/cmd/internal/node",
	"github.com/hashicorp/hcl":            "edge/config",
	"github.com/zclconf/go-cty":           "edge/config",
	"github.com/agext/levenshtein":        "edge/config",
	"github.com/spf13/cobra":              "edge/cmd/edge",
	"github.com/spf13/pflag":              "edge/cmd/edge",
	"github.com/prometheus/client_golang": "edge/cmd/internal/node",
	"github.com/caddyserver/certmagic":    "edge/cmd/internal/node",
	"github.com/cespare/xxhash":           "edge/purge",
	"golang.org/x/net":                    "edge/proxy/socket",
	"golang.org/x/sys":                    "edge/cmd/internal/node",
	"golang.org/x/sync":                   "edge/cmd/internal/node",
}

// within reports whether a package lies in a part: the package itself, or with
// "/..." all below it too.
func within(pkg, part string) bool {
	tree, all := strings.CutSuffix(part, "/...")
	return pkg == tree || all && strings.HasPrefix(pkg, tree+"/")
}

// listed is what `go list` tells of a package.
type listed struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// packages asks the go command, so that build tags and test files count as they do
// when building.
func packages(t *testing.T) (all []listed) {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports", "edge/...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for in := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := in.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		all = append(all, p)
	}
}

// importFault says why pkg may not import other, or "".
func importFault(pkg, other string) string {
	if strings.HasPrefix(other, "edge/") {
		if !strings.HasPrefix(pkg, "edge/cmd/") && within(other, "edge/cmd/...") {
			return "nothing imports a command"
		}
		for _, rule := range importRules {
			if within(pkg, rule.part) {
				if slices.ContainsFunc(rule.may, func(part string) bool { return within(other, part) }) {
					return ""
				}
				return "the imports of " + rule.part + " go elsewhere"
			}
		}
		return "no rule knows this package: give it one"
	}
	if first, _, _ := strings.Cut(other, "/"); !strings.Contains(first, ".") {
		return "" // the standard library
	}
	for library, home := range libraryHomes {
		if within(other, library+"/...") {
			if slices.ContainsFunc(strings.Fields(home), func(part string) bool { return within(pkg, part) }) {
				return ""
			}
			return "its home is " + home
		}
	}
	return "this library has no home yet: name one"
}

func TestImportsGoOneWay(t *testing.T) {
	t.Parallel()
	all := packages(t)
	if len(all) < 5 {
		t.Fatalf("go list names %d packages only", len(all))
	}
	for _, p := range all {
		for _, other := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			if other == p.ImportPath || other == "C" {
				continue
			}
			if fault := importFault(p.ImportPath, other); fault != "" {
				t.Errorf("%s imports %s: %s", p.ImportPath, other, fault)
			}
		}
	}
}

// The rules themselves, on edges that must never be.
func TestImportRulesRefuse(t *testing.T) {
	t.Parallel()
	for _, edge := range [][2]string{
		{"edge/proxy", "edge/config"},
		{"edge/proxy", "edge/purge"},
		{"edge/purge", "edge/proxy"},
		{"edge/ratelimit", "edge/purge"},
		{"edge/cachestore", "edge/proxy"},
		{"edge/proxy/rfc9111", "edge/proxy"},
		{"edge/config", "edge/cachestore"},
		{"edge/integration", "edge/proxy"},
		{"edge/proxy", "edge/cmd/internal/node"},
		{"edge/proxy", "github.com/dgraph-io/ristretto/v2"},
		{"edge/proxy", "github.com/unknown/library"},
		{"edge/newcomer", "edge/cachestore"},
	} {
		if importFault(edge[0], edge[1]) == "" {
			t.Errorf("%s may import %s", edge[0], edge[1])
		}
	}
	for _, edge := range [][2]string{
		{"edge/cmd/edge", "edge/cmd/internal/node"},
		{"edge/cmd/internal/node", "edge/proxy/upstream"},
		{"edge/proxy", "edge/proxy/rfc9111"},
		{"edge/cachestore/memory", "edge/cachestore"},
		{"edge/cachestore/memory", "github.com/dgraph-io/ristretto/v2/z"},
		{"edge/proxy", "net/http"},
	} {
		if fault := importFault(edge[0], edge[1]); fault != "" {
			t.Errorf("%s may not import %s: %s", edge[0], edge[1], fault)
		}
	}
}
