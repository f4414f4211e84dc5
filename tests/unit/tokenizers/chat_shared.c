/* Published templates, where the shared data lies beside the checkout: each compiles and renders a plain conversation, or
 * refuses it with words; the small Jinja cases give their recorded text. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "tokenizers/tokenizers.h"

Test(shared, templates_compile)
{
    DIR *folder = opendir(TEST_SHARED "/templates");
    int count = 0;
    if (!folder)
        cr_skip_test("shared/templates is absent");
    const char *request = "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}, {\"role\": \"assistant\", \"content\": \"yo\"},"
                          "{\"role\": \"user\", \"content\": \"bye\"}], \"add_generation_prompt\": true}";
    for (struct dirent *entry; (entry = readdir(folder));) {
        struct arena arena = {0};
        struct error err = {0};
        struct json root, context;
        struct chat_template *t = NULL;
        struct chat_text out = {0};
        char path[600], *text;
        size_t size;
        if (!strstr(entry->d_name, ".jinja") || strstr(entry->d_name, ".jsonl"))
            continue;
        snprintf(path, sizeof path, "%s/templates/%s", TEST_SHARED, entry->d_name);
        cr_assert_eq(file_read(&arena, path, 1 << 20, &text, &size, &err), STATUS_OK, "%s", err.text);
        cr_expect_eq(chat_compile(&t, entry->d_name, text, size, &err), STATUS_OK, "%s", err.text);
        cr_assert_eq(json_parse(&arena, request, strlen(request), NULL, &root, &err), STATUS_OK);
        cr_assert_eq(chat_context(&arena, &root, NULL, &context, &err), STATUS_OK);
        enum status status = t ? chat_render(t, &context, "2026-01-02T03:04:05", NULL, &out, &err) : STATUS_FAILED;
        cr_expect(status == STATUS_OK ? out.text.size > 0 : err.text[0] != 0, "%s", entry->d_name);
        count++;
        chat_text_free(&out);
        chat_free(t);
        arena_free(&arena);
    }
    closedir(folder);
    cr_expect_geq(count, 60);
}

static bool case_passes(const struct json *line, struct error *err)
{
    const struct json *template = json_get(line, "template"), *text = json_get(line, "text"), *error = json_get(line, "error");
    struct chat_template *t = NULL;
    struct chat_text out = {0};
    enum status status = chat_compile(&t, "template", template->text, template->size, err);
    if (!status)
        status = chat_render(t, json_get(line, "context"), "2026-01-02T03:04:05", NULL, &out, err);
    bool same = json_is(error, JSON_BOOL) && error->truth ? status != STATUS_OK
                                                          : !status && json_is(text, JSON_STRING) && text->size == out.text.size &&
                                                                memcmp(text->text, str_text(&out.text), text->size) == 0;
    chat_text_free(&out);
    chat_free(t);
    return same;
}

Test(shared, jinja_cases)
{
    struct arena arena = {0};
    struct error err = {0};
    char *text;
    size_t size;
    if (!file_exists(TEST_SHARED "/templates/jinja.jsonl"))
        cr_skip_test("shared/templates is absent");
    cr_assert_eq(file_read(&arena, TEST_SHARED "/templates/jinja.jsonl", 16 << 20, &text, &size, &err), STATUS_OK);
    for (char *line = text, *next; line < text + size; line = next + 1) {
        struct json root;
        next = memchr(line, '\n', (size_t)(text + size - line));
        if (!next)
            break;
        cr_assert_eq(json_parse(&arena, line, (size_t)(next - line), NULL, &root, &err), STATUS_OK, "%s", err.text);
        cr_expect(case_passes(&root, &err), "%.120s", line);
    }
    arena_free(&arena);
}
