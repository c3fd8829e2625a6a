package cachestore

import (
	"strings"
	"testing"
)

func TestKeyParts(t *testing.T) {
	long := strings.Repeat("x", 300) // two bytes of length
	fields := []string{"", "a", "ab", "/", "\x00", "\x01a", "\x80\xff", "b?c=1&d", long}
	seen := make(map[Key]KeyParts)
	for _, site := range fields {
		for _, target := range fields {
			for _, extra := range fields {
				want := KeyParts{Site: site, Scheme: "https", Authority: "www.example.com", Target: target, Extra: extra}
				key := NewKey(want)
				if got, ok := key.Parts(); !ok || got != want {
					t.Fatalf("%+v came back as %+v, %v", want, got, ok)
				}
				if other, ok := seen[key]; ok {
					t.Fatalf("%+v and %+v have one key", want, other)
				}
				seen[key] = want
			}
		}
	}
}

func TestAppendKey(t *testing.T) {
	p := KeyParts{Site: "shop", Scheme: "http", Authority: "a", Target: "/"}
	got := AppendKey([]byte("before"), &p)
	if string(got) != "before"+string(NewKey(p)) {
		t.Errorf("%q", got)
	}
	buffer := make([]byte, 0, 256)
	if allocs := testing.AllocsPerRun(100, func() { buffer = AppendKey(buffer[:0], &p) }); allocs != 0 {
		t.Errorf("appending to a buffer with room allocates %v times", allocs)
	}
}

func TestForeignKeys(t *testing.T) {
	whole := string(NewKey(KeyParts{Site: "shop", Scheme: "http", Authority: "a", Target: "/", Extra: "x"}))
	foreign := []string{"", "\x00", whole + "\x00", "\xff", strings.Repeat("\xff", 12), strings.Repeat("\x00", 4), strings.Repeat("\x00", 6),
		"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01rest"}
	for n := range len(whole) {
		foreign = append(foreign, whole[:n])
	}
	for _, k := range foreign {
		if p, ok := Key(k).Parts(); ok {
			t.Errorf("%q was taken apart into %+v", k, p)
		}
	}
}

// FuzzKeyParts: whatever the bytes, taking apart does not panic, and only what
// NewKey makes is a key.
func FuzzKeyParts(f *testing.F) {
	f.Add(string(NewKey(KeyParts{Site: "shop", Scheme: "http", Authority: "a", Target: "/", Extra: "x"})))
	f.Add("\x010\x00\x00\x00\x000")
	f.Add("\x80\x00\x00\x00\x00\x00")
	f.Add("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
	f.Fuzz(func(t *testing.T, k string) {
		p, ok := Key(k).Parts()
		if !ok {
			if p != (KeyParts{}) {
				t.Errorf("parts of what is no key: %+v", p)
			}
			return
		}
		if again := NewKey(p); string(again) != k {
			t.Errorf("%q and %q are both the key of %+v", k, again, p)
		}
	})
}
