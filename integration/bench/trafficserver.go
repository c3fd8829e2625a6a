package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// trafficServerConfig is Traffic Server with one thread for the network, objects of
// every size in its RAM cache, and nothing logged. The cache that it insists to have
// on a disk is in memory too, as long as it is small. It stays the user that it is: "nobody" may not enter the
// directory, which is ours alone.
const trafficServerConfig = `CONFIG proxy.config.http.server_ports STRING {{port}}:ip-in={{host}}
CONFIG proxy.config.admin.user_id STRING #-1
CONFIG proxy.config.crash_log_helper STRING ""
CONFIG proxy.config.exec_thread.autoconfig INT 0
CONFIG proxy.config.exec_thread.limit INT 1
CONFIG proxy.config.task_threads INT 1
CONFIG proxy.config.accept_threads INT 0
CONFIG proxy.config.cache.threads_per_disk INT 1
CONFIG proxy.config.cache.min_average_object_size INT 1024
CONFIG proxy.config.cache.ram_cache.size INT {{ram}}
CONFIG proxy.config.cache.ram_cache.algorithm INT 1
CONFIG proxy.config.cache.ram_cache.use_seen_filter INT 0
CONFIG proxy.config.cache.ram_cache_cutoff INT 8388608
CONFIG proxy.config.log.logging_enabled INT 0
CONFIG proxy.config.http.insert_response_via_str INT 0
CONFIG proxy.config.http.insert_request_via_str INT 0
CONFIG proxy.config.url_remap.pristine_host_hdr INT 1
CONFIG proxy.config.http.keep_alive_no_activity_timeout_in INT 3600
CONFIG proxy.config.http.keep_alive_no_activity_timeout_out INT 3600
CONFIG proxy.config.http.transaction_no_activity_timeout_in INT {{deadline}}
CONFIG proxy.config.net.connections_throttle INT {{connections}}
CONFIG proxy.config.diags.output.error STRING E
CONFIG proxy.config.diags.output.fatal STRING E
`

// trafficServerPlaces are the directories of an installation of our own, beside the
// programs and modules of the system's.
const trafficServerPlaces = `prefix: {{dir}}
exec_prefix: /usr
bindir: /usr/bin
sbindir: /usr/bin
sysconfdir: {{dir}}
datadir: {{dir}}
includedir: /usr/include
libdir: /usr/lib/trafficserver
libexecdir: /usr/lib/trafficserver/modules
localstatedir: {{dir}}
runtimedir: {{dir}}
logdir: {{dir}}
cachedir: {{dir}}
`

func startTrafficServer(ctx context.Context, place Place) (*Server, error) {
	room := 512 + place.Need.Keys*5/1024 // an object of 1 KiB takes more than four
	storage := place.Dir
	if place.Need.Keys > 100_000 { // twice in memory is too much; the RAM cache holds all
		storage = place.Disk
	}
	for name, text := range map[string]string{
		"runroot.yaml":   strings.ReplaceAll(trafficServerPlaces, "{{dir}}", place.Dir),
		"remap.config":   "map / http://" + place.Origin + "/\n",
		"storage.config": fmt.Sprintf("%s %dM\n", storage, room),
		"plugin.config":  "",
		"ip_allow.yaml":  "ip_allow:\n  - apply: in\n    ip_addrs: 127.0.0.1\n    action: allow\n    methods: ALL\n",
	} {
		if err := os.WriteFile(filepath.Join(place.Dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	return launch(ctx, place, "records.config", trafficServerConfig, []string{
		"{{ram}}", fmt.Sprint(room << 20), "{{connections}}", fmt.Sprint(place.Need.Connections + 2000),
	}, []string{"traffic_server", "--run-root={{dir}}/runroot.yaml"})
}
