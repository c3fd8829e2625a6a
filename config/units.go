package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// durationUnits are the units of a duration, the smallest first.
var durationUnits = []struct {
	name string
	unit time.Duration
}{
	{"ms", time.Millisecond}, {"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}, {"d", 24 * time.Hour},
}

var sizeUnits = []struct {
	name string
	unit int64
}{
	{"B", 1},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
}

// parseDuration reads whole numbers with units, "90s" or "1h30m". It returns what
// is wrong with a text that is none, or "".
func parseDuration(text string) (total time.Duration, problem string) {
	if text == "" {
		return 0, `A duration is missing. Write a number with its unit, such as "30s".`
	}
	for rest := text; rest != ""; {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		if digits == 0 {
			return 0, fmt.Sprintf(`%q is not a duration. Write whole numbers with the units ms, s, m, h or d, such as "30s" or "1h30m".`, text)
		}
		if digits == len(rest) {
			return 0, fmt.Sprintf("%q has no unit. Did you mean %q?", text, text+"s")
		}
		n, err := strconv.ParseInt(rest[:digits], 10, 64)
		name := rest[digits:]
		if next := strings.IndexAny(name, "0123456789"); next >= 0 {
			name = name[:next]
		}
		rest = rest[digits+len(name):]
		unit := durationUnit(name)
		if unit == 0 {
			suggestion := ""
			if guess := strings.TrimSpace(name); rest == "" && len(guess) > 1 && durationUnit(guess[:1]) > 0 {
				suggestion = fmt.Sprintf(" Did you mean %q?", strings.TrimSuffix(text, name)+guess[:1])
			}
			return 0, fmt.Sprintf("%q has a unit that is not known. The units are ms, s, m, h and d.%s", text, suggestion)
		}
		if err != nil || n > (math.MaxInt64-int64(total))/int64(unit) {
			return 0, fmt.Sprintf("%q is longer than a duration can be.", text)
		}
		total += time.Duration(n) * unit
	}
	return total, ""
}

// durationUnit is the length of a unit, zero for an unknown one.
func durationUnit(name string) time.Duration {
	for _, u := range durationUnits {
		if u.name == name {
			return u.unit
		}
	}
	return 0
}

// parseSize reads a whole number with a unit, "512MiB" or "1GB". It returns what is
// wrong with a text that is none, or "".
func parseSize(text string) (size int64, problem string) {
	digits := len(text) - len(strings.TrimLeft(text, "0123456789"))
	unit := text[digits:]
	if digits == 0 {
		return 0, fmt.Sprintf(`%q is not a size. Write a whole number with its unit, such as "512MiB" or "8KiB".`, text)
	}
	n, err := strconv.ParseInt(text[:digits], 10, 64)
	for _, u := range sizeUnits {
		if unit == u.name {
			if err != nil || n > math.MaxInt64/u.unit {
				return 0, fmt.Sprintf("%q is larger than a size can be.", text)
			}
			return n * u.unit, ""
		}
	}
	if unit == "" {
		return 0, fmt.Sprintf("%q has no unit. Bytes are written %q.", text, text+"B")
	}
	return 0, fmt.Sprintf("%q has a unit that is not known.%s", text, didYouMeanSize(text[:digits], strings.TrimSpace(unit)))
}

// didYouMeanSize offers the spelling of a unit that was written another way: "mib",
// "M" or "Mb" in other tools is "MiB" here.
func didYouMeanSize(number, unit string) string {
	if unit != "" {
		if i := strings.IndexByte("KMGT", strings.ToUpper(unit)[0]); i >= 0 {
			return fmt.Sprintf(" Did you mean %q?", number+"KMGT"[i:i+1]+"iB")
		}
	}
	return ` The units are B, KB, MB, GB, TB and, in powers of 1024, KiB, MiB, GiB, TiB.`
}

// formatDuration writes a duration as a file would have it.
func formatDuration(d time.Duration) string {
	if d == 0 {
		return "0s"
	}
	var text strings.Builder
	for i := len(durationUnits) - 1; i >= 0; i-- {
		u := durationUnits[i]
		if n := d / u.unit; n > 0 {
			fmt.Fprintf(&text, "%d%s", n, u.name)
			d %= u.unit
		}
	}
	return text.String()
}

// formatSize writes a size as a file would have it.
func formatSize(size int64) string {
	for i := len(sizeUnits) - 1; i >= 0; i-- {
		u := sizeUnits[i]
		if size >= u.unit && size%u.unit == 0 && (u.unit == 1 || strings.HasSuffix(u.name, "iB")) {
			return fmt.Sprintf("%d%s", size/u.unit, u.name)
		}
	}
	return "0B"
}
