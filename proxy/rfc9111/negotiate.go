package rfc9111

import (
	"slices"
	"strings"
)

// coding is one of the content codings that are told apart, as a bit.
type coding uint8

const (
	brotli coding = 1 << iota
	zstandard
	gzip

	allCodings = brotli | zstandard | gzip
)

// acceptEncodings are the canonical values by set of codings, so that none has to
// be built.
var acceptEncodings = [allCodings + 1]string{
	"", "br", "zstd", "br, zstd", "gzip", "br, gzip", "zstd, gzip", "br, zstd, gzip",
}

// NormalAcceptEncoding reduces the lines of an Accept-Encoding field to the codings
// that an origin has a choice between: those of br, zstd and gzip that the client
// takes at all, always in this order and without weights. It is "" when there are
// none, whether the client takes no coding or said nothing. "*" stands for all that
// are not named (RFC 9110 section 12.5.3). A member that cannot be read is left
// out. What is returned is to be sent to the origin as well, so that what is keyed
// is what was asked for. It does not allocate.
func NormalAcceptEncoding(values []string) string {
	var named, accepted coding
	others := false
	for _, line := range values {
		for member := range strings.SplitSeq(line, ",") {
			name, weight, ok := weighted(member)
			if !ok {
				continue
			}
			this := codingOf(name)
			if name == "*" {
				others = weight > 0
				continue
			}
			named |= this
			if weight > 0 {
				accepted |= this
			}
		}
	}
	if others {
		accepted |= allCodings &^ named
	}
	return acceptEncodings[accepted]
}

func codingOf(name string) coding {
	switch {
	case equalFold(name, "br"):
		return brotli
	case equalFold(name, "zstd"):
		return zstandard
	case equalFold(name, "gzip"), equalFold(name, "x-gzip"):
		return gzip
	}
	return 0
}

// weighted splits a member of a list like Accept-Encoding into its name and its
// weight in thousandths, 1000 when it has none (RFC 9110 section 12.4.2). Other
// parameters make it unreadable: these lists have none.
func weighted(member string) (name string, weight int, ok bool) {
	name, parameter, has := strings.Cut(trimOWS(member), ";")
	name = strings.TrimRight(name, " \t")
	if !isToken(name) {
		return "", 0, false
	}
	if !has {
		return name, 1000, true
	}
	weight, ok = qvalue(trimOWS(parameter))
	return name, weight, ok
}

// qvalue reads "q=0.5" into thousandths.
func qvalue(s string) (int, bool) {
	if len(s) < 3 || s[0]|0x20 != 'q' || s[1] != '=' || s[2] != '0' && s[2] != '1' {
		return 0, false
	}
	weight := int(s[2]-'0') * 1000
	switch s = s[3:]; {
	case s == "":
		return weight, true
	case s[0] != '.' || len(s) > 4:
		return 0, false
	}
	scale := 100
	for _, c := range []byte(s[1:]) {
		if c < '0' || c > '9' {
			return 0, false
		}
		weight += int(c-'0') * scale
		scale /= 10
	}
	return weight, weight <= 1000
}

// language is a range of Accept-Language with its weight.
type language struct {
	tag    string
	weight int
}

const maxLanguages = 16 // more than any browser sends; past it the field is compared as it stands

// appendLanguages appends the normal form of Accept-Language: lower case, heaviest
// first, and by name where weights are equal, since their order means nothing that
// could be relied on (RFC 9110 section 12.5.4). It returns false when the field is
// not well formed, or very long.
func appendLanguages(dst []byte, lines []string) ([]byte, bool) {
	return formatLanguages(dst, lines, forKey)
}

// NormalAcceptLanguage returns the lines of an Accept-Language field in the form
// that is keyed, to be sent to the origin as well: an origin that goes by the
// order of equal weights would else give one client's page to another. It returns
// false when the field is not well formed, and is then compared as it stands.
func NormalAcceptLanguage(lines []string) (string, bool) {
	text, ok := formatLanguages(nil, lines, forOrigin)
	return string(text), ok
}

// form is how the normal form of Accept-Language is written.
type form bool

const (
	forKey    form = false // short
	forOrigin form = true  // as the field's syntax has it
)

// formatLanguages appends the normal form to dst.
func formatLanguages(dst []byte, lines []string, as form) ([]byte, bool) {
	var space [maxLanguages]language
	languages := space[:0]
	for _, line := range lines {
		for member := range strings.SplitSeq(line, ",") {
			if trimOWS(member) == "" {
				continue
			}
			tag, weight, ok := weighted(member)
			if !ok || len(languages) == maxLanguages {
				return dst, false
			}
			languages = append(languages, language{tag, weight})
		}
	}
	slices.SortFunc(languages, func(a, b language) int {
		if a.weight != b.weight {
			return b.weight - a.weight
		}
		return compareFold(a.tag, b.tag)
	})

	start := len(dst)
	for i, l := range languages {
		if i > 0 && l.weight == languages[i-1].weight && compareFold(l.tag, languages[i-1].tag) == 0 {
			continue
		}
		if len(dst) > start {
			if dst = append(dst, ','); as == forOrigin {
				dst = append(dst, ' ')
			}
		}
		for _, c := range []byte(l.tag) {
			dst = append(dst, lowerByte(c))
		}
		if l.weight < 1000 {
			dst = appendWeight(dst, l.weight, as)
		}
	}
	return dst, true
}

// appendWeight appends a weight below one, given in thousandths.
func appendWeight(dst []byte, weight int, as form) []byte {
	digits := [3]byte{byte('0' + weight/100), byte('0' + weight/10%10), byte('0' + weight%10)}
	if as == forKey {
		return append(append(dst, ';'), digits[:]...)
	}
	dst = append(append(dst, ";q=0."...), digits[0])
	for i := 1; i < 3 && (digits[i] != '0' || i == 1 && digits[2] != '0'); i++ {
		dst = append(dst, digits[i])
	}
	return dst
}

func compareFold(a, b string) int {
	for i := range min(len(a), len(b)) {
		if x, y := lowerByte(a[i]), lowerByte(b[i]); x != y {
			return int(x) - int(y)
		}
	}
	return len(a) - len(b)
}

func lowerByte(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c |= 0x20
	}
	return c
}
