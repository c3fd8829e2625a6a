package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Table is what one work showed.
type Table struct {
	Title   string
	Columns []string // the first is text, the others are figures
	Rows    [][]string
	Notes   []string // what must be known to read it
}

// render writes the tables as Markdown.
func render(o options, tables []Table, skipped []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Medians of %d rounds of %v each, interleaved; server on core %s, load and origin on core %s.\n",
		o.rounds, o.duration, serverCore, loadCore)
	if len(skipped) > 0 {
		fmt.Fprintf(&b, "Not installed, skipped: %s.\n", strings.Join(skipped, ", "))
	}
	for _, table := range tables {
		fmt.Fprintf(&b, "\n%s:\n\n| %s |\n|%s\n", table.Title, strings.Join(table.Columns, " | "),
			" --- |"+strings.Repeat(" ---: |", len(table.Columns)-1))
		for _, row := range table.Rows {
			fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		}
		if len(table.Notes) > 0 {
			b.WriteString("\n")
		}
		for _, note := range table.Notes {
			fmt.Fprintf(&b, "- %s\n", note)
		}
	}
	return b.String()
}

// median is the middle one of a figure over the samples, or the lower middle one.
func median[S any, T cmp.Ordered](samples []S, figure func(S) T) T {
	if len(samples) == 0 {
		panic("bench: median of no samples")
	}
	figures := make([]T, len(samples))
	for i, sample := range samples {
		figures[i] = figure(sample)
	}
	slices.Sort(figures)
	return figures[(len(figures)-1)/2]
}
