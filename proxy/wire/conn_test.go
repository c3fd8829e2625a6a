package wire

import (
	"bufio"
	"bytes"
	"net/http"
	"testing"
	"time"
)

func problemOf(t *testing.T, no *Refusal) *http.Response {
	t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(no.problem(time.Now()))), nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res
}
