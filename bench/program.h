// What the programs of the benchmark share: the clock, the way to a socket, lists of samples and their percentiles.
#pragma once
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define FAIL(...) (fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), exit(2))

static inline int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline struct sockaddr_un socket_address(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) FAIL("%s: too long for a socket", path);
  strcpy(address.sun_path, path);
  return address;
}

static inline int connect_to(const char *path) {
  struct sockaddr_un address = socket_address(path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  // A daemon that hangs must end the run, not hold it up.
  struct timeval patience = {.tv_sec = 20};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) FAIL("%s: %s", path, strerror(errno));
  return fd;
}

static inline void allow_many_files(void) {
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

struct samples {
  int64_t *ns;
  size_t count, room;
};

static inline void add_sample(struct samples *samples, int64_t ns) {
  if (samples->count == samples->room) {
    samples->room = samples->room ? samples->room * 2 : 1 << 16;
    samples->ns = realloc(samples->ns, samples->room * sizeof *samples->ns);
    if (!samples->ns) FAIL("no memory for samples");
  }
  samples->ns[samples->count++] = ns;
}

static inline int ascending(const void *one, const void *other) {
  int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;
  return (a > b) - (a < b);
}

static inline void sort_samples(struct samples *samples) {
  if (samples->count) qsort(samples->ns, samples->count, sizeof *samples->ns, ascending);
}

// Of sorted samples, in microseconds: the smallest that no more than this share of them exceeds.
static inline double percentile_us(const struct samples *sorted, double share) {
  if (sorted->count == 0) return 0;
  size_t rank = (size_t)(share * (double)sorted->count + 0.999999);
  if (rank < 1) rank = 1;
  if (rank > sorted->count) rank = sorted->count;
  return (double)sorted->ns[rank - 1] / 1e3;
}

static inline double mean_us(const struct samples *samples) {
  double sum = 0;
  for (size_t i = 0; i < samples->count; i++) sum += (double)samples->ns[i];
  return samples->count ? sum / (double)samples->count / 1e3 : 0;
}
