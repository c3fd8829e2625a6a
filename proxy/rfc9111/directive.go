package rfc9111

import (
	"strings"
	"time"
)

// directive is one member of a Cache-Control line as it stands there (RFC 9111
// section 5.2). Names and arguments share memory with the line.
type directive struct {
	name   string // as written; "" when the member does not begin with a token
	arg    string // between the quotes when quoted, escapes still in place
	hasArg bool
	quoted bool
	broken bool   // the member does not follow the grammar; arg is not to be trusted
	rest   string // of a broken member: what could not be read
}

// nextDirective takes the first directive off a line and returns what is left
// of the line. It returns false when there is none. A comma ends a directive
// unless it stands in a quoted string that is closed on this line: an open quote
// hides no neighbour. Lines are read one by one for the same reason, although
// together they are one list (RFC 9110 section 5.3).
func nextDirective(line string) (d directive, left string, ok bool) {
	line = strings.TrimLeft(line, ", \t")
	if line == "" {
		return directive{}, "", false
	}
	end := 0
	for end < len(line) && tokenByte(line[end]) {
		end++
	}
	d.name, left = line[:end], line[end:]

	if strings.HasPrefix(left, "=") && d.name != "" {
		d.hasArg = true
		if arg, after, closed := cutQuoted(left[1:]); closed {
			d.arg, d.quoted, left = arg, true, after
		} else {
			arg, after, _ := strings.Cut(left[1:], ",")
			d.arg = strings.TrimRight(arg, " \t")
			if !isToken(d.arg) {
				d.broken, d.rest = true, d.arg
			}
			return d, after, true
		}
	}
	tail, left, _ := strings.Cut(left, ",")
	if tail = trimOWS(tail); tail != "" {
		d.broken, d.rest = true, tail
	}
	return d, left, true
}

// cutQuoted takes a quoted string off s. It returns false when s does not begin
// with a quote or the string is not closed.
func cutQuoted(s string) (content, after string, closed bool) {
	if !strings.HasPrefix(s, `"`) {
		return "", s, false
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return s[1:i], s[i+1:], true
		}
	}
	return "", s, false
}

// unescape resolves the quoted pairs of a quoted string's content (RFC 9110
// section 5.6.4).
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// deltaSeconds reads a number of seconds (RFC 9111 section 1.2.2). What is larger
// than 2^31-1 is taken as that.
func deltaSeconds(s string) (time.Duration, bool) {
	n := time.Duration(0)
	for i := range len(s) {
		c := s[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		n = min(n*10+time.Duration(c-'0'), forever/time.Second)
	}
	return n * time.Second, s != ""
}
