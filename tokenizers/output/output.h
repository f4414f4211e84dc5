/* Readers of model output, private to this folder.
 *
 * Bytes gather in `in`. The reader stands at `at` and may look up to `limit`: behind that lies what may turn out to be an
 * end-of-turn mark. Outside of blocks, text goes out as soon as it cannot begin a marker. A block (a call, or several, between
 * markers) is read by the reader of its shape, a state machine that keeps its place between pieces, so that every byte is looked
 * at a bounded number of times; the block's bytes stay in `in` until it stands or turns out to be text. */
#ifndef TOKENIZERS_OUTPUT_OUTPUT_H
#define TOKENIZERS_OUTPUT_OUTPUT_H

#include <string.h>

#include "base/arena.h"
#include "tokenizers/output/json_scan.h"
#include "tokenizers/tokenizers.h"

enum {
    MAX_THINK = 9,      /* pairs of reasoning tags */
    MAX_MARKUP = 8,     /* markers that only vanish */
    MAX_BLOCKS = 6,     /* kinds of blocks */
    MAX_ENDS = 6,       /* end-of-turn marks beside the common ones */
    MAX_MARKERS = MAX_THINK + MAX_MARKUP + MAX_BLOCKS + 4,
    BROKEN_BLOCKS = 64, /* then openings are text: each broken block may be looked at once more */
    NAME_LIMIT = 256,   /* bytes of a name or an attribute list */
};

/* ---- dialects.def ---------------------------------------------------------------------------------------------------- */

enum step {
    STEP_MORE,   /* needs bytes that are not there yet */
    STEP_CALL,   /* the block stands and ends at o->at */
    STEP_TEXT,   /* no block after all: text up to o->text_to, read on from there */
    STEP_BROKEN, /* malformed: text up to its closing marker, with a warning */
    STEP_OPEN,   /* the output ended inside */
};

typedef enum step block_reader(struct output *o);

enum block_flags {
    AT_LINE = 1,      /* the opening counts only where it starts a line (white space aside) */
    AT_START = 2,     /* ... where nothing but reasoning stands before it */
    BARE = 4,         /* without markers of its own: a call only if every name is declared, and told only when complete */
    LIST = 8,         /* JSON: a list may stand here */
    ONE = 16,         /* JSON: an object may stand here */
    LINES = 32,       /* several payloads one after another */
    SEMICOLONS = 64,  /* ... with ';' between */
    KEYED = 128,      /* JSON: {"NAME": {arguments}} */
    OWN_IDS = 256,    /* JSON: the model writes ids, perhaps behind the arguments */
    WRAPPED = 512,    /* JSON: {"tool_calls": [...], "content": "..."} may stand around */
    FENCED = 1024,    /* the opening is a Markdown fence: an optional "json" follows */
    DECLARED = 2048,  /* the opening counts only before a declared name */
    EXACT = 4096,     /* tags: string values are not trimmed at all; without it they lose one line break at each end */
    CODE = 8192,      /* what is no call is code for `python` */
    KIMI_ID = 16384,  /* named: functions.NAME:INDEX is name and id */
};

/* Tags of X and K: head_open NAME head_end, param_open KEY param_end VALUE param_close, head_close. */
struct tag_words {
    const char *head_open, *head_attribute, *head_end; /* attribute NULL: the bare name stands there */
    const char *param_open, *param_attribute, *param_end;
    const char *value_open; /* glm: between param_end and the value */
    const char *param_close, *head_close;
    const char *json_open, *json_close; /* all arguments as one JSON value (K3) */
};

struct block {
    block_reader *read;
    const char *open, *close; /* close may be NULL */
    unsigned flags;
    const char *prefix, *separator, *suffix; /* named: before the name, behind it, behind the JSON */
    const struct tag_words *words;
};

struct dialect {
    const char *name;
    const char *ends[MAX_ENDS];
    struct think {
        const char *open, *close;
    } think[MAX_THINK];
    const char *markup[MAX_MARKUP];
    const char *section[4]; /* opening and closing marker of a section of calls, twice */
    struct block blocks[MAX_BLOCKS];
    bool harmony, recipients; /* channels (gpt-oss); ">>>NAME\n" (functionary 3.2): readers of their own */
    struct declaration *declared; /* the checkpoint's own word: it is read by that alone (declaration.h) */
};

block_reader json_read, named_read, tags_read, elements_read, python_read, gemma_read, bare_read, code_read, python_tag_read,
    harmony_read, recipient_read;

/* ---- a reader -------------------------------------------------------------------------------------------------------- */

enum mode { MODE_TEXT, MODE_REASONING, MODE_BLOCK, MODE_BROKEN, MODE_SECTION };

struct marker {
    enum marker_role { MARK_THINK, MARK_MARKUP, MARK_BLOCK, MARK_SECTION, MARK_SECTION_END } role;
    const char *text;
    size_t size;
    int index; /* of its think, block or section */
};

enum { CALLS_START, CALLS_INSIDE, CALLS_BEHIND, CALLS_OWN }; /* states; a shape's own ones come behind */

/* JSON calls being read (J, L, N, B). Offsets are into `in`. */
struct json_calls {
    int state;
    struct json_scan scan;
    size_t payload;   /* where it begins */
    size_t string_at; /* the last string's quote */
    size_t value_at;  /* the member's value that is open */
    int item_level;   /* depth of the values that are calls */
    int key;          /* of the member being read */
    bool in_item, wrapped, known; /* known: of this item a key that calls have was seen */
    bool begun, streaming, again; /* the item's call was begun; its arguments are going out; a key came twice */
    size_t item_at, sent;         /* arguments told up to here */
    struct span {
        size_t at, size;
    } name, id, args, content; /* as JSON, quotes and all; size 0: not seen */
    size_t count;              /* calls in this block so far */
    size_t look, line;         /* behind a payload: how far white space was passed, and the line's rest */
    bool fence, semicolon;     /* ... the closing fence; a semicolon, which only another call may follow */
    bool prefix;               /* the word before the payload was passed */
};

/* Tagged calls (X, K). */
struct tag_calls {
    int state;
    size_t mark, look; /* of a value or an attribute list: where it began, how far it was looked at */
    size_t sent;       /* of a string value: told up to here */
    const struct json *schema;
    int types;         /* what the markup or the schema says: a set of value_type */
    bool raw, quoted, some, first, closed, json;
};

/* Elements (minimax_m3). */
struct element_calls {
    int state, depth;
    size_t mark;
    bool some; /* a parameter was closed, and none has begun since */
    struct element {
        struct span name;
        const struct json *schema;
        bool list, object; /* what its children make it */
    } stack[16]; /* the call itself below */
};

/* NAME OPEN key ASSIGN value ... CLOSE (P, G, T). */
struct keyword_calls {
    int state;
    struct span name;
    size_t mark, look;
    bool list, first, escaped;
    char quote; /* inside a string; 1: between marks */
    int depth;
    uint8_t nest[64]; /* the brackets that close */
    size_t count;
};

struct call {
    char *id, *name;
    size_t name_size, index; /* index: among the calls told as events */
    struct str arguments;
    bool told, complete;
};

struct output {
    const struct dialect *dialect;
    struct output_options options;
    const struct json *tools; /* items; tool_count 0: none declared */
    size_t tool_count;
    struct arena arena; /* names, ids, texts of warnings */

    struct str in;
    size_t at, limit, tail; /* tail: end-of-turn marks and white space from limit to here */
    bool ended, cut, marked_end, failed;

    struct marker markers[MAX_MARKERS];
    int marker_count;
    bool first[256], first_of_end[256]; /* bytes that begin a marker, an end-of-turn mark */
    const char *ends[MAX_ENDS + 16];
    int end_count;

    enum mode mode;
    bool line;      /* only white space since the line began */
    bool start;     /* only white space and reasoning so far */
    bool reasoning; /* a reasoning block may open here */
    int section;    /* 0 outside; 1 inside, no call stands yet; 2 inside */
    int section_index;
    size_t section_at, section_text; /* its marker, what follows it */
    bool section_broken;
    size_t text_to;
    int broken;

    const struct think *think; /* in reasoning: its pair */
    const char *open_tag;      /* what opened the reasoning that is not closed yet */
    bool swallow;              /* the prompt opened it: the tag may be written again */

    const struct block *block;
    size_t begin; /* the block's opening */
    bool quiet;   /* calls are told when the block stands */
    union {
        struct json_calls json;
        struct tag_calls tags;
        struct element_calls elements;
        struct keyword_calls words;
    } b;
    struct messages { /* harmony, recipients: where between messages */
        int state;
        size_t mark; /* what follows `<|start|>assistant`; a search's place */
        bool prompted;
    } m;

    struct regions *regions; /* of a declaration */

    struct str reasoning_text, content_text, space; /* space: held until more text follows */
    bool touch;        /* markup stands before the next text */
    bool verbatim;     /* white space beside markup is text too */
    const char *joint; /* between texts that markup parts; NULL: a line break */
    struct call *calls;
    size_t call_count, call_capacity, accepted, told;
    struct output_warning *warnings;
    size_t warning_count, warning_capacity, warnings_told;
    struct output_call *answer_calls;
    struct output_answer answer;
};

static inline bool out_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
/* The bytes that may be read now. */
static inline const char *in_at(const struct output *o, size_t at) { return o->in.data + at; }

enum found { FOUND_NOT, FOUND_PART, FOUND };
/* Whether text stands at `at`; FOUND_PART: perhaps, once more bytes are there. When the output has ended there will be none: then
 * a part is FOUND_NOT outside of blocks; inside, a block that waits for more is open. */
enum found word_at(const struct output *o, size_t at, const char *text, size_t size);
static inline enum found text_at(const struct output *o, size_t at, const char *text)
{
    return word_at(o, at, text, strlen(text));
}
/* The output ends in a part of text there, or before it. */
bool part_at_end(const struct output *o, size_t at, const char *text);
/* The active marker at `at`, the longest. */
enum found marker_at(const struct output *o, size_t at, const struct marker **out);
/* Past white space from `at`. */
size_t past_space(const struct output *o, size_t at);
/* What a reader answers that has used up its bytes. */
static inline enum step step_starved(const struct output *o) { return o->ended ? STEP_OPEN : STEP_MORE; }
/* STEP_CALL if the closing marker (or none, or the end, or the next opening) follows at o->at behind white space. */
enum step block_close(struct output *o);

/* Begins a JSON value with calls at `at`. */
void json_calls_begin(struct output *o, size_t at);
/* Reads on in it: STEP_CALL behind its last byte. */
enum step json_calls_read(struct output *o);
/* A JSON value that is a call's arguments alone, begun as call_begin() left it; o->at at its first byte. */
enum step json_arguments_read(struct output *o);
/* Messages that are calls: in MESSAGE_BODY the arguments, then in MESSAGE_END what `end` finds behind them. */
enum { MESSAGE_START = CALLS_OWN, MESSAGE_BODY, MESSAGE_CODE, MESSAGE_END };
enum step json_body_read(struct output *o, enum step (*end)(struct output *));
bool json_arguments_begin(struct output *o); /* false: no value that arguments can have begins here */
/* The rest of the line from `from` on is white space: STEP_CALL with o->at at its end; STEP_TEXT: it is not. */
enum step line_end(struct output *o, size_t from, size_t *looked);
/* Behind a payload of a block without closing marker: one bracket too many? */
enum step json_behind(struct output *o);

bool text_step(struct output *o);
void reasoning_open(struct output *o, const struct marker *m); /* o->at at the tag m */
bool harmony_step(struct output *o);
bool recipients_step(struct output *o);
void harmony_begin(struct output *o); /* before the prompt's tail is forgotten */
void recipients_begin(struct output *o);

enum status declared_begin(struct output *o, struct error *err); /* before the prompt's tail is forgotten */
bool declared_step(struct output *o);
const char *declared_reasoning(const struct output *o); /* output_reasoning() */
void declared_end(struct output *o);

/* ---- the answer (emit.c) --------------------------------------------------------------------------------------------- */

void emit_content(struct output *o, const char *text, size_t size);
void emit_markup(struct output *o); /* markup was removed here */
void emit_reasoning(struct output *o, const char *text, size_t size);
void emit_reasoning_begin(struct output *o, const char *tag); /* tag: static */
void emit_reasoning_end(struct output *o);
void emit_end(struct output *o); /* white space still held */

/* Told with the block: pending until blocks_accept(). kind is static; text is copied. */
void warn(struct output *o, const char *kind, const char *text, size_t size);
void call_begin(struct output *o, const char *name, size_t size, const char *id, size_t id_size);
void call_add(struct output *o, const char *text, size_t size);
void call_add_text(struct output *o, const char *text);
/* JSON as the model wrote it, raw control characters in strings escaped. */
void call_add_json(struct output *o, const char *text, size_t size);
void call_add_string(struct output *o, const char *text, size_t size, bool quotes);
bool call_end(struct output *o); /* false: the arguments are not UTF-8 */
/* A whole call with {"code": the bytes from..to of `in`, trimmed}, {} where nothing is left; as call_end(). */
bool call_code(struct output *o, const char *name, size_t size, size_t from, size_t to);
/* The model stopped behind a closed value (X, K): a call, with a warning. */
enum step call_unfinished(struct output *o);
bool calls_complete(const struct output *o); /* the block's call is all that was wanted: it need not be closed */
void calls_accept(struct output *o);
void calls_reject(struct output *o); /* warnings of the block too */

/* ---- declared tools, values (tools.c, values.c, python.c) ------------------------------------------------------------ */

/* A declared tool's parameters, or an empty object; NULL: there is no such tool. */
const struct json *tool_find(const struct output *o, const char *name, size_t size);
const struct json *tool_property(const struct json *schema, const char *key, size_t size);
const struct json *tool_items(const struct json *schema);

enum value_type {
    TYPE_STRING = 1, TYPE_NUMBER = 2, TYPE_INTEGER = 4, TYPE_BOOLEAN = 8, TYPE_OBJECT = 16, TYPE_ARRAY = 32, TYPE_NULL = 64,
    TYPE_ANY = 127,
};
int types_of(const struct json *schema); /* 0: it does not say */
int type_named(const char *name, size_t size);
/* Text as a JSON value of one of types (0: whatever it reads as, else a string). False: none fits, it is the text as a string. */
bool value_write(struct str *out, int types, const char *text, size_t size);
/* A Python literal, whole, as JSON. Appends nothing that counts when it is none. */
bool python_write(struct str *out, const char *text, size_t size);
/* Gemma's own values: strings between `quote` marks. */
bool gemma_write(struct str *out, const char *text, size_t size, const char *quote);
/* JSON text as deep as the scanner lets it be; false: it is none, or memory ran out (*failed is set). */
bool json_value(struct arena *arena, const char *text, size_t size, struct json *out, bool *failed);
/* A JSON string with its quotes, decoded into the reader's arena; false: it is none. */
bool json_string_decode(struct output *o, const char *quoted, size_t size, const char **text, size_t *out);
/* Appends JSON text with raw control characters in its strings escaped. */
void json_fix_controls(struct str *out, const char *text, size_t size);

/* ---- probes: what a template prints for calls (detect.c) ---------------------------------------------------------------- */

#define PROBE_NAME "lookup_q7"
#define PROBE_SECOND "list_q8"
#define PROBE_ID "a1B2c3D0" /* and a digit for each call */

/* Templates refuse arguments of one kind, two calls at once, content beside calls, reasoning: a bit each. */
enum { AS_TEXT = 8, ONE_CALL = 4, NO_CONTENT = 2, NO_REASONING = 1, PROBES = 16 };

/* notation_block.c: as the first block of a dialect says; nothing where that is not known. */
void notation_of_block(struct call_notation *n, const struct dialect *d);
#define NOTATION_TEXTS(n) \
    &(n)->before, &(n)->between, &(n)->separator, &(n)->after, &(n)->key, &(n)->value, &(n)->other, &(n)->close, &(n)->joint

/* A question, and where variant is not negative an answer that calls PROBE_NAME with {"k": "v", "n": 1} and PROBE_SECOND with {}.
 * False: the template refuses such a request. */
bool probe_render(const struct chat_template *t, const struct chat_source *source, int variant, struct chat_text *out);

#endif
