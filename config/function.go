package config

import (
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// functionNames are the functions of expressions, in the order of the manual.
var functionNames = []string{"contains", "starts_with", "ends_with", "regex", "lower", "upper", "env"}

// call compiles a function call.
func (d *decoder) call(e *hclsyntax.FunctionCallExpr) (term, bool) {
	if e.Name == "file" {
		d.fault(e.Range().Ptr(), "A list cannot stand here", "The lines of a file are a list, which may be the first argument of contains().")
		return term{}, false
	}
	if !slices.Contains(functionNames, e.Name) {
		suggestion := didYouMean(e.Name, functionNames)
		if suggestion == "" {
			suggestion = " The functions are " + strings.Join(functionNames, ", ") + "."
		}
		d.fault(&e.NameRange, "Unknown function", "There is no function named %q.%s", e.Name, suggestion)
		return term{}, false
	}
	if e.ExpandFinal {
		d.fault(e.Range().Ptr(), "Unsupported expression", "Arguments are written one by one; \"...\" is not supported.")
		return term{}, false
	}
	want := 2
	if e.Name == "lower" || e.Name == "upper" || e.Name == "env" {
		want = 1
	}
	if len(e.Args) != want {
		d.fault(e.Range().Ptr(), "Wrong number of arguments", "The function %s takes %d, and has %d here.", e.Name, want, len(e.Args))
		return term{}, false
	}
	if list, ok := e.Args[0].(*hclsyntax.TupleConsExpr); ok && e.Name == "contains" {
		return d.containsElement(list, e.Args[1])
	}
	if list, ok := e.Args[0].(*hclsyntax.FunctionCallExpr); ok && e.Name == "contains" && list.Name == "file" {
		return d.containsLine(list, e.Args[1])
	}

	args := make([]term, len(e.Args))
	ok := true
	for i, arg := range e.Args {
		var argOK bool
		args[i], argOK = d.compileAs(arg, kindText)
		ok = ok && argOK
	}
	if !ok {
		return term{}, false
	}
	switch e.Name {
	case "contains":
		return textTest(e.Name, strings.Contains, args), true
	case "starts_with":
		return textTest(e.Name, strings.HasPrefix, args), true
	case "ends_with":
		return textTest(e.Name, strings.HasSuffix, args), true
	case "lower":
		return textChange(e.Name, strings.ToLower, args[0]), true
	case "upper":
		return textChange(e.Name, strings.ToUpper, args[0]), true
	case "regex":
		return d.regex(e.Args[0], args[0], args[1])
	case "env":
		return d.environment(e.Args[0], args[0])
	default:
		panic("config: the function " + e.Name + " is listed and not compiled")
	}
}

func textTest(name string, test func(s, part string) bool, args []term) term {
	s, part := args[0].text, args[1].text
	return term{kind: kindTruth, spelling: name + "(" + args[0].spelling + "," + args[1].spelling + ")",
		truth: func(r *http.Request) bool { return test(s(r), part(r)) }}.fold(args...)
}

func textChange(name string, change func(string) string, arg term) term {
	s := arg.text
	return term{kind: kindText, spelling: name + "(" + arg.spelling + ")",
		text: func(r *http.Request) string { return change(s(r)) }}.fold(arg)
}

// containsElement compiles contains(["a", "b"], s).
func (d *decoder) containsElement(list *hclsyntax.TupleConsExpr, element hclsyntax.Expression) (term, bool) {
	ok := true
	var values, spellings []string
	for _, expression := range list.Exprs {
		value, valueOK := d.constantText(expression)
		ok = ok && valueOK
		values = append(values, value)
		spellings = append(spellings, constantText(value).spelling)
	}
	arg, argOK := d.compileAs(element, kindText)
	if !ok || !argOK {
		return term{}, false
	}
	s := arg.text
	return term{kind: kindTruth, spelling: "contains([" + strings.Join(spellings, ",") + "]," + arg.spelling + ")",
		truth: func(r *http.Request) bool { return slices.Contains(values, s(r)) }}.fold(arg), true
}

// containsLine compiles contains(file("name"), s).
func (d *decoder) containsLine(list *hclsyntax.FunctionCallExpr, element hclsyntax.Expression) (term, bool) {
	values, spelling, ok := d.linesOf(list)
	arg, argOK := d.compileAs(element, kindText)
	if !ok || !argOK {
		return term{}, false
	}
	s := arg.text
	return term{kind: kindTruth, spelling: "contains(" + spelling + "," + arg.spelling + ")",
		truth: func(r *http.Request) bool {
			_, found := values[s(r)]
			return found
		}}.fold(arg), true
}

// regex compiles regex(pattern, s): whether the pattern (RE2 syntax) is found in s.
func (d *decoder) regex(at hclsyntax.Expression, pattern, arg term) (term, bool) {
	if !pattern.constant {
		d.fault(at.Range().Ptr(), "The pattern is not constant", "A pattern is compiled when the file is read, so it cannot depend on the request.")
		return term{}, false
	}
	compiled, err := regexp.Compile(pattern.text(nil))
	if err != nil {
		d.fault(at.Range().Ptr(), "Malformed pattern", "The pattern cannot be compiled: %s.", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		return term{}, false
	}
	s := arg.text
	return term{kind: kindTruth, spelling: "regex(" + pattern.spelling + "," + arg.spelling + ")",
		truth: func(r *http.Request) bool { return compiled.MatchString(s(r)) }}.fold(arg), true
}

// environment reads env("NAME"), once, when the file is read.
func (d *decoder) environment(at hclsyntax.Expression, name term) (term, bool) {
	if !name.constant {
		d.fault(at.Range().Ptr(), "The name is not constant", "The environment is read with the file, so the name of a variable cannot depend on the request.")
		return term{}, false
	}
	value, ok := d.lookup(name.text(nil))
	if !ok {
		d.fault(at.Range().Ptr(), "Unset environment variable", "The environment variable %s is not set.", name.text(nil))
		return term{}, false
	}
	return constantText(value), true
}
