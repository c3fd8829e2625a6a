package main

import (
	"strings"
	"testing"
)

func explained(tests ...string) Explanation {
	return Explanation{Tests: tests, Policies: []string{"safe"}, Because: "policy", Why: "refused on purpose", Section: "RFC 9111 section 3"}
}

func TestCheckOfExplanations(t *testing.T) {
	failing := Column{Name: "safe", Verdicts: judge(sample, decodeResults(t,
		`{"base":true,"middle":["Setup","status is 500"],"end":true,"asked":["Assertion","no"],"after-asked":true}`))}
	for name, c := range map[string]struct {
		explanations Explanations
		want         string // in the error; "" is none
	}{
		"complete: dependents need none": {Explanations{explained("middle")}, ""},
		"missing":                        {nil, "unexplained under policy safe: middle: setup failed: status is 500"},
		"of a test that passes":          {Explanations{explained("middle", "base")}, "explained, but passes under policy safe: base"},
		"of a mere dependent":            {Explanations{explained("middle", "end")}, "only because middle does: end"},
		"of a check":                     {Explanations{explained("middle", "asked")}, "explained, but a check, which nothing asks to pass: asked"},
		"of an unknown test":             {Explanations{explained("middle", "mistyped")}, "not a test of the suite: mistyped"},
		"for another policy": {Explanations{{Tests: []string{"middle"}, Policies: []string{"rfc"}, Because: "rfc", Why: "x", Section: "y"}},
			"unexplained under policy safe: middle"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.explanations.check(sample, []Column{failing})
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("error %v, want %q in it", err, c.want)
			}
		})
	}
}

func TestExplanationsThatSayNothingAreRefused(t *testing.T) {
	for name, e := range map[string]Explanations{
		"no test":        {{Policies: []string{"safe"}, Because: "rfc", Why: "x", Section: "y"}},
		"no policy":      {{Tests: []string{"a"}, Because: "rfc", Why: "x", Section: "y"}},
		"no reason":      {{Tests: []string{"a"}, Policies: []string{"safe"}, Because: "rfc", Section: "y"}},
		"no section":     {{Tests: []string{"a"}, Policies: []string{"safe"}, Because: "rfc", Why: "x"}},
		"no kind":        {{Tests: []string{"a"}, Policies: []string{"safe"}, Why: "x", Section: "y"}},
		"unknown policy": {{Tests: []string{"a"}, Policies: []string{"strict"}, Because: "rfc", Why: "x", Section: "y"}},
		"twice":          {explained("a", "b"), explained("b")},
	} {
		if e.valid() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := (Explanations{explained("a"), explained("b")}).valid(); err != nil {
		t.Error(err)
	}
}
