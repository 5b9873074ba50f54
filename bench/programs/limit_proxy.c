/* The limit of any proxy between web server and FastCGI workers: one thread with epoll that
 * reads a request until it is whole, gives its bytes to a free worker on a connection that is
 * kept, and its bytes back to the client. It looks at the heads of records and at nothing else.
 * usage: limit_proxy SOCKET WORKERS PROGRAM [ARGUMENT...] */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { head = 8, begin = 1, end = 3, input = 5, keep = 1, room = 64 << 10, most = 128 };

/* A peer is a client or a worker. */
struct peer {
    int fd, is_worker, keeps;
    struct peer *other;     /* of a worker: whose request it has; NULL: none */
    struct sockaddr_un at;  /* of a worker: where it listens */
    socklen_t at_size;
    struct peer *next;      /* in a list */
    size_t length;          /* of a client: what has come of its request */
    size_t got, rest;       /* of a worker: bytes of the head, and of what follows it */
    unsigned char kind;     /* of that record */
    unsigned char data[room]; /* the request, or a head */
};

static int poller;
static struct peer *idle;                  /* workers, the last one used first */
static struct peer *waiting, **last = &waiting; /* clients */
static struct peer *unused;

/* die says what has failed, and why, if that is the kernel's word. */
static void die(const char *what)
{
    perror(what);
    _exit(1);
}

static void watch(struct peer *p)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = p};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, p->fd, &event))
        die("watch a connection");
}

static void send_all(int fd, const unsigned char *data, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(fd, data, n, MSG_NOSIGNAL);
        if (sent < 0)
            return; /* who is gone needs no answer */
        data += sent;
        n -= sent;
    }
}

static void drop(struct peer *client)
{
    close(client->fd);
    client->next = unused;
    unused = client;
}

/* reach connects to a worker. */
static void reach(struct peer *w)
{
    if ((w->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0 || connect(w->fd, (struct sockaddr *)&w->at, w->at_size))
        die("connect to a worker");
    watch(w);
}

/* start gives a client's request to a worker. */
static void start(struct peer *worker, struct peer *client)
{
    worker->other = client;
    send_all(worker->fd, client->data, client->length);
}

/* whole tells whether the end of a request has come. */
static int whole(const struct peer *c)
{
    for (size_t at = 0; at + head <= c->length;) {
        size_t content = c->data[at + 4] << 8 | c->data[at + 5];
        if (c->data[at + 1] == input && content == 0)
            return 1;
        at += head + content + c->data[at + 6];
    }
    return 0;
}

enum heard { part, all, nothing };

/* hear reads what a client says, and has a request that is whole done. */
static enum heard hear(struct peer *c)
{
    ssize_t n = recv(c->fd, c->data + c->length, sizeof c->data - c->length, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return part;
    if (n <= 0) {
        if (c->length > 0)
            die("a client leaves in the middle of a request"); /* which no load does */
        drop(c);
        return nothing;
    }
    c->length += n;
    if (!whole(c))
        return part;
    c->keeps = c->data[head + 2] & keep;
    c->data[head + 2] |= keep;
    if (idle) {
        struct peer *worker = idle;
        idle = worker->next;
        start(worker, c);
    } else {
        c->next = NULL;
        *last = c;
        last = &c->next;
    }
    return all;
}

static void greet(int listener)
{
    struct peer *c = unused;
    if (c)
        unused = c->next;
    else if (!(c = calloc(1, sizeof *c)))
        die("room for a client");
    c->length = 0;
    if ((c->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0)
        die("accept");
    /* Mostly the request is there, and who does not keep the connection says nothing more. */
    enum heard heard = hear(c);
    if (heard == part || heard == all && c->keeps)
        watch(c);
}

/* finished follows the records that a worker has written, to the end of its request. */
static int finished(struct peer *w, const unsigned char *data, size_t n)
{
    while (n > 0) {
        if (w->got < head) {
            size_t part = n < head - w->got ? n : head - w->got;
            memcpy(w->data + w->got, data, part);
            w->got += part;
            data += part;
            n -= part;
            if (w->got < head)
                return 0;
            w->kind = w->data[1];
            w->rest = (w->data[4] << 8 | w->data[5]) + w->data[6];
        }
        size_t part = n < w->rest ? n : w->rest;
        w->rest -= part;
        data += part;
        n -= part;
        if (w->rest == 0) {
            w->got = 0;
            if (w->kind == end)
                return 1;
        }
    }
    return 0;
}

static void answer(struct peer *w)
{
    static unsigned char data[room];
    ssize_t n = recv(w->fd, data, sizeof data, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 && !w->other) { /* php-cgi does that when nothing comes for five seconds */
        close(w->fd);
        reach(w);
        return;
    }
    if (n <= 0)
        die("a worker has gone");
    struct peer *client = w->other;
    send_all(client->fd, data, n);
    if (!finished(w, data, n))
        return;
    w->other = NULL;
    client->length = 0;
    if (!client->keeps)
        drop(client);
    if (waiting) {
        struct peer *next = waiting;
        if (!(waiting = next->next))
            last = &waiting;
        start(w, next);
        return;
    }
    w->next = idle;
    idle = w;
}

static int listen_at(const char *path, struct sockaddr_un *address, socklen_t *size)
{
    address->sun_family = AF_UNIX;
    *size = sizeof address->sun_family; /* of no name: the kernel finds one */
    if (path) {
        if (strlen(path) >= sizeof address->sun_path)
            exit(2);
        strcpy(address->sun_path, path);
        *size = sizeof *address;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(fd, (struct sockaddr *)address, *size) || listen(fd, 4096))
        exit(1);
    *size = sizeof *address;
    if (getsockname(fd, (struct sockaddr *)address, size))
        exit(1);
    return fd;
}

/* employ starts a worker with a socket of its own, and connects to it. */
static void employ(char **argv)
{
    struct peer *w = calloc(1, sizeof *w);
    if (!w)
        die("room for a worker");
    int listener = listen_at(NULL, &w->at, &w->at_size);
    switch (fork()) {
    case -1:
        die("fork");
    case 0:
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (dup2(listener, 0) == 0)
            execv(argv[0], argv);
        _exit(1);
    }
    close(listener);
    w->is_worker = 1;
    w->next = idle;
    idle = w;
    reach(w);
}

int main(int argc, char **argv)
{
    struct sockaddr_un address;
    socklen_t size;
    struct peer door = {0};
    if (argc < 4 || setenv("PHP_FCGI_MAX_REQUESTS", "0", 1))
        return 2;
    if ((poller = epoll_create1(EPOLL_CLOEXEC)) < 0)
        return 1;
    for (int i = atoi(argv[2]); i > 0; i--)
        employ(argv + 3);
    door.fd = listen_at(argv[1], &address, &size);
    watch(&door);
    for (;;) {
        struct epoll_event events[most];
        int n = epoll_wait(poller, events, most, -1);
        for (int i = 0; i < n; i++) {
            struct peer *p = events[i].data.ptr;
            if (p == &door)
                greet(door.fd);
            else if (p->is_worker)
                answer(p);
            else
                hear(p);
        }
    }
}
