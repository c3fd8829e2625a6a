package main

import (
	"context"
	"fmt"
)

// haproxyConfig is HAProxy's cache with one thread. An object may take no more than
// a 256th of the cache by default, and be no older than a minute.
const haproxyConfig = `global
    nbthread 1
    maxconn {{connections}}
    no strict-limits
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout http-request {{deadline}}s
    timeout http-keep-alive 1h
    http-reuse always
cache bench
    total-max-size {{room}}
    max-object-size 4194304
    max-age 86400
frontend public
    bind {{listen}} backlog 4096
    http-request cache-use bench
    http-response cache-store bench
    default_backend origin
backend origin
    server origin {{origin}} pool-max-conn 256
`

func startHAProxy(ctx context.Context, place Place) (*Server, error) {
	return launch(ctx, place, "haproxy.cfg", haproxyConfig, []string{
		"{{connections}}", fmt.Sprint(place.Need.Connections + 1000),
		"{{room}}", fmt.Sprint(min(128+place.Need.Keys*5/2/1024, 4095)), // an object of 1 KiB takes two blocks of that size
	}, []string{"haproxy", "-db", "-f", "{{dir}}/haproxy.cfg"})
}
