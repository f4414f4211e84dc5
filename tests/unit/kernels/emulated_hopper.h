/* Hopper's words (kernels/cuda/hopper_words.h) in emulated blocks. Part of emulated_block.h. Things that run by themselves happen as late
 * as they may:
 *   - a box is copied when somebody waits for its barrier and all have arrived there, from what the source holds by then; where
 *     emulator.backwards, at once: then a stage that is still read is overwritten;
 *   - products read registers and shared memory when they are waited for, and after all other warps have gone on as far as they can.
 * What traps: barriers that nobody initialised or where more arrive than they count; boxes at wrong addresses; products without
 * WGMMA_BEGIN, or that four warps do not say alike. */
#ifndef TESTS_UNIT_KERNELS_EMULATED_HOPPER_H
#define TESTS_UNIT_KERNELS_EMULATED_HOPPER_H

enum { EMULATED_SHARED_AT = 48, HOPPER_GROUP_SIZE = 128 }; /* where shared memory begins: at no good address for boxes */

#define GRID_X (emulator.grid_x)
#define SHARED_ADDRESS(p) ((uint32_t)((const unsigned char *)(p) - emulator.shared) + EMULATED_SHARED_AT)
#define GROUP_BARRIER(number) emulated_group((number), NULL)
#define WARP_BARRIER() ((void)emulated_exchange(0, 0))
#define REGISTERS_LESS(n) ((void)0)
#define REGISTERS_MORE(n) ((void)0)
#define MBARRIER_INIT(barrier, arrivals) emulated_mbarrier_init((barrier), (arrivals))
#define MBARRIER_READY() ((void)0)
#define MBARRIER_ARRIVE(barrier) emulated_mbarrier_arrive((barrier), 0)
#define MBARRIER_EXPECT(barrier, bytes) emulated_mbarrier_arrive((barrier), (bytes))
#define MBARRIER_WAIT(barrier, parity) emulated_mbarrier_wait((barrier), (parity))
#define TENSOR_LOAD(to, map, x, y, barrier) emulated_tensor_load((to), (map), (x), (y), (barrier))
#define LOAD_MATRICES(out, row) emulated_load_matrices((out), (row))
#define WGMMA_OPERAND(address) ((uint64_t)((address) >> 4 & 0x3FFF) | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62)
#define WGMMA_BEGIN(n, c, a) (emulator.fiber[emulator.now].begun = true)
#define WGMMA(n, c, a, b, add) emulated_wgmma((n), (c), (a), 0, (b), (add))
#define WGMMA_SHARED(n, c, a, b, add) emulated_wgmma((n), (c), NULL, (a), (b), (add))
#define WGMMA_WAIT(n, c, a) emulated_wgmma_wait()

/* ---- barriers and copies -------------------------------------------------------------------------------------------------------- */

static inline unsigned char *emulated_at(uint32_t address, size_t bytes)
{
    if (address < EMULATED_SHARED_AT || address - EMULATED_SHARED_AT + bytes > emulator.shared_bytes)
        emulator_fail("an address outside of shared memory");
    return emulator.shared + (address - EMULATED_SHARED_AT);
}

struct mbarrier {
    uint32_t count : 12, left : 12, phase : 8;
    int32_t bytes;
};

static inline struct mbarrier *emulated_mbarrier_at(uint32_t address)
{
    if (address % 8)
        emulator_fail("a barrier at an address that is no multiple of 8");
    struct mbarrier *b = (struct mbarrier *)(void *)emulated_at(address, sizeof *b);
    if (b->count == 0xFFF)
        emulator_fail("a barrier that nobody has initialised");
    return b;
}

static inline void emulated_mbarrier_init(uint32_t address, int count)
{
    *(struct mbarrier *)(void *)emulated_at(address, sizeof(struct mbarrier)) = (struct mbarrier){(uint32_t)count & 0xFFF, (uint32_t)count & 0xFFF, 0, 0};
}

static inline void emulated_mbarrier_settle(struct mbarrier *b)
{
    if (!b->left && !b->bytes)
        b->phase++, b->left = b->count;
}

static inline void emulated_mbarrier_arrive(uint32_t address, int bytes)
{
    struct mbarrier *b = emulated_mbarrier_at(address);
    if (!b->left)
        emulator_fail("more arrive at a barrier than it counts");
    b->left--;
    b->bytes += bytes;
    emulated_mbarrier_settle(b);
}

/* What emulated devices keep in a tensor map. */
static inline int emulated_map(struct tensor_map *out, const struct cuda_boxes *of)
{
    _Static_assert(sizeof *of <= sizeof *out, "a map holds it");
    if ((uintptr_t)of->base % 16 || of->row_bytes % 16 || of->width < 1 || of->rows < 1 || of->box_rows < 1 || of->box_rows > 256)
        return 9; /* as the driver */
    memset(out, 0, sizeof *out);
    memcpy(out, of, sizeof *of);
    return 0;
}

static inline void emulated_copy_box(const struct box *box)
{
    struct cuda_boxes of;
    memcpy(&of, box->map, sizeof of);
    for (int r = 0; r < of.box_rows; r++)
        for (int i = 0; i < HOPPER_DEPTH; i++) {
            uint32_t at = box->to + (uint32_t)(r * HOPPER_DEPTH + i) * 2;
            int64_t x = box->x + i, y = box->y + r;
            bool inside = x >= 0 && x < of.width && y >= 0 && y < of.rows;
            at ^= (at >> 7 & 7) << 4;
            *(uint16_t *)(void *)(emulator.shared + (at - EMULATED_SHARED_AT)) =
                inside ? *(const uint16_t *)(const void *)((const unsigned char *)of.base + y * of.row_bytes + 2 * x) : 0;
        }
    struct mbarrier *b = emulated_mbarrier_at(box->barrier);
    b->bytes -= of.box_rows * HOPPER_DEPTH * 2;
    emulated_mbarrier_settle(b);
}

/* Makes the copies that a barrier waits for. */
static inline void emulated_deliver(uint32_t barrier)
{
    int kept = 0, boxes = emulator.boxes;
    for (int i = 0; i < boxes; i++)
        if (emulator.box[i].barrier == barrier)
            emulated_copy_box(&emulator.box[i]);
        else
            emulator.box[kept++] = emulator.box[i];
    emulator.boxes = kept;
}

static inline void emulated_tensor_load(uint32_t to, const struct tensor_map *map, int64_t x, int64_t y, uint32_t barrier)
{
    struct cuda_boxes of;
    memcpy(&of, map, sizeof of);
    if (to % 1024 || (uintptr_t)map % 64)
        emulator_fail("a box at no multiple of 1024 bytes, or its map at none of 64");
    (void)emulated_at(to, (size_t)of.box_rows * HOPPER_DEPTH * 2);
    if (emulator.boxes == EMULATED_BOXES)
        emulator_fail("more boxes under way than the emulation has room for");
    emulator.box[emulator.boxes++] = (struct box){to, barrier, map, x, y};
    if (emulator.backwards)
        emulated_deliver(barrier);
}

static inline void emulated_mbarrier_wait(uint32_t address, uint32_t parity)
{
    struct fiber *f = &emulator.fiber[emulator.now];
    for (;;) {
        const struct mbarrier *b = emulated_mbarrier_at(address);
        if ((b->phase & 1) == parity && !b->left)
            emulated_deliver(address);
        if ((b->phase & 1) != parity)
            break;
        fiber_leave();
    }
    f->waits++;
}

/* ---- products -------------------------------------------------------------------------------------------------------------------- */

/* All 128 threads that say the same number meet; the last one does what there is to do for all. */
static inline void emulated_group(int number, void (*together)(int first))
{
    struct fiber *f = &emulator.fiber[emulator.now];
    int mine = ++f->met[number];
    f->waits++;
    if (++emulator.group_arrived[number] == HOPPER_GROUP_SIZE) {
        if (together)
            together(emulator.now / HOPPER_GROUP_SIZE * HOPPER_GROUP_SIZE);
        emulator.group_arrived[number] = 0;
        emulator.group_met[number]++;
    }
    while (emulator.group_met[number] < mine)
        fiber_leave();
}

static inline void emulated_matrix_loads(const struct lane *lanes)
{
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 4; i++)
            memcpy((uint32_t *)lanes[l].c + i, (const uint16_t *)lanes[8 * i + l / 4].a + 2 * (l % 4), 4);
}

static inline void emulated_load_matrices(uint32_t *out, const void *row)
{
    emulated_aligned(row);
    emulated_meet((struct lane){.a = row, .c = out}, emulated_matrix_loads);
}

/* Value k of row r of an operand: rows of 128 bytes, eight of them `stride` bytes from the next eight, pieces of 16 bytes swizzled. */
static inline float emulated_operand(uint64_t operand, int r, int k)
{
    uint32_t start = (uint32_t)(operand & 0x3FFF) << 4, stride = (uint32_t)(operand >> 32 & 0x3FFF) << 4;
    uint32_t at = start + (uint32_t)(r / 8) * stride + (uint32_t)(r % 8) * 128 + (uint32_t)k * 2;
    at ^= (at >> 7 & 7) << 4;
    return bf16_to_float(*(const uint16_t *)(const void *)emulated_at(at, 2));
}

/* Product `number` of the group whose first thread is `first`. */
static inline void emulated_group_product(int first, int number)
{
    static float a[64][16], b[256][16];
    const struct group_product *one = &emulator.fiber[first].product[number];
    for (int thread = 0; thread < HOPPER_GROUP_SIZE; thread++) {
        const struct group_product *p = &emulator.fiber[first + thread].product[number];
        int l = thread % 32, m = thread / 32 * 16 + l / 4;
        if (emulator.fiber[first + thread].products != emulator.fiber[first].products || p->n != one->n || p->from != one->from || p->b != one->b ||
            p->add != one->add || !p->a != !one->a)
            emulator_fail("threads of a group ask for different products");
        for (int i = 0; i < 8 && p->a; i++)
            a[m + i / 2 % 2 * 8][2 * (l % 4) + i % 2 + i / 4 * 8] = bf16_to_float((uint16_t)(p->a[i / 2] >> (16 * (i % 2))));
    }
    for (int r = 0; r < one->n; r++)
        for (int k = 0; k < 16; k++)
            b[r][k] = emulated_operand(one->b, r, k);
    for (int r = 0; r < 64 && !one->a; r++)
        for (int k = 0; k < 16; k++)
            a[r][k] = emulated_operand(one->from, r, k);
    for (int thread = 0; thread < HOPPER_GROUP_SIZE; thread++) {
        const struct group_product *p = &emulator.fiber[first + thread].product[number];
        for (int i = 0; i < one->n / 2; i++) {
            int m = thread / 32 * 16 + thread % 32 / 4 + i / 2 % 2 * 8, n = i / 4 * 8 + thread % 4 * 2 + i % 2;
            double sum = 0;
            for (int k = 0; k < 16; k++)
                sum += (double)a[m][k] * (double)b[n][k];
            p->c[i] = (one->add ? p->c[i] : 0) + (float)sum;
        }
    }
}

static inline void emulated_group_products(int first)
{
    for (int i = 0; i < emulator.fiber[first].products; i++)
        emulated_group_product(first, i);
    for (int i = first; i < first + HOPPER_GROUP_SIZE; i++)
        emulator.fiber[i].products = 0, emulator.fiber[i].begun = false;
}

static inline void emulated_wgmma(int n, float *c, const uint32_t *a, uint64_t from, uint64_t b, int add)
{
    struct fiber *f = &emulator.fiber[emulator.now];
    if (!f->begun)
        emulator_fail("a product without WGMMA_BEGIN");
    if (b >> 62 != 1 || (!a && from >> 62 != 1) || (n != 128 && n != 256) || f->products == FIBER_PRODUCTS)
        emulator_fail("a product of that kind");
    f->product[f->products++] = (struct group_product){n, add, c, a, from, b};
}

static inline void emulated_wgmma_wait(void)
{
    emulator.delayed = true;
    for (int round = emulator.round; emulator.round == round;)
        fiber_leave();
    emulated_group(EMULATED_GROUPS - 1 - emulator.now / HOPPER_GROUP_SIZE, emulated_group_products);
}

#endif
