/* A minimal echo server in C: one event loop on epoll, level-triggered, for all connections. It shows the
 * least cost of an event loop. */

#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "listen.h"

#define BUFFER (64 << 10)
#define EVENTS 1024

/* The server stops reading from a connection while `rest` holds bytes that the socket has not accepted. */
struct connection {
    int fd;
    char *rest;
    size_t start, end;
};

static int epoll;
static char buffer[BUFFER];

static void watch(int operation, struct connection *c, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    epoll_ctl(epoll, operation, c->fd, &event);
}

static void end(struct connection *c)
{
    close(c->fd);
    free(c->rest);
    free(c);
}

/* Returns how many bytes the socket accepted, or -1. */
static ssize_t put(struct connection *c, const char *bytes, size_t n)
{
    ssize_t sent = send(c->fd, bytes, n, MSG_NOSIGNAL);
    return sent < 0 && errno == EAGAIN ? 0 : sent;
}

static void readable(struct connection *c)
{
    ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
    ssize_t sent;

    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0 || (sent = put(c, buffer, n)) < 0) {
        end(c);
        return;
    }
    if (sent < n) {
        if (!c->rest && !(c->rest = malloc(BUFFER))) {
            end(c);
            return;
        }
        c->start = 0;
        c->end = n - sent;
        memcpy(c->rest, buffer + sent, c->end);
        watch(EPOLL_CTL_MOD, c, EPOLLOUT);
    }
}

static void writable(struct connection *c)
{
    ssize_t sent = put(c, c->rest + c->start, c->end - c->start);

    if (sent < 0) {
        end(c);
        return;
    }
    c->start += sent;
    if (c->start == c->end)
        watch(EPOLL_CTL_MOD, c, EPOLLIN);
}

static void acceptable(int listener)
{
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct connection *c = calloc(1, sizeof *c);
        if (!c) {
            close(fd);
            continue;
        }
        c->fd = fd;
        watch(EPOLL_CTL_ADD, c, EPOLLIN);
    }
}

int main(int argc, char **argv)
{
    struct connection listener = {.fd = listen_at(argc, argv)};
    struct epoll_event events[EVENTS];
    int on = 1;

    ioctl(listener.fd, FIONBIO, &on);
    epoll = epoll_create1(0);
    watch(EPOLL_CTL_ADD, &listener, EPOLLIN);
    for (;;) {
        int n = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (c == &listener)
                acceptable(c->fd);
            else if (events[i].events & EPOLLOUT)
                writable(c);
            else
                readable(c);
        }
    }
}
