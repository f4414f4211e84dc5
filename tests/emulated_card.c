/* A libingot-cuda.so whose device is the emulation: with it the whole program runs as on a card. One lock: the emulation is one
 * device, and an engine's threads ask for blocks of state while another runs steps. */
#include <pthread.h>

#include "tests/unit/kernels/emulator.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* INGOT_EMULATED_LOST=N: from launch N on the device is lost, and every call says so. INGOT_EMULATED_MEMORY=BYTES: so much can be
 * allocated, whatever info() says. INGOT_EMULATED_OLD=1: as if another build had left it behind.
 * INGOT_EMULATED_HOPPER=1: its driver makes tensor maps. INGOT_EMULATED_WITHOUT="norm linear_f32": it has no code for these kernels;
 * INGOT_EMULATED_WRONG="norm": these do nothing. */
enum { EMULATED_LOST = 700 };
static int64_t launches;
static size_t allocated;

static int64_t setting(const char *name)
{
    const char *text = getenv(name);
    return text ? atoll(text) : 0;
}

static int lost(void) { return setting("INGOT_EMULATED_LOST") && launches >= setting("INGOT_EMULATED_LOST") ? EMULATED_LOST : 0; }

static const char *words(int error) { return error == EMULATED_LOST ? "the device is lost" : emulated_words(error); }

static bool names(const char *setting, enum cuda_kernel kernel)
{
    const char *list = getenv(setting);
    const char *name = cuda_kernel_name(kernel);
    size_t size = strlen(name);
    for (const char *at = list; at && (at = strstr(at, name)); at += size)
        if ((at == list || at[-1] == ' ') && (at[size] == ' ' || !at[size]))
            return true;
    return false;
}

static bool has(int device, enum cuda_kernel kernel) { return (void)device, !names("INGOT_EMULATED_WITHOUT", kernel); }

#define LOCKED(name, parameters, ...)                                    \
    static int locked_##name parameters                                  \
    {                                                                    \
        pthread_mutex_lock(&lock);                                       \
        int code = lost() ? lost() : emulated_interface.name(__VA_ARGS__); \
        pthread_mutex_unlock(&lock);                                     \
        return code;                                                     \
    }
LOCKED(info, (int device, struct cuda_info *out), device, out)
LOCKED(upload, (struct cuda_stream * s, void *to, const void *from, size_t bytes), s, to, from, bytes)
LOCKED(download, (struct cuda_stream * s, void *to, const void *from, size_t bytes), s, to, from, bytes)
LOCKED(copy, (struct cuda_stream * s, void *to, const void *from, size_t bytes), s, to, from, bytes)
LOCKED(gemm, (struct cuda_stream * s, const struct cuda_gemm *g), s, g)
LOCKED(mark, (struct cuda_stream * s, int mark), s, mark)
LOCKED(reach, (struct cuda_stream * s, int mark), s, mark)
LOCKED(wait, (struct cuda_stream * s), s)

static int locked_launch(struct cuda_stream *s, const struct cuda_launch *l)
{
    pthread_mutex_lock(&lock);
    launches++;
    bool wrong = names("INGOT_EMULATED_WRONG", l->kernel);
    int code = lost() ? lost() : !has(0, l->kernel) ? EMULATED_BAD_LAUNCH : wrong ? 0 : emulated_interface.launch(s, l);
    pthread_mutex_unlock(&lock);
    return code;
}

static int locked_allocate(int device, void **out, size_t bytes)
{
    int64_t limit = setting("INGOT_EMULATED_MEMORY");
    pthread_mutex_lock(&lock);
    bool full = limit && (allocated += bytes) > (size_t)limit;
    int code = lost() ? lost() : full ? EMULATED_NO_MEMORY : emulated_interface.allocate(device, out, bytes);
    pthread_mutex_unlock(&lock);
    return code;
}

static void locked_release(int device, void *memory)
{
    pthread_mutex_lock(&lock);
    emulated_interface.release(device, memory);
    pthread_mutex_unlock(&lock);
}

static void locked_close(struct cuda_stream *s) { locked_wait(s); }

__attribute__((visibility("default"))) const struct cuda_interface *ingot_cuda_interface(void);
const struct cuda_interface *ingot_cuda_interface(void)
{
    static struct cuda_interface i;
    pthread_mutex_lock(&lock);
    i = emulated_interface;
    i.words = words;
    i.version -= (int)setting("INGOT_EMULATED_OLD");
    emulated_device.maps = setting("INGOT_EMULATED_HOPPER");
    i.info = locked_info;
    i.has = has;
    i.gemm = locked_gemm;
    i.allocate = locked_allocate, i.release = locked_release, i.close = locked_close;
    i.upload = locked_upload, i.download = locked_download, i.copy = locked_copy, i.launch = locked_launch;
    i.mark = locked_mark, i.reach = locked_reach, i.wait = locked_wait;
    pthread_mutex_unlock(&lock);
    return &i;
}
