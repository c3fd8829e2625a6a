package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Explanation is the reason why some tests do not pass: they ask for what a
// policy refuses on purpose, or for what the RFC does not ask.
type Explanation struct {
	Tests    []string `json:"tests"`
	Policies []string `json:"policies"` // those under which the tests fail
	Because  string   `json:"because"`  // the kind of reason, a key of becauses
	Why      string   `json:"why"`
	Section  string   `json:"section"` // of the RFC, or of the policy's table
}

// because is a kind of reason, and how the report names it.
type because struct{ key, title string }

// becauses are the kinds of reason, in the report's order.
var becauses = []because{
	{"rfc", "the RFC says otherwise"},
	{"policy", "the policy refuses it on purpose"},
	{"choice", "left open by the RFC, or no part of it"},
}

// Explanations is the content of explanations.json.
type Explanations []Explanation

func loadExplanations(path string) (Explanations, error) {
	var e Explanations
	if err := readJSON(path, &e); err != nil {
		return nil, err
	}
	return e, e.valid()
}

// valid refuses an explanation that says nothing and two for the same failure.
func (e Explanations) valid() error {
	type failure struct{ test, policy string }
	seen := map[failure]bool{}
	for i, x := range e {
		if len(x.Tests) == 0 || len(x.Policies) == 0 || x.Why == "" || x.Section == "" {
			return fmt.Errorf("explanation %d lacks tests, policies, why or section", i+1)
		}
		if !slices.ContainsFunc(becauses, func(b because) bool { return b.key == x.Because }) {
			return fmt.Errorf("explanation %d has an unknown kind of reason %q", i+1, x.Because)
		}
		for _, policy := range x.Policies {
			if !slices.Contains(policies, policy) {
				return fmt.Errorf("explanation %d names an unknown policy %q", i+1, policy)
			}
			for _, test := range x.Tests {
				if seen[failure{test, policy}] {
					return fmt.Errorf("test %s is explained twice under policy %s", test, policy)
				}
				seen[failure{test, policy}] = true
			}
		}
	}
	return nil
}

// of finds the explanation of a test under a policy; nil when there is none.
func (e Explanations) of(test, policy string) *Explanation {
	i := slices.IndexFunc(e, func(x Explanation) bool {
		return slices.Contains(x.Tests, test) && slices.Contains(x.Policies, policy)
	})
	if i < 0 {
		return nil
	}
	return &e[i]
}

// check compares the explanations with what happened: each failed test must be
// explained, or depend on one that is; each explanation must be of a failed test.
func (e Explanations) check(groups []Group, columns []Column) error {
	var problems []error
	kinds := map[string]string{}
	for _, group := range groups {
		for _, test := range group.Tests {
			kinds[test.ID] = test.Kind
		}
	}
	for _, column := range columns {
		for _, failure := range failures(groups, column) {
			if failure.Status != Dependency && e.of(failure.Test.ID, column.Name) == nil {
				problems = append(problems, fmt.Errorf("unexplained under policy %s: %s: %s: %s",
					column.Name, failure.Test.ID, failure.Status, failure.Message))
			}
		}
		for _, x := range e {
			if !slices.Contains(x.Policies, column.Name) {
				continue
			}
			for _, id := range x.Tests {
				switch verdict, run := column.Verdicts[id]; {
				case !run:
					problems = append(problems, fmt.Errorf("explained, but not a test of the suite: %s", id))
				case kinds[id] == "check":
					problems = append(problems, fmt.Errorf("explained, but a check, which nothing asks to pass: %s", id))
				case verdict.Status == Passed:
					problems = append(problems, fmt.Errorf("explained, but passes under policy %s: %s", column.Name, id))
				case verdict.Status == Dependency:
					problems = append(problems, fmt.Errorf("explained, but fails under policy %s only because %s does: %s", column.Name, verdict.Depends, id))
				}
			}
		}
	}
	return errors.Join(problems...)
}

// Failure is a required or optional test that did not pass.
type Failure struct {
	Test Test
	Verdict
}

// failures lists what did not pass in a column, required tests first, else in
// the order of the suite. Checks are questions without a right answer.
func failures(groups []Group, column Column) []Failure {
	var list []Failure
	for _, group := range groups {
		for _, test := range group.Tests {
			verdict := column.Verdicts[test.ID]
			if !test.BrowserOnly && test.Kind != "check" && verdict.Status != Passed {
				list = append(list, Failure{Test: test, Verdict: verdict})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b Failure) int {
		return cmp.Compare(b.Test.Kind, a.Test.Kind) // "required" after "optimal" in the alphabet
	})
	return list
}
