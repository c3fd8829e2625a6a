// Command goorigin is the Go twin of the Node origin: the same small shop on
// 127.0.0.1. It listens on PORT (default 3000; 0 takes a free one), prints one JSON
// line when it is ready, and ends on SIGTERM.
package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"edge/integration/internal/shop"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:"+cmp.Or(os.Getenv("PORT"), "3000"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "goorigin: listen:", err)
		os.Exit(1)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	go func() {
		<-stop
		os.Exit(0)
	}()
	_ = json.NewEncoder(os.Stdout).Encode(map[string]string{"msg": "ready", "url": "http://" + listener.Addr().String()})
	fmt.Fprintln(os.Stderr, "goorigin: serve:", http.Serve(listener, shop.New()))
	os.Exit(1)
}
