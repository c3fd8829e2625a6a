package node

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// Raw sends the bytes as they are on a connection of its own and reads responses
// until the node closes the connection or there is none for each of count
// requests. It returns the statuses and bodies in order.
func (n *Node) Raw(tb testing.TB, bytes string, count int) (statuses []int, bodies []string) {
	tb.Helper()
	c, err := net.DialTimeout("tcp", n.Addr, patience)
	if err != nil {
		tb.Fatalf("raw: %v", err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience)) // fails on a closed connection only, which the next line tells
	// The node may close before it has read all that it refuses; what it answered
	// is still there to be read.
	_, _ = io.WriteString(c, bytes)
	in := bufio.NewReader(c)
	for range count {
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			break
		}
		body, err := io.ReadAll(res.Body)
		statuses, bodies = append(statuses, res.StatusCode), append(bodies, string(body))
		if err != nil || res.Close {
			break
		}
	}
	return statuses, bodies
}
