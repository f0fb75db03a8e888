/* CUDA on a machine without a GPU, for ONNX Runtime's real provider: memory is the CPU's, a stream is done at once, and no kernel
 * does anything. What only copies (Identity, Reshape) answers rightly. Functions that are not here succeed and do nothing.
 *
 * FAKE_GPUS says how many there are, FAKE_LARGEST how many bytes may be allocated at once. */

#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, OUT_OF_MEMORY = 2, TO_GPU = 1, FROM_GPU = 2 };

static long number(const char *variable, long otherwise) {
    const char *text = getenv(variable);
    return text ? atol(text) : otherwise;
}

static int allocate(void **place, size_t size) {
    if (size > (size_t)number("FAKE_LARGEST", 1L << 40)) return OUT_OF_MEMORY;
    return posix_memalign(place, 4096, size) ? OUT_OF_MEMORY : SUCCESS;
}

static int make(void **place) {
    *place = malloc(64);
    return SUCCESS;
}

/* The driver. */
int cuInit(unsigned flags) { return SUCCESS; }
int cuDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
int cuDeviceGetCount(int *count) { *count = number("FAKE_GPUS", 1); return SUCCESS; }
int cuDeviceGet(int *device, int index) { *device = index; return SUCCESS; }
int cuDeviceGetName(char *name, int length, int device) { strncpy(name, "GPU of gcc", length); return SUCCESS; }

/* The runtime. */
static __thread int current;
int cudaGetDeviceCount(int *count) { return cuDeviceGetCount(count); }
int cudaGetDevice(int *device) { *device = current; return SUCCESS; }
int cudaSetDevice(int device) { current = device; return SUCCESS; }
int cudaGetDeviceProperties(char *properties, int device) { memset(properties, 0, 720); return SUCCESS; }
int cudaDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
int cudaRuntimeGetVersion(int *version) { *version = 13000; return SUCCESS; }
int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    enum { MULTIPROCESSORS = 16, MAJOR = 75, MINOR = 76 };
    *value = attribute == MULTIPROCESSORS ? 16 : attribute == MAJOR ? 9 : attribute == MINOR ? 0 : 1024;
    return SUCCESS;
}
const char *cudaGetErrorName(int error) { return error == OUT_OF_MEMORY ? "cudaErrorMemoryAllocation" : "cudaErrorUnknown"; }
const char *cudaGetErrorString(int error) { return error == OUT_OF_MEMORY ? "out of memory" : "unknown error"; }
int cudaMalloc(void **place, size_t size) { return allocate(place, size); }
int cudaMallocHost(void **place, size_t size) { return posix_memalign(place, 4096, size) ? OUT_OF_MEMORY : SUCCESS; }
int cudaHostAlloc(void **place, size_t size, unsigned flags) { return cudaMallocHost(place, size); }
int cudaFree(void *place) { free(place); return SUCCESS; }
int cudaFreeHost(void *place) { free(place); return SUCCESS; }
int cudaMemGetInfo(size_t *unused, size_t *all) { *unused = *all = 8UL << 30; return SUCCESS; }
int cudaMemset(void *place, int value, size_t size) { memset(place, value, size); return SUCCESS; }
int cudaMemsetAsync(void *place, int value, size_t size, void *stream) { return cudaMemset(place, value, size); }
int cudaStreamCreate(void **stream) { return make(stream); }
int cudaStreamCreateWithFlags(void **stream, unsigned flags) { return make(stream); }
int cudaStreamDestroy(void *stream) { free(stream); return SUCCESS; }
int cudaEventCreate(void **event) { return make(event); }
int cudaEventCreateWithFlags(void **event, unsigned flags) { return make(event); }
int cudaEventDestroy(void *event) { free(event); return SUCCESS; }
int cudaStreamIsCapturing(void *stream, int *status) { *status = 0; return SUCCESS; }
int cudaStreamEndCapture(void *stream, void **graph) { return make(graph); }
int cudaGraphInstantiate(void **made, void *graph, unsigned long flags) { return make(made); }
int cudaLaunchHostFunc(void *stream, void (*function)(void *), void *data) { function(data); return SUCCESS; }
void **__cudaRegisterFatBinary(void *binary) { static void *handle[4]; return handle; }

/* A GPU is tried with Relu of [-1, 1], for which there would have to be a kernel: the copies do it. */
int cudaMemcpy(float *to, const float *from, size_t size, int kind) {
    static const float input[] = {-1, 1}, output[] = {0, 1};
    static int tried;
    memmove(to, from, size);
    if (size != sizeof input) return SUCCESS;
    if (kind == TO_GPU) tried = !memcmp(from, input, sizeof input);
    if (kind == FROM_GPU && tried) memcpy(to, output, sizeof output);
    return SUCCESS;
}
int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *stream) {
    return cudaMemcpy(to, from, size, kind);
}

/* What computes. */
int cublasCreate_v2(void **handle) { return make(handle); }
int cublasLtCreate(void **handle) { return make(handle); }
int cudnnCreate(void **handle) { return make(handle); }
int cudnnDestroy(void *handle) { free(handle); return SUCCESS; }
int cudnnSetStream(void *handle, void *stream) { return SUCCESS; }
unsigned long cudnnGetVersion(void) { return 91400; }
const char *cublasGetStatusName(int status) { return "a status"; }
const char *cublasGetStatusString(int status) { return "a status"; }
const char *cudnnGetErrorString(int status) { return "a status"; }
