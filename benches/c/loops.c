// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * The loops of one implementation, see subject.h: a driver in C that reaches
 * it through the installed headers, inlines included.  PREFIX names it; with
 * OTHER it is not the library (rename.h).
 */
#include "rename.h"
#include <linux/mmu_notifier.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "subject.h"

#define OBJECT	192
#define BASE	0x100000000000ul
#define SPACING	(128ul << 10)
#define LENGTH	(64ul << 10)
#define HOT	64ul

/* Two lines each: the prefetcher takes pairs of lines. */
static struct walker {
	ulong_t state, depend, calls, hits;
} __attribute__((__aligned__(128))) walkers[2] = { { .state = 1 }, { .state = 2 } };

static inline ulong_t draw(struct walker *w, ulong_t below)
{
	w->state = w->state * 6364136223846793005ul + 1442695040888963407ul;
	return ((w->state >> 32) * below) >> 32;
}

static void *must(void *pointer)
{
	if (!pointer) {
		fprintf(stderr, "bench: no memory\n");
		abort();
	}
	return pointer;
}

#define HUGE_PAGE (2ul << 20)

/* Memory for driver objects, on huge pages of its own, so that every candidate has the same. */
static void *arena(size_t bytes)
{
	void *at = must(aligned_alloc(HUGE_PAGE, (bytes + HUGE_PAGE - 1) & -HUGE_PAGE));

	madvise(at, bytes, MADV_HUGEPAGE);
	memset(at, 0, bytes);
	return at;
}

/* -------------------------------------------------------- the list's notifiers */

struct driver {
	struct mmu_notifier notifier;
	ulong_t starts, ends, youngs;
} __attribute__((__aligned__(64)));

struct space {
	struct mm_struct *mm;
	ulong_t notifiers;
	struct driver *drivers;
};

static struct driver *driver_of(struct mmu_notifier *notifier)
{
	return container_of(notifier, struct driver, notifier);
}

static int driver_start(struct mmu_notifier *notifier, const struct mmu_notifier_range *range)
{
	struct walker *w = range->owner;

	driver_of(notifier)->starts++;
	w->calls++;
	return 0;
}

static void driver_end(struct mmu_notifier *notifier, const struct mmu_notifier_range *range)
{
	struct walker *w = range->owner;

	driver_of(notifier)->ends++;
	w->calls++;
}

static int driver_test_young(struct mmu_notifier *notifier, struct mm_struct *mm, ulong_t address)
{
	(void)mm;
	((struct walker *)address)->calls++;
	driver_of(notifier)->youngs++;
	return 0;
}

static const struct mmu_notifier_ops driver_ops = {
	.invalidate_range_start = driver_start,
	.invalidate_range_end = driver_end,
	.test_young = driver_test_young,
};

static void *mm_new(ulong_t notifiers)
{
	struct space *space = must(malloc(sizeof(*space)));

	space->mm = must(mm_alloc());
	space->notifiers = notifiers;
	space->drivers = must(aligned_alloc(64, (notifiers + 1) * sizeof(struct driver)));
	memset(space->drivers, 0, (notifiers + 1) * sizeof(struct driver));
	for (ulong_t i = 0; i < notifiers; i++) {
		space->drivers[i].notifier.ops = &driver_ops;
		if (mmu_notifier_register(&space->drivers[i].notifier, space->mm))
			must(NULL);
	}
	return space;
}

static void mm_free(void *of)
{
	struct space *space = of;

	for (ulong_t i = 0; i < space->notifiers; i++)
		mmu_notifier_unregister(&space->drivers[i].notifier, space->mm);
	mmput(space->mm);
	free(space->drivers);
	free(space);
}

static inline void pair(struct mm_struct *mm, struct walker *w, ulong_t start, ulong_t length)
{
	struct mmu_notifier_range range;

	mmu_notifier_range_init_owner(&range, MMU_NOTIFY_CLEAR, 0, mm, start, start + length, w);
	mmu_notifier_invalidate_range_start(&range);
	mmu_notifier_invalidate_range_end(&range);
}

static ulong_t pairs(void *of, ulong_t thread, ulong_t n)
{
	struct space *space = of;
	struct walker *w = &walkers[thread];
	ulong_t before = w->calls;

	while (n--)
		pair(space->mm, w, BASE, LENGTH);
	return w->calls - before;
}

/* What `make bench` looks for fences in: the inlines and nothing else. */
void RENAME(inlines)(struct mmu_notifier_range *range);
void RENAME(inlines)(struct mmu_notifier_range *range)
{
	mmu_notifier_invalidate_range_start(range);
	mmu_notifier_invalidate_range_end(range);
}

static ulong_t young(void *of, ulong_t thread, ulong_t n)
{
	struct space *space = of;
	struct walker *w = &walkers[thread];
	ulong_t before = w->calls;

	while (n--)
		mmu_notifier_test_young(space->mm, (ulong_t)w);
	return w->calls - before;
}

static ulong_t bare(void *of, ulong_t thread, ulong_t n)
{
	struct space *space = of;
	struct walker *w = &walkers[thread];
	ulong_t before = w->calls;

	while (n--) {
		struct mmu_notifier_range range;
		struct mmu_notifier *notifier;

		mmu_notifier_range_init_owner(&range, MMU_NOTIFY_CLEAR, 0, space->mm, BASE, BASE + LENGTH, w);
		for (ulong_t i = 0; i < space->notifiers; i++) {
			notifier = &space->drivers[i].notifier;
			READ_ONCE(notifier->ops)->invalidate_range_start(notifier, &range);
		}
		for (ulong_t i = 0; i < space->notifiers; i++) {
			notifier = &space->drivers[i].notifier;
			READ_ONCE(notifier->ops)->invalidate_range_end(notifier, &range);
		}
		__asm__ __volatile__("" : : "r"(&range) : "memory");
	}
	return w->calls - before;
}

/* -------------------------------------------------------------------- many mms */

struct crowd {
	ulong_t count;
	struct space *spaces[];
};

static void *crowd_new(ulong_t mms)
{
	struct crowd *crowd = must(malloc(sizeof(*crowd) + mms * sizeof(crowd->spaces[0])));

	crowd->count = mms;
	for (ulong_t i = 0; i < mms; i++)
		crowd->spaces[i] = mm_new(1);
	return crowd;
}

static void crowd_free(void *of)
{
	struct crowd *crowd = of;

	for (ulong_t i = 0; i < crowd->count; i++)
		mm_free(crowd->spaces[i]);
	free(crowd);
}

static ulong_t crowd_pairs(void *of, ulong_t n)
{
	struct crowd *crowd = of;
	struct walker *w = &walkers[0];
	ulong_t before = w->calls;

	while (n--)
		pair(crowd->spaces[draw(w, crowd->count)]->mm, w, BASE, LENGTH);
	return w->calls - before;
}

/* ------------------------------------------------------------------- intervals */

union object {
	struct {
		struct mmu_interval_notifier sub;
		ulong_t data;		/* 0, but who knows: what a query depends on */
		ulong_t start;
	};
	char room[OBJECT];
};

_Static_assert(sizeof(union object) == OBJECT, "a driver's object");

struct set {
	struct mm_struct *mm;
	ulong_t count;
	ulong_t hot[HOT];		/* positions of the first objects */
	union object *objects;
};

static bool object_invalidate(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *range, ulong_t seq)
{
	union object *object = container_of(sub, union object, sub);
	struct walker *w = range->owner;

	mmu_interval_set_seq(sub, seq);
	w->depend = READ_ONCE(object->data);
	w->hits++;
	return true;
}

static const struct mmu_interval_notifier_ops object_ops = { .invalidate = object_invalidate };

static void object_insert(struct set *set, union object *object)
{
	if (mmu_interval_notifier_insert(&object->sub, set->mm, object->start, LENGTH, &object_ops))
		must(NULL);
}

static void *set_new(ulong_t count)
{
	struct walker shuffle = { .state = 42 };
	struct set *set = must(malloc(sizeof(*set)));
	unsigned int *position = must(malloc(count * sizeof(*position)));

	set->mm = must(mm_alloc());
	set->count = count;
	set->objects = arena(count * OBJECT);
	for (ulong_t i = 0; i < count; i++) {
		ulong_t other = draw(&shuffle, i + 1);

		position[i] = position[other];
		position[other] = i;
	}
	for (ulong_t i = 0; i < count; i++) {
		set->objects[i].start = BASE + position[i] * SPACING;
		object_insert(set, &set->objects[i]);
		if (i < HOT)
			set->hot[i] = position[i];
	}
	free(position);
	return set;
}

static void set_free(void *of)
{
	struct set *set = of;

	for (ulong_t i = 0; i < set->count; i++)
		mmu_interval_notifier_remove(&set->objects[i].sub);
	mmput(set->mm);
	free(set->objects);
	free(set);
}

/* No hit: the middle of a gap.  One: the middle of an interval.  More: from one's first byte to the last's last. */
static ulong_t set_pairs(void *of, ulong_t thread, ulong_t hits, ulong_t hot, ulong_t n)
{
	struct set *set = of;
	struct walker *w = &walkers[thread];
	ulong_t before = w->hits, limit = set->count - (hits ? hits - 1 : 0), at, start;
	ulong_t length = hits > 1 ? (hits - 1) * SPACING + LENGTH : 4096;
	ulong_t offset = hits == 0 ? LENGTH + LENGTH / 2 : hits == 1 ? LENGTH / 2 : 0;

	while (n--) {
		at = hot ? set->hot[draw(w, HOT)] : draw(w, limit);
		if (hot && at >= limit)
			at = limit - 1;
		start = BASE + at * SPACING + offset;
		pair(set->mm, w, start + w->depend, length);
	}
	return w->hits - before;
}

static ulong_t set_updates(void *of, ulong_t hot, ulong_t n)
{
	struct set *set = of;
	struct walker *w = &walkers[0];

	while (n--) {
		union object *object = &set->objects[draw(w, hot ? HOT : set->count)];

		mmu_interval_notifier_remove(&object->sub);
		object_insert(set, object);
	}
	return 0;
}

static ulong_t set_reads(void *of, ulong_t n)
{
	struct set *set = of;
	struct mmu_interval_notifier *sub = &set->objects[0].sub;
	ulong_t retries = 0;

	while (n--) {
		ulong_t seq = mmu_interval_read_begin(sub);

		barrier();	/* the driver's lock, at which the compiler stops too */
		retries += mmu_interval_read_retry(sub, seq);
	}
	return retries;
}

/* -------------------------------------------------------------- read sections */

static void section_called(ulong_t *count)
{
	++*count;
}

static void (*volatile section_callback)(ulong_t *count) = section_called;

static ulong_t section_empty(ulong_t n)
{
	while (n--) {
		rcu_read_lock();
		rcu_read_unlock();
	}
	return 0;
}

static ulong_t section_call(ulong_t n)
{
	ulong_t calls = 0;

	while (n--) {
		rcu_read_lock();
		section_callback(&calls);
		rcu_read_unlock();
	}
	return calls;
}

static ulong_t section_nested(ulong_t n)
{
	ulong_t calls = 0;

	while (n--) {
		rcu_read_lock();
		rcu_read_lock();
		section_callback(&calls);
		rcu_read_unlock();
		rcu_read_unlock();
	}
	return calls;
}

#ifndef OTHER
static ulong_t synchronize(ulong_t n)
{
	while (n--)
		mmu_notifier_synchronize();
	return 0;
}

static ulong_t synchronize_all_rcu(ulong_t n)
{
	while (n--)
		synchronize_rcu();
	return 0;
}

/* --------------------------------------------------------------------- puts */

/* One mm for each notifier: an mm has one notifier for given ops. */
struct burst {
	ulong_t count;
	struct mm_struct **mms;
	struct mmu_notifier **notifiers;
};

static struct mmu_notifier *burst_alloc(struct mm_struct *mm)
{
	(void)mm;
	return must(malloc(sizeof(struct mmu_notifier)));
}

static void burst_freed(struct mmu_notifier *notifier)
{
	free(notifier);
}

static const struct mmu_notifier_ops burst_ops = { .alloc_notifier = burst_alloc, .free_notifier = burst_freed };

static void burst_get(struct burst *burst)
{
	for (ulong_t i = 0; i < burst->count; i++) {
		burst->notifiers[i] = mmu_notifier_get(&burst_ops, burst->mms[i]);
		if (IS_ERR(burst->notifiers[i]))
			must(NULL);
	}
}

static void *burst_new(ulong_t count)
{
	struct burst *burst = must(malloc(sizeof(*burst)));

	burst->count = count;
	burst->mms = must(malloc(count * sizeof(*burst->mms)));
	burst->notifiers = must(malloc(count * sizeof(*burst->notifiers)));
	for (ulong_t i = 0; i < count; i++)
		burst->mms[i] = must(mm_alloc());
	burst_get(burst);
	return burst;
}

static ulong_t burst_puts(void *of)
{
	struct burst *burst = of;

	for (ulong_t i = 0; i < burst->count; i++)
		mmu_notifier_put(burst->notifiers[i]);
	return 0;
}

static void burst_settle(void *of)
{
	mmu_notifier_synchronize();
	burst_get(of);
}

static void burst_free(void *of)
{
	struct burst *burst = of;

	burst_puts(burst);
	mmu_notifier_synchronize();
	for (ulong_t i = 0; i < burst->count; i++)
		mmput(burst->mms[i]);
	free(burst->mms);
	free(burst->notifiers);
	free(burst);
}
#endif

extern const struct subject RENAME(subject);
const struct subject RENAME(subject) = {
	.mm_new = mm_new,
	.mm_free = mm_free,
	.pairs = pairs,
	.young = young,
	.bare = bare,
	.crowd_new = crowd_new,
	.crowd_free = crowd_free,
	.crowd_pairs = crowd_pairs,
	.set_new = set_new,
	.set_free = set_free,
	.set_pairs = set_pairs,
	.set_updates = set_updates,
	.set_reads = set_reads,
	.section_empty = section_empty,
	.section_call = section_call,
	.section_nested = section_nested,
#ifndef OTHER
	.synchronize = synchronize,
	.synchronize_rcu = synchronize_all_rcu,
	.burst_new = burst_new,
	.burst_free = burst_free,
	.burst_puts = burst_puts,
	.burst_settle = burst_settle,
#endif
	.entry = (void *)__mmu_notifier_invalidate_range_start,
};
