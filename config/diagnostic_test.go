package config

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what the tests got into testdata")

// goldenCase is one section of testdata/diagnostics.txt:
//
//	=== name
//	source
//	---
//	what is shown
type goldenCase struct {
	name, source, shown string
}

const goldenFile = "testdata/diagnostics.txt"

func readGolden(t *testing.T) (head string, cases []goldenCase) {
	t.Helper()
	data, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	sections := strings.Split(string(data), "=== ")
	for _, section := range sections[1:] {
		name, rest, _ := strings.Cut(section, "\n")
		source, shown, found := strings.Cut(rest, "---\n")
		if !found && !*update {
			t.Fatalf("%s: section %q has no line ---", goldenFile, name)
		}
		cases = append(cases, goldenCase{name, strings.TrimRight(source, "\n") + "\n", strings.TrimRight(shown, "\n") + "\n"})
	}
	return sections[0], cases
}

// complete adds the origin and the site that most cases leave out, so that what is
// shown is about the case alone.
func complete(source string) string {
	if !strings.Contains(source, "origin \"") {
		source += "origin \"app\" {\n  url = \"http://127.0.0.1:3000\"\n}\n"
	}
	if !strings.Contains(source, "site \"") {
		source += "site \"main\" {\n  hosts = [\"*\"]\n}\n"
	}
	return source
}

// TestDiagnostics holds every refusal and warning against the whole of what is
// shown, so that a mistake is reported once, at its place, with its suggestion.
func TestDiagnostics(t *testing.T) {
	t.Setenv("EDGE_TEST_SET", "8080")
	t.Setenv("EDGE_TEST_UNSET", "") // so that it is restored
	os.Unsetenv("EDGE_TEST_UNSET")
	head, cases := readGolden(t)
	names := make(map[string]bool)
	for i := range cases {
		c := &cases[i]
		if names[c.name] {
			t.Errorf("two cases are named %q", c.name)
		}
		names[c.name] = true
		t.Run(c.name, func(t *testing.T) {
			source := c.source
			if !strings.Contains(c.name, "(whole file)") {
				source = complete(source)
			}
			var got strings.Builder
			config, err := Parse("edge.hcl", []byte(source))
			if refused, ok := errors.AsType[*Error](err); ok {
				if config != nil {
					t.Error("a refused file gives a Config too")
				}
				if n, err := refused.WriteTo(&got); err != nil || n != int64(got.Len()) {
					t.Errorf("WriteTo = %d, %v; %d bytes were written", n, err, got.Len())
				}
			} else if err != nil {
				t.Fatal(err)
			} else {
				for _, warning := range config.Warnings {
					if !warning.Warning {
						t.Errorf("an error among the warnings: %s", warning.Summary)
					}
					got.WriteString(warning.Text)
				}
			}
			shown := strings.TrimRight(got.String(), "\n") + "\n"
			if *update {
				c.shown = shown
			} else if shown != c.shown {
				t.Errorf("shown:\n%s\nwant:\n%s", shown, c.shown)
			}
			if shown == "\n" {
				t.Error("nothing was found")
			}
		})
	}
	if *update {
		var out bytes.Buffer
		out.WriteString(head)
		for _, c := range cases {
			out.WriteString("=== " + c.name + "\n" + c.source + "---\n" + c.shown + "\n")
		}
		if err := os.WriteFile(goldenFile, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
