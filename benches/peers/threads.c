/* A minimal echo server in C: a thread for each connection, which receives and sends. It shows the least
 * cost of a thread for each connection. */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>

#include "listen.h"

#define BUFFER (64 << 10)

static void *serve(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char buffer[BUFFER];
    ssize_t n;

    while ((n = recv(fd, buffer, sizeof buffer, 0)) > 0) {
        /* A blocking socket accepts all bytes, or fails. */
        if (send(fd, buffer, n, MSG_NOSIGNAL) != n)
            break;
    }
    close(fd);
    return NULL;
}

int main(int argc, char **argv)
{
    int listener = listen_at(argc, argv);
    pthread_attr_t attr;
    pthread_t thread;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 2 * BUFFER);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd >= 0 && pthread_create(&thread, &attr, serve, (void *)(intptr_t)fd) != 0)
            close(fd);
    }
}
