package purge

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestDecodeRequest(t *testing.T) {
	for _, c := range []struct {
		text string
		want Request
	}{
		{`{}`, Request{}},
		{` { "surrogate_keys" : [ "a" , "b" ] } `, Request{SurrogateKeys: []string{"a", "b"}}},
		{`{"surrogate_keys":[]}`, Request{SurrogateKeys: []string{}}},
		{`{"surrogate_keys":["product-42"],"urls":["http://h/a?b"],"ignore_query":true,"prefixes":["http://h/a"],"hosts":["h"],` +
			`"all":true,"site":"shop","soft":true,"wait":"cluster","timeout":"1.5s"}`,
			Request{SurrogateKeys: []string{"product-42"}, URLs: []string{"http://h/a?b"}, IgnoreQuery: true, Prefixes: []string{"http://h/a"},
				Hosts: []string{"h"}, All: true, Site: "shop", Soft: true, Wait: WaitCluster, Timeout: 1500 * time.Millisecond}},
		{`{"surrogate_keys":["\u00e9"],"all":false,"soft":false,"ignore_query":false,"site":"","wait":"node"}`,
			Request{SurrogateKeys: []string{"é"}, Wait: WaitNode}},
	} {
		got, err := decodeRequest([]byte(c.text))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, %v, want %+v", c.text, got, err, c.want)
		}
	}
}

func TestDecodeRequestRefuses(t *testing.T) {
	for _, c := range []struct{ text, field, title string }{
		{``, "", "not one JSON value"},
		{`{"all":true} {"all":true}`, "", "not one JSON value"},
		{`{"all":true}x`, "", "not one JSON value"},
		{`{"all":true,}`, "", "not one JSON value"},
		{`{"all":true`, "", "not one JSON value"},
		{`{'all':true}`, "", "not one JSON value"},
		{`"all"`, "", "not a JSON object"},
		{`["all"]`, "", "not a JSON object"},
		{`null`, "", "not a JSON object"},
		{"{\"surrogate_keys\":[\"\xff\"]}", "", "UTF-8"},
		{`{"all":true,"all":false}`, "all", "twice"},
		{`{"all":true,"\u0061ll":true}`, "all", "twice"},
		{`{"ALL":true}`, "ALL", "Did you mean all?"},
		{`{"surrogateKeys":["a"]}`, "surrogateKeys", "Did you mean surrogate_keys?"},
		{`{"keys":["a"]}`, "keys", "Did you mean surrogate_keys?"},
		{`{"url":["http://h/"]}`, "url", "Did you mean urls?"},
		{`{"host":["h"]}`, "host", "Did you mean hosts?"},
		{`{"colour":"red"}`, "colour", "no such field"},
		{`{"":true}`, "", "no such field"},
		{`{"` + strings.Repeat("x", 1000) + `":true}`, strings.Repeat("x", 64) + "...", "no such field"},
		{`{"surrogate_keys":"a"}`, "surrogate_keys", "list of strings"},
		{`{"surrogate_keys":null}`, "surrogate_keys", "list of strings"},
		{`{"surrogate_keys":{}}`, "surrogate_keys", "list of strings"},
		{`{"urls":["http://h/",3]}`, "urls[1]", "string"},
		{`{"prefixes":[null]}`, "prefixes[0]", "string"},
		{`{"hosts":[["h"]]}`, "hosts[0]", "string"},
		{`{"all":"true"}`, "all", "true or false"},
		{`{"all":null}`, "all", "true or false"},
		{`{"soft":1}`, "soft", "true or false"},
		{`{"ignore_query":[]}`, "ignore_query", "true or false"},
		{`{"site":7}`, "site", "string"},
		{`{"site":null}`, "site", "string"},
		{`{"wait":"fleet"}`, "wait", `"node" or "cluster"`},
		{`{"wait":""}`, "wait", `"node" or "cluster"`},
		{`{"wait":true}`, "wait", "string"},
		{`{"timeout":2}`, "timeout", "string"},
		{`{"timeout":"2"}`, "timeout", "unit"},
		{`{"timeout":""}`, "timeout", "unit"},
		{`{"timeout":"0s"}`, "timeout", "more than nothing"},
	} {
		got, err := decodeRequest([]byte(c.text))
		problem, ok := errors.AsType[*Error](err)
		if !ok || problem.Status != 400 || problem.Field != c.field || !strings.Contains(problem.Detail, c.title) {
			t.Errorf("%s: got %+v, %v, want %s: %s", c.text, got, err, c.field, c.title)
		}
	}
}

// What Go writes, the handler reads, and encoding/json reads it as strictly.
func TestRequestRoundTrip(t *testing.T) {
	for _, want := range []Request{
		{All: true},
		{SurrogateKeys: []string{"a", "ü<&>"}, Soft: true, Wait: WaitCluster, Timeout: 90 * time.Millisecond},
		{URLs: []string{"http://h/?a&b"}, IgnoreQuery: true, Prefixes: []string{"http://h/a"}, Hosts: []string{"h:8080"}, Site: "shop", Wait: WaitNode, Timeout: time.Minute},
	} {
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got Request
		if err := json.Unmarshal(text, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v", text, got, err)
		}
	}
	var q Request
	if err := json.Unmarshal([]byte(`{"sof":true}`), &q); err == nil || q.Soft {
		t.Errorf("an unknown field gives %v", err)
	} else if problem, ok := errors.AsType[*Error](err); !ok || problem.Field != "sof" {
		t.Errorf("got %v, want the field named", err)
	}
}

// FuzzDecodeRequest: whatever is accepted says the same when it is written again,
// and has nothing that a looser reader would have read otherwise.
func FuzzDecodeRequest(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"all":true}`, `{"surrogate_keys":["a","b"],"soft":true}`, `{"urls":["http://h/"],"wait":"cluster","timeout":"2s"}`,
		`{"all":true,"all":false}`, `{"surrogate_keys":["\ud800"]}`, `{"a":{"b":[1,2,{"c":null}]}}`, `[`, "\xff", `{"timeout":"-1h"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		q, err := decodeRequest(text)
		if err != nil {
			problem, ok := errors.AsType[*Error](err)
			if !ok || problem.Status != 400 || problem.Detail == "" {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		var loose map[string]any
		if err := json.Unmarshal(text, &loose); err != nil {
			t.Fatalf("accepted what is no JSON object: %v", err)
		}
		for name := range loose {
			if q.fields()[name] == nil {
				t.Fatalf("accepted the field %q", name)
			}
		}
		_ = q.check(100) // must not panic
		again, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		second, err := decodeRequest(again)
		if err != nil {
			t.Fatalf("%s was accepted, and %s is not: %v", text, again, err)
		}
		if third, _ := json.Marshal(second); string(third) != string(again) {
			t.Fatalf("%s became %s and then %s", text, again, third)
		}
	})
}
