// A strict stand-in for NVIDIA's libnvidia-ml.so.1: it refuses what the real library refuses, and breaks on demand.
//
// The environment is read once, when the library is loaded: getenv from many threads beside a setenv is a data race.
//
//   NVML_STUB_GPUS=n            how many GPUs there are (2)
//   NVML_STUB_STATE=path        settings live in this file, as a driver's outlive whoever set them: several processes see the
//                               same GPUs, also after each other (gpus.ts reads it)
//   NVML_STUB_LOG=path          one line per call: "<symbol> <gpu or -> <arguments> -> <code>"; a call that starts to
//                               hang also writes "<symbol> <gpu or -> hangs" at once
//   NVML_STUB_ENERGY=fixed      energy counters stand still
//   NVML_STUB_POWER=changing    no reading of power equals the one before
//   NVML_STUB_TIMES=path        how long each delayed call really slept, in the order in which they ended: 64-bit numbers,
//                               first how many there were, then nanoseconds; when the file is full the oldest are replaced
//   NVML_STUB_ROOTLESS=1        setters do not ask for root
//   NVML_STUB_LOCK=1            one lock around every call, as some drivers have, held through delays and hangs
//   NVML_STUB_HANDLES=latest    a GPU gets a new handle each time, and those that it had before are refused
//   NVML_STUB_FAULTS=rules      rules that hold as long as the library is loaded
//   NVML_STUB_FAULTS_FILE=path  rules that are read anew on every call; replace the file by rename, lest half a rule is read
//
// A rule is "<symbol>[@gpu]=<action>[,<action>...]", ended by ";" or a line's end. Where several match, the later wins.
//   code:N    the call returns N; with 0 it succeeds
//   delay:MS  it takes this long (fractions allowed)
//   hang      it blocks until no "hang" for it is left in the file; its other actions then apply
//   hold      it takes effect, which its line in the log tells, and then blocks until no "hold" for it is left in the file
//   value:N   what a reading says (power, energy, count, persistence mode, limits, bits ...), or how long a list is
//   type:N    the value type of a field record
// A field of nvmlDeviceGetFieldValues is addressed as "field<id>.<scope>", for example "field186.0@1=code:3".
// "order@0=value:1" has the driver count GPU 1 at index 0; "order@0=value:5" replaces GPU 0 by one never seen. In rules and in
// the log a GPU keeps its number, from which its name, UUID and PCI address follow, wherever the driver counts it.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
  SUCCESS = 0,
  UNINITIALIZED = 1,
  INVALID_ARGUMENT = 2,
  NOT_SUPPORTED = 3,
  NO_PERMISSION = 4,
  NOT_FOUND = 6,
  INSUFFICIENT_SIZE = 7,
  DRIVER_NOT_LOADED = 9,
  GPU_IS_LOST = 15,
  RESET_REQUIRED = 16,
  VERSION_MISMATCH = 18,
  UNKNOWN = 999,
};

enum {
  MAX_GPUS = 64,
  UUID_BYTES = 64,
  HANDLES_PER_GPU = 16,
  DEFAULT_POWER_LIMIT_MW = 300000,
  MIN_POWER_LIMIT_MW = 100000,
  MAX_POWER_LIMIT_MW = 400000,
  MIN_CLOCK_MHZ = 210,
  MAX_CLOCK_MHZ = 1980,
  CLOCK_STEP_MHZ = 15,
  MEMORY_CLOCK_MHZ = 2619,
  FIRST_PCI_BUS = 0x41,
  FIELD_POWER_AVERAGE = 185,
  FIELD_POWER_INSTANT = 186,
  SCOPE_GPU = 0,
  ARCHITECTURE_HOPPER = 9,
  REASON_APPLICATIONS_CLOCKS_SETTING = 2,
};

typedef int nvmlReturn;
typedef struct handle *nvmlDevice;

typedef union {
  double dVal;
  unsigned int uiVal;
  unsigned long ulVal;
  unsigned long long ullVal;
  signed long long sllVal;
  int siVal;
  unsigned short usVal;
} nvmlValue;

typedef struct {
  unsigned int fieldId;
  unsigned int scopeId;
  long long timestamp_us;
  long long latency_us;
  unsigned int valueType;
  nvmlReturn code;
  nvmlValue value;
} nvmlFieldValue;

typedef struct {
  char busIdLegacy[16];
  unsigned int domain;
  unsigned int bus;
  unsigned int device;
  unsigned int pciDeviceId;
  unsigned int pciSubSystemId;
  char busId[32];
} nvmlPciInfo;

typedef struct {
  unsigned int gpu_percent;
  unsigned int memory_percent;
} nvmlUtilization;

typedef struct {
  unsigned long long total_bytes;
  unsigned long long free_bytes;
  unsigned long long used_bytes;
} nvmlMemory;

_Static_assert(sizeof(nvmlFieldValue) == 40, "a field record has 40 bytes");
_Static_assert(sizeof(nvmlPciInfo) == 68, "a PCI record has 68 bytes");

// A range of clocks: the lowest in the lower half, the highest in the upper one. 0 is unlocked.
typedef _Atomic uint64_t clocks;

// What a GPU remembers; it may be shared between processes, hence only lock-free numbers. gpus.ts knows this layout.
struct gpu {
  _Atomic uint32_t power_limit_mw;
  _Atomic uint32_t persistence;
  clocks gpu_clocks;
  clocks memory_clocks;
};

struct state {
  uint32_t ready;
  int64_t start_ns;
  struct gpu gpus[MAX_GPUS];
};

enum { MAX_TIMES = 65536 };

struct times {
  atomic_ulong count;
  _Atomic int64_t slept_ns[MAX_TIMES];
};

struct handle {
  char never_read;
};

struct fault {
  bool has_code, has_value, has_type, hang, hold;
  nvmlReturn code;
  double delay_ms;
  unsigned long long value;
  unsigned int type;
};

struct call {
  const char *symbol;
  int gpu;
  nvmlReturn code;
  struct fault fault;
};

static struct {
  int gpus;
  bool energy_fixed, power_changing, rootless, locked, latest_handles;
  int log_fd;
  const char *faults, *faults_file;
} config;

static struct state private_state;
static struct state *state;
static struct times *times;
static atomic_uint power_readings;
static struct handle handles[MAX_GPUS][HANDLES_PER_GPU];
static _Atomic(nvmlDevice) given[MAX_GPUS];  // the handle of each GPU that is good now
static atomic_uint givings;
static atomic_int inits;
static pthread_mutex_t library_lock = PTHREAD_MUTEX_INITIALIZER;

// ---- Loading -------------------------------------------------------------------------------------------------------

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void set_up(struct state *fresh) {
  if (fresh->ready) return;
  for (int i = 0; i < MAX_GPUS; i++) fresh->gpus[i].power_limit_mw = DEFAULT_POWER_LIMIT_MW;
  fresh->start_ns = now_ns();
  fresh->ready = 1;
}

static struct state *shared_state(const char *path) {
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) return NULL;
  fchmod(fd, 0666);  // an unprivileged client shares it with a daemon of root's
  flock(fd, LOCK_EX);
  struct state *shared = NULL;
  if (ftruncate(fd, sizeof(struct state)) == 0) {
    void *mapped = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped != MAP_FAILED) set_up(shared = mapped);
  }
  flock(fd, LOCK_UN);  // the mapping keeps the open file, and with it the lock
  close(fd);
  return shared;
}

static struct times *shared_times(const char *path) {
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) return NULL;
  void *mapped = MAP_FAILED;
  if (ftruncate(fd, sizeof(struct times)) == 0) {
    mapped = mmap(NULL, sizeof(struct times), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  close(fd);
  return mapped == MAP_FAILED ? NULL : mapped;
}

static bool env_is(const char *name, const char *value) {
  const char *set = getenv(name);
  return set && strcmp(set, value) == 0;
}

static const char *env_copy(const char *name) {
  const char *set = getenv(name);
  return set && *set ? strdup(set) : NULL;
}

__attribute__((constructor)) static void load(void) {
  const char *gpus = getenv("NVML_STUB_GPUS");
  config.gpus = gpus ? atoi(gpus) : 2;
  if (config.gpus < 0 || config.gpus > MAX_GPUS) config.gpus = MAX_GPUS;
  config.energy_fixed = env_is("NVML_STUB_ENERGY", "fixed");
  config.power_changing = env_is("NVML_STUB_POWER", "changing");
  config.rootless = env_is("NVML_STUB_ROOTLESS", "1");
  config.locked = env_is("NVML_STUB_LOCK", "1");
  config.latest_handles = env_is("NVML_STUB_HANDLES", "latest");
  config.faults = env_copy("NVML_STUB_FAULTS");
  config.faults_file = env_copy("NVML_STUB_FAULTS_FILE");

  const char *log = getenv("NVML_STUB_LOG");
  config.log_fd = log && *log ? open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666) : -1;
  if (config.log_fd >= 0) fchmod(config.log_fd, 0666);

  const char *path = getenv("NVML_STUB_STATE");
  if (path && *path && !(state = shared_state(path))) fprintf(stderr, "nvml stub: %s: %s\n", path, strerror(errno));
  if (!state) set_up(state = &private_state);
  const char *record = getenv("NVML_STUB_TIMES");
  if (record && *record && !(times = shared_times(record))) {
    fprintf(stderr, "nvml stub: %s: %s\n", record, strerror(errno));
  }
}

// ---- Faults --------------------------------------------------------------------------------------------------------

static void add_action(struct fault *fault, const char *action) {
  if (strcmp(action, "hang") == 0) fault->hang = true;
  else if (strcmp(action, "hold") == 0) fault->hold = true;
  else if (strncmp(action, "code:", 5) == 0) fault->has_code = true, fault->code = atoi(action + 5);
  else if (strncmp(action, "delay:", 6) == 0) fault->delay_ms = atof(action + 6);
  else if (strncmp(action, "value:", 6) == 0) fault->has_value = true, fault->value = strtoull(action + 6, NULL, 10);
  else if (strncmp(action, "type:", 5) == 0) fault->has_type = true, fault->type = (unsigned int)atoi(action + 5);
  else fprintf(stderr, "nvml stub: unknown action \"%s\"\n", action);
}

static void add_rule(struct fault *fault, char *rule, const char *symbol, int gpu) {
  char *actions = strchr(rule, '=');
  if (!actions) return;
  *actions++ = '\0';
  char *wanted = strchr(rule, '@');
  if (wanted) *wanted++ = '\0';
  if (strcmp(rule, symbol) != 0 || (wanted && atoi(wanted) != gpu)) return;
  char *rest = NULL;
  for (char *a = strtok_r(actions, ",", &rest); a; a = strtok_r(NULL, ",", &rest)) add_action(fault, a);
}

static void add_rules(struct fault *fault, char *rules, const char *symbol, int gpu) {
  char *rest = NULL;
  for (char *r = strtok_r(rules, ";\r\n", &rest); r; r = strtok_r(NULL, ";\r\n", &rest)) {
    add_rule(fault, r + strspn(r, " \t"), symbol, gpu);
  }
}

static void add_file(struct fault *fault, const char *path, const char *symbol, int gpu) {
  char rules[8192];
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  ssize_t bytes = read(fd, rules, sizeof rules - 1);
  close(fd);
  if (bytes <= 0) return;
  rules[bytes] = '\0';
  add_rules(fault, rules, symbol, gpu);
}

static struct fault find_fault(const char *symbol, int gpu) {
  struct fault fault = {0};
  if (config.faults) {
    char rules[8192];
    snprintf(rules, sizeof rules, "%s", config.faults);
    add_rules(&fault, rules, symbol, gpu);
  }
  if (config.faults_file) add_file(&fault, config.faults_file, symbol, gpu);
  return fault;
}

static void wait_ms(double ms) {
  struct timespec left = {(time_t)(ms / 1000), (long)((ms - (long)(ms / 1000) * 1000.0) * 1e6)};
  while (nanosleep(&left, &left) != 0 && errno == EINTR) continue;
}

static void delay(double ms) {
  int64_t began_ns = now_ns();
  wait_ms(ms);
  if (times) times->slept_ns[times->count++ % MAX_TIMES] = now_ns() - began_ns;
}

// ---- Calls ---------------------------------------------------------------------------------------------------------

__attribute__((format(printf, 3, 4))) static void write_log(const struct call *call, const nvmlReturn *code,
                                                            const char *format, ...) {
  if (config.log_fd < 0) return;
  char gpu[12] = "-", arguments[256], line[512];
  if (call->gpu >= 0) snprintf(gpu, sizeof gpu, "%d", call->gpu);
  va_list list;
  va_start(list, format);
  vsnprintf(arguments, sizeof arguments, format, list);
  va_end(list);
  const char *blank = *arguments ? " " : "";
  int bytes = code ? snprintf(line, sizeof line, "%s %s%s%s -> %d\n", call->symbol, gpu, blank, arguments, *code)
                   : snprintf(line, sizeof line, "%s %s %s\n", call->symbol, gpu, arguments);
  // One write, so that the lines of several threads and processes never mix.
  if (write(config.log_fd, line, (size_t)bytes) != bytes) perror("nvml stub: log");
}

// Without a file nothing can end it, and who looks takes others' time.
static void wait_for_rules(void) { wait_ms(config.faults_file ? 1 : 60000); }

static void suffer(struct call *call) {
  if (!config.faults && !config.faults_file) return;
  call->fault = find_fault(call->symbol, call->gpu);
  if (call->fault.delay_ms > 0) delay(call->fault.delay_ms);
  if (!call->fault.hang) return;
  write_log(call, NULL, "hangs");
  do wait_for_rules();
  while (find_fault(call->symbol, call->gpu).hang);
}

// Only a pointer that was given out is a handle, and nothing is read through it before that is known.
static int gpu_of(nvmlDevice device) {
  for (int i = 0; device && i < MAX_GPUS; i++) {
    if (device == given[i]) return i;
  }
  return -1;
}

static nvmlDevice give_handle(int gpu) {
  return given[gpu] = &handles[gpu][config.latest_handles ? givings++ % HANDLES_PER_GPU : 0];
}

// The GPU that the driver counts at an index.
static int gpu_at(unsigned int index) {
  if (index >= (unsigned int)config.gpus) return -1;
  struct fault order = find_fault("order", (int)index);
  return order.has_value && order.value < MAX_GPUS ? (int)order.value : (int)index;
}

static unsigned int index_at(int gpu) {
  unsigned int index = 0;
  while (index < (unsigned int)config.gpus && gpu_at(index) != gpu) index++;
  return index;
}

static void write_uuid(char *uuid, int gpu) {
  snprintf(uuid, UUID_BYTES, "GPU-00000000-0000-0000-0000-%012d", gpu);
}

static int gpu_of_uuid(const char *wanted) {
  for (unsigned int i = 0; wanted && i < (unsigned int)config.gpus; i++) {
    char uuid[UUID_BYTES];
    write_uuid(uuid, gpu_at(i));
    if (strcmp(uuid, wanted) == 0) return gpu_at(i);
  }
  return -1;
}

static struct call begin_call(const char *symbol, int gpu) {
  struct call call = {.symbol = symbol, .gpu = gpu};
  if (config.locked) pthread_mutex_lock(&library_lock);
  suffer(&call);
  call.code = call.fault.has_code ? call.fault.code : SUCCESS;
  return call;
}

static struct call begin(const char *symbol) {
  struct call call = begin_call(symbol, -1);
  if (inits == 0) call.code = UNINITIALIZED;
  return call;
}

static struct call begin_gpu(const char *symbol, nvmlDevice device) {
  struct call call = begin_call(symbol, gpu_of(device));
  if (inits == 0) call.code = UNINITIALIZED;
  else if (call.gpu < 0) call.code = INVALID_ARGUMENT;
  return call;
}

static void refuse_if(struct call *call, bool wrong, nvmlReturn code) {
  if (call->code == SUCCESS && wrong) call->code = code;
}

static void need_root(struct call *call) { refuse_if(call, !config.rootless && geteuid() != 0, NO_PERMISSION); }

static void need_clocks(struct call *call, unsigned int min_mhz, unsigned int max_mhz) {
  refuse_if(call, min_mhz == 0 || max_mhz == 0 || min_mhz > max_mhz, INVALID_ARGUMENT);
}

#define END(call, ...) (write_log(&(call), &(call).code, __VA_ARGS__), end_call(call))

static nvmlReturn end_call(struct call call) {
  while (call.fault.hold && find_fault(call.symbol, call.gpu).hold) wait_for_rules();
  if (config.locked) pthread_mutex_unlock(&library_lock);
  return call.code;
}

static void tell(struct call *call, unsigned int *out, unsigned int usual) {
  refuse_if(call, !out, INVALID_ARGUMENT);
  if (call->code == SUCCESS) *out = call->fault.has_value ? (unsigned int)call->fault.value : usual;
}

static nvmlReturn answer(struct call call, unsigned int *out, unsigned int usual) {
  tell(&call, out, usual);
  return END(call, "%s", "");
}

static nvmlReturn answer_text(struct call call, char *out, unsigned int bytes, const char *text) {
  refuse_if(&call, !out, INVALID_ARGUMENT);
  refuse_if(&call, bytes < strlen(text) + 1, INSUFFICIENT_SIZE);
  if (call.code == SUCCESS) strcpy(out, text);
  return END(call, "%u", bytes);
}

// A call without a valid handle is refused; until it is, it looks at GPU 0.
static int index_of(const struct call *call) { return call->gpu < 0 ? 0 : call->gpu; }
static struct gpu *gpu(const struct call *call) { return &state->gpus[index_of(call)]; }
static unsigned int usual_power_mw(const struct call *call) {
  unsigned int more = config.power_changing ? MAX_GPUS * (++power_readings % 1000) : 0;
  return 50000u + more + (unsigned int)index_of(call);
}

// ---- The library ---------------------------------------------------------------------------------------------------

static nvmlReturn init(struct call call, unsigned int flags) {
  if (call.code == SUCCESS) inits++;
  return END(call, "%u", flags);
}

nvmlReturn nvmlInit_v2(void) { return init(begin_call(__func__, -1), 0); }

nvmlReturn nvmlInitWithFlags(unsigned int flags) { return init(begin_call(__func__, -1), flags); }

nvmlReturn nvmlShutdown(void) {
  struct call call = begin(__func__);
  if (call.code == SUCCESS && --inits == 0) {
    for (int i = 0; i < MAX_GPUS; i++) given[i] = NULL;
  }
  return END(call, "%s", "");
}

const char *nvmlErrorString(nvmlReturn code) {
  switch (code) {
    case SUCCESS: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case NO_PERMISSION: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case INSUFFICIENT_SIZE: return "Insufficient Size";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case GPU_IS_LOST: return "GPU is lost";
    case RESET_REQUIRED: return "GPU requires reset";
    case VERSION_MISMATCH: return "Driver/library version mismatch";
    default: return "Unknown Error";
  }
}

nvmlReturn nvmlSystemGetDriverVersion(char *version, unsigned int bytes) {
  return answer_text(begin(__func__), version, bytes, "570.00.00");
}

nvmlReturn nvmlDeviceGetCount_v2(unsigned int *count) {
  return answer(begin(__func__), count, (unsigned int)config.gpus);
}

nvmlReturn nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice *device) {
  struct call call = begin_call(__func__, gpu_at(index));
  if (inits == 0) call.code = UNINITIALIZED;
  refuse_if(&call, call.gpu < 0 || !device, INVALID_ARGUMENT);
  if (call.code == SUCCESS) *device = give_handle(call.gpu);
  return END(call, "%u", index);
}

nvmlReturn nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice *device) {
  struct call call = begin_call(__func__, gpu_of_uuid(uuid));
  if (inits == 0) call.code = UNINITIALIZED;
  refuse_if(&call, !uuid || !device, INVALID_ARGUMENT);
  refuse_if(&call, call.gpu < 0, NOT_FOUND);
  if (call.code == SUCCESS) *device = give_handle(call.gpu);
  return END(call, "%s", uuid ? uuid : "NULL");
}

// ---- Who a GPU is --------------------------------------------------------------------------------------------------

nvmlReturn nvmlDeviceGetName(nvmlDevice device, char *name, unsigned int bytes) {
  struct call call = begin_gpu(__func__, device);
  char text[32];
  snprintf(text, sizeof text, "Fake GPU %d", index_of(&call));
  return answer_text(call, name, bytes, text);
}

nvmlReturn nvmlDeviceGetUUID(nvmlDevice device, char *uuid, unsigned int bytes) {
  struct call call = begin_gpu(__func__, device);
  char text[UUID_BYTES];
  write_uuid(text, index_of(&call));
  return answer_text(call, uuid, bytes, text);
}

nvmlReturn nvmlDeviceGetIndex(nvmlDevice device, unsigned int *index) {
  struct call call = begin_gpu(__func__, device);
  return answer(call, index, index_at(index_of(&call)));
}

nvmlReturn nvmlDeviceGetPciInfo_v3(nvmlDevice device, nvmlPciInfo *pci) {
  struct call call = begin_gpu(__func__, device);
  refuse_if(&call, !pci, INVALID_ARGUMENT);
  if (call.code == SUCCESS) {
    memset(pci, 0, sizeof *pci);
    pci->bus = FIRST_PCI_BUS + (unsigned int)call.gpu;
    pci->pciDeviceId = 0x233010de;
    pci->pciSubSystemId = 0x16c110de;
    snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "%04X:%02X:00.0", pci->domain, pci->bus & 0xffu);
    snprintf(pci->busId, sizeof pci->busId, "%08X:%02X:00.0", pci->domain, pci->bus & 0xffu);
  }
  return END(call, "%s", "");
}

nvmlReturn nvmlDeviceGetArchitecture(nvmlDevice device, unsigned int *architecture) {
  return answer(begin_gpu(__func__, device), architecture, ARCHITECTURE_HOPPER);
}

// ---- Persistence and power limits ----------------------------------------------------------------------------------

nvmlReturn nvmlDeviceSetPersistenceMode(nvmlDevice device, unsigned int mode) {
  struct call call = begin_gpu(__func__, device);
  need_root(&call);
  refuse_if(&call, mode > 1, INVALID_ARGUMENT);
  if (call.code == SUCCESS) gpu(&call)->persistence = mode;
  return END(call, "%u", mode);
}

nvmlReturn nvmlDeviceGetPersistenceMode(nvmlDevice device, unsigned int *mode) {
  struct call call = begin_gpu(__func__, device);
  return answer(call, mode, gpu(&call)->persistence);
}

nvmlReturn nvmlDeviceSetPowerManagementLimit(nvmlDevice device, unsigned int limit_mw) {
  struct call call = begin_gpu(__func__, device);
  need_root(&call);
  refuse_if(&call, limit_mw < MIN_POWER_LIMIT_MW || limit_mw > MAX_POWER_LIMIT_MW, INVALID_ARGUMENT);
  if (call.code == SUCCESS) gpu(&call)->power_limit_mw = limit_mw;
  return END(call, "%u", limit_mw);
}

nvmlReturn nvmlDeviceGetPowerManagementLimit(nvmlDevice device, unsigned int *limit_mw) {
  struct call call = begin_gpu(__func__, device);
  return answer(call, limit_mw, gpu(&call)->power_limit_mw);
}

nvmlReturn nvmlDeviceGetEnforcedPowerLimit(nvmlDevice device, unsigned int *limit_mw) {
  struct call call = begin_gpu(__func__, device);
  return answer(call, limit_mw, gpu(&call)->power_limit_mw);
}

nvmlReturn nvmlDeviceGetPowerManagementDefaultLimit(nvmlDevice device, unsigned int *limit_mw) {
  return answer(begin_gpu(__func__, device), limit_mw, DEFAULT_POWER_LIMIT_MW);
}

nvmlReturn nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice device, unsigned int *min_mw, unsigned int *max_mw) {
  struct call call = begin_gpu(__func__, device);
  refuse_if(&call, !min_mw || !max_mw, INVALID_ARGUMENT);
  if (call.code == SUCCESS) {
    *min_mw = MIN_POWER_LIMIT_MW;
    *max_mw = MAX_POWER_LIMIT_MW;
  }
  return END(call, "%s", "");
}

// ---- Clocks --------------------------------------------------------------------------------------------------------

static unsigned int top_of(const clocks *locked) { return (unsigned int)(*locked >> 32); }

static nvmlReturn lock_clocks(struct call call, clocks *locked, unsigned int min_mhz, unsigned int max_mhz) {
  need_root(&call);
  need_clocks(&call, min_mhz, max_mhz);
  if (call.code == SUCCESS) *locked = (uint64_t)max_mhz << 32 | min_mhz;
  return END(call, "%u %u", min_mhz, max_mhz);
}

static nvmlReturn unlock_clocks(struct call call, clocks *locked) {
  need_root(&call);
  if (call.code == SUCCESS) *locked = 0;
  return END(call, "%s", "");
}

nvmlReturn nvmlDeviceSetGpuLockedClocks(nvmlDevice device, unsigned int min_mhz, unsigned int max_mhz) {
  struct call call = begin_gpu(__func__, device);
  return lock_clocks(call, &gpu(&call)->gpu_clocks, min_mhz, max_mhz);
}

nvmlReturn nvmlDeviceResetGpuLockedClocks(nvmlDevice device) {
  struct call call = begin_gpu(__func__, device);
  return unlock_clocks(call, &gpu(&call)->gpu_clocks);
}

nvmlReturn nvmlDeviceSetMemoryLockedClocks(nvmlDevice device, unsigned int min_mhz, unsigned int max_mhz) {
  struct call call = begin_gpu(__func__, device);
  return lock_clocks(call, &gpu(&call)->memory_clocks, min_mhz, max_mhz);
}

nvmlReturn nvmlDeviceResetMemoryLockedClocks(nvmlDevice device) {
  struct call call = begin_gpu(__func__, device);
  return unlock_clocks(call, &gpu(&call)->memory_clocks);
}

// A list of a length that a rule asks for goes down by 1 MHz.
static void tell_list(struct call *call, unsigned int *count, unsigned int *clocks_mhz, unsigned int length,
                      unsigned int first_mhz, unsigned int step_mhz) {
  refuse_if(call, !count || (*count > 0 && !clocks_mhz), INVALID_ARGUMENT);
  if (call->code != SUCCESS) return;
  if (call->fault.has_value) length = (unsigned int)call->fault.value, step_mhz = 1;
  if (*count < length) call->code = INSUFFICIENT_SIZE;
  else for (unsigned int i = 0; i < length; i++) clocks_mhz[i] = first_mhz - i * step_mhz;
  *count = length;
}

nvmlReturn nvmlDeviceGetSupportedMemoryClocks(nvmlDevice device, unsigned int *count, unsigned int *clocks_mhz) {
  struct call call = begin_gpu(__func__, device);
  unsigned int room = count ? *count : 0;
  tell_list(&call, count, clocks_mhz, 1, MEMORY_CLOCK_MHZ, 0);
  return END(call, "%u", room);
}

nvmlReturn nvmlDeviceGetSupportedGraphicsClocks(nvmlDevice device, unsigned int memory_clock_mhz, unsigned int *count,
                                                unsigned int *clocks_mhz) {
  struct call call = begin_gpu(__func__, device);
  refuse_if(&call, memory_clock_mhz != MEMORY_CLOCK_MHZ, NOT_FOUND);
  unsigned int length = (MAX_CLOCK_MHZ - MIN_CLOCK_MHZ) / CLOCK_STEP_MHZ + 1;
  unsigned int room = count ? *count : 0;
  tell_list(&call, count, clocks_mhz, length, MAX_CLOCK_MHZ, CLOCK_STEP_MHZ);
  return END(call, "%u %u", memory_clock_mhz, room);
}

// Clock types: graphics, SM, memory, video.
static unsigned int top_clock_mhz(unsigned int type) { return type == 2 ? MEMORY_CLOCK_MHZ : MAX_CLOCK_MHZ; }

nvmlReturn nvmlDeviceGetClockInfo(nvmlDevice device, unsigned int type, unsigned int *clock_mhz) {
  struct call call = begin_gpu(__func__, device);
  refuse_if(&call, type > 3, INVALID_ARGUMENT);
  unsigned int locked = top_of(type == 2 ? &gpu(&call)->memory_clocks : &gpu(&call)->gpu_clocks);
  unsigned int top = top_clock_mhz(type);
  tell(&call, clock_mhz, locked > 0 && locked < top ? locked : top);
  return END(call, "%u", type);
}

nvmlReturn nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice device, unsigned long long *reasons) {
  struct call call = begin_gpu(__func__, device);
  refuse_if(&call, !reasons, INVALID_ARGUMENT);
  if (call.code == SUCCESS) {
    unsigned int locked = top_of(&gpu(&call)->gpu_clocks);
    unsigned long long usual = locked > 0 && locked < MAX_CLOCK_MHZ ? REASON_APPLICATIONS_CLOCKS_SETTING : 0;
    *reasons = call.fault.has_value ? call.fault.value : usual;
  }
  return END(call, "%s", "");
}

nvmlReturn nvmlDeviceGetMaxClockInfo(nvmlDevice device, unsigned int type, unsigned int *clock_mhz) {
  struct call call = begin_gpu(__func__, device);
  refuse_if(&call, type > 3, INVALID_ARGUMENT);
  return answer(call, clock_mhz, top_clock_mhz(type));
}

// ---- Readings ------------------------------------------------------------------------------------------------------

nvmlReturn nvmlDeviceGetPowerUsage(nvmlDevice device, unsigned int *power_mw) {
  struct call call = begin_gpu(__func__, device);
  return answer(call, power_mw, usual_power_mw(&call));
}

nvmlReturn nvmlDeviceGetTotalEnergyConsumption(nvmlDevice device, unsigned long long *energy_mj) {
  struct call call = begin_gpu(__func__, device);
  refuse_if(&call, !energy_mj, INVALID_ARGUMENT);
  if (call.code == SUCCESS) {
    double elapsed_s = config.energy_fixed ? 0 : (double)(now_ns() - state->start_ns) / 1e9;
    unsigned long long used_mj = (unsigned long long)(elapsed_s * usual_power_mw(&call));
    *energy_mj = call.fault.has_value ? call.fault.value : 1000000ull * (unsigned)(call.gpu + 1) + used_mj;
  }
  return END(call, "%s", "");
}

static void write_value(nvmlFieldValue *record, unsigned long long value) {
  // Whoever reads more bytes than the type has must not get away with it.
  memset(&record->value, 0xa5, sizeof record->value);
  switch (record->valueType) {
    case 0: record->value.dVal = (double)value; break;
    case 1: record->value.uiVal = (unsigned int)value; break;
    case 2: record->value.ulVal = value; break;
    case 4: record->value.sllVal = (long long)value; break;
    case 5: record->value.siVal = (int)value; break;
    case 6: record->value.usVal = (unsigned short)value; break;
    default: record->value.ullVal = value;
  }
}

static void read_field(struct call *call, nvmlFieldValue *record) {
  char symbol[40];
  snprintf(symbol, sizeof symbol, "field%u.%u", record->fieldId, record->scopeId);
  struct call field = {.symbol = symbol, .gpu = call->gpu};
  suffer(&field);
  bool power = record->fieldId == FIELD_POWER_AVERAGE || record->fieldId == FIELD_POWER_INSTANT;
  bool known = (power && record->scopeId == SCOPE_GPU) || field.fault.has_value;
  record->code = field.fault.has_code ? field.fault.code : known ? SUCCESS : NOT_SUPPORTED;
  record->timestamp_us = now_ns() / 1000;
  record->latency_us = 0;
  if (record->code != SUCCESS) return;
  record->valueType = field.fault.has_type ? field.fault.type : 1;
  write_value(record, field.fault.has_value ? field.fault.value : usual_power_mw(call));
}

nvmlReturn nvmlDeviceGetFieldValues(nvmlDevice device, int count, nvmlFieldValue *values) {
  struct call call = begin_gpu(__func__, device);
  refuse_if(&call, count <= 0 || !values, INVALID_ARGUMENT);
  char fields[200] = "";
  size_t used = 0;
  for (int i = 0; call.code == SUCCESS && i < count; i++) {
    read_field(&call, &values[i]);
    if (used >= sizeof fields) continue;
    used += (size_t)snprintf(fields + used, sizeof fields - used, "%s%u.%u", i ? " " : "", values[i].fieldId,
                             values[i].scopeId);
  }
  return END(call, "%s", fields);
}

nvmlReturn nvmlDeviceGetTemperature(nvmlDevice device, unsigned int sensor, unsigned int *celsius) {
  struct call call = begin_gpu(__func__, device);
  refuse_if(&call, sensor != 0, INVALID_ARGUMENT);
  return answer(call, celsius, 40u + (unsigned int)index_of(&call));
}

nvmlReturn nvmlDeviceGetUtilizationRates(nvmlDevice device, nvmlUtilization *utilization) {
  struct call call = begin_gpu(__func__, device);
  refuse_if(&call, !utilization, INVALID_ARGUMENT);
  if (call.code == SUCCESS) *utilization = (nvmlUtilization){25, 10};
  return END(call, "%s", "");
}

nvmlReturn nvmlDeviceGetMemoryInfo(nvmlDevice device, nvmlMemory *memory) {
  struct call call = begin_gpu(__func__, device);
  refuse_if(&call, !memory, INVALID_ARGUMENT);
  if (call.code == SUCCESS) *memory = (nvmlMemory){80ull << 30, 78ull << 30, 2ull << 30};
  return END(call, "%s", "");
}
