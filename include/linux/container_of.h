/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <linux/container_of.h>: from a member to the struct around it.
 *
 * Guard: MMU_NOTIFIER_LINUX_CONTAINER_OF_H.  Define it first to bring your
 * own.  A container_of that is already defined stays as it is.
 */
#ifndef MMU_NOTIFIER_LINUX_CONTAINER_OF_H
#define MMU_NOTIFIER_LINUX_CONTAINER_OF_H

#include <stddef.h>

/*
 * The object of type @type whose @member @pointer points to.  @pointer points
 * to the member's type, const or not, or to void: anything else is diagnosed.
 * The result is a pointer to non-const either way.  It is computed as a number
 * because it may lie outside of any object: a list's head taken for an entry.
 */
#ifndef container_of
#define container_of(pointer, type, member) \
	((void)sizeof((pointer) == &((type *)0)->member), \
	 (type *)((unsigned long)(pointer) - offsetof(type, member)))
#endif

/* The same, const if @pointer is.  In C only: C++ has no _Generic. */
#ifndef container_of_const
#ifndef __cplusplus
#define container_of_const(pointer, type, member) \
	_Generic(pointer, \
		const __typeof__(*(pointer)) *: \
			(const type *)container_of(pointer, type, member), \
		default: container_of(pointer, type, member))
#endif
#endif

#endif
