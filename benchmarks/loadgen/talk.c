/* What modes that talk message by message share: queueing PUBs and requests, sending what is queued, reading messages. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "loadgen.h"

enum { SLOT_DIGITS = 6, INBOX_MAX = 32 };

void flush_out(struct conn *c)
{
    while (c->out_off < c->out_len) {
        ssize_t k = send(c->fd, c->out + c->out_off, c->out_len - c->out_off, MSG_NOSIGNAL);
        if (k < 0 && errno == EAGAIN) {
            if (!c->want_write)
                rewatch(c, EPOLLIN | EPOLLOUT);
            c->want_write = true;
            return;
        }
        if (k < 0)
            fail("send: %s", strerror(errno));
        c->out_off += (size_t)k;
    }
    c->out_len = c->out_off = 0;
    if (c->want_write)
        rewatch(c, EPOLLIN);
    c->want_write = false;
}

uint8_t *reserve(struct conn *c, size_t n)
{
    if (c->out_len + n > c->out_cap) {
        c->out_cap = (c->out_len + n) * 2 + 65536;
        c->out = must_alloc(realloc(c->out, c->out_cap));
    }
    return c->out + c->out_len;
}

uint8_t *put(uint8_t *p, const void *data, size_t n)
{
    memcpy(p, data, n);
    return p + n;
}

void queue_pub(struct conn *c, const void *subject, size_t subject_len, const void *reply, size_t reply_len)
{
    static char size_text[16];
    static size_t size_len;
    if (!size_len)
        size_len = (size_t)snprintf(size_text, sizeof size_text, " %d\r\n", opt.size);
    uint8_t *p = put(reserve(c, subject_len + reply_len + (size_t)opt.size + 64), "PUB ", 4);
    p = put(p, subject, subject_len);
    if (reply_len) {
        *p++ = ' ';
        p = put(p, reply, reply_len);
    }
    p = put(p, size_text, size_len);
    p = put(p, payload, (size_t)opt.size + 2);
    c->out_len = (size_t)(p - c->out);
}

static void parse_head(const uint8_t *line, const uint8_t *eol, struct head *h)
{
    const uint8_t *token[6], *p = line;
    size_t len[6], n = 0;
    while (p < eol && n < 6) {
        const uint8_t *space = memchr(p, ' ', (size_t)(eol - p));
        token[n] = p;
        len[n] = (size_t)((space ? space : eol) - p);
        p += len[n++] + 1;
    }
    bool headers = line[0] == 'H'; /* of a request over a service; without a reply "no responders" (invariant 3) */
    if (headers ? n != 6 : n < 4 || n > 5 || memcmp(line, "MSG", 3))
        fail("unexpected %.*s", (int)(eol - line), (const char *)line);
    *h = (struct head){.subject = token[1], .subject_len = len[1]};
    if (n >= 5) {
        h->reply = token[3];
        h->reply_len = len[3];
    }
    for (size_t i = 0; i < len[n - 1]; i++)
        h->size = h->size * 10 + (size_t)(token[n - 1][i] - '0');
}

static size_t inbox_of(const struct conn *c, char text[INBOX_MAX])
{
    return (size_t)sprintf(text, "_INBOX.client%05d.", c->id);
}

struct conn *open_requester(int id)
{
    char inbox[INBOX_MAX + 2];
    struct conn *c = open_conn(REQUESTER, id);
    strcpy(inbox + inbox_of(c, inbox), "*");
    subscribe(c, inbox, "");
    c->sent_ns = must_alloc(calloc((size_t)opt.window, sizeof *c->sent_ns));
    return c;
}

void queue_request(struct conn *c, long slot, const char *subject, size_t subject_len)
{
    char inbox[INBOX_MAX];
    size_t n = inbox_of(c, inbox);
    long rest = slot;
    for (size_t i = SLOT_DIGITS; i-- > 0; rest /= 10)
        inbox[n + i] = (char)('0' + rest % 10);
    c->sent_ns[slot] = now_ns();
    queue_pub(c, subject, subject_len, inbox, n + SLOT_DIGITS);
}

long reply_slot(const struct head *h)
{
    long slot = 0;
    for (size_t i = h->subject_len - SLOT_DIGITS; i < h->subject_len; i++)
        slot = slot * 10 + (h->subject[i] - '0');
    if (slot < 0 || slot >= opt.window)
        fail("reply for slot %ld", slot);
    return slot;
}

static void read_messages(struct conn *c, void (*on_message)(struct conn *c, const struct head *h, const uint8_t *body))
{
    size_t n = receive(c);
    const uint8_t *p = inbuf, *end = inbuf + n;
    while (p < end) {
        struct head h;
        const uint8_t *eol = memchr(p, '\n', (size_t)(end - p));
        if (!eol)
            break;
        if (*p != 'M' && *p != 'H') {
            control_line(c, p, (size_t)(eol - p));
            p = eol + 1;
            continue;
        }
        parse_head(p, eol - 1, &h);
        if ((size_t)(end - eol - 1) < h.size + 2)
            break;
        on_message(c, &h, eol + 1);
        p = eol + 1 + h.size + 2;
    }
    if (n)
        keep_tail(c, p, (size_t)(end - p));
    for (; c->pongs_owed; c->pongs_owed--)
        c->out_len = (size_t)(put(reserve(c, 6), "PONG\r\n", 6) - c->out);
    flush_out(c);
}

void talk(void (*on_message)(struct conn *c, const struct head *h, const uint8_t *body))
{
    struct epoll_event events[EVENTS];
    int n = epoll_wait(epoll_fd, events, EVENTS, STALL_S * 1000);
    if (n <= 0)
        fail("no reply for %d s", STALL_S);
    for (int i = 0; i < n; i++) {
        if (events[i].events & EPOLLOUT)
            flush_out(events[i].data.ptr);
        if (events[i].events & ~(uint32_t)EPOLLOUT)
            read_messages(events[i].data.ptr, on_message);
    }
}
