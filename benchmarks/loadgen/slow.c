/* slow: subscribers that never read, beside one that does (alone with -m 0). delivered_rate is the fast one's. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loadgen.h"

enum { CLOSE_WAIT_S = 3 }; /* time for the server's close to arrive */

/* Reads what the server had sent, until it closes (true) or the time is up. */
static bool closed_by_server(int fd, double end_s)
{
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    while (now_s() < end_s) {
        ssize_t k = recv(fd, inbuf, READ_CAP, 0);
        if (k == 0 || (k < 0 && errno != EAGAIN))
            return true;
        if (k < 0)
            usleep(1000);
    }
    return false;
}

void run_slow(const char *mode)
{
    (void)mode;
    static struct conn *stuck[PEERS_MAX];
    struct epoll_event events[EVENTS];
    char extra[64];
    struct conn *fast = open_conn(SUBSCRIBER, 0);
    subscribe(fast, "bench.000", "");
    watch(fast, EPOLLIN);
    for (int i = 0; i < opt.subscribers; i++) {
        stuck[i] = open_conn(SUBSCRIBER, i + 1);
        subscribe(stuck[i], "bench.000", "");
    }
    struct conn *publisher = open_conn(PUBLISHER, 0);
    build_block(publisher, "bench.000");
    watch(publisher, EPOLLIN | EPOLLOUT);

    struct stopwatch w = stopwatch_start();
    while (now_s() < w.start_s + opt.secs) {
        int n = epoll_wait(epoll_fd, events, EVENTS, 50);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (c == fast || (events[i].events & EPOLLIN))
                drain_messages(c);
            if (c == publisher && (events[i].events & EPOLLOUT))
                publish(c, false);
        }
    }
    stopwatch_stop(&w);
    int closed = 0;
    for (int i = 0; i < opt.subscribers; i++)
        closed += closed_by_server(stuck[i]->fd, w.start_s + w.secs + CLOSE_WAIT_S);
    snprintf(extra, sizeof extra, ", \"stuck_closed\": %d", closed);
    print_result(w, publisher->sent, fast->msgs, extra);
}
