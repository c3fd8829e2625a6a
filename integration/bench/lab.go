package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"edge/integration/bench/process"
)

// Lab is what all peers share: scratch space and the origin.
type Lab struct {
	Dir    string // in memory, so that no peer waits for a disk
	Origin string // host:port

	fetched  atomic.Int64 // requests that the origin has answered
	listener net.Listener
	stop     context.CancelFunc
	serving  sync.WaitGroup
	failure  error // of the origin, valid once serving is done
}

func openLab(ctx context.Context) (*Lab, error) {
	lab := &Lab{}
	var err error
	if lab.Dir, err = os.MkdirTemp(process.MemoryDir(), "edge-bench-"); err != nil {
		return nil, err
	}
	ctx, lab.stop = context.WithCancel(ctx)
	lab.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(lab.Dir))
	}
	lab.Origin = lab.listener.Addr().String()
	lab.serving.Go(func() { lab.accept(ctx) })
	return lab, nil
}

func (l *Lab) close() error {
	l.stop()
	err := l.listener.Close()
	l.serving.Wait()
	return errors.Join(err, l.failure, os.RemoveAll(l.Dir))
}

// accept is the origin. It does no more than it must: it shares its core with the
// load, and a slow origin would make all peers look alike.
func (l *Lab) accept(ctx context.Context) {
	for {
		conn, err := l.listener.Accept()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			l.failure = fmt.Errorf("origin: %w", err)
			return
		}
		l.serving.Go(func() {
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			defer conn.Close()
			l.serve(conn) // a peer that hangs up is seen by whoever asked it
		})
	}
}

// zeros is what all bodies are cut from.
var zeros = make([]byte, 16*mib)

// serve answers the requests of a connection. The path is /SIZE/KEY for that many
// bytes, fresh for a day, or /pass/SIZE/KEY for bytes that must not be stored.
func (l *Lab) serve(conn net.Conn) error {
	in := bufio.NewReader(conn)
	var head []byte
	for {
		path, length, err := readRequest(in)
		if err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, in, length); err != nil {
			return err
		}
		l.fetched.Add(1)
		fresh := "public, max-age=86400"
		if rest, found := strings.CutPrefix(path, "/pass"); found {
			path, fresh = rest, "no-store"
		}
		size, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
		n, err := strconv.Atoi(size)
		if err != nil || n < 0 || n > len(zeros) {
			_, err = io.WriteString(conn, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
			return err
		}
		head = append(head[:0], "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: "...)
		head = time.Now().UTC().AppendFormat(head, "Mon, 02 Jan 2006 15:04:05 GMT")
		head = fmt.Appendf(head, "\r\nContent-Length: %d\r\nCache-Control: %s\r\nETag: \"%d\"\r\n\r\n", n, fresh, n)
		parts := net.Buffers{head, zeros[:n]}
		if _, err := parts.WriteTo(conn); err != nil {
			return err
		}
	}
}

// readRequest reads a head, and says how long the body after it is.
func readRequest(in *bufio.Reader) (path string, length int64, err error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return "", 0, err
	}
	fields := strings.Fields(string(line))
	if len(fields) != 3 {
		return "", 0, fmt.Errorf("request line %q", line)
	}
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return "", 0, err
		}
		name, value, found := bytes.Cut(line, []byte(":"))
		if !found {
			return fields[1], length, nil
		}
		if bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64); err != nil {
				return "", 0, err
			}
		}
	}
}
