// SPDX-License-Identifier: GPL-2.0-only
/*
 * Morpheus, tier observe: the kernel says to a worker thread that it is time to yield.
 *
 * A worker thread runs many small things of its program's own (futures, Wasm guests, requests), and
 * only it knows when it may turn from one to the next. What it cannot know is whether anybody waits.
 * The kernel knows. So the kernel writes one number into memory that both can see, the worker
 * compares it with another number whenever that suits it, and yields if they differ. Nobody makes a
 * system call for it and nobody is woken.
 *
 * What is here hints, and can do nothing else: no program of this file can block, move, slow or
 * wake a thread that did not ask for it, and nothing here schedules. A worker that never looks is
 * told once and runs on as if we were not there.
 *
 * Three questions, three programs:
 *
 *   on_switch   which worker runs on this processor?      at each context switch
 *   on_wakeup   did somebody just get in line behind it?  at each wake-up
 *   on_tick     is it over its slice, and does anybody    every millisecond, from a software
 *               wait?                                     perf event of each processor
 *
 * What is known of a worker is eight bytes, its identity, in the kernel's own storage for that
 * thread: it was put there by the agent through a descriptor of the thread, cannot be claimed by
 * the thread itself, is not inherited by a fork, and is gone with the thread; a thread that gets
 * the same number later has none. Everything else is in the worker's control block (morpheus.h), in
 * memory of its own process, and is believed only as far as it harms nobody but that process.
 *
 * There are no tasks here. Maps are keyed by processor, by process and by worker, never by what a
 * worker runs; `cargo xtask check` refuses a map that is not on its list.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "morpheus.h"

typedef unsigned int u32;
typedef unsigned long long u64;
typedef _Bool bool;

char LICENSE[] SEC("license") = "GPL";

/* Kernel types: only the fields that are read, found by name in the running kernel's BTF. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct rq {
    unsigned int nr_running;
};
struct cfs_rq {
    struct rq *rq;
};
struct sched_entity {
    struct cfs_rq *cfs_rq;
};
struct thread_info {
    u32 cpu;
};
struct task_struct {
    struct thread_info thread_info;
    struct sched_entity se;
    void *bpf_storage;
};
#pragma clang attribute pop

/*
 * An identity, in one word so that a reader on another processor never sees half of one:
 *
 *   63..32 generation   31..16 block   15..8 process + 1   1 quiet   0 bell
 *
 * Zero is nobody. A quiet thread is no worker: it serves a process's guidance, and if its wake-ups
 * were reasons for hints, one hint would make the next.
 */
#define BELL 1ull
#define QUIET 2ull
#define PROCESS(id) ((u32)((id) >> 8 & 0xff) - 1)
#define BLOCK(id) ((u32)((id) >> 16 & 0xffff))
#define GENERATION(id) ((u32)((id) >> 32))

/* Set before loading: a wake-up hints only a worker that did the same for this long. */
const volatile u64 wake_after_ns = 5000;

/* By thread: its identity. Written by the agent alone. */
struct {
    __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, u64);
} workers SEC(".maps");

/* By processor: the identity of the worker that runs there. A cache line each. */
struct processor {
    u64 worker;
    u64 unused[7];
};
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, MORPHEUS_CPUS_MAX);
    __type(key, u32);
    __type(value, struct processor);
} running SEC(".maps");

/* By process: the control blocks of its workers, which it maps. Made when it introduces itself. */
struct blocks {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE | BPF_F_INNER_MAP);
    __uint(max_entries, 1);
    __uint(key_size, sizeof(u32));
    __uint(value_size, sizeof(struct morpheus_block));
};
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, MORPHEUS_PROCESSES_MAX);
    __type(key, u32);
    __array(values, struct blocks);
} processes SEC(".maps");

/*
 * By process: a bell for those whose safe points cannot look into memory (an engine with an epoch
 * of its own). One thread of the process waits for it. Others are never rung for.
 */
struct bell {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 4096);
};
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, MORPHEUS_PROCESSES_MAX);
    __type(key, u32);
    __array(values, struct bell);
} bells SEC(".maps");

#define READ(x) (*(const volatile typeof(x) *)&(x))

static __always_inline struct morpheus_block *block_of(u64 id)
{
    u32 process = PROCESS(id), block = BLOCK(id);
    void *blocks = bpf_map_lookup_elem(&processes, &process);
    struct morpheus_block *found;

    if (!blocks)
        return 0;
    found = bpf_map_lookup_elem(blocks, &block);
    /* Of a worker that was there before, or scribbled over: not ours to hint. */
    if (!found || READ(found->hints.generation) != GENERATION(id))
        return 0;
    return found;
}

/* How long the worker has done the same, as it says; the future counts as now. */
static __always_inline u64 age_of(struct morpheus_block *block, u64 now)
{
    u64 turn = READ(block->runtime.turn_ns);

    return turn < now ? now - turn : 0;
}

static __always_inline u64 slice_of(struct morpheus_block *block)
{
    u64 slice = READ(block->runtime.slice_ns);

    if (!slice)
        return MORPHEUS_SLICE_DEFAULT;
    if (slice < MORPHEUS_SLICE_MIN)
        return MORPHEUS_SLICE_MIN;
    return slice > MORPHEUS_SLICE_MAX ? MORPHEUS_SLICE_MAX : slice;
}

/* The identity of a thread; null for almost all there are, which have nothing stored at all. */
static __always_inline u64 *id_of(struct task_struct *task)
{
    if (bpf_core_field_exists(task->bpf_storage) && !task->bpf_storage)
        return 0;
    return bpf_task_storage_get(&workers, task, 0, 0);
}

static __always_inline void hint(struct morpheus_block *block, u64 id, u32 reason)
{
    u32 acknowledged = READ(block->runtime.ack_seq);

    if (READ(block->hints.preempt_seq) != acknowledged) {
        __sync_fetch_and_add(&block->hints.dropped, 1);
        return;
    }
    /* Before the sequence number, so that who sees the number sees these. */
    block->hints.reason = reason;
    block->hints.hint_ns = bpf_ktime_get_ns();
    if (__sync_val_compare_and_swap(&block->hints.preempt_seq, acknowledged,
                    acknowledged + 1) != acknowledged) {
        __sync_fetch_and_add(&block->hints.dropped, 1);
        return;
    }
    __sync_fetch_and_add(&block->hints.kernel, 1);
    if (id & BELL) {
        u32 process = PROCESS(id);
        void *bell = bpf_map_lookup_elem(&bells, &process);

        /* A bell that is full has been rung. */
        if (bell)
            bpf_ringbuf_output(bell, &id, sizeof(id), BPF_RB_FORCE_WAKEUP);
    }
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
    u32 cpu = bpf_get_smp_processor_id();
    struct processor *here = bpf_map_lookup_elem(&running, &cpu);
    u64 *id, worker;

    if (!here)
        return 0;
    id = id_of(next);
    worker = id && !(*id & QUIET) ? *id : 0;
    if (here->worker != worker)
        here->worker = worker;
    return 0;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(on_wakeup, struct task_struct *woken)
{
    u32 cpu = woken->thread_info.cpu;
    struct processor *there = bpf_map_lookup_elem(&running, &cpu);
    struct morpheus_block *block;
    u64 id, now, *own;

    if (!there)
        return 0;
    id = READ(there->worker);
    if (!id)
        return 0;
    /* A worker that is woken before it slept is not in its own way. */
    own = id_of(woken);
    if (own && (*own == id || *own & QUIET))
        return 0;
    block = block_of(id);
    if (!block || READ(block->runtime.state) != MORPHEUS_RUNNING)
        return 0;
    now = bpf_ktime_get_ns();
    if (age_of(block, now) >= wake_after_ns)
        hint(block, id, MORPHEUS_WAKEUP);
    return 0;
}

/* How many threads want this processor; one, if this kernel does not show it. */
static __always_inline u32 wanting(void)
{
    struct task_struct *self = bpf_get_current_task_btf();

    if (!bpf_core_field_exists(self->se.cfs_rq))
        return 1;
    return self->se.cfs_rq->rq->nr_running;
}

SEC("perf_event")
int on_tick(void *ctx)
{
    u32 cpu = bpf_get_smp_processor_id();
    struct processor *here = bpf_map_lookup_elem(&running, &cpu);
    struct morpheus_block *block;
    u64 id, now, age, slice;

    if (!here)
        return 0;
    id = here->worker;
    if (!id)
        return 0;
    block = block_of(id);
    if (!block || READ(block->runtime.state) != MORPHEUS_RUNNING)
        return 0;
    now = bpf_ktime_get_ns();
    age = age_of(block, now);
    slice = slice_of(block);
    block->hints.budget_remaining_ns = age < slice ? slice - age : 0;
    __sync_fetch_and_add(&block->hints.looks, 1);
    if (READ(block->runtime.critical_depth))
        __sync_fetch_and_add(&block->hints.critical_looks, 1);
    if (age < slice)
        return 0;
    if (wanting() > 1)
        hint(block, id, MORPHEUS_SLICE);
    else if (READ(block->runtime.backlog))
        hint(block, id, MORPHEUS_BACKLOG);
    return 0;
}

/*
 * Nothing, as often as on_switch: what the kernel's own counting of a run takes, for who measures
 * (`vyr sched bench`). It is loaded only when that asks.
 */
SEC("?tp_btf/sched_switch")
int BPF_PROG(on_nothing)
{
    return 0;
}
