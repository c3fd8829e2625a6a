package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// patience bounds every wait for an answer. It is reached only when none comes.
const patience = 30 * time.Second

// Conn is a connection that is asked one request after the other: net/http's client
// would take more time of its core than the node takes to answer.
type Conn struct {
	net  net.Conn
	in   *bufio.Reader
	body []byte
	stop func() bool
}

// Answer is a response. It is good until the next one of its connection.
type Answer struct {
	Status int
	Hit    bool // from the cache, as Cache-Status says
	Body   []byte
}

// dial connects. The connection fails at once when ctx ends.
func dial(ctx context.Context, address string) (*Conn, error) {
	c, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &Conn{net: c, in: bufio.NewReader(c), stop: context.AfterFunc(ctx, func() { c.Close() })}, nil
}

func (c *Conn) close() {
	c.stop()
	c.net.Close()
}

// ask sends a request and returns its answer.
func (c *Conn) ask(raw []byte) (Answer, error) {
	if err := c.send(raw); err != nil {
		return Answer{}, err
	}
	return c.receive()
}

func (c *Conn) send(raw []byte) error {
	if err := c.net.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err := c.net.Write(raw)
	return err
}

// receive reads a response that tells its length, as all do here.
func (c *Conn) receive() (Answer, error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return Answer{}, err
	}
	a := Answer{}
	if version, rest, _ := strings.Cut(string(line), " "); version != "HTTP/1.1" || len(rest) < 3 {
		return a, fmt.Errorf("no status line: %q", line)
	} else if a.Status, err = strconv.Atoi(rest[:3]); err != nil {
		return a, fmt.Errorf("no status: %q", line)
	}
	length := -1
	for {
		if line, err = c.in.ReadSlice('\n'); err != nil {
			return a, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch value = bytes.TrimSpace(value); {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil || length < 0 || length > 1<<20 {
				return a, fmt.Errorf("Content-Length %q", value)
			}
		case bytes.EqualFold(name, []byte("Cache-Status")):
			a.Hit = bytes.Contains(value, []byte("; hit"))
		}
	}
	if length < 0 {
		return a, errors.New("no Content-Length")
	}
	c.body = append(c.body[:0], make([]byte, length)...)
	_, err = io.ReadFull(c.in, c.body)
	a.Body = c.body
	return a, err
}

// parseAnswer reads a response from what has come of it, as receive does. Nil is not
// all of it.
func parseAnswer(got []byte) (*Answer, error) {
	end := bytes.Index(got, []byte("\r\n\r\n"))
	if end < 0 {
		return nil, nil
	}
	head, body := got[:end+2], got[end+4:]
	_, rest, ok := bytes.Cut(head, []byte("\r\nContent-Length: "))
	digits, _, _ := bytes.Cut(rest, []byte("\r\n"))
	length, err := strconv.Atoi(string(digits))
	if !ok || err != nil || len(head) < len("HTTP/1.1 200") {
		return nil, fmt.Errorf("not an answer: %.300q", got)
	}
	if len(body) < length {
		return nil, nil
	}
	status, err := strconv.Atoi(string(head[len("HTTP/1.1 "):len("HTTP/1.1 200")]))
	if err != nil || len(body) > length {
		return nil, fmt.Errorf("not one answer: %.300q", got)
	}
	_, state, _ := bytes.Cut(head, []byte("\r\nCache-Status: "))
	state, _, _ = bytes.Cut(state, []byte("\r\n"))
	return &Answer{Status: status, Hit: bytes.Contains(state, []byte("; hit")), Body: body}, nil
}

// get is the request for an object.
func get(object int) []byte {
	return fmt.Appendf(nil, "GET /%d HTTP/1.1\r\nHost: fleet.test\r\n\r\n", object)
}

// post is a purge, told to an admin listener.
func post(admin, body string) []byte {
	return fmt.Appendf(nil, "POST /purge HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		admin, len(body), body)
}
