package ratelimit

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"
)

// members reads a list of structured fields strictly, as "name key=value ...".
func members(t *testing.T, h http.Header, field string) (all []map[string]any) {
	t.Helper()
	lines := h.Values(field)
	if lines == nil {
		return nil
	}
	list, err := httpsfv.UnmarshalList(lines)
	if err != nil {
		t.Fatalf("%s: %q: %v", field, lines, err)
	}
	for _, m := range list {
		item := m.(httpsfv.Item)
		values := map[string]any{"": item.Value.(string)}
		for _, name := range item.Params.Names() {
			values[name], _ = item.Params.Get(name)
		}
		all = append(all, values)
	}
	return all
}

func sameMembers(a, b []map[string]any) bool {
	return slices.EqualFunc(a, b, func(a, b map[string]any) bool {
		if len(a) != len(b) {
			return false
		}
		for k, v := range a {
			if b[k] != v {
				return false
			}
		}
		return true
	})
}

func expect(t *testing.T, h http.Header, field string, want ...map[string]any) {
	t.Helper()
	if got := members(t, h, field); !sameMembers(got, want) {
		t.Errorf("%s: got %v, want %v", field, got, want)
	}
}

// answered is the answer of the gate before a handler that has nothing to add.
func (rg *rig) answered(key string) *recorder {
	w := newRecorder()
	rg.gate.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, request(key))
	return w
}

const odd = `a "name" with a \`

func TestFieldsOfWhatPasses(t *testing.T) {
	rg := start(t, nil,
		Policy{Name: "silent", Rate: Rate{Limit: 9, Period: time.Second}},
		Policy{Name: odd, Headers: true, Rate: Rate{Limit: 4, Period: 6500 * time.Millisecond}},
		Policy{Name: "day", Algorithm: FixedWindow, Headers: true, Legacy: true, Rate: Rate{Limit: 3, Period: 24 * time.Hour}},
		Policy{Name: "minute", Algorithm: FixedWindow, Legacy: true, Rate: Rate{Limit: 9, Period: time.Minute}})
	h := rg.answered("k").Header()
	expect(t, h, "RateLimit-Policy", map[string]any{"": odd, "q": int64(4), "w": int64(7)}, map[string]any{"": "day", "q": int64(3), "w": int64(86400)})
	// 3:04:05.678901 is 75354.3 seconds before midnight.
	expect(t, h, "RateLimit", map[string]any{"": odd, "r": int64(3), "t": int64(2)}, map[string]any{"": "day", "r": int64(2), "t": int64(75355)})
	for name, want := range map[string]string{"X-RateLimit-Limit": "3", "X-RateLimit-Remaining": "2", "X-RateLimit-Reset": "75355", "Retry-After": "", "Cache-Control": ""} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// TestFieldsOfOthers: an origin's members, or another gate's, stay beside ours.
func TestFieldsOfOthers(t *testing.T) {
	rg := start(t, nil, Policy{Name: "p", Headers: true, Legacy: true, Rate: Rate{Limit: 9, Period: time.Minute}})
	for remaining, want := range map[string]string{"3": "3", "30": "8"} {
		h := http.Header{"Ratelimit": {`"other";r=3`}, "Ratelimit-Policy": {`"other";q=7`}, "X-Ratelimit-Remaining": {remaining}}
		if _, err := rg.gate.Admit(h, request(remaining)); err != nil {
			t.Fatal(err)
		}
		expect(t, h, "RateLimit", map[string]any{"": "other", "r": int64(3)}, map[string]any{"": "p", "r": int64(8), "t": int64(7)})
		expect(t, h, "RateLimit-Policy", map[string]any{"": "other", "q": int64(7)}, map[string]any{"": "p", "q": int64(9), "w": int64(60)})
		if got := h.Get("X-RateLimit-Remaining"); got != want {
			t.Errorf("X-RateLimit-Remaining: got %s, want %s", got, want)
		}
	}
}

// TestRefusal: 429, how long to wait for all that refuse, and who they are.
func TestRefusal(t *testing.T) {
	rg := start(t, nil,
		Policy{Name: odd, Legacy: true, Rate: Rate{Limit: 2, Period: 3 * time.Second}},
		Policy{Name: "hour", Algorithm: FixedWindow, Rate: Rate{Limit: 50, Period: time.Hour}},
		Policy{Name: "block", Legacy: true, Rate: Rate{Limit: 2, Period: time.Second}, BlockFor: 90 * time.Second},
		Policy{Name: "dry", DryRun: true, Rate: Rate{Limit: 1, Period: 24 * time.Hour}})
	rg.allowed(2, "k")
	rg.now = rg.now.Add(300 * time.Millisecond)
	w := rg.answered("k")
	if w.Code != http.StatusTooManyRequests {
		t.Fatalf("%d", w.Code)
	}
	h := w.Header()
	for name, want := range map[string]string{
		"Retry-After": "90", "Cache-Control": "no-store", "Content-Type": "application/problem+json",
		"X-RateLimit-Limit": "2", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "90",
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	expect(t, h, "RateLimit-Policy", map[string]any{"": odd, "q": int64(2), "w": int64(3)},
		map[string]any{"": "hour", "q": int64(50), "w": int64(3600)}, map[string]any{"": "block", "q": int64(2), "w": int64(1)})
	expect(t, h, "RateLimit", map[string]any{"": odd, "r": int64(0), "t": int64(2)}, map[string]any{"": "block", "r": int64(0), "t": int64(90)})
	var problem struct {
		Type, Title string
		Status      int
		Policies    []string `json:"violated-policies"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	if problem.Type != typeExceeded || problem.Title == "" || problem.Status != 429 || !slices.Equal(problem.Policies, []string{odd, "block"}) {
		t.Errorf("%+v", problem)
	}
	rg.now = rg.now.Add(90 * time.Second)
	if w := rg.answered("k"); w.Code != http.StatusOK {
		t.Errorf("refused again after Retry-After: %d", w.Code)
	}
}

// TestRefusalAfterAnother: what gates before have said of their counts does not stand
// in a refusal; who they are does.
func TestRefusalAfterAnother(t *testing.T) {
	for _, legacy := range []bool{true, false} {
		rg := start(t, nil,
			Policy{Name: "day", Headers: true, Legacy: true, Rate: Rate{Limit: 1, Period: 24 * time.Hour}},
			Policy{Name: "tight", Count: CountMisses, Legacy: legacy, Rate: Rate{Limit: 1, Period: time.Minute}})
		second, err := rg.limit.Gate(CountMisses, "tight")
		if err != nil {
			t.Fatal(err)
		}
		rg2 := rig{t: t, gate: second}
		rg2.allowed(1, "k")
		w := newRecorder()
		leave, err := rg.gate.Admit(w.Header(), request("k"))
		if err != nil {
			t.Fatal(err)
		}
		second.Handler(nil).ServeHTTP(w, request("k"))
		leave(true)
		expect(t, w.Header(), "RateLimit", map[string]any{"": "tight", "r": int64(0), "t": int64(60)})
		expect(t, w.Header(), "RateLimit-Policy", map[string]any{"": "day", "q": int64(1), "w": int64(86400)}, map[string]any{"": "tight", "q": int64(1), "w": int64(60)})
		want := ""
		if legacy {
			want = "60"
		}
		if got := w.Header().Get("X-RateLimit-Reset"); w.Code != http.StatusTooManyRequests || got != want || w.Header().Get("Retry-After") != "60" {
			t.Errorf("%d %v", w.Code, w.Header())
		}
	}
}
