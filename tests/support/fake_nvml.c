/* A libnvidia-ml.so.1 without a GPU: each call answers from the file that FAKE_NVML_CONTROL names.
 * The file has lines "key=value" (see fake_nvml.py) and is read at each call, so it may change at any time. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    OK = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    NOT_LOADED = 9,
    TIMEOUT = 10,
    UNKNOWN = 999
};

typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned long long total, free, used; } memory_v1;
typedef struct { unsigned pid; unsigned long long bytes; unsigned gpu_instance, compute_instance; } process;
typedef struct { unsigned gpu, memory; } utilization;
typedef struct { unsigned version, sensor; int celsius; } temperature;
typedef struct { void *device; unsigned long long type, data; unsigned gpu_instance, compute_instance; } event;
typedef struct { unsigned long long registered, next; } event_set; /* a bit for each GPU; the first event not yet told */

/* Handles carry the number of the opening that gave them, so that one kept across a shutdown is refused; then the place
 * of a slice, from 1, or 0 for the GPU itself; then the GPU's. */
static int users, opening;
static unsigned long long driver_start;

static unsigned gpu_of(void *device) { return (unsigned)((intptr_t)device & 0xff); }

static unsigned slice_of(void *device) { return (unsigned)((intptr_t)device >> 8 & 0xff); }

static void *handle_of(unsigned gpu, unsigned slice) {
    return (void *)(((intptr_t)opening << 16) | ((intptr_t)slice << 8) | (intptr_t)gpu);
}

static int lookup(const char *key, char *value, size_t size) {
    const char *path = getenv("FAKE_NVML_CONTROL");
    FILE *file = path ? fopen(path, "r") : NULL;
    size_t length = strlen(key);
    int found = 0;
    char line[16384];
    while (file && !found && fgets(line, sizeof line, file))
        if (strncmp(line, key, length) == 0 && line[length] == '=') {
            line[strcspn(line, "\n")] = 0;
            snprintf(value, size, "%s", line + length + 1);
            found = 1;
        }
    if (file) fclose(file);
    return found;
}

static unsigned long long number(const char *key, unsigned long long otherwise) {
    char value[64];
    return lookup(key, value, sizeof value) ? strtoull(value, NULL, 10) : otherwise;
}

/* The line of the control file that says `what` of a GPU or of a slice. */
static const char *key_of(void *device, const char *what, char *key, size_t size) {
    if (slice_of(device))
        snprintf(key, size, "gpu.%u.slice.%u.%s", gpu_of(device), slice_of(device) - 1, what);
    else
        snprintf(key, size, "gpu.%u.%s", gpu_of(device), what);
    return key;
}

static unsigned long long of_gpu(void *device, const char *what) {
    char key[128];
    return number(key_of(device, what, key, sizeof key), 0);
}

/* The error that the control file wants from this function, for this GPU or (device NULL) for all. */
static int failure(void *device, const char *function) {
    char key[128];
    if (!users) return UNINITIALIZED;
    if (number("driver_start", 0) != driver_start) return UNKNOWN;
    if (device && (intptr_t)device >> 16 != opening) return INVALID_ARGUMENT;
    snprintf(key, sizeof key, "error.%s", function);
    int error = (int)number(key, OK);
    if (error || !device) return error;
    return (int)of_gpu(device, key);
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    int error = (int)number("error.nvmlInit", number("count", -1) == -1ULL ? NOT_LOADED : OK);
    if (error) return error;
    if (!users++) {
        opening++;
        driver_start = number("driver_start", 0);
    }
    return OK;
}

int nvmlShutdown(void) {
    if (!users) return UNINITIALIZED;
    users--;
    return OK;
}

const char *nvmlErrorString(int error) {
    (void)error;
    return "fake NVML error";
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    *count = (unsigned)number("count", 0);
    return failure(NULL, "nvmlDeviceGetCount");
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    if (index >= number("count", 0)) return INVALID_ARGUMENT;
    *device = handle_of(index, 0);
    return failure(*device, "nvmlDeviceGetHandleByIndex");
}

static int is_called(void *device, const char *uuid) {
    char key[64], value[128];
    return lookup(key_of(device, "uuid", key, sizeof key), value, sizeof value) && strcmp(value, uuid) == 0;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    for (unsigned gpu = 0; gpu < number("count", 0); gpu++)
        for (unsigned slice = 0; slice <= of_gpu(handle_of(gpu, 0), "slices"); slice++)
            if (is_called(*device = handle_of(gpu, slice), uuid)) return failure(*device, "nvmlDeviceGetHandleByUUID");
    int error = failure(NULL, "nvmlDeviceGetHandleByUUID");
    return error ? error : NOT_FOUND;
}

static int text(void *device, const char *function, const char *what, char *value, unsigned size) {
    char key[64];
    int error = failure(device, function);
    return error ? error : lookup(key_of(device, what, key, sizeof key), value, size) ? OK : NOT_FOUND;
}

int nvmlDeviceGetName(void *device, char *name, unsigned size) {
    return text(device, "nvmlDeviceGetName", "name", name, size);
}

int nvmlDeviceGetUUID(void *device, char *uuid, unsigned size) {
    return text(device, "nvmlDeviceGetUUID", "uuid", uuid, size);
}

static unsigned long long free_of(void *device) {
    char key[64];
    return number(key_of(device, "free", key, sizeof key), of_gpu(device, "total") - of_gpu(device, "reserved") - of_gpu(device, "used"));
}

int nvmlDeviceGetMemoryInfo_v2(void *device, memory_v2 *memory) {
    memory->total = of_gpu(device, "total");
    memory->reserved = of_gpu(device, "reserved");
    memory->used = of_gpu(device, "used");
    memory->free = free_of(device);
    return failure(device, "nvmlDeviceGetMemoryInfo_v2");
}

int nvmlDeviceGetMemoryInfo(void *device, memory_v1 *memory) {
    memory->total = of_gpu(device, "total");
    memory->used = of_gpu(device, "used") + of_gpu(device, "reserved");
    memory->free = free_of(device);
    return failure(device, "nvmlDeviceGetMemoryInfo");
}

/* The list is "pid:bytes,pid:bytes,"; bytes of -1 stand for NVML_VALUE_NOT_AVAILABLE. */
static int processes(void *device, const char *function, const char *what, unsigned *count, process *out) {
    char key[64], list[16384] = "";
    int error = failure(device, function);
    if (error) return error;
    lookup(key_of(device, what, key, sizeof key), list, sizeof list);
    unsigned found = 0, room = *count;
    char *rest = list;
    while (*rest) {
        process entry = {0};
        entry.pid = (unsigned)strtoul(rest, &rest, 10);
        entry.bytes = (unsigned long long)strtoll(rest + 1, &rest, 10);
        if (*rest == ',') rest++;
        if (found < room) out[found] = entry;
        found++;
    }
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : OK;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, process *out) {
    return processes(device, "nvmlDeviceGetComputeRunningProcesses_v3", "compute", count, out);
}

int nvmlDeviceGetComputeRunningProcesses_v2(void *device, unsigned *count, process *out) {
    return processes(device, "nvmlDeviceGetComputeRunningProcesses_v2", "compute", count, out);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(void *device, unsigned *count, process *out) {
    return processes(device, "nvmlDeviceGetGraphicsRunningProcesses_v3", "graphics", count, out);
}

/* What is known of whole boards only. */
static int board(void *device, const char *function) {
    int error = failure(device, function);
    return error ? error : slice_of(device) ? NOT_SUPPORTED : OK;
}

int nvmlDeviceGetUtilizationRates(void *device, utilization *rates) {
    rates->gpu = (unsigned)of_gpu(device, "utilization");
    rates->memory = 0;
    return board(device, "nvmlDeviceGetUtilizationRates");
}

int nvmlDeviceGetTemperatureV(void *device, temperature *reading) {
    reading->celsius = (int)of_gpu(device, "temperature");
    return board(device, "nvmlDeviceGetTemperatureV");
}

int nvmlDeviceGetTemperature(void *device, unsigned sensor, unsigned *celsius) {
    (void)sensor;
    *celsius = (unsigned)of_gpu(device, "temperature");
    return board(device, "nvmlDeviceGetTemperature");
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) {
    *milliwatts = (unsigned)of_gpu(device, "milliwatts");
    return board(device, "nvmlDeviceGetPowerUsage");
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules) {
    *millijoules = of_gpu(device, "millijoules");
    return board(device, "nvmlDeviceGetTotalEnergyConsumption");
}

int nvmlDeviceGetRemappedRows(void *device, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed) {
    *corrected = *uncorrected = *pending = 0;
    *failed = (unsigned)of_gpu(device, "remap_failed");
    return board(device, "nvmlDeviceGetRemappedRows");
}

/* A GPU whose control file says nothing of slices knows no MIG mode. */
int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending) {
    char key[64];
    *current = *pending = number(key_of(device, "slices", key, sizeof key), -1) != -1ULL;
    int error = board(device, "nvmlDeviceGetMigMode");
    return error ? error : *current ? OK : NOT_SUPPORTED;
}

int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *count) {
    *count = 7;
    return board(device, "nvmlDeviceGetMaxMigDeviceCount");
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned index, void **slice) {
    char key[64], uuid[128];
    *slice = handle_of(gpu_of(device), index + 1);
    int error = board(device, "nvmlDeviceGetMigDeviceHandleByIndex");
    return error ? error : lookup(key_of(*slice, "uuid", key, sizeof key), uuid, sizeof uuid) ? OK : NOT_FOUND;
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void *slice, void **device) {
    *device = handle_of(gpu_of(slice), 0);
    return failure(*device, "nvmlDeviceGetDeviceHandleFromMigDeviceHandle");
}

int nvmlDeviceIsMigDeviceHandle(void *device, unsigned *is_slice) {
    *is_slice = slice_of(device) != 0;
    return failure(device, "nvmlDeviceIsMigDeviceHandle");
}

int nvmlDeviceGetGpuInstanceId(void *device, unsigned *instance) {
    *instance = (unsigned)of_gpu(device, "instance");
    return failure(device, "nvmlDeviceGetGpuInstanceId");
}

/* Events are lines "event.<number>=<gpu>:<type>:<data>:<GPU instance>"; `events` is their number, which only grows. */
int nvmlEventSetCreate(void **set) {
    int error = failure(NULL, "nvmlEventSetCreate");
    event_set *made = error ? NULL : calloc(1, sizeof *made);
    if (made) made->next = number("events", 0);
    *set = made;
    return error;
}

int nvmlDeviceRegisterEvents(void *device, unsigned long long types, void *set) {
    (void)types;
    int error = board(device, "nvmlDeviceRegisterEvents");
    if (!error) ((event_set *)set)->registered |= 1ULL << gpu_of(device);
    return error;
}

int nvmlEventSetWait_v2(void *set, event *told, unsigned milliseconds) {
    event_set *events = set;
    int error = failure(NULL, "nvmlEventSetWait");
    (void)milliseconds;
    while (!error && events->next < number("events", 0)) {
        char key[64], line[128] = "";
        unsigned gpu = 0;
        snprintf(key, sizeof key, "event.%llu", events->next++);
        lookup(key, line, sizeof line);
        sscanf(line, "%u:%llu:%llu:%u", &gpu, &told->type, &told->data, &told->gpu_instance);
        told->device = handle_of(gpu, 0);
        told->compute_instance = told->gpu_instance;
        if (events->registered >> gpu & 1) return OK;
    }
    return error ? error : TIMEOUT;
}

int nvmlEventSetFree(void *set) {
    int error = failure(NULL, "nvmlEventSetFree");
    if (!error) free(set);
    return error;
}
