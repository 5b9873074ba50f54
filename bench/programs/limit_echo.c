/* The limit of any FastCGI server: a thread for each connection that reads something and
 * writes a ready answer to request 1, without a look at what it read.
 * usage: limit_echo SOCKET */
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const char answer[] =
    "\1\6\0\1\0\42\6\0Content-Type: text/plain\r\n\r\nhello\n\0\0\0\0\0\0"
    "\1\3\0\1\0\10\0\0\0\0\0\0\0\0\0\0";

static void *serve(void *arg)
{
    int connection = (int)(intptr_t)arg;
    static __thread char buffer[64 << 10];
    while (read(connection, buffer, sizeof buffer) > 0)
        if (write(connection, answer, sizeof answer - 1) < 0)
            break;
    close(connection);
    return NULL;
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (argc != 2 || strlen(argv[1]) >= sizeof address.sun_path)
        return 2;
    strcpy(address.sun_path, argv[1]);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 128))
        return 1;
    for (;;) {
        pthread_t thread;
        int connection = accept(listener, NULL, NULL);
        if (connection < 0)
            return 1;
        if (pthread_create(&thread, NULL, serve, (void *)(intptr_t)connection))
            return 1;
        pthread_detach(thread);
    }
}
