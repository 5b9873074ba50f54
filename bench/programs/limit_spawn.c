/* The limit of any CGI server: threads that do nothing but start a program with a pipe for
 * its output, read that to its end, and wait for the program. Prints how many a second.
 * usage: limit_spawn PROGRAM THREADS MILLISECONDS */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char *program;
static atomic_long started;
static atomic_int stop;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void once(void)
{
    char *argv[] = {program, NULL};
    char *env[] = {"GATEWAY_INTERFACE=CGI/1.1", "REQUEST_METHOD=GET", NULL};
    char buffer[4096];
    int fds[2], status;
    pid_t pid;
    posix_spawn_file_actions_t actions;

    if (pipe2(fds, O_CLOEXEC))
        exit(1);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fds[1], 1);
    if (posix_spawn(&pid, program, &actions, NULL, argv, env))
        exit(1);
    posix_spawn_file_actions_destroy(&actions);
    close(fds[1]);
    ssize_t n, total = 0;
    while ((n = read(fds[0], buffer, sizeof buffer)) > 0)
        total += n;
    close(fds[0]);
    if (waitpid(pid, &status, 0) != pid || status != 0 || total == 0)
        exit(1);
}

static void *work(void *unused)
{
    (void)unused;
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        once();
        atomic_fetch_add_explicit(&started, 1, memory_order_relaxed);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    program = argv[1];
    int threads = atoi(argv[2]), milliseconds = atoi(argv[3]);
    pthread_t ids[threads];
    double begin = now();
    for (int i = 0; i < threads; i++)
        if (pthread_create(&ids[i], NULL, work, NULL))
            return 1;
    usleep(milliseconds * 1000);
    atomic_store(&stop, 1);
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    printf("%.1f\n", started / (now() - begin));
    return 0;
}
