package node

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"edge/proxy"
	"edge/proxy/wire"
)

func TestRefusalsAreLoggedNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := newRefusals(slog.New(slog.NewJSONHandler(&log, nil)))
		line := func() (got struct {
			Reason  string
			Client  string
			Status  int
			LeftOut int `json:"left_out"`
		}) {
			t.Helper()
			if lines := strings.Count(log.String(), "\n"); lines != 1 {
				t.Fatalf("%d lines, want one:\n%s", lines, log.String())
			}
			if err := json.Unmarshal(log.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			log.Reset()
			return got
		}

		r.add("192.0.2.1:4711", 400, "framing")
		if got := line(); got.Reason != "framing" || got.Client != "192.0.2.1" || got.Status != 400 || got.LeftOut != 0 {
			t.Errorf("the first line is %+v", got)
		}
		time.Sleep(refusalLogInterval - time.Nanosecond)
		for range 1000 {
			r.add("192.0.2.1:4711", 400, "framing")
		}
		if log.Len() > 0 {
			t.Errorf("a line too soon: %s", log.String())
		}
		r.add("[2001:db8::1]:80", 431, "head-too-large") // another reason has its own time
		if got := line(); got.Reason != "head-too-large" || got.Client != "2001:db8::1" {
			t.Errorf("the other reason's line is %+v", got)
		}
		time.Sleep(time.Nanosecond)
		r.add("what no listener gives\n", 0, "framing")
		if got := line(); got.LeftOut != 1000 || got.Client != "what no listener gives\n" || got.Status != 0 {
			t.Errorf("the next line is %+v, want 1000 left out", got)
		}
		time.Sleep(refusalLogInterval)
		r.add("192.0.2.1:4711", 400, "framing")
		if got := line(); got.LeftOut != 0 {
			t.Errorf("the last line is %+v, want none left out", got)
		}
		if counts := r.counts(); counts["framing"] != 1003 || counts["head-too-large"] != 1 || counts["chunk"] != 0 || len(counts) != reasonsInAll() {
			t.Errorf("counted %v", counts)
		}
	})
}

func TestRefusalsOfManyConnections(t *testing.T) {
	var log bytes.Buffer
	r := newRefusals(slog.New(slog.NewJSONHandler(&log, nil)))
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for range 1000 {
				r.add("192.0.2.1:4711", 400, "host")
			}
		})
	}
	clients.Wait()
	if got := r.counts()["host"]; got != 8000 {
		t.Errorf("counted %d of 8000", got)
	}
	if lines := strings.Count(log.String(), "\n"); lines != 1 {
		t.Errorf("%d lines, want one", lines)
	}
}

func TestRefusalForNoReason(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a reason that is not declared was taken")
		}
	}()
	newRefusals(slog.New(slog.DiscardHandler)).add("192.0.2.1:4711", 400, "x")
}

func TestRefusalsAreShown(t *testing.T) {
	n := start(t, "http://127.0.0.1:1", io.Discard, nil)
	n.refused("192.0.2.1:4711", http.StatusBadRequest, "transfer-coding")
	c := client(t)
	if s := stats(t, c, n); s.Door.Refused["transfer-coding"] != 1 || len(s.Door.Refused) != reasonsInAll() {
		t.Errorf("/stats shows %v", s.Door.Refused)
	}
	_, body := get(t, c, "http://"+n.Admin()+"/metrics")
	for _, line := range []string{`edge_door_refused_total{reason="transfer-coding"} 1`, `edge_door_refused_total{reason="connections"} 0`} {
		if !strings.Contains(body, line) {
			t.Errorf("no line %s in:\n%s", line, body)
		}
	}
	for outcome, count := range stats(t, c, n).Requests.Outcomes {
		if count != 0 {
			t.Errorf("what the door refuses is counted as %s", outcome)
		}
	}
}

// reasonsInAll is how many reasons there are, some of which are both the door's and a
// router's.
func reasonsInAll() int {
	all := make(map[string]bool)
	for _, reason := range wire.Reasons() {
		all[reason] = true
	}
	for _, reason := range proxy.Refusals() {
		all[string(reason)] = true
	}
	return len(all)
}

// TestRefusalsBehindTheDoor: what only the router can refuse is counted with the rest,
// and an answer that is one for good reasons is not.
func TestRefusalsBehindTheDoor(t *testing.T) {
	n := start(t, "http://127.0.0.1:1", io.Discard, nil)
	c := client(t)
	for _, fields := range [][2]string{{"Cdn-Loop", "edge"}, {"Cache-Control", "only-if-cached"}} {
		req, err := http.NewRequest(http.MethodGet, "http://"+n.Listen()[0]+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(fields[0], fields[1])
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	total := int64(0)
	for _, count := range stats(t, c, n).Door.Refused {
		total += count
	}
	if s := stats(t, c, n); s.Door.Refused["loop"] != 1 || total != 1 {
		t.Errorf("/stats shows %v", s.Door.Refused)
	}
}
