// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * <linux/list.h>, <linux/rculist.h>, <linux/llist.h>: every operation against
 * the sequence of values that it must leave.  C and C++.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/queue.h>

#include <linux/list.h>
#include <linux/llist.h>
#include <linux/rculist.h>

#include "check.h"

struct item {
	int value;
	struct list_head link;
	struct hlist_node hash;
	struct llist_node lockless;
};

static struct item items[8];

/* Does the list hold these values, -1 at the end, in both directions? */
static bool list_is(struct list_head *head, ...)
{
	struct list_head *node = head;
	bool same = true;
	va_list values;
	int value;

	va_start(values, head);
	while ((value = va_arg(values, int)) >= 0) {
		same = same && node->next->prev == node;
		node = node->next;
		same = same && node != head &&
		       list_entry(node, struct item, link)->value == value;
	}
	va_end(values);
	return same && node->next == head && head->prev == node;
}

static bool hlist_is(struct hlist_head *head, ...)
{
	struct hlist_node **link = &head->first;
	bool same = true;
	va_list values;
	int value;

	va_start(values, head);
	while ((value = va_arg(values, int)) >= 0) {
		same = same && *link && (*link)->pprev == link &&
		       hlist_entry(*link, struct item, hash)->value == value;
		if (!same)
			break;
		link = &(*link)->next;
	}
	va_end(values);
	return same && !*link;
}

/* 0, 1, .. count-1 in this order. */
static void fill(struct list_head *head, int count)
{
	int i;

	INIT_LIST_HEAD(head);
	for (i = 0; i < count; i++) {
		items[i].value = i;
		list_add_tail(&items[i].link, head);
	}
}

static void hfill(struct hlist_head *head, int count)
{
	INIT_HLIST_HEAD(head);
	while (count-- > 0) {
		items[count].value = count;
		hlist_add_head(&items[count].hash, head);
	}
}

static void test_add_and_delete(void)
{
	LIST_HEAD(list);
	struct item a = { 10, LIST_HEAD_INIT(a.link), { NULL, NULL }, { NULL } };

	CHECK(list_empty(&list));
	CHECK(list_empty_careful(&list));
	CHECK(list_empty(&a.link));
	list_add(&a.link, &list);
	CHECK(list_is(&list, 10, -1));
	CHECK(!list_empty(&list));
	CHECK(!list_empty_careful(&list));
	CHECK(list_is_singular(&list));
	CHECK(list_is_first(&a.link, &list) && list_is_last(&a.link, &list));
	CHECK(list_is_head(&list, &list) && !list_is_head(&a.link, &list));
	list_del(&a.link);
	CHECK(a.link.next == LIST_POISON1 && a.link.prev == LIST_POISON2);
	CHECK((unsigned long)LIST_POISON1 == 0xdead000000000100UL);
	CHECK((unsigned long)LIST_POISON2 == 0xdead000000000122UL);
	CHECK(list_empty(&list));

	fill(&list, 3);
	CHECK(list_is(&list, 0, 1, 2, -1));
	CHECK(!list_is_singular(&list));
	CHECK(list_count_nodes(&list) == 3);
	list_del_init(&items[1].link);
	CHECK(list_is(&list, 0, 2, -1));
	CHECK(list_empty(&items[1].link));
	list_add(&items[1].link, &list);
	CHECK(list_is(&list, 1, 0, 2, -1));
	list_move_tail(&items[1].link, &list);
	CHECK(list_is(&list, 0, 2, 1, -1));
	list_move(&items[2].link, &list);
	CHECK(list_is(&list, 2, 0, 1, -1));
	list_rotate_left(&list);
	CHECK(list_is(&list, 0, 1, 2, -1));
}

static void test_replace_and_swap(void)
{
	LIST_HEAD(list);
	LIST_HEAD(other);
	LIST_HEAD(empty);
	int i, j;

	fill(&list, 3);
	items[5].value = 5;
	list_replace(&items[1].link, &items[5].link);
	CHECK(list_is(&list, 0, 5, 2, -1));
	CHECK(items[1].link.next == &items[2].link);
	list_replace_init(&list, &other);
	CHECK(list_is(&other, 0, 5, 2, -1));
	CHECK(list_empty(&list));
	list_replace_init(&empty, &other);
	CHECK(list_empty(&other) && list_empty(&empty));

	for (i = 0; i < 4; i++) {
		for (j = 0; j < 4; j++) {
			int v[4] = { 0, 1, 2, 3 };

			if (i == j)
				continue;
			fill(&list, 4);
			list_swap(&items[i].link, &items[j].link);
			v[i] = j;
			v[j] = i;
			CHECK(list_is(&list, v[0], v[1], v[2], v[3], -1));
		}
	}
}

static void test_splice_and_cut(void)
{
	LIST_HEAD(list);
	LIST_HEAD(other);

	fill(&list, 4);
	list_cut_position(&other, &list, &items[1].link);
	CHECK(list_is(&other, 0, 1, -1));
	CHECK(list_is(&list, 2, 3, -1));
	list_splice_init(&list, &other);
	CHECK(list_is(&other, 2, 3, 0, 1, -1));
	CHECK(list_empty(&list));
	list_splice_tail_init(&other, &list);
	CHECK(list_is(&list, 2, 3, 0, 1, -1));
	CHECK(list_empty(&other));
	list_splice(&other, &list);
	list_splice_tail(&other, &list);
	CHECK(list_is(&list, 2, 3, 0, 1, -1));
	list_cut_position(&other, &list, &list);
	CHECK(list_empty(&other));
	CHECK(list_is(&list, 2, 3, 0, 1, -1));
	list_cut_position(&other, &list, list.prev);
	CHECK(list_empty(&list));
	CHECK(list_is(&other, 2, 3, 0, 1, -1));
}

/* Collects the values that a loop visits as decimal digits. */
#define DIGITS(loop) \
	__extension__ ({ \
		int __digits = 9; \
		loop \
			__digits = __digits * 10 + pos->value; \
		__digits; \
	})

static void test_loops(void)
{
	LIST_HEAD(list);
	struct list_head *node, *next_node;
	struct item *pos, *next;
	int count = 0;

	fill(&list, 4);
	CHECK(list_first_entry(&list, struct item, link) == &items[0]);
	CHECK(list_last_entry(&list, struct item, link) == &items[3]);
	CHECK(list_next_entry(&items[0], link) == &items[1]);
	CHECK(list_prev_entry(&items[1], link) == &items[0]);
	CHECK(list_first_entry_or_null(&list, struct item, link) == items);

	CHECK(DIGITS(list_for_each_entry(pos, &list, link)) == 90123);
	CHECK(DIGITS(list_for_each_entry_reverse(pos, &list, link)) == 93210);
	CHECK(DIGITS(list_for_each_entry_rcu(pos, &list, link)) == 90123);
	CHECK(DIGITS(list_for_each_entry_rcu(pos, &list, link, false)) ==
	      90123);
	pos = &items[1];
	CHECK(DIGITS(list_for_each_entry_from(pos, &list, link)) == 9123);
	pos = &items[1];
	CHECK(DIGITS(list_for_each_entry_continue(pos, &list, link)) == 923);
	pos = &items[2];
	CHECK(DIGITS(list_for_each_entry_from_reverse(pos, &list, link)) ==
	      9210);
	pos = &items[2];
	CHECK(DIGITS(list_for_each_entry_continue_reverse(pos, &list, link)) ==
	      910);
	pos = list_prepare_entry((struct item *)NULL, &list, link);
	CHECK(DIGITS(list_for_each_entry_continue(pos, &list, link)) == 90123);

	list_for_each(node, &list)
		count++;
	list_for_each_prev(node, &list)
		count++;
	CHECK(count == 8);

	list_for_each_entry_safe(pos, next, &list, link) {
		if (pos->value % 2)
			list_del(&pos->link);
	}
	CHECK(list_is(&list, 0, 2, -1));
	list_for_each_entry_safe_reverse(pos, next, &list, link)
		list_del(&pos->link);
	CHECK(list_empty(&list));
	CHECK(!list_first_entry_or_null(&list, struct item, link));
	list_for_each_entry(pos, &list, link)
		CHECK(!"an empty list has no entry");

	fill(&list, 4);
	pos = &items[0];
	list_for_each_entry_safe_continue(pos, next, &list, link)
		list_del(&pos->link);
	CHECK(list_is(&list, 0, -1));
	fill(&list, 4);
	pos = &items[2];
	list_for_each_entry_safe_from(pos, next, &list, link)
		list_del(&pos->link);
	CHECK(list_is(&list, 0, 1, -1));
	list_for_each_safe(node, next_node, &list)
		list_del(node);
	CHECK(list_empty(&list));
	fill(&list, 2);
	list_for_each_prev_safe(node, next_node, &list)
		list_del(node);
	CHECK(list_empty(&list));
}

static void test_rcu(void)
{
	LIST_HEAD(list);
	HLIST_HEAD(hlist);
	int i;

	for (i = 0; i < 4; i++)
		items[i].value = i;
	list_add_rcu(&items[1].link, &list);
	list_add_rcu(&items[0].link, &list);
	list_add_tail_rcu(&items[2].link, &list);
	CHECK(list_is(&list, 0, 1, 2, -1));
	list_replace_rcu(&items[1].link, &items[3].link);
	CHECK(list_is(&list, 0, 3, 2, -1));
	CHECK(items[1].link.next == &items[2].link);
	list_del_rcu(&items[3].link);
	CHECK(list_is(&list, 0, 2, -1));
	CHECK(items[3].link.next == &items[2].link);
	CHECK(items[3].link.prev == LIST_POISON2);

	hlist_add_head_rcu(&items[1].hash, &hlist);
	hlist_add_before_rcu(&items[0].hash, &items[1].hash);
	hlist_add_behind_rcu(&items[2].hash, &items[1].hash);
	CHECK(hlist_is(&hlist, 0, 1, 2, -1));
	hlist_del_rcu(&items[0].hash);
	CHECK(hlist_is(&hlist, 1, 2, -1));
	CHECK(items[0].hash.next == &items[1].hash);
	CHECK((void *)items[0].hash.pprev == LIST_POISON2);
	hlist_del_init_rcu(&items[1].hash);
	CHECK(hlist_is(&hlist, 2, -1));
	CHECK(items[1].hash.next == &items[2].hash);
	CHECK(hlist_unhashed(&items[1].hash));
	hlist_del_init_rcu(&items[1].hash);
	CHECK(hlist_is(&hlist, 2, -1));
}

static void test_hlist(void)
{
	HLIST_HEAD(list);
	struct hlist_head other = HLIST_HEAD_INIT;
	struct hlist_node *node, *next;
	struct item *pos;
	int count = 0;

	CHECK(hlist_empty(&list));
	INIT_HLIST_NODE(&items[3].hash);
	items[3].value = 3;
	CHECK(hlist_unhashed(&items[3].hash));
	hlist_del_init(&items[3].hash);

	hfill(&list, 3);
	CHECK(hlist_is(&list, 0, 1, 2, -1));
	hlist_add_before(&items[3].hash, &items[0].hash);
	CHECK(hlist_is(&list, 3, 0, 1, 2, -1));
	hlist_del_init(&items[3].hash);
	CHECK(hlist_unhashed(&items[3].hash) && !items[3].hash.next);
	hlist_add_behind(&items[3].hash, &items[2].hash);
	CHECK(hlist_is(&list, 0, 1, 2, 3, -1));
	CHECK(!hlist_unhashed_lockless(&items[3].hash));

	CHECK(DIGITS(hlist_for_each_entry(pos, &list, hash)) == 90123);
	CHECK(!pos);
	CHECK(DIGITS(hlist_for_each_entry_rcu(pos, &list, hash)) == 90123);
	CHECK(DIGITS(hlist_for_each_entry_rcu(pos, &list, hash, true)) ==
	      90123);
	CHECK(DIGITS(hlist_for_each_entry_srcu(pos, &list, hash, true)) ==
	      90123);
	pos = &items[1];
	CHECK(DIGITS(hlist_for_each_entry_from(pos, hash)) == 9123);
	pos = &items[1];
	CHECK(DIGITS(hlist_for_each_entry_continue(pos, hash)) == 923);
	hlist_for_each(node, &list)
		count++;
	CHECK(count == 4);

	hlist_for_each_entry_safe(pos, next, &list, hash) {
		if (pos->value % 2)
			hlist_del(&pos->hash);
	}
	CHECK(hlist_is(&list, 0, 2, -1));
	CHECK(items[1].hash.next == LIST_POISON1);
	CHECK((void *)items[1].hash.pprev == LIST_POISON2);
	hlist_move_list(&list, &other);
	CHECK(hlist_empty(&list));
	CHECK(hlist_is(&other, 0, 2, -1));
	CHECK(!hlist_is_singular_node(&items[0].hash, &other));
	hlist_for_each_safe(node, next, &other) {
		if (node == &items[0].hash)
			hlist_del(node);
	}
	CHECK(hlist_is_singular_node(&items[2].hash, &other));

	hlist_add_fake(&items[4].hash);
	CHECK(hlist_fake(&items[4].hash));
	hlist_del(&items[4].hash);
}

/* What newer kernels have, and what drivers seldom use. */
static void test_list_more(void)
{
	LIST_HEAD(list);
	LIST_HEAD(other);
	struct list_head *node;
	unsigned int digits = 0;
	int i;

	for (i = 0; i < 8; i++)
		items[i].value = i;
	for (i = 0; i < 5; i++)
		list_add_tail(&items[i].link, &list);
	list_bulk_move_tail(&list, &items[1].link, &items[2].link);
	CHECK(list_is(&list, 0, 3, 4, 1, 2, -1));
	list_bulk_move_tail(&other, &items[0].link, &items[3].link);
	CHECK(list_is(&list, 4, 1, 2, -1));
	CHECK(list_is(&other, 0, 3, -1));
	list_rotate_to_front(&items[1].link, &list);
	CHECK(list_is(&list, 1, 2, 4, -1));
	CHECK(list_next_entry_circular(&items[4], &list, link) == &items[1]);
	CHECK(list_next_entry_circular(&items[1], &list, link) == &items[2]);
	CHECK(list_prev_entry_circular(&items[1], &list, link) == &items[4]);
	CHECK(list_prev_entry_circular(&items[4], &list, link) == &items[2]);

	list_cut_before(&other, &list, &items[1].link);	/* nothing */
	CHECK(list_empty(&other));
	CHECK(list_is(&list, 1, 2, 4, -1));
	list_cut_before(&other, &list, &items[4].link);
	CHECK(list_is(&other, 1, 2, -1));
	CHECK(list_is(&list, 4, -1));
	list_cut_before(&other, &list, &list);		/* all */
	CHECK(list_is(&other, 4, -1));
	CHECK(list_empty(&list));
	list_cut_before(&other, &list, &list);		/* of nothing */
	CHECK(list_empty(&other) && list_empty(&list));

	for (i = 0; i < 4; i++)
		list_add_tail(&items[i].link, &list);
	node = &items[0].link;
	list_for_each_continue(node, &list)
		digits = digits * 10 + list_entry(node, struct item, link)->value;
	CHECK(digits == 123);
	list_del_init_careful(&items[3].link);
	CHECK(list_empty_careful(&items[3].link));
	CHECK(list_is(&list, 0, 1, 2, -1));
}

static void test_rcu_more(void)
{
	LIST_HEAD(list);
	struct hlist_head hash = HLIST_HEAD_INIT, other = HLIST_HEAD_INIT;
	struct list_head *node;
	struct item *pos;
	unsigned int digits = 0;
	int i;

	CHECK(!list_first_or_null_rcu(&list, struct item, link));
	for (i = 0; i < 4; i++) {
		list_add_tail_rcu(&items[i].link, &list);
		hlist_add_tail_rcu(&items[i].hash, &hash);
	}
	CHECK(list_first_or_null_rcu(&list, struct item, link) == &items[0]);
	CHECK(list_next_or_null_rcu(&list, &items[2].link, struct item, link) == &items[3]);
	CHECK(!list_next_or_null_rcu(&list, &items[3].link, struct item, link));
	node = &list;
	CHECK(list_first_or_null_rcu(node++, struct item, link) == &items[0]);
	CHECK(node == &list + 1);	/* evaluated once */
	list_for_each_rcu(node, &list)
		digits = digits * 10 + list_entry(node, struct item, link)->value;
	CHECK(digits == 123);
	pos = &items[2];
	list_for_each_entry_from_rcu(pos, &list, link)
		digits = digits * 10 + pos->value;
	pos = &items[1];
	list_for_each_entry_continue_rcu(pos, &list, link)
		digits = digits * 10 + pos->value;
	CHECK(digits == 1232323);
	CHECK(rcu_dereference(list_next_rcu(&list)) == &items[0].link);
	INIT_LIST_HEAD_RCU(&list);
	CHECK(list_empty(&list) && list.prev == &list);

	CHECK(hlist_is(&hash, 0, 1, 2, 3, -1));
	CHECK(hlist_count_nodes(&hash) == 4 && hlist_count_nodes(&other) == 0);
	digits = 0;
	pos = &items[2];
	hlist_for_each_entry_from_rcu(pos, hash)
		digits = digits * 10 + pos->value;
	pos = &items[1];
	hlist_for_each_entry_continue_rcu(pos, hash)
		digits = digits * 10 + pos->value;
	CHECK(digits == 2323);
	hlist_replace_rcu(&items[1].hash, &items[5].hash);
	CHECK(hlist_is(&hash, 0, 5, 2, 3, -1));
	CHECK(items[1].hash.next == &items[2].hash);
	CHECK((void *)items[1].hash.pprev == LIST_POISON2);
	hlist_replace_rcu(&items[3].hash, &items[6].hash);
	CHECK(hlist_is(&hash, 0, 5, 2, 6, -1));
	CHECK(rcu_dereference(hlist_first_rcu(&hash)) == &items[0].hash);
	CHECK(rcu_dereference(hlist_next_rcu(&items[0].hash)) == &items[5].hash);
	CHECK(hlist_pprev_rcu(&items[5].hash) == &items[5].hash);
	hlist_add_head(&items[7].hash, &other);
	hlist_splice_init(&hash, &items[6].hash, &other);
	CHECK(hlist_is(&other, 0, 5, 2, 6, 7, -1));
	CHECK(hlist_empty(&hash));
	hlist_splice_init(&other, &items[7].hash, &hash);
	CHECK(hlist_is(&hash, 0, 5, 2, 6, 7, -1));
	CHECK(hlist_empty(&other));
}

static void test_llist(void)
{
	LLIST_HEAD(list);
	struct llist_node *chain, *node, *next_node;
	struct item *pos, *next;
	unsigned int digits = 0;
	int i;

	CHECK(llist_empty(&list) && !llist_del_all(&list));
	for (i = 0; i < 4; i++)
		CHECK(llist_add(&items[i].lockless, &list) == (i == 0));
	CHECK(!llist_empty(&list));
	items[5].lockless.next = &items[6].lockless;
	CHECK(!llist_add_batch(&items[5].lockless, &items[6].lockless, &list));
	chain = llist_del_all(&list);
	CHECK(llist_empty(&list));
	llist_for_each_entry(pos, chain, lockless)
		digits = digits * 10 + pos->value;
	CHECK(digits == 563210);
	digits = 0;
	llist_for_each(node, chain)
		digits++;
	CHECK(digits == 6);
	digits = 0;
	llist_for_each_safe(node, next_node, chain) {
		CHECK(next_node == node->next);
		digits = digits * 10 +
			 llist_entry(node, struct item, lockless)->value;
	}
	CHECK(digits == 563210);
	digits = 0;
	llist_for_each_entry_safe(pos, next, chain, lockless) {
		digits = digits * 10 + pos->value;
		pos->lockless.next = NULL;
	}
	CHECK(digits == 563210);
	init_llist_head(&list);
	CHECK(llist_add(&items[0].lockless, &list));
}

#define ADDERS 2
#define NODES 100000

static struct adder {
	struct llist_node nodes[NODES];
	int to_empty;
} adders[ADDERS];
static LLIST_HEAD(shared);

static void *add_nodes(void *context)
{
	struct adder *adder = (struct adder *)context;
	int i;

	for (i = 0; i < NODES; i++)
		adder->to_empty += llist_add(&adder->nodes[i], &shared);
	return NULL;
}

/* For each chain that is taken, one llist_add() has found the list empty. */
static void test_llist_threads(void)
{
	pthread_t threads[ADDERS];
	int i, nodes = 0, chains = 0, to_empty = 0;

	for (i = 0; i < ADDERS; i++)
		CHECK(!pthread_create(&threads[i], NULL, add_nodes, &adders[i]));
	while (nodes < ADDERS * NODES) {
		struct llist_node *node, *next_node;
		struct llist_node *chain = llist_del_all(&shared);

		if (!chain)
			sched_yield();
		chains += chain != NULL;
		llist_for_each_safe(node, next_node, chain) {
			WRITE_ONCE(node->next, node);
			nodes++;
		}
	}
	for (i = 0; i < ADDERS; i++) {
		pthread_join(threads[i], NULL);
		to_empty += adders[i].to_empty;
	}
	CHECK(nodes == ADDERS * NODES && llist_empty(&shared));
	CHECK(to_empty == chains);
}

#ifdef __x86_64__
/* The flag of single steps: a SIGTRAP after each instruction. */
#define set_steps(change) \
	__asm__ volatile("lea -128(%%rsp), %%rsp; pushfq;" change ", (%%rsp);" \
			 "popfq; lea 128(%%rsp), %%rsp" ::: "memory", "cc")

static struct llist_node stepped;
static bool was_taken;

static void take_stepped(int signal)
{
	(void)signal;
	if (READ_ONCE(shared.first) == &stepped) {
		llist_del_all(&shared);
		WRITE_ONCE(stepped.next, &stepped);
		WRITE_ONCE(was_taken, true);
	}
}

/* A node is the taker's at once: whoever added it does not look at it again. */
static void test_llist_steps(void)
{
	bool was_empty;

	signal(SIGTRAP, take_stepped);
	set_steps("orl $0x100");
	was_empty = llist_add(&stepped, &shared);
	set_steps("andl $~0x100");
	signal(SIGTRAP, SIG_DFL);
	CHECK(READ_ONCE(was_taken) && was_empty);
}
#else
static void test_llist_steps(void)
{
	printf("not on this processor: llist_add() in single steps\n");
}
#endif

int main(void)
{
	test_add_and_delete();
	test_replace_and_swap();
	test_splice_and_cut();
	test_loops();
	test_rcu();
	test_hlist();
	test_list_more();
	test_rcu_more();
	test_llist();
	test_llist_threads();
	test_llist_steps();
	return check_result();
}
