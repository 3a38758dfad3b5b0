/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <linux/lockdep.h>: statements about locks, for a checker.
 *
 * Guard: MMU_NOTIFIER_LINUX_LOCKDEP_H.  Define it first to bring your own.  A
 * macro that is already defined stays as it is.
 *
 * They take any lock type and check nothing, like a kernel without lockdep.
 */
#ifndef MMU_NOTIFIER_LINUX_LOCKDEP_H
#define MMU_NOTIFIER_LINUX_LOCKDEP_H

#ifndef lockdep_assert_held
#define lockdep_assert_held(lock)	do { (void)(lock); } while (0)
#endif
#ifndef lockdep_assert_held_write
#define lockdep_assert_held_write(lock)	do { (void)(lock); } while (0)
#endif
#ifndef lockdep_assert_held_read
#define lockdep_assert_held_read(lock)	do { (void)(lock); } while (0)
#endif
#ifndef lockdep_assert_not_held
#define lockdep_assert_not_held(lock)	do { (void)(lock); } while (0)
#endif
#ifndef lockdep_is_held
#define lockdep_is_held(lock)		((void)(lock), 1)
#endif
#ifndef might_lock
#define might_lock(lock)		do { (void)(lock); } while (0)
#endif
#ifndef might_lock_read
#define might_lock_read(lock)		do { (void)(lock); } while (0)
#endif

#endif
