package cachestore

import (
	"maps"
	"net/http"
	"slices"
	"testing"
)

func TestHead(t *testing.T) {
	from := http.Header{
		"Date":       {"Mon, 02 Jan 2006 15:04:05 GMT"},
		"Set-Cookie": {"a=1", "b=2", ""},
		"Empty":      {""},
		"None":       {},
		"Odd":        {"caf\xe9"},
	}
	want := maps.Clone(from)
	delete(want, "None")
	h := NewHead(from)
	from["Set-Cookie"][0] = "changed"
	want["Set-Cookie"] = []string{"a=1", "b=2", ""}

	same := func(got http.Header) {
		t.Helper()
		if !maps.EqualFunc(got, want, slices.Equal[[]string]) {
			t.Errorf("%q, not %q", got, want)
		}
	}
	same(h.Header())
	dst := http.Header{"Date": {"of before"}, "Kept": {"x"}}
	h.CopyTo(dst)
	if got := dst.Get("Kept"); got != "x" {
		t.Errorf("a field that the head does not have became %q", got)
	}
	delete(dst, "Kept")
	same(dst)

	all := make(http.Header)
	var names []string
	for name, values := range h.All() {
		names = append(names, name)
		all[name] = values
	}
	same(all)
	if !slices.IsSorted(names) {
		t.Errorf("out of order: %q", names)
	}
	for range h.All() {
		break
	}
	if h.Get("Set-Cookie") != "a=1" || h.Get("Empty") != "" || h.Get("Missing") != "" || h.Get("date") != "" {
		t.Error("Get answers wrongly")
	}
	if len(h.Values("Set-Cookie")) != 3 || h.Values("Missing") != nil || len(h.Values("Empty")) != 1 {
		t.Error("Values answers wrongly")
	}
	if h.Len() != 6 {
		t.Errorf("%d lines", h.Len())
	}
	lines := int64(0)
	for name, values := range want {
		for _, v := range values {
			lines += int64(len(name + ": " + v + "\r\n"))
		}
	}
	if h.Bytes() != lines {
		t.Errorf("%d bytes, not %d", h.Bytes(), lines)
	}
}

// TestHeadIsShared: what is handed out cannot be used to change the head.
func TestHeadIsShared(t *testing.T) {
	h := NewHead(http.Header{"A": {"1", "2"}, "B": {"3"}})
	dst := make(http.Header)
	h.CopyTo(dst)
	dst.Add("A", "added")
	dst.Set("B", "set")
	_ = append(h.Values("A"), "added")
	own := h.Header()
	own["A"][0] = "changed"
	if got := h.Header(); !slices.Equal(got["A"], []string{"1", "2"}) || !slices.Equal(got["B"], []string{"3"}) {
		t.Errorf("the head became %q", got)
	}
}

func TestZeroHead(t *testing.T) {
	var h Head
	if h.Len() != 0 || h.Bytes() != 0 || h.Get("A") != "" || h.Values("A") != nil || len(h.Header()) != 0 {
		t.Error("the zero Head is not empty")
	}
}
