package purge

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// UnmarshalJSON reads a request strictly: an unknown or repeated name, null, or a
// value of another type is an *Error that names the field. What encoding/json lets
// pass in silence would be a purge of something else than was meant.
func (q *Request) UnmarshalJSON(text []byte) error {
	decoded, err := decodeRequest(text)
	if err != nil {
		return err
	}
	*q = decoded
	return nil
}

func decodeRequest(text []byte) (q Request, err error) {
	if !utf8.Valid(text) {
		return q, wrong("", "The body is not UTF-8.")
	}
	var whole json.RawMessage
	if err := json.Unmarshal(text, &whole); err != nil {
		return q, wrong("", "The body is not one JSON value: %v.", err)
	}
	d := json.NewDecoder(bytes.NewReader(whole))
	if begin, err := d.Token(); err != nil || begin != json.Delim('{') {
		return q, wrong("", "The body is not a JSON object.")
	}
	fields := q.fields()
	seen := make(map[string]bool)
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return q, wrong("", "The body is malformed: %v.", err)
		}
		name := token.(string) // the text is valid JSON, so this is a name
		into, known := fields[name]
		switch {
		case !known:
			return q, wrong(shorten(name), "There is no such field.%s", didYouMean(name, fields))
		case seen[name]:
			return q, wrong(name, "The field is there twice.")
		}
		seen[name] = true
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return q, wrong(name, "The value is malformed: %v.", err)
		}
		if err := into(name, value); err != nil {
			return q, err
		}
	}
	return q, nil
}

// fieldReader stores the value of a field.
type fieldReader func(name string, value json.RawMessage) error

// fields are what a request may have, by its names.
func (q *Request) fields() map[string]fieldReader {
	return map[string]fieldReader{
		"surrogate_keys": readList(&q.SurrogateKeys),
		"urls":           readList(&q.URLs),
		"ignore_query":   readBool(&q.IgnoreQuery),
		"prefixes":       readList(&q.Prefixes),
		"hosts":          readList(&q.Hosts),
		"all":            readBool(&q.All),
		"site":           readText(&q.Site),
		"soft":           readBool(&q.Soft),
		"wait":           q.readWait,
		"timeout":        q.readTimeout,
	}
}

func readBool(target *bool) fieldReader {
	return func(name string, value json.RawMessage) error {
		var b *bool
		if json.Unmarshal(value, &b) != nil || b == nil {
			return wrong(name, "It must be true or false.")
		}
		*target = *b
		return nil
	}
}

func readText(target *string) fieldReader {
	return func(name string, value json.RawMessage) error {
		var s *string
		if json.Unmarshal(value, &s) != nil || s == nil {
			return wrong(name, "It must be a string.")
		}
		*target = *s
		return nil
	}
}

func readList(target *[]string) fieldReader {
	return func(name string, value json.RawMessage) error {
		var list []json.RawMessage
		if json.Unmarshal(value, &list) != nil || list == nil {
			return wrong(name, "It must be a list of strings.")
		}
		*target = make([]string, len(list))
		for i, element := range list {
			if err := readText(&(*target)[i])(place(name, i), element); err != nil {
				return err
			}
		}
		return nil
	}
}

func (q *Request) readWait(name string, value json.RawMessage) error {
	var text string
	if err := readText(&text)(name, value); err != nil {
		return err
	}
	wait := Wait(text)
	if wait != WaitNode && wait != WaitCluster {
		return wrong(name, "It must be %q or %q.", WaitNode, WaitCluster)
	}
	q.Wait = wait
	return nil
}

func (q *Request) readTimeout(name string, value json.RawMessage) error {
	var text string
	if err := readText(&text)(name, value); err != nil {
		return err
	}
	timeout, err := time.ParseDuration(text)
	if err != nil {
		return wrong(name, `It must be a number with its unit, such as "2s" or "500ms".`)
	}
	if timeout == 0 {
		return wrong(name, "It must be more than nothing. To wait for no other node, leave out wait.")
	}
	q.Timeout = timeout
	return nil
}

// didYouMean suggests the field whose name holds the unknown one, or the reverse.
func didYouMean(name string, fields map[string]fieldReader) string {
	plain := func(s string) string { return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s)) }
	wanted := plain(name)
	if len(wanted) < 3 || len(wanted) > 64 {
		return ""
	}
	for _, known := range slices.Sorted(maps.Keys(fields)) {
		if k := plain(known); strings.Contains(k, wanted) || strings.Contains(wanted, k) {
			return " Did you mean " + known + "?"
		}
	}
	return ""
}

// shorten keeps what a stranger wrote from filling an answer or a log.
func shorten(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
