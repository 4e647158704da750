/* Shared by the contenders in C: makes a listening socket at 127.0.0.1, with a large backlog. */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int listen_at(int argc, char **argv)
{
    struct sockaddr_in addr = {.sin_family = AF_INET};
    int on = 1;
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    if (argc != 2) {
        fprintf(stderr, "usage: %s PORT\n", argv[0]);
        exit(2);
    }
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    addr.sin_port = htons(atoi(argv[1]));
    if (listener < 0
        || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0
        || bind(listener, (struct sockaddr *)&addr, sizeof addr) < 0
        || listen(listener, 4096) < 0) {
        perror(argv[1]);
        exit(1);
    }
    return listener;
}
