package rfc9111

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestGroups(t *testing.T) {
	var many, members []string
	for i := range 40 {
		many = append(many, strings.Repeat("g", 40)+strconv.Itoa(i))
		members = append(members, strconv.Quote(many[i]))
	}
	for _, test := range []struct {
		lines, want []string
	}{
		{nil, nil},
		{[]string{`"scripts"`}, []string{"scripts"}},
		{[]string{`"a", "b";x=1`, ` "A" `}, []string{"a", "b", "A"}},
		{[]string{`"quo\"te\\", ""`}, []string{`quo"te\`, ""}},
		{[]string{strings.Join(members, ",")}, many},
		{[]string{`"a", token`}, nil},
		{[]string{`"a", 1`}, nil},
		{[]string{`("a")`}, nil},
		{[]string{`"a",`}, nil},
		{[]string{`"open`}, nil},
		{[]string{`"a"`, `:`}, nil},
		{[]string{""}, nil},
	} {
		if got := Groups(test.lines); !slices.Equal(got, test.want) {
			t.Errorf("%q: got %q, want %q", test.lines, got, test.want)
		}
	}
}
