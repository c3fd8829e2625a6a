package main

import (
	"context"
	"strings"
)

// varnishConfig is Varnish's own logic, which caches what may be cached.
const varnishConfig = `vcl 4.1;
backend origin {
    .host = "{{origin-host}}";
    .port = "{{origin-port}}";
}
`

// varnishUnlogged is what Varnish would write into the memory that it shares with its
// log readers, for each connection, request and fetch.
const varnishUnlogged = `SessOpen SessClose Begin Link End Timestamp
	ReqStart ReqMethod ReqURL ReqProtocol ReqHeader ReqUnset ReqAcct
	RespProtocol RespStatus RespReason RespHeader RespUnset
	BereqMethod BereqURL BereqProtocol BereqHeader BereqUnset BereqAcct
	BerespProtocol BerespStatus BerespReason BerespHeader BerespUnset
	ObjProtocol ObjStatus ObjReason ObjHeader
	VCL_call VCL_return VCL_use Hit HitMiss HitPass TTL Storage Length Fetch_Body Filters
	BackendOpen BackendStart BackendClose ExpKill`

// startVarnish runs Varnish with objects in memory, one pool of threads for the one
// core, nothing logged, and no look at what clients can unpack.
func startVarnish(ctx context.Context, place Place) (*Server, error) {
	return launch(ctx, place, "bench.vcl", varnishConfig, nil, []string{
		"varnishd", "-F", "-j", "none", "-T", "none", "-n", "{{dir}}/varnish", "-a", "{{listen}}", "-f", "{{dir}}/bench.vcl",
		"-s", "malloc,{{megabytes}}M",
		"-p", "thread_pools=1", "-p", "thread_pool_min=200", "-p", "thread_pool_max=5000",
		"-p", "vsl_mask=-" + strings.Join(strings.Fields(varnishUnlogged), ",-"), "-p", "http_gzip_support=off",
		"-p", "timeout_idle={{deadline}}", "-p", "listen_depth=4096",
	})
}
