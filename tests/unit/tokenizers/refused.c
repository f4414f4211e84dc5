/* Files that must be refused, and what the message has to name. */
#include "tiny.h"

#define OK_MODEL MODEL("", "\"a\": 0", "")

Test(refused, what_is_unknown_or_not_built_yet)
{
    tiny_refused("{\"normalizer\": {\"type\": \"Frob\"}, " OK_MODEL "}", "Frob");
    tiny_refused("{\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Frob\"}]}, " OK_MODEL "}", "Frob");
    tiny_refused("{\"pre_tokenizer\": {\"type\": \"UnicodeScripts\"}, " OK_MODEL "}", "UnicodeScripts");
    tiny_refused("{\"normalizer\": {\"type\": \"Precompiled\"}, " OK_MODEL "}", "precompiled_charsmap");
    tiny_refused("{\"normalizer\": {\"type\": \"Precompiled\", \"precompiled_charsmap\": \"AAEAAA==\"}, " OK_MODEL "}", "trie");
    tiny_refused("{\"normalizer\": {\"type\": \"Precompiled\", \"precompiled_charsmap\": \"AAEAAAA!\"}, " OK_MODEL "}", "base64");
    tiny_refused("{\"model\": {\"type\": \"Unigram\", \"unk_id\": 1, \"vocab\": [[\"a\", 0]]}}", "unk_id");
    tiny_refused("{\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\"]]}}", "entry 0");
    tiny_refused("{\"model\": {\"type\": \"Unigram\", \"vocab\": {\"a\": 0}}}", "an object");
    tiny_refused("{\"model\": {\"type\": \"WordPiece\", \"vocab\": []}}", "an array");
    tiny_refused("{\"model\": {\"type\": \"Frob\"}}", "Frob");
}

Test(refused, what_is_missing_or_of_the_wrong_type)
{
    tiny_refused("[]", "an array");
    tiny_refused("{}", "model");
    tiny_refused("{\"model\": {\"vocab\": {}}}", "type");
    tiny_refused("{\"model\": {\"type\": \"BPE\", \"vocab\": [], \"merges\": []}}", "vocab");
    tiny_refused("{\"model\": {\"type\": \"BPE\", \"vocab\": {}}}", "merges");
    tiny_refused("{" MODEL("", "\"a\": -1", "") "}", "\"a\"");
    tiny_refused("{" MODEL("", "\"a\": 2147483648", "") "}", "\"a\"");
    tiny_refused("{" MODEL("", "\"a\": 1e400", "") "}", "\"a\"");
    tiny_refused("{" MODEL("", "\"a\": 0, \"a\": 1", "") "}", "twice");
    tiny_refused("{" MODEL("", "\"a\": 0, \"b\": 0", "") "}", "same id");
    tiny_refused("{" MODEL("\"fuse_unk\": 3, ", "\"a\": 0", "") "}", "fuse_unk");
    tiny_refused("{" MODEL("\"unk_token\": \"?\", ", "\"a\": 0", "") "}", "unk_token");
    tiny_refused("{" MODEL("", "\"a\": 0", "\"a zzz\"") "}", "zzz");
    tiny_refused("{" MODEL("", "\"a\": 0", "\"a a\"") "}", "aa");
    tiny_refused("{" MODEL("", "\"a\": 0", "\"a a a\"") "}", "merge");
    tiny_refused("{" MODEL("", "\"a\": 0", "5") "}", "merge");
    tiny_refused("{\"added_tokens\": [{\"id\": \"x\", \"content\": \"y\"}], " OK_MODEL "}", "id");
    tiny_refused("{\"added_tokens\": [{\"id\": 1, \"content\": 5}], " OK_MODEL "}", "content");
    tiny_refused("{\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"(a\"}}, " OK_MODEL "}", "(a");
    tiny_refused("{\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"String\": \"a\"}, \"behavior\": \"Gone\"}, " OK_MODEL "}", "Gone");
    tiny_refused("{\"pre_tokenizer\": {\"type\": \"Metaspace\", \"prepend_scheme\": \"maybe\"}, " OK_MODEL "}", "prepend_scheme");
    tiny_refused("{\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": []}, " OK_MODEL "}", "Sequence");
    tiny_refused("{" OK_MODEL, "JSON");
}

Test(refused, too_many_steps)
{
    struct str s = {0};
    str_add_text(&s, "{\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [");
    for (int i = 0; i < 100; i++)
        str_add_text(&s, i ? ", {\"type\": \"NFC\"}" : "{\"type\": \"NFC\"}");
    str_add_text(&s, "]}, " OK_MODEL "}");
    tiny_refused(s.data, "normalizers");
    str_free(&s);
}

Test(refused, normalizers_that_multiply)
{
    struct str s = {0};
    struct ids ids = {0};
    struct error err = {0};
    str_add_text(&s, "{\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [");
    for (int i = 0; i < 14; i++)
        str_format(&s, "%s{\"type\": \"Replace\", \"pattern\": {\"String\": \"a\"}, \"content\": \"aaaaaaaaaa\"}", i ? ", " : "");
    str_add_text(&s, "]}, " OK_MODEL "}");
    struct tokenizer *t = tiny_open(s.data);
    cr_expect_eq(tokenizer_encode(t, "a", 1, (struct encode_options){0}, &ids, &err), STATUS_FAILED);
    cr_expect(strstr(err.text, "normalizers"));
    cr_expect_eq(ids.count, 0);
    tokenizer_close(t);
    str_free(&s);
}
