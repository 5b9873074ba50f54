/* A CGI program that says nothing for a minute. */
#include <unistd.h>

int main(void)
{
    sleep(60);
    return 0;
}
