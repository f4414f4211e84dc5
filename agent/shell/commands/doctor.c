/* ingot doctor: what this machine offers, what is missing, what to install. */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "agent/shell/shell.h"
#include "base/team.h"
#include "kernels/ops.h"
#include "runtime/ingot.h"

static void print_cpu(void)
{
    char name[200] = "", line[300];
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "model name", 10) && strchr(line, ':')) {
            snprintf(name, sizeof name, "%s", strchr(line, ':') + 2);
            name[strcspn(name, "\n")] = 0;
            break;
        }
    if (f)
        fclose(f);
    struct error err;
    printf("cpu        %s, %d cores usable\n", name[0] ? name : "unknown", team_cores());
    if (backend_cpu(&err))
        printf("kernels    %s%s\n", cpu_isa_name(), getenv("INGOT_ISA") ? " (INGOT_ISA is set)" : "");
    else
        printf("kernels    MISSING: %s\n", err.text);
    if (cpu_isa_refused())
        printf("           %s\n", cpu_isa_refused());
}

static void print_memory(void)
{
    char line[128];
    FILE *f = fopen("/proc/meminfo", "re");
    unsigned long long total = 0, available = 0;
    while (f && fgets(line, sizeof line, f)) {
        sscanf(line, "MemTotal: %llu", &total);
        sscanf(line, "MemAvailable: %llu", &available);
    }
    if (f)
        fclose(f);
    struct rlimit lock;
    getrlimit(RLIMIT_MEMLOCK, &lock);
    printf("memory     %.1f GiB, %.1f available; reads at %.1f GB/s now\n", (double)total / 0x1p20, (double)available / 0x1p20, ingot_read_bandwidth(INGOT_PAGES_HUGE, 0) / 1e9);
    char limit[80] = "unlimited";
    if (lock.rlim_cur != RLIM_INFINITY)
        snprintf(limit, sizeof limit, "%.1f MiB (raise with ulimit -l for --mlock)", (double)lock.rlim_cur / 0x1p20);
    char huge[64] = "unknown";
    f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");
    if (f) {
        if (!fgets(huge, sizeof huge, f))
            huge[0] = 0;
        huge[strcspn(huge, "\n")] = 0;
        fclose(f);
    }
    printf("           lockable %s; transparent huge pages: %s\n", limit, huge);
}

static void print_gpu(void)
{
    const struct backend *backend;
    struct cuda_room room;
    struct error err;
    int cards = 0;
    for (; !backend_cuda(&backend, cards, &room, &err); cards++)
        printf("gpu        cuda:%d, %s, %.1f GiB free; --device cuda:%d uses it; %s\n", cards, room.name, (double)room.free_bytes / 0x1p30, cards,
               backend_trial(backend, NULL, &(struct compile_options){.k_type = STORAGE_F16, .v_type = STORAGE_F16, .device = cards}, &err)
                   ? err.text : "a trial computed as the reference does");
    if (!cards)
        printf("gpu        none that can be used: %s\n", err.text);
}

static void print_cache(void)
{
    char path[4096] = "unknown";
    struct statvfs v;
    ingot_cache_folder(path, sizeof path, NULL);
    bool there = access(path, F_OK) == 0;
    printf("cache      %s%s", path, there ? "" : " (not there yet)");
    if (there && statvfs(path, &v) == 0)
        printf(", %.1f GiB free", (double)v.f_bavail * (double)v.f_frsize / 0x1p30);
    const char *offline = getenv("HF_HUB_OFFLINE");
    printf("%s\n", offline && *offline && strcmp(offline, "0") ? "; HF_HUB_OFFLINE is set: nothing is downloaded" : "");
}

enum status command_doctor(const struct settings *s, struct error *err)
{
    (void)s, (void)err;
    printf("ingot      %s (%s)\n", INGOT_VERSION, INGOT_COMMIT);
    print_cpu();
    print_memory();
    print_gpu();
    print_cache();
    return output_finish(stdout, err);
}
