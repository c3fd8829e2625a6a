package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	safe := Column{Name: "safe", Verdicts: judge(sample, decodeResults(t,
		`{"base":true,"middle":["Setup","status is 500"],"end":true,"asked":["Assertion","no"],"after-asked":["Assertion","no"]}`))}
	rfc := Column{Name: "rfc", Verdicts: judge(sample, decodeResults(t,
		`{"base":true,"middle":true,"end":true,"asked":true,"after-asked":true}`))}
	text := string(report(sample, []Column{safe, rfc}, Explanations{explained("middle")}))
	for _, want := range []string{
		"\n| `safe` | 1/2 | 0/2 | 0 | 1 | 0 |\n",
		"\n| `rfc` | 2/2 | 2/2 | 1 | 0 | 0 |\n",
		"\n| `safe` | 0, 0 | 0, 1 | 0, 0 | 1, 1 | 0, 0 |\n| `rfc` | 0, 0 | 0, 0 | 0, 0 | 0, 0 | 0, 0 |\n",
		"\n| First \\| part | 1/2 | 0/1 | - | 2/2 | 1/1 | - |\n",
		"\n| `end` | required | depends on `middle` |  |\n| `middle` | optional | refused on purpose | RFC 9111 section 3 |\n| `after-asked` | optional | depends on `asked` |  |\n",
		"\n## Not passed under `rfc`\n\nNone.\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
	if text := string(report(sample, []Column{safe}, nil)); !strings.Contains(text, "| `middle` | optional | **unexplained**: setup failed |") {
		t.Errorf("an unexplained failure is not named as such:\n%s", text)
	}
}

// The committed report must be what the committed explanations say: a reason
// changed without a new run, or a report edited by hand, would go unnoticed.
func TestResultsAgreeWithExplanations(t *testing.T) {
	explanations, err := loadExplanations("explanations.json")
	if err != nil {
		t.Fatal(err)
	}
	results, err := os.ReadFile("RESULTS.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (?:required|optional) \\| (.*) \\| (.*) \\|$")
	for _, policy := range policies {
		_, section, found := strings.Cut(string(results), "\n## Not passed under `"+policy+"`\n")
		if !found {
			t.Fatalf("RESULTS.md has no section on policy %s", policy)
		}
		section, _, _ = strings.Cut(section, "\n## ")
		reported := map[string]bool{}
		for _, row := range rows.FindAllStringSubmatch(section, -1) {
			id, why, where := row[1], row[2], row[3]
			if strings.HasPrefix(why, "depends on `") {
				continue
			}
			reported[id] = true
			if x := explanations.of(id, policy); x == nil || cell(x.Why) != why || cell(x.Section) != where {
				t.Errorf("%s under policy %s: RESULTS.md says %q (%s), explanations.json %+v", id, policy, why, where, x)
			}
		}
		for _, x := range explanations {
			for _, id := range x.Tests {
				if x := explanations.of(id, policy); x != nil && !reported[id] {
					t.Errorf("%s is explained for policy %s and not in RESULTS.md", id, policy)
				}
			}
		}
	}
}
