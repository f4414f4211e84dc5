/* Published vocabularies and their vectors, where shared/vocab is beside the checkout: the small one that lies there
 * unpacked. The whole set is run by shared/checks/tokenizers.py. */
#include "tiny.h"

#include "base/file.h"

static void check_line(const struct tokenizer *t, const struct json *v, int line)
{
    const struct json *text = json_get(v, "text"), *want = json_get(v, "ids"), *forms = json_get(v, "forms");
    struct encode_options how = {0};
    struct ids ids = {0};
    struct error err = {0};
    if (!json_is(text, JSON_STRING) || !json_is(want, JSON_ARRAY) || (forms && !(forms->size && json_is_text(&forms->items[0], "gguf"))))
        return;
    json_bool(json_get(v, "add_special"), &how.add_special);
    json_bool(json_get(v, "parse_special"), &how.parse_special);
    cr_assert_eq(tokenizer_encode(t, text->text, text->size, how, &ids, &err), STATUS_OK, "line %d: %s", line, err.text);
    cr_expect_eq(ids.count, want->size, "line %d: %zu ids instead of %u", line, ids.count, want->size);
    for (uint32_t i = 0; i < want->size && i < ids.count; i++) {
        int64_t id;
        cr_assert(json_int(&want->items[i], &id));
        cr_expect_eq(ids.data[i], id, "line %d, id %u", line, i);
    }
    ids_free(&ids);
}

Test(shared, llama_spm)
{
    if (!file_exists(TEST_SHARED "/vocab/gguf/llama-spm.gguf"))
        cr_skip_test("shared/vocab is absent");
    struct tensor_set *set;
    struct tokenizer *t;
    struct arena arena = {0};
    struct error err = {0};
    char *text;
    size_t size;
    cr_assert_eq(gguf_open(&set, TEST_SHARED "/vocab/gguf/llama-spm.gguf", MAPPING_FILE, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(tokenizer_open_gguf(&t, set, &err), STATUS_OK, "%s", err.text);
    tensor_set_close(set);
    cr_assert_eq(file_read(&arena, TEST_SHARED "/vocab/vectors/llama-spm.jsonl", 64 << 20, &text, &size, &err), STATUS_OK, "%s", err.text);
    int line = 1;
    for (char *at = text, *end; at < text + size; at = end + 1, line++) {
        struct json v;
        end = memchr(at, '\n', (size_t)(text + size - at));
        end = end ? end : text + size;
        cr_assert_eq(json_parse(&arena, at, (size_t)(end - at), NULL, &v, &err), STATUS_OK, "%s", err.text);
        check_line(t, &v, line);
    }
    cr_expect_gt(line, 400);
    arena_free(&arena);
    tokenizer_close(t);
}
