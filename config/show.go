package config

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
)

// A finding is shown as HCL's own tools show theirs, with a mark below the place:
//
//	Error: Invalid duration
//
//	  on edge.hcl line 12, in site "main":
//	  12:     ttl = "5"
//	                ^^^
//
//	"5" has no unit. Did you mean "5s"?
//
// HCL's own writer reads the whole source from its start for each finding, which
// takes a minute for a large file with many.

const (
	textWidth  = 80  // where details are wrapped
	quoteWidth = 160 // the most bytes of a source line that are quoted
)

// show renders a finding. File is nil when there is none to quote.
func show(diag *hcl.Diagnostic, file *hcl.File) string {
	var text strings.Builder
	severity := "Error"
	if diag.Severity == hcl.DiagWarning {
		severity = "Warning"
	}
	fmt.Fprintf(&text, "%s: %s\n\n", severity, diag.Summary)
	if at := diag.Subject; at != nil {
		fmt.Fprintf(&text, "  on %s line %d", at.Filename, at.Start.Line)
		if file != nil {
			if where := within(file, at.Start.Byte); where != "" {
				fmt.Fprintf(&text, ", in %s", where)
			}
			before, marked, after := quote(file.Bytes, at)
			label := fmt.Sprintf("%4d: ", at.Start.Line)
			fmt.Fprintf(&text, ":\n%s%s%s%s\n%s%s\n", label, before, marked, after, blank(label+before), carets(marked))
		}
		text.WriteString("\n")
	}
	if diag.Detail != "" {
		fmt.Fprintf(&text, "%s\n\n", wrap(diag.Detail))
	}
	return text.String()
}

// within names the blocks around an offset, or is "".
func within(file *hcl.File, offset int) string {
	if nav, ok := file.Nav.(interface{ ContextString(offset int) string }); ok {
		return nav.ContextString(offset)
	}
	return "" // the file was not parsed
}

// quote returns the line on which the range begins, in three parts: before, in and
// after it. Of a long line only the surroundings of the range are quoted.
func quote(src []byte, at *hcl.Range) (before, marked, after string) {
	start := min(at.Start.Byte, len(src))
	lineStart := bytes.LastIndexByte(src[:start], '\n') + 1
	lineEnd := len(src)
	if i := bytes.IndexByte(src[start:], '\n'); i >= 0 {
		lineEnd = start + i
	}
	from := max(lineStart, start-quoteWidth/2)
	to := min(lineEnd, from+quoteWidth)
	end := min(max(at.End.Byte, start), to)
	before, marked, after = string(src[from:start]), string(src[start:end]), strings.TrimRight(string(src[end:to]), "\r")
	if from > lineStart {
		before = "..." + before
	}
	if to < lineEnd {
		after += "..."
	}
	return before, marked, after
}

// blank is as wide as text, keeping its tabs.
func blank(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, text)
}

// carets marks text; a place without width gets one.
func carets(text string) string {
	return strings.Repeat("^", max(1, utf8.RuneCountInString(strings.TrimRight(text, "\r"))))
}

// wrap breaks lines between words.
func wrap(detail string) string {
	var text strings.Builder
	width := 0
	for i, word := range strings.Split(detail, " ") {
		switch {
		case i == 0:
		case width+1+utf8.RuneCountInString(word) > textWidth:
			text.WriteByte('\n')
			width = 0
		default:
			text.WriteByte(' ')
			width++
		}
		text.WriteString(word)
		width += utf8.RuneCountInString(word)
	}
	return text.String()
}
