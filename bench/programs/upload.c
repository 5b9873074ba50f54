/* A CGI program that reads all its input in reads of 64 KiB and tells how much it was. */
#include <stdio.h>
#include <unistd.h>

int main(void)
{
    static char block[64 << 10];
    long long total = 0;
    ssize_t n;
    while ((n = read(0, block, sizeof block)) > 0)
        total += n;
    printf("Content-Type: text/plain\n\n%lld\n", total);
    return n < 0;
}
