/* A minimal echo server in C: a thread for each connection, which moves pages through a pipe instead of
 * copying them. It shows the highest rate of a stream. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>

#include "listen.h"

/* The default size of a pipe. */
#define CHUNK (64 << 10)

static void echo(int fd, int out, int in)
{
    ssize_t n, sent;

    while ((n = splice(fd, NULL, in, NULL, CHUNK, SPLICE_F_MOVE)) > 0) {
        for (; n > 0; n -= sent) {
            sent = splice(out, NULL, fd, NULL, n, SPLICE_F_MOVE);
            if (sent <= 0)
                return;
        }
    }
}

static void *serve(void *arg)
{
    int fd = (int)(intptr_t)arg;
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) == 0) {
        echo(fd, ends[0], ends[1]);
        close(ends[0]);
        close(ends[1]);
    }
    close(fd);
    return NULL;
}

int main(int argc, char **argv)
{
    int listener = listen_at(argc, argv);
    pthread_attr_t attr;
    pthread_t thread;

    signal(SIGPIPE, SIG_IGN);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, CHUNK);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd >= 0 && pthread_create(&thread, &attr, serve, (void *)(intptr_t)fd) != 0)
            close(fd);
    }
}
