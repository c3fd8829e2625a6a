package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// Column is one run of the suite.
type Column struct {
	Name     string // the policy, or the URL of the proxy
	Verdicts map[string]Verdict
}

const preface = `# Conformance

The public HTTP cache test suite (npm package ` + "`http-cache-tests`" + ` 0.4.5) against the edge binary, once for each named
policy. ` + "`make conformance`" + ` writes this page; it fails when a test fails that ` + "`explanations.json`" + ` does not explain, and
when a test passes that it explains.

The suite knows three kinds of test. *Required* ones ask what RFC 9111 demands, *optional* ones what makes a cache useful. *Checks*
are questions without a right answer. A test counts as passed, as in the suite's own display, when it passes and all tests that it depends on
pass; tests for browsers only are not run and not counted. The release is years old: where it contradicts the RFC's text, the RFC holds and the
reason below says so.
`

// report renders RESULTS.md. The same verdicts always give the same bytes, so
// that a change of the file is a change of behaviour.
func report(groups []Group, columns []Column, explanations Explanations) []byte {
	var b bytes.Buffer
	b.WriteString(preface)
	b.WriteString("\n| policy | required | optional | checks: yes | no | undecided |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, column := range columns {
		t := tally(column.Verdicts, groups...)
		fmt.Fprintf(&b, "| `%s` | %v | %v | %d | %d | %d |\n", column.Name, t.Required, t.Optional,
			t.Check.Passed, t.Check.Failed, t.Check.Total-t.Check.Passed-t.Check.Failed)
	}
	writeReasons(&b, groups, columns, explanations)
	writeCategories(&b, groups, columns)
	for _, column := range columns {
		writeFailures(&b, groups, column, explanations)
	}
	return b.Bytes()
}

// writeReasons counts why required and optional tests did not pass, so that the
// totals above it can be judged without reading every row below.
func writeReasons(b *bytes.Buffer, groups []Group, columns []Column, explanations Explanations) {
	b.WriteString("\nWhy tests did not pass, required and optional:\n\n| policy |")
	for _, reason := range becauses {
		fmt.Fprintf(b, " %s |", reason.title)
	}
	b.WriteString(" depend on one that did not | unexplained |\n| --- |" + strings.Repeat(" --- |", len(becauses)+2) + "\n")
	for _, column := range columns {
		counts := map[string]map[string]int{"required": {}, "optimal": {}}
		for _, failure := range failures(groups, column) {
			counts[failure.Test.Kind][reasonOf(failure, column, explanations)]++
		}
		fmt.Fprintf(b, "| `%s` |", column.Name)
		for _, key := range reasonKeys() {
			fmt.Fprintf(b, " %d, %d |", counts["required"][key], counts["optimal"][key])
		}
		b.WriteByte('\n')
	}
}

func reasonOf(failure Failure, column Column, explanations Explanations) string {
	if failure.Status == Dependency {
		return "depends"
	}
	if x := explanations.of(failure.Test.ID, column.Name); x != nil {
		return x.Because
	}
	return "unexplained"
}

func reasonKeys() []string {
	var keys []string
	for _, reason := range becauses {
		keys = append(keys, reason.key)
	}
	return append(keys, "depends", "unexplained")
}

func writeCategories(b *bytes.Buffer, groups []Group, columns []Column) {
	b.WriteString("\n## By category\n\n| category |")
	for _, column := range columns {
		fmt.Fprintf(b, " `%s` required | optional | checks: yes |", column.Name)
	}
	b.WriteString("\n| --- |" + strings.Repeat(" --- | --- | --- |", len(columns)) + "\n")
	for _, group := range groups {
		fmt.Fprintf(b, "| %s |", cell(group.Name))
		for _, column := range columns {
			t := tally(column.Verdicts, group)
			fmt.Fprintf(b, " %s | %s | %s |", dash(t.Required), dash(t.Optional), dash(t.Check))
		}
		b.WriteByte('\n')
	}
}

func writeFailures(b *bytes.Buffer, groups []Group, column Column, explanations Explanations) {
	fmt.Fprintf(b, "\n## Not passed under `%s`\n\n", column.Name)
	failed := failures(groups, column)
	if len(failed) == 0 {
		b.WriteString("None.\n")
		return
	}
	b.WriteString("| test | kind | why | section |\n| --- | --- | --- | --- |\n")
	for _, failure := range failed {
		kind := "required"
		if failure.Test.Kind == "optimal" {
			kind = "optional"
		}
		why, section := "**unexplained**: "+string(failure.Status), ""
		if failure.Status == Dependency {
			why = "depends on `" + failure.Depends + "`"
		} else if x := explanations.of(failure.Test.ID, column.Name); x != nil {
			why, section = x.Why, x.Section
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", failure.Test.ID, kind, cell(why), cell(section))
	}
}

// dash leaves a cell of a category that has no tests of a kind unobtrusive.
func dash(t Tally) string {
	if t.Total == 0 {
		return "-"
	}
	return t.String()
}

// cell makes text safe inside a table row.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(text)
}

// printSummary writes the totals and each failure with the suite's own message.
func printSummary(w io.Writer, groups []Group, columns []Column) {
	for _, column := range columns {
		t := tally(column.Verdicts, groups...)
		fmt.Fprintf(w, "%s: required %v, optional %v, checks %d yes %d no of %d\n", column.Name,
			t.Required, t.Optional, t.Check.Passed, t.Check.Failed, t.Check.Total)
		for _, failure := range failures(groups, column) {
			depends := ""
			if failure.Status == Dependency {
				depends = " (" + failure.Depends + ")"
			}
			fmt.Fprintf(w, "  %-8s %s: %s%s: %s\n", failure.Test.Kind, failure.Test.ID, failure.Status, depends, failure.Message)
		}
	}
}
