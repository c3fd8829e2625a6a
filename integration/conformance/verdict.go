package main

import (
	"encoding/json"
	"fmt"
)

// Result is what the suite's client found for one test: passed, or the kind of
// failure (Assertion, Setup, AbortError, ...) and its message.
type Result struct {
	Passed  bool
	Kind    string
	Message string
}

// UnmarshalJSON reads the suite's form: true, or an array of kind and message.
func (r *Result) UnmarshalJSON(data []byte) error {
	if json.Unmarshal(data, &r.Passed) == nil {
		return nil
	}
	var failure []string
	if err := json.Unmarshal(data, &failure); err != nil || len(failure) != 2 {
		return fmt.Errorf("a test result is neither true nor a kind with its message: %s", data)
	}
	*r = Result{Kind: failure[0], Message: failure[1]}
	return nil
}

// Status is the class of a test's end, as the suite's own displays tell them apart.
type Status string

const (
	Passed     Status = "passed"            // for a check: yes
	Failed     Status = "failed"            // for a check: no
	SetupFail  Status = "setup failed"      // what the test builds on did not hold
	Retried    Status = "retried"           // the proxy sent a request to the origin twice
	Harness    Status = "no answer"         // the request was given up
	Dependency Status = "dependency failed" // a test that this one presupposes did not pass
	Untested   Status = "untested"          // no result in time
)

// Verdict is a test's status with its reason.
type Verdict struct {
	Status  Status
	Message string // the suite's own, "" when passed
	Depends string // for Dependency: the first test that did not pass
}

// judge gives each test that a proxy is to run its verdict, by the rules of
// determineTestResult in the suite: a dependency that did not pass comes before
// the test's own result, and only Passed counts.
func judge(groups []Group, results map[string]Result) map[string]Verdict {
	tests := map[string]Test{}
	for _, group := range groups {
		for _, test := range group.Tests {
			if _, twice := tests[test.ID]; twice {
				panic("conformance: the suite defines " + test.ID + " twice")
			}
			tests[test.ID] = test
		}
	}
	verdicts := map[string]Verdict{}
	visiting := map[string]bool{}
	var of func(id string) Verdict
	of = func(id string) Verdict {
		if v, done := verdicts[id]; done {
			return v
		}
		test, defined := tests[id]
		if !defined {
			panic("conformance: a test depends on " + id + ", which the suite does not define")
		}
		if visiting[id] {
			panic("conformance: the suite's test " + id + " depends on itself")
		}
		visiting[id] = true
		verdict := own(results, id)
		for _, dependency := range test.DependsOn {
			// Without a result the suite says untested, whatever came before.
			if verdict.Status != Untested && of(dependency).Status != Passed {
				verdict = Verdict{Status: Dependency, Message: verdict.Message, Depends: dependency}
				break
			}
		}
		verdicts[id] = verdict
		return verdict
	}
	for id, test := range tests {
		if !test.BrowserOnly {
			of(id)
		}
	}
	return verdicts
}

// own is a test's verdict by its own result alone.
func own(results map[string]Result, id string) Verdict {
	result, ran := results[id]
	switch {
	case !ran:
		return Verdict{Status: Untested, Message: "no result within the bound of the run"}
	case result.Passed:
		return Verdict{Status: Passed}
	case result.Kind == "Setup" && result.Message == "retry":
		return Verdict{Status: Retried, Message: result.Message}
	case result.Kind == "Setup":
		return Verdict{Status: SetupFail, Message: result.Message}
	case result.Kind == "AbortError":
		return Verdict{Status: Harness, Message: result.Message}
	default:
		return Verdict{Status: Failed, Message: result.Kind + ": " + result.Message}
	}
}

// Tally counts verdicts of one kind of test.
type Tally struct {
	Passed, Failed, Total int // Failed: a definite no; the rest has another status
}

func (t Tally) String() string { return fmt.Sprintf("%d/%d", t.Passed, t.Total) }

// Tallies are the counts for required, optional and check tests.
type Tallies struct{ Required, Optional, Check Tally }

// tally counts the tests of groups.
func tally(verdicts map[string]Verdict, groups ...Group) Tallies {
	var t Tallies
	for _, group := range groups {
		for _, test := range group.Tests {
			if !test.BrowserOnly {
				t.of(test.Kind).add(verdicts[test.ID].Status)
			}
		}
	}
	return t
}

func (t *Tallies) of(kind string) *Tally {
	switch kind {
	case "required":
		return &t.Required
	case "optimal":
		return &t.Optional
	case "check":
		return &t.Check
	default:
		panic("conformance: the suite has tests of an unknown kind " + kind)
	}
}

func (t *Tally) add(s Status) {
	t.Total++
	switch s {
	case Passed:
		t.Passed++
	case Failed:
		t.Failed++
	}
}
