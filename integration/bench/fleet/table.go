package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Table is what one work showed: figures with their units, each row a measure.
type Table struct {
	Title string
	Note  string // how it was taken; a sentence or two
	Head  []string
	Rows  [][]string
	Foot  string // what the rows together say; may be empty
}

// add appends a row: the measure's name and its figures.
func (t *Table) add(cells ...string) {
	if len(cells) != len(t.Head) {
		panic(fmt.Sprintf("fleet: %d cells under %d heads: %q", len(cells), len(t.Head), cells))
	}
	t.Rows = append(t.Rows, cells)
}

// render writes the table as Markdown.
func (t *Table) render() string {
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	fmt.Fprintf(&b, "### %s\n\n%s\n\n", t.Title, t.Note)
	line(t.Head)
	line(append([]string{"---"}, slices.Repeat([]string{"---:"}, len(t.Head)-1)...))
	for _, row := range t.Rows {
		line(row)
	}
	b.WriteString("\n")
	if t.Foot != "" {
		b.WriteString(t.Foot + "\n\n")
	}
	return b.String()
}

// quantile is the smallest of the values that at least the share q of them do not
// exceed (nearest rank); zero of none. It sorts the values.
func quantile[T cmp.Ordered](values []T, q float64) T {
	var zero T
	if len(values) == 0 {
		return zero
	}
	slices.Sort(values)
	rank := int(q * float64(len(values)))
	if float64(rank) < q*float64(len(values)) {
		rank++
	}
	return values[min(max(rank, 1), len(values))-1]
}

func median[T cmp.Ordered](values []T) T { return quantile(values, 0.5) }

// millis and micros are a duration as tables show it.
func millis(d time.Duration) string { return fmt.Sprintf("%.2f ms", d.Seconds()*1e3) }

func micros(d time.Duration) string { return fmt.Sprintf("%.0f µs", d.Seconds()*1e6) }

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// verdict says whether a bar was reached.
func verdict(bar string, reached bool) string {
	if reached {
		return bar + ": met"
	}
	return bar + ": MISSED"
}
