/* Sessions on disk:
 *
 *   "INGOTSES" | u32 version | u32 K type | u32 V type | model identity [32] | u64 tokens | u64 cached | i32 token[tokens]
 *   state: for each cached token, for each group: [layer][head][k_dim] in K's type, then [layer][head][v_dim] in V's type;
 *          float32 in the place of types with scales, which give the same codes when they are written again
 *   of recurrent groups (version 2), if any token is cached: float32 [layer][values]
 *   SHA-256 of everything before it
 *
 * Tokens come first and always; the state goes token by token, so that a longer session is a longer file. It is input like any
 * other when it is read (R8): lengths are held against the file before anything is allocated. */
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "runtime/engine/engine.h"

static const char magic[8] = "INGOTSES";
enum { PAGED_VERSION = 1, RECURRENT_VERSION = 2, HEADER_BYTES = 8 + 3 * 4 + 32 + 2 * 8, HASH_BYTES = 32 };

/* What values of a type are saved as. */
static enum storage saved_as(enum storage type) { return storage_types[type].block_elements == 1 ? type : STORAGE_F32; }

static int64_t saved_bytes(enum storage type) { return storage_types[saved_as(type)].block_bytes; }

/* Values of one token in one group: all layers' K, then all layers' V. */
static void token_values(const struct state_group *g, int64_t *k, int64_t *v)
{
    *k = (int64_t)g->layers * g->heads * g->k_dim;
    *v = g->v_in_k ? 0 : (int64_t)g->layers * g->heads * g->v_dim;
}

static uint64_t token_bytes(const struct program *p, enum storage k_type, enum storage v_type)
{
    uint64_t bytes = 0;
    for (int i = 0; i < p->group_count; i++) {
        int64_t k, v;
        token_values(&p->groups[i], &k, &v);
        bytes += (uint64_t)k * (uint64_t)saved_bytes(k_type) + (uint64_t)v * (uint64_t)saved_bytes(v_type);
    }
    return bytes;
}

static bool is_recurrent(const struct state_group *g) { return g->kind == STATE_RECURRENT; }

static uint64_t slot_values(const struct state_group *g) { return is_recurrent(g) ? (uint64_t)g->layers * (uint64_t)g->values : 0; }

static uint64_t slots_bytes(const struct program *p)
{
    uint64_t values = 0;
    for (int g = 0; g < p->group_count; g++)
        values += slot_values(&p->groups[g]);
    return values * sizeof(float);
}

static uint32_t version_of(const struct program *p) { return slots_bytes(p) ? RECURRENT_VERSION : PAGED_VERSION; }

/* A block of every group as float32 on its way between a session and a file, where tokens come one after another. */
struct passage {
    const struct ingot_engine *engine;
    float *values[MAX_GROUPS]; /* [BLOCK_TOKENS][values of a token]; the first is the allocation */
    unsigned char *bytes;      /* a token of one group as it is saved */
};

static enum status passage_open(struct passage *p, const struct ingot_engine *e, struct error *err)
{
    const struct program *program = &e->model->model->program;
    int64_t k, v, most = 1, all = 1, at = 0;
    *p = (struct passage){.engine = e};
    for (int g = 0; g < program->group_count; g++) {
        token_values(&program->groups[g], &k, &v);
        most = k + v > most ? k + v : most;
        all += (k + v) * BLOCK_TOKENS;
    }
    p->values[0] = malloc((size_t)all * sizeof **p->values);
    p->bytes = malloc((size_t)most * sizeof(float));
    if (!p->values[0] || !p->bytes)
        return error_memory(err, "a session's state");
    for (int g = 0; g < program->group_count; g++) {
        p->values[g] = p->values[0] + at;
        token_values(&program->groups[g], &k, &v);
        at += (k + v) * BLOCK_TOKENS;
    }
    return STATUS_OK;
}

static void passage_close(struct passage *p)
{
    free(p->values[0]);
    free(p->bytes);
}

/* ---- saving ----------------------------------------------------------------------------------------------------------- */

struct saving {
    struct file_writer writer;
    EVP_MD_CTX *hash;
    struct error *err;
};

static enum status put(struct saving *s, const void *data, size_t size)
{
    if (!EVP_DigestUpdate(s->hash, data, size))
        return error_memory(s->err, "a checksum");
    return file_writer_write(&s->writer, data, size, s->err);
}

static enum status put_header(struct saving *s, const struct ingot_session *session)
{
    const struct compile_options *c = &session->engine->compile;
    unsigned char header[HEADER_BYTES];
    uint32_t numbers[3] = {version_of(&session->engine->model->model->program), (uint32_t)c->k_type, (uint32_t)c->v_type};
    uint64_t counts[2] = {session->tokens.count, (uint64_t)session->cached};
    memcpy(header, magic, 8);
    memcpy(header + 8, numbers, 12);
    memcpy(header + 20, session->engine->model->identity, 32);
    memcpy(header + 52, counts, 16);
    enum status status = put(s, header, sizeof header);
    return status ? status : put(s, session->tokens.data, session->tokens.count * sizeof *session->tokens.data);
}

static enum status put_token(struct saving *s, const struct passage *passage, int slot)
{
    const struct ingot_engine *e = passage->engine;
    const struct program *p = &e->model->model->program;
    for (int g = 0; g < p->group_count; g++) {
        int64_t k, v;
        token_values(&p->groups[g], &k, &v);
        const float *values = passage->values[g] + slot * (k + v);
        size_t k_bytes = (size_t)(k * saved_bytes(e->compile.k_type));
        format_find(saved_as(e->compile.k_type))->encode(values, NULL, passage->bytes, k);
        if (v)
            format_find(saved_as(e->compile.v_type))->encode(values + k, NULL, passage->bytes + k_bytes, v);
        enum status status = put(s, passage->bytes, k_bytes + (size_t)(v * saved_bytes(e->compile.v_type)));
        if (status)
            return status;
    }
    return STATUS_OK;
}

/* Block by block: a device is asked once for all of a block's tokens. */
static enum status put_state(struct saving *s, const struct ingot_session *session)
{
    const struct ingot_engine *e = session->engine;
    struct passage passage;
    enum status status = passage_open(&passage, e, s->err);
    for (int64_t at = 0; at < session->cached && !status; at += BLOCK_TOKENS) {
        int count = session->cached - at < BLOCK_TOKENS ? (int)(session->cached - at) : BLOCK_TOKENS;
        for (int g = 0; g < e->pool.group_count && !status; g++)
            if (!e->pool.recurrent[g])
                status = e->backend->read_state(e->compiled, &e->pool.memory, g, session->table[g].blocks[at / BLOCK_TOKENS], 0, count, passage.values[g], s->err);
        for (int slot = 0; slot < count && !status; slot++)
            status = put_token(s, &passage, slot);
    }
    passage_close(&passage);
    return status;
}

static enum status put_slots(struct saving *s, const struct ingot_session *session)
{
    const struct ingot_engine *e = session->engine;
    const struct program *p = &e->model->model->program;
    uint64_t most = slots_bytes(p);
    float *values = session->mark_count ? malloc(most) : NULL;
    enum status status = session->mark_count && !values ? error_memory(s->err, "a session's state") : STATUS_OK;
    for (int g = 0; g < p->group_count && values && !status; g++) {
        if (!is_recurrent(&p->groups[g]))
            continue;
        status = e->backend->read_state(e->compiled, &e->pool.memory, g, session->marks[session->mark_count - 1].slot[g], 0, 0, values, s->err);
        if (!status)
            status = put(s, values, slot_values(&p->groups[g]) * sizeof *values);
    }
    free(values);
    return status;
}

/* While it is written nothing is taken from a session for others. */
static void pin(const struct ingot_session *session, bool pinned)
{
    pthread_mutex_lock(&session->engine->lock);
    ((struct ingot_session *)(uintptr_t)session)->pinned = pinned;
    pthread_mutex_unlock(&session->engine->lock);
}

enum ingot_status ingot_session_save(const struct ingot_session *session, const char *path, struct ingot_error *error)
{
    struct error *err = inner(error);
    if (session->active)
        return (enum ingot_status)error_set(err, STATUS_USAGE, "a request still runs on this session");
    struct saving s = {.hash = EVP_MD_CTX_new(), .err = err};
    unsigned char digest[HASH_BYTES];
    enum status status = s.hash && EVP_DigestInit_ex(s.hash, EVP_sha256(), NULL) ? STATUS_OK : error_memory(err, "a session's file");
    pin(session, true);
    if (!status && !(status = file_writer_begin(&s.writer, path, err))) {
        status = put_header(&s, session);
        if (!status)
            status = put_state(&s, session);
        if (!status)
            status = put_slots(&s, session);
        if (!status && !EVP_DigestFinal_ex(s.hash, digest, NULL))
            status = error_memory(err, "a checksum");
        if (!status)
            status = file_writer_write(&s.writer, digest, sizeof digest, err);
        if (!status)
            status = file_writer_commit(&s.writer, err);
        file_writer_abandon(&s.writer);
    }
    pin(session, false);
    EVP_MD_CTX_free(s.hash);
    return (enum ingot_status)status;
}

/* ---- loading ---------------------------------------------------------------------------------------------------------- */

static enum status check_whole(const struct mapping *m, struct error *err)
{
    unsigned char digest[HASH_BYTES];
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    bool good = m->size >= HEADER_BYTES + HASH_BYTES && memcmp(m->data, magic, 8) == 0;
    if (!good) {
        EVP_MD_CTX_free(hash);
        return error_set(err, STATUS_BAD_INPUT, "%s: no saved session", m->path);
    }
    good = hash && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) && EVP_DigestUpdate(hash, m->data, m->size - HASH_BYTES) &&
           EVP_DigestFinal_ex(hash, digest, NULL);
    EVP_MD_CTX_free(hash);
    if (!good)
        return error_memory(err, "a checksum");
    return memcmp(digest, m->data + m->size - HASH_BYTES, HASH_BYTES) == 0
               ? STATUS_OK
               : error_set(err, STATUS_BAD_INPUT, "%s: the saved session is damaged (its checksum does not match)", m->path);
}

static const unsigned char *take_token(const struct passage *passage, const unsigned char *bytes, int slot)
{
    const struct ingot_engine *e = passage->engine;
    const struct program *p = &e->model->model->program;
    for (int g = 0; g < p->group_count; g++) {
        int64_t k, v;
        token_values(&p->groups[g], &k, &v);
        float *values = passage->values[g] + slot * (k + v);
        format_find(saved_as(e->compile.k_type))->decode(bytes, values, k);
        bytes += (size_t)(k * saved_bytes(e->compile.k_type));
        if (v)
            format_find(saved_as(e->compile.v_type))->decode(bytes, values + k, v);
        bytes += (size_t)(v * saved_bytes(e->compile.v_type));
    }
    return bytes;
}

static enum status take_state(struct ingot_session *s, const unsigned char *bytes, int64_t cached, struct error *err)
{
    struct ingot_engine *e = s->engine;
    struct passage passage;
    enum status status = passage_open(&passage, e, err);
    for (int64_t at = 0; at < cached && !status; at += BLOCK_TOKENS) {
        int count = cached - at < BLOCK_TOKENS ? (int)(cached - at) : BLOCK_TOKENS;
        for (int slot = 0; slot < count; slot++)
            bytes = take_token(&passage, bytes, slot);
        for (int g = 0; g < e->pool.group_count && !status; g++)
            if (!e->pool.recurrent[g])
                status = e->backend->write_state(e->compiled, &e->pool.memory, g, s->table[g].blocks[at / BLOCK_TOKENS], 0, count, passage.values[g], err);
    }
    passage_close(&passage);
    return status;
}

/* With s->slots begun. */
static enum status take_slots(struct ingot_session *s, const unsigned char *bytes, struct error *err)
{
    struct ingot_engine *e = s->engine;
    const struct program *p = &e->model->model->program;
    float *values = malloc(slots_bytes(p) + 1); /* the file's are not aligned */
    enum status status = values ? STATUS_OK : error_memory(err, "a session's state");
    for (int g = 0; g < p->group_count && !status; g++) {
        size_t size = slot_values(&p->groups[g]) * sizeof *values;
        if (!is_recurrent(&p->groups[g]))
            continue;
        memcpy(values, bytes, size);
        bytes += size;
        status = e->backend->write_state(e->compiled, &e->pool.memory, g, s->slots[g][1], 0, 0, values, err);
    }
    free(values);
    return status;
}

/* bytes: what lies behind the tokens. */
static enum status restore_state(struct ingot_session *s, const unsigned char *bytes, int64_t cached, struct error *err)
{
    struct ingot_engine *e = s->engine;
    const struct program *p = &e->model->model->program;
    bool remembers = e->pool.remembers && cached;
    pthread_mutex_lock(&e->lock);
    enum status status = session_reserve(s, cached, err);
    if (!status && remembers)
        status = marks_begin(s, err);
    pthread_mutex_unlock(&e->lock);
    if (status)
        return status;
    status = take_state(s, bytes, cached, err);
    if (!status && remembers)
        status = take_slots(s, bytes + (uint64_t)cached * token_bytes(p, e->compile.k_type, e->compile.v_type), err);
    pthread_mutex_lock(&e->lock);
    if (status)
        marks_give_up(s);
    else if (remembers)
        marks_advance(s, cached, false);
    else
        s->cached = cached;
    pthread_mutex_unlock(&e->lock);
    return status;
}

static enum status restore(struct ingot_session *s, const struct mapping *m, struct error *err)
{
    struct ingot_engine *e = s->engine;
    const struct program *p = &e->model->model->program;
    uint32_t numbers[3];
    uint64_t counts[2], rest = m->size - HEADER_BYTES - HASH_BYTES, state;
    memcpy(numbers, m->data + 8, 12);
    memcpy(counts, m->data + 52, 16);
    if (numbers[0] != PAGED_VERSION && numbers[0] != RECURRENT_VERSION)
        return error_set(err, STATUS_BAD_INPUT, "%s: session format %u; this program reads %d and %d", m->path, numbers[0], PAGED_VERSION, RECURRENT_VERSION);
    if (memcmp(m->data + 20, e->model->identity, 32) != 0)
        return error_set(err, STATUS_BAD_INPUT, "%s: the session belongs to another model", m->path);
    if (numbers[0] != version_of(p))
        return error_set(err, STATUS_BAD_INPUT, "%s: session format %u; this model's is %u", m->path, numbers[0], version_of(p));
    bool plain = numbers[1] < STORAGE_COUNT && numbers[2] < STORAGE_COUNT && state_storage((enum storage)numbers[1]) && state_storage((enum storage)numbers[2]);
    if (!plain || counts[0] > rest / 4 || counts[1] > counts[0] ||
        __builtin_mul_overflow(counts[1], token_bytes(p, (enum storage)numbers[1], (enum storage)numbers[2]), &state) ||
        __builtin_add_overflow(state, counts[1] ? slots_bytes(p) : 0, &state) || state != rest - counts[0] * 4)
        return error_set(err, STATUS_BAD_INPUT, "%s: the counts in the saved session contradict its size", m->path);
    const unsigned char *at = m->data + HEADER_BYTES;
    for (uint64_t i = 0; i < counts[0]; i++) {
        int32_t id;
        memcpy(&id, at + 4 * i, 4);
        enum ingot_status status = ingot_session_append(s, &id, 1, (struct ingot_error *)err);
        if (status)
            return (enum status)status;
    }
    if (numbers[1] != (uint32_t)e->compile.k_type || numbers[2] != (uint32_t)e->compile.v_type) {
        log_line(LOG_SAY, "%s: saved with another KV type: %llu tokens will be computed again", m->path, (unsigned long long)counts[1]);
        return STATUS_OK;
    }
    return restore_state(s, at + counts[0] * 4, (int64_t)counts[1], err);
}

enum ingot_status ingot_session_load(struct ingot_session **out, struct ingot_engine *engine, const char *path, struct ingot_error *error)
{
    struct error *err = inner(error);
    struct mapping *m;
    *out = NULL;
    enum status status = mapping_open(&m, path, MAPPING_FILE, err);
    if (status)
        return (enum ingot_status)status;
    if (!(status = check_whole(m, err)) && !(status = (enum status)ingot_session_open(out, engine, error)))
        status = restore(*out, m, err);
    if (status) {
        ingot_session_close(*out);
        *out = NULL;
    }
    mapping_close(m);
    return (enum ingot_status)status;
}
