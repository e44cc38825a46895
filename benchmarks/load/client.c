// Asks a chat endpoint again and again, and prints what came back as one line of JSON.
//
//   cc -O2 -o client client.c
//   ./client PORT PATH BODY_FILE CONNECTIONS SECONDS WARM_UP_SECONDS RATE TOKENS [HEADER...]
//
// RATE 0: every connection asks anew as soon as its answer is there (closed loop). Otherwise so many
// requests begin a second, evenly spread, whoever is late (open loop): a latency counts from the
// moment at which the request was due, so that a gateway which stalls can't hide it. TOKENS 0: plain
// answers; otherwise streams of so many tokens. Every answer is read whole, by its framing, and must
// have status 200 and hold its word "quince" once at least, or once per token.

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
#include <time.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 4096, ROOM = 1 << 16, EVENTS = 256 };
static const char WORD[] = "quince";
enum { WORD_LENGTH = sizeof WORD - 1 };

enum part { HEAD, LENGTH, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER, DONE };

struct connection {
    int fd, asking;
    int64_t due, first;         // when the request was due; when its first word came, 0 before
    enum part part;
    char head[8192];
    size_t head_length;
    unsigned long left;         // bytes of this body or chunk
    int status, closes, matched;
    long words;
    size_t sent;
};

struct samples { double *us; size_t count, room; };

static struct connection connections[MAX_CONNECTIONS];
static struct samples latencies, firsts;
static char *request;
static size_t request_length;
static int port, poller, count;
static long wanted_tokens, answered, all_answers, refused, broken, cut, words_counted;
static int64_t counting_from, stops_at;
static char complaint[256];

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void keep(struct samples *s, int64_t ns) {
    if (s->count == s->room) {
        s->room = s->room ? s->room * 2 : 65536;
        s->us = realloc(s->us, s->room * sizeof *s->us);
        if (!s->us) die("realloc");
    }
    s->us[s->count++] = (double)ns / 1000.0;
}

static void read_request(const char *path, const char *file, char **headers, int header_count) {
    FILE *f = fopen(file, "rb");
    if (!f) die(file);
    char *body = malloc(1 << 20);
    size_t length = fread(body, 1, 1 << 20, f);
    fclose(f);
    request = malloc(length + (1 << 16));
    int n = sprintf(request, "POST %s HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\n"
        "content-length: %zu\r\n", path, port, length);
    for (int i = 0; i < header_count; i++) n += sprintf(request + n, "%s\r\n", headers[i]);
    n += sprintf(request + n, "\r\n");
    memcpy(request + n, body, length);
    request_length = (size_t)n + length;
    free(body);
}

static void dial(struct connection *c) {
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in where = {AF_INET, htons((uint16_t)port), {htonl(INADDR_LOOPBACK)}, {0}};
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&where, sizeof where)) die("connect");
    int on = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event want = {EPOLLIN, {.ptr = c}};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &want);
    c->asking = 0;
}

static void ask(struct connection *c, int64_t due) {
    c->asking = 1;
    c->due = due;
    c->first = 0;
    c->part = HEAD;
    c->head_length = 0;
    c->words = c->matched = 0;
    // A kilobyte always fits a fresh socket: no need to wait until it can be written to.
    if (send(c->fd, request, request_length, MSG_NOSIGNAL) != (ssize_t)request_length) {
        broken++;
        close(c->fd);
        dial(c);
    }
}

static void ended(struct connection *c, int whole) {
    int64_t now = now_ns();
    all_answers += whole;
    if (now >= counting_from && now <= stops_at) {
        long least = wanted_tokens ? wanted_tokens : 1;
        if (!whole) broken++;
        else if (c->status != 200) {
            if (!refused++) snprintf(complaint, sizeof complaint, "status %d", c->status);
        } else if (c->words < least) cut++;
        else {
            answered++;
            if (c->due >= counting_from) {
                keep(&latencies, now - c->due);
                keep(&firsts, c->first - c->due);
            }
        }
    }
    c->asking = 0;
    if (!whole || c->closes) {
        close(c->fd);
        dial(c);
    }
}

static void look_for_words(struct connection *c, const char *bytes, size_t length) {
    const char *end = bytes + length;
    while (bytes < end) {
        if (c->matched == 0) {
            bytes = memchr(bytes, WORD[0], (size_t)(end - bytes));
            if (!bytes) return;
            c->matched = 1;
        } else if (*bytes == WORD[c->matched]) {
            if (++c->matched == WORD_LENGTH) {
                int64_t now = now_ns();
                if (!c->first) c->first = now;
                if (now >= counting_from && now <= stops_at) words_counted++;
                c->words++;
                c->matched = 0;
            }
        } else {
            c->matched = 0;
            continue;  // the same byte may begin the word
        }
        bytes++;
    }
}

static void read_head(struct connection *c) {
    c->head[c->head_length] = 0;
    c->status = atoi(c->head + 9);
    c->closes = strcasestr(c->head, "\r\nconnection: close") != NULL;
    char *length = strcasestr(c->head, "\r\ncontent-length:");
    if (strcasestr(c->head, "\r\ntransfer-encoding: chunked")) c->part = CHUNK_SIZE;
    else {
        c->left = length ? strtoul(length + 17, NULL, 10) : 0;
        c->part = c->left ? LENGTH : DONE;
    }
    c->head_length = 0;
}

// Takes bytes of an answer; -1 if they are none.
static int take(struct connection *c, const char *in, size_t length) {
    while (length && c->part != DONE) {
        if (c->part == LENGTH || c->part == CHUNK) {
            size_t n = length < c->left ? length : c->left;
            look_for_words(c, in, n);
            in += n, length -= n, c->left -= n;
            if (!c->left) c->part = c->part == LENGTH ? DONE : CHUNK_END;
            continue;
        }
        if (c->head_length + 1 >= sizeof c->head) return -1;
        c->head[c->head_length++] = *in;
        in++, length--;
        size_t n = c->head_length;
        if (c->part == HEAD) {
            if (n >= 4 && !memcmp(c->head + n - 4, "\r\n\r\n", 4)) read_head(c);
        } else if (c->head[n - 1] == '\n') {  // a line between chunks
            c->head[n] = 0;
            if (c->part == CHUNK_SIZE) {
                c->left = strtoul(c->head, NULL, 16);
                c->part = c->left ? CHUNK : TRAILER;
            } else if (c->part == CHUNK_END) c->part = CHUNK_SIZE;
            else if (n <= 2) c->part = DONE;
            c->head_length = 0;
        }
    }
    return length ? -1 : 0;
}

static void hear(struct connection *c) {
    static char in[ROOM];
    ssize_t n = recv(c->fd, in, sizeof in, 0);
    if (n <= 0 || !c->asking || take(c, in, (size_t)n)) {
        // A connection that is closed between two answers is the server's right.
        if (c->asking) ended(c, 0);
        else { close(c->fd); dial(c); }
        return;
    }
    if (c->part == DONE) ended(c, 1);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(struct samples *s, double q) {
    if (!s->count) return -1;
    qsort(s->us, s->count, sizeof *s->us, ascending);
    return s->us[(size_t)(q * (double)(s->count - 1))];
}

static void run(double rate) {
    struct epoll_event events[EVENTS];
    int64_t start = now_ns(), gap = rate > 0 ? (int64_t)(1e9 / rate) : 0, next = start;
    for (int64_t now = start; now < stops_at; now = now_ns()) {
        if (!gap) {
            for (int i = 0; i < count; i++)
                if (!connections[i].asking) ask(&connections[i], now);
        } else for (int i = 0; next <= now && i < count; i++) {
            if (connections[i].asking) continue;
            ask(&connections[i], next);
            next += gap;
        }
        int64_t wait = (gap && next > now ? next : stops_at) - now;
        if (gap && next <= now) wait = 1000000;  // all are busy: somebody has to answer first
        struct timespec most = {wait / 1000000000LL, wait % 1000000000LL};
        int n = epoll_pwait2(poller, events, EVENTS, &most, NULL);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            hear(c);
            if (!gap && !c->asking) ask(c, now_ns());
        }
    }
}

int main(int argc, char **argv) {
    if (argc < 9) { fprintf(stderr, "usage: see the first lines of client.c\n"); return 2; }
    signal(SIGPIPE, SIG_IGN);
    port = atoi(argv[1]);
    count = atoi(argv[4]);
    double seconds = atof(argv[5]), warm_up = atof(argv[6]), rate = atof(argv[7]);
    wanted_tokens = atol(argv[8]);
    read_request(argv[2], argv[3], argv + 9, argc - 9);
    if (count < 1 || count > MAX_CONNECTIONS) { fprintf(stderr, "connections: 1 to 4096\n"); return 2; }
    poller = epoll_create1(0);
    for (int i = 0; i < count; i++) dial(&connections[i]);
    counting_from = now_ns() + (int64_t)(warm_up * 1e9);
    stops_at = counting_from + (int64_t)(seconds * 1e9);
    run(rate);
    printf("{\"answered\": %ld, \"all\": %ld, \"refused\": %ld, \"broken\": %ld, \"cut\": %ld, \"per_s\": %.1f, "
        "\"tokens_per_s\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"first_p50_us\": %.1f, "
        "\"first_p99_us\": %.1f, \"complaint\": \"%s\"}\n",
        answered, all_answers, refused, broken, cut, (double)answered / seconds, (double)words_counted / seconds,
        quantile(&latencies, .5), quantile(&latencies, .99), quantile(&firsts, .5),
        quantile(&firsts, .99), complaint);
    return 0;
}
