package upstream

import (
	"fmt"
	"io"
	"net/http"
	"strings"
)

// unasked says why a response can be no answer to the request, or nil. What it
// lets through has a final status that an http.ResponseWriter takes, and none of
// the three statuses that mean something only to the request that asked for them:
// a cache that took one for the whole would poison itself.
func unasked(req *http.Request, res *http.Response) error {
	asked := req.Header
	switch status := res.StatusCode; {
	case status == http.StatusSwitchingProtocols:
		_, connection := res.Body.(io.ReadWriteCloser)
		if asked.Get("Upgrade") == "" || !connection {
			return fmt.Errorf("status 101 to a request without Upgrade")
		}
		if !strings.EqualFold(asked.Get("Upgrade"), res.Header.Get("Upgrade")) {
			return fmt.Errorf("status 101 to another protocol than was asked for")
		}
	case status < 200 || status > 599:
		return fmt.Errorf("status %d is none", status)
	case status == http.StatusPartialContent && asked.Get("Range") == "":
		return fmt.Errorf("status 206 to a request without Range")
	case status == http.StatusNotModified && asked.Get("If-None-Match") == "" && asked.Get("If-Modified-Since") == "":
		return fmt.Errorf("status 304 to a request without a condition")
	}
	return nil
}
