/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Puts a kernel's own lists in the place of ours, for c-tests/headers/list.c:
 * what that expects of ours is so there.  -iquote finds the kernel's headers,
 * -I ours, -idirafter what only the kernel has.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/queue.h>

#define MMU_NOTIFIER_LINUX_CONTAINER_OF_H
#define MMU_NOTIFIER_LINUX_LIST_H
#define MMU_NOTIFIER_LINUX_LLIST_H
#define MMU_NOTIFIER_LINUX_RCULIST_H
#include <linux/atomic.h>
#include <linux/rcupdate.h>

/* What the kernel's lists want of other headers, and ours do not have. */
#define __KERNEL__
#define CONFIG_ILLEGAL_POINTER_VALUE	0xdead000000000000
#undef LIST_HEAD
#define __same_type(a, b) \
	__builtin_types_compatible_p(__typeof__(a), __typeof__(b))
#define data_race(access)			(access)
#define rcu_check_sparse(pointer, space)
#define rcu_dereference_raw_check(pointer)	rcu_dereference_raw(pointer)
#define RCU_LOCKDEP_WARN(condition, text)	((void)0)
#define xchg(pointer, value) \
	__atomic_exchange_n(pointer, value, __ATOMIC_SEQ_CST)
#define try_cmpxchg(pointer, expected, value) \
	__atomic_compare_exchange_n(pointer, expected, value, false, \
				    __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)

#include "include/linux/container_of.h"
#include "include/linux/list.h"
#include "include/linux/llist.h"
#include "include/linux/rculist.h"

/* It is not in a header. */
bool llist_add_batch(struct llist_node *first, struct llist_node *last,
		     struct llist_head *head)
{
	struct llist_node *next = READ_ONCE(head->first);

	do
		last->next = next;
	while (!try_cmpxchg(&head->first, &next, first));
	return !next;
}
