"""An echo server on Python's socketserver: a thread for each connection."""

import socketserver
import sys


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)


class Server(socketserver.ThreadingTCPServer):
    request_queue_size = 4096
    allow_reuse_address = True
    daemon_threads = True


host, port = sys.argv[1].split(":")
Server((host, int(port)), Echo).serve_forever()
