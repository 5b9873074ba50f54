/*
 * A FastCGI program of libfcgi's that does what QUERY_STRING says and answers
 * "PID COUNT GEN", where COUNT is the requests that it has had and GEN is of its
 * environment, and on the next line what there is to say.
 *
 * It cannot be started while the file $BROKEN exists.
 */
#include <errno.h>
#include <fcgiapp.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *value(const char *name) {
  const char *v = getenv(name);
  return v && *v ? v : "-";
}

/* gate says text and waits until the test lets it go on. */
static void gate(const char *text) {
  char path[200], c;
  snprintf(path, sizeof path, "%s/in", value("GATE"));
  int in = open(path, O_WRONLY);
  snprintf(path, sizeof path, "%s/go", value("GATE"));
  int out = open(path, O_RDONLY);
  if (write(in, text, strlen(text)) < 0)
    _exit(4);
  while (read(out, &c, 1) < 0)
    if (errno != EINTR) /* a signal that asks it to end */
      _exit(4);
  close(in);
  close(out);
}

static void deaf(void) {
  signal(SIGTERM, SIG_IGN);
  for (;;)
    pause();
}

static void echo(FCGX_Request *r) {
  char part[65536];
  int n;
  FCGX_FPrintF(r->out, "%s ", FCGX_GetParam("CONTENT_LENGTH", r->envp));
  while ((n = FCGX_GetStr(part, sizeof part, r->in)) > 0)
    FCGX_PutStr(part, n, r->out);
}

int main(void) {
  const char *broken = getenv("BROKEN");
  int count = 0;
  FCGX_Request r;

  if (broken && access(broken, F_OK) == 0) {
    fprintf(stderr, "starting\ncannot read the settings\n");
    return 3;
  }
  FCGX_Init();
  FCGX_InitRequest(&r, 0, 0);
  while (FCGX_Accept_r(&r) >= 0) {
    const char *query = FCGX_GetParam("QUERY_STRING", r.envp);
    char text[100];
    count++;
    if (!query)
      query = "";
    if (strcmp(query, "gate") == 0) {
      snprintf(text, sizeof text, "%d\n", getpid());
      gate(text);
    } else if (strcmp(query, "deaf") == 0) {
      snprintf(text, sizeof text, "%d\n", getpid());
      signal(SIGTERM, SIG_IGN);
      gate(text);
      deaf();
    } else if (strcmp(query, "fork") == 0) {
      pid_t child = fork();
      if (child == 0)
        deaf();
      snprintf(text, sizeof text, "%d %d\n", getpid(), child);
      gate(text);
    } else if (strcmp(query, "hang") == 0) {
      deaf();
    } else if (strcmp(query, "garbage") == 0) {
      const char junk[] = "HTTP/1.1 200 OK\r\n\r\nhello";
      if (write(r.ipcFd, junk, sizeof junk - 1) < 0)
        _exit(4);
    } else if (strcmp(query, "nap") == 0) {
      usleep(2000);
    } else if (strcmp(query, "complain") == 0) {
      FCGX_FPrintF(r.err, "oh dear\n");
    }
    FCGX_FPrintF(r.out, "Content-Type: text/plain\r\n\r\n%d %d %s\n", getpid(), count, value("GEN"));
    if (strcmp(query, "echo") == 0)
      echo(&r);
    FCGX_Finish_r(&r);
  }
  return 0;
}
