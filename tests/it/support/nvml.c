// NVML as a machine with two GPUs would have it, as far as onnxd asks. NVML numbers them against their order on the bus, so that
// GPU 0 is the second here. Where the file FAKE_NVML_LOST is there, GPU 1 has fallen off the bus; where
// FAKE_NVML_HANGS is there, no call ends that looks at a GPU.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { unsigned version; unsigned long long total, reserved, free, used; } Memory;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char name[32]; } Pci;
typedef struct { unsigned bus; const char *uuid; unsigned long long gib, used; } Device;

enum { OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, LOST = 15 };

static Device devices[] = {{0xc1, "GPU-bbbbbbbb-2222", 80, 30}, {0x3b, "GPU-aaaaaaaa-1111", 40, 10}};

static int there(const char *variable) {
    const char *file = getenv(variable);
    return file && access(file, F_OK) == 0;
}

static int state(const Device *device) {
    while (there("FAKE_NVML_HANGS")) usleep(10000);
    return device == &devices[0] && there("FAKE_NVML_LOST") ? LOST : OK;
}

int nvmlInit_v2(void) { return state(0); }
int nvmlShutdown(void) { return OK; }
int nvmlSystemGetDriverVersion(char *to, unsigned length) { return snprintf(to, length, "580.65.06"), OK; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { return *version = 13010, OK; }
int nvmlDeviceGetCount_v2(unsigned *count) { return *count = 2, OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **device) { return *device = &devices[index], OK; }
int nvmlDeviceGetHandleByUUID(const char *uuid, Device **device) { return NOT_FOUND; }
int nvmlDeviceGetName(Device *device, char *to, unsigned length) { return snprintf(to, length, "Fake \"%llu\"", device->gib), OK; }
int nvmlDeviceGetUUID(Device *device, char *to, unsigned length) { return snprintf(to, length, "%s", device->uuid), OK; }
int nvmlDeviceGetPciInfo_v3(Device *device, Pci *pci) {
    memset(pci, 0, sizeof *pci);
    pci->bus = device->bus;
    return snprintf(pci->name, sizeof pci->name, "00000000:%02X:00.0", device->bus), OK;
}
int nvmlDeviceGetMemoryInfo_v2(Device *device, Memory *memory) {
    memory->total = device->gib << 30;
    memory->reserved = 1ull << 30;
    memory->used = device->used << 30;
    memory->free = memory->total - memory->reserved - memory->used;
    return state(device);
}
int nvmlDeviceGetUtilizationRates(Device *device, Utilization *rates) { return rates->gpu = (unsigned) device->used, state(device); }
int nvmlDeviceGetPowerUsage(Device *device, unsigned *milliwatts) { return *milliwatts = 123456, state(device); }
int nvmlDeviceGetPowerManagementLimit(Device *device, unsigned *milliwatts) { return *milliwatts = 700000, state(device); }
int nvmlDeviceGetTotalEnergyConsumption(Device *device, unsigned long long *millijoules) {
    static unsigned long long asked;
    return *millijoules = 5000000 + 1000 * asked++, state(device);
}
