// A provider for measuring: answers chat requests at once, or streams tokens at a given pace.
//
//   cc -O2 -o provider provider.c && ./provider 9000
//
// POST: a chat completion of about 1 KB, or with "stream": true one event per token. How it goes is
// read from anywhere in the request, so that every gateway passes it on: `first=50000us`,
// `every=10000us` and `tokens=100`, for instance in the prompt. GET: a list of models with a status,
// enough for whoever asks whether this server is up. One process, one thread, keep-alive only.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FDS = 8192, MAX_REQUEST = 1 << 20, EVENTS = 256 };

struct connection {
    int open, waiting;            // waiting: an answer is due at `due`
    char *in;
    size_t in_length, in_room;
    char *out;                    // what the socket did not take yet
    size_t out_length, out_sent, out_room;
    int stream;
    long tokens, sent_tokens;
    int64_t due, every;           // ns on the monotonic clock
};

static struct connection connections[MAX_FDS];
static int busy[MAX_FDS], busy_count;   // connections that wait for their time
static int poller, timer;
static char whole[4096], models[1024];
static size_t whole_length, models_length;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static size_t plain(char *to, size_t room, const char *body) {
    return (size_t)snprintf(to, room,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s",
        strlen(body), body);
}

static void prepare_answers(void) {
    char text[1024] = "", body[2048];
    while (strlen(text) < 700) strcat(text, "quince is what this answer is made of; ");
    snprintf(body, sizeof body,
        "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"mock-model\","
        "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%s\"},"
        "\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":200,"
        "\"completion_tokens\":160,\"total_tokens\":360}}", text);
    whole_length = plain(whole, sizeof whole, body);
    models_length = plain(models, sizeof models,
        "{\"status\":\"ok\",\"object\":\"list\",\"data\":[{\"id\":\"mock-model\",\"object\":\"model\","
        "\"created\":1,\"owned_by\":\"nobody\"}]}");
}

static void hang_up(int fd) {
    struct connection *c = &connections[fd];
    for (int i = 0; i < busy_count; i++)
        if (busy[i] == fd) { busy[i] = busy[--busy_count]; break; }
    free(c->in);
    free(c->out);
    memset(c, 0, sizeof *c);
    close(fd);
}

static int flush_out(int fd) {
    struct connection *c = &connections[fd];
    while (c->out_sent < c->out_length) {
        ssize_t n = send(fd, c->out + c->out_sent, c->out_length - c->out_sent, MSG_NOSIGNAL);
        if (n < 0) return errno == EAGAIN ? 0 : -1;
        c->out_sent += (size_t)n;
    }
    c->out_sent = c->out_length = 0;
    return 0;
}

static int put(int fd, const char *bytes, size_t length) {
    struct connection *c = &connections[fd];
    if (c->out_length + length > c->out_room) {
        c->out_room = (c->out_length + length) * 2;
        c->out = realloc(c->out, c->out_room);
        if (!c->out) die("realloc");
    }
    memcpy(c->out + c->out_length, bytes, length);
    c->out_length += length;
    return flush_out(fd);
}

static int put_event(int fd, const char *data) {
    char line[1024];
    size_t size = strlen(data) + strlen("data: \n\n");
    int n = snprintf(line, sizeof line, "%zx\r\ndata: %s\n\n\r\n", size, data);
    return put(fd, line, (size_t)n);
}

static int put_token(int fd, const char *delta, const char *finish) {
    char data[512];
    snprintf(data, sizeof data,
        "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":"
        "\"mock-model\",\"choices\":[{\"index\":0,\"delta\":%s,\"finish_reason\":%s}]}", delta, finish);
    return put_event(fd, data);
}

static int finish_stream(int fd) {
    return put_token(fd, "{}", "\"stop\"")
        || put_event(fd, "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,"
            "\"model\":\"mock-model\",\"choices\":[],\"usage\":{\"prompt_tokens\":200,"
            "\"completion_tokens\":100,\"total_tokens\":300}}")
        || put_event(fd, "[DONE]") || put(fd, "0\r\n\r\n", 5);
}

// Sends what is due by `now`; 1: more is to come, 0: the answer is complete, -1: nobody listens.
static int go_on(int fd, int64_t now) {
    struct connection *c = &connections[fd];
    if (!c->stream) return put(fd, whole, whole_length);
    while (c->due <= now) {
        if (c->sent_tokens == 0) {
            static const char head[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                "cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";
            if (put(fd, head, sizeof head - 1)) return -1;
            if (put_token(fd, "{\"role\":\"assistant\",\"content\":\" quince\"}", "null")) return -1;
        } else if (put_token(fd, "{\"content\":\" quince\"}", "null")) return -1;
        if (++c->sent_tokens == c->tokens) return finish_stream(fd) ? -1 : 0;
        c->due += c->every;
    }
    return 1;
}

static long option(const char *in, size_t length, const char *name, long otherwise) {
    char *found = memmem(in, length, name, strlen(name));
    return found ? strtol(found + strlen(name), NULL, 10) : otherwise;
}

// The length of the first request of `c` with its body, 0 if it is not there yet.
static size_t request_length(const struct connection *c) {
    const char *end = memmem(c->in, c->in_length, "\r\n\r\n", 4);
    if (!end) return 0;
    size_t head = (size_t)(end - c->in) + 4;
    for (const char *line = c->in; line < end;) {
        if (!strncasecmp(line, "content-length:", 15)) {
            size_t whole_request = head + strtoul(line + 15, NULL, 10);
            return c->in_length >= whole_request ? whole_request : 0;
        }
        if (!strncasecmp(line, "transfer-encoding:", 18)) {
            const char *last = memmem(c->in + head - 2, c->in_length - head + 2, "\r\n0\r\n\r\n", 7);
            return last ? (size_t)(last + 7 - c->in) : 0;
        }
        const char *next = memmem(line, (size_t)(end - line), "\r\n", 2);
        if (!next) break;
        line = next + 2;
    }
    return head;
}

static int answer(int fd, int64_t now) {
    struct connection *c = &connections[fd];
    size_t length;
    while (!c->waiting && c->in_length && (length = request_length(c))) {
        int rc = 1;
        if (memcmp(c->in, "POST", 4)) {
            if (put(fd, models, models_length)) return -1;
        } else {
            c->stream = memmem(c->in, length, "\"stream\":true", 13)
                || memmem(c->in, length, "\"stream\": true", 14);
            long first = option(c->in, length, "first=", 0);
            c->every = option(c->in, length, "every=", 0) * 1000LL;
            c->tokens = option(c->in, length, "tokens=", 100);
            c->sent_tokens = 0;
            c->due = now + first * 1000LL;
            if (first == 0) rc = go_on(fd, now);
            if (rc < 0) return -1;
            if (rc > 0) { c->waiting = 1; busy[busy_count++] = fd; }
        }
        c->in_length -= length;
        memmove(c->in, c->in + length, c->in_length);
    }
    return 0;
}

static int hear(int fd) {
    struct connection *c = &connections[fd];
    for (;;) {
        if (c->in_room - c->in_length < 4096) {
            if (c->in_length > MAX_REQUEST) return -1;
            c->in_room = c->in_room ? c->in_room * 2 : 8192;
            c->in = realloc(c->in, c->in_room);
            if (!c->in) die("realloc");
        }
        ssize_t n = recv(fd, c->in + c->in_length, c->in_room - c->in_length, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN)) return -1;
        if (n < 0) break;
        c->in_length += (size_t)n;
    }
    return answer(fd, now_ns());
}

static void welcome(int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        if (fd < 0) return;
        if (fd >= MAX_FDS) { close(fd); continue; }
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        connections[fd].open = 1;
        // Edges, for reading and writing alike: one call per connection, none per answer.
        struct epoll_event want = {EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, {.fd = fd}};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &want);
    }
}

static void keep_time(void) {
    int64_t now = now_ns(), next = 0;
    for (int i = 0; i < busy_count;) {
        int fd = busy[i], rc = 1;
        struct connection *c = &connections[fd];
        if (c->due <= now) rc = go_on(fd, now);
        if (rc < 0) { hang_up(fd); continue; }
        if (rc == 0) {
            busy[i] = busy[--busy_count];
            c->waiting = 0;
            if (answer(fd, now)) hang_up(fd);
            continue;
        }
        if (!next || c->due < next) next = c->due;
        i++;
    }
    struct itimerspec when = {.it_value = {next / 1000000000LL, next % 1000000000LL}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

int main(int argc, char **argv) {
    if (argc != 2) { fprintf(stderr, "usage: provider PORT\n"); return 2; }
    signal(SIGPIPE, SIG_IGN);
    prepare_answers();
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in where = {AF_INET, htons((uint16_t)atoi(argv[1])), {htonl(INADDR_LOOPBACK)}, {0}};
    if (bind(listener, (struct sockaddr *)&where, sizeof where) || listen(listener, 4096)) die("listen");
    poller = epoll_create1(0);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event want = {EPOLLIN, {.fd = listener}};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &want);
    want.data.fd = timer;
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &want);
    struct epoll_event events[EVENTS];
    for (;;) {
        int n = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) { welcome(listener); continue; }
            if (fd == timer) {
                uint64_t ticks;
                if (read(timer, &ticks, sizeof ticks) < 0 && errno != EAGAIN) die("timer");
                continue;
            }
            struct connection *c = &connections[fd];
            if (!c->open) continue;
            if ((events[i].events & EPOLLOUT) && flush_out(fd)) { hang_up(fd); continue; }
            if ((events[i].events & ~(uint32_t)EPOLLOUT) && hear(fd)) hang_up(fd);
        }
        if (busy_count) keep_time();
    }
}
