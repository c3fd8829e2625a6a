// Command edge is a caching reverse proxy in one binary.
//
//	edge run --origin http://127.0.0.1:3000     front one origin, with the defaults
//	edge run --config edge.hcl                  front what a file describes
//	edge check edge.hcl                         check a file
//	edge purge --key product-42                 purge what a node has stored
//	edge version                                print the version
//
// It exits with 0 when all went well (for run: after it was told to stop and has
// drained), with 1 when the configuration is refused, the node cannot run or a
// purge failed, with 2 when the command line makes no sense, and with 3 when a
// purge is recorded but not complete.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(execute(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
