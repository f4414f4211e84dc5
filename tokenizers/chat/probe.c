/* What a template can take: small requests with marker words are rendered, and where the markers land is looked at. Nothing
 * goes by a model's name. */
#include <string.h>

#include "tokenizers/chat/chat.h"

struct probe {
    const struct chat_template *template;
    const struct chat_source *source;
    char base[160];      /* what every request needs: `"tools": []`, ... */
    struct chat_text text;
};

/* A tool whose every field templates ask for; BARE has the name alone. */
#define TOOL                                                                                                                 \
    "\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"mtool\", \"description\": \"mdescribed\", \"parameters\": "  \
    "{\"type\": \"object\", \"properties\": {\"mkey\": {\"type\": \"string\", \"description\": \"m\"}}, \"required\": [\"mkey\"]}}}], "
#define TOOL_UNDESCRIBED                                                                                                     \
    "\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"mtool\", \"description\": \"mdescribed\", \"parameters\": "  \
    "{\"type\": \"object\", \"properties\": {\"mkey\": {\"type\": \"string\"}}}}}], "
#define BARE_TOOL "\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"mtool\"}}], "
#define USER "{\"role\": \"user\", \"content\": \"muser\"}"
#define PARTS "\"content\": [{\"type\": \"text\", \"text\": \"mfirst\"}, {\"type\": \"text\", \"text\": \"mother\"}]"
#define ASSISTANT "{\"role\": \"assistant\", \"content\": \"mreply\"}"
#define CALL(id, arguments) "{\"type\": \"function\", \"id\": \"" id "\", \"function\": {\"name\": \"mtool\", \"arguments\": " arguments "}}"
#define CALLS(content, calls) "{\"role\": \"assistant\", " content "\"tool_calls\": [" calls "]}"
#define RESULT(id, text) "{\"role\": \"tool\", \"tool_call_id\": \"" id "\", \"name\": \"mtool\", \"content\": \"" text "\"}"
#define ID "abcdEF123"
#define OBJECT "{\"mkey\": \"mvalue\"}"

/* Renders {extra, "messages": [messages]}; false: the template refuses it. */
static bool renders(struct probe *p, const char *extra, const char *messages)
{
    static const struct chat_limits small = {.steps = 1000000, .output = 1 << 20, .memory = 16 << 20, .depth = 100};
    struct arena arena = {0};
    struct str text = {0};
    struct json request, context;
    struct error ignored;
    chat_text_free(&p->text);
    str_format(&text, "{%s%s\"add_generation_prompt\": true, \"messages\": [%s]}", p->base, extra, messages);
    bool good = !text.failed && !json_parse(&arena, str_text(&text), text.size, NULL, &request, &ignored) &&
                !chat_context(&arena, &request, p->source, &context, &ignored) &&
                !chat_render(p->template, &context, "2026-01-02T03:04:05", &small, &p->text, &ignored);
    arena_free(&arena);
    str_free(&text);
    return good;
}

static const char *found(const struct probe *p, const char *marker) { return strstr(str_text(&p->text.text), marker); }

static bool shows(struct probe *p, const char *extra, const char *messages, const char *marker, const char *second)
{
    return renders(p, extra, messages) && found(p, marker) && (!second || found(p, second));
}

/* Some templates read variables that nobody but their own loader defines, or a list of tools that may be empty. */
static bool find_base(struct probe *p, struct chat_abilities *can)
{
    can->reads_functions = mentions_read(&p->template->body, "functions");
    can->reads_date_string = mentions_read(&p->template->body, "date_string");
    can->reads_datetime = mentions_read(&p->template->body, "datetime");
    if (renders(p, "", USER))
        return true;
    strcpy(p->base, "\"tools\": [], ");
    if ((can->needs_tools = renders(p, "", USER)))
        return true;
    strcpy(p->base, "\"template_kwargs\": {\"functions\": \"[]\", \"datetime\": \"Jan 02 2026\", \"date_string\": \"02 Jan 2026\"}, ");
    return renders(p, "", USER);
}

static void probe_roles(struct probe *p, struct chat_abilities *can)
{
    can->system = shows(p, "", "{\"role\": \"system\", \"content\": \"msystem\"}, " USER, "msystem", "muser");
    can->systems = shows(p, "", "{\"role\": \"system\", \"content\": \"msystem\"}, {\"role\": \"system\", \"content\": \"mother\"}, " USER, "msystem", "mother");
    can->late_system = shows(p, "", "{\"role\": \"system\", \"content\": \"msystem\"}, " USER ", " ASSISTANT ", {\"role\": \"system\", \"content\": \"mother\"}, "
                             "{\"role\": \"user\", \"content\": \"mlast\"}", "msystem", "mother");
    can->lone_system = shows(p, "", "{\"role\": \"system\", \"content\": \"msystem\"}", "msystem", NULL);
    can->developer = shows(p, "", "{\"role\": \"developer\", \"content\": \"msystem\"}, " USER, "msystem", "developer");
    can->users = shows(p, "", USER ", {\"role\": \"user\", \"content\": \"mlast\"}", "muser", "mlast");
    can->assistants = shows(p, "", USER ", " ASSISTANT ", {\"role\": \"assistant\", \"content\": \"mlast\"}, {\"role\": \"user\", \"content\": \"mend\"}", "mreply", "mlast");
}

/* Prints both texts, and not the list as it stands. */
static bool takes_parts(struct probe *p, const char *messages)
{
    return shows(p, "", messages, "mfirst", "mother") && !found(p, "'type'") && !found(p, "\"type\"");
}

static void probe_content(struct probe *p, struct chat_abilities *can)
{
    can->text = shows(p, "", USER, "muser", NULL);
    can->parts = takes_parts(p, "{\"role\": \"user\", " PARTS "}");
    can->system_parts = takes_parts(p, "{\"role\": \"system\", " PARTS "}, " USER);
    can->reply_parts = takes_parts(p, USER ", {\"role\": \"assistant\", " PARTS "}, {\"role\": \"user\", \"content\": \"mlast\"}");
    can->documents = shows(p, "\"documents\": [{\"title\": \"mtitle\", \"text\": \"mdocument\"}], ", USER, "mdocument", NULL);
}

/* How a call's arguments must be given: printed, and not as the text of a text. */
static bool prints_arguments(struct probe *p, const char *messages)
{
    return shows(p, TOOL, messages, "mkey", "mvalue") && found(p, "mtool") && !found(p, "\\\"mvalue") && !found(p, "mvalue\\u0022");
}

static void probe_tools(struct probe *p, struct chat_abilities *can)
{
#define TURN(content, calls, results) USER ", " CALLS(content, calls) ", " results
    can->tools = shows(p, TOOL, USER, "mdescribed", "mtool");
    can->bare_tools = renders(p, BARE_TOOL, USER);
    can->bare_parameters = renders(p, TOOL_UNDESCRIBED, USER);
    can->arguments_object = prints_arguments(p, TURN("\"content\": \"\", ", CALL(ID, OBJECT), RESULT(ID, "mresult")));
    can->arguments_text = prints_arguments(p, TURN("\"content\": \"\", ", CALL(ID, "\"{\\\"mkey\\\": \\\"mvalue\\\"}\""), RESULT(ID, "mresult")));
    const bool object = can->arguments_object || !can->arguments_text;
#define RENDERS(content, id, more_calls, more_results)                                                                       \
    (object ? renders(p, TOOL, TURN(content, CALL(id, OBJECT) more_calls(OBJECT), RESULT(id, "mresult") more_results))       \
            : renders(p, TOOL, TURN(content, CALL(id, "\"{}\"") more_calls("\"{}\""), RESULT(id, "mresult") more_results)))
#define NO_MORE(arguments)
#define SECOND(arguments) ", {\"type\": \"function\", \"id\": \"abcdEF124\", \"function\": {\"name\": \"mother\", \"arguments\": " arguments "}}"
    can->calls = RENDERS("\"content\": \"\", ", ID, NO_MORE, "") && found(p, "mtool");
    can->results = can->calls && found(p, "mresult");
    can->no_content = RENDERS("", ID, NO_MORE, "");
    can->any_id = RENDERS("\"content\": \"\", ", "call_1", NO_MORE, "");
    can->user_at_result = RENDERS("\"content\": \"\", ", ID, NO_MORE, ", {\"role\": \"user\", \"content\": \"mlast\"}") && found(p, "mlast");
#define REPLIED(reply) RENDERS("\"content\": \"\", ", ID, NO_MORE, ", {\"role\": \"assistant\", \"content\": \"" reply "\"}, {\"role\": \"user\", \"content\": \"mlast\"}")
    can->empty_reply = REPLIED("") && found(p, "mresult") && found(p, "mlast");
    can->blank_reply = REPLIED(" ") && found(p, "mresult") && found(p, "mlast");
    can->parallel = RENDERS("\"content\": \"\", ", ID, SECOND, ", " RESULT("abcdEF124", "msecond")) && found(p, "mother") && found(p, "msecond");
}

void chat_probe(const struct chat_template *t, const struct chat_source *source, struct chat_abilities *out)
{
    struct probe p = {.template = t, .source = source};
    *out = (struct chat_abilities){0};
    if (find_base(&p, out)) {
        out->known = true;
        probe_roles(&p, out);
        probe_content(&p, out);
        probe_tools(&p, out);
    }
    chat_text_free(&p.text);
}
