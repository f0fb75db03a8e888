/* CUDA on a machine without a GPU, for ONNX Runtime's real provider: memory is the CPU's, and no kernel does anything. What only
 * copies (Identity, Reshape) answers rightly. Functions that are not here succeed and do nothing.
 *
 * A stream is as late as it may be: what it copies from and to page-locked memory is copied when somebody waits for it. While a
 * graph is captured nothing can be allocated or freed, by any thread.
 *
 * Nothing runs on a GPU before the driver has been told that who waits for it sleeps.
 *
 * FAKE_GPUS says how many there are, FAKE_LARGEST how many bytes may be allocated at once, FAKE_LARGEST_0 how many on the first.
 * Where the file FAKE_FULL is there, the first has no memory left. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, OUT_OF_MEMORY = 2, CAPTURING = 900, UNKNOWN = 999, TO_GPU = 1, FROM_GPU = 2 };

/* Copies, in their order: those that a stream has yet to make, or that a graph holds. */
struct copies { int count; struct { void *to; const void *from; size_t size; int kind; } list[1024]; };
struct stream { struct copies waiting; struct copies *graph; };
struct event { struct stream *stream; };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int capturing;
static struct { char *start; size_t size; } pinned[4096];
static int pinned_count;

static int is_pinned(const char *place) {
    for (int i = 0; i < pinned_count; i++)
        if (pinned[i].start && place >= pinned[i].start && place < pinned[i].start + pinned[i].size) return 1;
    return 0;
}

static long number(const char *variable, long otherwise) {
    const char *text = getenv(variable);
    return text ? atol(text) : otherwise;
}

static __thread int current;

static int allocate(void **place, size_t size) {
    if (capturing) return CAPTURING;
    long largest = number("FAKE_LARGEST", 1L << 40);
    if (!current) largest = number("FAKE_LARGEST_0", largest);
    if (!current && getenv("FAKE_FULL") && !access(getenv("FAKE_FULL"), F_OK)) return OUT_OF_MEMORY;
    if (size > (size_t)largest) return OUT_OF_MEMORY;
    return posix_memalign(place, 4096, size) ? OUT_OF_MEMORY : SUCCESS;
}

static int make(void **place) {
    *place = calloc(1, sizeof(struct stream));
    return SUCCESS;
}

/* The driver. */
int cuInit(unsigned flags) { return SUCCESS; }
int cuDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
int cuDeviceGetCount(int *count) { *count = number("FAKE_GPUS", 1); return SUCCESS; }
int cuDeviceGet(int *device, int index) { *device = index; return SUCCESS; }
int cuDeviceGetName(char *name, int length, int device) { strncpy(name, "GPU of gcc", length); return SUCCESS; }
int fake_flags[16];
int cuDevicePrimaryCtxSetFlags_v2(int device, unsigned flags) { fake_flags[device] = flags; return SUCCESS; }

/* The runtime. */
static int sleeps(int device) {
    enum { BLOCKING_SYNC = 4 };
    int *flags = dlsym(dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD), "fake_flags");
    return flags && flags[device] == BLOCKING_SYNC;
}
int cudaGetDeviceCount(int *count) { return cuDeviceGetCount(count); }
int cudaGetDevice(int *device) { *device = current; return SUCCESS; }
int cudaSetDevice(int device) {
    current = device;
    return sleeps(device) ? SUCCESS : UNKNOWN;
}
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
int cudaMallocHost(void **place, size_t size) {
    if (capturing) return CAPTURING;
    if (posix_memalign(place, 4096, size)) return OUT_OF_MEMORY;
    pthread_mutex_lock(&lock);
    int free = 0;
    while (free < pinned_count && pinned[free].start) free++;
    if (free == sizeof pinned / sizeof *pinned) abort();
    pinned[free].size = size;
    pinned[free].start = *place;
    pinned_count += free == pinned_count;
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}
int cudaHostAlloc(void **place, size_t size, unsigned flags) { return cudaMallocHost(place, size); }
int cudaFree(void *place) { if (capturing) abort(); free(place); return SUCCESS; }
int cudaFreeHost(void *place) {
    pthread_mutex_lock(&lock);
    for (int i = 0; i < pinned_count; i++)
        if (pinned[i].start == place) pinned[i].start = 0;
    pthread_mutex_unlock(&lock);
    return cudaFree(place);
}
int cudaMemGetInfo(size_t *unused, size_t *all) { *unused = *all = 8UL << 30; return SUCCESS; }
int cudaMemset(void *place, int value, size_t size) { memset(place, value, size); return SUCCESS; }
int cudaStreamCreate(void **stream) { return make(stream); }
int cudaStreamCreateWithFlags(void **stream, unsigned flags) { return make(stream); }
int cudaStreamDestroy(void *stream) { free(stream); return SUCCESS; }
int cudaEventCreate(void **event) { return make(event); }
int cudaEventCreateWithFlags(void **event, unsigned flags) { return make(event); }
int cudaEventDestroy(void *event) { free(event); return SUCCESS; }
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
static void copy_all(struct copies *copies) {
    for (int i = 0; i < copies->count; i++)
        cudaMemcpy(copies->list[i].to, copies->list[i].from, copies->list[i].size, copies->list[i].kind);
}
static void add(struct copies *copies, void *to, const void *from, size_t size, int kind) {
    if (copies->count == 1024) abort();
    copies->list[copies->count].to = to;
    copies->list[copies->count].from = from;
    copies->list[copies->count].size = size;
    copies->list[copies->count++].kind = kind;
}
int cudaStreamSynchronize(struct stream *stream) {
    if (!stream) return SUCCESS;
    if (stream->graph) return CAPTURING;
    pthread_mutex_lock(&lock);
    copy_all(&stream->waiting);
    stream->waiting.count = 0;
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}
int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, struct stream *stream) {
    const void *host = kind == TO_GPU ? from : kind == FROM_GPU ? to : 0;
    if (!stream) return cudaMemcpy(to, from, size, kind);
    if (host && !is_pinned(host)) {
        if (stream->graph) return CAPTURING;
        cudaStreamSynchronize(stream);
        return cudaMemcpy(to, from, size, kind);
    }
    pthread_mutex_lock(&lock);
    add(stream->graph ? stream->graph : &stream->waiting, to, from, size, kind);
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}
int cudaMemsetAsync(void *place, int value, size_t size, struct stream *stream) {
    if (stream && stream->graph) return CAPTURING;
    cudaStreamSynchronize(stream);
    return cudaMemset(place, value, size);
}
int cudaLaunchHostFunc(struct stream *stream, void (*function)(void *), void *data) {
    cudaStreamSynchronize(stream);
    function(data);
    return SUCCESS;
}
int cudaEventRecord(struct event *event, struct stream *stream) { event->stream = stream; return SUCCESS; }
int cudaEventSynchronize(struct event *event) { return cudaStreamSynchronize(event->stream); }
int cudaStreamWaitEvent(struct stream *stream, struct event *event, unsigned flags) {
    return cudaStreamSynchronize(event->stream);
}

/* Graphs. */
int cudaStreamIsCapturing(struct stream *stream, int *status) { *status = stream && stream->graph; return SUCCESS; }
int cudaStreamBeginCapture(struct stream *stream, int mode) {
    capturing++;
    stream->graph = calloc(1, sizeof *stream->graph);
    return SUCCESS;
}
int cudaStreamEndCapture(struct stream *stream, void **graph) {
    capturing--;
    *graph = stream->graph;
    stream->graph = 0;
    return SUCCESS;
}
int cudaGraphInstantiate(void **made, void *graph, unsigned long flags) { *made = graph; return SUCCESS; }
int cudaGraphExecDestroy(void *made) { free(made); return SUCCESS; }
int cudaGraphLaunch(struct copies *graph, struct stream *stream) {
    pthread_mutex_lock(&lock);
    for (int i = 0; i < graph->count; i++)
        add(&stream->waiting, graph->list[i].to, graph->list[i].from, graph->list[i].size, graph->list[i].kind);
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

/* What computes. */
int cublasCreate_v2(void **handle) { return make(handle); }
int cublasLtCreate(void **handle) { return make(handle); }
int cublasDestroy_v2(void *handle) { free(handle); return SUCCESS; }
int cublasLtDestroy(void *handle) { free(handle); return SUCCESS; }
int cudnnCreate(void **handle) { return make(handle); }
int cudnnDestroy(void *handle) { free(handle); return SUCCESS; }
int cudnnSetStream(void *handle, void *stream) { return SUCCESS; }
unsigned long cudnnGetVersion(void) { return 91400; }
const char *cublasGetStatusName(int status) { return "a status"; }
const char *cublasGetStatusString(int status) { return "a status"; }
const char *cudnnGetErrorString(int status) { return "a status"; }
