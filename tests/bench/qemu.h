/*
 * What this plugin needs of QEMU's TCG plugin interface, version 4 (QEMU 9.2 to 10.0 and compatible).
 *
 * Debian packages QEMU without the interface's header, so these are declarations of our own, of the
 * functions, constants and layouts that plugin.c uses and of nothing else. The symbols are resolved from the
 * QEMU process that loads the plugin; so are GLib's, of which three functions and two structs are needed.
 */
#ifndef MEZZANINE_BENCH_QEMU_H
#define MEZZANINE_BENCH_QEMU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PLUGIN_INTERFACE = 4 };

/* Which CPU state a callback may look at. */
enum qemu_plugin_cb_flags { CALLBACK_WITHOUT_REGISTERS = 0, CALLBACK_READS_REGISTERS = 1 };

/* What generated code does without a call. */
enum qemu_plugin_op { INLINE_ADD = 0 };

struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_plugin_scoreboard;
struct qemu_plugin_register;

/* A u64 at `offset` of each vCPU's entry in a scoreboard. */
typedef struct {
    struct qemu_plugin_scoreboard *score;
    size_t offset;
} qemu_plugin_u64;

/* A register that a vCPU has: `name` is gdb's. */
typedef struct {
    struct qemu_plugin_register *handle;
    const char *name;
    const char *feature;
} qemu_plugin_reg_descriptor;

/* Facts about the machine, valid during the installation only. */
typedef struct {
    const char *target_name;
    struct {
        int min, cur;
    } version;
    bool system_emulation;
    struct {
        int smp_vcpus, max_vcpus;
    } system;
} qemu_info_t;

/* GLib's arrays, as far as they are public. */
typedef struct {
    char *data;
    unsigned len;
} GArray;
typedef struct {
    uint8_t *data;
    unsigned len;
} GByteArray;

GByteArray *g_byte_array_new(void);
GByteArray *g_byte_array_set_size(GByteArray *array, unsigned length);

typedef void (*vcpu_event)(uint64_t plugin, unsigned vcpu);
typedef void (*block_event)(uint64_t plugin, struct qemu_plugin_tb *block);
typedef void (*execution_event)(unsigned vcpu, void *data);
typedef void (*exit_event)(uint64_t plugin, void *data);

void qemu_plugin_register_vcpu_init_cb(uint64_t plugin, vcpu_event event);
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t plugin, block_event event);
void qemu_plugin_register_atexit_cb(uint64_t plugin, exit_event event, void *data);

void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block, execution_event event,
                                          enum qemu_plugin_cb_flags flags, void *data);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, execution_event event,
                                            enum qemu_plugin_cb_flags flags, void *data);
void qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(struct qemu_plugin_insn *insn, enum qemu_plugin_op op,
                                                         qemu_plugin_u64 counter, uint64_t operand);

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *block);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block, size_t index);
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *buffer, size_t length);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);

struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t entry_size);
uint64_t qemu_plugin_u64_get(qemu_plugin_u64 counter, unsigned vcpu);

GArray *qemu_plugin_get_registers(void);
int qemu_plugin_read_register(struct qemu_plugin_register *handle, GByteArray *buffer);
void qemu_plugin_outs(const char *text);

#endif
