package config

import (
	"bytes"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Findings are shown on terminals, in logs and in the answers of other programs, with
// the line they are about. So what may be secret in a line is made unreadable first:
// the value of a name that sounds like a secret, and text that holds a URL with a
// user. It goes by the tokens and not by the tree, since it is the file with a
// mistake in it, in a name or in the syntax, that is quoted.

// quotable is a source as it may be shown.
type quotable struct {
	file    *hcl.File // nil when there is none
	secrets []secret  // what was made unreadable in it
}

type secret struct {
	at   hcl.Range
	text string
}

// quotable returns the file with its secrets made unreadable, if something of it is
// to be quoted.
func (f *findings) quotable() quotable {
	if f.file == nil || !slices.ContainsFunc(f.diags, func(diag *hcl.Diagnostic) bool { return diag.Subject != nil }) {
		return quotable{}
	}
	q := quotable{file: &hcl.File{Body: f.file.Body, Bytes: slices.Clone(f.file.Bytes), Nav: f.file.Nav}}
	for _, at := range secretPlaces(f.file.Bytes) {
		q.secrets = append(q.secrets, secret{at, string(at.SliceBytes(f.file.Bytes))})
		for i := at.Start.Byte; i < at.End.Byte; i++ {
			if q.file.Bytes[i] != '\n' {
				q.file.Bytes[i] = '*'
			}
		}
	}
	return q
}

// discreet returns the finding with the secrets that stand at its place made
// unreadable in its detail too.
func (q quotable) discreet(diag *hcl.Diagnostic) *hcl.Diagnostic {
	for _, s := range q.secrets {
		here := diag.Subject != nil && diag.Subject.Start.Byte < s.at.End.Byte && s.at.Start.Byte < diag.Subject.End.Byte
		// Only as details name things, in quotes: a word of theirs may be a secret, too.
		if name := `"` + s.text + `"`; here && strings.Contains(diag.Detail, name) {
			copied := *diag
			copied.Detail = strings.ReplaceAll(diag.Detail, name, `"`+strings.Repeat("*", len(s.text))+`"`)
			diag = &copied
		}
	}
	return diag
}

// secretNames are what the names of secrets have in them.
var secretNames = []string{"pass", "pwd", "secr", "token", "auth"}

func isSecretName(name string) bool {
	if len(name) > 64 {
		return false
	}
	name = strings.ToLower(name)
	return slices.ContainsFunc(secretNames, func(part string) bool { return strings.Contains(name, part) }) ||
		levenshtein.Distance(name, "secret", nil) <= 2 || levenshtein.Distance(name, "password", nil) <= 2
}

// secretPlaces returns the places in src that may be secret. It looks at each token
// once: the file may be one that was refused for its size or depth.
func secretPlaces(src []byte) (places []hcl.Range) {
	tokens, _ := hclsyntax.LexConfig(src, "", hcl.InitialPos)
	var open texts
	for i := 0; i < len(tokens); i++ {
		switch token := &tokens[i]; token.Type {
		case hclsyntax.TokenEqual:
			if isSecretName(nameBefore(tokens[:i])) {
				value, length := secretValue(tokens[i+1:])
				places = append(places, value...)
				i += length
			}
		case hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc:
			open = append(open, text{begin: token.Range.End})
		case hclsyntax.TokenQuotedLit, hclsyntax.TokenStringLit:
			open.holds(token.Bytes)
		case hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc, hclsyntax.TokenQuotedNewline:
			places = open.end(token.Range.Start, places)
		}
	}
	for len(open) > 0 {
		places = open.end(tokens[len(tokens)-1].Range.Start, places)
	}
	return places
}

// texts are those that are open at a token, the innermost last.
type texts []text

type text struct {
	begin    hcl.Pos
	url, who bool // it holds "://" or "@", in what it interpolates too
}

func (open texts) holds(part []byte) {
	if n := len(open); n > 0 {
		open[n-1].url = open[n-1].url || bytes.Contains(part, []byte("://"))
		open[n-1].who = open[n-1].who || bytes.Contains(part, []byte("@"))
	}
}

// end closes the innermost text. An outermost one that is a URL with a user becomes a
// place.
func (open *texts) end(at hcl.Pos, places []hcl.Range) []hcl.Range {
	last := len(*open) - 1
	if last < 0 {
		return places
	}
	ended := (*open)[last]
	*open = (*open)[:last]
	if last > 0 {
		outer := &(*open)[last-1]
		outer.url, outer.who = outer.url || ended.url, outer.who || ended.who
	} else if ended.url && ended.who {
		places = append(places, hcl.Range{Start: ended.begin, End: at})
	}
	return places
}

// nameBefore returns the name that ends the tokens, which may be in quotes.
func nameBefore(tokens hclsyntax.Tokens) string {
	if n := len(tokens); n > 1 && tokens[n-1].Type == hclsyntax.TokenCQuote {
		tokens = tokens[:n-1]
	}
	if n := len(tokens); n > 0 && (tokens[n-1].Type == hclsyntax.TokenIdent || tokens[n-1].Type == hclsyntax.TokenQuotedLit) {
		return string(tokens[n-1].Bytes)
	}
	return ""
}

// secretValue returns the words and texts of the value that begins the tokens, up to
// the end of its line, and how many tokens it has. The names in env("NAME") and
// file("NAME") are no secrets.
func secretValue(tokens hclsyntax.Tokens) (places []hcl.Range, length int) {
	depth, i := 0, 0
	for ; i < len(tokens); i++ {
		switch token := &tokens[i]; token.Type {
		case hclsyntax.TokenNewline, hclsyntax.TokenComment:
			if depth == 0 && bytes.HasSuffix(token.Bytes, []byte("\n")) {
				return places, i
			}
		case hclsyntax.TokenQuotedNewline: // a text that is not closed: what follows is read wrongly
			return places, i
		case hclsyntax.TokenIdent:
			called := i+1 < len(tokens) && tokens[i+1].Type == hclsyntax.TokenOParen
			if name := string(token.Bytes); called && (name == "env" || name == "file") {
				i += slices.IndexFunc(tokens[i:], func(t hclsyntax.Token) bool {
					return t.Type == hclsyntax.TokenCParen || t.Type == hclsyntax.TokenEOF
				})
			} else if !called {
				places = append(places, token.Range)
			}
		case hclsyntax.TokenNumberLit, hclsyntax.TokenQuotedLit, hclsyntax.TokenStringLit, hclsyntax.TokenInvalid, hclsyntax.TokenBadUTF8:
			places = append(places, token.Range)
		default:
			if depth += nesting(token.Type); depth < 0 {
				return places, i // what the value stands in ends here
			}
		}
	}
	return places, i
}

// nesting is 1 for a token that opens a bracket, -1 for one that closes it.
func nesting(t hclsyntax.TokenType) int {
	if _, opens := closers[t]; opens {
		return 1
	}
	for _, closer := range closers {
		if t == closer {
			return -1
		}
	}
	return 0
}
