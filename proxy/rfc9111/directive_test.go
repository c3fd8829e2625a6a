package rfc9111

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func scan(line string) []string {
	var all []string
	for d, left, ok := nextDirective(line); ok; d, left, ok = nextDirective(left) {
		text := d.name
		switch {
		case d.quoted:
			text += `="` + d.arg + `"`
		case d.hasArg:
			text += "=" + d.arg
		}
		if d.broken {
			text += " !"
		}
		all = append(all, text)
	}
	return all
}

func TestScanner(t *testing.T) {
	tests := []struct {
		name, line string
		want       []string // "!" marks a broken one
	}{
		{"two", "no-store, max-age=60", []string{"no-store", "max-age=60"}},
		{"no space", "no-store,max-age=60", []string{"no-store", "max-age=60"}},
		{"empty members", ", ,,no-store,\t, public,,", []string{"no-store", "public"}},
		{"nothing", " , ", nil},
		{"a comma in quotes parts nothing", `ext="a, no-store", public`, []string{`ext="a, no-store"`, "public"}},
		{"an escaped quote ends nothing", `ext="a\", b", public`, []string{`ext="a\", b"`, "public"}},
		{"an open quote hides no neighbour", `private="a, no-store`, []string{`private="a !`, "no-store"}},
		{"an open escape at the end", `ext="a\`, []string{`ext="a\ !`}},
		{"a quote within a word is no quote", `fo"o, no-store, ba"r`, []string{"fo !", "no-store", "ba !"}},
		{"space before the equals sign", "max-age =60, public", []string{"max-age !", "public"}},
		{"space after the equals sign", "max-age= 60, public", []string{"max-age= 60 !", "public"}},
		{"nothing after the equals sign", "max-age=, public", []string{"max-age= !", "public"}},
		{"semicolons", "max-age=60; public, no-cache", []string{"max-age=60; public !", "no-cache"}},
		{"two words", "no-store max-age=3, public", []string{"no-store !", "public"}},
		{"text behind a quoted string", `max-age="60"x, public`, []string{`max-age="60" !`, "public"}},
		{"no name", `="a", public`, []string{" !", "public"}},
		{"bytes outside of ASCII", "max-äge=60, public", []string{"max- !", "public"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := scan(test.line); !slices.Equal(got, test.want) {
				t.Errorf("%q is scanned as %q; want %q", test.line, got, test.want)
			}
		})
	}
}

func TestDeltaSeconds(t *testing.T) {
	tests := []struct {
		in   string
		want time.Duration
		ok   bool
	}{
		{"0", 0, true},
		{"60", time.Minute, true},
		{"003600", time.Hour, true},
		{"2147483647", forever, true},
		{"2147483648", forever, true}, // section 1.2.2: overflow is taken as 2^31 or the largest value there is
		{"99999999999999999999999999999999", forever, true},
		{"", 0, false},
		{"-1", 0, false},
		{"+1", 0, false},
		{"1.0", 0, false},
		{"1e3", 0, false},
		{" 1", 0, false},
		{"1_0", 0, false},
		{"٣", 0, false},
	}
	for _, test := range tests {
		if got, ok := deltaSeconds(test.in); ok != test.ok || ok && got != test.want {
			t.Errorf("deltaSeconds(%q) = %v, %v; want %v, %v", test.in, got, ok, test.want, test.ok)
		}
	}
}

// bad are directives that nobody can read, or that nobody knows.
var bad = []string{
	`max-agee=60`, `foo`, `foo=`, `foo="`, `foo="a`, `"quoted"`, `=`, `=5`, `foo bar`, `foo;bar=baz`, `foo="\`, `föö`, "a\x01b", `stale-if-error=x`,
}

// One bad directive never loses its neighbours, wherever it stands.
func TestNeighboursOfBadDirectives(t *testing.T) {
	for _, bad := range bad {
		for _, line := range []string{
			bad + ", no-store, max-age=60",
			"no-store, " + bad + ", max-age=60",
			"no-store, max-age=60, " + bad,
		} {
			r := cacheControl([]string{line})
			if !r.noStore || r.maxAge != (Limit{true, time.Minute}) {
				t.Errorf("Cache-Control: %s\nno-store %v, max-age %v; want true and 1m", line, r.noStore, r.maxAge)
			}
			q := ParseRequest(http.Header{"Cache-Control": {line}})
			if !q.NoStore || q.MaxAge != (Limit{true, time.Minute}) {
				t.Errorf("request Cache-Control: %s\nno-store %v, max-age %v; want true and 1m", line, q.NoStore, q.MaxAge)
			}
		}
	}
}

// A bad directive costs only itself: Cache-Control is a list of single promises.
func ExampleParseRequest() {
	q := ParseRequest(http.Header{"Cache-Control": {`max-age=soon, foo="bar, min-fresh=10, no-store`}})
	fmt.Println(q.MaxAge.Given, q.MinFresh.Length, q.NoStore)
	// Output: false 10s true
}

func FuzzScanner(f *testing.F) {
	for _, bad := range bad {
		f.Add("no-store, " + bad + ", max-age=60")
	}
	f.Add(`a="b\"c,d", e=f;g , ,h i`)
	f.Fuzz(func(t *testing.T, line string) {
		before := len(line)
		for d, left, ok := nextDirective(line); ok; d, left, ok = nextDirective(left) {
			if len(left) >= before {
				t.Fatalf("%q: nothing was taken", line)
			}
			before = len(left)
			if d.name != "" && !isToken(d.name) {
				t.Errorf("%q has a directive named %q", line, d.name)
			}
			if d.hasArg && !d.quoted && !d.broken && !isToken(d.arg) {
				t.Errorf("%q has a sound argument %q", line, d.arg)
			}
		}
		// Whatever a line holds, what forbids on a line of its own is obeyed.
		if r := cacheControl([]string{line, "no-store"}); !r.noStore {
			t.Errorf("%q hides a no-store on the next line", line)
		}
		// And before it: nothing that follows can take back what was said.
		if !strings.Contains(line, `"`) {
			if r := cacheControl([]string{"private, " + line}); !r.private {
				t.Errorf("%q takes back the private before it", line)
			}
		}
		ParseRequest(http.Header{"Cache-Control": {line}, "Pragma": {line}})
	})
}
