package main

import (
	"io"
	"net"
	"testing"
)

// A client that says all it has, closes its half, and only then reads.
func TestTheEndOfOneDirectionIsPassedOnAndTheOtherGoesOn(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		connection, err := server.Accept()
		if err != nil {
			return
		}
		said, _ := io.ReadAll(connection)
		connection.Write(append([]byte("heard "), said...))
		connection.Close()
	}()
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go serve(front, server.Addr().String())
	client, err := net.Dial("tcp", front.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client.Write([]byte("hello"))
	client.(*net.TCPConn).CloseWrite()
	if answer, _ := io.ReadAll(client); string(answer) != "heard hello" {
		t.Errorf("got %q", answer)
	}
}

func TestAServerThatIsNotThereEndsTheConnection(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go serve(front, gone.Addr().String())
	client, err := net.Dial("tcp", front.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if answer, _ := io.ReadAll(client); len(answer) != 0 {
		t.Errorf("got %q", answer)
	}
}

func TestArgumentsThatMakeNoSenseAreRefused(t *testing.T) {
	for _, pair := range []string{"", "3", "x=127.0.0.1:1"} {
		if _, _, err := parse(pair); err == nil {
			t.Errorf("%q was taken", pair)
		}
	}
}
