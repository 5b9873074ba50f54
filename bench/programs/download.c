/* A CGI program that sends DOWNLOAD_BYTES bytes in writes of 64 KiB. */
#include <unistd.h>

int main(void)
{
    static const char head[] = "Content-Type: application/octet-stream\n\n";
    static char block[64 << 10];
    long long left = DOWNLOAD_BYTES;
    if (write(1, head, sizeof head - 1) != sizeof head - 1)
        return 1;
    while (left > 0) {
        ssize_t n = write(1, block, left < (long long)sizeof block ? (size_t)left : sizeof block);
        if (n <= 0)
            return 1;
        left -= n;
    }
    return 0;
}
