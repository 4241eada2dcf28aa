/*
 * Counts instructions per exception level and per exit to EL2: a QEMU TCG plugin.
 *
 * An exit lasts from the first instruction of EL2's vector to the ERET, both included. QEMU keys its
 * translation blocks by the exception level, so that a block has one level for life: it is read from CPSR when
 * the block first runs, and every later run compares one byte. No address is involved; a guest that maps
 * code where EL2 has its own is not mistaken for it. Instructions are counted one by one, not by blocks: a block
 * that an exception leaves half-way counts what was executed, the faulting instruction included.
 *
 * A guest talks to the plugin by hints, which are NOPs to every CPU:
 *   HINT #64       closes the open row
 *   HINT #64 + n   opens row n, 1 <= n <= 47: exits are booked under it until it is closed
 *   HINT #112 + n  a mark, 0 <= n <= 15: all counters are written down, with X0 and CNTVOFF_EL2
 *
 * Arguments: out=FILE (JSON), offsets=on (device accesses are told apart by register, not by page), trace=N (the
 * address of each instruction of row N's last exit).
 * One thread must run all CPUs (-icount does that); the tables have no lock. With several CPUs QEMU 10.0 then tells a
 * callback the number of the CPU that translated the block, not of the one that runs it, and miscounts inline. So there a
 * callback counts, and a CPU is known by its TPIDR_EL2, which must be its own, and not 0, before guests run.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "counts.h"
#include "qemu.h"

__attribute__((visibility("default"))) int qemu_plugin_version = PLUGIN_INTERFACE;

enum { UNKNOWN = -1, FIRST_HINT = 64, HINTS = 64 };

struct vcpu vcpus[VCPUS];
unsigned vcpu_count;
struct row rows[FIRST_MARK];
struct mark marks[MARKS];
size_t mark_count;
uint64_t trace[TRACE];
size_t trace_length;
static bool offsets;
static bool any_guest_seen; /* on whichever CPU */
static uint64_t vectors;    /* VBAR_EL2, once a guest has left */
static int traced_row; /* NO_ROW: nothing is traced */
static const char *out;
static qemu_plugin_u64 executed;
static bool several;      /* CPUs */
static uint64_t stepped;  /* instructions, where there are several */
static unsigned running;  /* the CPU that runs */
static uint64_t known[VCPUS]; /* TPIDR_EL2 of each; 0: those that boot, all together */
static GByteArray *buffer;

/* The registers that are read, by gdb's names. */
enum reg { CPSR, X0, ESR, FAR, HPFAR, CNTVOFF, VTTBR, VMPIDR, TPIDR, REGISTERS };
static const char *const names[REGISTERS] = {"cpsr",      "x0",        "ESR_EL2",    "FAR_EL2",  "HPFAR_EL2",
                                             "CNTVOFF_EL2", "VTTBR_EL2", "VMPIDR_EL2", "TPIDR_EL2"};
static struct qemu_plugin_register *handles[REGISTERS];

/* A register of the vCPU that runs; a register that the CPU lacks reads as zero. */
static uint64_t read(enum reg which) {
    uint64_t value = 0;
    if (handles[which]) {
        g_byte_array_set_size(buffer, 0);
        int length = qemu_plugin_read_register(handles[which], buffer);
        if (length > 0) {
            memcpy(&value, buffer->data, length < 8 ? length : 8);
        }
    }
    return value;
}

/* CPSR.M[3:2] is the level; AArch32's modes (M[4]) below EL2 are User or EL1. */
static int current_level(void) {
    uint64_t cpsr = read(CPSR);
    if (cpsr & 0x10) {
        return (cpsr & 0xf) == 0 ? 0 : 1;
    }
    return (cpsr >> 2) & 3;
}

static void describe_abort(char *text, size_t size, const char *kind, uint64_t esr) {
    uint64_t page = (read(HPFAR) & 0xfffffffff0) << 8;
    uint64_t address = page | (offsets ? read(FAR) & 0xfff : 0);
    const char *isv = esr & (1 << 24) ? "" : ", no syndrome";
    snprintf(text, size, "%s 0x%" PRIx64 "%s", kind, address, isv);
}

static void describe_register(char *text, size_t size, uint64_t iss) {
    snprintf(text, size, "%s S%d_%d_C%d_C%d_%d", iss & 1 ? "MRS" : "MSR", (int)(iss >> 20) & 3, (int)(iss >> 14) & 7,
             (int)(iss >> 10) & 15, (int)(iss >> 1) & 15, (int)(iss >> 17) & 7);
}

/* Names a synchronous exception by its class (Arm ARM, ESR_EL2.EC). */
static void describe_sync(char *text, size_t size, uint64_t esr, struct vcpu *v) {
    static const char *const waits[] = {"WFI", "WFE", "WFIT", "WFET"};
    unsigned class = (esr >> 26) & 0x3f, immediate = esr & 0xffff;
    switch (class) {
    case 0x01:
        snprintf(text, size, "%s", waits[esr & 3]);
        return;
    case 0x07:
        snprintf(text, size, "FP");
        return;
    case 0x12:
    case 0x16:
        v->call = read(X0);
        snprintf(text, size, "HVC #%u 0x%08x", immediate, (unsigned)v->call);
        return;
    case 0x13:
    case 0x17:
        v->call = read(X0);
        snprintf(text, size, "SMC #%u 0x%08x", immediate, (unsigned)v->call);
        return;
    case 0x18:
        describe_register(text, size, esr & 0x1ffffff);
        return;
    case 0x20:
        snprintf(text, size, "instruction abort 0x%" PRIx64, (read(HPFAR) & 0xfffffffff0) << 8);
        return;
    case 0x24:
        describe_abort(text, size, esr & 0x40 ? "write" : "read", esr);
        return;
    default:
        snprintf(text, size, "EC 0x%02x", class);
    }
}

/* EL2 waits, or lets a guest run: so long it had the CPU without a break. */
static void stay_ends(struct vcpu *v) {
    uint64_t length = v->sum.level[2] - v->stay_start;
    if (v->staying) {
        struct tally *of = v->exit ? v->exit : tally(NO_ROW, "no guest there yet");
        of->longest = length > of->longest ? length : of->longest;
    }
}

/* EL2 has been entered at `vector`, and has not executed anything yet. */
static void exit_begins(struct vcpu *v, uint64_t vector) {
    static const char *const asynchronous[] = {NULL, "IRQ", "FIQ", "SError"};
    char reason[REASON_LENGTH] = "";
    size_t used = 0;
    v->call = 0;
    if (vector & 0x200) {
        used = (size_t)snprintf(reason, sizeof reason, "AArch32 ");
    }
    const char *name = asynchronous[(vector >> 7) & 3];
    if (name) {
        snprintf(reason + used, sizeof reason - used, "%s", name);
    } else {
        describe_sync(reason + used, sizeof reason - used, read(ESR), v);
    }
    v->exit = tally(v->row, reason);
    if (v->row == traced_row) {
        trace_length = 0;
    }
    v->exit_start = v->sum.level[2];
    v->first_wait = v->last_wait = 0;
    v->staying = true;
    v->stay_start = v->sum.level[2];
    v->vttbr = read(VTTBR);
    v->vmpidr = read(VMPIDR);
    v->sum.exits++;
    unsigned call = (unsigned)v->call;
    if (!v->off && (call == 0x84000008 || call == 0x84000009)) {
        v->off = true;
        v->at_off = v->sum;
    }
}

/* EL2's ERET has been executed. */
static void exit_ends(struct vcpu *v) {
    char reason[REASON_LENGTH + 32];
    uint64_t cost = v->sum.level[2] - v->exit_start;
    add(&v->exit->cost, cost);
    if (v->vttbr != read(VTTBR) || v->vmpidr != read(VMPIDR)) {
        snprintf(reason, sizeof reason, "%.40s, to another vCPU", v->exit->reason);
        add(&tally(v->exit->row, reason)->cost, cost);
    }
    if (v->first_wait) {
        snprintf(reason, sizeof reason, "%.40s, until EL2 waits", v->exit->reason);
        add(&tally(v->exit->row, reason)->cost, v->first_wait - v->exit_start);
        snprintf(reason, sizeof reason, "%.40s, after EL2 woke", v->exit->reason);
        add(&tally(v->exit->row, reason)->cost, v->sum.level[2] - v->last_wait);
    }
    v->exit = NULL;
}

/* All instructions so far: of the only CPU, or of all. */
static uint64_t now(void) { return several ? stepped : qemu_plugin_u64_get(executed, 0); }

/* Books what was executed at the level that the running CPU is at. */
static void settle(struct vcpu *v) {
    uint64_t until = now();
    if (v->level != UNKNOWN) {
        v->sum.level[v->level] += until - v->settled;
    }
    v->settled = until;
}

/* The CPU that runs, which may be another one than before. */
static struct vcpu *who_runs(void) {
    if (several) {
        uint64_t self = read(TPIDR);
        unsigned index = running;
        if (known[index] != self) {
            for (index = 0; index < vcpu_count && known[index] != self; index++) {
            }
            if (index == VCPUS) {
                fprintf(stderr, "exits plugin: %d CPUs at most\n", VCPUS - 1);
                exit(1);
            }
            if (index == vcpu_count) {
                known[index] = self;
                vcpus[index].level = UNKNOWN;
                vcpu_count++;
            }
            settle(&vcpus[running]);
            running = index;
            vcpus[running].settled = now();
        }
    }
    return &vcpus[running];
}

/* One translation block: its level, once it has run, and where it starts. */
struct block {
    int level;
    uint64_t address;
};

/* Whether exceptions from below EL2 come here: the upper half of EL2's vectors, as the first one showed. */
static bool is_vector(uint64_t address) {
    return vectors && (address & ~0x7ffull) == vectors && (address & 0x47f) == 0x400;
}

/* EL2's ERET: what it did is done. */
static void guest_entered(struct vcpu *v) {
    stay_ends(v);
    v->staying = false;
    if (v->exit) {
        exit_ends(v);
    }
}

static void block_runs(unsigned index, void *data) {
    (void)index;
    struct block *block = data;
    struct vcpu *v = who_runs();
    if (block->level == v->level && v->level != UNKNOWN) {
        if (v->level == 2 && is_vector(block->address)) {
            /* A guest was entered, and left before its first instruction. */
            settle(v);
            guest_entered(v);
            exit_begins(v, block->address);
        }
        return;
    }
    if (block->level == UNKNOWN) {
        block->level = current_level();
        if (block->level == v->level) {
            return;
        }
    }
    settle(v);
    int from = v->level;
    v->level = block->level;
    if (from == 2 && v->level < 2) {
        if (!v->guest_seen) {
            any_guest_seen = v->guest_seen = true;
            v->load = v->sum;
        }
        guest_entered(v);
    } else if (from != UNKNOWN && from < 2 && v->level == 2) {
        vectors = block->address & ~0x7ffull;
        exit_begins(v, block->address);
    }
}

static void steps(unsigned index, void *data) {
    (void)index;
    (void)data;
    stepped++;
}

static void traced_runs(unsigned index, void *data) {
    (void)index;
    struct vcpu *v = &vcpus[running];
    if (v->exit && v->exit->row == traced_row && v->level == 2 && trace_length < TRACE) {
        trace[trace_length++] = (uint64_t)(uintptr_t)data;
    }
}

static void wait_runs(unsigned index, void *data) {
    (void)index;
    (void)data;
    struct vcpu *v = &vcpus[running];
    if (v->level != 2) {
        return;
    }
    settle(v);
    stay_ends(v);
    v->staying = any_guest_seen;
    v->stay_start = v->sum.level[2];
    if (v->exit) {
        v->last_wait = v->sum.level[2];
        if (!v->first_wait) {
            v->first_wait = v->last_wait;
        }
    }
}

static uint64_t el2_since(const struct vcpu *v) { return v->sum.level[2] - v->row_start.level[2]; }

static void hint_runs(unsigned index, void *data) {
    (void)index;
    struct vcpu *v = &vcpus[running];
    int number = (int)(intptr_t)data;
    if (v->level > 1 || (read(CPSR) & 0x10)) {
        return;
    }
    settle(v);
    if (number >= FIRST_MARK) {
        if (mark_count < MARKS) {
            marks[mark_count++] = (struct mark){number - FIRST_MARK, v->sum, read(X0), read(CNTVOFF)};
        }
        return;
    }
    if (v->row != NO_ROW) {
        add(&rows[v->row].cost, el2_since(v));
        add(&rows[v->row].exits, v->sum.exits - v->row_start.exits);
    }
    v->row = number;
    v->row_start = v->sum;
}

static void block_translated(uint64_t plugin, struct qemu_plugin_tb *tb) {
    (void)plugin;
    /* Blocks are made a few hundred thousand times in a boot; what they leave here is freed at the end. */
    struct block *block = grown(NULL, sizeof *block);
    *block = (struct block){UNKNOWN, qemu_plugin_tb_vaddr(tb)};
    qemu_plugin_register_vcpu_tb_exec_cb(tb, block_runs, CALLBACK_READS_REGISTERS, block);
    size_t count = qemu_plugin_tb_n_insns(tb);
    for (size_t i = 0; i < count; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        if (several) {
            qemu_plugin_register_vcpu_insn_exec_cb(insn, steps, CALLBACK_WITHOUT_REGISTERS, NULL);
        } else {
            qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, INLINE_ADD, executed, 1);
        }
        if (traced_row != NO_ROW) {
            qemu_plugin_register_vcpu_insn_exec_cb(insn, traced_runs, CALLBACK_WITHOUT_REGISTERS,
                                                   (void *)(uintptr_t)qemu_plugin_insn_vaddr(insn));
        }
        uint32_t word = 0;
        if (qemu_plugin_insn_size(insn) != 4 || qemu_plugin_insn_data(insn, &word, 4) != 4) {
            continue;
        }
        /* HINT #imm: 1101 0101 0000 0011 0010 imm7 11111 (Arm ARM, C6.2); WFI is HINT #3's own encoding. */
        if ((word & 0xfffff01f) == 0xd503201f) {
            int number = (int)((word >> 5) & 0x7f) - FIRST_HINT;
            if (number >= 0 && number < HINTS) {
                qemu_plugin_register_vcpu_insn_exec_cb(insn, hint_runs, CALLBACK_READS_REGISTERS,
                                                       (void *)(intptr_t)number);
            } else if (word == 0xd503207f) {
                qemu_plugin_register_vcpu_insn_exec_cb(insn, wait_runs, CALLBACK_WITHOUT_REGISTERS, NULL);
            }
        }
    }
}

static void vcpu_starts(uint64_t plugin, unsigned index) {
    (void)plugin;
    if (index != 0) {
        return;
    }
    vcpus[0].level = UNKNOWN;
    vcpu_count = 1;
    GArray *registers = qemu_plugin_get_registers();
    const qemu_plugin_reg_descriptor *all = (const void *)registers->data;
    for (unsigned i = 0; i < registers->len; i++) {
        for (int which = 0; which < REGISTERS; which++) {
            if (strcmp(all[i].name, names[which]) == 0) {
                handles[which] = all[i].handle;
            }
        }
    }
    for (int which = 0; which < REGISTERS; which++) {
        if (!handles[which] && (which <= X0 || (several && which == TPIDR))) {
            fprintf(stderr, "exits plugin: this QEMU shows no register %s\n", names[which]);
            exit(1);
        }
    }
}

static void finish(uint64_t plugin, void *data) {
    (void)plugin;
    (void)data;
    settle(&vcpus[running]);
    write_counts(out);
}

__attribute__((visibility("default"))) int qemu_plugin_install(uint64_t plugin, const qemu_info_t *info, int argc,
                                                               char **argv) {
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "out=", 4) == 0) {
            out = argv[i] + 4;
        } else if (strcmp(argv[i], "offsets=on") == 0) {
            offsets = true;
        } else if (strncmp(argv[i], "trace=", 6) == 0) {
            traced_row = atoi(argv[i] + 6);
        } else {
            fprintf(stderr, "exits plugin: unknown argument %s; there are out=FILE, offsets=on, trace=ROW\n", argv[i]);
            return 1;
        }
    }
    if (!out || !info->system_emulation || strcmp(info->target_name, "aarch64") != 0) {
        fputs("exits plugin: needs qemu-system-aarch64 and out=FILE\n", stderr);
        return 1;
    }
    several = info->system.smp_vcpus > 1;
    buffer = g_byte_array_new();
    executed = (qemu_plugin_u64){qemu_plugin_scoreboard_new(sizeof(uint64_t)), 0};
    qemu_plugin_register_vcpu_init_cb(plugin, vcpu_starts);
    qemu_plugin_register_vcpu_tb_trans_cb(plugin, block_translated);
    qemu_plugin_register_atexit_cb(plugin, finish, NULL);
    return 0;
}
