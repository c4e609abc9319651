// Command forward carries connections from sockets that it is handed, already
// listening, to addresses it can reach. It runs inside the cluster's network
// namespace while the sockets belong to the host's: a socket stays in the
// namespace it was opened in. Being opened by the caller, a port that is taken
// is the caller's to report.
//
//	forward 3=192.0.2.1:6443 4=192.0.2.1:5000
package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

const dialTimeout = 5 * time.Second

func main() {
	for _, pair := range os.Args[1:] {
		listener, target, err := parse(pair)
		if err != nil {
			log.Fatal(err)
		}
		go serve(listener, target)
	}
	select {}
}

func parse(pair string) (net.Listener, string, error) {
	number, target, ok := strings.Cut(pair, "=")
	descriptor, err := strconv.Atoi(number)
	if !ok || err != nil {
		return nil, "", fmt.Errorf("%q is not DESCRIPTOR=HOST:PORT", pair)
	}
	listener, err := net.FileListener(os.NewFile(uintptr(descriptor), pair))
	return listener, target, err
}

func serve(listener net.Listener, target string) {
	for {
		client, err := listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			log.Print(err)
			time.Sleep(100 * time.Millisecond) // out of descriptors, most likely
			continue
		}
		go carry(client.(*net.TCPConn), target)
	}
}

func carry(client *net.TCPConn, target string) {
	defer client.Close()
	connection, err := net.DialTimeout("tcp", target, dialTimeout)
	if err != nil {
		log.Print(err)
		return
	}
	server := connection.(*net.TCPConn)
	defer server.Close()
	done := make(chan struct{})
	go func() {
		pump(server, client)
		close(done)
	}()
	pump(client, server)
	<-done
}

// pump passes the end of one direction on and leaves the other open, as a plain
// connection would: some clients send all, close, and then read.
func pump(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		// The other direction would wait for bytes that can no longer come.
		to.Close()
		from.Close()
		return
	}
	to.CloseWrite()
}
