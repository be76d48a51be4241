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
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    NOT_LOADED = 9,
    UNKNOWN = 999
};

typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned long long total, free, used; } memory_v1;
typedef struct { unsigned pid; unsigned long long bytes; unsigned gpu_instance, compute_instance; } process;
typedef struct { unsigned gpu, memory; } utilization;
typedef struct { unsigned version, sensor; int celsius; } temperature;

/* Handles carry the number of the opening that gave them, so that one kept across a shutdown is refused. */
static int users, opening;
static unsigned long long driver_start;

static int index_of(void *device) { return (int)((intptr_t)device & 0xff); }

static void *handle_of(unsigned index) { return (void *)(((intptr_t)opening << 8) | (intptr_t)index); }

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

static unsigned long long of_gpu(void *device, const char *what) {
    char key[128];
    snprintf(key, sizeof key, "gpu.%d.%s", index_of(device), what);
    return number(key, 0);
}

/* The error that the control file wants from this function, for this GPU or (device NULL) for all. */
static int failure(void *device, const char *function) {
    char key[128];
    if (!users) return UNINITIALIZED;
    if (number("driver_start", 0) != driver_start) return UNKNOWN;
    if (device && (intptr_t)device >> 8 != opening) return INVALID_ARGUMENT;
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
    *device = handle_of(index);
    return failure(*device, "nvmlDeviceGetHandleByIndex");
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    for (unsigned i = 0; i < number("count", 0); i++) {
        char key[64], value[128];
        snprintf(key, sizeof key, "gpu.%u.uuid", i);
        if (lookup(key, value, sizeof value) && strcmp(value, uuid) == 0) {
            *device = handle_of(i);
            return failure(*device, "nvmlDeviceGetHandleByUUID");
        }
    }
    int error = failure(NULL, "nvmlDeviceGetHandleByUUID");
    return error ? error : NOT_FOUND;
}

static int text(void *device, const char *function, const char *what, char *value, unsigned size) {
    char key[64];
    snprintf(key, sizeof key, "gpu.%d.%s", index_of(device), what);
    int error = failure(device, function);
    return error ? error : lookup(key, value, size) ? OK : NOT_FOUND;
}

int nvmlDeviceGetName(void *device, char *name, unsigned size) {
    return text(device, "nvmlDeviceGetName", "name", name, size);
}

int nvmlDeviceGetUUID(void *device, char *uuid, unsigned size) {
    return text(device, "nvmlDeviceGetUUID", "uuid", uuid, size);
}

static unsigned long long free_of(void *device) {
    char key[64];
    snprintf(key, sizeof key, "gpu.%d.free", index_of(device));
    return number(key, of_gpu(device, "total") - of_gpu(device, "reserved") - of_gpu(device, "used"));
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
    snprintf(key, sizeof key, "gpu.%d.%s", index_of(device), what);
    lookup(key, list, sizeof list);
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

int nvmlDeviceGetUtilizationRates(void *device, utilization *rates) {
    rates->gpu = (unsigned)of_gpu(device, "utilization");
    rates->memory = 0;
    return failure(device, "nvmlDeviceGetUtilizationRates");
}

int nvmlDeviceGetTemperatureV(void *device, temperature *reading) {
    reading->celsius = (int)of_gpu(device, "temperature");
    return failure(device, "nvmlDeviceGetTemperatureV");
}

int nvmlDeviceGetTemperature(void *device, unsigned sensor, unsigned *celsius) {
    (void)sensor;
    *celsius = (unsigned)of_gpu(device, "temperature");
    return failure(device, "nvmlDeviceGetTemperature");
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) {
    *milliwatts = (unsigned)of_gpu(device, "milliwatts");
    return failure(device, "nvmlDeviceGetPowerUsage");
}
