/*
 * What the plugin counts: plugin.c sees it happen, counts.c keeps it and writes it down.
 */
#ifndef MEZZANINE_BENCH_COUNTS_H
#define MEZZANINE_BENCH_COUNTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LEVELS = 4, VCPUS = 17, REASON_LENGTH = 64, MARKS = 4096, TRACE = 65536 };
enum { NO_ROW = 0, FIRST_MARK = 48 };

/* A histogram: how often each value was seen. */
struct histogram {
    uint64_t *values, *counts;
    size_t length, capacity;
};

/* The exits of one row for one reason. */
struct tally {
    int row;
    char reason[REASON_LENGTH];
    struct histogram cost;
    uint64_t longest; /* stay at EL2 without a wait in it */
};

/* All of a row: EL2's instructions between opening and closing it, and the exits there. */
struct row {
    struct histogram cost, exits;
};

struct counters {
    uint64_t level[LEVELS];
    uint64_t exits;
};

struct mark {
    int id;
    struct counters at;
    uint64_t x0;
    uint64_t offset; /* CNTVOFF_EL2 */
};

struct vcpu {
    int level;              /* where it runs */
    uint64_t settled;       /* instructions already booked in `sum` */
    struct counters sum;
    bool guest_seen;        /* EL2 has let a guest run */
    struct counters load;   /* at the first instruction below EL2 */
    struct tally *exit;     /* the exit that EL2 is dealing with */
    uint64_t exit_start;    /* instructions before it */
    uint64_t first_wait, last_wait; /* instructions up to EL2's own WFI in it, 0: none */
    bool staying;           /* a stay has begun: by an exit, or by the end of a wait */
    uint64_t stay_start;    /* instructions before it */
    uint64_t vttbr, vmpidr; /* whom EL2 was entered from */
    int row;
    struct counters row_start;
    uint64_t call;          /* X0 of an HVC or SMC under way */
    bool off;               /* a guest has asked for SYSTEM_OFF or SYSTEM_RESET */
    struct counters at_off;
};

/* What plugin.c fills. */
extern struct vcpu vcpus[VCPUS];
extern unsigned vcpu_count;
extern struct row rows[FIRST_MARK];
extern struct mark marks[MARKS];
extern size_t mark_count;
extern uint64_t trace[TRACE];
extern size_t trace_length;

/* `realloc` that ends QEMU where there is no memory. */
void *grown(void *old, size_t size);

/* Notes that `value` was seen once more. */
void add(struct histogram *h, uint64_t value);

/* The tally of a row and reason; past the table's end all reasons are one. */
struct tally *tally(int row, const char *reason);

/* Writes everything down as JSON. */
void write_counts(const char *path);

#endif
