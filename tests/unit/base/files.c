/* Containers: what they hand out, and what they refuse with words that help. Hostile files of all kinds are in the fuzz targets. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/files/tensors.h"
#include "base/str.h"

static char folder[64];

static void begin(void)
{
    strcpy(folder, "/tmp/ingot-files-XXXXXX");
    cr_assert(mkdtemp(folder));
}

static void end(void)
{
    char command[100];
    snprintf(command, sizeof command, "rm -r %s", folder);
    cr_assert_eq(system(command), 0);
}

static const char *put(const char *name, const struct str *s)
{
    static char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    cr_assert(f && fwrite(str_text(s), 1, s->size, f) == s->size && !fclose(f));
    return path;
}

static void u32(struct str *s, uint32_t v) { str_add(s, &v, 4); }
static void u64(struct str *s, uint64_t v) { str_add(s, &v, 8); }
static void text(struct str *s, const char *t)
{
    u64(s, strlen(t));
    str_add_text(s, t);
}

/* A GGUF file with one tensor of 32 F32 values, and split keys where count > 0. */
static struct str gguf(const char *tensor, int part, int count, float first)
{
    struct str s = {0};
    str_add(&s, "GGUF", 4);
    u32(&s, 3);
    u64(&s, 1);
    u64(&s, 1 + 2 * (count > 0));
    text(&s, "answer");
    u32(&s, META_I32);
    u32(&s, (uint32_t)-42);
    if (count) {
        text(&s, "split.no");
        u32(&s, META_U16);
        str_add(&s, &(uint16_t){(uint16_t)part}, 2);
        text(&s, "split.count");
        u32(&s, META_U16);
        str_add(&s, &(uint16_t){(uint16_t)count}, 2);
    }
    text(&s, tensor);
    u32(&s, 1);
    u64(&s, 32);
    u32(&s, 0);
    u64(&s, 0);
    while (s.size % 32)
        str_add_char(&s, 0);
    for (int i = 0; i < 32; i++, first++)
        str_add(&s, &first, 4);
    return s;
}

Test(files, a_split_gguf_is_one_set, .init = begin, .fini = end)
{
    struct tensor_set *set;
    struct error err;
    struct str a = gguf("a", 0, 2, 0), b = gguf("b", 1, 2, 100);
    put("m-00001-of-00002.gguf", &a);
    const char *second = put("m-00002-of-00002.gguf", &b); /* any part brings the others */
    cr_assert_eq(gguf_open(&set, second, MAPPING_FILE, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(set->tensor_count, 2);
    float v;
    memcpy(&v, tensor_find(set, "b")->data + 4, 4);
    cr_assert_eq(v, 101.0f);
    int64_t answer = 0;
    bool found;
    cr_assert_eq(meta_int(set, "answer", &answer, &found, &err), STATUS_OK);
    cr_assert(found && answer == -42);
    const char *words;
    uint64_t size;
    cr_assert_eq(meta_string(set, "answer", &words, &size, &found, &err), STATUS_BAD_INPUT, "a getter names its type");
    cr_assert(strstr(err.text, "answer"));
    tensor_set_close(set);
    str_free(&a);
    str_free(&b);
}

Test(files, a_missing_part_is_named, .init = begin, .fini = end)
{
    struct tensor_set *set;
    struct error err;
    struct str a = gguf("a", 0, 2, 0);
    cr_assert_eq(gguf_open(&set, put("m-00001-of-00002.gguf", &a), MAPPING_FILE, &err), STATUS_NOT_FOUND);
    cr_assert(strstr(err.text, "m-00002-of-00002.gguf") && strstr(err.text, "missing"), "%s", err.text);
    cr_assert_eq(gguf_open(&set, put("renamed.gguf", &a), MAPPING_FILE, &err), STATUS_BAD_INPUT, "a part under another name");
    cr_assert(strstr(err.text, "split.count"), "%s", err.text);
    str_free(&a);
}

Test(files, a_copy_has_the_same_bytes, .init = begin, .fini = end)
{
    struct tensor_set *mapped, *copied;
    struct error err;
    struct str a = gguf("a", 0, 0, 7);
    const char *path = put("m.gguf", &a);
    cr_assert_eq(gguf_open(&mapped, path, MAPPING_FILE, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(gguf_open(&copied, path, MAPPING_COPY, &err), STATUS_OK, "%s", err.text);
    cr_assert(memcmp(mapped->tensors[0].data, copied->tensors[0].data, 128) == 0);
    tensor_set_close(mapped);
    tensor_set_close(copied);
    str_free(&a);
}

static struct str safetensors(const char *header, size_t data)
{
    struct str s = {0};
    u64(&s, strlen(header));
    str_add_text(&s, header);
    for (size_t i = 0; i < data; i++)
        str_add_char(&s, (char)i);
    return s;
}

Test(files, safetensors_keep_their_rules, .init = begin, .fini = end)
{
    static const struct {
        const char *header;
        size_t data;
        const char *words; /* NULL: fine */
    } cases[] = {
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]}}", 8, NULL},
        {"{\"a\": {\"dtype\": \"BF16\", \"shape\": [0, 3], \"data_offsets\": [0, 0]}, \"__metadata__\": {\"format\": \"pt\"}}", 0, NULL},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]}}", 9, "follow the last tensor"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]}}", 7, "outside the file"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [3], \"data_offsets\": [0, 8]}}", 8, "do not match"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [4, 8]}}", 8, "hole"},
        {"{\"a\": {\"dtype\": \"I8\", \"shape\": [6], \"data_offsets\": [0, 6]}, \"b\": {\"dtype\": \"I8\", \"shape\": [4], \"data_offsets\": [4, 8]}}", 8, "shares"},
        {"{\"a\": {\"dtype\": \"F99\", \"shape\": [2], \"data_offsets\": [0, 8]}}", 8, "F99"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]}, \"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]}}", 8, "twice"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [4611686018427387905, 4], \"data_offsets\": [0, 16]}}", 16, "64 bits"},
        {"{\"__metadata__\": {\"a\": 1}}", 0, "__metadata__"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tensor_set *set;
        struct error err = {0};
        struct str s = safetensors(cases[i].header, cases[i].data);
        enum status status = safetensors_open(&set, put("x.safetensors", &s), MAPPING_FILE, &err);
        cr_assert_eq(status, cases[i].words ? STATUS_BAD_INPUT : STATUS_OK, "case %zu: %s", i, err.text);
        cr_assert(!cases[i].words || strstr(err.text, cases[i].words), "case %zu: %s", i, err.text);
        if (!status)
            tensor_set_close(set);
        str_free(&s);
    }
}
