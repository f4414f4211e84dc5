/* Float32 on standard input through a storage format and back, on standard output: what an encoder does to real weights.
 *
 *   bench_quantise Q4_K [IMPORTANCE] < weights.f32 > read-back.f32
 *
 * IMPORTANCE: a file of float32, one per column, used row after row. Time and the root mean square error go to standard error. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "kernels/ops.h"

enum { PIECE = 1 << 16 };

int main(int argc, char **argv)
{
    const struct format *f = NULL;
    for (int i = 0; i < STORAGE_COUNT && argc > 1; i++)
        if (!strcmp(argv[1], storage_types[i].name))
            f = format_find((enum storage)i);
    FILE *columns = argc > 2 ? fopen(argv[2], "rb") : NULL;
    if (!f || !f->encode || (argc > 2 && !columns))
        return fprintf(stderr, "usage: bench_quantise TYPE [IMPORTANCE] < weights.f32 > read-back.f32\n"), 2;
    static float values[PIECE], back[PIECE], importance[PIECE];
    static unsigned char bytes[PIECE * 4];
    size_t piece = PIECE, total = 0, n;
    if (columns)
        piece = fread(importance, sizeof(float), PIECE, columns);
    double squares = 0, errors = 0, seconds = 0;
    while ((n = fread(values, sizeof(float), piece, stdin)) > 0) {
        double start = clock_seconds();
        f->encode(values, columns ? importance : NULL, bytes, (int64_t)n);
        seconds += clock_seconds() - start;
        f->decode(bytes, back, (int64_t)n);
        for (size_t i = 0; i < n; i++) {
            squares += (double)values[i] * values[i];
            errors += ((double)values[i] - back[i]) * ((double)values[i] - back[i]);
        }
        fwrite(back, sizeof(float), n, stdout);
        total += n;
    }
    fprintf(stderr, "%s: relative RMS error %.6f, %.1f million values/s on one core\n", argv[1], sqrt(errors / squares), (double)total / seconds / 1e6);
    return 0;
}
