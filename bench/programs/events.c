/* A CGI program that writes 20 events of 26 bytes, one each 50 ms. */
#include <stdio.h>
#include <unistd.h>

int main(void)
{
    char text[128];
    int n = snprintf(text, sizeof text, "Content-Type: text/event-stream\n\n");
    for (int i = 0; i < 20; i++) {
        n += snprintf(text + n, sizeof text - n, "data: event %012d\n\n", i);
        if (write(1, text, n) != n)
            return 1;
        n = 0;
        if (i < 19)
            usleep(50 * 1000);
    }
    return 0;
}
