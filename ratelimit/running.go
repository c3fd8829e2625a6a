package ratelimit

import "sync"

// running counts what runs at a time, by key. It holds no more keys than there are
// requests.
type running struct {
	mu    sync.Mutex // guards count
	count map[id]int64
}

// enter counts one more, unless that is more than limit, and returns how many there
// are then.
func (r *running) enter(key id, limit int64) (now int64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.count[key]
	if n >= limit {
		return n, false
	}
	if r.count == nil {
		r.count = make(map[id]int64)
	}
	r.count[key] = n + 1
	return n + 1, true
}

func (r *running) leave(key id) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count[key]--; r.count[key] <= 0 {
		delete(r.count, key)
	}
}
