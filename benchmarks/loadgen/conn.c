/* Connections: dialling, subscribing, reading with a tail. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "loadgen.h"

int epoll_fd;
uint8_t inbuf[READ_CAP];
uint8_t *payload;

const char HELLO[] =
    "CONNECT {\"verbose\":false,\"pedantic\":false,\"tls_required\":false,\"name\":\"loadgen\",\"lang\":\"c\","
    "\"version\":\"1\",\"protocol\":1,\"echo\":true,\"headers\":true,\"no_responders\":true}\r\nPING\r\n";

struct sockaddr_in server_address(void)
{
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

void send_all(int fd, const void *data, size_t n)
{
    const uint8_t *p = data;
    while (n) {
        ssize_t k = send(fd, p, n, MSG_NOSIGNAL);
        if (k < 0 && (errno == EAGAIN || errno == EINTR)) {
            usleep(50);
            continue;
        }
        if (k < 0)
            fail("send: %s", strerror(errno));
        p += k;
        n -= (size_t)k;
    }
}

void await_text(int fd, const char *text, char buf[LINE_MAX_BYTES + 1])
{
    size_t len = 0;
    for (;;) {
        if (len == LINE_MAX_BYTES) { /* keep what may be the start of the text */
            size_t keep = strlen(text);
            memmove(buf, buf + len - keep, keep);
            len = keep;
        }
        ssize_t k = recv(fd, buf + len, LINE_MAX_BYTES - len, 0);
        if (k <= 0)
            fail("connection closed while waiting for %.4s", text);
        len += (size_t)k;
        buf[len] = 0;
        if (strstr(buf, "-ERR"))
            fail("server said %.100s", strstr(buf, "-ERR"));
        if (strstr(buf, text))
            return;
    }
}

void await(int fd, const char *text)
{
    char buf[LINE_MAX_BYTES + 1];
    await_text(fd, text, buf);
}

int dial(int id)
{
    char hello[512];
    struct sockaddr_in address = server_address();
    struct timeval limit = {.tv_sec = GRACE_S};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail("connect: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    await(fd, "\r\n");
    if (opt.accounts || opt.one_account || opt.by_role)
        snprintf(hello, sizeof hello, "CONNECT {\"user\":\"u%d\",\"pass\":\"p\",%s",
                 opt.one_account ? 0 : id, HELLO + strlen("CONNECT {"));
    else
        strcpy(hello, HELLO);
    send_all(fd, hello, strlen(hello));
    await(fd, "PONG\r\n");
    return fd;
}

struct conn *open_conn(enum role role, int id)
{
    struct conn *c = must_alloc(calloc(1, sizeof *c));
    c->fd = dial(opt.by_role ? role == SUBSCRIBER || role == RESPONDER : id);
    c->role = role;
    c->id = id;
    c->tail_cap = (size_t)opt.size + LINE_MAX_BYTES;
    c->tail = must_alloc(malloc(c->tail_cap));
    return c;
}

void subscribe(struct conn *c, const char *subject, const char *queue)
{
    char line[256];
    int n = snprintf(line, sizeof line, "SUB %s %s%s1\r\nPING\r\n", subject, queue, queue[0] ? " " : "");
    send_all(c->fd, line, (size_t)n);
    await(c->fd, "PONG\r\n");
}

void watch(struct conn *c, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = c};
    fcntl(c->fd, F_SETFL, fcntl(c->fd, F_GETFL) | O_NONBLOCK);
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e) < 0)
        fail("epoll: %s", strerror(errno));
}

void rewatch(struct conn *c, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e) < 0)
        fail("epoll: %s", strerror(errno));
}

size_t receive(struct conn *c)
{
    if (c->tail_len)
        memcpy(inbuf, c->tail, c->tail_len);
    ssize_t k = recv(c->fd, inbuf + c->tail_len, READ_CAP - c->tail_len, 0);
    if (k < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (k <= 0)
        fail("connection %d closed by the server", c->id);
    return c->tail_len + (size_t)k;
}

void keep_tail(struct conn *c, const uint8_t *p, size_t n)
{
    if (n > c->tail_cap)
        fail("%zu bytes without a message's end", n);
    memcpy(c->tail, p, n);
    c->tail_len = n;
}

void control_line(struct conn *c, const uint8_t *line, size_t n)
{
    if (n >= 4 && !memcmp(line, "PING", 4))
        c->pongs_owed++;
    else if (n >= 4 && !memcmp(line, "PONG", 4))
        c->ponged = true;
    else if (line[0] == '-')
        fail("server said %.*s", (int)n, (const char *)line);
}
