package main

import (
	"encoding/json"
	"testing"
)

// The sample has each kind of test, a chain of dependencies and a browser's test.
var sample = []Group{
	{ID: "one", Name: "First | part", Tests: []Test{
		{ID: "base", Kind: "required"},
		{ID: "middle", Kind: "optimal", DependsOn: []string{"base"}},
		{ID: "end", Kind: "required", DependsOn: []string{"middle"}},
		{ID: "browser", Kind: "required", BrowserOnly: true},
	}},
	{ID: "two", Name: "Second", Tests: []Test{
		{ID: "asked", Kind: "check"},
		{ID: "after-asked", Kind: "optimal", DependsOn: []string{"base", "asked"}},
	}},
}

func decodeResults(t *testing.T, text string) map[string]Result {
	t.Helper()
	var results map[string]Result
	if err := json.Unmarshal([]byte(text), &results); err != nil {
		t.Fatal(err)
	}
	return results
}

func TestAllPassed(t *testing.T) {
	verdicts := judge(sample, decodeResults(t, `{"base":true,"middle":true,"end":true,"asked":true,"after-asked":true}`))
	got := tally(verdicts, sample...)
	want := Tallies{Required: Tally{2, 0, 2}, Optional: Tally{2, 0, 2}, Check: Tally{1, 0, 1}}
	if got != want {
		t.Errorf("tally %+v, want %+v", got, want)
	}
	if _, judged := verdicts["browser"]; judged {
		t.Error("a browser's test was judged")
	}
}

func TestAFailurePullsDownWhatDependsOnIt(t *testing.T) {
	verdicts := judge(sample, decodeResults(t,
		`{"base":["Assertion","Response 2 comes from cache"],"middle":true,"end":true,"asked":true,"after-asked":true}`))
	for id, want := range map[string]Verdict{
		"base":        {Status: Failed, Message: "Assertion: Response 2 comes from cache"},
		"middle":      {Status: Dependency, Depends: "base"},
		"end":         {Status: Dependency, Depends: "middle"},
		"asked":       {Status: Passed},
		"after-asked": {Status: Dependency, Depends: "base"},
	} {
		if got := verdicts[id]; got != want {
			t.Errorf("%s: %+v, want %+v", id, got, want)
		}
	}
	if got := tally(verdicts, sample...).Required; got != (Tally{0, 1, 2}) {
		t.Errorf("required %+v", got)
	}
}

// A check that answers no is no failure, yet what builds on a yes has no ground.
func TestACheckThatSaysNoFailsItsDependents(t *testing.T) {
	verdicts := judge(sample, decodeResults(t,
		`{"base":true,"middle":true,"end":true,"asked":["Assertion","no"],"after-asked":true}`))
	if got := verdicts["after-asked"]; got != (Verdict{Status: Dependency, Depends: "asked"}) {
		t.Errorf("%+v", got)
	}
	if got := len(failures(sample, Column{Verdicts: verdicts})); got != 1 {
		t.Errorf("%d failures, want only the dependent", got)
	}
}

func TestStatusOfOneResult(t *testing.T) {
	for text, want := range map[string]Status{
		`{"base":true}`: Passed,
		`{"base":["Assertion","Response 2 ..."]}`:   Failed,
		`{"base":["TypeError","x is undefined"]}`:   Failed,
		`{"base":["Setup","status is 500"]}`:        SetupFail,
		`{"base":["Setup","retry"]}`:                Retried,
		`{"base":["AbortError","was aborted"]}`:     Harness,
		`{"middle":["Assertion","Response 2 ..."]}`: Untested,
	} {
		verdicts := judge(sample, decodeResults(t, text))
		if got := verdicts["base"].Status; got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestResultOfAnUnknownForm(t *testing.T) {
	for _, text := range []string{`"passed"`, `["Assertion"]`, `{"kind":"Assertion"}`, `7`} {
		var r Result
		if err := json.Unmarshal([]byte(text), &r); err == nil {
			t.Errorf("%s accepted as %+v", text, r)
		}
	}
}

func TestNarrowJudgesATestByItself(t *testing.T) {
	suite := &Suite{Groups: sample}
	if err := suite.narrow([]string{"end", "nothing-like-it"}); err == nil {
		t.Error("an unknown test was accepted")
	}
	if err := suite.narrow([]string{"end"}); err != nil {
		t.Fatal(err)
	}
	verdicts := judge(suite.Groups, decodeResults(t, `{"end":true}`))
	if got := tally(verdicts, suite.Groups...); got != (Tallies{Required: Tally{1, 0, 1}}) {
		t.Errorf("tally %+v", got)
	}
	if sample[0].Tests[2].DependsOn == nil {
		t.Error("narrow changed the definitions that it was given")
	}
}
