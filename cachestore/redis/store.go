// Package redis is the tier of the cache that a fleet shares: a cachestore.Store on
// Redis, Redis Cluster, Sentinel or Valkey.
//
// A key has a primary slot, which holds either the entry of a response without Vary
// or an index of the variants; each variant has a slot of its own. Both have the hash
// of the key as hash tag: the slots of one key lie on one server of a cluster, those
// of different keys spread.
//
//	PREFIX v1:{HASH}             primary slot
//	PREFIX v1:{HASH}:VARIANT     a variant
//
// Every value has a time to live. A write is one script, so that of two nodes which
// store at the same time the newer entry stays. What is read is not believed: sums
// are checked, and the whole key is compared.
package redis

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"edge/cachestore"
	"edge/cachestore/redis/conn"
)

// Client is what the store needs of the node's connection: conn.Conn.
type Client interface {
	// Do runs fn with a client and a context that ends after the deadline, unless
	// Redis is down.
	Do(ctx context.Context, deadline time.Duration, fn func(context.Context, goredis.UniversalClient) error) error
}

// Generations tells what a local purge sequence is in the shared log, and back. Its
// methods are called by many goroutines. When it also has a method
// Generation() [16]byte, that is the one which the node follows now.
type Generations interface {
	// Encode returns the place of a sequence; false when it cannot be shared now.
	Encode(sequence uint64) (generation [16]byte, position uint64, ok bool)
	// Decode returns the sequence of a place; false when nobody here can say.
	Decode(generation [16]byte, position uint64) (sequence uint64, known bool)
}

// Options configure a Store. Client and Generations are required.
type Options struct {
	Client      Client
	Generations Generations

	Prefix      string        // of all keys; "" means "edge:"
	MaxObject   int64         // largest entry stored, in bytes as it is stored; zero means 8 MiB
	MaxVariants int           // of one key, at most 256; zero means 32
	GetTimeout  time.Duration // of a look-up; zero means 50ms. What is larger than 256 KiB may take longer, at 32 MiB/s
	PutTimeout  time.Duration // of a write; zero means 1s, and the time for the entry's bytes is added

	Now func() time.Time // nil is time.Now
}

var (
	// ErrUnshared says that the entry's purge sequence has no place in the shared
	// log, so that other nodes could not tell which purges it has outlived.
	ErrUnshared = errors.New("redis: the entry cannot be shared now")

	// ErrNames says that the entry varies on what is not the name of a field, or on
	// too many of them.
	ErrNames = errors.New("redis: the entry varies on what cannot be listed")
)

const (
	maxLists    = 4                // lists of field names of one key
	maxNames    = 512              // bytes of a list: with it an index is never larger than what is read at first
	variantIdle = 10 * time.Second // before that, no newcomer displaces a variant

	// The first read takes so much of a value that most entries are whole with it,
	// and any link is done with it in time. What is behind it is fetched at leisure:
	// a large entry must not look like a Redis that is down.
	firstRead   = 256 << 10
	slowestLink = 32 << 20 // bytes per second
)

// Store implements cachestore.Store. It has nothing to close.
type Store struct {
	options Options
	current func() [16]byte // nil: not known
	idle    time.Duration
	scripts scripts
	counts  counts
}

// New returns a Store. It does not call Redis.
func New(o Options) *Store {
	if o.Prefix == "" {
		o.Prefix = "edge:"
	}
	if o.MaxObject == 0 {
		o.MaxObject = 8 << 20
	}
	if o.MaxVariants == 0 {
		o.MaxVariants = 32
	}
	if o.GetTimeout == 0 {
		o.GetTimeout = 50 * time.Millisecond
	}
	if o.PutTimeout == 0 {
		o.PutTimeout = time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Client == nil || o.Generations == nil || o.MaxObject < 0 || o.MaxVariants < 0 || o.MaxVariants > 256 ||
		o.GetTimeout < 0 || o.PutTimeout < 0 || strings.ContainsAny(o.Prefix, "{}") {
		panic("redis: options out of range")
	}
	s := &Store{options: o, idle: variantIdle, scripts: newScripts()}
	if g, ok := o.Generations.(interface{ Generation() [16]byte }); ok {
		s.current = g.Generation
	}
	return s
}

// names are how a key is called in Redis.
type names struct {
	hash    string // of the whole key
	primary string
}

func (s *Store) names(key cachestore.Key) names {
	sum := sha256.Sum256([]byte(key))
	hash := hex.EncodeToString(sum[:])
	return names{hash, s.options.Prefix + "v1:{" + hash[:32] + "}"}
}

// variant returns the slot of a variant, by its hash.
func (n *names) variant(hash string) string { return n.primary + ":" + hash }

func variantHash(variant string) string {
	sum := sha256.Sum256([]byte(variant))
	return hex.EncodeToString(sum[:16])
}

// Get implements cachestore.Store. What Redis does not answer in time is a miss.
func (s *Store) Get(ctx context.Context, key cachestore.Key, variant string) cachestore.Found {
	return s.Look(ctx, key, variant, func(time.Duration) {})
}

// Look is Get, and calls answered once Redis has answered, with how long the rest of a
// large entry may take. When Redis does not answer in time, it does not call it.
func (s *Store) Look(ctx context.Context, key cachestore.Key, variant string, answered func(rest time.Duration)) cachestore.Found {
	s.counts.gets.Add(1)
	if ctx.Err() != nil {
		s.counts.misses.Add(1)
		return cachestore.Found{}
	}
	l := &look{store: s, names: s.names(key), key: key, variant: variant}
	err := s.options.Client.Do(ctx, s.options.GetTimeout, l.read)
	if err == nil {
		answered(transfer(l.rest))
	}
	if err == nil && l.rest > 0 {
		err = l.readRest(ctx)
	}
	var found cachestore.Found
	if err == nil {
		found, err = l.judge()
	}
	s.countMiss(ctx, l, err)
	switch {
	case found.Entry != nil && found.Suspect:
		s.counts.suspect.Add(1)
		s.counts.hits.Add(1)
	case found.Entry != nil || found.VaryOn != nil:
		s.counts.hits.Add(1)
	default:
		s.counts.misses.Add(1)
	}
	return found
}

// look is one look-up under way.
type look struct {
	store *Store
	names
	key     cachestore.Key
	variant string

	slot    string // that of the value
	index   *index // of the key, when a variant is looked for
	value   []byte
	rest    int64 // bytes of the value that were not read yet
	damaged bool  // the value is an index that is not whole
}

// read asks for the primary slot, and with it for the variant's.
func (l *look) read(ctx context.Context, client goredis.UniversalClient) error {
	l.slot = l.primary
	if l.variant == "" {
		first, err := client.GetRange(ctx, l.primary, 0, firstRead-1).Bytes()
		l.take(first)
		return err
	}
	slot := l.names.variant(variantHash(l.variant))
	pipe := client.Pipeline()
	primary := pipe.GetRange(ctx, l.primary, 0, firstRead-1)
	first := pipe.GetRange(ctx, slot, 0, firstRead-1)
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	above, err := primary.Bytes()
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(above, []byte(indexMagic)) {
		return nil // an entry without Vary has replaced the variants, or there is nothing
	}
	var ok bool
	if l.index, ok = parseIndex(above, l.hash); !ok {
		l.value, l.damaged = above, true
		return nil
	}
	l.slot = slot
	value, err := first.Bytes()
	l.take(value)
	return err
}

// take keeps the first part of a value, and finds out how much there is behind it.
func (l *look) take(first []byte) {
	l.value = first
	size, ok := cachestore.EncodedSize(first)
	switch {
	case !ok || len(first) < firstRead:
	case size > l.store.options.MaxObject:
		l.value = nil // of a node that takes larger ones
	default:
		l.rest = size - firstRead
	}
}

// readRest reads what is behind the first part. That Redis works, it has just shown:
// whether this arrives in time is a matter of the link.
func (l *look) readRest(ctx context.Context) error {
	s := l.store
	deadline := s.options.GetTimeout + transfer(l.rest)
	var failed error
	err := s.options.Client.Do(ctx, deadline, func(ctx context.Context, client goredis.UniversalClient) error {
		// One byte more than there should be shows a value that is too long.
		rest, err := client.GetRange(ctx, l.slot, firstRead, firstRead+l.rest).Bytes()
		l.value = append(l.value, rest...)
		failed = err
		return nil
	})
	return errors.Join(err, failed)
}

// transfer returns how long so many bytes may take.
func transfer(bytes int64) time.Duration {
	return time.Duration(float64(bytes) / slowestLink * float64(time.Second))
}

// judge makes an answer of what was read. The error is one of the codec: what is
// stored is not what was written.
func (l *look) judge() (cachestore.Found, error) {
	switch {
	case l.damaged:
		return cachestore.Found{}, cachestore.ErrDamaged
	case len(l.value) == 0:
		return cachestore.Found{}, nil
	case l.variant == "" && bytes.HasPrefix(l.value, []byte(indexMagic)):
		x, ok := parseIndex(l.value, l.hash)
		if !ok {
			return cachestore.Found{}, cachestore.ErrDamaged
		}
		return cachestore.Found{VaryOn: x.varyOn}, nil
	}
	e, generation, position, err := cachestore.DecodeEntry(l.value)
	if err != nil {
		return cachestore.Found{}, err
	}
	if l.index != nil && l.index.members[variantHash(l.variant)] != stampOf(l.value) {
		return cachestore.Found{}, nil // of before its key was replaced
	}
	if e.Key != l.key || e.Variant() != l.variant || e.Remaining(l.store.options.Now()) <= 0 {
		return cachestore.Found{}, nil
	}
	found := cachestore.Found{Entry: e, Marks: new(cachestore.Marks)}
	if sequence, known := l.store.options.Generations.Decode(generation, position); known {
		e.Sequence = sequence
	} else {
		found.Suspect = true
	}
	return found, nil
}

// stampOf returns the stamp of an encoded entry.
func stampOf(encoded []byte) string {
	return hex.EncodeToString(encoded[cachestore.StampOffset : cachestore.StampOffset+cachestore.StampSize])
}

// countMiss counts why a look-up failed, if it has. What is damaged goes; what another
// version has written is left to it.
func (s *Store) countMiss(ctx context.Context, l *look, cause error) {
	switch {
	case cause == nil:
	case errors.Is(cause, cachestore.ErrForeign), goredis.HasErrorPrefix(cause, "WRONGTYPE"):
		s.counts.foreign.Add(1)
	case errors.Is(cause, cachestore.ErrDamaged):
		s.counts.damaged.Add(1)
		sum := sha1.Sum(l.value)
		if _, err := s.run(ctx, s.options.GetTimeout, s.scripts.deleteDamaged, []string{l.slot}, hex.EncodeToString(sum[:])); err != nil {
			s.countError(err)
		}
	default:
		s.countError(cause)
	}
}

// Put implements cachestore.Store. Beside the errors named there it returns
// ErrUnshared, ErrNames, and those of the connection.
func (s *Store) Put(ctx context.Context, e *cachestore.Entry) error {
	if !e.Vary.Valid() {
		panic("redis: an entry has a variant exactly when it varies")
	}
	s.counts.puts.Add(1)
	err := s.put(ctx, e)
	switch {
	case err == nil:
		s.counts.stored.Add(1)
	case errors.Is(err, cachestore.ErrTooLarge):
		s.counts.tooLarge.Add(1)
	case errors.Is(err, cachestore.ErrOlder):
		s.counts.older.Add(1)
	case errors.Is(err, cachestore.ErrVariants):
		s.counts.variants.Add(1)
	case errors.Is(err, ErrUnshared):
		s.counts.unshared.Add(1)
	default:
		s.countError(err)
	}
	return err
}

func (s *Store) put(ctx context.Context, e *cachestore.Entry) error {
	if e.Body.Size() > s.options.MaxObject {
		return cachestore.ErrTooLarge
	}
	generation, position, ok := s.options.Generations.Encode(e.Sequence)
	if !ok {
		return ErrUnshared
	}
	list, ok := joinNames(e.VaryOn())
	if !ok || len(list) > maxNames {
		return ErrNames
	}
	value := cachestore.AppendEntry(nil, e, generation, position)
	if int64(len(value)) > s.options.MaxObject {
		return cachestore.ErrTooLarge
	}
	deadline := s.options.PutTimeout + transfer(int64(len(value)))
	stamp, life := stampOf(value), max(0, e.Remaining(s.options.Now()).Milliseconds())
	if life == 0 {
		value = nil
	}

	n := s.names(e.Key)
	keys, args := []string{n.primary}, []any{n.hash, s.winner(generation), stamp, life, value}
	script := s.scripts.putPlain
	if e.Variant() != "" {
		script = s.scripts.putVariant
		hash := variantHash(e.Variant())
		keys = append(keys, n.variant(hash))
		args = append(args, hash, list, s.options.MaxVariants, maxLists, s.idle.Milliseconds())
	}
	reply, err := s.run(ctx, deadline, script, keys, args...)
	if err != nil {
		return fmt.Errorf("redis: storing an entry: %w", err)
	}
	status, gone, err := parseReply(reply)
	if len(gone) > 0 {
		s.sweep(ctx, &n, generation, gone)
	}
	switch {
	case err != nil:
		return err
	case status == "older":
		return cachestore.ErrOlder
	case status == "variants":
		return cachestore.ErrVariants
	default:
		return nil
	}
}

// parseReply reads what a script says of a write.
func parseReply(reply any) (status string, gone []string, err error) {
	list, _ := reply.([]any)
	for i, item := range list {
		text, ok := item.(string)
		switch {
		case !ok:
			return "", nil, fmt.Errorf("redis: storing an entry: a script replied %T", item)
		case i == 0:
			status = text
		default:
			gone = append(gone, text)
		}
	}
	if status == "" {
		return "", nil, fmt.Errorf("redis: storing an entry: a script replied %T", reply)
	}
	return status, gone, nil
}

// sweep deletes variants that their index does not name any more. They are out of
// reach already; this is for the memory they take, until their time to live is over.
func (s *Store) sweep(ctx context.Context, n *names, generation [16]byte, gone []string) {
	keys, args := []string{n.primary}, []any{n.hash, s.winner(generation)}
	for _, hash := range gone {
		keys = append(keys, n.variant(hash))
		args = append(args, hash)
	}
	if _, err := s.run(ctx, s.options.PutTimeout, s.scripts.sweepVariants, keys, args...); err != nil {
		s.countError(err)
	}
}

// winner returns the generation that wins over any other: the one the node follows,
// or where that is not known, that of the entry at hand.
func (s *Store) winner(entry [16]byte) string {
	if s.current != nil {
		entry = s.current()
	}
	return hex.EncodeToString(entry[:])
}

// Delete implements cachestore.Store. A suspect entry has no sequence, and is known
// by the rest.
func (s *Store) Delete(ctx context.Context, e *cachestore.Entry) {
	generation, position, ok := s.options.Generations.Encode(e.Sequence)
	stamp := cachestore.AppendStamp(nil, generation, position, e.Received)
	if !ok {
		stamp = stamp[len(stamp)-8:]
	}
	n := s.names(e.Key)
	keys, hash := []string{n.primary}, ""
	if e.Variant() != "" {
		hash = variantHash(e.Variant())
		keys = append(keys, n.variant(hash))
	}
	if _, err := s.run(ctx, s.options.PutTimeout, s.scripts.deleteEntry, keys, n.hash, s.winner(generation), hex.EncodeToString(stamp), hash); err != nil {
		s.countError(err)
	}
}

// run runs a script.
func (s *Store) run(ctx context.Context, deadline time.Duration, script *goredis.Script, keys []string, args ...any) (reply any, err error) {
	err = s.options.Client.Do(ctx, deadline, func(ctx context.Context, client goredis.UniversalClient) error {
		var err error
		reply, err = script.Run(ctx, client, keys, args...).Result()
		return err
	})
	return reply, err
}

// countError counts what did not come about. That Redis is known to be down is
// counted apart: nothing was asked. A caller who has left is nobody's error.
func (s *Store) countError(err error) {
	switch {
	case errors.Is(err, conn.ErrUnavailable):
		s.counts.unavailable.Add(1)
	case !errors.Is(err, context.Canceled):
		s.counts.errors.Add(1)
	}
}
