package integration

import (
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"edge/integration/internal/origin"
)

func TestSecondRequestDoesNotReachTheOrigin(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, fields("hello", "Cache-Control", "max-age=60", "ETag", `"a"`))
	n := front(t, o)

	first := get(t, n, "/x")
	equal(t, "first status", first.Status, 200)
	equal(t, "first body", first.Body, "hello")
	if status := first.cacheStatus(); status["fwd"] != "uri-miss" || status["hit"] != "" {
		t.Errorf("first Cache-Status is %q, want fwd=uri-miss", first.Header.Get("Cache-Status"))
	}

	second := warm(t, n, "/x")
	equal(t, "second body", second.Body, "hello")
	equal(t, "second Date", second.Header.Get("Date"), first.Header.Get("Date"))
	equal(t, "second ETag", second.Header.Get("ETag"), `"a"`)
	equal(t, "second Content-Length", second.Header.Get("Content-Length"), "5")
	if age := second.number(t, "Age"); age < 0 || age > 40 {
		t.Errorf("Age is %d right after the fetch", age)
	}
	if !strings.Contains(second.Header.Get("Via"), "edge") {
		t.Errorf("Via is %q, want it to name the node", second.Header.Get("Via"))
	}
	if strings.Contains(second.Header.Get("Cache-Status"), "key=") {
		t.Errorf("Cache-Status shows a key to strangers: %q", second.Header.Get("Cache-Status"))
	}
	equal(t, "requests to the origin", o.Count(""), 1)
}

func TestAgeCountsFromTheOriginsAge(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, fields("x", "Cache-Control", "max-age=600", "Age", "100"))
	n := front(t, o)
	if age := warm(t, n, "/").number(t, "Age"); age < 100 || age > 140 {
		t.Errorf("Age is %d, want 100 and the seconds since", age)
	}
}

func TestHeadIsAnsweredFromAStoredGet(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, fields("hello", "Cache-Control", "max-age=60"))
	n := front(t, o)
	warm(t, n, "/")
	a := ask(t, n, "HEAD", "/", "")
	equal(t, "status", a.Status, 200)
	equal(t, "body", a.Body, "")
	equal(t, "Content-Length", a.Header.Get("Content-Length"), "5")
	equal(t, "hit", a.hit(), true)
	equal(t, "requests to the origin", o.Count(""), 1)
}

func TestHeadThatMissesIsSentAsHead(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, fields("hello", "Cache-Control", "max-age=60", "Content-Length", "5"))
	n := front(t, o)
	a := ask(t, n, "HEAD", "/", "")
	equal(t, "status", a.Status, 200)
	equal(t, "Content-Length", a.Header.Get("Content-Length"), "5")
	equal(t, "method at the origin", o.Last(t).Method, "HEAD")
	equal(t, "body of the GET after it", get(t, n, "/").Body, "hello")
}

func TestConditionalRequests(t *testing.T) {
	t.Parallel()
	const modified = "Tue, 04 Feb 2025 10:00:00 GMT"
	o := origin.Start(t, fields("hello", "Cache-Control", "max-age=600", "ETag", `"v1"`, "Last-Modified", modified))
	n := front(t, o)
	warm(t, n, "/")
	for _, test := range []struct {
		name   string
		fields []string
		want   int
	}{
		{"strong tag", []string{"If-None-Match", `"v1"`}, 304},
		{"weak tag", []string{"If-None-Match", `W/"v1"`}, 304},
		{"one of several", []string{"If-None-Match", `"v0", "v1"`}, 304},
		{"any", []string{"If-None-Match", "*"}, 304},
		{"another tag", []string{"If-None-Match", `"v2"`}, 200},
		{"same date", []string{"If-Modified-Since", modified}, 304},
		{"earlier date", []string{"If-Modified-Since", "Mon, 03 Feb 2025 10:00:00 GMT"}, 200},
		{"no date", []string{"If-Modified-Since", "yesterday"}, 200},
		{"the tag decides before the date", []string{"If-None-Match", `"v2"`, "If-Modified-Since", modified}, 200},
	} {
		a := get(t, n, "/", test.fields...)
		equal(t, test.name+": status", a.Status, test.want)
		equal(t, test.name+": ETag", a.Header.Get("ETag"), `"v1"`)
		if test.want == 304 {
			equal(t, test.name+": body", a.Body, "")
		} else {
			equal(t, test.name+": body", a.Body, "hello")
		}
	}
	equal(t, "requests to the origin", o.Count(""), 1)
}

func TestConditionalsOfAClientDoNotReachTheOriginOnAFill(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, fields("hello", "Cache-Control", "max-age=60", "ETag", `"v1"`))
	n := front(t, o)
	get(t, n, "/", "If-None-Match", `"v0"`, "If-Modified-Since", "Tue, 04 Feb 2025 10:00:00 GMT", "If-Match", `"v9"`)
	for _, name := range []string{"If-None-Match", "If-Modified-Since", "If-Match"} {
		equal(t, name+" at the origin", o.Last(t).Header.Get(name), "")
	}
	equal(t, "body of the next answer", warm(t, n, "/").Body, "hello")
}

func TestRangesFromAStoredWhole(t *testing.T) {
	t.Parallel()
	const body = "0123456789"
	o := origin.Start(t, fields(body, "Cache-Control", "max-age=600", "ETag", `"v1"`, "Content-Type", "text/plain"))
	n := front(t, o)
	warm(t, n, "/")
	for _, test := range []struct {
		name    string
		fields  []string
		status  int
		content string // Content-Range
		body    string
	}{
		{"first bytes", []string{"Range", "bytes=0-3"}, 206, "bytes 0-3/10", "0123"},
		{"to the end", []string{"Range", "bytes=7-"}, 206, "bytes 7-9/10", "789"},
		{"suffix", []string{"Range", "bytes=-2"}, 206, "bytes 8-9/10", "89"},
		{"suffix longer than the whole", []string{"Range", "bytes=-99"}, 206, "bytes 0-9/10", body},
		{"past the end", []string{"Range", "bytes=5-99"}, 206, "bytes 5-9/10", "56789"},
		{"unsatisfiable", []string{"Range", "bytes=10-"}, 416, "bytes */10", ""},
		{"malformed", []string{"Range", "bytes=cow"}, 200, "", body},
		{"another unit", []string{"Range", "cows=0-3"}, 200, "", body},
		{"If-Range holds", []string{"Range", "bytes=0-3", "If-Range", `"v1"`}, 206, "bytes 0-3/10", "0123"},
		{"If-Range fails", []string{"Range", "bytes=0-3", "If-Range", `"v0"`}, 200, "", body},
		{"If-Range is weak", []string{"Range", "bytes=0-3", "If-Range", `W/"v1"`}, 200, "", body},
		{"not modified comes first", []string{"Range", "bytes=0-3", "If-None-Match", `"v1"`}, 304, "", ""},
	} {
		a := get(t, n, "/", test.fields...)
		equal(t, test.name+": status", a.Status, test.status)
		equal(t, test.name+": Content-Range", a.Header.Get("Content-Range"), test.content)
		if test.status != 416 { // what a 416 says beside is free
			equal(t, test.name+": body", a.Body, test.body)
		}
	}
	equal(t, "requests to the origin", o.Count(""), 1)
}

func TestSeveralRangesAreMultipart(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, fields("0123456789", "Cache-Control", "max-age=600", "Content-Type", "text/plain"))
	n := front(t, o)
	warm(t, n, "/")
	a := get(t, n, "/", "Range", "bytes=0-1,4-5,-1")
	equal(t, "status", a.Status, 206)
	equal(t, "Content-Length", a.Header.Get("Content-Length"), fmt.Sprint(len(a.Body)))
	kind, params, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/byteranges" {
		t.Fatalf("Content-Type is %q", a.Header.Get("Content-Type"))
	}
	var got []string
	parts := multipart.NewReader(strings.NewReader(a.Body), params["boundary"])
	for {
		part, err := parts.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("multipart: %v", err)
		}
		text, err := io.ReadAll(part)
		if err != nil {
			t.Fatalf("multipart: %v", err)
		}
		got = append(got, fmt.Sprintf("%s %s %s", part.Header.Get("Content-Type"), part.Header.Get("Content-Range"), text))
	}
	equal(t, "parts", strings.Join(got, "\n"),
		"text/plain bytes 0-1/10 01\ntext/plain bytes 4-5/10 45\ntext/plain bytes 9-9/10 9")
}

func TestManyRangesGetTheWhole(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, fields(strings.Repeat("x", 1000), "Cache-Control", "max-age=600"))
	n := front(t, o)
	warm(t, n, "/")
	a := get(t, n, "/", "Range", "bytes=0-0"+strings.Repeat(",5-5,10-10,20-20", 60))
	if len(a.Body) > 2000 {
		t.Errorf("%d bytes answer a request for ranges of a body of 1000", len(a.Body))
	}
}

func TestRangeOnAMissFetchesTheWhole(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, fields("0123456789", "Cache-Control", "max-age=600"))
	n := front(t, o)
	a := get(t, n, "/", "Range", "bytes=2-4")
	equal(t, "status", a.Status, 206)
	equal(t, "body", a.Body, "234")
	equal(t, "Range at the origin", o.Last(t).Header.Get("Range"), "")
	equal(t, "whole", warm(t, n, "/").Body, "0123456789")
	equal(t, "requests to the origin", o.Count(""), 1)
}

func TestVariantsAreKeptApart(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("Vary", "X-Shop")
		io.WriteString(w, "shop "+r.Header.Get("X-Shop"))
	})
	n := front(t, o)
	for _, shop := range []string{"a", "b", "c"} {
		equal(t, "first answer", get(t, n, "/", "X-Shop", shop).Body, "shop "+shop)
	}
	for _, shop := range []string{"a", "b", "c"} {
		equal(t, "stored answer", warm(t, n, "/", "X-Shop", shop).Body, "shop "+shop)
	}
	equal(t, "answer without the field", get(t, n, "/").Body, "shop ")
	equal(t, "requests to the origin", o.Count(""), 4)
}

func TestTargetsAreKeptApart(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		io.WriteString(w, r.RequestURI)
	})
	n := front(t, o)
	// Byte for byte: nothing that Go's own parsing would drop or reorder.
	targets := []string{"/", "/?", "/?a=1", "/?a=1&b=2", "/?b=2&a=1", "/?a=1;b=2", "/?a=%zz", "/?A=1", "/?a=1&a=2", "/a", "/A", "/a/", "/a%2Fb", "/a/b", "/a__b", "/a%20b"}
	for range 2 {
		for _, target := range targets {
			equal(t, "answer for "+target, get(t, n, target).Body, target)
		}
	}
}

func TestTargetedFieldDecides(t *testing.T) {
	t.Parallel()
	o := origin.Mux(t, map[string]http.HandlerFunc{
		"/stored":  fields("x", "CDN-Cache-Control", "max-age=300", "Cache-Control", "no-store"),
		"/refused": fields("x", "CDN-Cache-Control", "no-store", "Cache-Control", "max-age=300"),
	})
	n := front(t, o)
	a := warm(t, n, "/stored")
	equal(t, "CDN-Cache-Control passed on", a.Header.Get("CDN-Cache-Control"), "max-age=300")
	equal(t, "Cache-Control passed on", a.Header.Get("Cache-Control"), "no-store")
	get(t, n, "/refused")
	get(t, n, "/refused")
	equal(t, "requests for /refused", o.Count("/refused"), 2)
}

// Each of these answers belongs to one request. Two requests must give two
// fetches, and neither may be called a hit.
func TestWhatIsNotStored(t *testing.T) {
	t.Parallel()
	table := []struct {
		name    string
		status  int
		answer  []string
		request []string
	}{
		{"no freshness", 200, nil, nil},
		{"validator alone", 200, []string{"Last-Modified", "Tue, 04 Feb 2025 10:00:00 GMT"}, nil},
		{"no-store", 200, []string{"Cache-Control", "no-store, max-age=60"}, nil},
		{"no-store on a second line", 200, []string{"Cache-Control", "max-age=60", "Cache-Control", "no-store"}, nil},
		{"no-store beside a malformed directive", 200, []string{"Cache-Control", "max-age=abc, no-store"}, nil},
		{"private", 200, []string{"Cache-Control", "private, max-age=60"}, nil},
		{"max-age=0", 200, []string{"Cache-Control", "max-age=0"}, nil},
		{"Vary: *", 200, []string{"Cache-Control", "max-age=60", "Vary", "*"}, nil},
		{"Set-Cookie", 200, []string{"Cache-Control", "public, max-age=60", "Set-Cookie", "id=1"}, nil},
		{"Expires in the past", 200, []string{"Expires", "0"}, nil},
		{"error without freshness", 500, nil, nil},
		{"429 even with freshness", 429, []string{"Cache-Control", "max-age=60"}, nil},
		{"Authorization without permission", 200, []string{"Cache-Control", "max-age=60"}, []string{"Authorization", "Bearer a"}},
		{"Cookie without permission", 200, []string{"Cache-Control", "max-age=60"}, []string{"Cookie", "session=a"}},
		{"no-store in the request", 200, []string{"Cache-Control", "max-age=60"}, []string{"Cache-Control", "no-store"}},
	}
	o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
		var i int
		fmt.Sscanf(r.URL.Path, "/%d", &i)
		for f := 0; f < len(table[i].answer); f += 2 {
			w.Header().Add(table[i].answer[f], table[i].answer[f+1])
		}
		w.WriteHeader(table[i].status)
	})
	n := front(t, o)
	for i, test := range table {
		target := fmt.Sprintf("/%d", i)
		for range 2 {
			a := get(t, n, target, test.request...)
			equal(t, test.name+": status", a.Status, test.status)
			equal(t, test.name+": hit", a.hit(), false)
		}
		equal(t, test.name+": requests to the origin", o.Count(target), 2)
	}
}

func TestPermissionSharesAnswersToCookiesAndAuthorization(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, fields("for all", "Cache-Control", "public, max-age=60"))
	n := front(t, o)
	warm(t, n, "/cookie", "Cookie", "session=a")
	warm(t, n, "/authorization", "Authorization", "Bearer a")
	equal(t, "requests to the origin", o.Count(""), 2)
	equal(t, "hit for another cookie", get(t, n, "/cookie", "Cookie", "session=b").hit(), true)
}

func TestDirectivesOfTheRequest(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, fields("x", "Cache-Control", "max-age=60", "ETag", `"a"`))
	n := front(t, o)
	equal(t, "only-if-cached with nothing stored", get(t, n, "/", "Cache-Control", "only-if-cached").Status, 504)
	equal(t, "requests to the origin", o.Count(""), 0)
	warm(t, n, "/")
	equal(t, "only-if-cached", get(t, n, "/", "Cache-Control", "only-if-cached").hit(), true)
	equal(t, "requests to the origin", o.Count(""), 1)
	equal(t, "no-cache is a hit", get(t, n, "/", "Cache-Control", "no-cache").hit(), false)
	equal(t, "requests to the origin", o.Count(""), 2)
	equal(t, "Pragma is a hit", get(t, n, "/", "Pragma", "no-cache").hit(), false)
	equal(t, "requests to the origin", o.Count(""), 3)
	equal(t, "a malformed directive spoils the others", get(t, n, "/", "Cache-Control", "max-age=abc, no-cache").hit(), false)
	equal(t, "requests to the origin", o.Count(""), 4)
}

func TestNothingIsAddedBehindTheOriginsBack(t *testing.T) {
	t.Parallel()
	const zipped = "\x1f\x8b not really"
	o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = nil // keeps Go's server from guessing one
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("X-Odd", "kept")
		io.WriteString(w, zipped)
	})
	n := front(t, o)
	for _, a := range []answer{get(t, n, "/?a=1;b=2&c=%zz"), warm(t, n, "/?a=1;b=2&c=%zz")} {
		if guessed, there := a.Header["Content-Type"]; there {
			t.Errorf("Content-Type %q was guessed", guessed)
		}
		equal(t, "body", a.Body, zipped)
		equal(t, "Content-Encoding", a.Header.Get("Content-Encoding"), "gzip")
		equal(t, "X-Odd", a.Header.Get("X-Odd"), "kept")
	}
	asked := o.Last(t)
	equal(t, "target at the origin", asked.Target, "/?a=1;b=2&c=%zz")
	equal(t, "Host at the origin", asked.Host, n.Addr)
	for _, name := range []string{"Accept-Encoding", "User-Agent"} {
		if values, there := asked.Header[name]; there {
			t.Errorf("the origin was sent %s: %q", name, values)
		}
	}
}

func TestSurrogateKeysAreForTheCacheOnly(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, fields("x", "Cache-Control", "max-age=60", "Surrogate-Key", "a b", "Cache-Tag", "c", "Xkey", "d"))
	n := front(t, o)
	for _, a := range []answer{get(t, n, "/"), warm(t, n, "/")} {
		for _, name := range []string{"Surrogate-Key", "Cache-Tag", "Xkey"} {
			equal(t, name, a.Header.Get(name), "")
		}
	}
}

func TestQueryRulesHoldForKeyAndRequest(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, fields("x", "Cache-Control", "max-age=60"))
	n := configured(t, site(o.URL, `"shop.test"`, `
  cache {
    key {
      sort_query = true
      deny_query = ["utm_source"]
    }
  }`))
	warm(t, n, "/?b=2&a=1&utm_source=x", "Host", "shop.test")
	equal(t, "target at the origin", o.Last(t).Target, "/?a=1&b=2")
	warm(t, n, "/?utm_source=y&a=1&b=2", "Host", "shop.test")
	equal(t, "requests to the origin", o.Count(""), 1)
}
