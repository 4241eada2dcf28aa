/*
 * Keeps what the plugin counts, histograms by row and reason, and writes it down: one JSON object, read by counts.rs.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "counts.h"

enum { TALLIES = 8192 };

static struct tally *tallies[TALLIES];
static size_t tally_count;
static bool overflow;

void *grown(void *old, size_t size) {
    void *memory = realloc(old, size);
    if (!memory) {
        fputs("exits plugin: out of memory\n", stderr);
        abort();
    }
    return memory;
}

void add(struct histogram *h, uint64_t value) {
    for (size_t i = 0; i < h->length; i++) {
        if (h->values[i] == value) {
            h->counts[i]++;
            return;
        }
    }
    if (h->length == h->capacity) {
        h->capacity = h->capacity ? 2 * h->capacity : 8;
        h->values = grown(h->values, h->capacity * sizeof *h->values);
        h->counts = grown(h->counts, h->capacity * sizeof *h->counts);
    }
    h->values[h->length] = value;
    h->counts[h->length++] = 1;
}

struct tally *tally(int row, const char *reason) {
    if (tally_count >= TALLIES - FIRST_MARK) {
        overflow = true;
        reason = "other";
    }
    for (size_t i = 0; i < tally_count; i++) {
        if (tallies[i]->row == row && strcmp(tallies[i]->reason, reason) == 0) {
            return tallies[i];
        }
    }
    struct tally *new = grown(NULL, sizeof *new);
    memset(new, 0, sizeof *new);
    new->row = row;
    snprintf(new->reason, sizeof new->reason, "%s", reason);
    tallies[tally_count++] = new;
    return new;
}

static void write_histogram(FILE *file, const struct histogram *h) {
    fputc('[', file);
    for (size_t i = 0; i < h->length; i++) {
        fprintf(file, "%s[%" PRIu64 ",%" PRIu64 "]", i ? "," : "", h->values[i], h->counts[i]);
    }
    fputc(']', file);
}

static void write_counters(FILE *file, const struct counters *c) {
    fprintf(file, "{\"el0\":%" PRIu64 ",\"el1\":%" PRIu64 ",\"el2\":%" PRIu64 ",\"el3\":%" PRIu64 ",\"exits\":%" PRIu64 "}",
            c->level[0], c->level[1], c->level[2], c->level[3], c->exits);
}

static void write_vcpu(FILE *file, unsigned index) {
    struct vcpu *v = &vcpus[index];
    fputs("{\"total\":", file);
    write_counters(file, &v->sum);
    if (v->guest_seen) {
        fputs(",\"load\":", file);
        write_counters(file, &v->load);
    }
    if (v->off) {
        fputs(",\"off\":", file);
        write_counters(file, &v->at_off);
    }
    if (v->exit) {
        fprintf(file, ",\"unfinished\":{\"reason\":\"%s\",\"cost\":%" PRIu64 "}", v->exit->reason,
                v->sum.level[2] - v->exit_start);
    }
    fputc('}', file);
}

void write_counts(const char *path) {
    FILE *file = fopen(path, "w");
    if (!file) {
        perror(path);
        return;
    }
    fputs("{\"vcpus\":[", file);
    for (unsigned i = 0; i < vcpu_count; i++) {
        fputs(i ? "," : "", file);
        write_vcpu(file, i);
    }
    fprintf(file, "],\n\"overflow\":%s,\n\"marks\":[", overflow ? "true" : "false");
    for (size_t i = 0; i < mark_count; i++) {
        fprintf(file, "%s\n{\"id\":%d,\"x0\":%" PRIu64 ",\"cntvoff\":%" PRIu64 ",\"at\":", i ? "," : "", marks[i].id,
                marks[i].x0, marks[i].offset);
        write_counters(file, &marks[i].at);
        fputc('}', file);
    }
    fputs("],\n\"rows\":[", file);
    const char *separator = "";
    for (int i = 0; i < FIRST_MARK; i++) {
        if (rows[i].cost.length) {
            fprintf(file, "%s\n{\"row\":%d,\"cost\":", separator, i);
            write_histogram(file, &rows[i].cost);
            fputs(",\"exits\":", file);
            write_histogram(file, &rows[i].exits);
            fputc('}', file);
            separator = ",";
        }
    }
    fputs("],\n\"exits\":[", file);
    separator = "";
    for (size_t i = 0; i < tally_count; i++) {
        if (tallies[i]->cost.length || tallies[i]->longest) {
            fprintf(file, "%s\n{\"row\":%d,\"reason\":\"%s\",\"stay\":%" PRIu64 ",\"cost\":", separator, tallies[i]->row,
                    tallies[i]->reason, tallies[i]->longest);
            write_histogram(file, &tallies[i]->cost);
            fputc('}', file);
            separator = ",";
        }
    }
    fputs("],\n\"trace\":[", file);
    for (size_t i = 0; i < trace_length; i++) {
        fprintf(file, "%s%" PRIu64, i ? "," : "", trace[i]);
    }
    fputs("]}\n", file);
    fclose(file);
}
