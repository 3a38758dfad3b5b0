/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * torture - what its files share.  torture.c says what the program does.
 *
 * An actor is a thread that does operations, or that the library runs
 * callbacks on.  Its counters and notes are its own: other threads only read
 * the counters.  They are no atomic read-modify-writes on purpose: those would
 * be full barriers on some machines and hide the library's missing ones.
 */
#ifndef TORTURE_H
#define TORTURE_H

#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/mmu_notifier.h>
#include <linux/sched/mm.h>
#include <mmu_notifier/mm.h>
#include <mmu_notifier/report.h>
#include <mmu_notifier/wait.h>

enum {
	PAGES = 64,		/* of a space */
	ELEMS = 10, IVALS = 12,	/* members of a space, at most */
	SPACES = 3,
	ACTORS = 160,
	PIPE = 10,		/* grace periods before memory is used again */
	NOTES = 64,
};
#define PAGE 4096ul
#ifndef ARRAY_SIZE
#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))
#endif

#define get(p)		__atomic_load_n((p), __ATOMIC_RELAXED)
#define set(p, v)	__atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define acquire(p)	__atomic_load_n((p), __ATOMIC_ACQUIRE)
#define release(p, v)	__atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define add(p, v)	__atomic_fetch_add((p), (v), __ATOMIC_SEQ_CST)
#define swap(p, v)	__atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)

static inline bool change(int *word, int from, int to)
{
	return __atomic_compare_exchange_n(word, &from, to, false,
					   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* A checker has a free() of its own, and says more about a crash than we can. */
#ifdef SANITIZED
#define SEES_FREE 0
#else
#define SEES_FREE 1
#endif

/* What is counted; 1: a run in which it stays 0 has failed. */
#define COUNTERS(X) \
	X(WALK, "walks: young, change_pte, arch", 1) \
	X(REGISTER, "registrations", 1) \
	X(UNREGISTER, "unregistrations", 1) \
	X(GET, "gets", 1) \
	X(ALLOC, "gets that allocated", 1) \
	X(PUT, "last puts of a registration", 1) \
	X(PUT_INSIDE, "  of these, from a callback", 1) \
	X(FREE, "free_notifier of a registration", 1) \
	X(FREE_GOT, "free_notifier of a get", 1) \
	X(SYNCHRONIZE, "mmu_notifier_synchronize", 1) \
	X(CALLBACK, "callbacks of list notifiers", 1) \
	X(SLEPT, "  of these, slept inside", 1) \
	X(RELEASE, "release", 1) \
	X(RELEASE_TWICE, "release twice (RL-6)", 0) \
	X(PAIR, "ranges started and ended", 1) \
	X(NESTED, "  of these, nested", 1) \
	X(NONBLOCK, "  of these, non-blockable", 1) \
	X(BY_MMAP, "  of these, under mmap_lock", 1) \
	X(BY_RMAP, "  of these, under the reverse-map lock", 1) \
	X(BY_NONE, "  of these, under no lock", 1) \
	X(REFUSED, "ranges refused", 1) \
	X(REFUSED_TREE, "  of these, by an interval", 1) \
	X(REFUSED_LIST, "  of these, by a list notifier", 1) \
	X(INVALIDATE, "callbacks of interval notifiers", 1) \
	X(EXACT, "ranges checked for all their callbacks", 1) \
	X(INSERT, "inserts", 1) \
	X(INSERT_DEFERRED, "  of these, deferred for sure (II-7c)", 1) \
	X(INSERT_ODD, "  of these, made the period busy (II-7b)", 1) \
	X(REMOVE, "removes", 1) \
	X(REMOVE_UNDEFER, "  of these, of a deferred insert (IR-2)", 1) \
	X(FAULT, "device faults", 1) \
	X(RETRY, "  retries", 1) \
	X(ACCESS, "device accesses", 1) \
	X(PERIOD, "busy periods", 1) \
	X(MM_ALLOC, "mms allocated", 1) \
	X(MM_FREE, "mms destroyed", SEES_FREE) \
	X(MM_ASYNC, "mmput_async", 1) \
	X(MM_INSIDE, "  of these, from a callback", 1) \
	X(MM_LOST, "mms that ended before their user came", 1) \
	X(LATE_END, "members that outlived their mm's users", 1) \
	X(RENEW, "spaces ended with members in place", 1) \
	X(SRCU_READ, "srcu sections", 1) \
	X(RCU_READ, "rcu sections", 1) \
	X(SRCU_SYNC, "synchronize_srcu", 1) \
	X(RCU_SYNC, "synchronize_rcu", 1) \
	X(SRCU_CALL, "call_srcu, call_rcu", 1) \
	X(SRCU_RAN, "  callbacks run", 1) \
	X(SRCU_BARRIER, "srcu_barrier", 1) \
	X(SRCU_RENEW, "domains ended and made anew", 1) \
	X(THREAD, "threads that came and went", 1) \
	X(FORK, "forks", 1) \
	X(REST, "times at rest", 1) \
	X(STALL, "threads held up at any instruction", 1) \
	X(WAIT_LOCK, "sleeps: lock", 0) \
	X(WAIT_MMAP, "sleeps: mmap_lock", 1) \
	X(WAIT_RMAP, "sleeps: reverse-map lock", 1) \
	X(WAIT_READ_BEGIN, "sleeps: read_begin", 1) \
	X(WAIT_REMOVE, "sleeps: remove", 1) \
	X(WAIT_GRACE, "sleeps: grace period", 1) \
	X(WAIT_FREE, "sleeps: free_notifier owed", 1) \
	X(WAIT_IDLE, "sleeps: idle worker", 0)
enum counter {
#define X(name, text, needed) name,
	COUNTERS(X)
#undef X
	N_COUNTERS
};

struct elem;
struct ival;
struct space;

/* A list notifier whose start this thread's range has called. */
struct note {
	const struct mmu_notifier_range *range;
	const struct elem *elem;
	unsigned int gen;
};

struct actor {
	int used;
	char name[16];
	unsigned long seed;
	const char *op;			/* what it did last */
	const void *queue;		/* what it sleeps on, or NULL */
	int reason;
	bool resting;
	unsigned int number;			/* of those that never go */
	pthread_t thread;
	volatile bool linger;			/* it was held up: now a reader dawdles */
	unsigned long count[N_COUNTERS];
	unsigned long ages[2][PIPE + 1];	/* seen by readers: first, last */
	unsigned long began;		/* `epoch` when its walk began */
	struct note notes[NOTES];
	int n_notes;
	struct note ended[NOTES];		/* whose release the mm exit has called */
	int n_ended;
	unsigned long seq;		/* cur_seq of the range that it starts */
	const struct ival *called[NOTES];	/* by the range that it starts */
	int n_called;
	unsigned long stamp;
	struct elem *pipe[256];		/* retired, not to be used yet */
	int n_pipe;
	struct ival *quarantine[64];	/* removed, the oldest is freed */
	unsigned int n_quarantine;
};

extern struct actor actors[ACTORS];
extern int n_actors;			/* all used ones are below */
extern bool really_free, in_child;
extern unsigned long epoch;		/* unlinks that have returned */

struct actor *self(void);
void fail(const char *format, ...)
	__attribute__((__format__(__printf__, 1, 2), __noreturn__));
unsigned long total(enum counter kind);
unsigned long now_ms(void);

static inline void count(struct actor *a, enum counter kind)
{
	release(&a->count[kind], a->count[kind] + 1);
}

static inline void doing(struct actor *a, const char *op)
{
	set(&a->op, op);
}

static inline unsigned long rnd(struct actor *a)
{
	a->seed ^= a->seed << 13;
	a->seed ^= a->seed >> 7;
	a->seed ^= a->seed << 17;
	return a->seed >> 11;
}

static inline bool one_in(struct actor *a, unsigned int n)
{
	return rnd(a) % n == 0;
}

/* Holds things up, as a reader does: rarely for long, mostly not at all. */
void dawdle(struct actor *a, bool may_sleep);

/* ---- lists.c: list notifiers, and how old they look to a reader ---- */

enum kind { FULL, REFUSER, ARCH, BARE, GOT, N_KINDS };
enum { EMPTY, BUSY, LIVE };		/* of a slot */

struct elem {
	unsigned long magic;
	int age;	/* 0: linked; 1: being unlinked; n: n - 1 grace periods ago */
	unsigned int gen;
	unsigned long gone;	/* walks that began at this epoch cannot see it */
	struct mm_struct *mm;
	struct mmu_notifier mn;
	unsigned long starts, ends, releases;
	int freed, handoff, inside;	/* inside: callbacks other than release */
};

struct elem_slot {
	int state;
	struct elem *elem;
};

struct elem *elem_new(struct actor *a, struct mm_struct *mm, enum kind kind);
void elem_register(struct actor *a, struct elem *e, bool locked);
void elem_unregister(struct actor *a, struct elem *e);
void elem_put(struct actor *a, struct elem *e);
void end_users(struct actor *a, struct mm_struct *mm);	/* mmput */
void walk(struct actor *a, struct space *s);
void update(struct actor *a, struct space *s);
void get_and_put(struct actor *a, struct space *s);
void get_for(struct actor *a, struct mm_struct *mm, struct mmu_notifier **mn);
void put_some(struct actor *a, struct space *s);
void walk_begins(struct actor *a);
void walk_ends(struct actor *a);
void synchronize(struct actor *a);
void forget_notes(struct actor *a, const struct mmu_notifier_range *range);
void lists_at_rest(void);

/* ---- intervals.c: a page table, devices that mirror it, who changes it ---- */

struct ival {
	unsigned long magic;
	struct mm_struct *mm;
	struct space *space;	/* NULL: of a short-lived mm */
	struct mmu_interval_notifier sub;
	pthread_mutex_t user_lock;
	bool dead;		/* no more commits; under user_lock */
	bool ready;		/* a read_begin has returned: a start must call it */
	int first, pages;
	unsigned long seq;	/* the last that it was told; under user_lock */
	unsigned long shadow[PAGES];
	unsigned long releases;
};

struct ival_slot {
	int state, pins;
	struct ival *ival;
};

struct space {
	struct mm_struct *mm;
	bool lists, lockless;
	bool itree;				/* an insert takes no lock (II-11) */
	int writer;				/* mmap_lock is held for writing */
	unsigned long table[PAGES];
	struct elem_slot elems[ELEMS];
	struct ival_slot ivals[IVALS];
	unsigned long active[ACTORS];		/* the odd seq that each keeps up */
	unsigned char *seen;			/* a bit per odd seq */
	unsigned long top;			/* the highest of them */
};
extern struct space spaces[SPACES];
#define SEQS (1ul << 23)	/* odd numbers that a space has room for */

struct ival *ival_new(struct actor *a, struct mm_struct *mm);
void ival_insert(struct actor *a, struct ival *i, bool locked);
void ival_remove(struct actor *a, struct ival *i);
void mutate(struct actor *a, struct space *s);
void fault(struct actor *a, struct space *s);
void churn(struct actor *a, struct space *s);
void plain_range(struct actor *a, struct mm_struct *mm);
void write_lock(struct space *s);
void write_unlock(struct space *s);

/* ---- spaces.c: their beginning, their end, their numbers ---- */

void spaces_make(void);
void spaces_at_rest(struct actor *a, bool last);

/* ---- life.c: the life of mms; fork ---- */

void live(struct actor *a);
void mmput_inside(struct actor *a);	/* of a callback */
void fork_one(struct actor *a);
void life_begin(struct actor *a);
void life_at_rest(struct actor *a, bool last);
void mm_freed(const void *memory);

/* ---- domains.c: drivers' own grace periods ---- */

void domain_read(struct actor *a);
void domain_update(struct actor *a);
void domain_wait_inside(struct actor *a);	/* of a callback that may sleep */
void domains_at_rest(struct actor *a, bool last);

#endif
