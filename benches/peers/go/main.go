// Go's echo: a goroutine for each connection. The backlog is the system's largest.
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

// byHand reads and writes, with the size of buffer that io.Copy would take.
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

// byCopy leaves it to io.Copy, which splices from socket to socket on Linux.
func byCopy(conn net.Conn) {
	io.Copy(conn, conn)
}
