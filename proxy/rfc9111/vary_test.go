package rfc9111

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestVaryOn(t *testing.T) {
	tests := []struct {
		name   string
		lines  []string
		fields []string
		star   bool
	}{
		{"none", nil, nil, false},
		{"one", []string{"Foo"}, []string{"foo"}, false},
		{"several, in any order and case", []string{"Foo, BAR,baz"}, []string{"bar", "baz", "foo"}, false},
		{"over lines, twice", []string{"Foo, Bar", "foo"}, []string{"bar", "foo"}, false},
		{"empty members", []string{" , Foo ,, "}, []string{"foo"}, false},
		{"an empty field", []string{""}, nil, false},
		{"4.1 star", []string{"*"}, nil, true},
		{"4.1 star first", []string{"*, Foo"}, nil, true},
		{"4.1 star last", []string{"Foo, *"}, nil, true},
		{"4.1 star after an empty member", []string{", *"}, nil, true},
		{"4.1 star on another line", []string{"", "Foo", "*"}, nil, true},
		{"what is no name cannot be compared", []string{`Foo, "Bar"`}, nil, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			fields, star := VaryOn(http.Header{"Vary": test.lines})
			if !slices.Equal(fields, test.fields) || star != test.star {
				t.Errorf("VaryOn(%q) = %q, %v; want %q, %v", test.lines, fields, star, test.fields, test.star)
			}
		})
	}
}

func TestVariantsThatMatch(t *testing.T) {
	tests := []struct {
		name, field string
		a, b        []string // nil is absent
		match       bool
	}{
		{"the same", "Foo", []string{"1"}, []string{"1"}, true},
		{"another", "Foo", []string{"1"}, []string{"2"}, false},
		{"4.1 absent on both sides", "Foo", nil, nil, true},
		{"4.1 absent on one", "Foo", nil, []string{"1"}, false},
		{"4.1 absent is not empty", "Foo", nil, []string{""}, false},
		{"4.1 lines combined", "Foo", []string{"1, 2"}, []string{"1", "2"}, true},
		{"4.1 lines in another order", "Foo", []string{"1", "2"}, []string{"2", "1"}, false},
		{"5.5 white space around a value", "Foo", []string{" 1\t"}, []string{"1"}, true},
		{"4.1 white space in a field of unknown syntax may mean something", "Foo", []string{"1,2"}, []string{"1, 2"}, false},
		{"4.1 case in a field of unknown syntax may mean something", "Foo", []string{"a"}, []string{"A"}, false},
		{"4.1 order in a field of unknown syntax may mean something", "Foo", []string{"a, b"}, []string{"b, a"}, false},

		{"9110 12.5.4 order of languages", "Accept-Language", []string{"en, de"}, []string{"de, en"}, true},
		{"9110 12.5.4 case of languages", "Accept-Language", []string{"en, de"}, []string{"eN, De"}, true},
		{"9110 12.5.4 white space", "Accept-Language", []string{"en, de"}, []string{" en ,   de"}, true},
		{"9110 12.5.4 weights spelled otherwise", "Accept-Language", []string{"en;q=1.0, de;q=0.50"}, []string{"en, de ; Q=0.5"}, true},
		{"9110 12.5.4 order where weights tell it", "Accept-Language", []string{"de;q=0.5, en"}, []string{"en, de;q=0.5"}, true},
		{"9110 12.5.4 lines", "Accept-Language", []string{"en", "de"}, []string{"en, de"}, true},
		{"9110 12.5.4 named twice", "Accept-Language", []string{"en, EN, de"}, []string{"en, de"}, true},
		{"another language", "Accept-Language", []string{"en"}, []string{"de"}, false},
		{"another weight", "Accept-Language", []string{"en, de;q=0.5"}, []string{"en, de;q=0.6"}, false},
		{"preferred the other way round", "Accept-Language", []string{"en, de;q=0.5"}, []string{"de, en;q=0.5"}, false},
		{"not wanted is not unnamed", "Accept-Language", []string{"en, de;q=0"}, []string{"en"}, false},
		{"bad weights are compared as they stand", "Accept-Language", []string{"en;q=2"}, []string{"en"}, false},
		{"and never taken for a normal form", "Accept-Language", []string{"en;500"}, []string{"en;q=0.5"}, false},
		{"very long lists are compared as they stand", "Accept-Language", []string{strings.Repeat("en, ", 17) + "de"}, []string{"en, de"}, false},
		{"empty is not absent", "Accept-Language", []string{""}, nil, false},

		{"9110 12.5.3 order of codings", "Accept-Encoding", []string{"gzip, br"}, []string{"br,gzip"}, true},
		{"9110 12.5.3 codings that do not matter", "Accept-Encoding", []string{"gzip, deflate, identity"}, []string{"gzip"}, true},
		{"9110 12.5.3 weights above zero", "Accept-Encoding", []string{"gzip;q=0.5"}, []string{"GZip"}, true},
		{"9110 12.5.3 refused", "Accept-Encoding", []string{"gzip;q=0"}, []string{"gzip"}, false},
		{"another coding", "Accept-Encoding", []string{"gzip"}, []string{"br"}, false},
		{"no coding is not any coding", "Accept-Encoding", []string{"identity"}, nil, false},

		{"9110 12.5.1 white space", "Accept", []string{"text/html , a/b ; q=0.5"}, []string{"text/html,a/b;q=0.5"}, true},
		{"9110 12.5.1 lines", "Accept", []string{"text/html", "a/b"}, []string{"text/html, a/b"}, true},
		{"9110 12.5.1 empty members", "Accept", []string{", text/html,, a/b,"}, []string{"text/html, a/b"}, true},
		{"9110 12.5.1 quoted strings stand as they are", "Accept", []string{`a/b;x="c, d"`}, []string{`a/b;x="c,d"`}, false},
		{"space between words is no optional space", "Accept", []string{"a b"}, []string{"ab"}, false},
		{"an open quote is compared as it stands", "Accept", []string{`a/b;x="c, d`}, []string{`a/b;x="c,d`}, false},
		{"another order may be another preference", "Accept", []string{"a/b, c/d"}, []string{"c/d, a/b"}, false},
		{"12.5.2 white space", "Accept-Charset", []string{"utf-8,a"}, []string{"utf-8 , a"}, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			fields := []string{strings.ToLower(test.field)}
			request := func(lines []string) http.Header {
				h := http.Header{"Other": {strings.Join(lines, "")}}
				if lines != nil {
					h[test.field] = lines
				}
				return h
			}
			a, b := Variant(fields, request(test.a)), Variant(fields, request(test.b))
			if (a == b) != test.match {
				t.Errorf("%s: %q and %q have variants %q and %q; want a match: %v", test.field, test.a, test.b, a, b, test.match)
			}
			if a == "" || b == "" {
				t.Error("an empty variant is that of a response without Vary")
			}
		})
	}
}

func TestVariantOfSeveralFields(t *testing.T) {
	req := http.Header{"Foo": {"1"}, "Baz": {"789"}}
	if Variant(nil, req) != "" {
		t.Error("no fields, and yet a variant")
	}
	if Variant([]string{"bar", "baz", "foo"}, req) != Variant([]string{"bar", "baz", "foo"}, http.Header{"Foo": {"1"}, "Baz": {"789"}, "Other": {"x"}}) {
		t.Error("a field that is not listed takes part")
	}
	if Variant([]string{"foo"}, http.Header{"Foo": {"1"}}) == Variant([]string{"bar"}, http.Header{"Bar": {"1"}}) {
		t.Error("the same value of another field gives the same variant")
	}
	// A long name and a long value take the slower ways.
	long := strings.Repeat("x-", 50) + "y"
	h := http.Header{http.CanonicalHeaderKey(long): {strings.Repeat("v", 1000)}}
	if Variant([]string{long}, h) == Variant([]string{long}, nil) {
		t.Error("a long field is not found")
	}
}

// No value of one field can be taken for the values of two.
func FuzzVariant(f *testing.F) {
	f.Add("1", "2", "12", "")
	f.Add("en;q=0.5", "gzip", "en;500", "gzip, ")
	f.Add("a\x00\x01", "\x02", "a", "\x00\x01\x02")
	f.Add(`a;b="c,`, `"`, "x , y", ",")
	f.Fuzz(func(t *testing.T, a1, a2, b1, b2 string) {
		fields := []string{"bar", "foo"}
		a := Variant(fields, http.Header{"Bar": {a1}, "Foo": {a2}})
		b := Variant(fields, http.Header{"Bar": {b1}, "Foo": {b2}})
		if same := trimOWS(a1) == trimOWS(b1) && trimOWS(a2) == trimOWS(b2); (a == b) != same {
			t.Errorf("%q %q and %q %q: %q and %q", a1, a2, b1, b2, a, b)
		}
		// The normal forms are stable: what they level out makes no difference.
		for _, name := range []string{"Accept", "Accept-Charset", "Accept-Language", "Accept-Encoding"} {
			key := []string{strings.ToLower(name)}
			once := Variant(key, http.Header{name: {a1, a2}})
			joined := Variant(key, http.Header{name: {trimOWS(a1) + ", " + trimOWS(a2)}})
			if once != joined && trimOWS(a2) != "" && !strings.Contains(a1+a2, `"`) {
				t.Errorf("%s: lines %q and %q give %q, joined %q", name, a1, a2, once, joined)
			}
		}
	})
}

func TestNormalAcceptEncoding(t *testing.T) {
	tests := []struct {
		name  string
		lines []string
		want  string
	}{
		{"absent", nil, ""},
		{"empty", []string{""}, ""},
		{"one", []string{"gzip"}, "gzip"},
		{"a browser", []string{"gzip, deflate, br, zstd"}, "br, zstd, gzip"},
		{"case and space", []string{" GZIP ,bR ; q=0.1"}, "br, gzip"},
		{"lines", []string{"zstd", "br"}, "br, zstd"},
		{"the old name", []string{"x-gzip"}, "gzip"},
		{"only what is known", []string{"compress, dcb, identity"}, ""},
		{"12.4.2 not acceptable", []string{"gzip;q=0, br;q=0.000, zstd"}, "zstd"},
		{"12.5.3 any", []string{"*"}, "br, zstd, gzip"},
		{"12.5.3 any other", []string{"*, br;q=0"}, "zstd, gzip"},
		{"12.5.3 no other", []string{"gzip, *;q=0"}, "gzip"},
		{"a bad weight is left out", []string{"gzip;q=2, br;q=x, zstd;level=3"}, ""},
		{"and takes no neighbour with it", []string{"gzip;q=, br"}, "br"},
		{"a substring is no coding", []string{"xgzip, gzipx"}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := NormalAcceptEncoding(test.lines)
			if got != test.want {
				t.Errorf("NormalAcceptEncoding(%q) = %q; want %q", test.lines, got, test.want)
			}
			if again := NormalAcceptEncoding([]string{got}); again != got {
				t.Errorf("%q is normal, and becomes %q", got, again)
			}
		})
	}
}

func TestQValue(t *testing.T) {
	for in, want := range map[string]int{
		"q=0": 0, "q=1": 1000, "Q=0.5": 500, "q=0.123": 123, "q=1.000": 1000, "q=0.": 0, "q=1.": 1000,
		"q=1.001": -1, "q=0.1234": -1, "q=2": -1, "q=.5": -1, "q=": -1, "q": -1, "": -1, "q=-1": -1, "q=0.x": -1, "q=01": -1, "r=1": -1,
	} {
		if got, ok := qvalue(in); ok != (want >= 0) || ok && got != want {
			t.Errorf("qvalue(%q) = %d, %v; want %d", in, got, ok, want)
		}
	}
}

func BenchmarkVariant(b *testing.B) {
	for name, fields := range map[string][]string{
		"Accept-Encoding": {"accept-encoding"},
		"Accept-Language": {"accept-language"},
		"several":         {"accept", "accept-encoding", "accept-language", "next-router-state-tree", "rsc"},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Variant(fields, browser)
			}
		})
	}
}

func TestNormalAcceptLanguage(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"en", "en"},
		{"fr, de", "de, fr"},
		{"de;q=0.5, EN-us", "en-us, de;q=0.5"},
		{"de;q=0.05,en;q=0.805, fr;q=0.250", "en;q=0.805, fr;q=0.25, de;q=0.05"},
		{"de;q=0", "de;q=0.0"},
		{"en, en", "en"},
	} {
		got, ok := NormalAcceptLanguage([]string{c.in})
		if got != c.want || !ok {
			t.Errorf("%q: %q, %v, want %q", c.in, got, ok, c.want)
		}
		again, _ := NormalAcceptLanguage([]string{got})
		if again != got {
			t.Errorf("%q: its normal form %q becomes %q", c.in, got, again)
		}
		fields := []string{"accept-language"}
		if Variant(fields, http.Header{"Accept-Language": {c.in}}) != Variant(fields, http.Header{"Accept-Language": {got}}) {
			t.Errorf("%q is keyed otherwise than %q, which is sent", c.in, got)
		}
	}
	if got, ok := NormalAcceptLanguage([]string{"a b"}); ok {
		t.Errorf("a malformed field became %q", got)
	}
}
