package cachestore

// Spot is where a tier in memory has something, found and not looked at yet. What it is
// then taken for is what was there when it was found.
type Spot interface {
	// Entry returns the entry there, nil when there are variants instead.
	Entry() *Entry
}

// Prefetch reads a little of all that answers from these spots take from memory; a nil
// spot is passed over. What is in none of the processor's caches takes as long as a
// thousand instructions each time, and where a million entries are stored such waits
// were a third of a hit. Here they overlap, as far as each loop needs nothing that its own
// rounds wait for: the entries, then the beginning of what each refers to, then the rest,
// whose pages are known by then. The result means nothing, but without it nothing would
// be read.
//
//go:noinline
func Prefetch(spots []Spot) (sum byte) {
	var room [32]*Entry
	entries := room[:0]
	for _, at := range spots {
		if at != nil {
			entries = append(entries, at.Entry())
		}
	}
	for _, e := range entries {
		if e != nil {
			sum += e.touch()
		}
	}
	for _, e := range entries {
		if e != nil {
			sum += e.touchRest()
		}
	}
	return sum
}

const line = 64 // bytes of the processor's caches

// touch reads the first line of all that the entry refers to.
func (e *Entry) touch() (sum byte) {
	if len(e.Key) > 0 {
		sum += e.Key[0]
	}
	if len(e.Body.first) > 0 {
		sum += e.Body.first[0]
	}
	if len(e.Head.values) > 0 {
		sum += byte(len(e.Head.values[0]))
	}
	return sum
}

// touchRest reads the other lines, of a body no more than the first: the processor goes
// on by itself.
func (e *Entry) touchRest() (sum byte) {
	for _, value := range e.Head.values { // those of its own lie together, and none says which they are
		if len(value) > 0 {
			sum += value[0]
		}
	}
	for i := line; i < min(len(e.Body.first), 16*line); i += line {
		sum += e.Body.first[i]
	}
	return sum
}
