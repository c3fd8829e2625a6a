package config

import (
	"bytes"
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// The parser and everything that walks its tree recurse, and a stack that
// overflows ends the process with nothing to catch it. So a file is measured by
// its tokens before it is parsed.
const (
	maxFileSize  = 2 * mib
	maxDepth     = 100  // brackets open at a time, of all kinds
	maxOperators = 1000 // operators and brackets of one expression: each may nest the tree by one
)

// closers are the tokens that open a bracket, with the one that closes each.
var closers = map[hclsyntax.TokenType]hclsyntax.TokenType{
	hclsyntax.TokenOBrace:          hclsyntax.TokenCBrace,
	hclsyntax.TokenOBrack:          hclsyntax.TokenCBrack,
	hclsyntax.TokenOParen:          hclsyntax.TokenCParen,
	hclsyntax.TokenOQuote:          hclsyntax.TokenCQuote,
	hclsyntax.TokenOHeredoc:        hclsyntax.TokenCHeredoc,
	hclsyntax.TokenTemplateInterp:  hclsyntax.TokenTemplateSeqEnd,
	hclsyntax.TokenTemplateControl: hclsyntax.TokenTemplateSeqEnd,
}

// tooLarge says what keeps src from being parsed, and where, or "".
func tooLarge(name string, src []byte) (at *hcl.Range, problem string) {
	if len(src) > maxFileSize {
		return nil, fmt.Sprintf("%s is larger than %d MiB, the most that a configuration may have.", name, maxFileSize/mib)
	}
	// What the lexer finds wrong, the parser reports.
	tokens, _ := hclsyntax.LexConfig(src, name, hcl.InitialPos)
	var open []*hclsyntax.Token
	operators := 0
	for i := range tokens {
		token := &tokens[i]
		if _, opens := closers[token.Type]; opens {
			if open = append(open, token); len(open) > maxDepth {
				return &token.Range, fmt.Sprintf("More than %d brackets are open here.", maxDepth)
			}
		} else if last := len(open) - 1; last >= 0 && closers[open[last].Type] == token.Type {
			open = open[:last] // a closer that does not fit closes nothing: the count may only be too high
		}

		inLine := len(open) > 0 && open[len(open)-1].Type != hclsyntax.TokenOBrace
		switch token.Type {
		case hclsyntax.TokenNewline, hclsyntax.TokenComment:
			// In a body or an object the end of a line ends the expression. A comment
			// to the end of the line holds that end.
			if !inLine && bytes.HasSuffix(token.Bytes, []byte("\n")) {
				operators = 0
			}
		case hclsyntax.TokenIdent, hclsyntax.TokenNumberLit, hclsyntax.TokenQuotedLit, hclsyntax.TokenStringLit,
			hclsyntax.TokenComma, hclsyntax.TokenOQuote, hclsyntax.TokenCQuote:
			// These join nothing.
		default:
			if operators++; operators <= maxOperators {
				break
			}
			problem = fmt.Sprintf("The expression has more than %d operators and brackets.", maxOperators)
			for _, bracket := range open {
				if bracket.Type != hclsyntax.TokenOBrace {
					return &bracket.Range, problem + " Is this bracket closed?"
				}
			}
			return &token.Range, problem
		}
	}
	return nil, ""
}
