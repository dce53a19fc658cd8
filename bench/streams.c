// Holds many power streams open and tells how far apart the samples of each GPU came, as one line of JSON.
//
//   streams [options] SOCKET TARGET
//
//   --streams N   how many (200)
//   --gpus N      how many GPUs each is about (8)
//   --warm-up S   seconds before it counts (1)
//   --seconds S   how long it counts (3)
//   --pid PID     also tell how much processor time that process took meanwhile
//
// One thread reads them all: it must cost little, since the daemon shares the machine with it.
#include "program.h"
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <sys/epoll.h>

enum { MAX_GPUS = 64, LINE_BYTES = 512 };

static struct {
  int streams, gpus, pid;
  double warm_up_s, seconds;
} config = {.streams = 200, .gpus = 8, .warm_up_s = 1, .seconds = 3};

struct stream {
  int fd;
  enum { HEAD, SIZE, DATA, AFTER_DATA } state;
  long left;
  char line[LINE_BYTES];
  size_t length;
  int64_t last_ns[MAX_GPUS];
};

static struct samples gaps;
static long events, bytes_read;
static int64_t count_from_ns;

static double processor_s(int pid) {
  char path[64], text[1024];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t bytes = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  if (bytes <= 0) FAIL("%s: %s", path, strerror(errno));
  close(fd);
  text[bytes] = '\0';
  unsigned long user, kernel;
  char *rest = strrchr(text, ')');
  if (!rest || sscanf(rest, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel) != 2) {
    FAIL("%s cannot be read", path);
  }
  return (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
}

// ---- What comes in -------------------------------------------------------------------------------------------------

static void take_event(struct stream *stream, const char *line, int64_t now) {
  const char *id = strstr(line, "\"gpu_id\":");
  int gpu = id ? atoi(id + 9) : -1;
  if (gpu < 0 || gpu >= config.gpus) FAIL("not an event of a GPU: %s", line);
  if (now >= count_from_ns) {
    events++;
    if (stream->last_ns[gpu]) add_sample(&gaps, now - stream->last_ns[gpu]);
  }
  stream->last_ns[gpu] = now;
}

static void take_line(struct stream *stream, int64_t now) {
  const char *line = stream->line;
  switch (stream->state) {
    case HEAD:
      if (strncmp(line, "HTTP/", 5) == 0 && strncmp(line, "HTTP/1.1 200", 12) != 0) FAIL("refused: %s", line);
      if (!*line) stream->state = SIZE;
      break;
    case SIZE:
      stream->left = strtol(line, NULL, 16);
      if (stream->left <= 0) FAIL("a stream ended");
      stream->state = DATA;
      break;
    case AFTER_DATA: stream->state = SIZE; break;
    case DATA:
      if (strncmp(line, "data:", 5) == 0) take_event(stream, line, now);
      break;
  }
  stream->length = 0;
}

// A line of an event ends with the chunk at the latest: no daemon here cuts one in two.
static void take_bytes(struct stream *stream, const char *bytes, ssize_t count, int64_t now) {
  for (ssize_t i = 0; i < count; i++) {
    bool data = stream->state == DATA;
    if (bytes[i] == '\n') {
      stream->line[stream->length] = '\0';
      take_line(stream, now);
    } else if (bytes[i] != '\r') {
      if (stream->length + 1 >= LINE_BYTES) FAIL("a long line");
      stream->line[stream->length++] = bytes[i];
    }
    if (data && --stream->left == 0) {
      if (stream->length > 0) FAIL("an event in two chunks");
      stream->state = AFTER_DATA;
    }
  }
}

// ---- All streams ---------------------------------------------------------------------------------------------------

static void open_stream(struct stream *stream, const char *socket, const char *target, int epoll) {
  char request[1024];
  int length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nhost: localhost\r\n\r\n", target);
  stream->fd = connect_to(socket);
  if (send(stream->fd, request, (size_t)length, MSG_NOSIGNAL) != length) FAIL("send: %s", strerror(errno));
  fcntl(stream->fd, F_SETFL, O_NONBLOCK);
  struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = stream};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, stream->fd, &wanted) != 0) FAIL("epoll: %s", strerror(errno));
}

static void read_until(int epoll, int64_t end_ns) {
  struct epoll_event ready[64];
  char bytes[65536];
  for (int64_t now = now_ns(); now < end_ns; now = now_ns()) {
    int count = epoll_wait(epoll, ready, 64, (int)((end_ns - now) / 1000000) + 1);
    if (count < 0 && errno != EINTR) FAIL("epoll: %s", strerror(errno));
    for (int i = 0; i < count; i++) {
      struct stream *stream = ready[i].data.ptr;
      ssize_t got = read(stream->fd, bytes, sizeof bytes);
      if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) FAIL("a stream broke");
      if (got > 0) take_bytes(stream, bytes, got, now_ns());
      bytes_read += got > 0 ? got : 0;
    }
  }
}

static void read_arguments(int argc, char **argv) {
  static const struct option options[] = {{"streams", required_argument, NULL, 'n'}, {"gpus", required_argument, NULL, 'g'},
                                          {"warm-up", required_argument, NULL, 'w'}, {"seconds", required_argument, NULL, 's'},
                                          {"pid", required_argument, NULL, 'p'},     {0}};
  for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
    switch (option) {
      case 'n': config.streams = atoi(optarg); break;
      case 'g': config.gpus = atoi(optarg); break;
      case 'w': config.warm_up_s = atof(optarg); break;
      case 's': config.seconds = atof(optarg); break;
      case 'p': config.pid = atoi(optarg); break;
      default: exit(2);
    }
  }
  if (argc - optind != 2 || config.gpus > MAX_GPUS) FAIL("streams [options] SOCKET TARGET");
}

int main(int argc, char **argv) {
  read_arguments(argc, argv);
  allow_many_files();
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  struct stream *streams = calloc((size_t)config.streams, sizeof *streams);
  if (epoll < 0 || !streams) FAIL("no memory for streams");
  count_from_ns = INT64_MAX;
  for (int i = 0; i < config.streams; i++) open_stream(&streams[i], argv[optind], argv[optind + 1], epoll);
  read_until(epoll, now_ns() + (int64_t)(config.warm_up_s * 1e9));

  double daemon_s = config.pid ? processor_s(config.pid) : 0, own_s = processor_s(getpid());
  count_from_ns = now_ns();
  read_until(epoll, count_from_ns + (int64_t)(config.seconds * 1e9));
  daemon_s = config.pid ? processor_s(config.pid) - daemon_s : 0;
  own_s = processor_s(getpid()) - own_s;
  if (gaps.count == 0) FAIL("no samples came");
  sort_samples(&gaps);
  printf("{\"events\":%ld,\"bytes\":%ld,\"seconds\":%.3f,\"cpu_s\":%.3f,\"own_cpu_s\":%.3f,\"gap_p50_us\":%.3f,"
         "\"gap_p90_us\":%.3f,\"gap_p99_us\":%.3f,\"gap_p999_us\":%.3f,\"gap_max_us\":%.3f}\n",
         events, bytes_read, config.seconds, daemon_s, own_s, percentile_us(&gaps, 0.5), percentile_us(&gaps, 0.9),
         percentile_us(&gaps, 0.99), percentile_us(&gaps, 0.999), percentile_us(&gaps, 1));
  return 0;
}
