package purge

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

// Client purges through the admin listener of a node. The zero value asks the node
// on this machine, at its default address, without a token. It may be used by any
// number of goroutines.
type Client struct {
	URL   string       // of the admin listener; "" means http://127.0.0.1:9090
	Token string       // sent as a bearer token; "" is none
	HTTP  *http.Client // nil means http.DefaultClient; redirects are never followed
}

// maxAnswer bounds what a node may answer: a receipt names every node of a fleet.
const maxAnswer = 16 << 20

// Purge asks for a purge and returns its receipt. With WaitCluster the receipt may
// be incomplete when the time is over: the purge is recorded then, and Receipt tells
// how it stands later. What the node refuses is an *Error. An error that is
// ErrNotRecorded means that the one node has applied it; repeating a call is always
// safe.
//
// The context should leave the node the Timeout of the request.
func (c *Client) Purge(ctx context.Context, request Request) (Receipt, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return Receipt{}, fmt.Errorf("purge: write the request: %w", err)
	}
	return c.do(ctx, http.MethodPost, "/purge", body)
}

// Receipt returns the receipt of a purge as it stands. An id that is not known is
// ErrUnknownPurge.
func (c *Client) Receipt(ctx context.Context, id string) (Receipt, error) {
	return c.do(ctx, http.MethodGet, "/purge/"+url.PathEscape(id), nil)
}

func (c *Client) do(ctx context.Context, method, path string, body []byte) (Receipt, error) {
	target := strings.TrimSuffix(cmp.Or(c.URL, "http://127.0.0.1:9090"), "/") + path
	r, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return Receipt{}, fmt.Errorf("purge: %w", err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.Token != "" {
		r.Header.Set("Authorization", "Bearer "+c.Token)
	}
	res, err := c.client().Do(r)
	if err != nil {
		return Receipt{}, fmt.Errorf("purge: ask the node: %w", err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return Receipt{}, fmt.Errorf("purge: read the answer: %w", err)
	}
	if len(answer) > maxAnswer {
		return Receipt{}, errors.New("purge: the answer is too large to be a receipt")
	}
	return readAnswer(res, answer)
}

// client is a copy that takes no redirect: the node sends none, and the token is for
// nobody else.
func (c *Client) client() *http.Client {
	client := *cmp.Or(c.HTTP, http.DefaultClient)
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client
}

// readAnswer makes a receipt or an error of an answer. What is no problem+json does
// not come from a node, and has no sentinel.
func readAnswer(res *http.Response, body []byte) (Receipt, error) {
	kind, _, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	switch {
	case err == nil && kind == "application/problem+json":
		refused := new(Error)
		if json.Unmarshal(body, refused) == nil && refused.Title != "" {
			refused.Status = res.StatusCode
			return Receipt{}, refused
		}
	case err == nil && kind == "application/json" && (res.StatusCode == http.StatusOK || res.StatusCode == http.StatusAccepted):
		var receipt Receipt
		if json.Unmarshal(body, &receipt) == nil && receipt.ID != "" {
			return receipt, nil
		}
	}
	return Receipt{}, fmt.Errorf("purge: this is no answer of a node: status %d, %q", res.StatusCode, shorten(string(body)))
}
