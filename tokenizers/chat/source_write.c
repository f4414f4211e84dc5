/* Chat templates and named tokens on their way into another container. */
#include <inttypes.h>
#include <string.h>

#include "base/files/writer.h"
#include "tokenizers/tokenizers.h"

void chat_source_write_json(const struct chat_source *s, int64_t context, bool adds_bos, struct str *out)
{
    str_format(out, "{\n  \"add_bos_token\": %s,\n", adds_bos ? "true" : "false");
    for (uint32_t i = 0; i < s->token_count; i++) {
        const struct json_member *m = &s->tokens[i];
        str_add_text(out, "  ");
        json_write_string(out, m->key, m->key_size);
        str_add_text(out, ": ");
        json_write(out, &m->value);
        str_add_text(out, ",\n");
    }
    if (s->count == 1 && !strcmp(s->templates[0].name, "default")) {
        str_add_text(out, "  \"chat_template\": ");
        json_write_string(out, s->templates[0].text, s->templates[0].size);
        str_add_text(out, ",\n");
    } else if (s->count) {
        str_add_text(out, "  \"chat_template\": [");
        for (int i = 0; i < s->count; i++) {
            str_add_text(out, i ? ", {\"name\": " : "{\"name\": ");
            json_write_string(out, s->templates[i].name, strlen(s->templates[i].name));
            str_add_text(out, ", \"template\": ");
            json_write_string(out, s->templates[i].text, s->templates[i].size);
            str_add_char(out, '}');
        }
        str_add_text(out, "],\n");
    }
    /* the class that follows tokenizer.json to the letter; LlamaTokenizer would build its own from the vocabulary */
    str_format(out, "  \"clean_up_tokenization_spaces\": false,\n  \"model_max_length\": %" PRId64 ",\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\"\n}\n",
               context);
}

void chat_source_write_gguf(const struct chat_source *s, struct gguf_keys *keys)
{
    int others = 0;
    for (int i = 0; i < s->count; i++) {
        char key[300];
        size_t n = strlen(s->templates[i].name);
        if (!strcmp(s->templates[i].name, "default") || s->count == 1) {
            gguf_key_string(keys, "tokenizer.chat_template", s->templates[i].text, s->templates[i].size);
        } else if (n < sizeof key - 40) {
            memcpy(key, "tokenizer.chat_template.", 24);
            memcpy(key + 24, s->templates[i].name, n + 1);
            gguf_key_string(keys, key, s->templates[i].text, s->templates[i].size);
            others++;
        }
    }
    if (!others)
        return;
    gguf_key_array(keys, "tokenizer.chat_templates", META_STRING, (uint64_t)others);
    for (int i = 0; i < s->count; i++)
        if (strcmp(s->templates[i].name, "default") && strlen(s->templates[i].name) < 260)
            gguf_add_string(keys, s->templates[i].name, strlen(s->templates[i].name));
}
