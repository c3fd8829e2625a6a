package memory

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"edge/cachestore"
)

func keyOf(n int) cachestore.Key {
	return cachestore.NewKey(cachestore.KeyParts{
		Site: "shop", Scheme: "https", Authority: "www.example.com", Target: "/product/" + strconv.Itoa(n),
	})
}

// sized returns an entry such as a product API answers with.
func sized(n, size int) *cachestore.Entry {
	return &cachestore.Entry{
		Key:      keyOf(n),
		Status:   http.StatusOK,
		Received: time.Now(),
		Life:     cachestore.Life{Fresh: time.Hour},
		Head: cachestore.NewHead(http.Header{
			"Cache-Control":  {"public, max-age=60, stale-while-revalidate=300"},
			"Content-Length": {strconv.Itoa(size)},
			"Content-Type":   {"application/json; charset=utf-8"},
			"Date":           {"Mon, 02 Jan 2006 15:04:05 GMT"},
			"Etag":           {`"` + strconv.Itoa(n) + `"`},
		}),
		Body: cachestore.NewBody(make([]byte, size)),
		Tags: []uint32{uint32(n), uint32(n) % 100},
	}
}

// same reports whether what was found is the entry that was put, or a copy of it.
func same(found, put *cachestore.Entry) bool {
	return found != nil && found.Key == put.Key && stampOf(found) == stampOf(put) && found.Body.Size() == put.Body.Size()
}

func variantOf(e *cachestore.Entry, variant string) *cachestore.Entry {
	e.Vary = &cachestore.Vary{On: []string{"accept-encoding"}, Variant: variant}
	return e
}

// quiet waits until ristretto has applied everything.
func quiet(t testing.TB, s *Store) {
	t.Helper()
	for s.table.len() > 0 {
		runtime.Gosched()
	}
}

func BenchmarkGet(b *testing.B) {
	const keys = 20_000
	s := open(b, Options{Size: 256 << 20})
	ctx := context.Background()
	names := make([]cachestore.Key, keys)
	varied := make([]cachestore.Key, keys)
	for n := range keys {
		plain, gzip := sized(n, 1024), variantOf(sized(n+keys, 1024), "\x04gzip")
		names[n], varied[n] = plain.Key, gzip.Key
		if s.Put(ctx, plain) != nil || s.Put(ctx, gzip) != nil {
			b.Fatal("Put failed")
		}
	}
	quiet(b, s)
	for _, spread := range []struct {
		name string
		mask int
	}{{"hot", 0}, {"spread", 1<<14 - 1}} {
		b.Run("plain/"+spread.name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for n := rand.Int(); pb.Next(); n += 7919 {
					if s.Get(ctx, names[n&spread.mask], "").Entry == nil {
						b.Error("missed")
					}
				}
			})
		})
		b.Run("variant/"+spread.name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for n := rand.Int(); pb.Next(); n += 7919 {
					key := varied[n&spread.mask]
					if len(s.Get(ctx, key, "").VaryOn) == 0 || s.Get(ctx, key, "\x04gzip").Entry == nil {
						b.Error("missed")
					}
				}
			})
		})
	}
}

func BenchmarkPut(b *testing.B) {
	s := open(b, Options{Size: 256 << 20})
	ctx := context.Background()
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if err := s.Put(ctx, sized(n, 1024)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkResidentMemory writes a million objects of 1 KiB into 256 MiB ten times
// over, and reports the resident memory of the process at its highest. It takes a
// minute or two; run it alone:
//
//	go test -run - -bench ResidentMemory -benchtime 1x ./cachestore/memory
func BenchmarkResidentMemory(b *testing.B) {
	if flag.Lookup("test.benchtime").Value.String() != "1x" {
		b.Skip("takes minutes: ask for it with -benchtime 1x")
	}
	const size, objects, rounds = 256 << 20, 1_000_000, 10
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(SoftLimit(size, 64<<20)))
	for b.Loop() {
		s := open(b, Options{Size: size})
		ctx := context.Background()
		began := time.Now()
		for range rounds {
			for n := range objects {
				if err := s.Put(ctx, sized(n, 1024)); err != nil {
					b.Fatal(err)
				}
			}
		}
		quiet(b, s)
		b.ReportMetric(float64(rounds*objects)/time.Since(began).Seconds(), "puts/s")
		b.ReportMetric(mebibytes(b, "VmRSS"), "rss-MiB")
		b.ReportMetric(mebibytes(b, "VmHWM"), "peak-rss-MiB")
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "live-MiB")
		stats := s.Stats()
		b.ReportMetric(float64(stats.Bytes)/(1<<20), "accounted-MiB")
		b.ReportMetric(float64(stats.Entries), "entries")
		b.ReportMetric(100*m.GCCPUFraction, "gc-%")
	}
}

func mebibytes(b *testing.B, field string) float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip("resident memory is read from Linux's /proc")
	}
	for line := range bytes.Lines(status) {
		if name, value, _ := strings.Cut(string(line), ":"); name == field {
			var kib float64
			if _, err := fmt.Sscanf(value, "%f kB", &kib); err != nil {
				b.Fatal(err)
			}
			return kib / 1024
		}
	}
	b.Fatalf("no %s in /proc/self/status", field)
	return 0
}

// BenchmarkOverhead stores a million objects with 32 surrogate keys each and
// reports what an object takes beside its body and the header that clients see,
// after a collection. Run it alone:
//
//	go test -run - -bench Overhead -benchtime 1x ./cachestore/memory
func BenchmarkOverhead(b *testing.B) {
	if flag.Lookup("test.benchtime").Value.String() != "1x" {
		b.Skip("takes gigabytes: ask for it with -benchtime 1x")
	}
	const objects, keys, size = 1_000_000, 32, 1024
	for b.Loop() {
		s := open(b, Options{Size: 4 << 30})
		seen := int64(0) // bytes that clients get
		for n := range objects {
			e := sized(n, size)
			for chunk := range e.Body.Chunks() {
				chunk[0] = 'x' // not resident before it is written to
			}
			e.Tags = make([]uint32, keys)
			for i := range e.Tags {
				e.Tags[i] = rand.Uint32()
			}
			if err := s.Put(context.Background(), e); err != nil {
				b.Fatal(err)
			}
			seen += e.Body.Size() + e.Head.Bytes()
		}
		quiet(b, s)
		debug.FreeOSMemory()
		if got := s.Stats().Entries; got != objects {
			b.Fatalf("%d objects are stored", got)
		}
		b.ReportMetric((mebibytes(b, "VmRSS")*(1<<20)-float64(seen))/objects, "B/object")
	}
}

// BenchmarkAnswer finds one of many objects and copies what an answer takes of it, as
// the door does for a request by itself and for a batch. Of a million hardly anything is in
// the processor's caches. Where memory is full, ristretto hears of every use.
func BenchmarkAnswer(b *testing.B) {
	for _, objects := range []int{1, 1_000_000} {
		s := open(b, Options{Size: 4 << 30})
		for n := range objects {
			e := sized(n, 1024)
			for chunk := range e.Body.Chunks() {
				chunk[0] = 'x' // not resident before it is written to
			}
			if err := s.Put(context.Background(), e); err != nil {
				b.Fatal(err)
			}
		}
		quiet(b, s)
		for _, test := range []struct {
			name  string
			batch int
			roomy bool
		}{{"1", 1, true}, {"32", 32, true}, {"32, full", 32, false}} {
			b.Run(fmt.Sprintf("%d/%s", objects, test.name), func(b *testing.B) {
				batch := test.batch
				s.roomy.Store(test.roomy)
				names, keys, spots := make([][]byte, batch), make([]cachestore.Key, batch), make([]cachestore.Spot, batch)
				var out []byte
				for n := 0; n < b.N; n += batch {
					now := time.Now()
					for i := range batch {
						target := strconv.AppendInt([]byte("/product/"), rand.Int64N(int64(objects)), 10)
						names[i] = cachestore.AppendKey(names[i][:0], &cachestore.KeyParts{Site: "shop", Scheme: "https", Authority: "www.example.com", Target: string(target)})
						keys[i] = cachestore.Key(names[i])
					}
					s.Seek(keys, spots)
					out = out[:0]
					for i, key := range keys {
						found := s.Find(now, spots[i], key, "")
						if found.Entry == nil {
							b.Fatal("missed")
						}
						out = found.Entry.Head.Append(out, func(string) bool { return false })
						for chunk := range found.Entry.Body.Chunks() {
							out = append(out, chunk...)
						}
					}
				}
			})
		}
		s.Close()
	}
}
