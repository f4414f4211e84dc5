/* Choices on the device (choose.h has the kernel): what is asked goes over in one transfer while the step still runs, the answers
 * come back in one. */
#include <string.h>

#include "kernels/cuda/cuda.h"

enum { EDITS = 8192, EDITS_EACH = 2048 }; /* room for edits: of a step, and of each choice more */

int32_t cuda_most_choices(const struct compiled *c) { return 2 * c->options.max_sequences; }

static int64_t most_edits(const struct compiled *c) { return EDITS + (int64_t)EDITS_EACH * cuda_most_choices(c); }

static int64_t words_of(const struct compiled *c) { return (cuda_widest_output(c) + 31) / 32; }

size_t cuda_asked_bytes(const struct compiled *c)
{
    struct room r = {0};
    room_take(&r, cuda_most_choices(c), sizeof(struct choose_row));
    room_take(&r, most_edits(c), sizeof(struct score_edit));
    room_take(&r, cuda_most_choices(c) * words_of(c), sizeof(uint32_t));
    return r.used;
}

/* Where parts of the answer begin, for its bytes on either side. */
struct answer {
    struct choose_found *found;
    struct token_score *list;
    float *logits;
};

static size_t lay_out_answer(struct answer *a, unsigned char *base, int32_t choices, int32_t room)
{
    struct room r = {base, 0};
    a->found = room_take(&r, choices, sizeof *a->found);
    a->list = room_take(&r, (int64_t)choices * room, sizeof *a->list);
    a->logits = room_take(&r, (int64_t)choices * room, sizeof *a->logits);
    return r.used;
}

size_t cuda_answer_bytes(int32_t choices, int32_t room) { return lay_out_answer(&(struct answer){0}, NULL, choices, room); }

/* Fills the pinned copy; the arguments point into the device's. Returns its bytes. */
static size_t write_asked(struct compiled *c, struct row_choice *choices, int32_t count, struct choose_args *args)
{
    struct room r = {c->chooser.host_asked, 0};
    int64_t all_edits = 0, words = 0;
    for (int32_t i = 0; i < count; i++) { /* whose edits find no room: its list stays empty */
        bool fits = all_edits + choices[i].edit_count <= most_edits(c);
        choices[i].count = fits ? 0 : -1;
        all_edits += fits ? choices[i].edit_count : 0;
        words += choices[i].allowed ? words_of(c) : 0;
    }
    args->rows = (struct choose_row *)(void *)(c->chooser.asked + r.used);
    struct choose_row *row = room_take(&r, count, sizeof *row);
    args->edits = (struct score_edit *)(void *)(c->chooser.asked + r.used);
    struct score_edit *edit = room_take(&r, all_edits, sizeof *edit);
    args->allowed = (uint32_t *)(void *)(c->chooser.asked + r.used);
    uint32_t *word = room_take(&r, words, sizeof *word);
    all_edits = words = 0;
    for (int32_t i = 0; i < count; i++) {
        const struct row_choice *q = &choices[i];
        int64_t row_in_buffer = c->p->buffers[c->output].rows == ROWS_WANTED ? q->wanted : c->batch->wanted_rows[q->wanted];
        row[i] = (struct choose_row){.row = row_in_buffer, .first_word = -1, .best = q->best, .first_edit = (int32_t)all_edits, .temperature = q->temperature};
        if (q->count == 0 && q->edit_count) {
            row[i].edits = q->edit_count;
            memcpy(edit + all_edits, q->edits, (size_t)q->edit_count * sizeof *edit);
            all_edits += q->edit_count;
        }
        if (q->allowed) {
            row[i].first_word = words;
            row[i].words = (int64_t)q->allowed_words < words_of(c) ? (int64_t)q->allowed_words : words_of(c);
            memcpy(word + words, q->allowed, (size_t)row[i].words * sizeof *word);
            words += row[i].words;
        }
    }
    return r.used;
}

static void read_answer(const struct answer *a, struct row_choice *choices, int32_t count, int32_t room)
{
    for (int32_t i = 0; i < count; i++) {
        struct row_choice *q = &choices[i];
        const struct choose_found *found = &a->found[i];
        bool fits = q->count == 0 && found->count <= (unsigned)choice_room(q->best);
        q->most = found->most, q->norm = found->norm, q->total = found->total;
        q->count = fits ? (int32_t)found->count : 0;
        q->list = a->list + (int64_t)i * room;
        q->logits = a->logits + (int64_t)i * room;
    }
}

static int ask(struct compiled *c, struct row_choice *choices, int32_t count, int32_t room)
{
    const struct cuda_interface *cuda = c->cuda;
    struct answer on_device;
    size_t bytes = lay_out_answer(&on_device, c->chooser.answer, count, room);
    struct choose_args a = {.room = room, .logits = c->buffer[c->output], .vocab = c->p->buffers[c->output].width, .slices = c->chooser.slices,
                            .bins = c->chooser.bins, .found = on_device.found, .list = on_device.list, .listed_logits = on_device.logits};
    size_t asked = write_asked(c, choices, count, &a);
    int code = cuda->upload(c->stream, c->chooser.asked, c->chooser.host_asked, asked);
    for (int pass = CHOOSE_MOST; pass <= CHOOSE_LIST && !code; pass++) {
        a.pass = (enum choose_pass)pass;
        struct cuda_launch l = {CUDA_choose, (unsigned)((a.vocab + CHOOSE_SLICE - 1) / CHOOSE_SLICE), (unsigned)count, CHOOSE_SHARED_BYTES, &a, sizeof a, c->tune.early};
        code = cuda->launch(c->stream, &l);
    }
    return code ? code : cuda->download(c->stream, c->chooser.host_answer, c->chooser.answer, bytes);
}

enum status cuda_choose(struct compiled *c, struct row_choice *choices, int32_t count, struct error *err)
{
    int32_t room = 0;
    if (count > cuda_most_choices(c) || (count && c->output < 0))
        return error_set(err, STATUS_FAILED, "choose: more than was compiled for, or behind a step without an output");
    for (int32_t i = 0; i < count; i++)
        room = choice_room(choices[i].best) > room ? choice_room(choices[i].best) : room;
    c->pending |= count > 0; /* the answer is to be waited for, whoever waited for the step */
    int code = count ? ask(c, choices, count, room) : 0;
    enum status status = code ? cuda_failed(c, code, err, "choosing from %d rows", count) : STATUS_OK, waited = cuda_complete(c, status ? NULL : err);
    if (status || waited)
        return status ? status : waited;
    struct answer a;
    lay_out_answer(&a, c->chooser.host_answer, count, room);
    read_answer(&a, choices, count, room);
    return STATUS_OK;
}

enum status cuda_fetch(struct compiled *c, int32_t wanted, const float **row, struct error *err)
{
    int64_t width = c->p->buffers[c->output].width, from = c->p->buffers[c->output].rows == ROWS_WANTED ? wanted : c->batch->wanted_rows[wanted];
    c->pending = true;
    int code = c->cuda->download(c->stream, c->result, c->buffer[c->output] + from * width, (size_t)width * sizeof(float));
    enum status waited = cuda_complete(c, code ? NULL : err);
    *row = c->result;
    return code ? cuda_failed(c, code, err, "fetching a row of %s", c->p->buffers[c->output].name) : waited;
}
