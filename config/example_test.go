package config

import (
	"go/ast"
	goparser "go/parser"
	"go/token"
	"io/fs"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const exampleFile = "../edge.example.hcl"

// TestExample holds the example against the defaults that it claims to show.
func TestExample(t *testing.T) {
	config, err := Load(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	want := wantDefaults()
	site := &want.Sites[0]
	rest := site.Routes[0]
	assets, account := rest, rest
	assets.Name, assets.Path, assets.Methods = "assets", "/assets/*", []string{"GET", "HEAD"}
	assets.WhenText = `((req.scheme=="http")||(req.scheme=="https"))`
	assets.Cache.DefaultTTL = new(time.Hour)
	assets.Cache.Key.SortQuery = true
	account.Name, account.Path = "account", "/account/*"
	account.Cache.Enabled = false
	site.Routes = []Route{account, assets, rest}

	got := &config.Sites[0]
	for i := range got.Routes {
		route := &got.Routes[i]
		response := route.Response
		if len(response.Set) != 1 || response.Set[0].Name != "X-Content-Type-Options" || response.Set[0].Value(nil) != "nosniff" ||
			!reflect.DeepEqual(response.Remove, []string{"X-Powered-By"}) || response.Add != nil {
			t.Errorf("response headers of %s: %+v", route.Name, response)
		}
		route.Response = Headers{}
		if route.Name == "assets" {
			if r := testRequest(); !route.When(r) {
				t.Error("the condition of assets does not hold")
			}
			route.When = nil // functions are not comparable
		}
	}
	if !reflect.DeepEqual(config, want) {
		t.Errorf("got  %+v\nwant %+v", config, want)
	}
}

var (
	attributeLine = regexp.MustCompile(`^\s*(# )?([a-z0-9_]+) += `)
	blockLine     = regexp.MustCompile(`^\s*([a-z_]+)( "[a-z]+")? \{$`)

	// A block that is not there by default stands behind "#" as a whole.
	quietBlockBegin = regexp.MustCompile(`^\s*# [a-z_]+( "[a-z]+")? \{$`)
	quietBlockEnd   = regexp.MustCompile(`^\s*# \}$`)
)

// exampleLines are the lines of the example. Those of the blocks behind "#" come
// uncovered in a second list, at the same places, where the others are empty.
func exampleLines(t *testing.T) (lines, quiet []string) {
	t.Helper()
	source, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	lines = strings.Split(string(source), "\n")
	quiet = make([]string, len(lines))
	inside := false
	for i, line := range lines {
		inside = inside || quietBlockBegin.MatchString(line)
		if inside {
			quiet[i] = strings.Replace(strings.Replace(line, "# ", "", 1), "#", "", 1)
			if strings.Contains(line, "#   # ") {
				quiet[i] = "" // a comment within
			}
		}
		inside = inside && !quietBlockEnd.MatchString(line)
	}
	if inside {
		t.Fatal("a block behind # has no end")
	}
	return lines, quiet
}

// TestExampleIsComplete: every argument and every block that the package knows is
// in the example. They are taken from the tables in the source.
func TestExampleIsComplete(t *testing.T) {
	shown := make(map[string]bool)
	lines, quiet := exampleLines(t)
	for _, line := range append(lines, quiet...) {
		if m := attributeLine.FindStringSubmatch(line); m != nil {
			shown[m[2]] = true
		}
		if m := blockLine.FindStringSubmatch(line); m != nil {
			shown[m[1]] = true
		}
	}
	known := tableNames(t)
	if len(known) < 60 {
		t.Fatalf("only %d names were found in the tables: %v", len(known), known)
	}
	for name := range known {
		if !shown[name] {
			t.Errorf("%s is not in the example", name)
		}
	}
}

// tableNames finds the keys of the literals of type lines and blocks, and what is
// assigned to the tables own and inner.
func tableNames(t *testing.T) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	add := func(e ast.Expr) {
		if literal, ok := e.(*ast.BasicLit); ok {
			name, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			names[name] = true
		}
	}
	paths, err := fs.Glob(os.DirFS("."), "*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := goparser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				if name, ok := n.Type.(*ast.Ident); ok && (name.Name == "lines" || name.Name == "blocks") {
					for _, element := range n.Elts {
						add(element.(*ast.KeyValueExpr).Key)
					}
				}
			case *ast.IndexExpr:
				if table, ok := n.X.(*ast.Ident); ok && (table.Name == "own" || table.Name == "inner") {
					add(n.Index)
				}
			}
			return true
		})
	}
	return names
}

// TestExampleAlternatives: each line that the example shows behind a "#" may be
// used as it stands there, alone.
func TestExampleAlternatives(t *testing.T) {
	t.Setenv("EDGE_TOKEN", "sixteen-bytes-or-more")
	t.Setenv("REDIS_PASSWORD", "secret")
	all, quiet := exampleLines(t)
	used := 0
	try := func(name string, changed []string) {
		used++
		config, err := Parse("edge.example.hcl", []byte(strings.Join(changed, "\n")))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if len(config.Warnings) > 0 && config.Warnings[0].Summary != "Unused limit" { // no site of the example names it
			t.Errorf("%s: %s", name, config.Warnings[0].Text)
		}
	}
	for i, line := range all {
		if m := attributeLine.FindStringSubmatch(line); m != nil && m[1] != "" {
			changed := slices.Clone(all)
			changed[i] = strings.Replace(line, "# ", "", 1)
			try(strings.TrimSpace(line), changed)
		}
		if !quietBlockBegin.MatchString(line) {
			continue
		}
		changed := slices.Clone(all)
		for j := i; ; j++ {
			changed[j] = quiet[j]
			if quietBlockEnd.MatchString(all[j]) {
				break
			}
		}
		try(strings.TrimSpace(line), changed)
	}
	if used < 11 {
		t.Errorf("only %d lines and blocks were tried", used)
	}
}
