/* Merges of a large file on their way from its text to the table: a second thread looks them up while the first reads on. Before
 * the first merge comes, the second thread sees whether the file is UTF-8. Halves that were found in the vocabulary are UTF-8 if this is, so
 * merges, most of a file, are not looked at for that.
 *
 * Owner of everything: the reading thread. What the other one touches between queue_start() and queue_end(): the text, the chunks that
 * were handed over, the bpe that it adds to and the vocabulary that this one looks things up in. */
#ifndef TOKENIZERS_MERGE_QUEUE_H
#define TOKENIZERS_MERGE_QUEUE_H

#include <pthread.h>

#include "base/arena.h"
#include "tokenizers/bpe.h"

enum { QUEUE_CHUNK = 128 * MERGE_BATCH /* halves */ };

struct merge_chunk {
    struct merge_chunk *next;
    size_t count;
    struct arena unescaped; /* texts that do not stand in the file as they are */
    struct wanted_text halves[QUEUE_CHUNK];
};

struct merge_queue {
    const char *text, *end; /* the file */
    struct bpe *bpe;
    struct merge_chunk *filling; /* the reading thread's */
    size_t count;                /* merges so far */
    const char *merges, *behind; /* the part of the file that holds nothing but merges: from the first half to the end of the last one */
    bool threaded;
    pthread_t thread;

    pthread_mutex_t lock; /* of all below */
    pthread_cond_t changed;
    struct merge_chunk *first, *last;
    bool open;  /* the vocabulary is there: chunks can be looked up */
    bool ended; /* no more come */
    size_t checked;      /* bytes of the text that are UTF-8, seen by the second thread while it waited */
    enum status status;
    struct error error;
};

/* Small files, and machines with one core, get no thread. */
void queue_start(struct merge_queue *q, struct bpe *bpe, const char *text, size_t size);
/* A merge's halves: in the file they stay where they are, unescaped ones are copied. */
enum status queue_add(struct merge_queue *q, struct wanted_text left, struct wanted_text right, struct error *err);
/* The vocabulary is indexed and stays as it is until queue_finish(). */
void queue_open(struct merge_queue *q);
/* Waits until all merges are in the table; errors of look-ups come out here. The queue must be open. */
enum status queue_finish(struct merge_queue *q, struct error *err);
/* Asked when all is read: is the text UTF-8, but for the part that holds nothing but merges? */
bool queue_rest_is_valid(struct merge_queue *q);
/* Are there no merges whose halves were not found in the vocabulary? Then that part is UTF-8 as well. */
bool queue_found_all(const struct merge_queue *q);
/* Ends the thread and frees what is left. */
void queue_end(struct merge_queue *q);

#endif
