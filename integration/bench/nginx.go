package main

import (
	"context"
	"fmt"
	"os"
)

// nginxConfig is nginx at its best on this work: one worker for the one core, the
// cache in memory with its files kept open, nothing logged, connections that
// never end, on either side.
const nginxConfig = `{{user}}
worker_processes 1;
worker_rlimit_nofile {{files}};
daemon off;
pid {{dir}}/pid;
error_log stderr warn;
events { worker_connections {{connections}}; }
http {
    access_log off;
    sendfile off;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_header_timeout {{deadline}}s;
    client_body_timeout {{deadline}}s;
    client_body_temp_path {{dir}}/body;
    fastcgi_temp_path {{dir}}/fastcgi;
    proxy_temp_path {{dir}}/proxy;
    scgi_temp_path {{dir}}/scgi;
    uwsgi_temp_path {{dir}}/uwsgi;
    proxy_cache_path {{dir}}/cache levels=1:2 keys_zone=bench:{{zone}}m max_size={{room}}m inactive=1d use_temp_path=off;
    open_file_cache max={{cached}} inactive=1d;
    open_file_cache_valid 1d;
    upstream origin {
        server {{origin}};
        keepalive 256;
        keepalive_requests 1000000000;
        keepalive_timeout 1h;
    }
    server {
        listen {{listen}} backlog=4096;
        location / {
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_cache bench;
        }
    }
}
`

// spareFiles are the descriptors that nginx keeps for the origin's connections and
// its own use. Without them a full open_file_cache turns into errors.
const spareFiles = 1024

func startNginx(ctx context.Context, place Place) (*Server, error) {
	limit, err := openFiles()
	if err != nil {
		return nil, err
	}
	// No more than is of use: every object of the largest work.
	files := min(int(limit.Max), place.Need.Keys+place.Need.Connections+2*spareFiles)
	cached := files - place.Need.Connections - spareFiles
	if cached < 1 {
		return nil, fmt.Errorf("the limit of %d open files is too low (ulimit -Hn)", limit.Max)
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;" // the worker must be able to enter the directory, which is ours alone
	}
	return launch(ctx, place, "nginx.conf", nginxConfig, []string{
		"{{user}}", user, "{{files}}", fmt.Sprint(files), "{{cached}}", fmt.Sprint(cached),
		"{{connections}}", fmt.Sprint(place.Need.Connections + spareFiles),
		"{{zone}}", fmt.Sprint(64 + place.Need.Keys/4000), // 8,000 keys fit into one
		"{{room}}", fmt.Sprint(1024 + place.Need.Keys*4/1024 + place.Need.Keys/1024), // files of at least a page
	}, []string{"nginx", "-c", "{{dir}}/nginx.conf", "-p", "{{dir}}", "-e", "stderr"})
}
