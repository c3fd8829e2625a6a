package config

import (
	"fmt"
	"math"
	"math/big"
	"net/http"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// Expressions have HCL's syntax and a language of their own: text and truth, the
// request's attributes, comparison, and a few functions. They are compiled into
// closures when the file is read, so that nothing is interpreted for a request,
// and every form that is not understood is a finding at its place. A value that
// stands in the file without "req" is the same thing, evaluated at once.

// kind is the type of a term. Nothing is converted from one kind to another.
type kind string

const (
	kindText   kind = "text"
	kindTruth  kind = "true or false"
	kindNumber kind = "a number"
	kindNull   kind = "null"
)

// term is a compiled expression.
type term struct {
	kind     kind
	constant bool                       // does not ask the request, which may be nil
	text     func(*http.Request) string // of kindText
	truth    func(*http.Request) bool   // of kindTruth
	number   int64                      // of kindNumber, which is always constant
	spelling string                     // the same for all that mean the same, constants folded
}

func constantText(s string) term {
	return term{kind: kindText, constant: true, spelling: strconv.Quote(s),
		text: func(*http.Request) string { return s }}
}

func constantTruth(b bool) term {
	return term{kind: kindTruth, constant: true, spelling: strconv.FormatBool(b),
		truth: func(*http.Request) bool { return b }}
}

// fold replaces a term made of constants by its value.
func (t term) fold(operands ...term) term {
	for i := range operands {
		if !operands[i].constant {
			return t
		}
	}
	switch t.kind {
	case kindText:
		return constantText(t.text(nil))
	case kindTruth:
		return constantTruth(t.truth(nil))
	default:
		panic("config: a term of kind " + string(t.kind) + " has operands")
	}
}

// compile translates an expression. It returns false when it has reported why it
// cannot. The depth of the tree was bounded before it was parsed.
func (d *decoder) compile(expression hclsyntax.Expression) (term, bool) {
	switch e := expression.(type) {
	case *hclsyntax.ParenthesesExpr:
		return d.compile(e.Expression)
	case *hclsyntax.LiteralValueExpr:
		return d.literal(e)
	case *hclsyntax.TemplateExpr:
		return d.template(e)
	case *hclsyntax.TemplateWrapExpr:
		return d.compileAs(e.Wrapped, kindText)
	case *hclsyntax.ScopeTraversalExpr:
		return d.attribute(e)
	case *hclsyntax.FunctionCallExpr:
		return d.call(e)
	case *hclsyntax.UnaryOpExpr:
		return d.unary(e)
	case *hclsyntax.BinaryOpExpr:
		return d.binary(e)
	case *hclsyntax.ConditionalExpr:
		return d.conditional(e)
	case *hclsyntax.TupleConsExpr:
		d.fault(e.Range().Ptr(), "A list cannot stand here", "One value is wanted here. A list may be the first argument of contains().")
	case *hclsyntax.IndexExpr:
		d.fault(e.Range().Ptr(), "Unsupported index", `Only req.header, req.cookie and req.param have elements, and the name in brackets is plain text: req.header["Accept"].`)
	default:
		d.fault(e.Range().Ptr(), "Unsupported expression", "Expressions are made of text, true and false, the attributes of req, functions, ==, !=, &&, ||, !, and condition ? a : b.")
	}
	return term{}, false
}

// compileAs compiles an expression that must be of one kind.
func (d *decoder) compileAs(e hclsyntax.Expression, want kind) (term, bool) {
	t, ok := d.compile(e)
	if !ok {
		return term{}, false
	}
	if t.kind != want {
		d.fault(e.Range().Ptr(), "Wrong type", "This must be %s, and it is %s.%s", want, t.kind, hint(e, t, want))
		return term{}, false
	}
	return t, true
}

// hint says how an expression of the wrong kind may have been meant.
func hint(e hclsyntax.Expression, t term, want kind) string {
	template, isText := e.(*hclsyntax.TemplateExpr)
	_, isAttribute := e.(*hclsyntax.ScopeTraversalExpr)
	switch {
	case want == kindText && (t.kind == kindNumber || t.kind == kindTruth && t.constant):
		return fmt.Sprintf(" Did you mean %q?", t.spelling)
	case want == kindText && t.kind == kindTruth:
		return ` It may choose between two texts: condition ? "yes" : "no".`
	case want == kindTruth && isAttribute:
		return fmt.Sprintf(` Compare it: %s != "".`, t.spelling)
	case isText && template.IsStringLiteral():
		// Only what stands in the file is offered: text may come from env too.
		s := t.text(nil)
		if want == kindTruth && (s == "true" || s == "false") || want == kindNumber && s != "" && strings.Trim(s, "0123456789") == "" {
			return fmt.Sprintf(" Did you mean %s, without quotes?", s)
		}
	}
	return ""
}

func (d *decoder) literal(e *hclsyntax.LiteralValueExpr) (term, bool) {
	switch value := e.Val; {
	case value.IsNull():
		return term{kind: kindNull, constant: true, spelling: "null"}, true
	case value.Type() == cty.String:
		return constantText(value.AsString()), true
	case value.Type() == cty.Bool:
		return constantTruth(value.True()), true
	case value.Type() == cty.Number:
		n, accuracy := value.AsBigFloat().Int64()
		if accuracy != big.Exact {
			d.fault(e.Range().Ptr(), "Unsupported number", "Numbers are whole, and at most %d.", int64(math.MaxInt64))
			return term{}, false
		}
		return term{kind: kindNumber, constant: true, number: n, spelling: strconv.FormatInt(n, 10)}, true
	default:
		panic("config: a literal of type " + value.Type().FriendlyName())
	}
}

// template compiles text with interpolations. Neighbouring constants become one
// part, and evaluating the rest allocates once, for the result.
func (d *decoder) template(e *hclsyntax.TemplateExpr) (term, bool) {
	var parts []term
	ok := true
	for _, expression := range e.Parts {
		part, partOK := d.compileAs(expression, kindText)
		if ok = ok && partOK; !ok {
			continue // the other parts may be wrong too
		}
		if last := len(parts) - 1; part.constant && last >= 0 && parts[last].constant {
			parts[last] = constantText(parts[last].text(nil) + part.text(nil))
		} else {
			parts = append(parts, part)
		}
	}
	if !ok {
		return term{}, false
	}
	return concatenate(parts), true
}

func concatenate(parts []term) term {
	if len(parts) == 0 {
		return constantText("")
	}
	if len(parts) == 1 {
		return parts[0]
	}
	var spelling strings.Builder
	texts := make([]func(*http.Request) string, len(parts))
	for i, part := range parts {
		texts[i] = part.text
		if i > 0 {
			spelling.WriteByte('+')
		}
		spelling.WriteString(part.spelling)
	}
	return term{kind: kindText, spelling: "(" + spelling.String() + ")", text: func(r *http.Request) string {
		var buffer [8]string // on the stack: most templates have fewer parts
		values := buffer[:0]
		for _, text := range texts {
			values = append(values, text(r))
		}
		return strings.Join(values, "")
	}}
}

func (d *decoder) unary(e *hclsyntax.UnaryOpExpr) (term, bool) {
	switch e.Op {
	case hclsyntax.OpLogicalNot:
		t, ok := d.compileAs(e.Val, kindTruth)
		if !ok {
			return term{}, false
		}
		return not(t), true
	case hclsyntax.OpNegate:
		t, ok := d.compileAs(e.Val, kindNumber)
		if !ok {
			return term{}, false
		}
		return term{kind: kindNumber, constant: true, number: -t.number, spelling: strconv.FormatInt(-t.number, 10)}, true
	default:
		panic("config: an unknown unary operator")
	}
}

func not(t term) term {
	truth := t.truth
	return term{kind: kindTruth, spelling: "!" + t.spelling,
		truth: func(r *http.Request) bool { return !truth(r) }}.fold(t)
}

func (d *decoder) binary(e *hclsyntax.BinaryOpExpr) (term, bool) {
	switch e.Op {
	case hclsyntax.OpLogicalAnd, hclsyntax.OpLogicalOr:
		a, okA := d.compileAs(e.LHS, kindTruth)
		b, okB := d.compileAs(e.RHS, kindTruth)
		if !okA || !okB {
			return term{}, false
		}
		if e.Op == hclsyntax.OpLogicalAnd {
			return and(a, b), true
		}
		return or(a, b), true
	case hclsyntax.OpEqual, hclsyntax.OpNotEqual:
		a, okA := d.compile(e.LHS)
		b, okB := d.compile(e.RHS)
		if !okA || !okB {
			return term{}, false
		}
		if a.kind != b.kind || a.kind != kindText && a.kind != kindTruth {
			d.fault(e.Range().Ptr(), "Wrong type", "Both sides of a comparison must be text, or both true or false. The left side is %s, the right side is %s.%s%s",
				a.kind, b.kind, hint(e.LHS, a, b.kind), hint(e.RHS, b, a.kind))
			return term{}, false
		}
		t := equal(a, b)
		if e.Op == hclsyntax.OpNotEqual {
			t = not(t)
		}
		return t, true
	default:
		d.fault(e.Range().Ptr(), "Unsupported operator", "The operators are ==, !=, &&, || and !. Text is joined in a template: \"${req.host}${req.path}\".")
		return term{}, false
	}
}

func and(a, b term) term {
	x, y := a.truth, b.truth
	return term{kind: kindTruth, spelling: "(" + a.spelling + "&&" + b.spelling + ")",
		truth: func(r *http.Request) bool { return x(r) && y(r) }}.fold(a, b)
}

func or(a, b term) term {
	x, y := a.truth, b.truth
	return term{kind: kindTruth, spelling: "(" + a.spelling + "||" + b.spelling + ")",
		truth: func(r *http.Request) bool { return x(r) || y(r) }}.fold(a, b)
}

// equal compares two terms of one kind.
func equal(a, b term) term {
	t := term{kind: kindTruth, spelling: "(" + a.spelling + "==" + b.spelling + ")"}
	if a.kind == kindTruth {
		x, y := a.truth, b.truth
		t.truth = func(r *http.Request) bool { return x(r) == y(r) }
	} else {
		x, y := a.text, b.text
		t.truth = func(r *http.Request) bool { return x(r) == y(r) }
	}
	return t.fold(a, b)
}

func (d *decoder) conditional(e *hclsyntax.ConditionalExpr) (term, bool) {
	condition, ok := d.compileAs(e.Condition, kindTruth)
	a, okA := d.compile(e.TrueResult)
	b, okB := d.compile(e.FalseResult)
	if !ok || !okA || !okB {
		return term{}, false
	}
	if a.kind != b.kind || a.kind != kindText && a.kind != kindTruth {
		d.fault(e.Range().Ptr(), "Wrong type", "Both results must be text, or both true or false. The first is %s, the second is %s.%s%s",
			a.kind, b.kind, hint(e.TrueResult, a, b.kind), hint(e.FalseResult, b, a.kind))
		return term{}, false
	}
	if condition.constant {
		if condition.truth(nil) {
			return a, true
		}
		return b, true
	}
	return choose(condition, a, b), true
}

func choose(condition, a, b term) term {
	t := term{kind: a.kind, spelling: "(" + condition.spelling + "?" + a.spelling + ":" + b.spelling + ")"}
	ask := condition.truth
	if a.kind == kindTruth {
		x, y := a.truth, b.truth
		t.truth = func(r *http.Request) bool {
			if ask(r) {
				return x(r)
			}
			return y(r)
		}
	} else {
		x, y := a.text, b.text
		t.text = func(r *http.Request) string {
			if ask(r) {
				return x(r)
			}
			return y(r)
		}
	}
	return t
}
