/* Where templates and special tokens are found, and which template a request gets. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tokenizers/tokenizers.h"

static char folder[] = "/tmp/chat_source_XXXXXX";
static const char *const files[] = {"tokenizer_config.json", "chat_template.jinja", "additional_chat_templates/tool_use.jinja",
                                    "special_tokens_map.json"};

static void begin(void)
{
    char path[200];
    cr_assert(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/additional_chat_templates", folder);
    cr_assert_eq(mkdir(path, 0700), 0);
}

static void end(void)
{
    char path[200];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/additional_chat_templates", folder);
    rmdir(path);
    rmdir(folder);
}

static void put(const char *name, const char *text)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    cr_assert(f);
    fputs(text, f);
    fclose(f);
}

TestSuite(source, .init = begin, .fini = end);

static const char *choose(const struct chat_source *s, const char *name, bool tools)
{
    struct error err = {0};
    const struct chat_named *found = chat_choose(s, name, tools, &err);
    return found ? found->text : "none";
}

Test(source, a_list_in_the_configuration)
{
    struct chat_source s;
    struct error err = {0};
    put("tokenizer_config.json", "{\"bos_token\": {\"content\": \"<s>\"}, \"eos_token\": \"</s>\", \"pad_token\": null, \"add_bos_token\": true,"
                                 "\"chat_template\": [{\"name\": \"default\", \"template\": \"D\"}, {\"name\": \"tool_use\", \"template\": \"T\"}]}");
    put("special_tokens_map.json", "{\"eos_token\": \"other\", \"cls_token\": \"<c>\"}");
    cr_assert_eq(chat_source_open(&s, folder, &err), STATUS_OK, "%s", err.text);
    cr_expect_str_eq(choose(&s, NULL, false), "D");
    cr_expect_str_eq(choose(&s, NULL, true), "T");
    cr_expect_str_eq(choose(&s, "default", true), "D");
    cr_expect_str_eq(choose(&s, "rag", false), "none");
    cr_assert_eq(s.token_count, 3);
    cr_expect(json_is_text(&s.tokens[0].value, "<s>") && json_is_text(&s.tokens[1].value, "</s>") && json_is_text(&s.tokens[2].value, "<c>"));
    chat_source_close(&s);
}

Test(source, files_win)
{
    struct chat_source s;
    struct error err = {0};
    put("tokenizer_config.json", "{\"chat_template\": \"C\"}");
    put("chat_template.jinja", "F");
    put("additional_chat_templates/tool_use.jinja", "U");
    cr_assert_eq(chat_source_open(&s, folder, &err), STATUS_OK, "%s", err.text);
    cr_expect_str_eq(choose(&s, NULL, false), "F");
    cr_expect_str_eq(choose(&s, NULL, true), "U");
    chat_source_close(&s);
}

Test(source, none_and_broken)
{
    struct chat_source s;
    struct error err = {0};
    cr_expect_eq(chat_source_open(&s, folder, &err), STATUS_OK);
    cr_expect_eq(s.count, 0);
    cr_expect_str_eq(choose(&s, NULL, false), "none");
    put("tokenizer_config.json", "{\"chat_template\": 5}");
    cr_expect_eq(chat_source_open(&s, folder, &err), STATUS_BAD_INPUT);
    cr_expect(strstr(err.text, "tokenizer_config.json") && strstr(err.text, "chat_template"), "%s", err.text);
}
