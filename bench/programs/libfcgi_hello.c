/* A FastCGI program made with libfcgi. It accepts on descriptor 0, or makes a socket.
 * usage: libfcgi_hello [SOCKET PROCESSES] */
#include <fcgiapp.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static int serve(int socket)
{
    FCGX_Request request;
    FCGX_InitRequest(&request, socket, 0);
    while (FCGX_Accept_r(&request) == 0) {
        FCGX_PutS("Content-Type: text/plain\r\n\r\nhello\n", request.out);
        FCGX_Finish_r(&request);
    }
    return 1;
}

int main(int argc, char **argv)
{
    if ((argc != 1 && argc != 3) || FCGX_Init() != 0)
        return 2;
    if (argc == 1)
        return serve(0);
    int socket = FCGX_OpenSocket(argv[1], 128);
    if (socket < 0)
        return 1;
    for (int i = atoi(argv[2]); i > 0; i--)
        if (fork() == 0)
            return serve(socket);
    while (wait(NULL) > 0)
        ;
    return 1;
}
