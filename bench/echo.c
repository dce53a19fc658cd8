// A server that does nothing but answer 200, a thread for each connection: what the load generator itself can do.
//
//   echo SOCKET
#include "program.h"
#include <pthread.h>
#include <strings.h>

static const char answer[] = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

// The bytes of the first request in there, or 0 where its end is still to come.
static size_t request_length(const char *text) {
  const char *end = strstr(text, "\r\n\r\n");
  if (!end) return 0;
  const char *length = strcasestr(text, "\r\ncontent-length:");
  return (size_t)(end + 4 - text) + (length && length < end ? strtoul(length + 17, NULL, 10) : 0);
}

static void *serve(void *argument) {
  int fd = (int)(intptr_t)argument;
  char text[16384];
  size_t have = 0;
  for (ssize_t bytes; (bytes = read(fd, text + have, sizeof text - 1 - have)) > 0;) {
    have += (size_t)bytes;
    text[have] = '\0';
    for (size_t length; (length = request_length(text)) > 0 && length <= have;) {
      if (send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL) < 0) break;
      memmove(text, text + length, have - length + 1);
      have -= length;
    }
  }
  close(fd);
  return NULL;
}

int main(int argc, char **argv) {
  if (argc != 2) FAIL("echo SOCKET");
  struct sockaddr_un address = socket_address(argv[1]);
  unlink(argv[1]);
  allow_many_files();
  int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (bind(listening, (struct sockaddr *)&address, sizeof address) != 0 || listen(listening, 4096) != 0) {
    FAIL("%s: %s", argv[1], strerror(errno));
  }
  printf("Listening on %s\n", argv[1]);
  fflush(stdout);
  for (;;) {
    int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
    pthread_t thread;
    if (fd < 0 || pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) != 0) FAIL("accept: %s", strerror(errno));
    pthread_detach(thread);
  }
}
