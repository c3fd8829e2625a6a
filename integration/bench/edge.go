package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"edge/integration/bench/process"
)

// edgeConfig is the node as it comes, but for the access log and for memory as
// ample as the others have.
const edgeConfig = `server {
  listen = ["127.0.0.1:0"]
{{deadlines}}}
admin {
  listen = "127.0.0.1:0"
}
log {
  access = false
}
memory {
  size = "{{megabytes}}MiB"
}
origin "bench" {
  url = "http://{{origin}}"
}
site "bench" {
  hosts  = ["*"]
  origin = "bench"
}
`

func startEdge(ctx context.Context, place Place, binary string) (*Server, error) {
	deadlines := ""
	if d := place.Need.Deadline; d > 0 {
		deadlines = fmt.Sprintf("  header_timeout = %q\n  body_timeout = %q\n", d, d)
	}
	file := filepath.Join(place.Dir, "edge.hcl")
	config := strings.NewReplacer("{{origin}}", place.Origin, "{{deadlines}}", deadlines,
		"{{megabytes}}", fmt.Sprint(place.Need.megabytes())).Replace(edgeConfig)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	edge, err := process.StartEdge(ctx, process.Pinned(serverCore, binary), []string{"--config", file}, []string{"GOMAXPROCS=1"}, nil)
	if err != nil {
		return nil, err
	}
	return &Server{Process: edge.Process, Address: edge.Address, Admin: edge.Admin}, nil
}
