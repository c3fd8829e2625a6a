package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestDeepNesting: each of these, given to the parser or to what walks its tree,
// recurses once for each repetition, and a stack that overflows ends the process.
func TestDeepNesting(t *testing.T) {
	const n, most = 10_000, 100_000
	brackets, operators := "brackets are open", "operators and brackets"
	tests := []struct{ name, source, want string }{
		{"parentheses", "x = " + strings.Repeat("(", most) + "1" + strings.Repeat(")", most), brackets},
		{"closed by others", "x = " + strings.Repeat("(}", n), brackets},
		{"of several kinds", "x = " + strings.Repeat("[}(]", n), brackets},
		{"interpolations", "x = " + strings.Repeat("\"${", n), brackets},
		{"heredocs", strings.Repeat("x = <<E\n${\n", n), brackets},
		{"blocks", strings.Repeat("a {\n", n), brackets},
		{"objects", "x = " + strings.Repeat("{a=\n", n), brackets},
		{"loops", "x = " + strings.Repeat("[for a in ", n), brackets},
		{"negations", "x = " + strings.Repeat("!", n) + "true", operators},
		{"negations between comments", "x = " + strings.Repeat("!/**/", n) + "true", operators},
		{"negations on their own lines", "x = (" + strings.Repeat("!\n", n) + "true)", operators},
		{"negations after line comments", "x = (" + strings.Repeat("!# a\n", n) + "true)", operators},
		{"conditionals", "x = " + strings.Repeat("a ? b : ", n) + "true", operators},
		{"sums", "x = " + strings.Repeat("a+", n) + "a", operators},
		{"indices", "x = a" + strings.Repeat("[b]", n), operators},
		{"splats", "x = a" + strings.Repeat(".*", n), operators},
		{"directives", "x = \"" + strings.Repeat("%{if true}", n) + "\"", operators},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("edge.hcl", []byte(tt.source))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestDeepEnough: what people write passes, at the bounds too.
func TestDeepEnough(t *testing.T) {
	// The cache block is a bracket too.
	parse(t, "cache {\n  heuristic = "+strings.Repeat("(", maxDepth-1)+"true"+strings.Repeat(")", maxDepth-1)+"\n}"+smallest)
	parse(t, "cache {\n  heuristic = "+strings.Repeat("!", maxOperators-2)+"true\n}"+smallest)
	parse(t, "cache {\n"+strings.Repeat("  # (((\n", 3000)+"  targets = [\n"+names(5000)+"  ]\n}"+smallest)
	_, err := Parse("edge.hcl", []byte("cache {\n  heuristic = "+strings.Repeat("(", maxDepth)+"true"+strings.Repeat(")", maxDepth)+"\n}"+smallest))
	if err == nil {
		t.Error("one bracket more passes")
	}
}

// names is n distinct elements of a list, each on its line.
func names(n int) string {
	var list strings.Builder
	for i := range n {
		fmt.Fprintf(&list, "    \"X-%d\", # one\n", i)
	}
	return list.String()
}

// TestOpenBracketIsNamed: a bracket that was never closed may make one expression
// of many lines, and is what the message points at.
func TestOpenBracketIsNamed(t *testing.T) {
	source := "server {\n  name = lower(\n}\n" + strings.Repeat("  listen = [\":8080\"]\n", 500)
	_, err := Parse("edge.hcl", []byte(source))
	refused, ok := errors.AsType[*Error](err)
	if !ok || refused.Diagnostics[0].Line != 2 || !strings.HasSuffix(refused.Diagnostics[0].Detail, "Is this bracket closed?") {
		t.Errorf("got %v", err)
	}
}

// FuzzParse: no source makes Parse panic, hang or return neither a Config nor an
// error; what is accepted is complete.
func FuzzParse(f *testing.F) {
	seeds := []string{
		smallest,
		"",
		"\ufeff" + smallest,
		"cache {\n  negative = { 404 = \"1s\", (\"410\") = \"2s\", (req.host) = \"3s\" }\n}",
		"site \"a\" {\n  hosts = [\"[::1]:80\", \"*\"]\n  route \"b\" {\n    path = \"/*\"\n    when = req.a[\"b\"][0].c != -1 ? true : null\n  }\n}",
		"x = <<-E\n  %{ if a ~}${b}%{ endif }\n  E\n",
		"server {\n  name = \"${env(\"HOME\")}\"\n}",
		"cache {\n  key {\n    value = \"${req.header[\"a\"]}${upper(\"\\u00ff\")}\"\n  }\n}" + smallest,
		"x = [for a, b in {}: a => b... if true]\n",
		"x = a.*.b[*].c\ny = f(a...)\nz = 1e9999999999\n",
		"request_headers { set = { a = \"\\r\\n\", b = 1, \"\" = null } }",
		"\x00\xff(",
		"cache {\n  negative = {}\n}",
		"cache {\n  ttl = \"9223372036854775807d\"\n  max_object = \"9223372036854775807TiB\"\n}",
	}
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, source []byte) {
		config, err := Parse("edge.hcl", source)
		if refused, ok := errors.AsType[*Error](err); ok {
			for _, finding := range refused.Diagnostics {
				if finding.Summary == "" || finding.Text == "" {
					t.Errorf("an empty finding: %+v", finding)
				}
			}
			_ = refused.Error()
		} else if err != nil {
			t.Errorf("an error of another type: %v", err)
		}
		if (config == nil) == (err == nil) {
			t.Fatalf("Config %v with error %v", config, err)
		}
		if config == nil {
			return
		}
		if len(config.Origins) == 0 || len(config.Sites) == 0 {
			t.Error("a node without origin or site")
		}
		r := testRequest()
		for _, site := range config.Sites {
			last := site.Routes[len(site.Routes)-1]
			if last.Path != "/*" || last.When != nil || last.Methods != nil {
				t.Errorf("site %s ends with %+v", site.Name, last)
			}
			for _, route := range site.Routes {
				if route.When != nil {
					route.When(r)
				}
				for _, header := range route.Request.Set {
					if value := header.Value(r); value != fieldValue(value) {
						t.Errorf("header value %q", value)
					}
				}
			}
		}
	})
}
