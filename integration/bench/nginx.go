package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"edge/integration/bench/process"
)

// nginxConfig is nginx at its best on this work: one worker for the one core, the
// cache in memory with its files kept open, nothing logged, connections that
// never end.
const nginxConfig = `{{user}}
worker_processes 1;
worker_rlimit_nofile {{files}};
daemon off;
pid {{dir}}/pid;
error_log stderr warn;
events { worker_connections 4096; }
http {
    access_log off;
    sendfile off;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_body_temp_path {{dir}}/body;
    fastcgi_temp_path {{dir}}/fastcgi;
    proxy_temp_path {{dir}}/proxy;
    scgi_temp_path {{dir}}/scgi;
    uwsgi_temp_path {{dir}}/uwsgi;
    proxy_cache_path {{dir}}/cache levels=1:2 keys_zone=bench:64m max_size=1g inactive=1d use_temp_path=off;
    open_file_cache max={{cached}} inactive=1d;
    open_file_cache_valid 1d;
    server {
        listen {{listen}} backlog=1024;
        location / {
            proxy_pass http://{{origin}};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_cache bench;
        }
    }
}
`

// spareFiles are the descriptors that nginx keeps for connections, beside those
// of cached files. Without them a full open_file_cache turns into errors.
const spareFiles = 2048

// openFiles is how many files a process of ours may open, and no more than is of
// use: every object of the largest work.
func openFiles() (uint64, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("read the limit on open files: %w", err)
	}
	if limit.Max < 2*spareFiles {
		return 0, fmt.Errorf("the limit of %d open files is too low: want at least %d (ulimit -Hn)", limit.Max, 2*spareFiles)
	}
	return min(limit.Max, 32_768), nil
}

func startNginx(ctx context.Context, lab *Lab) (*Server, error) {
	dir := filepath.Join(lab.Dir, "nginx")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	address, err := process.FreePort(ctx)
	if err != nil {
		return nil, err
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;" // the worker must be able to enter the directory, which is ours alone
	}
	files, err := openFiles()
	if err != nil {
		return nil, err
	}
	config := strings.NewReplacer(
		"{{user}}", user, "{{dir}}", dir, "{{listen}}", address, "{{origin}}", lab.Origin,
		"{{files}}", strconv.FormatUint(files, 10), "{{cached}}", strconv.FormatUint(files-spareFiles, 10),
	).Replace(nginxConfig)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	command := process.Pinned(serverCore, "nginx", "-c", file, "-p", dir, "-e", "stderr")
	p, err := process.Start(ctx, process.Command{Path: command[0], Args: command[1:]})
	if err != nil {
		return nil, err
	}
	server := &Server{Process: p, Address: address}
	return server, answering(ctx, server)
}
