/* conn: how many clients a second can come; each connects, says CONNECT and PING, awaits PONG, and goes. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loadgen.h"

static void start_dialer(struct conn *c)
{
    struct sockaddr_in address = server_address();
    struct linger reset = {1, 0}; /* close with RST: thousands of ports in TIME_WAIT would end the run */
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    c->tail_len = 0;
    c->greeted = false;
    c->dial_ns = now_ns();
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS)
        fail("connect: %s", strerror(errno));
    watch(c, EPOLLIN);
}

/* Takes one step: INFO, then PONG. Returns whether the connection is through; it is closed and dialled anew then. */
static bool dialer_event(struct conn *c)
{
    size_t n = receive(c);
    if (!n)
        return false;
    if (!memchr(inbuf, '\n', n)) {
        keep_tail(c, inbuf, n);
        return false;
    }
    c->tail_len = 0;
    if (!c->greeted) {
        send_all(c->fd, HELLO, strlen(HELLO));
        c->greeted = true;
        return false;
    }
    if (!memmem(inbuf, n, "PONG", 4))
        fail("server said %.*s", (int)(n < 100 ? n : 100), (const char *)inbuf);
    record_ns(now_ns() - c->dial_ns);
    close(c->fd);
    start_dialer(c);
    return true;
}

void run_conn(const char *mode)
{
    (void)mode;
    struct epoll_event events[EVENTS];
    long through = 0;
    struct stopwatch w = stopwatch_start();
    for (int i = 0; i < opt.window; i++) {
        struct conn *c = must_alloc(calloc(1, sizeof *c));
        c->role = DIALER;
        c->id = i;
        c->tail_cap = LINE_MAX_BYTES;
        c->tail = must_alloc(malloc(c->tail_cap));
        start_dialer(c);
    }
    while (now_s() < w.start_s + opt.secs) {
        int n = epoll_wait(epoll_fd, events, EVENTS, STALL_S * 1000);
        if (n <= 0)
            fail("no connection for %d s", STALL_S);
        for (int i = 0; i < n; i++)
            through += dialer_event(events[i].data.ptr);
    }
    print_result(w, through, through, latency_fields());
}
