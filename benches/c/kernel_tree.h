/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the files in kernel_tree.c want from the rest of the kernel.  Included
 * before them; the headers that they name are empty files (build.rs).
 */
#include <stdbool.h>
#include <stddef.h>

#define EXPORT_SYMBOL(name)
#define EXPORT_SYMBOL_GPL(name)
#define __always_inline		inline __attribute__((__always_inline__))
#define __maybe_unused		__attribute__((__unused__))
#define likely(condition)	__builtin_expect(!!(condition), 1)
#define unlikely(condition)	__builtin_expect(!!(condition), 0)
#define __rcu
#define READ_ONCE(x)		(*(const volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, value)	(*(volatile __typeof__(x) *)&(x) = (value))
#define rcu_assign_pointer(pointer, value) \
	__atomic_store_n(&(pointer), (value), __ATOMIC_RELEASE)
#define container_of(pointer, type, member) \
	((type *)((char *)(pointer) - offsetof(type, member)))
