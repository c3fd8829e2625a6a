package integration

import (
	"net/http"
	"testing"

	"edge/integration/internal/origin"
)

// RFC 9111 section 4.4: what a successful unsafe request makes invalid, and what
// it does not.
func TestUnsafeMethodsInvalidate(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			fields("x", "Cache-Control", "max-age=600")(w, r)
			return
		}
		for _, name := range []string{"Location", "Content-Location"} {
			if value := r.Header.Get("Answer-" + name); value != "" {
				w.Header().Set(name, value)
			}
		}
		switch r.Header.Get("Answer-Status") {
		case "500":
			w.WriteHeader(500)
		case "404":
			w.WriteHeader(404)
		case "303":
			w.WriteHeader(303)
		}
	})
	n := front(t, o)
	for _, test := range []struct {
		name    string
		method  string
		target  string
		fields  []string
		stored  string
		survive bool
	}{
		{"POST", "POST", "/a", nil, "/a", false},
		{"PUT", "PUT", "/b", nil, "/b", false},
		{"DELETE", "DELETE", "/c", nil, "/c", false},
		{"a method nobody knows", "FROB", "/d", nil, "/d", false},
		{"a redirect is success", "POST", "/e", []string{"Answer-Status", "303"}, "/e", false},
		{"Location", "POST", "/f", []string{"Answer-Location", "/f/1"}, "/f/1", false},
		{"Content-Location", "POST", "/g", []string{"Answer-Content-Location", "/g/1"}, "/g/1", false},
		{"Location of another origin", "POST", "/h", []string{"Answer-Location", "http://other.test/h/1"}, "/h/1", true},
		{"server error", "POST", "/i", []string{"Answer-Status", "500"}, "/i", true},
		{"client error", "POST", "/j", []string{"Answer-Status", "404"}, "/j", true},
		{"OPTIONS is safe", "OPTIONS", "/k", nil, "/k", true},
		{"another query", "POST", "/l?a=1", nil, "/l?a=2", true},
	} {
		warm(t, n, test.stored)
		if a := ask(t, n, test.method, test.target, "", test.fields...); a.Err != nil {
			t.Errorf("%s: %v", test.name, a.Err)
		}
		equal(t, test.name+": still stored", get(t, n, test.stored).hit(), test.survive)
	}
}

func TestAllVariantsAreInvalidated(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, fields("x", "Cache-Control", "max-age=600", "Vary", "X-Shop"))
	n := front(t, o)
	warm(t, n, "/", "X-Shop", "a")
	warm(t, n, "/", "X-Shop", "b")
	ask(t, n, "POST", "/", "")
	equal(t, "variant a still stored", get(t, n, "/", "X-Shop", "a").hit(), false)
	equal(t, "variant b still stored", get(t, n, "/", "X-Shop", "b").hit(), false)
}

func TestNobodyPurgesOnThePublicPort(t *testing.T) {
	t.Parallel()
	o := origin.Start(t, fields("x", "Cache-Control", "max-age=600"))
	n := front(t, o)
	warm(t, n, "/")
	for _, method := range []string{"PURGE", "BAN"} {
		a := ask(t, n, method, "/", "")
		equal(t, method+": status", a.Status, 405)
	}
	equal(t, "still stored", get(t, n, "/").hit(), true)
	equal(t, "requests to the origin", o.Count(""), 1)
}
