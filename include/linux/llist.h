/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <linux/llist.h>: singly linked lists that take no lock; added to and emptied
 * by any number of threads, newest first.
 *
 * Guard: MMU_NOTIFIER_LINUX_LLIST_H.  Define it first to bring your own.
 *
 * Only <linux/mmu_notifier.h> of kernels from 7.1 on includes it.
 *
 * Different from the kernel: neither llist_del_first() nor
 * llist_reverse_order().
 */
#ifndef MMU_NOTIFIER_LINUX_LLIST_H
#define MMU_NOTIFIER_LINUX_LLIST_H

#include <linux/compiler.h>
#include <linux/container_of.h>
#include <linux/types.h>

struct llist_node {
	struct llist_node *next;
};

struct llist_head {
	struct llist_node *first;
};

#define LLIST_HEAD_INIT(name)	{ NULL }
#define LLIST_HEAD(name)	struct llist_head name = LLIST_HEAD_INIT(name)

static inline void init_llist_head(struct llist_head *list)
{
	list->first = NULL;
}

static inline bool llist_empty(const struct llist_head *head)
{
	return READ_ONCE(head->first) == NULL;
}

/* Adds the chain from @first to @last.  Was the list empty? */
static inline bool llist_add_batch(struct llist_node *first,
				   struct llist_node *last,
				   struct llist_head *head)
{
	struct llist_node *next = READ_ONCE(head->first);

	/* Once it is added, @last may be taken and freed. */
	do
		last->next = next;
	while (!__atomic_compare_exchange_n(&head->first, &next, first, true,
					    __ATOMIC_SEQ_CST,
					    __ATOMIC_RELAXED));
	return !next;
}

static inline bool llist_add(struct llist_node *node, struct llist_head *head)
{
	return llist_add_batch(node, node, head);
}

/* Takes all nodes: a chain that ends with NULL. */
static inline struct llist_node *llist_del_all(struct llist_head *head)
{
	return __atomic_exchange_n(&head->first, (struct llist_node *)NULL,
				   __ATOMIC_SEQ_CST);
}

#define llist_entry(pointer, type, member) \
	container_of(pointer, type, member)

/* Over a chain, as llist_del_all() returns it. */
#define llist_for_each(pos, node) \
	for (pos = (node); pos; pos = pos->next)
#define llist_for_each_safe(pos, next_pos, node) \
	for (pos = (node); pos && (next_pos = pos->next, true); pos = next_pos)

/* The struct around @node, NULL for NULL. */
#define __llist_entry_safe(node, type, member) \
	__extension__ ({ \
		struct llist_node *__node = (node); \
		__node ? llist_entry(__node, type, member) : NULL; \
	})

/* @pos is the struct around the node; _safe allows to free it in the loop. */
#define llist_for_each_entry(pos, node, member) \
	for (pos = __llist_entry_safe(node, __typeof__(*pos), member); pos; \
	     pos = __llist_entry_safe(pos->member.next, __typeof__(*pos), \
				      member))
#define llist_for_each_entry_safe(pos, next_pos, node, member) \
	for (pos = __llist_entry_safe(node, __typeof__(*pos), member); \
	     pos && (next_pos = __llist_entry_safe(pos->member.next, \
					__typeof__(*pos), member), true); \
	     pos = next_pos)

#endif
