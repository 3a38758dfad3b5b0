/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <linux/err.h>: a pointer that is either an object's or a negative errno
 * value, kept in the last page of the address space.
 *
 * Guard: MMU_NOTIFIER_LINUX_ERR_H.  Define it first to bring your own.
 */
#ifndef MMU_NOTIFIER_LINUX_ERR_H
#define MMU_NOTIFIER_LINUX_ERR_H

#include <asm/errno.h>
#include <linux/compiler.h>
#include <linux/types.h>

#define MAX_ERRNO	4095

/* Is the address or pointer @x one of -MAX_ERRNO .. -1? */
#define IS_ERR_VALUE(x) \
	unlikely((unsigned long)(x) >= (unsigned long)-MAX_ERRNO)

/* @error: a negative errno value, as in ERR_PTR(-ENOMEM). */
static inline void * __must_check ERR_PTR(long error)
{
	return (void *)error;
}

static inline long __must_check PTR_ERR(const void *ptr)
{
	return (long)ptr;
}

static inline bool __must_check IS_ERR(const void *ptr)
{
	return IS_ERR_VALUE(ptr);
}

static inline bool __must_check IS_ERR_OR_NULL(const void *ptr)
{
	return !ptr || IS_ERR_VALUE(ptr);
}

/* The error in @ptr as a pointer of another type. */
static inline void * __must_check ERR_CAST(const void *ptr)
{
	return (void *)ptr;
}

/* The error in @ptr, 0 if it is an object's. */
static inline int __must_check PTR_ERR_OR_ZERO(const void *ptr)
{
	return IS_ERR(ptr) ? (int)PTR_ERR(ptr) : 0;
}

#endif
