package redis

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"edge/cachestore"
	"edge/cachestore/redis/conn"
	"edge/cachestore/redis/redistest"
	"edge/cachestore/storetest"
)

// patient is long enough for a busy machine: only what hangs uses it up.
const patient = 10 * time.Second

// plain is one generation that never ends.
type plain struct{}

func (plain) Encode(sequence uint64) (generation [16]byte, position uint64, ok bool) {
	return [16]byte{1}, sequence, true
}

func (plain) Decode(generation [16]byte, position uint64) (uint64, bool) {
	return position, generation == [16]byte{1}
}

func connect(t testing.TB, o conn.Options) *conn.Conn {
	t.Helper()
	o.DialTimeout = patient
	c, err := conn.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("closing the connection: %v", err)
		}
	})
	return c
}

func newStore(t testing.TB, url string, o Options) *Store {
	t.Helper()
	if o.Client == nil {
		o.Client = connect(t, conn.Options{URL: url})
	}
	if o.Generations == nil {
		o.Generations = plain{}
	}
	if o.GetTimeout == 0 {
		o.GetTimeout = patient
	}
	o.PutTimeout = patient
	return New(o)
}

// allExpire fails the test when a server holds a key that stays for ever, or none.
func allExpire(t *testing.T, servers []*redistest.Server, pattern string, some bool) {
	t.Helper()
	seen := 0
	for _, server := range servers {
		for _, key := range server.Keys(pattern) {
			seen++
			if ttl := server.Do("PTTL", key).(int64); ttl == -1 || ttl > (7*time.Hour).Milliseconds() {
				t.Errorf("%q has a time to live of %d ms", key, ttl)
			}
		}
	}
	if some && seen == 0 {
		t.Errorf("nothing was stored under %q", pattern)
	}
}

// suite runs the suite of all stores, and looks at what it has left in Redis.
func suite(t *testing.T, url string, servers ...*redistest.Server) {
	c := connect(t, conn.Options{URL: url})
	nth := 0
	storetest.RunBriefly(t, func(t *testing.T) cachestore.Store {
		nth++
		prefix := fmt.Sprintf("test%d:", nth)
		s := newStore(t, url, Options{Client: c, Prefix: prefix})
		t.Cleanup(func() {
			allExpire(t, servers, prefix+"*", false)
			if stats := s.Stats(); stats.Errors > 0 || stats.Unavailable > 0 || stats.Damaged > 0 || stats.Foreign > 0 {
				t.Errorf("%+v", stats)
			}
		})
		return s
	})
	allExpire(t, servers, "test*", true)
}

func TestStore(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	suite(t, server.URL, server)
}

func TestStoreOnCluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	suite(t, cluster.URL, cluster.Nodes...)
	for _, node := range cluster.Nodes {
		if len(node.Keys("*")) == 0 {
			t.Error("a node of the cluster has nothing")
		}
	}
}

func TestStoreBehindSentinels(t *testing.T) {
	t.Parallel()
	first := redistest.Start(t)
	second := first.StartReplica()
	watch := first.StartSentinels(second)
	s := newStore(t, watch.URL, Options{})
	put(t, s, entry("a", "before"))
	first.Do("WAIT", 1, 0)
	first.Stop()
	watch.AwaitMaster(second)
	// What the breaker refuses meanwhile is tried again.
	for deadline := time.Now().Add(patient); s.Put(t.Context(), entry("b", "after")) != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nothing can be stored: %+v", s.Stats())
		}
	}
	finds(t, s, "a", "", "before")
	finds(t, s, "b", "", "after")
}

// A user that may do nothing but what the store needs, over TLS.
func TestTLSAndUser(t *testing.T) {
	t.Parallel()
	server, trust := redistest.StartTLS(t)
	server.Do("ACL", "SETUSER", "edge", "on", ">secret", "~edge:*",
		"+getrange", "+get", "+set", "+unlink", "+time", "+eval", "+evalsha")
	server.Do("ACL", "SETUSER", "default", "off")
	c := connect(t, conn.Options{URL: server.URL, TLS: trust, Username: "edge", Password: "secret"})
	s := newStore(t, "", Options{Client: c})
	put(t, s, entry("a", "plain"))
	put(t, s, varied("b", "de", "German"))
	put(t, s, varied("c", "de", "German"))
	put(t, s, entry("c", "plain"))
	finds(t, s, "a", "", "plain")
	finds(t, s, "b", "de", "German")
	finds(t, s, "c", "", "plain")
	s.Delete(t.Context(), entry("a", "plain"))
	finds(t, s, "a", "", "")
	if stats := s.Stats(); stats.Errors != 0 {
		t.Errorf("%+v", stats)
	}
}

var began = time.Now().Add(-time.Minute).Truncate(time.Millisecond)

func entry(key, text string) *cachestore.Entry {
	e := &cachestore.Entry{
		Key:    cachestore.NewKey(cachestore.KeyParts{Site: "s", Scheme: "https", Authority: "h", Target: "/" + key}),
		Status: http.StatusOK, Received: began, Life: cachestore.Life{Fresh: time.Hour},
	}
	e.Head = cachestore.NewHead(http.Header{"Date": {"Mon, 02 Jan 2006 15:04:05 GMT"}, "Etag": {strconv.Quote(text)}})
	e.Body = cachestore.NewBody([]byte("body of " + text))
	return e
}

func varied(key, variant, text string) *cachestore.Entry {
	e := entry(key, text)
	e.Vary = &cachestore.Vary{On: []string{"accept-language"}, Variant: variant}
	return e
}

func put(t *testing.T, s *Store, e *cachestore.Entry) {
	t.Helper()
	if err := s.Put(t.Context(), e); err != nil {
		t.Fatalf("Put: %v", err)
	}
}

func get(s *Store, key, variant string) cachestore.Found {
	return s.Get(context.Background(), entry(key, "").Key, variant)
}

// finds checks what is found; "" is a miss.
func finds(t *testing.T, s *Store, key, variant, want string) {
	t.Helper()
	found := get(s, key, variant)
	got := ""
	if found.Entry != nil {
		var b strings.Builder
		if _, err := found.Entry.Body.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		got = strings.TrimPrefix(b.String(), "body of ")
	}
	if got != want || found.VaryOn != nil {
		t.Fatalf("%s %s: found %.100q and %q, not %.100q", key, variant, got, found.VaryOn, want)
	}
}

// Nodes see each other's entries, under names that are the contract between versions
// of the program too.
func TestNodesShare(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	one, two := newStore(t, server.URL, Options{}), newStore(t, server.URL, Options{})
	put(t, one, entry("a", "by one"))
	finds(t, two, "a", "", "by one")
	newer := entry("a", "by two")
	newer.Sequence = 1
	put(t, two, newer)
	finds(t, one, "a", "", "by two")
	if err := one.Put(t.Context(), entry("a", "by one again")); !errors.Is(err, cachestore.ErrOlder) {
		t.Error(err)
	}
	put(t, two, varied("b", "de", "German"))
	finds(t, one, "b", "de", "German")

	a, b := one.names(entry("a", "").Key), one.names(entry("b", "").Key)
	keys := server.Keys("*")
	slices.Sort(keys)
	want := []string{a.primary, b.primary, b.variant(variantHash("de"))}
	slices.Sort(want)
	if !slices.Equal(keys, want) || !strings.HasPrefix(a.primary, "edge:v1:{") || len(a.primary) != len("edge:v1:{}")+32 {
		t.Errorf("keys %q, not %q", keys, want)
	}
}

// Whatever becomes of the bytes in Redis: a miss that is counted, and the damaged
// value goes.
func TestDamageIsAMiss(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, server.URL, Options{})
	large := entry("large", "")
	large.Body = cachestore.NewBody(bytes.Repeat([]byte("0123456789abcdef"), firstRead/8))
	random := rand.New(rand.NewPCG(1, 2))
	for name, test := range map[string]struct {
		entry *cachestore.Entry
		slot  func(names) string
	}{
		"plain":   {entry("plain", "text"), func(n names) string { return n.primary }},
		"large":   {large, func(n names) string { return n.primary }},
		"index":   {varied("index", "de", "text"), func(n names) string { return n.primary }},
		"variant": {varied("variant", "de", "text"), func(n names) string { return n.variant(variantHash("de")) }},
	} {
		e := test.entry
		slot := test.slot(s.names(e.Key))
		put(t, s, e)
		whole := []byte(server.Do("GET", slot).(string))
		// spoil stores other bytes and looks for the entry in each way.
		spoil := func(what string, bytes []byte) {
			t.Helper()
			server.Do("SET", slot, bytes, "PX", 60000)
			before := s.Stats()
			found := s.Get(t.Context(), e.Key, e.Variant())
			if found.Entry != nil || found.VaryOn != nil {
				t.Fatalf("%s, %s: found %+v", name, what, found)
			}
			stats := s.Stats()
			if name == "large" && stats.Misses == before.Misses+1 {
				return // of a wrong size no more is known than that it is not to be read
			}
			foreign := len(bytes) < 4 || string(bytes[:4]) != string(whole[:4])
			if foreign && name == "index" {
				return // where an index should be, there is none: as if nothing were stored
			}
			if len(bytes) > 0 && (stats.Damaged+stats.Foreign != before.Damaged+before.Foreign+1 || stats.Errors != before.Errors) {
				t.Fatalf("%s, %s: counted %+v after %+v", name, what, stats, before)
			}
			if there := server.Do("EXISTS", slot).(int64); (there == 1) != foreign && len(bytes) > 0 {
				t.Fatalf("%s, %s: %d values are left", name, what, there)
			}
		}
		bits := make([]int, 0, 300)
		for bit := range min(8*len(whole), 8*170) { // all there is before the body
			bits = append(bits, bit)
		}
		for range 100 {
			bits = append(bits, random.IntN(8*len(whole)))
		}
		if name == "large" {
			bits = bits[len(bits)-30:]
		}
		for _, bit := range bits {
			changed := bytes.Clone(whole)
			changed[bit/8] ^= 1 << (bit % 8)
			spoil(fmt.Sprintf("bit %d", bit), changed)
		}
		for range 40 {
			n := random.IntN(len(whole))
			spoil(fmt.Sprintf("cut to %d", n), whole[:n])
		}
		spoil("one byte too many", append(bytes.Clone(whole), 0))
		spoil("empty", nil)
		spoil("a page", []byte("<html>"))
		server.Do("SET", slot, whole, "PX", 60000)
		if found := s.Get(t.Context(), e.Key, e.Variant()); found.Entry == nil {
			t.Errorf("%s: the test itself has done the damage", name)
		}
	}
}

// A key of Redis that is not even a string was made by somebody else. It is a miss,
// and gives way to what is stored there.
func TestForeignTypes(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, server.URL, Options{})
	n := s.names(entry("a", "").Key)
	for _, slot := range []string{n.primary, n.variant(variantHash("de"))} {
		for _, e := range []*cachestore.Entry{entry("a", "text"), varied("a", "de", "text")} {
			server.Do("FLUSHALL")
			server.Do("HSET", slot, "field", "value")
			if e.Variant() != "" {
				put(t, s, e)
				server.Do("DEL", slot)
				server.Do("HSET", slot, "field", "value")
			}
			before := s.Stats()
			finds(t, s, "a", e.Variant(), "")
			if stats := s.Stats(); slot == n.primary && stats.Foreign != before.Foreign+1 || stats.Errors != before.Errors {
				t.Errorf("counted %+v after %+v", stats, before)
			}
			put(t, s, e)
			finds(t, s, "a", e.Variant(), "text")
		}
	}
}

// What is longer than the first read comes whole, also as a variant, and what is
// larger than this node takes is not read.
func TestLarge(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, server.URL, Options{})
	small := newStore(t, server.URL, Options{MaxObject: firstRead + 1000})
	same := func(e *cachestore.Entry) {
		t.Helper()
		found := s.Get(t.Context(), e.Key, e.Variant())
		if found.Entry == nil || !bytes.Equal(encode(found.Entry), encode(e)) {
			t.Fatalf("%d bytes: found %v", e.Body.Size(), found.Entry)
		}
	}
	sized := func(e *cachestore.Entry, size int) *cachestore.Entry {
		e.Body = cachestore.Body{}
		e.Body = cachestore.NewBody(bytes.Repeat([]byte("x"), size-len(encode(e))))
		return e
	}
	for _, size := range []int{firstRead - 1, firstRead, firstRead + 1, 2 * firstRead, 8<<20 - 1, 8 << 20} {
		for _, e := range []*cachestore.Entry{sized(entry("a", ""), size), sized(varied("b", "de", ""), size)} {
			put(t, s, e)
			same(e)
			if found := small.Get(t.Context(), e.Key, e.Variant()); (found.Entry != nil) != (size <= firstRead+1000) {
				t.Errorf("%d bytes: found %v by who takes %d", size, found.Entry, firstRead+1000)
			}
			want := error(nil)
			if size > firstRead+1000 {
				want = cachestore.ErrTooLarge
			}
			if err := small.Put(t.Context(), e); !errors.Is(err, want) {
				t.Errorf("%d bytes: %v", size, err)
			}
		}
	}
	if err := s.Put(t.Context(), sized(entry("a", ""), 8<<20+1)); !errors.Is(err, cachestore.ErrTooLarge) {
		t.Error(err)
	}
	if stats := small.Stats(); stats.TooLarge != 6 || stats.Damaged+stats.Foreign+stats.Errors != 0 {
		t.Errorf("%+v", stats)
	}
}

// encode returns the entry as it stands in Redis.
func encode(e *cachestore.Entry) []byte {
	return cachestore.AppendEntry(nil, e, [16]byte{1}, e.Sequence)
}

// era is a Generations as a node has it that follows one log, and knows some before.
type era struct {
	now   byte
	known []byte
	mute  bool
}

func (e *era) Encode(sequence uint64) (generation [16]byte, position uint64, ok bool) {
	return [16]byte{byte(sequence >> 32)}, sequence & (1<<32 - 1), !e.mute && sequence > 0
}

func (e *era) Decode(generation [16]byte, position uint64) (uint64, bool) {
	return uint64(generation[0])<<32 | position, slices.Contains(e.known, generation[0])
}

func (e *era) Generation() [16]byte { return [16]byte{e.now} }

func TestGenerations(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	at := func(text string, generation byte, position uint64, received time.Duration) *cachestore.Entry {
		e := entry("a", text)
		e.Sequence, e.Received = uint64(generation)<<32|position, began.Add(received)
		return e
	}
	old := newStore(t, server.URL, Options{Generations: &era{now: 1, known: []byte{1}}})
	both := newStore(t, server.URL, Options{Generations: &era{now: 2, known: []byte{1, 2}}})
	late := newStore(t, server.URL, Options{Generations: &era{now: 2, known: []byte{2}}})
	refused := func(s *Store, e *cachestore.Entry) {
		t.Helper()
		if err := s.Put(t.Context(), e); !errors.Is(err, cachestore.ErrOlder) {
			t.Errorf("Put: %v", err)
		}
	}

	put(t, old, at("first", 1, 900, time.Minute))
	if found := get(both, "a", ""); found.Entry == nil || found.Suspect || found.Entry.Sequence != 1<<32|900 {
		t.Errorf("who lived through the change finds %+v", found)
	}
	found := get(late, "a", "")
	if found.Entry == nil || !found.Suspect || found.Entry.Sequence != 0 || found.Marks == nil {
		t.Fatalf("who started later finds %+v", found)
	}
	if late.Stats().Suspect != 1 || both.Stats().Suspect != 0 {
		t.Error("suspect entries are not counted")
	}
	put(t, late, at("second", 2, 1, 0)) // received before, in the generation that counts
	finds(t, both, "a", "", "second")
	refused(both, at("late", 1, 901, 2*time.Minute))
	refused(both, at("older", 2, 0, 2*time.Minute))
	refused(both, at("received before", 2, 1, -time.Second))
	finds(t, both, "a", "", "second")
	late.Delete(t.Context(), found.Entry) // that is not there any more
	finds(t, both, "a", "", "second")
	put(t, old, at("of a node that has missed the change", 1, 5, 0))
	refused(old, at("of another generation", 3, 9, -time.Second))
	found = get(late, "a", "")
	if !found.Suspect {
		t.Fatalf("found %+v", found)
	}
	// Neither is of the generation that the node follows: time decides.
	put(t, late, at("of a third", 3, 1, time.Second))
	refused(late, at("received before that", 1, 7, 0))
	found = get(late, "a", "")
	late.Delete(t.Context(), found.Entry)
	finds(t, both, "a", "", "")

	mute := newStore(t, server.URL, Options{Generations: &era{mute: true}})
	if err := mute.Put(t.Context(), at("of who knows when", 2, 9, 0)); !errors.Is(err, ErrUnshared) {
		t.Error(err)
	}
	if mute.Stats().Unshared != 1 {
		t.Errorf("%+v", mute.Stats())
	}
	finds(t, both, "a", "", "")
}

// Stamps are ordered as numbers of all their digits, whatever the server's locale.
func TestOrderOfStamps(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, server.URL, Options{})
	sequences := []uint64{0, 1, 9, 10, 0xfe, 0xff, 0x100, 1<<32 - 1, 1 << 32, 1<<53 - 1, 1 << 53, 1<<53 + 1, 1<<63 - 1, 1 << 63, 1<<64 - 2, 1<<64 - 1}
	for i, sequence := range sequences {
		for _, received := range []time.Duration{-1, 0, 1, 255, 256, time.Second} {
			for _, e := range []*cachestore.Entry{entry("a", "x"), varied("b", "de", "x")} {
				e.Sequence, e.Received = sequence, began.Add(received)
				put(t, s, e)
				put(t, s, e)
				e.Received = e.Received.Add(-1)
				if err := s.Put(t.Context(), e); !errors.Is(err, cachestore.ErrOlder) {
					t.Fatalf("%d, %v: received before: %v", sequence, received, err)
				}
				if i > 0 {
					e.Sequence, e.Received = sequences[i-1], began.Add(time.Minute)
					if err := s.Put(t.Context(), e); !errors.Is(err, cachestore.ErrOlder) {
						t.Fatalf("%d after %d: %v", e.Sequence, sequence, err)
					}
				}
			}
		}
	}
}

// Variants that are out of reach do not stay in memory, and a key has so many and no
// more.
func TestVariantsBounded(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, server.URL, Options{MaxVariants: 3})
	for _, variant := range []string{"a", "b", "c"} {
		put(t, s, varied("x", variant, variant))
	}
	for range 3 { // none of them is idle yet, however often it is asked for
		if err := s.Put(t.Context(), varied("x", "d", "d")); !errors.Is(err, cachestore.ErrVariants) {
			t.Fatal(err)
		}
	}
	if stats := s.Stats(); stats.Variants != 3 {
		t.Errorf("%+v", stats)
	}
	time.Sleep(5 * time.Millisecond) // so that by the clock, which counts milliseconds, it is the newest
	put(t, s, varied("x", "a", "a again"))
	s.idle = 0
	if err := s.Put(t.Context(), varied("x", "e", "e")); !errors.Is(err, cachestore.ErrVariants) {
		t.Fatalf("asked for once: %v", err)
	}
	put(t, s, varied("x", "d", "d"))
	put(t, s, varied("x", "e", "e"))
	finds(t, s, "x", "a", "a again")
	finds(t, s, "x", "b", "")
	finds(t, s, "x", "c", "")
	finds(t, s, "x", "d", "d")
	finds(t, s, "x", "e", "e")
	if keys := server.Keys("*"); len(keys) != 4 {
		t.Errorf("an index and three variants are %q", keys)
	}
	put(t, s, entry("x", "plain"))
	if keys := server.Keys("*"); len(keys) != 1 {
		t.Errorf("an entry without Vary is %q", keys)
	}
	// Those that were refused are remembered up to the bound.
	for n := range 3 {
		put(t, s, varied("y", strconv.Itoa(n), "text"))
	}
	s.idle = time.Hour
	for n := range 100 {
		if err := s.Put(t.Context(), varied("y", "new "+strconv.Itoa(n), "text")); !errors.Is(err, cachestore.ErrVariants) {
			t.Fatal(err)
		}
	}
	if size := server.Do("STRLEN", s.names(entry("y", "").Key).primary).(int64); size > 1200 {
		t.Errorf("an index of three variants has %d bytes", size)
	}
	// A variant whose time is over makes room.
	short := varied("z", "a", "a")
	short.Life.Fresh = time.Since(began) + 30*time.Millisecond
	put(t, s, short)
	put(t, s, varied("z", "b", "b"))
	put(t, s, varied("z", "c", "c"))
	for deadline := time.Now().Add(patient); s.Put(t.Context(), varied("z", "d", "d")) != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a variant whose time is over stays")
		}
	}
}

// What a variant was before its key was replaced cannot come back, even where its
// value could not be deleted.
func TestReplacedVariantsStayAway(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, server.URL, Options{})
	put(t, s, varied("a", "de", "old"))
	slot := s.names(entry("a", "").Key)
	old := server.Do("GET", slot.variant(variantHash("de"))).(string)
	put(t, s, entry("a", "plain"))
	server.Do("SET", slot.variant(variantHash("de")), old, "PX", 60000)
	finds(t, s, "a", "de", "")
	put(t, s, varied("a", "en", "English"))
	finds(t, s, "a", "de", "")
	newer := varied("a", "de", "new")
	newer.Received = newer.Received.Add(time.Second)
	put(t, s, newer)
	server.Do("SET", slot.variant(variantHash("de")), old, "PX", 60000)
	finds(t, s, "a", "de", "")
	if stats := s.Stats(); stats.Damaged+stats.Foreign+stats.Errors != 0 {
		t.Errorf("%+v", stats)
	}
	// An index that was evicted takes its variants with it.
	server.Do("DEL", slot.primary)
	finds(t, s, "a", "en", "")
}

// A damaged index that nobody has looked up is not made good by the next write.
func TestDamagedIndexIsNotMended(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, server.URL, Options{})
	put(t, s, varied("a", "de", "German"))
	slot := s.names(entry("a", "").Key).primary
	index := server.Do("GET", slot).(string)
	server.Do("SET", slot, strings.ReplaceAll(index, "accept-language", "accept-langvage"), "PX", 60000)
	put(t, s, varied("a", "en", "English"))
	if found := get(s, "a", ""); len(found.VaryOn) != 1 || !slices.Equal(found.VaryOn[0], []string{"accept-language"}) {
		t.Errorf("varies on %q", found.VaryOn)
	}
	finds(t, s, "a", "de", "")
	finds(t, s, "a", "en", "English")
}

// Between a write and the sweep behind it, a variant that was replaced may have been
// stored again. It stays.
func TestSweepSparesTheNew(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, server.URL, Options{})
	put(t, s, varied("a", "de", "German"))
	n := s.names(entry("a", "").Key)
	server.Do("SET", n.variant(variantHash("fr")), "left behind", "PX", 60000)
	s.sweep(t.Context(), &n, [16]byte{1}, []string{variantHash("de"), variantHash("fr")})
	finds(t, s, "a", "de", "German")
	if server.Do("EXISTS", n.variant(variantHash("fr"))) != int64(0) {
		t.Error("what is out of reach stays")
	}
}

// gate runs something before each call.
type gate struct {
	*conn.Conn
	before func()
}

func (g *gate) Do(ctx context.Context, deadline time.Duration, fn func(context.Context, goredis.UniversalClient) error) error {
	g.before()
	return g.Conn.Do(ctx, deadline, fn)
}

// A large entry that does not arrive in time is a miss, and says nothing about Redis.
func TestSlowLink(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	g := &gate{Conn: connect(t, conn.Options{URL: server.URL}), before: func() {}}
	s := newStore(t, "", Options{Client: g, GetTimeout: 400 * time.Millisecond})
	large := entry("a", strings.Repeat("x", 2*firstRead))
	put(t, s, large)
	for range 3 { // failures of Redis, and it would count as down
		calls := 0
		g.before = func() {
			if calls++; calls == 2 {
				server.Freeze() // between the first part and the rest
			}
		}
		finds(t, s, "a", "", "")
		if calls != 2 {
			t.Fatalf("%d calls: the first part did not arrive", calls)
		}
		server.Thaw()
		server.Do("PING")
	}
	if state, stats := g.State(), s.Stats(); !state.Up || state.Fault != "" || stats.Errors != 3 || stats.Misses != 3 {
		t.Errorf("%+v, %+v", state, stats)
	}
	g.before = func() {}
	patiently := newStore(t, "", Options{Client: g, GetTimeout: patient}) // over the same connection: a machine that is busy may be late by itself
	if get(patiently, "a", "").Entry == nil {
		t.Error("missed")
	}
}

// An entry under the name of another is not that other.
func TestWholeKeyCompared(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, server.URL, Options{})
	put(t, s, entry("a", "text"))
	put(t, s, varied("b", "de", "text"))
	put(t, s, varied("c", "en", "text"))
	a, b, c, x := s.names(entry("a", "").Key), s.names(entry("b", "").Key), s.names(entry("c", "").Key), s.names(entry("x", "").Key)
	server.Do("COPY", a.primary, x.primary)
	finds(t, s, "x", "", "")
	server.Do("COPY", b.primary, x.primary, "REPLACE")
	server.Do("COPY", b.variant(variantHash("de")), x.variant(variantHash("de")))
	finds(t, s, "x", "", "")
	finds(t, s, "x", "de", "")
	server.Do("COPY", b.variant(variantHash("de")), c.variant(variantHash("en")), "REPLACE")
	finds(t, s, "c", "en", "")
}

func TestServerForgetsScripts(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, server.URL, Options{})
	for n := range 3 {
		put(t, s, entry("a", strconv.Itoa(n)))
		finds(t, s, "a", "", strconv.Itoa(n))
		server.Do("SCRIPT", "FLUSH")
	}
}

// A full server takes nothing more, and what it has is found. Deleting works.
func TestServerFull(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, server.URL, Options{})
	put(t, s, entry("a", "text"))
	server.Do("CONFIG", "SET", "maxmemory", "1")
	if err := s.Put(t.Context(), entry("b", "text")); !goredis.IsOOMError(err) {
		t.Errorf("Put: %v", err)
	}
	finds(t, s, "a", "", "text")
	s.Delete(t.Context(), entry("a", "text"))
	finds(t, s, "a", "", "")
	if stats := s.Stats(); stats.Errors != 1 {
		t.Errorf("%+v", stats)
	}
}

// A server that hangs costs the first look-ups their deadline, and the others
// nothing.
func TestServerHangs(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c := connect(t, conn.Options{URL: server.URL})
	s := newStore(t, "", Options{Client: c, GetTimeout: 20 * time.Millisecond})
	put(t, s, entry("a", "text"))
	server.Freeze()
	for c.State().Up {
		finds(t, s, "a", "", "")
	}
	finds(t, s, "a", "", "")
	if err := s.Put(t.Context(), entry("a", "text")); !errors.Is(err, conn.ErrUnavailable) {
		t.Errorf("Put: %v", err)
	}
	s.Delete(t.Context(), entry("a", "text"))
	if stats := s.Stats(); stats.Errors == 0 || stats.Unavailable != 3 || stats.Misses != stats.Gets {
		t.Errorf("%+v", stats)
	}
	server.Thaw()
	for deadline := time.Now().Add(patient); get(s, "a", "").Entry == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the entry does not come back: %+v", s.Stats())
		}
	}
}

// TestLook: an answer is told at once, with what the rest of it may take; and none is
// told when there is none.
func TestLook(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, server.URL, Options{})
	put(t, s, entry("small", "text"))
	put(t, s, entry("large", strings.Repeat("x", 1<<20)))
	var rests []time.Duration
	look := func(name string) cachestore.Found {
		return s.Look(t.Context(), entry(name, "").Key, "", func(rest time.Duration) { rests = append(rests, rest) })
	}
	if look("small").Entry == nil || look("missing").Entry != nil || look("large").Entry == nil {
		t.Error("not found, or what is missing is")
	}
	if len(rests) != 3 || rests[0] != 0 || rests[1] != 0 || rests[2] < transfer(1<<20-firstRead) {
		t.Errorf("told of %v", rests)
	}
	server.Stop()
	if look("small").Entry != nil || len(rests) != 3 {
		t.Errorf("told of %v", rests)
	}
}

func TestNamesRefused(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, server.URL, Options{})
	for _, names := range [][]string{{""}, {"a b"}, {"a,b"}, {"a\nm x"}, {"ä"}, {strings.Repeat("x", maxNames+1)}} {
		e := varied("a", "v", "text")
		e.Vary.On = names
		if err := s.Put(t.Context(), e); !errors.Is(err, ErrNames) {
			t.Errorf("%q: %v", names, err)
		}
	}
	if keys := server.Keys("*"); len(keys) != 0 {
		t.Errorf("stored %q", keys)
	}
	// The largest index there may be is read at once.
	s = newStore(t, server.URL, Options{MaxVariants: 256})
	for n := range 256 {
		e := varied("a", strconv.Itoa(n), strconv.Itoa(n))
		e.Vary.On = []string{strings.Repeat(string(rune('a'+n%4)), maxNames)}
		put(t, s, e)
	}
	for n := range 300 {
		e := varied("a", "refused"+strconv.Itoa(n), "")
		e.Vary.On = []string{strings.Repeat("a", maxNames)}
		if err := s.Put(t.Context(), e); !errors.Is(err, cachestore.ErrVariants) {
			t.Fatal(err)
		}
	}
	finds(t, s, "a", "0", "0")
	finds(t, s, "a", "255", "255")
	if size := server.Do("STRLEN", s.names(entry("a", "").Key).primary).(int64); size >= firstRead {
		t.Errorf("an index of %d bytes", size)
	}
}

func FuzzParseIndex(f *testing.F) {
	hash := strings.Repeat("ab", 32)
	f.Add([]byte("k "+hash+"\nl 00 a,b\nm aa 00 1 2 a,b\na bb\n"), true)
	f.Add([]byte("k "+hash+"\n"), true)
	f.Add([]byte("EDX\x01"), false)
	f.Fuzz(func(t *testing.T, b []byte, mend bool) {
		if mend {
			b = seal(b)
		}
		x, ok := parseIndex(b, hash)
		if ok != (x != nil && len(x.varyOn) > 0) && ok {
			t.Fatalf("%v, %v", x, ok)
		}
		if ok && !bytes.Contains(b, []byte("k "+hash+"\n")) {
			t.Fatal("the index of another key")
		}
	})
}

func BenchmarkStore(b *testing.B) {
	server := redistest.Start(b)
	s := newStore(b, server.URL, Options{})
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
		e := entry("bench", strings.Repeat("x", size))
		b.Run(fmt.Sprintf("put/%dKiB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				if err := s.Put(b.Context(), e); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("get/%dKiB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				if s.Get(b.Context(), e.Key, "").Entry == nil {
					b.Fatal("missed")
				}
			}
		})
	}
	v := varied("varied", "de", strings.Repeat("x", 1<<10))
	for n := range 32 {
		if err := s.Put(b.Context(), varied("varied", strconv.Itoa(n), "text")); err != nil {
			b.Fatal(err)
		}
	}
	v.Vary = &cachestore.Vary{On: v.VaryOn(), Variant: "1"}
	b.Run("put/variant", func(b *testing.B) {
		for b.Loop() {
			if err := s.Put(b.Context(), v); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("get/variant", func(b *testing.B) {
		for b.Loop() {
			if s.Get(b.Context(), v.Key, v.Variant()).Entry == nil {
				b.Fatal("missed")
			}
		}
	})
}

// seal puts the head of an index before its lines.
func seal(lines []byte) []byte {
	sum := sha1.Sum(lines)
	return append([]byte(indexMagic+hex.EncodeToString(sum[:])), lines...)
}
