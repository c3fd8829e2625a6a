package config

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// decoder makes a Config of a file. First every block is read by a table of its
// lines; what depends on several lines is checked and resolved when all are known.
type decoder struct {
	findings
	lookup func(string) (string, bool) // the environment
	name   string                      // of the file; "" for the command line

	config   *Config
	origin   Origin           // defaults of an origin
	policies map[string]Cache // what each policy starts from

	policy  *string           // the file's own policy line; nil for none
	cache   *cacheLines       // the file's own cache block; nil for none
	origins []*originBlock    // as read
	sites   []*siteBlock      // as read
	limits  []*limitBlock     // as read
	tokens  []*tokenBlock     // as read
	places  map[any]hcl.Range // where the value behind a pointer into the Config was written

	clientIP func(*http.Request) string // what req.client_ip is in the expression that is compiled

	// Some line was refused. What holds its default instead is not compared with
	// other lines, or one mistake would be reported as several.
	incomplete bool
}

// textAt is text with its place.
type textAt struct {
	text string
	at   hcl.Range
}

func newDecoder(lookup func(string) (string, bool)) *decoder {
	d := &decoder{lookup: lookup, places: make(map[any]hcl.Range), clientIP: clientIP}
	var node Config
	node, d.origin, d.policies = defaults()
	d.config = &node
	return d
}

// lines are the attributes of a block: what to do with the expression of each.
type lines map[string]func(hclsyntax.Expression)

// blocks are the blocks within a block.
type blocks map[string]blockType

type blockType struct {
	named bool // has a label, and may come several times under different names
	read  func(*hcl.Block)
}

// body reads the content of a block. Names that are in no table are refused with
// a suggestion.
func (d *decoder) body(body hcl.Body, lines lines, blocks blocks) {
	// Sorted, since of several near names the first is suggested.
	schema := &hcl.BodySchema{}
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		schema.Attributes = append(schema.Attributes, hcl.AttributeSchema{Name: name})
	}
	for _, name := range slices.Sorted(maps.Keys(blocks)) {
		header := hcl.BlockHeaderSchema{Type: name}
		if blocks[name].named {
			header.LabelNames = []string{"name"}
		}
		schema.Blocks = append(schema.Blocks, header)
	}
	content, diags := body.Content(schema)
	d.diags = append(d.diags, diags...)

	attributes := slices.SortedFunc(maps.Values(content.Attributes), func(a, b *hcl.Attribute) int {
		return cmp.Compare(a.Range.Start.Byte, b.Range.Start.Byte)
	})
	for _, attribute := range attributes {
		expression, ok := attribute.Expr.(hclsyntax.Expression)
		if !ok {
			panic("config: an expression of another syntax than HCL's own")
		}
		lines[attribute.Name](expression)
	}
	first := make(map[string]*hcl.Block)
	for _, block := range content.Blocks {
		what, at := block.Type, &block.TypeRange
		if blocks[block.Type].named {
			what, at = fmt.Sprintf("%s %q", block.Type, block.Labels[0]), &block.LabelRanges[0]
			if problem := nameProblem(block.Labels[0]); problem != "" {
				d.fault(at, "Invalid name", "%s", problem)
			}
		}
		if before := first[what]; before != nil {
			d.fault(at, "Duplicate block", "There is already a block %s, on line %d.", what, before.TypeRange.Start.Line)
			continue
		}
		first[what] = block
		blocks[block.Type].read(block)
	}
}

// nameProblem says what is wrong with the name of an origin, site or route, or "".
// Names stand in logs, metrics and headers.
func nameProblem(name string) string {
	for i, c := range []byte(name) {
		alphanumeric := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alphanumeric && (i == 0 || strings.IndexByte("._-", c) < 0) {
			return fmt.Sprintf("%q is not a name. Names are letters, digits, \".\", \"_\" and \"-\", and begin with a letter or digit.", name)
		}
	}
	if name == "" || len(name) > 64 {
		return "A name has 1 to 64 characters."
	}
	return ""
}

// parser turns the expression of a line into a value. It returns false when it has
// reported what is wrong.
type parser[T any] func(hclsyntax.Expression) (T, bool)

// set makes a line that stores its value, and remembers its place for the checks
// that follow.
func set[T any](d *decoder, target *T, parse parser[T]) func(hclsyntax.Expression) {
	return func(e hclsyntax.Expression) {
		if value, ok := parse(e); ok {
			*target = value
			d.places[target] = e.Range()
		}
	}
}

// place is where the value behind the pointer was written, nil when it is a default
// or came from the command line.
func (d *decoder) place(target any) *hcl.Range {
	if at, ok := d.places[target]; ok {
		return &at
	}
	return nil
}

// constant evaluates an expression that must not depend on a request.
func (d *decoder) constant(e hclsyntax.Expression, want kind) (term, bool) {
	t, ok := d.compileAs(e, want)
	if ok && !t.constant {
		d.fault(e.Range().Ptr(), "Not a constant", "This is read with the file, when there is no request.")
		return term{}, false
	}
	return t, ok
}

func (d *decoder) constantText(e hclsyntax.Expression) (string, bool) {
	t, ok := d.constant(e, kindText)
	if !ok {
		return "", false
	}
	return t.text(nil), true
}

// truth reads true or false.
func (d *decoder) truth(e hclsyntax.Expression) (bool, bool) {
	t, ok := d.constant(e, kindTruth)
	return ok && t.truth(nil), ok
}

// integer reads a whole number within bounds.
func (d *decoder) integer(low, high int) parser[int] {
	return func(e hclsyntax.Expression) (int, bool) {
		t, ok := d.constant(e, kindNumber)
		if ok && (t.number < int64(low) || t.number > int64(high)) {
			d.fault(e.Range().Ptr(), "Out of range", "The number must be from %d to %d.", low, high)
			return 0, false
		}
		return int(t.number), ok
	}
}

// duration reads text with a unit, such as "90s", within bounds.
func (d *decoder) duration(low, high time.Duration) parser[time.Duration] {
	return func(e hclsyntax.Expression) (time.Duration, bool) {
		text, ok := d.quantity(e, "duration", func(n int64) string { return fmt.Sprintf("%ds", n) })
		if !ok {
			return 0, false
		}
		value, problem := parseDuration(text)
		if problem != "" {
			d.fault(e.Range().Ptr(), "Invalid duration", "%s", problem)
			return 0, false
		}
		if value < low || value > high {
			d.fault(e.Range().Ptr(), "Out of range", "The duration must be from %s to %s.", formatDuration(low), formatDuration(high))
			return 0, false
		}
		return value, true
	}
}

// size reads text with a unit, such as "8KiB", within bounds.
func (d *decoder) size(low, high int64) parser[int64] {
	return func(e hclsyntax.Expression) (int64, bool) {
		text, ok := d.quantity(e, "size", formatSize)
		if !ok {
			return 0, false
		}
		value, problem := parseSize(text)
		if problem != "" {
			d.fault(e.Range().Ptr(), "Invalid size", "%s", problem)
			return 0, false
		}
		if value < low || value > high {
			d.fault(e.Range().Ptr(), "Out of range", "The size must be from %s to %s.", formatSize(low), formatSize(high))
			return 0, false
		}
		return value, true
	}
}

// quantity reads the text of a duration or size. A bare number is answered with the
// text that it stands for in most other files: seconds, or bytes.
func (d *decoder) quantity(e hclsyntax.Expression, what string, format func(int64) string) (string, bool) {
	t, ok := d.compile(e)
	if ok && t.kind == kindNumber {
		d.fault(e.Range().Ptr(), "Missing unit", "A %s is text with a unit. Did you mean %q?", what, format(max(t.number, 0)))
		return "", false
	}
	if !ok {
		return "", false
	}
	return d.constantText(e)
}

// oneOf reads one of a few words.
func (d *decoder) oneOf(what string, words ...string) parser[string] {
	return func(e hclsyntax.Expression) (string, bool) {
		text, ok := d.constantText(e)
		if ok && !slices.Contains(words, text) {
			suggestion := didYouMean(text, words)
			if suggestion == "" {
				suggestion = " It is one of " + quoted(words) + "."
			}
			d.fault(e.Range().Ptr(), "Unknown "+what, "There is no %s named %q.%s", what, text, suggestion)
			return "", false
		}
		return text, ok
	}
}

// checked reads text in the form that a check returns, which also says what is
// wrong with it.
func (d *decoder) checked(summary string, check func(string) (normal, problem string)) parser[string] {
	return func(e hclsyntax.Expression) (string, bool) {
		text, ok := d.constantText(e)
		if !ok {
			return "", false
		}
		normal, problem := check(text)
		if problem != "" {
			d.fault(e.Range().Ptr(), summary, "%s", problem)
			return "", false
		}
		return normal, true
	}
}

// list reads a list of distinct texts; an empty one is nil.
func (d *decoder) list(parse parser[string]) parser[[]string] {
	return func(e hclsyntax.Expression) ([]string, bool) {
		list, ok := d.listOf(e, parse)
		var values []string
		for _, element := range list {
			values = append(values, element.text)
		}
		return values, ok
	}
}

// listOf is list with the place of each element.
func (d *decoder) listOf(e hclsyntax.Expression, parse parser[string]) ([]textAt, bool) {
	tuple, ok := e.(*hclsyntax.TupleConsExpr)
	if !ok {
		if t, understood := d.compile(e); understood {
			suggestion := ""
			if t.constant && t.kind == kindText {
				suggestion = fmt.Sprintf(" Did you mean [%s]?", t.spelling)
			}
			d.fault(e.Range().Ptr(), "Wrong type", "This must be a list in brackets.%s", suggestion)
		}
		return nil, false
	}
	var values []textAt
	seen := make(map[string]bool)
	for _, expression := range tuple.Exprs {
		value, valueOK := parse(expression)
		if ok = ok && valueOK; !valueOK {
			continue
		}
		if seen[value] {
			d.fault(expression.Range().Ptr(), "Duplicate element", "%q is already in the list.", value)
			ok = false
		}
		seen[value] = true
		values = append(values, textAt{value, expression.Range()})
	}
	return values, ok
}

// pair is one entry of an object.
type pair struct {
	key   textAt
	value hclsyntax.Expression
}

// object reads the entries of an object in their order. Keys may be bare words,
// numbers or text.
func (d *decoder) object(e hclsyntax.Expression) ([]pair, bool) {
	object, ok := e.(*hclsyntax.ObjectConsExpr)
	if !ok {
		d.fault(e.Range().Ptr(), "Wrong type", `This must be an object in braces: { "name" = "value" }.`)
		return nil, false
	}
	var pairs []pair
	for _, item := range object.Items {
		key, keyOK := d.objectKey(item.KeyExpr)
		if ok = ok && keyOK; keyOK {
			pairs = append(pairs, pair{textAt{key, item.KeyExpr.Range()}, item.ValueExpr})
		}
	}
	return pairs, ok
}

func (d *decoder) objectKey(e hclsyntax.Expression) (string, bool) {
	if key, ok := e.(*hclsyntax.ObjectConsKeyExpr); ok {
		if word := hcl.ExprAsKeyword(key.Wrapped); word != "" && !key.ForceNonLiteral {
			return word, true
		}
		e = key.Wrapped
	}
	t, ok := d.compile(e)
	if ok && t.kind == kindNumber {
		return t.spelling, true
	}
	if !ok {
		return "", false
	}
	return d.constantText(e)
}
