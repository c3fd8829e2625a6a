package config

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"
)

// Diagnostic is one finding about a configuration, with its place.
type Diagnostic struct {
	Warning bool   // false is an error
	Summary string // what is wrong, in a few words
	Detail  string // why, and what to write instead
	File    string // name as given to Load or Parse; "" when the finding has no place
	Line    int    // from 1; 0 when the finding has no place
	Column  int    // from 1, in characters; 0 when the finding has no place
	Text    string // all of it as shown to a person, with the source line quoted; ends with an empty line
}

// Error says why a configuration is refused. It holds every finding, warnings
// included, in the order of the file.
type Error struct {
	Diagnostics []Diagnostic // at least one error
	Omitted     int          // findings left out, past the first 50
}

// Error is the first error in one line, with file and line, and how many follow.
func (e *Error) Error() string {
	errors := 0
	var first *Diagnostic
	for i := range e.Diagnostics {
		if d := &e.Diagnostics[i]; !d.Warning {
			if errors++; first == nil {
				first = d
			}
		}
	}
	if first == nil {
		panic("config: an Error without an error in it")
	}
	var line strings.Builder
	if first.File != "" {
		fmt.Fprintf(&line, "%s:%d: ", first.File, first.Line)
	}
	line.WriteString(first.Summary)
	if first.Detail != "" {
		line.WriteString(": " + strings.Join(strings.Fields(first.Detail), " "))
	}
	if more := errors - 1 + e.Omitted; more > 0 {
		fmt.Fprintf(&line, " (and %d more)", more)
	}
	return line.String()
}

// WriteTo writes every finding as a person wants to read it: file, line, the
// source quoted, what to do.
func (e *Error) WriteTo(w io.Writer) (int64, error) {
	var text strings.Builder
	for i := range e.Diagnostics {
		text.WriteString(e.Diagnostics[i].Text)
	}
	if e.Omitted > 0 {
		fmt.Fprintf(&text, "And %d more.\n\n", e.Omitted)
	}
	n, err := io.WriteString(w, text.String())
	return int64(n), err
}

// maxDiagnostics bounds what is shown: nobody reads a thousand findings, most of
// which have one cause.
const maxDiagnostics = 50

// findings collects diagnostics while a configuration is made.
type findings struct {
	diags hcl.Diagnostics
	file  *hcl.File       // for quoting; nil when there is no file
	seen  map[string]bool // what was reported already: rules that many routes inherit are checked for each
}

// fault reports an error at a place. A nil place is a finding without one.
func (f *findings) fault(at *hcl.Range, summary, format string, args ...any) {
	f.report(hcl.DiagError, at, summary, fmt.Sprintf(format, args...))
}

// warn reports what is allowed but looks like a mistake.
func (f *findings) warn(at *hcl.Range, summary, format string, args ...any) {
	f.report(hcl.DiagWarning, at, summary, fmt.Sprintf(format, args...))
}

func (f *findings) report(severity hcl.DiagnosticSeverity, at *hcl.Range, summary, detail string) {
	id := fmt.Sprint(at, summary, detail)
	if f.seen[id] {
		return
	}
	if f.seen == nil {
		f.seen = make(map[string]bool)
	}
	f.seen[id] = true
	f.diags = append(f.diags, &hcl.Diagnostic{Severity: severity, Summary: summary, Detail: detail, Subject: at})
}

// failed reports whether an error was found.
func (f *findings) failed() bool { return f.diags.HasErrors() }

// shown returns what was found in the order of the file, rendered, and the number
// left out. Errors are kept before warnings when not all are.
func (f *findings) shown() (list []Diagnostic, omitted int) {
	diags := slices.Clone(f.diags)
	if omitted = len(diags) - maxDiagnostics; omitted > 0 {
		slices.SortStableFunc(diags, func(a, b *hcl.Diagnostic) int {
			return cmp.Or(cmp.Compare(a.Severity, b.Severity), byPlace(a, b))
		})
		diags = diags[:maxDiagnostics]
	}
	slices.SortStableFunc(diags, byPlace)
	quotable := f.quotable()
	for _, diag := range diags {
		list = append(list, render(quotable, diag))
	}
	return list, max(omitted, 0)
}

func byPlace(a, b *hcl.Diagnostic) int {
	if a.Subject == nil || b.Subject == nil {
		return cmp.Compare(offset(a.Subject), offset(b.Subject))
	}
	return cmp.Or(
		cmp.Compare(a.Subject.Start.Byte, b.Subject.Start.Byte),
		cmp.Compare(a.Summary, b.Summary),
		cmp.Compare(a.Detail, b.Detail))
}

// offset puts findings without a place last: they say what the file lacks.
func offset(at *hcl.Range) int {
	if at == nil {
		return 1
	}
	return 0
}

func render(from quotable, diag *hcl.Diagnostic) Diagnostic {
	diag = from.discreet(diag)
	d := Diagnostic{Warning: diag.Severity == hcl.DiagWarning, Summary: diag.Summary, Detail: diag.Detail}
	if diag.Subject != nil {
		d.File, d.Line, d.Column = diag.Subject.Filename, diag.Subject.Start.Line, diag.Subject.Start.Column
	}
	d.Text = show(diag, from.file)
	return d
}

// didYouMean returns a sentence that offers the name nearest to the one given,
// with a space before it, or "" when none is near.
func didYouMean(given string, names []string) string {
	best, distance := "", max(2, len(given)/3)+1
	for _, name := range names {
		if d := levenshtein.Distance(strings.ToLower(given), strings.ToLower(name), nil); d < distance && d < len(name) {
			best, distance = name, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" Did you mean %q?", best)
}

// quoted lists names as text for a message: "a", "b" or "c".
func quoted(names []string) string {
	var text strings.Builder
	for i, name := range names {
		switch {
		case i > 0 && i == len(names)-1:
			text.WriteString(" or ")
		case i > 0:
			text.WriteString(", ")
		}
		fmt.Fprintf(&text, "%q", name)
	}
	return text.String()
}
