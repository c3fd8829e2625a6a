package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"edge/integration/bench/process"
)

// edgeConfig is the node as it comes, but for the access log and for memory as
// ample as nginx has.
const edgeConfig = `server {
  listen = ["127.0.0.1:0"]
}
admin {
  listen = "127.0.0.1:0"
}
log {
  access = false
}
memory {
  size = "1GiB"
}
origin "bench" {
  url = "http://{{origin}}"
}
site "bench" {
  hosts  = ["*"]
  origin = "bench"
}
`

func startEdge(ctx context.Context, lab *Lab) (*Server, error) {
	dir := filepath.Join(lab.Dir, "edge")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	binary, err := process.BuildEdge(ctx, dir)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "edge.hcl")
	config := strings.ReplaceAll(edgeConfig, "{{origin}}", lab.Origin)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	edge, err := process.StartEdge(ctx, process.Pinned(serverCore, binary), []string{"--config", file}, []string{"GOMAXPROCS=1"}, nil)
	if err != nil {
		return nil, err
	}
	return &Server{Process: edge.Process, Address: edge.Address}, nil
}
