/* How fast this machine is now: reading memory, which bounds decode, and multiplying, which bounds prompts. All threads read
 * their own part of a buffer that no cache holds; the best of three passes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/team.h"
#include "kernels/ops.h"
#include "runtime/engine/engine.h"

enum { BYTES = 256 << 20, PASSES = 3 };

struct reading {
    const uint64_t *data;
    uint64_t sums[256];
};

static void read_part(void *argument, int thread, int threads)
{
    struct reading *r = argument;
    size_t words = BYTES / 8 / (size_t)threads;
    const uint64_t *p = r->data + words * (size_t)thread;
    uint64_t a = 0, b = 0, c = 0, d = 0;
    for (size_t i = 0; i + 8 <= words; i += 8) { /* one cache line; a prefetch well ahead, as the kernels do */
        __builtin_prefetch(p + i + 512);
        a += p[i] + p[i + 4];
        b += p[i + 1] + p[i + 5];
        c += p[i + 2] + p[i + 6];
        d += p[i + 3] + p[i + 7];
    }
    r->sums[thread] = a + b + c + d;
}

/* A buffer in pages of a kind; MAP_FAILED: no memory. */
static void *pages_of(enum ingot_pages kind)
{
    if (kind != INGOT_PAGES_FILE) {
        void *p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p != MAP_FAILED)
            madvise(p, BYTES, kind == INGOT_PAGES_HUGE ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
        return p;
    }
    int fd = memfd_create("ingot", MFD_CLOEXEC); /* pages of a file in memory, as those of mapped weights are */
    void *p = fd < 0 || ftruncate(fd, BYTES) ? MAP_FAILED : mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    return p;
}

/* A wait for one device, some rows on their way, and a start on the other: what PCIe and a driver take at least, not measured here. */
static const double hand_over_seconds = 20e-6;

/* Seconds that a device takes to read so much; negative: nobody knows. */
static double seconds(const char *device, double bytes, double bandwidth, double host)
{
    bandwidth = strcmp(device, "cpu") ? bandwidth : host;
    return bandwidth > 0 ? bytes / bandwidth : -1;
}

double plan_seconds(const struct ingot_plan *p, double host, double filled)
{
    double all = p->part_count ? 0 : seconds(p->device, (double)p->read_bytes + filled * (double)p->kv_bytes, p->read_bandwidth, host), shared = 0;
    for (int i = 0; i < p->part_count; i++) {
        const struct ingot_plan_part *part = &p->parts[i];
        double own = seconds(part->device, (double)part->read_bytes + filled * (double)part->kv_bytes, part->read_bandwidth, host);
        if (own < 0)
            return 0;
        all += part->shared ? 0 : own;
        shared = part->shared && own > shared ? own : shared; /* those that share work at the same time */
    }
    return all + shared > 0 ? all + shared + p->hand_overs * hand_over_seconds : 0;
}

double ingot_plan_decode_bound(const struct ingot_plan *p, double host)
{
    double all = plan_seconds(p, host, 0);
    return all > 0 ? 1 / all : 0;
}

double ingot_read_bandwidth(enum ingot_pages pages, int threads)
{
    void *p = pages_of(pages);
    if (p == MAP_FAILED)
        return 0;
    memset(p, 1, BYTES);
    static struct reading r; /* one caller at a time: the team is one */
    r.data = p;
    double best = 0;
    for (int i = 0; i < PASSES; i++) {
        double start = clock_seconds();
        team_run(threads, read_part, &r);
        double rate = BYTES / (clock_seconds() - start);
        best = rate > best ? rate : best;
    }
    munmap(p, BYTES);
    return best;
}

double ingot_dot_peak(enum ingot_dots dots, int threads)
{
    static const enum peak kinds[] = {[INGOT_DOTS_INT8] = PEAK_INT8, [INGOT_DOTS_BF16] = PEAK_BF16, [INGOT_DOTS_F32] = PEAK_F32};
    return cpu_peak(kinds[dots], threads);
}
