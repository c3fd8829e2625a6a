// Package websocket speaks just enough of RFC 6455 to echo text through a proxy:
// the opening handshake from both ends, and unfragmented messages.
package websocket

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

const text, closing = 0x1, 0x8

// Conn is one end of a WebSocket. It is used by one goroutine.
type Conn struct {
	net.Conn
	in     *bufio.Reader
	masked bool // a client masks what it sends (RFC 6455 section 5.3)
}

// Dial opens a WebSocket to the authority and path, with a Host of its own when
// host is not empty. When the handshake is refused it returns the answer's status
// in the error. The connection gives up after timeout.
func Dial(authority, host, path string, timeout time.Duration) (*Conn, error) {
	c, err := net.DialTimeout("tcp", authority, timeout)
	if err != nil {
		return nil, err
	}
	if host == "" {
		host = authority
	}
	_ = c.SetDeadline(time.Now().Add(timeout)) // fails on a closed connection only, which the next line tells
	key := base64.StdEncoding.EncodeToString([]byte("sixteen bytes ok"))
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n", path, host, key)
	in := bufio.NewReader(c)
	res, err := http.ReadResponse(in, nil)
	if err == nil && res.StatusCode != http.StatusSwitchingProtocols {
		err = errors.New("websocket: handshake refused: " + res.Status)
	}
	if err == nil && res.Header.Get("Sec-WebSocket-Accept") != accept(key) {
		err = errors.New("websocket: wrong Sec-WebSocket-Accept")
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return &Conn{Conn: c, in: in, masked: true}, nil
}

// Accept answers the opening handshake of r and takes the connection over.
func Accept(w http.ResponseWriter, r *http.Request) (*Conn, error) {
	key := r.Header.Get("Sec-WebSocket-Key")
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || key == "" {
		http.Error(w, "not a WebSocket handshake", http.StatusBadRequest)
		return nil, errors.New("websocket: no handshake")
	}
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Accept: %s\r\n\r\n", accept(key))
	if err != nil {
		c.Close()
		return nil, err
	}
	return &Conn{Conn: c, in: rw.Reader}, nil
}

func accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Send sends one text message of at most 65,535 bytes.
func (c *Conn) Send(message string) error {
	frame := []byte{0x80 | text, 0}
	switch n := len(message); {
	case n < 126:
		frame[1] = byte(n)
	case n <= 0xffff:
		frame[1] = 126
		frame = binary.BigEndian.AppendUint16(frame, uint16(n))
	default:
		return errors.New("websocket: message too long")
	}
	if c.masked {
		frame[1] |= 0x80
		frame = append(frame, 0, 0, 0, 0) // the mask of zeroes leaves the text as it is
	}
	_, err := c.Write(append(frame, message...))
	return err
}

// Receive returns the next text message, or io.EOF when the other end closed.
func (c *Conn) Receive() (string, error) {
	var head [2]byte
	if _, err := io.ReadFull(c.in, head[:]); err != nil {
		return "", err
	}
	size := int(head[1] & 0x7f)
	switch size {
	case 126:
		var long [2]byte
		if _, err := io.ReadFull(c.in, long[:]); err != nil {
			return "", err
		}
		size = int(binary.BigEndian.Uint16(long[:]))
	case 127:
		return "", errors.New("websocket: message too long")
	}
	var mask [4]byte
	if head[1]&0x80 != 0 {
		if _, err := io.ReadFull(c.in, mask[:]); err != nil {
			return "", err
		}
	}
	payload := make([]byte, size)
	if _, err := io.ReadFull(c.in, payload); err != nil {
		return "", err
	}
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
	switch head[0] & 0x0f {
	case text:
		return string(payload), nil
	case closing:
		return "", io.EOF
	}
	return "", fmt.Errorf("websocket: unexpected frame %#x", head[0])
}
