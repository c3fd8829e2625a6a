package node

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestMetrics(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "12345")
	}))
	defer origin.Close()
	n := start(t, origin.URL, io.Discard, nil)
	c := client(t)
	get(t, c, "http://"+n.Listen()[0]+"/secret-path")
	eventually(t, "the request is counted", func() bool { return stats(t, c, n).Requests.Outcomes["miss"] == 1 })

	_, body := get(t, c, "http://"+n.Admin()+"/metrics")
	for _, line := range []string{
		`edge_requests_total{outcome="miss",site="default"} 1`,
		`edge_requests_total{outcome="hit",site="default"} 0`,
		`edge_requests_total{outcome="refused",site=""} 0`,
		`edge_response_body_bytes_total{site="default"} 5`,
		`edge_request_duration_seconds_count{site="default"} 1`,
		`edge_origin_wait_seconds_bucket{site="default",le="+Inf"} 1`,
		`edge_origin_requests_total{origin="` + n.origins[0].name + `"} 1`,
		"edge_stored_total 1",
		"go_goroutines ",
		"process_resident_memory_bytes ",
	} {
		if !strings.Contains(body, line) {
			t.Errorf("no line %s in:\n%s", line, body)
		}
	}
	if strings.Contains(body, "secret-path") || strings.Contains(body, n.Listen()[0]) {
		t.Error("what a client chose stands in the metrics")
	}
}
