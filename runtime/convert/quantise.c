/* --quantize: a checkpoint of plain floats runs quantised. Its matrices become blocks once and are kept:
 *
 *   FOLDER/HASH.gguf    FOLDER is INGOT_HOME/quantised, else XDG_CACHE_HOME/ingot/quantised, else ~/.cache/ingot/quantised
 *
 * Only matrices lie in it, under the names the checkpoint has them by: configuration, tokenizer, template and norms stay the
 * checkpoint's own, so nothing has to have a word in GGUF and an edited template counts at once. HASH tells the weights apart: the
 * mix, the encoders' version, all names, types, shapes, a sample of every tensor, and of each file its size with its SHA-256 where
 * it lies in the Hub's cache under that name, else its time of change. A path is no part of it: a moved checkpoint is found again. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <dirent.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/file.h"
#include "base/files/writer.h"
#include "base/log.h"
#include "runtime/engine/engine.h"

enum { ENCODERS = 1 }; /* one more whenever kernels/formats writes other bytes: what older ones wrote is not found any more */

struct quantising {
    struct model *m;
    const struct mix *mix;
    const struct ingot_model_options *o;
    const unsigned char *identity; /* [32], of the model before */
    struct conversion c;
    struct arena arena;
    char *folder, *path;
    struct error *err;
};

static bool is_sha256(const char *name) { return strlen(name) == 64 && strspn(name, "0123456789abcdef") == 64; }

/* A file's own part of the hash. */
static bool add_file(EVP_MD_CTX *hash, const struct mapping *file)
{
    char *real = realpath(file->path, NULL);
    const char *slash = real ? strrchr(real, '/') : NULL;
    struct stat st = {0};
    bool good = stat(file->path, &st) == 0;
    uint64_t numbers[3] = {file->size, (uint64_t)st.st_mtim.tv_sec, (uint64_t)st.st_mtim.tv_nsec};
    if (slash && is_sha256(slash + 1))
        good = good && EVP_DigestUpdate(hash, numbers, 8) && EVP_DigestUpdate(hash, slash + 1, 64);
    else
        good = good && EVP_DigestUpdate(hash, numbers, sizeof numbers);
    free(real);
    return good;
}

static char *cache_folder(struct arena *arena)
{
    const char *v;
    if ((v = getenv("INGOT_HOME")) && *v)
        return arena_format(arena, "%s/quantised", v);
    if ((v = getenv("XDG_CACHE_HOME")) && *v)
        return arena_format(arena, "%s/ingot/quantised", v);
    if ((v = getenv("HOME")) && *v)
        return arena_format(arena, "%s/.cache/ingot/quantised", v);
    struct passwd user, *found = NULL;
    char text[4096];
    bool known = !getpwuid_r(getuid(), &user, text, sizeof text, &found) && found;
    return arena_format(arena, "%s/.cache/ingot/quantised", known ? user.pw_dir : ".");
}

static enum status name_it(struct quantising *q)
{
    unsigned char out[32];
    char text[65];
    int version = ENCODERS;
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    bool good = hash && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) && EVP_DigestUpdate(hash, &version, sizeof version) &&
                EVP_DigestUpdate(hash, mix_name(q->mix), strlen(mix_name(q->mix))) && EVP_DigestUpdate(hash, q->identity, 32);
    for (int i = 0; i < q->m->tensors->file_count && good; i++)
        good = add_file(hash, q->m->tensors->files[i]);
    good = good && EVP_DigestFinal_ex(hash, out, NULL);
    EVP_MD_CTX_free(hash);
    for (int i = 0; i < 32; i++)
        snprintf(text + 2 * i, 3, "%02x", out[i]);
    q->folder = cache_folder(&q->arena);
    q->path = q->folder ? arena_format(&q->arena, "%s/%s.gguf", q->folder, text) : NULL;
    return good && q->path ? STATUS_OK : error_memory(q->err, "a cache file's name");
}

/* Opens what is kept; anything but exactly the tensors that are planned is as good as nothing. */
static bool open_kept(struct quantising *q, struct tensor_set **out)
{
    *out = NULL;
    if (!file_exists(q->path) || gguf_open(out, q->path, q->o->no_mmap ? MAPPING_COPY : MAPPING_FILE, NULL))
        return false;
    for (int64_t i = 0; i < q->c.count; i++) {
        const struct tensor *want = &q->c.tensors[i], *have = tensor_find(*out, want->name);
        if (have && have->type == want->type && have->bytes == want->bytes && have->dims == want->dims && !memcmp(have->shape, want->shape, sizeof want->shape))
            continue;
        tensor_set_close(*out);
        *out = NULL;
        return false;
    }
    return true;
}

/* One process writes a file, others wait for it. */
static enum status take_lock(struct quantising *q, int *fd)
{
    char *path = arena_format(&q->arena, "%s.lock", q->path);
    enum status status = path ? file_make_folders(q->folder, q->err) : error_memory(q->err, "a path");
    if (status)
        return status;
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*fd >= 0 && flock(*fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
        log_line(LOG_SAY, "another process is quantising the same model; waiting for it");
    while (*fd >= 0 && flock(*fd, LOCK_EX))
        if (errno != EINTR)
            break; /* a file system without locks: files still appear whole */
    return *fd >= 0 ? STATUS_OK : error_set(q->err, STATUS_FAILED, "%s: cannot create the lock: %s", path, error_errno(errno));
}

/* Under the lock: what a killed process left half-written (the writer's temporary names), and what cannot be read. */
static void remove_rests(struct quantising *q)
{
    const char *name = strrchr(q->path, '/') + 1;
    size_t n = strlen(name);
    DIR *folder = opendir(q->folder);
    for (struct dirent *e; folder && (e = readdir(folder));)
        if (!strncmp(e->d_name, name, n) && strcmp(e->d_name + n, ".lock"))
            unlinkat(dirfd(folder), e->d_name, 0);
    if (folder)
        closedir(folder);
}

struct watching {
    const struct ingot_model_options *o;
    char what[80];
};

static bool watch(void *context, uint64_t done, uint64_t total)
{
    struct watching *w = context;
    if (w->o->progress)
        w->o->progress(w->o->progress_context, w->what, done, total);
    return true;
}

static enum status no_space(struct quantising *q)
{
    return error_prefix(q->err, "quantising to %s needs %.1f MB in %s; make room there, set INGOT_HOME to a folder on another disk, or write the file where it shall be with `ingot convert`",
                        mix_name(q->mix), (double)q->c.bytes / 1e6, q->folder);
}

static enum status write_kept(struct quantising *q)
{
    struct statvfs fs;
    if (!statvfs(q->folder, &fs) && (uint64_t)fs.f_bavail * fs.f_frsize < q->c.bytes + (1 << 20)) {
        error_set(q->err, STATUS_FAILED, "%.1f MB are free", (double)((uint64_t)fs.f_bavail * fs.f_frsize) / 1e6);
        return no_space(q);
    }
    struct watching w = {.o = q->o};
    struct gguf_keys keys = {0};
    struct tensor_writer writer = {.file.fd = -1};
    snprintf(w.what, sizeof w.what, "quantising to %s", mix_name(q->mix));
    log_line(LOG_SAY, "quantising %s to %s, once: kept in %s (%.1f MB)", q->m->path, mix_name(q->mix), q->path, (double)q->c.bytes / 1e6);
    gguf_key_string(&keys, "general.type", "ingot.quantised", 15);
    gguf_key_string(&keys, "general.name", q->m->path, strlen(q->m->path)); /* for a person who looks what this is */
    enum status status = gguf_begin(&writer, q->path, &keys, q->c.tensors, q->c.count, q->err);
    str_free(&keys.bytes);
    if (!status)
        status = conversion_write(&q->c, &writer, watch, &w, q->err);
    if (!status)
        status = tensor_writer_commit(&writer, q->err);
    bool file = status == STATUS_FAILED && q->err && !strncmp(q->err->text, q->path, strlen(q->path)); /* not a weight's fault */
    return file ? no_space(q) : status;
}

static enum status find(struct quantising *q, struct tensor_set **out)
{
    if (open_kept(q, out))
        return STATUS_OK;
    int lock = -1;
    enum status status = take_lock(q, &lock);
    if (!status && !open_kept(q, out)) { /* nobody was quicker */
        remove_rests(q);
        status = write_kept(q);
        if (!status && !open_kept(q, out))
            status = error_set(q->err, STATUS_FAILED, "%s: cannot be read back", q->path);
    }
    if (lock >= 0)
        close(lock);
    return status;
}

static enum status choose_mix(const char *name, const struct mix **out, struct error *err)
{
    char known[400];
    *out = mix_find(name);
    if (!*out || !mix_quantises(*out))
        return error_set(err, STATUS_USAGE, "--quantize %s: not a type that weights can be quantised to; known are none, %s", QUOTE(name, strlen(name)),
                         strstr(mix_list(known, sizeof known), "q8_0"));
    return STATUS_OK;
}

enum status model_quantise(struct model *m, const unsigned char identity[32], const struct ingot_model_options *o, struct error *err)
{
    struct quantising q = {.m = m, .o = o, .identity = identity, .err = err};
    enum status status = choose_mix(o->quantize, &q.mix, err);
    if (!status)
        status = conversion_plan_quantised(&q.c, &q.arena, m, q.mix, err);
    if (!status && o->sizes_only)
        status = model_use(m, q.c.tensors, q.c.count, err);
    if (!status && !o->sizes_only && !(status = name_it(&q)) && !(status = find(&q, &m->quantised))) {
        log_line(LOG_VERBOSE, "quantised to %s: %s", mix_name(q.mix), q.path);
        status = model_use(m, m->quantised->tensors, m->quantised->tensor_count, err);
    }
    if (!status && q.c.narrow)
        log_line(LOG_VERBOSE, "%lld matrices have rows that are no whole number of %s's blocks: they became a type of smaller ones", (long long)q.c.narrow,
                 storage_types[q.c.narrow_wanted].name);
    arena_free(&q.arena);
    return status;
}
