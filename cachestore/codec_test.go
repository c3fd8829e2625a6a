package cachestore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

var testGeneration = [16]byte{1, 2, 3, 15: 16}

// sample is an entry with something in each field.
func sample() *Entry {
	return &Entry{
		Key:    NewKey(KeyParts{Site: "shop", Scheme: "https", Authority: "www.example.com", Target: "/a?b=c"}),
		Vary:   &Vary{On: []string{"accept-encoding", "accept-language"}, Variant: "\x02de\x00"},
		Status: http.StatusNotFound,
		Head: NewHead(http.Header{
			"Date": {"Mon, 02 Jan 2006 15:04:05 GMT"},
			"Link": {"</a>; rel=preload", "</b>; rel=preload"}, "X-None": {""}, "X-Odd": {"caf\xe9"},
		}),
		Body:       NewBody([]byte("one\x00"), []byte("two")),
		Received:   time.Unix(1_700_000_000, 123_456_789),
		InitialAge: 7 * time.Second,
		Life: Life{
			Fresh: time.Hour, WhileRevalidate: 2 * time.Hour, IfError: 3 * time.Hour, IfUnreachable: 4 * time.Hour,
			Keep: 5 * time.Hour, AlwaysRevalidate: true,
		},
		Rules: 1<<63 + 5,
		Tags:  []uint32{1, 1 << 31},
	}
}

// randomEntry has anything that an entry may hold, in extremes too.
func randomEntry(random *rand.Rand) *Entry {
	text := func(limit int) string {
		b := make([]byte, random.IntN(limit))
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return string(b)
	}
	number := func() int64 {
		return []int64{0, 1, -1, math.MaxInt64, math.MinInt64, random.Int64()}[random.IntN(6)]
	}
	duration := func() time.Duration { return time.Duration(number()) }
	header := make(http.Header)
	for n := range random.IntN(20) {
		for range random.IntN(3) + 1 {
			header.Add("X-"+strconv.Itoa(n), text(300))
		}
	}
	var chunks [][]byte
	for range random.IntN(4) {
		chunks = append(chunks, []byte(text(5000)))
	}
	e := &Entry{
		Key:        Key("k" + text(300)),
		Status:     minStatus + random.IntN(maxStatus-minStatus+1),
		Head:       NewHead(header),
		Body:       NewBody(chunks...),
		Received:   time.Unix(0, number()),
		InitialAge: duration(),
		Life: Life{
			Fresh: duration(), WhileRevalidate: duration(), IfError: duration(), IfUnreachable: duration(), Keep: duration(),
			AlwaysRevalidate: random.IntN(2) == 0, NeverStale: random.IntN(2) == 0,
		},
		Rules: random.Uint64(),
	}
	for range random.IntN(5) {
		e.Vary = &Vary{On: append(e.VaryOn(), text(40)), Variant: "v" + text(100)}
	}
	for range random.IntN(50) {
		e.Tags = append(e.Tags, random.Uint32())
	}
	return e
}

// plain is the entry as one comparable value: the body in one piece.
func plain(e *Entry) any {
	var body bytes.Buffer
	if _, err := e.Body.WriteTo(&body); err != nil {
		panic(err)
	}
	c := *e
	c.Head, c.Body = Head{}, Body{}
	c.Received = time.Time{}
	return struct {
		Entry    Entry
		Head     http.Header
		Body     string
		Received int64
	}{c, e.Head.Header(), body.String(), e.Received.UnixNano()}
}

func TestCodecCarriesAll(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	entries := []*Entry{sample(), {Key: "k", Status: 200}}
	for range 500 {
		entries = append(entries, randomEntry(random))
	}
	for _, e := range entries {
		position := random.Uint64()
		encoded := AppendEntry([]byte("before"), e, testGeneration, position)
		if !bytes.HasPrefix(encoded, []byte("before")) {
			t.Fatal("AppendEntry has changed what was there")
		}
		encoded = encoded[len("before"):]
		got, generation, at, err := DecodeEntry(encoded)
		if err != nil {
			t.Fatalf("decoding %+v: %v", e, err)
		}
		if generation != testGeneration || at != position {
			t.Fatalf("generation %x, position %d; not %x, %d", generation, at, testGeneration, position)
		}
		clear(encoded) // nothing decoded may refer to it
		want := *e
		want.Sequence = 0
		if want, got := plain(&want), plain(got); !reflect.DeepEqual(want, got) {
			t.Fatalf("encoded\n%.2000q, decoded\n%.2000q", fmt.Sprint(want), fmt.Sprint(got))
		}
		if got.Body.Held() != got.Body.Size() {
			t.Fatalf("a body of %d bytes holds %d", got.Body.Size(), got.Body.Held())
		}
	}
}

// Each part of Entry and Life is in sample, so that a field that is added without
// being encoded shows in TestCodecCarriesAll.
func TestSampleHasEveryField(t *testing.T) {
	e := sample()
	e.Sequence, e.Life.NeverStale = 1, true
	for _, v := range []reflect.Value{reflect.ValueOf(*e), reflect.ValueOf(e.Life)} {
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("%s.%s is zero", v.Type(), v.Type().Field(i).Name)
			}
		}
	}
}

func TestCodecStampOrders(t *testing.T) {
	moment := time.Unix(1_700_000_000, 0)
	stamps := [][]byte{
		AppendStamp(nil, testGeneration, 0, time.Unix(0, math.MinInt64)),
		AppendStamp(nil, testGeneration, 0, time.Unix(0, -1)),
		AppendStamp(nil, testGeneration, 0, moment),
		AppendStamp(nil, testGeneration, 255, moment),
		AppendStamp(nil, testGeneration, 256, moment.Add(-time.Hour)),
		AppendStamp(nil, testGeneration, 256, moment.Add(-time.Hour+1)),
		AppendStamp(nil, testGeneration, math.MaxUint64, moment),
	}
	for i := range stamps[1:] {
		if bytes.Compare(stamps[i], stamps[i+1]) >= 0 {
			t.Errorf("stamp %d is not before the next: %x, %x", i, stamps[i], stamps[i+1])
		}
	}
	e := sample()
	whole := AppendEntry(nil, e, testGeneration, 7)
	if want := AppendStamp(nil, testGeneration, 7, e.Received); !bytes.Equal(whole[StampOffset:StampOffset+StampSize], want) {
		t.Error("the stamp is not where it is said to be")
	}
}

func TestCodecSeesDamage(t *testing.T) {
	whole := AppendEntry(nil, sample(), testGeneration, 7)
	for n := range len(whole) {
		if _, _, _, err := DecodeEntry(whole[:n]); err == nil {
			t.Fatalf("%d of %d bytes were taken for an entry", n, len(whole))
		}
	}
	for bit := range 8 * len(whole) {
		whole[bit/8] ^= 1 << (bit % 8)
		_, _, _, err := DecodeEntry(whole)
		if want := map[bool]error{true: ErrForeign, false: ErrDamaged}[bit < 32]; !errors.Is(err, want) {
			t.Fatalf("with bit %d changed: %v, not %v", bit, err, want)
		}
		whole[bit/8] ^= 1 << (bit % 8)
	}
	if _, _, _, err := DecodeEntry(append(bytes.Clone(whole), 0)); !errors.Is(err, ErrDamaged) {
		t.Errorf("a byte too many: %v", err)
	}
	for _, foreign := range []string{"", "E", "<html>", strings.Repeat("x", 1000), "EDG\x02" + string(whole[4:])} {
		if _, _, _, err := DecodeEntry([]byte(foreign)); !errors.Is(err, ErrForeign) {
			t.Errorf("%.20q: %v", foreign, err)
		}
	}
}

// seal makes the size and the checksum of an encoding right.
func seal(b []byte) {
	if len(b) >= codecFixed {
		copy(b, codecMagic)
		binary.BigEndian.PutUint64(b[8:], uint64(len(b)))
		binary.BigEndian.PutUint32(b[4:], checksum(b))
	}
}

// What is wrong though its checksum is right was not written by AppendEntry.
func TestCodecSeesWrongFields(t *testing.T) {
	whole := AppendEntry(nil, &Entry{Key: "k", Status: 200}, testGeneration, 7)
	for name, change := range map[string]func(b []byte) []byte{
		"unknown flag":      func(b []byte) []byte { b[96] = 4; return b },
		"status 99":         func(b []byte) []byte { b[97], b[98] = 0, 99; return b },
		"status 1000":       func(b []byte) []byte { b[97], b[98] = 3, 0xe8; return b },
		"no key":            func(b []byte) []byte { return append(b[:107:107], 0, 0, 0, 0, 0) },
		"variant, no Vary":  func(b []byte) []byte { return append(b[:107:107], 1, 'k', 1, 'v', 0, 0, 0) },
		"Vary, no variant":  func(b []byte) []byte { return append(b[:107:107], 1, 'k', 0, 1, 1, 'a', 0, 0) },
		"long length":       func(b []byte) []byte { return append(b[:107:107], 0x81, 0, 'k', 0, 0, 0, 0) },
		"endless key":       func(b []byte) []byte { return append(b[:107:107], 9, 'k', 0, 0, 0, 0) },
		"endless tags":      func(b []byte) []byte { return append(b[:107:107], 1, 'k', 0, 0, 2, 0, 0, 0, 0, 0) },
		"endless head":      func(b []byte) []byte { return append(b[:107:107], 1, 'k', 0, 0, 0, 9, 1, 'A', 0) },
		"no name":           func(b []byte) []byte { return append(b[:107:107], 1, 'k', 0, 0, 0, 1, 0, 0) },
		"name of two lines": func(b []byte) []byte { return append(b[:107:107], 1, 'k', 0, 0, 0, 1, 3, 'A', '\n', 'B', 0) },
		"names unordered":   func(b []byte) []byte { return append(b[:107:107], 1, 'k', 0, 0, 0, 2, 1, 'B', 0, 1, 'A', 0) },
		"huge count": func(b []byte) []byte {
			return append(b[:107:107], 1, 'k', 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1)
		},
		"cut short": func(b []byte) []byte { return b[:107] },
	} {
		b := change(bytes.Clone(whole))
		seal(b)
		if _, _, _, err := DecodeEntry(b); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What can be decoded at all has only one encoding, and nothing makes the decoder
// panic: damage past the checksum is tried too.
func FuzzDecodeEntry(f *testing.F) {
	random := rand.New(rand.NewPCG(3, 4))
	seeds := [][]byte{nil, []byte("EDG\x01"), AppendEntry(nil, sample(), testGeneration, 7)}
	for range 20 {
		seeds = append(seeds, AppendEntry(nil, randomEntry(random), testGeneration, random.Uint64()))
	}
	for _, seed := range seeds {
		f.Add(seed, false)
		f.Add(seed, true)
		f.Add(append(bytes.Clone(seed), bytes.Repeat([]byte{0xff}, 12)...), true)
		f.Add(bytes.Clone(seed[:len(seed)*2/3]), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, mend bool) {
		if mend {
			b = bytes.Clone(b)
			seal(b)
		}
		e, generation, position, err := DecodeEntry(b)
		if (e == nil) == (err == nil) {
			t.Fatalf("entry %v, error %v", e, err)
		}
		if err == nil && !bytes.Equal(AppendEntry(nil, e, generation, position), b) {
			t.Fatal("the entry has two encodings")
		}
	})
}

func BenchmarkCodec(b *testing.B) {
	e := sample()
	e.Body = NewBody(make([]byte, 64<<10))
	whole := AppendEntry(nil, e, testGeneration, 7)
	b.Run("append", func(b *testing.B) {
		b.SetBytes(int64(len(whole)))
		b.ReportAllocs()
		buffer := make([]byte, 0, 2*len(whole))
		for b.Loop() {
			AppendEntry(buffer, e, testGeneration, 7)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.SetBytes(int64(len(whole)))
		b.ReportAllocs()
		for b.Loop() {
			if _, _, _, err := DecodeEntry(whole); err != nil {
				b.Fatal(err)
			}
		}
	})
}
