// Package storetest is the one suite that every cachestore.Store must pass.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"edge/cachestore"
)

// Run tests the stores that open returns. Each must be empty, and independent of
// the others; open arranges for it to be closed when its test ends. It must have
// room for 32 MiB of entries and for 32 variants of a key, and take bodies of
// 64 KiB but none of 16 MiB. When the store has a Close method, it is tested too,
// and must bear being called again.
func Run(t *testing.T, open func(t *testing.T) cachestore.Store) { suite{1}.run(t, open) }

// RunBriefly is Run with a tenth of the repetitions, for stores whose every call is a
// round trip. It leaves out no test.
func RunBriefly(t *testing.T, open func(t *testing.T) cachestore.Store) { suite{10}.run(t, open) }

// suite is one way to run the tests.
type suite struct{ shrink int }

// times returns how often something is to be repeated in place of n times.
func (u suite) times(n int) int { return n / u.shrink }

func (u suite) run(t *testing.T, open func(t *testing.T) cachestore.Store) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, cachestore.Store)
	}{
		{"read your writes", u.readYourWrites},
		{"last write wins", u.lastWriteWins},
		{"older is refused", olderIsRefused},
		{"whole entry", wholeEntry},
		{"keys apart", keysApart},
		{"variants", u.variants},
		{"variants stay apart", variantsStayApart},
		{"plain and varied replace each other", u.plainAndVaried},
		{"older cannot change kind", olderCannotChangeKind},
		{"lists of fields newest first", listsNewestFirst},
		{"four lists at most", fourLists},
		{"delete", u.deleteExactly},
		{"delete a variant", deleteVariant},
		{"too large", tooLarge},
		{"of no more use", ofNoMoreUse},
		{"context ended", contextEnded},
		{"as the model", u.asTheModel},
		{"all at once", u.allAtOnce},
		{"newest stays", u.newestStays},
		{"close", closing},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

var background = context.Background()

// began is a moment that all entries of the suite were received soon after.
func began() time.Time { return time.Now().Add(-time.Minute).Truncate(time.Millisecond) }

func key(n int) cachestore.Key {
	return cachestore.NewKey(cachestore.KeyParts{
		Site: "shop", Scheme: "https", Authority: "www.example.com", Target: "/item/" + strconv.Itoa(n),
	})
}

// entry returns one whose body and head both tell all its names and its text, so
// that a mixture of two would show.
func entry(key cachestore.Key, text string) *cachestore.Entry { return varied(key, text, "") }

// varied is entry for a response that varies.
func varied(key cachestore.Key, text, variant string, varyOn ...string) *cachestore.Entry {
	e := &cachestore.Entry{
		Key:      key,
		Status:   http.StatusOK,
		Received: began(),
		Life:     cachestore.Life{Fresh: time.Hour},
		Tags:     []uint32{1, 2, 3},
	}
	if variant != "" || varyOn != nil {
		e.Vary = &cachestore.Vary{On: varyOn, Variant: variant}
	}
	e.Head = cachestore.NewHead(http.Header{
		"Content-Type": {"text/plain"},
		"Date":         {"Mon, 02 Jan 2006 15:04:05 GMT"},
		"Etag":         {strconv.Quote(text)},
	})
	half := []byte(strings.Repeat(text+";", 20))
	e.Body = cachestore.NewBody(slices.Clip(half), []byte(fmt.Sprintf("%x/%x", key, e.Variant())))
	return e
}

// text returns what the entry was made with, and fails the test when the entry is
// not whole.
func text(t *testing.T, e *cachestore.Entry) string {
	t.Helper()
	said, err := strconv.Unquote(e.Head.Get("Etag"))
	if err != nil {
		t.Fatalf("the head of an entry is damaged: %v", err)
	}
	want := strings.Repeat(said+";", 20) + fmt.Sprintf("%x/%x", e.Key, e.Variant())
	if got := body(t, e); got != want {
		t.Fatalf("entry %q has the body %q", said, got)
	}
	return said
}

func body(t *testing.T, e *cachestore.Entry) string {
	t.Helper()
	var b strings.Builder
	if _, err := e.Body.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func put(t *testing.T, s cachestore.Store, e *cachestore.Entry) {
	t.Helper()
	if err := s.Put(background, e); err != nil {
		t.Fatalf("Put %q: %v", text(t, e), err)
	}
}

func refused(t *testing.T, s cachestore.Store, e *cachestore.Entry, want error) {
	t.Helper()
	if err := s.Put(background, e); !errors.Is(err, want) {
		t.Fatalf("Put answered %v, not %v", err, want)
	}
}

// finds checks that a look-up gives the entry with this text; "" is a miss.
func finds(t *testing.T, s cachestore.Store, key cachestore.Key, variant, want string) {
	t.Helper()
	found := s.Get(background, key, variant)
	switch {
	case found.VaryOn != nil:
		t.Fatalf("found lists of fields %q, not an entry", found.VaryOn)
	case found.Entry == nil && want != "":
		t.Fatalf("missed %q (variant %q)", want, variant)
	case found.Entry == nil:
		return
	case found.Marks == nil:
		t.Fatal("an entry was found without marks")
	case found.Entry.Key != key || found.Entry.Variant() != variant:
		t.Fatalf("asked for %q %q, found %q %q", key, variant, found.Entry.Key, found.Entry.Variant())
	case text(t, found.Entry) != want:
		t.Fatalf("found %q, not %q", text(t, found.Entry), want)
	}
}

// varies checks the lists in the primary slot.
func varies(t *testing.T, s cachestore.Store, key cachestore.Key, want ...[]string) {
	t.Helper()
	found := s.Get(background, key, "")
	if found.Entry != nil {
		t.Fatalf("found the entry %q, not lists of fields", text(t, found.Entry))
	}
	if !slices.EqualFunc(found.VaryOn, want, slices.Equal[[]string]) {
		t.Fatalf("responses vary on %q, not %q", found.VaryOn, want)
	}
}

func (u suite) readYourWrites(t *testing.T, s cachestore.Store) {
	for n := range u.times(3000) {
		put(t, s, entry(key(n), "first"))
		finds(t, s, key(n), "", "first")
	}
	for n := range u.times(3000) {
		finds(t, s, key(n), "", "first")
	}
}

func (u suite) lastWriteWins(t *testing.T, s cachestore.Store) {
	for n := range u.times(1500) {
		put(t, s, entry(key(n), "first"))
		put(t, s, entry(key(n), "second"))
		finds(t, s, key(n), "", "second")
	}
	// By now a store that applies its writes late has applied most of them.
	for n := range u.times(1500) {
		finds(t, s, key(n), "", "second")
		put(t, s, entry(key(n), "third and longer than the others"))
		finds(t, s, key(n), "", "third and longer than the others")
	}
	for n := range u.times(1500) {
		finds(t, s, key(n), "", "third and longer than the others")
	}
}

func olderIsRefused(t *testing.T, s cachestore.Store) {
	at := func(text string, sequence uint64, received time.Duration) *cachestore.Entry {
		e := entry(key(1), text)
		e.Sequence, e.Received = sequence, began().Add(received)
		return e
	}
	put(t, s, at("stored", 5, 5*time.Second))
	refused(t, s, at("lower sequence", 4, 9*time.Second), cachestore.ErrOlder)
	refused(t, s, at("same sequence, received before", 5, 4*time.Second), cachestore.ErrOlder)
	finds(t, s, key(1), "", "stored")
	put(t, s, at("received after", 5, 6*time.Second))
	finds(t, s, key(1), "", "received after")
	put(t, s, at("higher sequence, received before", 6, time.Second))
	finds(t, s, key(1), "", "higher sequence, received before")

	variant := func(text, variant string, sequence uint64) *cachestore.Entry {
		e := varied(key(2), text, variant, "accept-language")
		e.Sequence = sequence
		return e
	}
	put(t, s, variant("German", "de", 5))
	refused(t, s, variant("old German", "de", 4), cachestore.ErrOlder)
	put(t, s, variant("English", "en", 4)) // another variant's age is no matter
	finds(t, s, key(2), "de", "German")
	finds(t, s, key(2), "en", "English")
}

func wholeEntry(t *testing.T, s cachestore.Store) {
	e := &cachestore.Entry{
		Key:    key(1),
		Vary:   &cachestore.Vary{On: []string{"accept-encoding", "accept-language"}, Variant: "\x02de\x00"},
		Status: http.StatusNotFound,
		Head: cachestore.NewHead(http.Header{
			"Date":   {"Mon, 02 Jan 2006 15:04:05 GMT"},
			"Link":   {"</a>; rel=preload", "</b>; rel=preload"},
			"X-None": {""},
			"X-Odd":  {"caf\xe9"},
		}),
		Body:       cachestore.NewBody([]byte("one\x00"), []byte("two"), make([]byte, 64<<10)),
		Received:   began(),
		InitialAge: 7 * time.Second,
		Life: cachestore.Life{
			Fresh: time.Hour, WhileRevalidate: 2 * time.Hour, IfError: 3 * time.Hour, IfUnreachable: 4 * time.Hour,
			Keep: 5 * time.Hour, AlwaysRevalidate: true, NeverStale: true,
		},
		Sequence: 1<<63 + 3,
		Rules:    1<<63 + 5,
		Tags:     []uint32{1, 1 << 31},
	}
	if err := s.Put(background, e); err != nil {
		t.Fatal(err)
	}
	got := s.Get(background, e.Key, e.Variant()).Entry
	if got == nil {
		t.Fatal("missed")
	}
	if got.Key != e.Key || got.Variant() != e.Variant() || !slices.Equal(got.VaryOn(), e.VaryOn()) {
		t.Errorf("names: %q %q %q", got.Key, got.Variant(), got.VaryOn())
	}
	if got.Status != e.Status || got.Life != e.Life || got.Sequence != e.Sequence || got.Rules != e.Rules || !slices.Equal(got.Tags, e.Tags) {
		t.Errorf("fields: %+v", got)
	}
	if !got.Received.Equal(e.Received) || got.InitialAge != e.InitialAge {
		t.Errorf("times: %v %v", got.Received, got.InitialAge)
	}
	if fmt.Sprint(got.Head.Header()) != fmt.Sprint(e.Head.Header()) {
		t.Errorf("head: %q", got.Head.Header())
	}
	if body(t, got) != body(t, e) || got.Body.Size() != e.Body.Size() {
		t.Errorf("body of %d bytes differs from the one of %d that was stored", got.Body.Size(), e.Body.Size())
	}
}

func keysApart(t *testing.T, s cachestore.Store) {
	var keys []cachestore.Key
	for _, p := range []cachestore.KeyParts{
		{Site: "a", Scheme: "https", Authority: "example.com", Target: "/"},
		{Site: "b", Scheme: "https", Authority: "example.com", Target: "/"},
		{Site: "a", Scheme: "http", Authority: "example.com", Target: "/"},
		{Site: "a", Scheme: "https", Authority: "example.com:8443", Target: "/"},
		{Site: "a", Scheme: "https", Authority: "example.com", Target: "/?"},
		{Site: "a", Scheme: "https", Authority: "example.com", Target: "/", Extra: "x"},
		{Site: "a", Scheme: "https", Authority: "example.com", Target: "/x"},
	} {
		keys = append(keys, cachestore.NewKey(p))
	}
	for i, k := range keys {
		finds(t, s, k, "", "")
		put(t, s, entry(k, strconv.Itoa(i)))
	}
	for i, k := range keys {
		finds(t, s, k, "", strconv.Itoa(i))
		finds(t, s, k, "x", "")
	}
	// The end of a key cannot be taken for a variant, nor the other way round.
	put(t, s, varied(key(1), "one", "1", "accept"))
	finds(t, s, key(11), "", "")
	put(t, s, entry(key(11), "eleven"))
	finds(t, s, key(1), "1", "one")
}

func (u suite) variants(t *testing.T, s cachestore.Store) {
	for n := range u.times(500) {
		put(t, s, varied(key(n), "German", "de", "accept-language"))
		finds(t, s, key(n), "de", "German")
		varies(t, s, key(n), []string{"accept-language"})
		finds(t, s, key(n), "en", "")
		put(t, s, varied(key(n), "English", "en", "accept-language"))
		put(t, s, varied(key(n), "new English", "en", "accept-language"))
		finds(t, s, key(n), "en", "new English")
		finds(t, s, key(n), "de", "German")
	}
	for n := range u.times(500) {
		finds(t, s, key(n), "en", "new English")
		finds(t, s, key(n), "de", "German")
		varies(t, s, key(n), []string{"accept-language"})
	}
	for n := range 32 {
		put(t, s, varied(key(-1), strconv.Itoa(n), "language "+strconv.Itoa(n), "accept-language"))
	}
	for n := range 32 {
		finds(t, s, key(-1), "language "+strconv.Itoa(n), strconv.Itoa(n))
	}
}

func variantsStayApart(t *testing.T, s cachestore.Store) {
	put(t, s, varied(key(1), "one", "de", "accept-language"))
	put(t, s, varied(key(2), "two", "de", "accept-language"))
	finds(t, s, key(1), "de", "one")
	finds(t, s, key(2), "de", "two")
	put(t, s, entry(key(1), "plain"))
	finds(t, s, key(2), "de", "two")
}

func (u suite) plainAndVaried(t *testing.T, s cachestore.Store) {
	for n := range u.times(200) {
		put(t, s, entry(key(n), "plain"))
		put(t, s, varied(key(n), "German", "de", "accept-language"))
		varies(t, s, key(n), []string{"accept-language"})
		finds(t, s, key(n), "de", "German")
		put(t, s, varied(key(n), "English", "en", "accept-language"))

		put(t, s, entry(key(n), "plain again"))
		finds(t, s, key(n), "", "plain again")
		finds(t, s, key(n), "de", "")

		// What was replaced stays away, also where the key varies once more.
		put(t, s, varied(key(n), "French", "fr", "accept-language"))
		varies(t, s, key(n), []string{"accept-language"})
		finds(t, s, key(n), "de", "")
		finds(t, s, key(n), "en", "")
		finds(t, s, key(n), "fr", "French")
	}
	for n := range u.times(200) {
		varies(t, s, key(n), []string{"accept-language"})
		finds(t, s, key(n), "de", "")
		finds(t, s, key(n), "fr", "French")
	}
}

func olderCannotChangeKind(t *testing.T, s cachestore.Store) {
	at := func(e *cachestore.Entry, sequence uint64) *cachestore.Entry {
		e.Sequence = sequence
		return e
	}
	put(t, s, at(entry(key(1), "plain"), 5))
	refused(t, s, at(varied(key(1), "German", "de", "accept-language"), 4), cachestore.ErrOlder)
	finds(t, s, key(1), "", "plain")

	put(t, s, at(varied(key(2), "German", "de", "accept-language"), 5))
	put(t, s, at(varied(key(2), "English", "en", "accept-language"), 3))
	refused(t, s, at(entry(key(2), "plain"), 4), cachestore.ErrOlder)
	finds(t, s, key(2), "de", "German")
	finds(t, s, key(2), "en", "English")
	put(t, s, at(entry(key(2), "plain"), 5))
	finds(t, s, key(2), "", "plain")
}

func listsNewestFirst(t *testing.T, s cachestore.Store) {
	language, encoding := []string{"accept-language"}, []string{"accept-encoding"}
	both := []string{"accept-encoding", "accept-language"}
	put(t, s, varied(key(1), "by language", "1de", language...))
	put(t, s, varied(key(1), "by encoding", "2gzip", encoding...))
	varies(t, s, key(1), encoding, language)
	put(t, s, varied(key(1), "by both", "3gzip,de", both...))
	varies(t, s, key(1), both, encoding, language)
	put(t, s, varied(key(1), "by language again", "1en", language...))
	varies(t, s, key(1), language, both, encoding)
	finds(t, s, key(1), "1de", "by language")
	finds(t, s, key(1), "1en", "by language again")
	finds(t, s, key(1), "2gzip", "by encoding")
	finds(t, s, key(1), "3gzip,de", "by both")

	late := varied(key(1), "of before", "2br", encoding...)
	late.Received = late.Received.Add(-time.Second)
	put(t, s, late)
	varies(t, s, key(1), language, both, encoding)
}

func fourLists(t *testing.T, s cachestore.Store) {
	name := func(n int) string { return "x-" + strconv.Itoa(n) }
	for n := range 6 {
		put(t, s, varied(key(1), strconv.Itoa(n), "of "+name(n), name(n)))
	}
	varies(t, s, key(1), []string{name(5)}, []string{name(4)}, []string{name(3)}, []string{name(2)})
	for n := range 6 {
		want := strconv.Itoa(n)
		if n < 2 {
			want = ""
		}
		finds(t, s, key(1), "of "+name(n), want)
	}
}

func (u suite) deleteExactly(t *testing.T, s cachestore.Store) {
	for n := range u.times(500) {
		first := entry(key(n), "first")
		second := entry(key(n), "second")
		second.Received = first.Received.Add(time.Millisecond)
		other := entry(key(n+10_000), "other")
		put(t, s, first)
		put(t, s, other)
		put(t, s, second)
		s.Delete(background, first) // another has taken its place
		finds(t, s, key(n), "", "second")
		s.Delete(background, second)
		finds(t, s, key(n), "", "")
		finds(t, s, other.Key, "", "other")
		s.Delete(background, second)
		s.Delete(background, entry(key(-1), "never stored"))

		third := entry(key(n), "third")
		put(t, s, third)
		finds(t, s, key(n), "", "third")
	}
	for n := range u.times(500) {
		found := s.Get(background, key(n), "")
		if found.Entry == nil {
			t.Fatal("an entry that was put after a delete is gone")
		}
		s.Delete(background, found.Entry)
		finds(t, s, key(n), "", "")
	}
	for n := range u.times(500) {
		finds(t, s, key(n), "", "")
		finds(t, s, key(n+10_000), "", "other")
	}
}

func deleteVariant(t *testing.T, s cachestore.Store) {
	german, english := varied(key(1), "German", "de", "accept-language"), varied(key(1), "English", "en", "accept-language")
	put(t, s, german)
	put(t, s, english)
	s.Delete(background, german)
	finds(t, s, key(1), "de", "")
	finds(t, s, key(1), "en", "English")
	varies(t, s, key(1), []string{"accept-language"})
	s.Delete(background, entry(key(1), "plain")) // the primary slot holds no entry
	finds(t, s, key(1), "en", "English")
	s.Delete(background, english)
	finds(t, s, key(1), "en", "")
	put(t, s, varied(key(1), "new German", "de", "accept-language"))
	finds(t, s, key(1), "de", "new German")
	finds(t, s, key(1), "en", "")
}

func tooLarge(t *testing.T, s cachestore.Store) {
	large := func(e *cachestore.Entry) *cachestore.Entry {
		e.Body = cachestore.NewBody(make([]byte, 16<<20))
		return e
	}
	refused(t, s, large(entry(key(1), "large")), cachestore.ErrTooLarge)
	finds(t, s, key(1), "", "")
	put(t, s, entry(key(1), "plain"))
	refused(t, s, large(entry(key(1), "large")), cachestore.ErrTooLarge)
	finds(t, s, key(1), "", "plain")
	refused(t, s, large(varied(key(1), "large", "de", "accept-language")), cachestore.ErrTooLarge)
	finds(t, s, key(1), "", "plain")
	finds(t, s, key(1), "de", "")
	put(t, s, varied(key(2), "German", "de", "accept-language"))
	refused(t, s, large(entry(key(2), "large")), cachestore.ErrTooLarge)
	refused(t, s, large(varied(key(2), "large", "de", "accept-language")), cachestore.ErrTooLarge)
	finds(t, s, key(2), "de", "German")
	varies(t, s, key(2), []string{"accept-language"})
}

func ofNoMoreUse(t *testing.T, s cachestore.Store) {
	dead := func(e *cachestore.Entry) *cachestore.Entry {
		e.InitialAge = e.Life.Whole()
		return e
	}
	put(t, s, dead(entry(key(1), "dead")))
	finds(t, s, key(1), "", "")
	put(t, s, entry(key(2), "alive"))
	put(t, s, dead(entry(key(2), "dead"))) // it is the later word, and there is nothing in it
	finds(t, s, key(2), "", "")
	put(t, s, varied(key(3), "alive", "de", "accept-language"))
	put(t, s, varied(key(3), "alive", "en", "accept-language"))
	put(t, s, dead(varied(key(3), "dead", "de", "accept-language")))
	finds(t, s, key(3), "de", "")
	finds(t, s, key(3), "en", "alive")
	put(t, s, varied(key(3), "alive again", "de", "accept-language"))
	finds(t, s, key(3), "de", "alive again")
}

func contextEnded(t *testing.T, s cachestore.Store) {
	ended, cancel := context.WithCancel(background)
	cancel()
	stored := entry(key(1), "stored")
	put(t, s, stored)
	put(t, s, varied(key(2), "German", "de", "accept-language"))
	for _, variant := range []string{"", "de"} {
		for n := range 3 {
			if found := s.Get(ended, key(n), variant); found.Entry != nil || found.VaryOn != nil {
				t.Error("a look-up whose context has ended found something")
			}
		}
	}
	// What becomes of these is the store's own affair, as long as it stays whole.
	_ = s.Put(ended, entry(key(3), "late"))
	if e := s.Get(background, key(3), "").Entry; e != nil {
		finds(t, s, key(3), "", "late")
	}
	s.Delete(ended, stored)
	if e := s.Get(background, key(1), "").Entry; e != nil {
		finds(t, s, key(1), "", "stored")
	}
	finds(t, s, key(2), "de", "German")
}

func (u suite) allAtOnce(t *testing.T, s cachestore.Store) {
	const workers, keys = 8, 12
	steps := u.times(1500)
	languages := []string{"de", "en", "fr"}
	var running sync.WaitGroup
	for worker := range workers {
		running.Go(func() {
			random := rand.New(rand.NewPCG(uint64(worker), 1))
			for step := range steps {
				k := key(random.IntN(keys))
				language := languages[random.IntN(len(languages))]
				name := fmt.Sprintf("%d by %d", step, worker)
				var err error
				switch random.IntN(8) {
				case 0:
					err = s.Put(background, entry(k, name))
				case 1, 2:
					err = s.Put(background, varied(k, name, language, "accept-language"))
				case 3:
					if e := s.Get(background, k, "").Entry; e != nil {
						s.Delete(background, e)
					}
				case 4:
					if e := s.Get(background, k, language).Entry; e != nil {
						s.Delete(background, e)
					}
				default:
					for _, variant := range []string{"", language} {
						found := s.Get(background, k, variant)
						switch {
						case found.Entry == nil:
						case found.Marks == nil:
							t.Error("an entry was found without marks")
						case found.Entry.Key != k || found.Entry.Variant() != variant:
							t.Errorf("asked for %q %q, found %q %q", k, variant, found.Entry.Key, found.Entry.Variant())
						case !whole(found.Entry):
							t.Errorf("found an entry that is not whole: %+v", found.Entry)
						}
						for _, names := range found.VaryOn {
							if !slices.Equal(names, []string{"accept-language"}) {
								t.Errorf("found %q as a list of fields", names)
							}
						}
					}
				}
				if err != nil && !errors.Is(err, cachestore.ErrOlder) {
					t.Errorf("Put: %v", err)
				}
			}
		})
	}
	running.Wait()
}

// whole is text for goroutines that may not end the test.
func whole(e *cachestore.Entry) bool {
	said, err := strconv.Unquote(e.Head.Get("Etag"))
	var b strings.Builder
	_, werr := e.Body.WriteTo(&b)
	return err == nil && werr == nil &&
		b.String() == strings.Repeat(said+";", 20)+fmt.Sprintf("%x/%x", e.Key, e.Variant())
}

// newestStays races writers of one slot: whatever their order, the highest
// sequence is what remains.
func (u suite) newestStays(t *testing.T, s cachestore.Store) {
	const writers = 6
	rounds := u.times(60)
	for n := range rounds {
		var running sync.WaitGroup
		for w := range writers {
			running.Go(func() {
				e := entry(key(n), strconv.Itoa(w))
				if n%2 == 1 {
					e = varied(key(n), strconv.Itoa(w), "de", "accept-language")
				}
				e.Sequence = uint64(w)
				if err := s.Put(background, e); err != nil && !errors.Is(err, cachestore.ErrOlder) {
					t.Errorf("Put: %v", err)
				}
			})
		}
		running.Wait()
		finds(t, s, key(n), []string{"", "de"}[n%2], strconv.Itoa(writers-1))
	}
	for n := range rounds {
		finds(t, s, key(n), []string{"", "de"}[n%2], strconv.Itoa(writers-1))
	}
}

func closing(t *testing.T, s cachestore.Store) {
	var end func()
	switch c := s.(type) {
	case interface{ Close() }:
		end = c.Close
	case interface{ Close() error }:
		end = func() {
			if err := c.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
	default:
		t.Skip("the store has no Close")
	}
	// Each worker goes on for a while after the store was closed beside it.
	var running sync.WaitGroup
	warm := make(chan struct{})
	closed := make(chan struct{})
	for worker := range 4 {
		running.Go(func() {
			late := 0
			for step := 0; late < 200; step++ {
				k := key(step % 50)
				e := entry(k, strconv.Itoa(step))
				_ = s.Put(background, e) // refused once the store is closed
				s.Get(background, k, "")
				s.Get(background, k, "de")
				s.Delete(background, e)
				if step == 100 && worker == 0 {
					close(warm)
				}
				select {
				case <-closed:
					late++
				default:
				}
			}
		})
	}
	<-warm
	end()
	close(closed)
	running.Wait()
	if found := s.Get(background, key(1), ""); found.Entry != nil || found.VaryOn != nil {
		t.Error("a closed store found something")
	}
	if err := s.Put(background, entry(key(1), "late")); err == nil {
		t.Error("a closed store took an entry")
	}
	end()
}
