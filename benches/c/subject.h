/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the harness sees of an implementation of <linux/mmu_notifier.h>: loops
 * over its operations.  loops.c is the one source of all of them; it is
 * compiled once for each implementation.  src/subject.rs mirrors the struct.
 *
 * A loop makes `n` operations and returns how many callbacks were called, which
 * the harness checks.  `thread`, 0 or 1, is whoever runs it.
 */
#ifndef BENCH_SUBJECT_H
#define BENCH_SUBJECT_H

typedef unsigned long ulong_t;

struct subject {
	/* An mm with `notifiers` notifiers that have a start, an end and a test_young. */
	void *(*mm_new)(ulong_t notifiers);
	void (*mm_free)(void *mm);
	ulong_t (*pairs)(void *mm, ulong_t thread, ulong_t n);
	ulong_t (*young)(void *mm, ulong_t thread, ulong_t n);
	/* The same callbacks without an implementation. */
	ulong_t (*bare)(void *mm, ulong_t thread, ulong_t n);

	/* Many mms with one notifier each; pairs on one after the other, at random. */
	void *(*crowd_new)(ulong_t mms);
	void (*crowd_free)(void *crowd);
	ulong_t (*crowd_pairs)(void *crowd, ulong_t n);

	/*
	 * `count` intervals of 64 KB, one each 128 KB, in driver objects of 192
	 * bytes whose addresses have nothing to do with the intervals' order.
	 * A pair touches `hits` of them, at a random place or, with `hot`, at one
	 * of 64.  An update removes one interval and inserts it again.
	 */
	void *(*set_new)(ulong_t count);
	void (*set_free)(void *set);
	ulong_t (*set_pairs)(void *set, ulong_t thread, ulong_t hits, ulong_t hot, ulong_t n);
	ulong_t (*set_updates)(void *set, ulong_t hot, ulong_t n);
	ulong_t (*set_reads)(void *set, ulong_t n);

	/* Read sections around nothing, around a callback, and two around a callback. */
	ulong_t (*section_empty)(ulong_t n);
	ulong_t (*section_call)(ulong_t n);
	ulong_t (*section_nested)(ulong_t n);

	/* NULL where an implementation has no such thing. */
	ulong_t (*synchronize)(ulong_t n);
	ulong_t (*synchronize_rcu)(ulong_t n);
	/* A driver that has got `count` notifiers; puts gives all back; settle waits for the frees, gets all anew. */
	void *(*burst_new)(ulong_t count);
	void (*burst_free)(void *burst);
	ulong_t (*burst_puts)(void *burst);
	void (*burst_settle)(void *burst);

	/* An entry point, to see where it comes from. */
	void *entry;
};

#endif
