// An echo server in Go: a goroutine for each connection. Go uses the system's largest backlog.
package main

import (
	"io"
	"log"
	"net"
	"os"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: copy|iocopy ADDR")
	}
	echo := byHand
	if os.Args[1] == "iocopy" {
		echo = byCopy
	}
	listener, err := net.Listen("tcp", os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Print(err)
			continue
		}
		go func() {
			defer conn.Close()
			echo(conn)
		}()
	}
}

// byHand reads and writes, with a buffer of the same size as that of io.Copy.
func byHand(conn net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return
		}
		if _, err := conn.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// byCopy uses io.Copy, which splices from socket to socket on Linux.
func byCopy(conn net.Conn) {
	io.Copy(conn, conn)
}
