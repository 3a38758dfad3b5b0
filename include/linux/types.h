/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <linux/types.h>: the integer types, atomic_t, and the nodes and heads of the
 * lists.  The system's own <linux/types.h> (__u32, __le16, ...) comes with it.
 *
 * Guard: MMU_NOTIFIER_LINUX_TYPES_H.  Define it first to bring your own.
 *
 * Different from the kernel: size_t and bool are the compiler's; types that
 * libc declares (pid_t, ssize_t, loff_t, ...) are left to libc.
 */
#if !defined(__LP64__)
#error "mmu_notifier is for 64-bit programs only: pointers and long have 64 bits"
#endif

#pragma GCC system_header /* for -Wpedantic: #include_next is an extension */

#ifdef __has_include_next
#if __has_include_next(<linux/types.h>)
#include_next <linux/types.h>
#endif
#endif

#ifndef MMU_NOTIFIER_LINUX_TYPES_H
#define MMU_NOTIFIER_LINUX_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef signed char s8;
typedef unsigned char u8;
typedef short s16;
typedef unsigned short u16;
typedef int s32;
typedef unsigned int u32;
typedef long long s64;
typedef unsigned long long u64;

/* See <linux/atomic.h>. */
typedef struct {
	int counter;
} atomic_t;

/* See <linux/list.h>. */
struct list_head {
	struct list_head *next, *prev;
};

struct hlist_node {
	struct hlist_node *next, **pprev;
};

struct hlist_head {
	struct hlist_node *first;
};

/* Lies in an object that is to be called back for; see <linux/rcupdate.h>. */
struct callback_head {
	struct callback_head *next;
	void (*func)(struct callback_head *head);
} __attribute__((__aligned__(sizeof(void *))));

#define rcu_head callback_head

typedef void (*rcu_callback_t)(struct rcu_head *head);

#endif
