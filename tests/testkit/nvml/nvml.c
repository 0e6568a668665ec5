/* Answers as libnvidia-ml.so.1 would of GPUs that stand in a file; see __init__.py. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, NOT_SUPPORTED = 3, TIMEOUT = 10, UNKNOWN = 999, MOST = 64 };

typedef struct {
    unsigned long long total, used;
    unsigned int utilization, temperature, power, throttle;
    unsigned long long ecc;
    unsigned int pending, failure, advice;
    int code;
} card_t;
/* A handle is the address of one of these, as the real one is of something. */
typedef struct { unsigned int index; } device_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int gpu, memory; } utilization_t;
typedef struct { unsigned int version, sensor; int temperature; } temperature_t;
typedef struct { device_t *device; unsigned long long type, data; unsigned int gpu, compute; } event_t;
typedef union { double d; unsigned int ui; unsigned long long ull; } value_t;
typedef struct {
    uint32_t field, scope;
    int64_t timestamp, latency;
    unsigned int type;
    int code;
    value_t value;
} field_t;

static device_t devices[MOST];
static struct { int init, hangs; unsigned int count, events; card_t cards[MOST]; unsigned int xids[MOST][2]; } state;
static unsigned int told;

static int load(void) {
    const char *path = getenv("STANDIN_NVML_STATE");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[512];
    if (!file) return UNKNOWN;
    memset(&state, 0, sizeof state);
    while (fgets(line, sizeof line, file)) {
        card_t *card = &state.cards[state.count];
        unsigned int *xid = state.xids[state.events];
        if (sscanf(line, "init %d", &state.init) == 1 || sscanf(line, "hangs %d", &state.hangs) == 1) continue;
        if (state.events < MOST && sscanf(line, "xid %u %u", &xid[0], &xid[1]) == 2) { state.events++; continue; }
        if (state.count < MOST &&
            sscanf(line, "gpu %llu %llu %u %u %u %u %llu %u %u %u %d", &card->total, &card->used, &card->utilization,
                   &card->temperature, &card->power, &card->throttle, &card->ecc, &card->pending, &card->failure,
                   &card->advice, &card->code) == 11) {
            devices[state.count].index = state.count;
            state.count++;
        }
    }
    fclose(file);
    while (state.hangs) sleep(1); /* as a driver that does not answer: for ever */
    return state.init;
}

/* The card, or the code with which a call for it ends. */
static int card_of(device_t *device, card_t **card) {
    int code = load();
    if (code) return code;
    *card = &state.cards[device->index];
    return (*card)->code;
}

#define CARD(device) card_t *card; int code_ = card_of(device, &card); if (code_) return code_

int nvmlInitWithFlags(unsigned int flags) { (void)flags; return load(); }
int nvmlShutdown(void) { return OK; }
int nvmlDeviceGetCount_v2(unsigned int *count) { int code = load(); *count = state.count; return code; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, device_t **device) { *device = &devices[index]; return OK; }
const char *nvmlErrorString(int code) {
    return code == 15 ? "GPU is lost" : code == 9 ? "Driver Not Loaded" : code == 3 ? "Not Supported" : "Unknown Error";
}
int nvmlDeviceGetUUID(device_t *device, char *text, unsigned int size) {
    snprintf(text, size, "GPU-00000000-0000-0000-0000-%012u", device->index);
    return OK;
}
int nvmlDeviceGetName(device_t *device, char *text, unsigned int size) {
    (void)device;
    snprintf(text, size, "Made-up GPU");
    return OK;
}
int nvmlDeviceGetMemoryInfo(device_t *device, memory_t *memory) {
    CARD(device);
    memory->total = card->total;
    memory->used = card->used;
    memory->free = card->total - card->used;
    return OK;
}
int nvmlDeviceGetUtilizationRates(device_t *device, utilization_t *rates) {
    CARD(device);
    rates->gpu = card->utilization;
    rates->memory = 0;
    return OK;
}
int nvmlDeviceGetTemperatureV(device_t *device, temperature_t *temperature) {
    CARD(device);
    temperature->temperature = (int)card->temperature;
    return OK;
}
int nvmlDeviceGetTemperatureThreshold(device_t *device, unsigned int kind, unsigned int *temperature) {
    CARD(device);
    *temperature = kind == 1 ? 90 : 95;
    return OK;
}
int nvmlDeviceGetPowerUsage(device_t *device, unsigned int *milliwatts) {
    CARD(device);
    *milliwatts = card->power;
    return OK;
}
int nvmlDeviceGetCurrentClocksEventReasons(device_t *device, unsigned long long *reasons) {
    CARD(device);
    *reasons = card->throttle;
    return OK;
}
int nvmlDeviceGetTotalEccErrors(device_t *device, unsigned int type, unsigned int counter, unsigned long long *count) {
    CARD(device);
    *count = type == 1 && counter == 0 ? card->ecc : 0;
    return OK;
}
int nvmlDeviceGetRemappedRows(device_t *device, unsigned int *correctable, unsigned int *uncorrectable,
                              unsigned int *pending, unsigned int *failure) {
    CARD(device);
    *correctable = 1;
    *uncorrectable = 2;
    *pending = card->pending;
    *failure = card->failure;
    return OK;
}
/* Retired pages are those of GPUs before rows could be remapped. */
int nvmlDeviceGetRetiredPages(device_t *device, unsigned int cause, unsigned int *count, unsigned long long *pages) {
    (void)device; (void)cause; (void)count; (void)pages;
    return NOT_SUPPORTED;
}
int nvmlDeviceGetFieldValues(device_t *device, int count, field_t *fields) {
    CARD(device);
    for (int at = 0; at < count; at++) {
        fields[at].code = fields[at].field == 230 ? OK : NOT_SUPPORTED;
        fields[at].value.ui = card->advice;
    }
    return OK;
}
int nvmlEventSetCreate(void **set) { *set = &told; return OK; }
int nvmlEventSetFree(void *set) { (void)set; return OK; }
int nvmlDeviceGetSupportedEventTypes(device_t *device, unsigned long long *types) {
    (void)device;
    *types = 0x8 | 0x2;
    return OK;
}
int nvmlDeviceRegisterEvents(device_t *device, unsigned long long types, void *set) {
    (void)device; (void)types; (void)set;
    return OK;
}
int nvmlEventSetWait_v2(void *set, event_t *event, unsigned int milliseconds) {
    (void)set;
    for (unsigned int waited = 0; waited <= milliseconds; waited += 20) {
        int code = load();
        if (code) return code;
        if (told < state.events) {
            memset(event, 0, sizeof *event);
            event->device = &devices[state.xids[told][0]];
            event->type = 0x8;
            event->data = state.xids[told][1];
            told++;
            return OK;
        }
        usleep(20000);
    }
    return TIMEOUT;
}
