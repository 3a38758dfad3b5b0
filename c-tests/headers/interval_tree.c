// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * <linux/interval_tree_generic.h>, <linux/interval_tree.h>: random operations
 * against an array that is searched from end to end, with many equal starts,
 * and with intervals at the ends of the type's range.  C and C++.
 */
#include <limits.h>
#include <string.h>

#include <linux/interval_tree.h>

#include "check.h"

/* A tree of one's own: other types, a length instead of a last. */
struct segment {
	int reach;
	struct rb_node rb;
	int begin;
	int length;
};

static int segment_begin(const struct segment *segment)
{
	return segment->begin;
}

#define SEGMENT_LAST(segment)	((segment)->begin + (segment)->length - 1)

INTERVAL_TREE_DEFINE(struct segment, rb, int, reach, segment_begin,
		     SEGMENT_LAST, static, segments)

enum { NODES = 120 };

/* The array's side: the nodes of the tree by start, equal starts by age. */
static struct interval_tree_node nodes[NODES], *sorted[NODES];
static int sorted_count;

static void sorted_add(struct interval_tree_node *node)
{
	int i = sorted_count++;

	for (; i > 0 && sorted[i - 1]->start > node->start; i--)
		sorted[i] = sorted[i - 1];
	sorted[i] = node;
}

static void sorted_remove(struct interval_tree_node *node)
{
	int i = 0;

	while (sorted[i] != node)
		i++;
	sorted_count--;
	memmove(&sorted[i], &sorted[i + 1],
		(sorted_count - i) * sizeof(sorted[0]));
}

static void check_query(struct rb_root_cached *root, unsigned long start,
			unsigned long last)
{
	struct interval_tree_node *node;
	int i;

	node = interval_tree_iter_first(root, start, last);
	for (i = 0; i < sorted_count; i++) {
		if (sorted[i]->start > last || sorted[i]->last < start)
			continue;
		CHECK(node == sorted[i]);
		if (node != sorted[i])
			return;
		node = interval_tree_iter_next(node, start, last);
	}
	CHECK(!node);
}

/* Addresses are 0 .. 39, moved to the top of the range if @high. */
static void test_random(bool high)
{
	const unsigned long base = high ? ULONG_MAX - 39 : 0;
	struct rb_root_cached root = RB_ROOT_CACHED;
	bool inserted[NODES] = { false };
	int step, query;

	sorted_count = 0;
	for (step = 0; step < 3000; step++) {
		unsigned long i = check_random(NODES);
		unsigned long a = check_random(40), b;

		if (inserted[i]) {
			sorted_remove(&nodes[i]);
			interval_tree_remove(&nodes[i], &root);
		} else {
			b = a + check_random(check_random(8) ? 5 : 40);
			nodes[i].start = base + a;
			nodes[i].last = base + (b < 40 ? b : 39);
			sorted_add(&nodes[i]);
			interval_tree_insert(&nodes[i], &root);
		}
		inserted[i] = !inserted[i];

		CHECK(rb_first_cached(&root) == rb_first(&root.rb_root));
		check_query(&root, 0, ULONG_MAX);
		for (query = 0; query < 5; query++) {
			a = check_random(40);
			b = a + check_random(40 - a);
			check_query(&root, base + a, base + b);
		}
		check_query(&root, base + 7, base + 6);	/* a gap between */
	}
	while (sorted_count) {
		struct interval_tree_node *node = sorted[sorted_count / 2];

		sorted_remove(node);
		interval_tree_remove(node, &root);
		check_query(&root, base, base + 39);
	}
	CHECK(RB_EMPTY_ROOT(&root.rb_root) && !rb_first_cached(&root));
	CHECK(!interval_tree_iter_first(&root, 0, ULONG_MAX));
}

static void test_own_type(void)
{
	struct rb_root_cached root = RB_ROOT_CACHED;
	struct segment a = { 0, { 0, NULL, NULL }, -5, 10 };
	struct segment b = a, c = a;
	struct segment *segment;

	c.begin = 5;
	segments_insert(&c, &root);
	segments_insert(&a, &root);
	segments_insert(&b, &root);
	segment = segments_iter_first(&root, 4, 5);
	CHECK(segment == &a);
	segment = segments_iter_next(segment, 4, 5);
	CHECK(segment == &b);
	segment = segments_iter_next(segment, 4, 5);
	CHECK(segment == &c);
	CHECK(!segments_iter_next(segment, 4, 5));
	CHECK(segments_iter_first(&root, 5, 5) == &c);
	CHECK(!segments_iter_first(&root, 15, INT_MAX));
	CHECK(!segments_iter_first(&root, INT_MIN, -6));
	segments_remove(&b, &root);
	CHECK(segments_iter_first(&root, INT_MIN, -5) == &a);
	CHECK(!segments_iter_next(&a, INT_MIN, -5));
}

int main(void)
{
	test_random(false);
	test_random(true);
	test_own_type();
	return check_result();
}
