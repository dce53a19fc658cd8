// Asks a daemon over its Unix socket as fast as it answers, and tells how long the answers took, as one line of JSON.
//
//   load [options] SOCKET REQUEST...
//
// A REQUEST is "METHOD TARGET [JSON BODY]"; each connection sends them in turn. In it, {gpu} stands for the number of the
// connection modulo --gpus. Every connection has a thread and blocks: the one that asks also waits.
//
//   --connections N    how many ask (1)
//   --gpus N           (8)
//   --rare N           the last REQUEST is sent only once after N of the others
//   --warm-up S        seconds during which answers are awaited but not counted (0.5)
//   --seconds S        how long it counts after that (3)
//   --requests N       count this many instead, over all connections, however long they take
//   --status N         the answer that is expected (200); every other is an error, and errors make the run fail
//   --header TEXT      a header to send along
//   --idle N           open that many further connections first; each asks once, then stays silent until the end
//   --pair SOCKET      ask two daemons in turn, one connection each, and tell the differences; of two REQUESTs the second
//                      is for that one. Who is asked first alternates.
//   --pair-header TEXT a header for that one alone
//   --samples FILE     write how long each answer took, those of the warm-up included, as 64-bit nanoseconds; the order
//                      is that of the requests where there is one connection. With --pair: the differences, without those
//                      of the warm-up
#include "program.h"
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <strings.h>

enum { MAX_REQUESTS = 16, REQUEST_BYTES = 8192, REPLY_BYTES = 65536 };

static struct {
  const char *socket, *pair_socket, *header, *pair_header, *samples;
  const char *requests[MAX_REQUESTS];
  int request_count, connections, gpus, status, idle;
  double warm_up_s, seconds;
  long wanted, rare;
} config = {.connections = 1, .gpus = 8, .status = 200, .warm_up_s = 0.5, .seconds = 3};

static int64_t count_from_ns, count_until_ns;
static atomic_long errors;
static pthread_barrier_t all_connected;

struct message {
  char bytes[REQUEST_BYTES];
  size_t length;
};

struct connection {
  int fd;
  struct message messages[MAX_REQUESTS];
  struct samples all, counted;
  int64_t began_ns, ended_ns;
  char reply[REPLY_BYTES];
};

// ---- One request ---------------------------------------------------------------------------------------------------

static void replace_gpu(char *to, size_t room, const char *template, int index) {
  size_t used = 0;
  for (const char *from = template; *from && used + 12 < room;) {
    if (strncmp(from, "{gpu}", 5) == 0) {
      used += (size_t)snprintf(to + used, room - used, "%d", index % config.gpus);
      from += 5;
    } else {
      to[used++] = *from++;
    }
  }
  to[used] = '\0';
}

static struct message write_request(const char *template, int index, const char *more_header) {
  char text[REQUEST_BYTES / 2], length[80] = "";
  replace_gpu(text, sizeof text, template, index);
  char *rest = text;
  const char *method = strsep(&rest, " "), *target = strsep(&rest, " "), *body = rest ? rest : "";
  if (!target) FAIL("\"%s\" is not a METHOD and a TARGET", template);
  if (*body) snprintf(length, sizeof length, "content-type: application/json\r\ncontent-length: %zu\r\n", strlen(body));
  else if (strcmp(method, "GET") != 0) snprintf(length, sizeof length, "content-length: 0\r\n");
  const char *header = config.header ? config.header : "", *more = more_header ? more_header : "";
  struct message message;
  int bytes = snprintf(message.bytes, sizeof message.bytes, "%s %s HTTP/1.1\r\nhost: localhost\r\n%s%s%s%s%s\r\n%s", method,
                       target, header, *header ? "\r\n" : "", more, *more ? "\r\n" : "", length, body);
  if (bytes >= REQUEST_BYTES) FAIL("the request is too long");
  message.length = (size_t)bytes;
  return message;
}

static void broken(const char *what, const char *reply) {
  if (atomic_fetch_add(&errors, 1) == 0) fprintf(stderr, "load: %s: %.300s\n", what, reply);
}

static long body_length(char *head) {
  for (char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
    if (strncasecmp(line + 2, "content-length:", 15) == 0) return strtol(line + 17, NULL, 10);
  }
  return -1;
}

// Whether the connection can be used again.
static bool read_reply(struct connection *connection) {
  char *reply = connection->reply;
  size_t have = 0, wanted = 0;
  while (wanted == 0 || have < wanted) {
    if (have + 1 >= REPLY_BYTES) return broken("a long reply", ""), false;
    ssize_t bytes = read(connection->fd, reply + have, REPLY_BYTES - 1 - have);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes <= 0) return broken(bytes < 0 ? strerror(errno) : "the connection was closed", ""), false;
    have += (size_t)bytes;
    reply[have] = '\0';
    char *end = wanted ? NULL : strstr(reply, "\r\n\r\n");
    if (!end) continue;
    *end = '\0';
    long body = body_length(reply);
    *end = '\r';
    if (body < 0) return broken("a reply without content-length", reply), false;
    wanted = (size_t)(end + 4 - reply) + (size_t)body;
  }
  if (have > wanted) return broken("more than the reply", reply), false;
  if (strncmp(reply, "HTTP/1.1 ", 9) != 0 || atoi(reply + 9) != config.status) broken("not the expected status", reply);
  return true;
}

// The time that it took, or -1.
static int64_t ask(struct connection *connection, const struct message *message) {
  int64_t began = now_ns();
  for (size_t sent = 0; sent < message->length;) {
    ssize_t bytes = send(connection->fd, message->bytes + sent, message->length - sent, MSG_NOSIGNAL);
    if (bytes < 0 && errno != EINTR) return broken(strerror(errno), ""), -1;
    if (bytes > 0) sent += (size_t)bytes;
  }
  return read_reply(connection) ? now_ns() - began : -1;
}

// ---- Many connections ----------------------------------------------------------------------------------------------

static struct connection *open_connection(const char *socket, int index, const char *more_header) {
  struct connection *connection = calloc(1, sizeof *connection);
  if (!connection) FAIL("no memory for a connection");
  connection->fd = connect_to(socket);
  for (int i = 0; i < config.request_count; i++) {
    connection->messages[i] = write_request(config.requests[i], index, more_header);
  }
  return connection;
}

static long share_of(int index) {
  return config.wanted / config.connections + (index < config.wanted % config.connections);
}

static int request_of(long turn) {
  if (config.rare == 0) return (int)(turn % config.request_count);
  bool last = turn % (config.rare + 1) == config.rare;
  return last ? config.request_count - 1 : (int)(turn % (config.request_count - 1));
}

struct worker {
  pthread_t thread;
  struct connection *connection;
  long wanted;
};

static void *work(void *argument) {
  struct worker *worker = argument;
  struct connection *connection = worker->connection;
  pthread_barrier_wait(&all_connected);  // the times are set
  pthread_barrier_wait(&all_connected);
  for (long turn = 0;; turn++) {
    int64_t began = now_ns();
    bool counts = began >= count_from_ns;
    if (counts && (worker->wanted ? (long)connection->counted.count >= worker->wanted : began >= count_until_ns)) break;
    int64_t took = ask(connection, &connection->messages[request_of(turn)]);
    if (took < 0) break;
    if (config.samples) add_sample(&connection->all, took);
    if (!counts || (!worker->wanted && began + took > count_until_ns)) continue;
    if (connection->counted.count == 0) connection->began_ns = began;
    connection->ended_ns = began + took;
    add_sample(&connection->counted, took);
  }
  return NULL;
}

static void begin_counting(void) {
  count_from_ns = now_ns() + (int64_t)(config.warm_up_s * 1e9);
  count_until_ns = count_from_ns + (int64_t)(config.seconds * 1e9);
}

static void open_idle(void) {
  for (int i = 0; i < config.idle; i++) {
    struct connection *connection = open_connection(config.socket, i, NULL);
    if (ask(connection, &connection->messages[0]) < 0) FAIL("an idle connection was not answered");
    free(connection);  // its file stays open until the end
  }
}

static FILE *open_samples(void) {
  FILE *file = config.samples ? fopen(config.samples, "w") : NULL;
  if (config.samples && !file) FAIL("%s: %s", config.samples, strerror(errno));
  return file;
}

static void write_samples(const struct samples *samples, FILE *file) {
  if (!file) return;
  if (fwrite(samples->ns, sizeof *samples->ns, samples->count, file) != samples->count) FAIL("samples: %s", strerror(errno));
}

static void close_samples(FILE *file) {
  if (file && fclose(file) != 0) FAIL("%s: %s", config.samples, strerror(errno));
}

static void print_percentiles(const char *prefix, const struct samples *sorted) {
  static const struct { const char *name; double share; } points[] = {
      {"p01", 0.01}, {"p25", 0.25}, {"p50", 0.5}, {"p75", 0.75}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}, {"max", 1}};
  for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
    printf(",\"%s%s_us\":%.3f", prefix, points[i].name, percentile_us(sorted, points[i].share));
  }
  printf(",\"%smean_us\":%.3f", prefix, mean_us(sorted));
}

static void load(void) {
  struct worker *workers = calloc((size_t)config.connections, sizeof *workers);
  pthread_barrier_init(&all_connected, NULL, (unsigned)config.connections + 1);
  open_idle();
  for (int i = 0; i < config.connections; i++) {
    workers[i] = (struct worker){.connection = open_connection(config.socket, i, NULL), .wanted = share_of(i)};
    if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0) FAIL("no more threads");
  }
  pthread_barrier_wait(&all_connected);
  begin_counting();
  pthread_barrier_wait(&all_connected);

  struct samples counted = {0};
  int64_t began = INT64_MAX, ended = 0;
  FILE *file = open_samples();
  for (int i = 0; i < config.connections; i++) {
    pthread_join(workers[i].thread, NULL);
    struct connection *connection = workers[i].connection;
    for (size_t j = 0; j < connection->counted.count; j++) add_sample(&counted, connection->counted.ns[j]);
    write_samples(&connection->all, file);
    if (connection->counted.count == 0) continue;
    if (connection->began_ns < began) began = connection->began_ns;
    if (connection->ended_ns > ended) ended = connection->ended_ns;
  }
  close_samples(file);
  if (counted.count == 0) FAIL("no request was answered");
  sort_samples(&counted);
  double seconds = config.wanted ? (double)(ended - began) / 1e9 : config.seconds;
  printf("{\"requests\":%zu,\"errors\":%ld,\"seconds\":%.6f,\"rps\":%.1f", counted.count, errors, seconds,
         (double)counted.count / seconds);
  print_percentiles("", &counted);
  printf("}\n");
}

// ---- Two daemons in turn -------------------------------------------------------------------------------------------

static void compare(void) {
  struct connection *one = open_connection(config.socket, 0, NULL);
  struct connection *other = open_connection(config.pair_socket, 0, config.pair_header);
  const struct message *first = &one->messages[0], *second = &other->messages[config.request_count - 1];
  struct samples differences = {0};
  begin_counting();
  for (bool swapped = false;; swapped = !swapped) {
    int64_t began = now_ns(), took, other_took;
    bool counts = began >= count_from_ns;
    if (counts && (config.wanted ? (long)differences.count >= config.wanted : began >= count_until_ns)) break;
    if (swapped) other_took = ask(other, second), took = ask(one, first);
    else took = ask(one, first), other_took = ask(other, second);
    if (took < 0 || other_took < 0) break;
    if (!counts) continue;
    add_sample(&one->counted, took);
    add_sample(&other->counted, other_took);
    add_sample(&differences, other_took - took);
  }
  if (differences.count == 0) FAIL("no pair of requests was answered");
  FILE *file = open_samples();
  write_samples(&differences, file);
  close_samples(file);
  sort_samples(&differences);
  sort_samples(&one->counted);
  sort_samples(&other->counted);
  printf("{\"pairs\":%zu,\"errors\":%ld", differences.count, errors);
  print_percentiles("difference_", &differences);
  print_percentiles("first_", &one->counted);
  print_percentiles("second_", &other->counted);
  printf("}\n");
}

// ---- The command line ----------------------------------------------------------------------------------------------

static void read_arguments(int argc, char **argv) {
  static const struct option options[] = {
      {"connections", required_argument, NULL, 'c'}, {"gpus", required_argument, NULL, 'g'},
      {"warm-up", required_argument, NULL, 'w'},     {"seconds", required_argument, NULL, 's'},
      {"requests", required_argument, NULL, 'r'},    {"status", required_argument, NULL, 'e'},
      {"header", required_argument, NULL, 'h'},      {"idle", required_argument, NULL, 'i'},
      {"rare", required_argument, NULL, 'R'},        {"pair", required_argument, NULL, 'p'},
      {"pair-header", required_argument, NULL, 'P'}, {"samples", required_argument, NULL, 'S'},
      {0}};
  for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
    switch (option) {
      case 'c': config.connections = atoi(optarg); break;
      case 'g': config.gpus = atoi(optarg); break;
      case 'w': config.warm_up_s = atof(optarg); break;
      case 's': config.seconds = atof(optarg); break;
      case 'r': config.wanted = atol(optarg); break;
      case 'e': config.status = atoi(optarg); break;
      case 'h': config.header = optarg; break;
      case 'i': config.idle = atoi(optarg); break;
      case 'p': config.pair_socket = optarg; break;
      case 'P': config.pair_header = optarg; break;
      case 'R': config.rare = atol(optarg); break;
      case 'S': config.samples = optarg; break;
      default: exit(2);
    }
  }
  int left = argc - optind;
  if (left < 2 || left - 1 > MAX_REQUESTS) FAIL("load [options] SOCKET REQUEST... (at most %d requests)", MAX_REQUESTS);
  if (config.rare > 0 && left < 3) FAIL("--rare needs two requests");
  if (config.connections < 1 || config.gpus < 1 || config.idle < 0 || config.wanted < 0 || config.rare < 0) FAIL("a number is too small");
  config.socket = argv[optind];
  for (int i = optind + 1; i < argc; i++) config.requests[config.request_count++] = argv[i];
}

int main(int argc, char **argv) {
  read_arguments(argc, argv);
  allow_many_files();
  if (config.pair_socket) compare();
  else load();
  return errors ? 1 : 0;
}
