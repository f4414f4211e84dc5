/* Checkpoints that do not fit together: the tensor or key is named. */
#include <criterion/criterion.h>

#include "models/model.h"
#include "tests/tiny_model.h"

/* Replaces the first `from` in a file of the folder by `to`; for the weights both must have one length. */
static void change(const char *folder, const char *file, const char *from, const char *to)
{
    char path[700];
    static char text[1 << 20];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    FILE *f = fopen(path, "rb");
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    char *at = memmem(text, n, from, strlen(from));
    cr_assert(at, "%s holds %s", file, from);
    f = fopen(path, "wb");
    fwrite(text, 1, (size_t)(at - text), f);
    fputs(to, f);
    fwrite(at + strlen(from), 1, n - (size_t)(at - text) - strlen(from), f);
    fclose(f);
}

static void refuse(const char *model, const char *file, const char *from, const char *to, const char *words)
{
    char *folder = tiny_make(model);
    struct model *m;
    struct error err = {0};
    change(folder, file, from, to);
    enum status status = model_open(&m, folder, MAPPING_FILE, &err);
    cr_assert_eq(status, STATUS_BAD_INPUT, "%s", to);
    cr_assert(strstr(err.text, words), "%s", err.text);
    cr_assert(strstr(err.text, folder), "the message names the place: %s", err.text);
    tiny_remove(folder);
}

Test(refused, a_tensor_is_missing) { refuse("plain", "model.safetensors", "layers.1.mlp.up_proj", "layers.1.mlp.ux_proj", "model.layers.1.mlp.up_proj.weight is missing"); }

Test(refused, a_tensor_has_the_wrong_shape) { refuse("plain", "model.safetensors", "\"shape\": [24, 48]", "\"shape\": [48, 24]", "self_attn.k_proj.weight has shape [48, 24] where [24, 48]"); }

Test(refused, more_layers_than_weights) { refuse("plain", "config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1000000000", "num_hidden_layers"); }

Test(refused, a_bias_that_is_promised_and_absent) { refuse("plain", "config.json", "\"hidden_size\"", "\"attention_bias\": true, \"hidden_size\"", "q_proj.bias is missing"); }

Test(refused, unknown_values)
{
    refuse("plain", "config.json", "\"model_type\": \"llama\"", "\"model_type\": \"frob\"", "built in are llama, mistral");
    refuse("linear", "config.json", "\"linear\"", "\"frobs\"", "frobs");
    refuse("plain", "config.json", "\"hidden_size\"", "\"quantization_config\": {\"quant_method\": \"frob\"}, \"hidden_size\"", "frob");
    refuse("plain", "config.json", "\"hidden_size\"", "\"hidden_act\": \"frob\", \"hidden_size\"", "frob");
}

Test(refused, prefixes_and_spellings_are_taken)
{
    static const char *const prefixes[][2] = {{"\"model.", "\""}, {"\"model.", "\"transformer."}};
    for (size_t i = 0; i < 2; i++) { /* the base model's prefix may be absent or another: rewrite every name, lengths included */
        char *folder = tiny_make("plain"), path[700];
        static char text[1 << 20];
        struct str header = {0}, file = {0};
        snprintf(path, sizeof path, "%s/model.safetensors", folder);
        FILE *f = fopen(path, "rb");
        size_t n = fread(text, 1, sizeof text, f);
        fclose(f);
        uint64_t length;
        memcpy(&length, text, 8);
        const char *at = text + 8, *end = text + 8 + length, *hit;
        while ((hit = memmem(at, (size_t)(end - at), prefixes[i][0], strlen(prefixes[i][0])))) {
            str_add(&header, at, (size_t)(hit - at));
            str_add_text(&header, prefixes[i][1]);
            at = hit + strlen(prefixes[i][0]);
        }
        str_add(&header, at, (size_t)(end - at));
        length = header.size;
        str_add(&file, &length, 8);
        str_add(&file, header.data, header.size);
        str_add(&file, end, n - (size_t)(end - text));
        tiny_write(folder, "model.safetensors", file.data, file.size);
        struct model *m;
        struct error err;
        cr_assert_eq(model_open(&m, folder, MAPPING_FILE, &err), STATUS_OK, "%s", err.text);
        model_close(m);
        str_free(&header);
        str_free(&file);
        tiny_remove(folder);
    }
}
