/* Making expressions: every constructor brings its result into one form. */
#include "tokenizers/grammar/expr.h"

#include <stdlib.h>
#include <string.h>

#include "tokenizers/hash.h"

enum { MOST_DEPTH = 2000, COUNT_THAT_MATTERS = 16 };

void pool_fail(struct pool *p, enum status status, const char *reason)
{
    if (!p->failed) {
        p->failed = status;
        p->reason = reason;
    }
}

bool pool_grow(struct pool *p, void *array, uint32_t *capacity, uint32_t wanted, size_t item)
{
    void **at = array;
    if (wanted <= *capacity)
        return true;
    uint64_t next = *capacity ? (uint64_t)*capacity * 2 : 64;
    while (next < wanted)
        next *= 2;
    void *more = NULL;
    if (!p->failed && next < UINT32_MAX && p->bytes + (next - *capacity) * item <= p->limit)
        more = realloc(*at, next * item);
    if (!more) {
        pool_fail(p, STATUS_NO_ROOM, "the grammar needs too much memory");
        return false;
    }
    p->bytes += (next - *capacity) * item;
    *at = more;
    *capacity = (uint32_t)next;
    return true;
}

/* ---- one of each ---------------------------------------------------------------------------------------------------- */

static uint64_t hash_node(const struct expr_node *n, const void *content, size_t size)
{
    uint64_t h = hash_mix((uint64_t)n->kind << 32 | n->lo, (uint64_t)n->hi << 32 | n->b) ^ 0x9E3779B97F4A7C15u;
    return content ? hash_text(content, size, h) : hash_mix(h ^ n->a, 0xA0761D6478BD642Fu);
}

static const void *content_of(const struct pool *p, const struct expr_node *n, size_t *size)
{
    if (n->kind == KIND_BYTES) {
        *size = sizeof(struct byte_set);
        return &p->sets[n->a];
    }
    *size = (size_t)n->b * sizeof *p->lists;
    return n->kind == KIND_OR || n->kind == KIND_AND ? &p->lists[n->a] : NULL;
}

static bool index_grow(struct pool *p)
{
    if (p->index && (uint64_t)p->count * 2 < p->index_mask)
        return true;
    uint32_t mask = p->index ? p->index_mask * 2 + 1 : 1023, *index = NULL;
    while (mask < (uint64_t)p->count * 2 && mask < UINT32_MAX / 4)
        mask = mask * 2 + 1;
    if (p->bytes + mask * sizeof *index <= p->limit)
        index = calloc((size_t)mask + 1, sizeof *index);
    if (!index) {
        pool_fail(p, STATUS_NO_ROOM, "the grammar needs too much memory");
        return false;
    }
    for (uint32_t i = 0; i < p->count; i++) {
        size_t size;
        const void *content = content_of(p, &p->nodes[i], &size);
        uint32_t at = (uint32_t)hash_node(&p->nodes[i], content, size) & mask;
        while (index[at])
            at = (at + 1) & mask;
        index[at] = i + 1;
    }
    p->bytes += ((size_t)mask - p->index_mask) * sizeof *index;
    free(p->index);
    p->index = index;
    p->index_mask = mask;
    return true;
}

static bool same_node(const struct pool *p, const struct expr_node *x, const struct expr_node *n, const void *content, size_t size)
{
    size_t other;
    if (x->kind != n->kind || x->b != n->b || x->lo != n->lo || x->hi != n->hi)
        return false;
    const void *theirs = content_of(p, x, &other);
    return content ? theirs && other == size && memcmp(theirs, content, size) == 0 : x->a == n->a;
}

/* Keeps what a node's content is; n->a says where afterwards. */
static bool store_content(struct pool *p, struct expr_node *n, const void *content, size_t size)
{
    if (!content)
        return true;
    if (n->kind == KIND_BYTES) {
        if (!pool_grow(p, &p->sets, &p->set_capacity, p->set_count + 1, sizeof *p->sets))
            return false;
        memcpy(&p->sets[n->a = p->set_count++], content, size);
        return true;
    }
    if (!pool_grow(p, &p->lists, &p->list_capacity, p->list_count + n->b, sizeof *p->lists))
        return false;
    memcpy(&p->lists[n->a = p->list_count], content, size);
    p->list_count += n->b;
    return true;
}

static expr intern(struct pool *p, struct expr_node n, const void *content, size_t size)
{
    if (p->failed || !index_grow(p))
        return NONE;
    if (n.depth > MOST_DEPTH) {
        pool_fail(p, STATUS_BAD_INPUT, "the grammar is nested too deeply");
        return NONE;
    }
    uint32_t at = (uint32_t)hash_node(&n, content, size) & p->index_mask;
    for (; p->index[at]; at = (at + 1) & p->index_mask)
        if (same_node(p, &p->nodes[p->index[at] - 1], &n, content, size))
            return p->index[at] - 1;
    if (!pool_grow(p, &p->nodes, &p->capacity, p->count + 1, sizeof *p->nodes) || !store_content(p, &n, content, size))
        return NONE;
    n.first = expr_first(p, &n);
    p->nodes[p->count] = n;
    p->index[at] = ++p->count;
    return p->count - 1;
}

void pool_init(struct pool *p, size_t limit)
{
    *p = (struct pool){.limit = limit, .speaker_count = 1};
    intern(p, (struct expr_node){.kind = KIND_NONE, .finite = true}, NULL, 0);
    intern(p, (struct expr_node){.kind = KIND_EMPTY, .nullable = true, .finite = true}, NULL, 0);
}

static void release(void *array, uint32_t *capacity)
{
    void **at = array;
    free(*at);
    *at = NULL;
    *capacity = 0;
}

static void shrink(void *array, uint32_t *capacity, uint32_t count, size_t item)
{
    void **at = array, *less = count && count < *capacity ? realloc(*at, count * item) : NULL;
    if (less) {
        *at = less;
        *capacity = count;
    }
}

void pool_truncate(struct pool *p, uint32_t count)
{
    p->count = count;
    p->list_count = p->set_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct expr_node *n = &p->nodes[i];
        if (n->kind == KIND_BYTES && n->a >= p->set_count)
            p->set_count = n->a + 1;
        if ((n->kind == KIND_OR || n->kind == KIND_AND) && n->a + n->b > p->list_count)
            p->list_count = n->a + n->b;
    }
    shrink(&p->nodes, &p->capacity, p->count, sizeof *p->nodes);
    shrink(&p->lists, &p->list_capacity, p->list_count, sizeof *p->lists);
    shrink(&p->sets, &p->set_capacity, p->set_count, sizeof *p->sets);
    release(&p->index, &p->index_mask);
    release(&p->derived, &p->derived_mask);
    p->derived_count = 0;
    p->failed = STATUS_OK;
    p->bytes = (size_t)p->capacity * sizeof *p->nodes + (size_t)p->list_capacity * sizeof *p->lists + (size_t)p->set_capacity * sizeof *p->sets;
    index_grow(p);
}

void pool_free(struct pool *p)
{
    free(p->nodes);
    free(p->lists);
    free(p->sets);
    free(p->multiples);
    free(p->rules);
    free(p->index);
    free(p->derived);
    *p = (struct pool){0};
}

/* ---- leaves --------------------------------------------------------------------------------------------------------- */

static bool has_byte(const struct byte_set *s, int byte) { return s->word[byte >> 6] >> (byte & 63) & 1; }

/* Splits the classes that a new set cuts through. */
static void refine(struct pool *p, const struct byte_set *set)
{
    int outside[256], inside[256]; /* the new speaker of a class's bytes, -1: none yet */
    memset(outside, -1, sizeof outside);
    memset(inside, -1, sizeof inside);
    for (int b = 0; b < 256; b++) {
        int *speaker = &(has_byte(set, b) ? inside : outside)[p->speaker[b]];
        if (*speaker < 0)
            *speaker = b;
        p->speaker[b] = (uint8_t)*speaker;
    }
    p->speaker_count = 0;
    for (int b = 0; b < 256; b++)
        if (p->speaker[b] == b)
            p->speakers[p->speaker_count++] = (uint8_t)b;
}

expr expr_bytes(struct pool *p, const struct byte_set *set)
{
    if (!(set->word[0] | set->word[1] | set->word[2] | set->word[3]))
        return NONE;
    uint32_t before = p->set_count;
    expr e = intern(p, (struct expr_node){.kind = KIND_BYTES, .finite = true}, set, sizeof *set);
    if (p->set_count > before)
        refine(p, set);
    return e;
}

expr expr_byte(struct pool *p, unsigned char byte)
{
    struct byte_set set = {{0}};
    set.word[byte >> 6] = 1ull << (byte & 63);
    return expr_bytes(p, &set);
}

expr expr_text(struct pool *p, const char *text, size_t size)
{
    expr e = EMPTY;
    while (size-- > 0)
        e = expr_concat(p, expr_byte(p, (unsigned char)text[size]), e);
    return e;
}

expr expr_call(struct pool *p, uint32_t rule) { return intern(p, (struct expr_node){.kind = KIND_CALL, .calls = true, .a = rule}, NULL, 0); }

uint32_t pool_rule(struct pool *p)
{
    if (!pool_grow(p, &p->rules, &p->rule_capacity, p->rule_count + 1, sizeof *p->rules))
        return 0;
    p->rules[p->rule_count] = (struct rule){0};
    return p->rule_count++;
}

expr expr_multiple_state(struct pool *p, uint32_t multiple, uint32_t decimals, uint64_t remainder)
{
    const struct multiple *m = &p->multiples[multiple];
    struct expr_node n = {.kind = KIND_MULTIPLE, .a = multiple, .b = decimals, .lo = (uint32_t)remainder, .hi = (uint32_t)(remainder >> 32)};
    uint64_t r = remainder;
    bool number = decimals != BEFORE_DIGITS && decimals != AFTER_POINT;
    uint32_t read = decimals > m->scale ? 0 : decimals; /* the whole part, or zero */
    for (uint32_t i = read; i < m->scale; i++)
        r = (uint64_t)((unsigned __int128)r * 10 % m->modulus);
    n.nullable = number && r == 0;
    return intern(p, n, NULL, 0);
}

expr expr_multiple(struct pool *p, uint64_t modulus, uint32_t scale)
{
    if (!pool_grow(p, &p->multiples, &p->multiple_capacity, p->multiple_count + 1, sizeof *p->multiples))
        return NONE;
    p->multiples[p->multiple_count++] = (struct multiple){modulus, scale};
    struct byte_set point = {{0}}, low = {{0}};
    point.word[0] = 1ull << '.';
    refine(p, &point);
    for (int d = '0'; d <= '9'; d++) { /* digits are told apart */
        low.word[0] = 1ull << d;
        refine(p, &low);
    }
    return expr_multiple_state(p, p->multiple_count - 1, BEFORE_DIGITS, 0);
}

/* ---- operators ------------------------------------------------------------------------------------------------------ */

expr expr_concat(struct pool *p, expr a, expr b)
{
    if (a == NONE || b == NONE)
        return NONE;
    if (a == EMPTY)
        return b;
    if (b == EMPTY)
        return a;
    const struct expr_node *x = &p->nodes[a], *y = &p->nodes[b];
    struct expr_node n = {.kind = KIND_CONCAT, .nullable = x->nullable && y->nullable, .calls = x->calls || y->calls,
                          .logic = x->logic || y->logic, .counts = x->counts || y->counts, .finite = x->finite && y->finite, .a = a, .b = b,
                          .depth = x->depth + 1 > y->depth ? (uint16_t)(x->depth + 1) : y->depth};
    return intern(p, n, NULL, 0);
}

expr expr_repeat(struct pool *p, expr a, uint32_t lo, uint32_t hi)
{
    if (hi == 0 || a == EMPTY)
        return EMPTY;
    if (a == NONE)
        return lo ? NONE : EMPTY;
    if (p->nodes[a].nullable)
        lo = 0;
    if (lo == 1 && hi == 1)
        return a;
    if (p->nodes[a].kind == KIND_REPEAT && p->nodes[a].lo == 0 && p->nodes[a].hi == UNLIMITED)
        return a;
    const struct expr_node *x = &p->nodes[a];
    bool counts = x->counts || (lo > COUNT_THAT_MATTERS) || (hi != UNLIMITED && hi > COUNT_THAT_MATTERS);
    struct expr_node n = {.kind = KIND_REPEAT, .nullable = lo == 0, .calls = x->calls, .logic = x->logic, .counts = counts, .a = a, .lo = lo,
                          .hi = hi, .finite = x->finite && hi != UNLIMITED, .depth = (uint16_t)(x->depth + 1)};
    return intern(p, n, NULL, 0);
}

/* A growing list of expressions, most of them short. */
struct members {
    expr *list, some[32];
    uint32_t count, capacity;
};

static void add_member(struct pool *p, struct members *m, expr e)
{
    if (m->count == m->capacity) {
        uint32_t capacity = m->capacity ? m->capacity * 2 : 32;
        expr *list = m->capacity ? malloc(capacity * sizeof *list) : m->some;
        if (!list) {
            pool_fail(p, STATUS_NO_ROOM, "the grammar needs too much memory");
            return;
        }
        if (m->count)
            memcpy(list, m->list, m->count * sizeof *list);
        if (m->list != m->some)
            free(m->list);
        m->list = list;
        m->capacity = capacity;
    }
    m->list[m->count++] = e;
}

static void members_free(struct members *m)
{
    if (m->list != m->some)
        free(m->list);
}

static int compare_exprs(const void *a, const void *b)
{
    expr x = *(const expr *)a, y = *(const expr *)b;
    return (x > y) - (x < y);
}

static void sort_members(struct members *m)
{
    uint32_t kept = 0;
    if (m->count > 8) {
        qsort(m->list, m->count, sizeof *m->list, compare_exprs);
    } else {
        for (uint32_t i = 1; i < m->count; i++)
            for (uint32_t j = i; j > 0 && m->list[j - 1] > m->list[j]; j--) {
                expr t = m->list[j];
                m->list[j] = m->list[j - 1], m->list[j - 1] = t;
            }
    }
    for (uint32_t i = 0; i < m->count; i++)
        if (!kept || m->list[i] != m->list[kept - 1])
            m->list[kept++] = m->list[i];
    m->count = kept;
}

/* Members of the same kind are taken apart; each is flat already. */
static void flatten(struct pool *p, struct members *m, enum expr_kind kind, const expr *members, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct expr_node *n = &p->nodes[members[i]];
        if (n->kind != kind) {
            add_member(p, m, members[i]);
            continue;
        }
        for (uint32_t j = 0; j < p->nodes[members[i]].b; j++)
            add_member(p, m, p->lists[p->nodes[members[i]].a + j]);
    }
}

/* Sets of bytes become one, by union or intersection. */
static void merge_sets(struct pool *p, struct members *m, bool all)
{
    struct byte_set set;
    uint32_t kept = 0, found = 0;
    for (uint32_t i = 0; i < m->count; i++) {
        const struct expr_node *n = &p->nodes[m->list[i]];
        if (n->kind != KIND_BYTES) {
            m->list[kept++] = m->list[i];
            continue;
        }
        const struct byte_set *s = &p->sets[n->a];
        for (int w = 0; w < 4; w++)
            set.word[w] = !found ? s->word[w] : all ? set.word[w] & s->word[w] : set.word[w] | s->word[w];
        found++;
    }
    m->count = kept;
    if (found)
        add_member(p, m, expr_bytes(p, &set));
}

/* x{2,5} y | x{4,7} y is x{2,7} y: keeps sets of counters short. */
struct counter {
    expr body, tail;
    uint32_t lo, hi;
};

static int compare_counters(const void *a, const void *b)
{
    const struct counter *x = a, *y = b;
    if (x->body != y->body)
        return x->body < y->body ? -1 : 1;
    if (x->tail != y->tail)
        return x->tail < y->tail ? -1 : 1;
    return (x->lo > y->lo) - (x->lo < y->lo);
}

static bool as_counter(const struct pool *p, expr e, struct counter *out)
{
    const struct expr_node *n = &p->nodes[e], *r = n->kind == KIND_CONCAT ? &p->nodes[n->a] : n;
    if (r->kind != KIND_REPEAT)
        return false;
    *out = (struct counter){r->a, n->kind == KIND_CONCAT ? n->b : EMPTY, r->lo, r->hi};
    return true;
}

static void merge_counters(struct pool *p, struct members *m)
{
    struct counter some[32], *list = some, c;
    uint32_t count = 0, kept = 0;
    for (uint32_t i = 0; i < m->count; i++)
        count += as_counter(p, m->list[i], &c);
    if (count < 2 || (count > 32 && !(list = malloc(count * sizeof *list))))
        return;
    count = 0;
    for (uint32_t i = 0; i < m->count; i++)
        if (as_counter(p, m->list[i], &c))
            list[count++] = c;
        else
            m->list[kept++] = m->list[i];
    m->count = kept;
    qsort(list, count, sizeof *list, compare_counters);
    for (uint32_t i = 0; i < count;) {
        c = list[i++];
        while (i < count && list[i].body == c.body && list[i].tail == c.tail && (c.hi == UNLIMITED || list[i].lo <= c.hi + 1)) {
            c.hi = list[i].hi > c.hi ? list[i].hi : c.hi;
            i++;
        }
        add_member(p, m, expr_concat(p, expr_repeat(p, c.body, c.lo, c.hi), c.tail));
    }
    if (list != some)
        free(list);
}

static bool is_everything(const struct pool *p, expr e) { return p->nodes[e].kind == KIND_NOT && p->nodes[e].a == NONE; }

static expr intern_members(struct pool *p, enum expr_kind kind, const struct members *m)
{
    struct expr_node n = {.kind = (uint8_t)kind, .nullable = kind == KIND_AND, .logic = kind == KIND_AND, .b = m->count, .finite = kind == KIND_OR};
    for (uint32_t i = 0; i < m->count; i++) {
        const struct expr_node *x = &p->nodes[m->list[i]];
        n.nullable = kind == KIND_AND ? n.nullable && x->nullable : n.nullable || x->nullable;
        n.calls |= x->calls;
        n.logic |= x->logic;
        n.counts |= x->counts;
        n.finite = kind == KIND_OR ? n.finite && x->finite : n.finite || x->finite;
        if (x->depth >= n.depth)
            n.depth = (uint16_t)(x->depth + 1);
    }
    return intern(p, n, m->list, m->count * sizeof *m->list);
}

/* Drops members that say nothing; true if one member decides alone (*out). */
static bool absorb(const struct pool *p, struct members *m, enum expr_kind kind, expr *out)
{
    uint32_t kept = 0;
    bool nullable = false;
    for (uint32_t i = 0; i < m->count; i++)
        nullable |= m->list[i] != EMPTY && p->nodes[m->list[i]].nullable;
    for (uint32_t i = 0; i < m->count; i++) {
        expr e = m->list[i];
        bool everything = is_everything(p, e), decides = kind == KIND_OR ? everything : e == NONE;
        if (decides) {
            *out = e;
            return true;
        }
        if (kind == KIND_OR ? e == NONE || (e == EMPTY && nullable) : everything)
            continue;
        m->list[kept++] = e;
    }
    m->count = kept;
    return false;
}

static expr combine(struct pool *p, enum expr_kind kind, const expr *members, uint32_t count)
{
    struct members m = {0};
    expr e = NONE;
    flatten(p, &m, kind, members, count);
    if (!p->failed && !absorb(p, &m, kind, &e)) {
        merge_sets(p, &m, kind == KIND_AND);
        if (kind == KIND_OR)
            merge_counters(p, &m);
        sort_members(&m);
        bool empty_inside = false;
        for (uint32_t i = 0; i < m.count && kind == KIND_AND; i++)
            empty_inside |= m.list[i] == EMPTY;
        if (m.count == 0)
            e = kind == KIND_OR ? NONE : expr_raw_not(p, NONE);
        else if (m.count == 1)
            e = m.list[0];
        else if (kind == KIND_AND && m.list[0] == NONE)
            e = NONE;
        else {
            e = intern_members(p, kind, &m);
            if (empty_inside)
                e = p->nodes[e].nullable ? EMPTY : NONE;
        }
    }
    members_free(&m);
    return p->failed ? NONE : e;
}

expr expr_or(struct pool *p, const expr *members, uint32_t count) { return combine(p, KIND_OR, members, count); }
expr expr_or2(struct pool *p, expr a, expr b) { return a == b || b == NONE ? a : a == NONE ? b : expr_or(p, (expr[]){a, b}, 2); }
expr expr_raw_and(struct pool *p, const expr *members, uint32_t count) { return combine(p, KIND_AND, members, count); }

expr expr_raw_not(struct pool *p, expr a)
{
    const struct expr_node *x = &p->nodes[a];
    if (x->kind == KIND_NOT)
        return x->a;
    return intern(p, (struct expr_node){.kind = KIND_NOT, .nullable = !x->nullable, .logic = true, .counts = x->counts, .a = a,
                                        .depth = (uint16_t)(x->depth + 1)}, NULL, 0);
}

expr expr_and(struct pool *p, const expr *members, uint32_t count)
{
    expr e = expr_raw_and(p, members, count);
    return expr_alive(p, e) ? e : NONE;
}

expr expr_and2(struct pool *p, expr a, expr b) { return expr_and(p, (expr[]){a, b}, 2); }

expr expr_not(struct pool *p, expr a)
{
    expr e = expr_raw_not(p, a);
    return expr_alive(p, e) ? e : NONE;
}

expr expr_minus(struct pool *p, expr a, expr b) { return expr_and2(p, a, expr_raw_not(p, b)); }

/* ---- many texts ----------------------------------------------------------------------------------------------------- */

static int compare_texts(const void *a, const void *b)
{
    const struct text_range *x = a, *y = b;
    size_t n = x->size < y->size ? x->size : y->size;
    int c = n ? memcmp(x->text, y->text, n) : 0;
    return c ? c : (x->size > y->size) - (x->size < y->size);
}

/* Texts [0, count) agree in their first `at` bytes. */
static expr texts_from(struct pool *p, const struct text_range *texts, size_t count, size_t at, int depth)
{
    size_t same = at;
    if (depth > MOST_DEPTH / 4) {
        pool_fail(p, STATUS_BAD_INPUT, "too many texts begin with each other");
        return NONE;
    }
    while (same < texts[0].size && same < texts[count - 1].size && texts[0].text[same] == texts[count - 1].text[same])
        same++;
    expr e = NONE, head = expr_text(p, texts[0].text + at, same - at);
    struct members m = {0};
    size_t i = 0;
    for (; i < count && texts[i].size == same; i++)
        e = EMPTY;
    if (e == EMPTY)
        add_member(p, &m, EMPTY);
    while (i < count && !p->failed) {
        size_t j = i;
        while (j < count && texts[j].text[same] == texts[i].text[same])
            j++;
        add_member(p, &m, texts_from(p, texts + i, j - i, same, depth + 1));
        i = j;
    }
    e = expr_concat(p, head, expr_or(p, m.list, m.count));
    members_free(&m);
    return e;
}

expr expr_texts(struct pool *p, struct text_range *texts, size_t count)
{
    if (!count)
        return NONE;
    qsort(texts, count, sizeof *texts, compare_texts);
    return texts_from(p, texts, count, 0, 0);
}
