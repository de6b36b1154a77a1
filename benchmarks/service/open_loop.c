/*
 * Sends gRPC calls over Unix sockets at moments that were drawn beforehand, whether or not earlier ones were
 * answered, and writes down when each was answered: open_loop PLAN. See open_loop.py.
 *
 * A client library takes longer over a call than the server that is measured. All bytes of a call are in the plan:
 * a block of headers and a message. The plan on the disk, in the machine's own order of bytes:
 *
 *     u32 connections, calls, messages, bytes of the path, of the first block, of a later block
 *     path, first block, later block
 *     for each message: u32 bytes, and the bytes
 *     for each call: f64 seconds from the beginning, u32 the number of its message
 *
 * On standard output, for each call: f64 us from its moment to its answer, f64 us from its moment to when it was sent,
 * u32 bytes of its answer (frames of gRPC included; none: it was refused), and MAX_ANSWER bytes with the answer.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE };
enum { ACK = 1, END_STREAM = 1, END_HEADERS = 4, MAX_CONCURRENT_STREAMS = 3, HEAD = 9 };
enum { MAX_ANSWER = 512, READ_BYTES = 1 << 18, PATIENCE_SECONDS = 10, MAX_CONNECTIONS = 1024 };
#define LARGEST_WINDOW 0x7fffffff

struct message { uint32_t size; const uint8_t *bytes; };
struct call { double moment, latency, late; uint32_t message, size; uint8_t answer[MAX_ANSWER]; };
struct connection {
    int fd, begun, greeted;
    uint32_t most, in_flight, streams;   /* allowed and open streams, and those that were opened at all */
    int64_t window;
    uint32_t *calls;                     /* of each stream */
    uint32_t *queue, first, last;        /* calls that wait for a stream or for the window */
    uint8_t *out; size_t out_begin, out_end, out_room;
    uint8_t *in; size_t in_end, in_room;
};

static struct call *calls;
static struct message *messages;
static struct message first_block, later_block;
static uint32_t answered;

static void give_up(const char *why)
{
    fprintf(stderr, "%s\n", why);
    exit(EXIT_FAILURE);
}

static void *memory(void *old, size_t size)
{
    void *made = realloc(old, size ? size : 1);

    if (made == NULL)
        give_up("no memory");
    return made;
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void put(struct connection *c, const void *bytes, size_t size)
{
    if (c->out_begin == c->out_end)
        c->out_begin = c->out_end = 0;
    if (c->out_end + size > c->out_room)
        c->out = memory(c->out, c->out_room = 2 * (c->out_end + size));
    memcpy(c->out + c->out_end, bytes, size);
    c->out_end += size;
}

static void put_frame(struct connection *c, int kind, int flags, uint32_t stream, const void *payload, size_t size)
{
    uint8_t head[HEAD] = {size >> 16, size >> 8, size, kind, flags, stream >> 24, stream >> 16, stream >> 8, stream};

    put(c, head, HEAD);
    put(c, payload, size);
}

static void flush(struct connection *c)
{
    while (c->out_begin < c->out_end) {
        ssize_t n = send(c->fd, c->out + c->out_begin, c->out_end - c->out_begin, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0)
            give_up("the server closed the connection");
        c->out_begin += n;
    }
}

/* Send the calls that wait, as far as the server has streams and room for them. */
static void send_waiting(struct connection *c)
{
    while (c->first < c->last && c->in_flight < c->most) {
        uint32_t number = c->queue[c->first];
        const struct message *message = &messages[calls[number].message];
        const struct message *block = c->begun ? &later_block : &first_block;
        uint32_t stream = 2 * c->streams + 1;

        if (message->size > c->window)
            return;
        put_frame(c, HEADERS, END_HEADERS, stream, block->bytes, block->size);
        put_frame(c, DATA, END_STREAM, stream, message->bytes, message->size);
        c->begun = 1;
        c->window -= message->size;
        c->calls[c->streams++] = number;
        c->in_flight++;
        c->first++;
    }
}

static uint32_t number_at(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
}

static void on_frame(struct connection *c, int kind, int flags, uint32_t stream, const uint8_t *p, size_t size,
                     double start)
{
    size_t i;

    if (kind == DATA || kind == HEADERS || kind == RST_STREAM) {
        struct call *call;

        if (stream % 2 == 0 || stream / 2 >= c->streams)
            give_up("a frame of a stream that was not opened");
        call = &calls[c->calls[stream / 2]];
        if (call->latency >= 0)
            return;
        if (kind == DATA) {
            if (call->size + size > MAX_ANSWER)
                give_up("an answer is too long");
            memcpy(call->answer + call->size, p, size);
            call->size += size;
        }
        if (kind == RST_STREAM)
            call->size = 0;
        if (kind == RST_STREAM || (flags & END_STREAM)) {
            call->latency = (now() - start - call->moment) * 1e6;
            c->in_flight--;
            answered++;
        }
    } else if (kind == SETTINGS && !(flags & ACK)) {
        for (i = 0; i + 6 <= size; i += 6)
            if (p[i] == 0 && p[i + 1] == MAX_CONCURRENT_STREAMS)
                c->most = number_at(p + i + 2);
        c->greeted = 1;
        put_frame(c, SETTINGS, ACK, 0, "", 0);
    } else if (kind == PING && !(flags & ACK)) {
        put_frame(c, PING, ACK, 0, p, size);
    } else if (kind == WINDOW_UPDATE && stream == 0 && size == 4) {
        c->window += number_at(p);
    } else if (kind == GOAWAY) {
        give_up("the server is about to close the connection");
    }
}

static void receive(struct connection *c, double start)
{
    size_t at = 0;
    ssize_t n;

    if (c->in_room - c->in_end < READ_BYTES)
        c->in = memory(c->in, c->in_room = c->in_end + READ_BYTES);
    n = recv(c->fd, c->in + c->in_end, READ_BYTES, c->greeted ? MSG_DONTWAIT : 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR) && c->greeted)
        return;
    if (n <= 0)
        give_up("the server closed the connection, or did not greet");
    c->in_end += n;
    while (c->in_end - at >= HEAD) {
        const uint8_t *head = c->in + at;
        size_t size = (size_t)head[0] << 16 | head[1] << 8 | head[2];

        if (c->in_end - at < HEAD + size)
            break;
        on_frame(c, head[3], head[4], number_at(head + 5) & LARGEST_WINDOW, head + HEAD, size, start);
        at += HEAD + size;
    }
    memmove(c->in, c->in + at, c->in_end -= at);
    send_waiting(c);
    flush(c);
}

static void open_connection(struct connection *c, const char *path, uint32_t count)
{
    static const uint8_t window[] = {0, 4, 0x7f, 0xff, 0xff, 0xff}, more[] = {0x7f, 0xff, 0, 0};
    struct timeval patience = {PATIENCE_SECONDS, 0};
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof address.sun_path)
        give_up("the path of the socket is too long");
    strcpy(address.sun_path, path);
    memset(c, 0, sizeof *c);
    c->most = 100;
    c->window = 65535;
    c->calls = memory(NULL, count * sizeof *c->calls);
    c->queue = memory(NULL, count * sizeof *c->queue);
    c->fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (c->fd < 0 || setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0
        || connect(c->fd, (struct sockaddr *)&address, sizeof address) != 0)
        give_up("the server can't be connected to");
    put(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    put_frame(c, SETTINGS, 0, 0, window, sizeof window);
    put_frame(c, WINDOW_UPDATE, 0, 0, more, sizeof more);
    flush(c);
    while (!c->greeted)
        receive(c, 0);
}

static void run(struct connection *opened, uint32_t connections, uint32_t count)
{
    struct epoll_event events[MAX_CONNECTIONS];
    int epoll = epoll_create1(0), n, i;
    uint32_t sent = 0, k;
    double start, last;

    for (k = 0; k < connections; k++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = k};

        epoll_ctl(epoll, EPOLL_CTL_ADD, opened[k].fd, &event);
    }
    /* From the decision to begin to the first call's moment. */
    start = last = now() + 0.002;
    while (answered < count) {
        double t = now();
        uint32_t before = answered;

        for (; sent < count && start + calls[sent].moment <= t; sent++) {
            struct connection *c = &opened[sent % connections];

            calls[sent].late = (t - start - calls[sent].moment) * 1e6;
            c->queue[c->last++] = sent;
            last = t;
        }
        for (k = 0; k < connections; k++)
            if (opened[k].first < opened[k].last || opened[k].out_begin < opened[k].out_end) {
                send_waiting(&opened[k]);
                flush(&opened[k]);
            }
        n = epoll_wait(epoll, events, MAX_CONNECTIONS, 0);
        for (i = 0; i < n; i++)
            receive(&opened[events[i].data.u32], start);
        if (answered != before)
            last = now();
        else if (n <= 0)
            sched_yield();
        if (sent == count && now() - last > PATIENCE_SECONDS)
            give_up("calls without an answer");
    }
}

static void take(FILE *file, void *to, size_t size)
{
    if (size && fread(to, size, 1, file) != 1)
        give_up("the plan is not complete");
}

static struct message take_bytes(FILE *file, uint32_t size)
{
    uint8_t *bytes = memory(NULL, size + 1);

    take(file, bytes, size);
    bytes[size] = 0;
    return (struct message){size, bytes};
}

int main(int argc, char **argv)
{
    uint32_t head[6], i, size;
    struct connection *opened;
    struct message path;
    FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;

    if (file == NULL)
        give_up("no plan");
    take(file, head, sizeof head);
    path = take_bytes(file, head[3]);
    first_block = take_bytes(file, head[4]);
    later_block = take_bytes(file, head[5]);
    if (head[0] < 1 || head[0] > MAX_CONNECTIONS)
        give_up("too many connections, or none");
    messages = memory(NULL, head[2] * sizeof *messages);
    for (i = 0; i < head[2]; i++) {
        take(file, &size, sizeof size);
        messages[i] = take_bytes(file, size);
    }
    calls = memory(NULL, head[1] * sizeof *calls);
    memset(calls, 0, head[1] * sizeof *calls);
    for (i = 0; i < head[1]; i++) {
        take(file, &calls[i].moment, sizeof calls[i].moment);
        take(file, &calls[i].message, sizeof calls[i].message);
        calls[i].latency = -1;
        if (calls[i].message >= head[2])
            give_up("a call without a message");
    }
    opened = memory(NULL, head[0] * sizeof *opened);
    for (i = 0; i < head[0]; i++)
        open_connection(&opened[i], (const char *)path.bytes, head[1]);
    run(opened, head[0], head[1]);
    for (i = 0; i < head[1]; i++) {
        fwrite(&calls[i].latency, sizeof calls[i].latency, 1, stdout);
        fwrite(&calls[i].late, sizeof calls[i].late, 1, stdout);
        fwrite(&calls[i].size, sizeof calls[i].size, 1, stdout);
        fwrite(calls[i].answer, MAX_ANSWER, 1, stdout);
    }
    return fflush(stdout) != 0;
}
