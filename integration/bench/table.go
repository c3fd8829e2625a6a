package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Table is what one work showed.
type Table struct {
	Work Work
	Rows []Row
}

// Row is one peer's samples, one for each round.
type Row struct {
	Peer    string
	Samples []Sample
}

// render writes the tables as Markdown. Each figure is the median over the rounds
// of that figure; the ratio is that of the medians, to the first peer.
func render(o options, tables []Table, skipped []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Medians of %d rounds of %v each, interleaved; server on core %s, load and origin on core %s.\n",
		o.rounds, o.duration, serverCore, loadCore)
	if len(skipped) > 0 {
		fmt.Fprintf(&b, "Not installed, skipped: %s.\n", strings.Join(skipped, ", "))
	}
	for _, table := range tables {
		reference := table.Rows[0]
		fmt.Fprintf(&b, "\n%s, %d connections:\n\n", table.Work.Name, table.Work.Connections)
		fmt.Fprintf(&b, "| peer | requests per CPU-second | of %s | requests/s | core used | p50 | p99 | remarks |\n", reference.Peer)
		b.WriteString("| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n")
		for _, row := range table.Rows {
			perCPU := median(row.Samples, Sample.perCPUSecond)
			fmt.Fprintf(&b, "| %s | %.0f | %.2f | %.0f | %.0f%% | %v | %v | %s |\n", row.Peer, perCPU,
				perCPU/median(reference.Samples, Sample.perCPUSecond),
				median(row.Samples, Sample.perSecond),
				100*median(row.Samples, Sample.coreUsed),
				median(row.Samples, func(s Sample) time.Duration { return s.P50 }),
				median(row.Samples, func(s Sample) time.Duration { return s.P99 }),
				remarks(row))
		}
	}
	return b.String()
}

// remarks tells when a row is not what the work's name says.
func remarks(row Row) string {
	var fetched int64
	for _, sample := range row.Samples {
		fetched += sample.Fetched
	}
	if fetched == 0 {
		return ""
	}
	return fmt.Sprintf("not all hits: %d requests reached the origin", fetched)
}

// median is the middle one of a figure over the samples, or the lower middle one.
func median[T cmp.Ordered](samples []Sample, figure func(Sample) T) T {
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
