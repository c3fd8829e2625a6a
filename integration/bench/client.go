package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

// patience bounds every wait for an answer. It is reached only when none comes.
const patience = 30 * time.Second

// Conn is a connection that takes answers in the order of its requests. net/http's
// client would take more time than the servers do.
type Conn struct {
	net.Conn
	in   *bufio.Reader
	stop func() bool
}

// dial connects. The connection fails at once when ctx ends.
func dial(ctx context.Context, address string) (*Conn, error) {
	c, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: c, in: bufio.NewReaderSize(c, 1024), stop: context.AfterFunc(ctx, func() { c.Close() })}, nil
}

func (c *Conn) close() {
	c.stop()
	c.Close()
}

// ask sends requests that end in n answers, and reads them: each a 200 with size bytes.
func (c *Conn) ask(raw []byte, n, size int) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := c.Write(raw); err != nil {
		return err
	}
	for range n {
		status, length, err := readHead(c.in)
		if err != nil {
			return err
		}
		if status != 200 || length != size {
			return fmt.Errorf("status %d with %d bytes", status, length)
		}
		if _, err := c.in.Discard(length); err != nil {
			return err
		}
	}
	return nil
}

// readHead reads the head of a response that tells its length, as all do here.
func readHead(in *bufio.Reader) (status, length int, err error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return 0, 0, err
	}
	if len(line) < len("HTTP/1.1 200") || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return 0, 0, fmt.Errorf("no status line: %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, 0, fmt.Errorf("no status: %q", line)
	}
	length = -1
	for {
		if line, err = in.ReadSlice('\n'); err != nil {
			return status, 0, err
		}
		name, value, found := bytes.Cut(line, []byte(":"))
		if !found {
			break
		}
		if len(name) == len("Content-Length") && bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return status, 0, err
			}
		}
	}
	if length < 0 {
		return status, 0, errors.New("no Content-Length")
	}
	return status, length, nil
}
