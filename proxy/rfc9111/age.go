package rfc9111

import (
	"net/http"
	"strings"
	"time"
)

// InitialAge returns how old a response was when it arrived: corrected_initial_age
// of RFC 9111 section 4.2.3, in its more conservative form. Requested is when the
// request for it was begun, received when its head arrived. An Age or Date that
// cannot be read counts as absent; of several Ages the first counts (section 5.1).
// The answer is never negative. After a 304 it is the 304's own head that is asked.
func InitialAge(res http.Header, requested, received time.Time) time.Duration {
	apparent := time.Duration(0)
	if lines := res["Date"]; len(lines) > 0 {
		if date, ok := ParseDateAt(lines[0], received); ok {
			apparent = bounded(received.Truncate(time.Second).Sub(date))
		}
	}
	delay := bounded(received.Sub(requested))
	return max(apparent, bounded(ageValue(res)+delay))
}

func ageValue(res http.Header) time.Duration {
	for _, line := range res["Age"] {
		for member := range strings.SplitSeq(line, ",") {
			if member = trimOWS(member); member != "" {
				age, _ := deltaSeconds(member)
				return age
			}
		}
	}
	return 0
}
