/* SPDX-License-Identifier: (GPL-2.0-only OR MIT OR Apache-2.0) */
/*
 * The binary interface between a runtime and what hints to it: one control block a worker thread.
 *
 * A block is two lines of 128 bytes (a pair of cache lines, because processors fetch them in
 * pairs), with one writer each, so that neither side ever waits for the other:
 *
 *   struct morpheus_hints    written by who hints: a BPF program, an agent that reads pressure
 *                            files, or a timer of the process itself
 *   struct morpheus_runtime  written by the worker alone
 *
 * A hint is outstanding while `preempt_seq` differs from `ack_seq`; there is never more than one.
 * Who hints advances `preempt_seq` from the acknowledged value by one, and only from there; what
 * finds a hint outstanding counts it in `dropped`. The worker acknowledges by copying
 * `preempt_seq` to `ack_seq`, before it yields.
 *
 * Nothing here is believed by the kernel side: it clamps what it reads, and a worker that
 * scribbles over its block gets odd hints itself and harms nobody else.
 *
 * crates/morpheus/src/abi.rs is the same in Rust; a test compares both, field by field.
 */
#ifndef MORPHEUS_H
#define MORPHEUS_H

#define MORPHEUS_ABI 1

/* Bytes of a line, and of a block. */
#define MORPHEUS_LINE 128
#define MORPHEUS_BLOCK 256

/* Blocks of one process, at most. */
#define MORPHEUS_WORKERS_MAX 1024
/* Processes with one agent, at most. */
#define MORPHEUS_PROCESSES_MAX 64
/* Processors that are watched, at most; a hint needs its processor's number to be below. */
#define MORPHEUS_CPUS_MAX 1024

/* A slice, in nanoseconds: what a worker may ask for is clamped to these. */
#define MORPHEUS_SLICE_MIN 10000ull
#define MORPHEUS_SLICE_DEFAULT 1000000ull
#define MORPHEUS_SLICE_MAX 1000000000ull

/* Why there is a hint. */
enum morpheus_reason {
    MORPHEUS_NO_REASON = 0,
    /* Over its slice, and another thread waits for its processor. */
    MORPHEUS_SLICE = 1,
    /* Over its slice, and its own runtime's queue waits (`backlog`). */
    MORPHEUS_BACKLOG = 2,
    /* A thread became runnable on its processor. */
    MORPHEUS_WAKEUP = 3,
    /* The machine is under pressure (tier psi). */
    MORPHEUS_PRESSURE = 4,
    /* A timer of the process itself ticked. */
    MORPHEUS_TIMER = 5,
};

/* What a worker is doing. */
enum morpheus_state {
    /* Nobody has the block. */
    MORPHEUS_FREE = 0,
    /* It waits for work: it gets no hints. */
    MORPHEUS_IDLE = 1,
    MORPHEUS_RUNNING = 2,
};

/* Why a worker yielded last. */
enum morpheus_yield {
    MORPHEUS_NOT_YIELDED = 0,
    /* A hint asked for it. */
    MORPHEUS_YIELD_HINT = 1,
    /* The runtime's own cooperative budget was used up. */
    MORPHEUS_YIELD_BUDGET = 2,
    /* The program wanted to. */
    MORPHEUS_YIELD_ASKED = 3,
};

/* What a worker agrees to. Room for escalation, which tier observe does not have. */
#define MORPHEUS_ESCAPABLE 1u

struct morpheus_hints {
    /*
     * The first cache line is what checkpoints read: next to nothing else in it changes, so that
     * a hint is one line on its way from one processor to another.
     */
    /* Advanced by one with each hint, of whichever source. */
    unsigned int preempt_seq;
    /* Of the worker that has the block; another worker, another generation. */
    unsigned int generation;
    /* Share of the last ten seconds in which something waited for a processor, in 1/10,000. */
    unsigned int pressure;
    unsigned int reserved_word;
    /* Hints of pressure files. */
    unsigned long long psi;
    /* Hints of a timer in the process. */
    unsigned long long timer;
    /* When escalation may follow the newest hint. Zero: never, as in tier observe. */
    unsigned long long deadline_ns;
    /* Hints of the runtime itself: something joined its queue, and nobody was free for it. */
    unsigned long long own;
    unsigned char reserved_near[16];

    /* The second: what is written with each hint or each look. */
    /* CLOCK_MONOTONIC of the newest hint, in nanoseconds. */
    unsigned long long hint_ns;
    /* enum morpheus_reason of the newest hint. */
    unsigned int reason;
    unsigned int reserved_half;
    /* Of its slice, at the last look; advisory. */
    unsigned long long budget_remaining_ns;
    /* Hints of the kernel's programs. */
    unsigned long long kernel;
    /* What would have been a hint, had none been outstanding. */
    unsigned long long dropped;
    /* Looks at the worker while it ran, and how many of them found it in a critical section. */
    unsigned long long looks;
    unsigned long long critical_looks;
    unsigned char reserved[8];
};

struct morpheus_runtime {
    /* The newest hint that was acknowledged. */
    unsigned int ack_seq;
    /* Nesting of critical sections; nothing yields while it is not zero. */
    unsigned int critical_depth;
    /* enum morpheus_state. */
    unsigned int state;
    /* MORPHEUS_ESCAPABLE: this worker may be preempted if it does not answer. */
    unsigned int escapable;
    /* Not zero: the worker's own queue waits. */
    unsigned int backlog;
    /* enum morpheus_yield of the newest yield. */
    unsigned int yield_reason;
    /* The slice it asks for, in nanoseconds; zero: the default. */
    unsigned long long slice_ns;
    /* CLOCK_MONOTONIC at which it turned to what it does now: its slice begins there. */
    unsigned long long turn_ns;
    /* Yields, for any reason. */
    unsigned long long yields;
    unsigned char reserved[MORPHEUS_LINE - 48];
};

struct morpheus_block {
    struct morpheus_hints hints;
    struct morpheus_runtime runtime;
};

#ifdef __cplusplus
#define MORPHEUS_ASSERT static_assert
#else
#define MORPHEUS_ASSERT _Static_assert
#endif
MORPHEUS_ASSERT(sizeof(struct morpheus_hints) == MORPHEUS_LINE, "one line");
MORPHEUS_ASSERT(sizeof(struct morpheus_runtime) == MORPHEUS_LINE, "one line");
MORPHEUS_ASSERT(sizeof(struct morpheus_block) == MORPHEUS_BLOCK, "two lines");

#endif /* MORPHEUS_H */
