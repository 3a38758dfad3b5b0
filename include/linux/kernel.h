/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <linux/kernel.h>: might_sleep(), ULONG_MAX, and the headers that a driver
 * expects to come along.  The system's own <linux/kernel.h> comes with it.
 *
 * Guard: MMU_NOTIFIER_LINUX_KERNEL_H.  Define it first to bring your own.
 *
 * Different from the kernel: no min(), max(), roundup() and the like.  libc
 * includes this header too, so they would reach code that is no driver.
 */
#pragma GCC system_header /* for -Wpedantic: #include_next is an extension */

#ifdef __has_include_next
#if __has_include_next(<linux/kernel.h>)
#include_next <linux/kernel.h>
#endif
#endif

#ifndef MMU_NOTIFIER_LINUX_KERNEL_H
#define MMU_NOTIFIER_LINUX_KERNEL_H

#include <limits.h>

#include <linux/compiler.h>
#include <linux/container_of.h>
#include <linux/types.h>

/* "This may sleep": only an explorer checks it. */
#ifdef MMU_NOTIFIER_EXPLORE
#ifndef might_sleep
#define might_sleep()			__mmu_notifier_point(MIGHT_SLEEP, NULL)
#endif
#ifndef might_sleep_if
#define might_sleep_if(condition) \
	do { if (condition) might_sleep(); } while (0)
#endif
#endif
#ifndef might_sleep
#define might_sleep()			do { } while (0)
#endif
#ifndef might_sleep_if
#define might_sleep_if(condition)	do { (void)(condition); } while (0)
#endif

#endif
