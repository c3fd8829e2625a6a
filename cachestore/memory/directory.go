package memory

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// directory has what ristretto has, for look-ups to find with one wait for memory where
// ristretto's maps take four, one after the other. It says nothing about what is stored:
// what it does not find may be in ristretto all the same, and slots enter it before
// ristretto has taken them and leave it after. It counts the uses that ristretto does not
// hear of. Look-ups need no lock.
type directory struct{ parts [32]listing } // few, so that they stay in the processor's caches

type listing struct {
	mu      sync.Mutex               // held for changes, also while ristretto holds locks of its own: it takes longer, milliseconds, only to rebuild
	entered int                      // guarded by mu, like changes
	changes int                      // slots that have entered since the buckets were made
	buckets atomic.Pointer[[]bucket] // written to with mu held; nil before the first
}

// bucket has the size of a line of the processor's caches, and is one where there are
// enough of them. Slots beyond its sixth go to the next bucket, and are left out if that is
// full as well.
type bucket struct {
	tags  atomic.Uint64 // a byte for each of slots, from the lowest: zero for none, or of its id; and spilled
	uses  atomic.Uint64 // likewise: how often it was found, to about enough
	slots [6]atomic.Pointer[slot]
}

// spilled is set in the tags of a bucket when the next one has slots of it.
const spilled = 1 << 56

// enough is how many uses are counted: ristretto counts little further.
const enough = 12

// crowded is how many slots a bucket has on average when the directory grows, by a
// quarter. After worn changes for each bucket it is built anew all the same, since what
// has spilled stays where it is when there is room again.
const (
	crowded = 4.2
	worn    = 8
)

func (d *directory) part(id id) *listing { return &d.parts[id.hi>>59] }

// tag is what a bucket tells its slots apart by, without reading them.
func (id id) tag() uint64 { return id.hi%255 + 1 }

// of returns the bucket of an id, and the next.
func of(buckets []bucket, id id) [2]*bucket {
	n, _ := bits.Mul64(id.lo, uint64(len(buckets)))
	return [2]*bucket{&buckets[n], &buckets[(n+1)%uint64(len(buckets))]}
}

// touch reads what find is going to.
func (d *directory) touch(id id) {
	if buckets := d.part(id).buckets.Load(); buckets != nil {
		of(*buckets, id)[0].tags.Load()
	}
}

// find returns a slot that probably has this id, or, if sure, that has it; nil when there
// is none. To be sure takes another wait for memory. It counts as a use of the slot.
func (d *directory) find(id id, sure bool) *slot {
	at, b, i := d.place(id, sure)
	if at != nil && b.uses.Load()>>(8*i)&0xff < enough {
		b.uses.Add(1 << (8 * i))
	}
	return at
}

// usesOf returns how often what has this id was found.
func (d *directory) usesOf(id id) uint64 {
	at, b, i := d.place(id, true)
	if at == nil {
		return 0
	}
	return b.uses.Load() >> (8 * i) & 0xff
}

// place is find, but does not count. It returns also where the slot is.
func (d *directory) place(id id, sure bool) (at *slot, b *bucket, i int) {
	buckets := d.part(id).buckets.Load()
	if buckets == nil {
		return nil, nil, 0
	}
	tag := id.tag()
	for _, b := range of(*buckets, id) {
		tags := b.tags.Load()
		for i := range b.slots {
			if tags>>(8*i)&0xff != tag {
				continue
			}
			if at := b.slots[i].Load(); at != nil && (!sure || at.id == id) {
				return at, b, i
			}
		}
		if tags&spilled == 0 {
			break
		}
	}
	return nil, nil, 0
}

// enter takes in a slot that is not there, as one that was found so often.
func (d *directory) enter(at *slot, uses uint64) {
	p := d.part(at.id)
	p.mu.Lock()
	defer p.mu.Unlock()
	buckets := p.buckets.Load()
	if buckets == nil || float64(p.entered) >= crowded*float64(len(*buckets)) || p.changes >= worn*len(*buckets) {
		buckets = p.rebuild(buckets)
	}
	p.changes++
	p.put(*buckets, at, uses)
}

// rebuild makes buckets with room for a quarter more than there is, with mu held. Look-ups
// use the old ones until they are done.
func (p *listing) rebuild(old *[]bucket) *[]bucket {
	built := make([]bucket, int(float64(p.entered)/crowded*1.25)+4)
	p.entered, p.changes = 0, 0
	if old != nil {
		for i := range *old {
			b := &(*old)[i]
			for j := range b.slots {
				if at := b.slots[j].Load(); at != nil {
					p.put(built, at, b.uses.Load()>>(8*j)&0xff)
				}
			}
		}
	}
	p.buckets.Store(&built)
	return &built
}

// put puts a slot into its bucket, with mu held. A look-up that runs meanwhile finds a
// slot only when both it and its tag are there.
func (p *listing) put(buckets []bucket, at *slot, uses uint64) {
	for _, b := range of(buckets, at.id) {
		tags := b.tags.Load()
		for i := range b.slots {
			if b.slots[i].Load() == nil {
				b.slots[i].Store(at)
				b.used(i)
				b.uses.Add(uses << (8 * i))
				b.tags.Store(tags | at.id.tag()<<(8*i))
				p.entered++
				return
			}
		}
		b.tags.Store(tags | spilled) // the second's own may be looked for one bucket too far
	}
}

// leave takes out a slot, if it is there.
func (d *directory) leave(at *slot) {
	p := d.part(at.id)
	p.mu.Lock()
	defer p.mu.Unlock()
	buckets := p.buckets.Load()
	if buckets == nil {
		return
	}
	for _, b := range of(*buckets, at.id) {
		for i := range b.slots {
			if b.slots[i].Load() == at {
				b.tags.Store(b.tags.Load() &^ (0xff << (8 * i)))
				b.slots[i].Store(nil)
				p.entered--
				return
			}
		}
	}
}

// used returns how often a slot was found, and begins to count anew.
func (b *bucket) used(i int) uint64 {
	return b.uses.And(^(uint64(0xff) << (8 * i))) >> (8 * i) & 0xff
}

// count is how often a slot was found.
type count struct {
	id   id
	uses uint64
}

// counted returns the slots of a part that were found since it was last asked, with how
// often.
func (p *listing) counted() (found []count) {
	buckets := p.buckets.Load()
	if buckets == nil {
		return nil
	}
	for i := range *buckets {
		b := &(*buckets)[i]
		if b.uses.Load() == 0 {
			continue
		}
		for j := range b.slots {
			if at := b.slots[j].Load(); at != nil {
				if uses := b.used(j); uses > 0 {
					found = append(found, count{at.id, uses})
				}
			}
		}
	}
	return found
}
