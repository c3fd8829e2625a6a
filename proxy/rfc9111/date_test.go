package rfc9111

import (
	"testing"
	"time"
)

func TestParseDate(t *testing.T) {
	want := time.Date(2050, time.August, 18, 2, 1, 18, 0, time.UTC)
	tests := []struct {
		name, in string
		want     time.Time // zero: invalid
	}{
		{"9110 5.6.7 preferred format", "Thu, 18 Aug 2050 02:01:18 GMT", want},
		{"9110 5.6.7 RFC 850 format", "Thursday, 18-Aug-50 02:01:18 GMT", want},
		{"9110 5.6.7 asctime format", "Thu Aug 18 02:01:18 2050", want},
		{"9110 5.6.7 asctime with a one-digit day", "Sun Nov  6 08:49:37 1994", time.Date(1994, 11, 6, 8, 49, 37, 0, time.UTC)},
		{"the day's name is not checked against the date", "Mon, 18 Aug 2050 02:01:18 GMT", want},
		{"a leap second is the second before", "Sat, 31 Dec 2016 23:59:60 GMT", time.Date(2016, 12, 31, 23, 59, 59, 0, time.UTC)},
		{"29 February in a leap year", "Thu, 29 Feb 2024 00:00:00 GMT", time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)},
		{"9111 4.2 case of the weekday", "THU, 18 Aug 2050 02:01:18 GMT", want},
		{"9111 4.2 case of the month", "Thu, 18 AUG 2050 02:01:18 GMT", want},
		{"9111 4.2 case of the zone", "Thu, 18 Aug 2050 02:01:18 gMT", want},
		{"far future", "Sun, 21 Nov 2286 04:46:39 GMT", time.Date(2286, 11, 21, 4, 46, 39, 0, time.UTC)},

		{"9111 4.2 another zone", "Thu, 18 Aug 2050 02:01:18 UTC", time.Time{}},
		{"another zone, longer", "Thu, 18 Aug 2050 02:01:18 AEST", time.Time{}},
		{"no zone", "Thu, 18 Aug 2050 02:01:18", time.Time{}},
		{"numeric zone", "Thu, 18 Aug 2050 02:01:18 +0000", time.Time{}},
		{"two-digit year", "Thu, 18 Aug 50 02:01:18 GMT", time.Time{}},
		{"four-digit year in RFC 850 format", "Thursday, 18-Aug-2050 02:01:18 GMT", time.Time{}},
		{"dashes in the preferred format", "Thu, 18-Aug-2050 02:01:18 GMT", time.Time{}},
		{"no comma", "Thu 18 Aug 2050 02:01:18 GMT", time.Time{}},
		{"doubled spaces", "Thu, 18  Aug  2050 02:01:18 GMT", time.Time{}},
		{"no space after the comma", "Thu,18 Aug 2050 02:01:18 GMT", time.Time{}},
		{"one-digit hour", "Thu, 18 Aug 2050 2:01:18 GMT", time.Time{}},
		{"one-digit day", "Thu, 8 Aug 2050 02:01:18 GMT", time.Time{}},
		{"asctime with a one-digit day and one space", "Sun Nov 6 08:49:37 1994", time.Time{}},
		{"periods in the time", "Thu, 18 Aug 2050 02.01.18 GMT", time.Time{}},
		{"no weekday", "18 Aug 2050 02:01:18 GMT", time.Time{}},
		{"unknown weekday", "Thx, 18 Aug 2050 02:01:18 GMT", time.Time{}},
		{"long weekday in the preferred format", "Thursday, 18 Aug 2050 02:01:18 GMT", time.Time{}},
		{"short weekday in RFC 850 format", "Thu, 18-Aug-50 02:01:18 GMT", time.Time{}},
		{"unknown month", "Thu, 18 Agu 2050 02:01:18 GMT", time.Time{}},
		{"30 February", "Thu, 30 Feb 2050 02:01:18 GMT", time.Time{}},
		{"day zero", "Thu, 00 Aug 2050 02:01:18 GMT", time.Time{}},
		{"hour 24", "Thu, 18 Aug 2050 24:00:00 GMT", time.Time{}},
		{"minute 60", "Thu, 18 Aug 2050 02:60:18 GMT", time.Time{}},
		{"second 61", "Thu, 18 Aug 2050 02:01:61 GMT", time.Time{}},
		{"text behind", "Thu, 18 Aug 2050 02:01:18 GMT;", time.Time{}},
		{"space before", " Thu, 18 Aug 2050 02:01:18 GMT", time.Time{}},
		{"a list", "Thu, 18 Aug 2050 02:01:18 GMT, Thu, 18 Aug 2050 02:01:18 GMT", time.Time{}},
		{"the usual zero", "0", time.Time{}},
		{"minus one", "-1", time.Time{}},
		{"nothing", "", time.Time{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, ok := ParseDate(test.in)
			if ok != !test.want.IsZero() || !got.Equal(test.want) {
				t.Errorf("ParseDate(%q) = %v, %v; want %v", test.in, got, ok, test.want)
			}
		})
	}
}

// RFC 9110 section 5.6.7: a two-digit year more than 50 years ahead is in the past.
func TestParseDateAtCentury(t *testing.T) {
	now := time.Date(2026, time.June, 15, 12, 0, 0, 0, time.UTC)
	for in, year := range map[string]int{
		"Sunday, 06-Nov-94 08:49:37 GMT": 1994,
		"Sunday, 06-Nov-26 08:49:37 GMT": 2026,
		"Sunday, 06-Nov-75 08:49:37 GMT": 2075,
		"Sunday, 15-Jun-76 12:00:00 GMT": 2076, // exactly 50 years
		"Sunday, 15-Jun-76 12:00:01 GMT": 1976,
		"Sunday, 06-Nov-77 08:49:37 GMT": 1977,
		"Sunday, 06-Nov-00 08:49:37 GMT": 2000,
	} {
		if got, ok := ParseDateAt(in, now); !ok || got.Year() != year {
			t.Errorf("ParseDateAt(%q) = %v, %v; want the year %d", in, got, ok, year)
		}
	}
	// Near the end of a century "05" is ahead.
	if got, _ := ParseDateAt("Sunday, 06-Nov-05 08:49:37 GMT", now.AddDate(70, 0, 0)); got.Year() != 2105 {
		t.Errorf("read in 2096, the year 05 is %d; want 2105", got.Year())
	}
}

func FuzzParseDate(f *testing.F) {
	f.Add("Thu, 18 Aug 2050 02:01:18 GMT")
	f.Add("Thursday, 18-Aug-50 02:01:18 GMT")
	f.Add("Thu Aug  8 02:01:18 2050")
	f.Add("Thu, 30 Feb 2050 02:01:60 gmt")
	f.Fuzz(func(t *testing.T, s string) {
		date, ok := ParseDate(s)
		if !ok {
			return
		}
		// What was read is a date that reads the same when it is written properly.
		const preferred = "Mon, 02 Jan 2006 15:04:05 GMT"
		if again, ok := ParseDate(date.Format(preferred)); !ok || !again.Equal(date) {
			t.Errorf("%q is read as %v, which is written %q and read as %v, %v", s, date, date.Format(preferred), again, ok)
		}
	})
}

func BenchmarkParseDate(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		ParseDate("Thu, 18 Aug 2050 02:01:18 GMT")
	}
}
