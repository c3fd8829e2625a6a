package rfc9111

import (
	"strings"
	"time"
)

// ParseDate reads an HTTP-date in any of its three formats (RFC 9110 section
// 5.6.7). Letters are matched without case (RFC 9111 section 4.2); everything
// else, white space and the number of digits included, is exact. The day of the
// week must be one, but is not checked against the date. A leap second is taken
// as the second before it.
//
// Without a clock the two digits of an RFC 850 year are taken as 1970 to 2069;
// ParseDateAt follows the RFC to the letter there.
func ParseDate(s string) (time.Time, bool) {
	return ParseDateAt(s, pivot())
}

// pivot is a now that makes two-digit years 1970 to 2069.
func pivot() time.Time { return time.Date(2019, time.December, 31, 23, 59, 59, 0, time.UTC) }

// ParseDateAt is ParseDate for a recipient whose clock shows now: a two-digit
// year that appears to be more than 50 years ahead is the latest past year with
// those digits (RFC 9110 section 5.6.7).
func ParseDateAt(s string, now time.Time) (time.Time, bool) {
	p := dateParser{rest: s}
	day := p.word()
	switch {
	case p.literal(", "):
		if len(day) == 3 {
			return p.fixdate(day)
		}
		return p.rfc850(day, now)
	case p.literal(" "):
		return p.asctime(day)
	}
	return time.Time{}, false
}

// dateParser eats rest from the left. Its first failure makes it bad for good.
type dateParser struct {
	rest string
	bad  bool
}

// fixdate reads what follows the comma of "Sun, 06 Nov 1994 08:49:37 GMT".
func (p *dateParser) fixdate(weekday string) (time.Time, bool) {
	day := p.number(2)
	p.want(" ")
	month := p.month()
	p.want(" ")
	year := p.number(4)
	p.want(" ")
	clock := p.clock()
	p.want(" ")
	p.zone()
	return p.date(weekdays[:], weekday, year, month, day, clock)
}

// rfc850 reads what follows the comma of "Sunday, 06-Nov-94 08:49:37 GMT".
func (p *dateParser) rfc850(weekday string, now time.Time) (time.Time, bool) {
	day := p.number(2)
	p.want("-")
	month := p.month()
	p.want("-")
	year := p.number(2)
	p.want(" ")
	clock := p.clock()
	p.want(" ")
	p.zone()

	now = now.UTC()
	year += now.Year() - now.Year()%100
	for year > now.Year()+50 {
		year -= 100
	}
	for year+100 <= now.Year()+50 {
		year += 100
	}
	t, ok := p.date(weekdaysLong[:], weekday, year, month, day, clock)
	if ok && t.After(now.AddDate(50, 0, 0)) {
		return p.date(weekdaysLong[:], weekday, year-100, month, day, clock)
	}
	return t, ok
}

// asctime reads what follows the day's name of "Sun Nov  6 08:49:37 1994".
func (p *dateParser) asctime(weekday string) (time.Time, bool) {
	month := p.month()
	p.want(" ")
	digits := 2
	if p.literal(" ") {
		digits = 1
	}
	day := p.number(digits)
	p.want(" ")
	clock := p.clock()
	p.want(" ")
	year := p.number(4)
	return p.date(weekdays[:], weekday, year, month, day, clock)
}

func (p *dateParser) date(names []string, weekday string, year int, month time.Month, day int, clock time.Duration) (time.Time, bool) {
	if p.bad || p.rest != "" || indexFold(names, weekday) < 0 {
		return time.Time{}, false
	}
	t := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	if t.Day() != day { // 31 Feb, day 0
		return time.Time{}, false
	}
	return t.Add(clock), true
}

// clock reads hour, minute and second.
func (p *dateParser) clock() time.Duration {
	hour := p.number(2)
	p.want(":")
	minute := p.number(2)
	p.want(":")
	second := p.number(2)
	if hour > 23 || minute > 59 || second > 60 {
		p.bad = true
	}
	second = min(second, 59)
	return time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute + time.Duration(second)*time.Second
}

func (p *dateParser) month() time.Month {
	i := -1
	if len(p.rest) >= 3 {
		i = indexFold(months[:], p.rest[:3])
	}
	if i < 0 {
		p.bad = true
		return 0
	}
	p.rest = p.rest[3:]
	return time.Month(i + 1)
}

func (p *dateParser) zone() {
	if len(p.rest) != 3 || !equalFold(p.rest, "gmt") {
		p.bad = true
		return
	}
	p.rest = ""
}

// number reads exactly that many digits.
func (p *dateParser) number(digits int) int {
	if len(p.rest) < digits {
		p.bad = true
		return 0
	}
	n := 0
	for i := range digits {
		c := p.rest[i]
		if c < '0' || c > '9' {
			p.bad = true
			return 0
		}
		n = n*10 + int(c-'0')
	}
	p.rest = p.rest[digits:]
	return n
}

func (p *dateParser) word() string {
	i := 0
	for i < len(p.rest) && 'a' <= p.rest[i]|0x20 && p.rest[i]|0x20 <= 'z' {
		i++
	}
	word := p.rest[:i]
	p.rest = p.rest[i:]
	return word
}

func (p *dateParser) literal(s string) bool {
	rest, ok := strings.CutPrefix(p.rest, s)
	p.rest = rest
	return ok
}

func (p *dateParser) want(s string) {
	if !p.literal(s) {
		p.bad = true
	}
}

var (
	months       = [...]string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}
	weekdays     = [...]string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
	weekdaysLong = [...]string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}
)

func indexFold(lower []string, s string) int {
	for i, name := range lower {
		if equalFold(s, name) {
			return i
		}
	}
	return -1
}

// equalFold compares without the case of ASCII letters; strings.EqualFold also
// takes letters of other scripts for ASCII ones (the Kelvin sign for k).
func equalFold(s, lower string) bool {
	if len(s) != len(lower) {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
