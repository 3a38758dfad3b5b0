/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <linux/bug.h>: WARN_ON() and BUG_ON() and their kin.
 *
 * Guard: MMU_NOTIFIER_LINUX_BUG_H.  Define it first to bring your own.
 *
 * Different from the kernel: they tell the library, which hands them to the
 * report handler; a BUG ends the process by abort().  The message of WARN()
 * is formatted by libc: no %pS and other formats that only the kernel has.
 */
#ifndef MMU_NOTIFIER_LINUX_BUG_H
#define MMU_NOTIFIER_LINUX_BUG_H

#include <linux/compiler.h>
#include <linux/types.h>
#include <mmu_notifier/abi/support.h>

/* The helpers return true, WARN_ON()'s value, so that it can end in them. */
static inline bool mmu_notifier_warn(const char *file, int line,
		const char *function, const char *condition)
{
	mmu_notifier_driver_report(0, file, line, function, condition);
	return true;
}

static inline __attribute__((__format__(__printf__, 4, 5)))
bool mmu_notifier_warn_format(const char *file, int line,
		const char *function, const char *format, ...)
{
	char message[256];
	__builtin_va_list args;

	__builtin_va_start(args, format);
	__builtin_vsnprintf(message, sizeof(message), format, args);
	__builtin_va_end(args);
	return mmu_notifier_warn(file, line, function, message);
}

static inline __attribute__((__noreturn__))
void mmu_notifier_bug(const char *file, int line, const char *function,
		      const char *condition)
{
	mmu_notifier_driver_report(1, file, line, function, condition);
	__builtin_abort();
}

/* True the first time that control comes by this very place. */
#define mmu_notifier_first_time() \
	__extension__ ({ \
		static bool __seen; \
		!__atomic_exchange_n(&__seen, true, __ATOMIC_RELAXED); \
	})

/* Report if the condition holds.  The value is the condition's, 0 or 1. */
#ifndef WARN_ON
#define WARN_ON(condition) \
	__extension__ ({ \
		unlikely(condition) && \
		mmu_notifier_warn(__FILE__, __LINE__, __func__, #condition); \
	})
#endif

/* The same with a message, as for printf(). */
#ifndef WARN
#define WARN(condition, ...) \
	__extension__ ({ \
		unlikely(condition) && \
		mmu_notifier_warn_format(__FILE__, __LINE__, __func__, \
					 __VA_ARGS__); \
	})
#endif

/* The same, but only the first time is reported. */
#ifndef WARN_ON_ONCE
#define WARN_ON_ONCE(condition) \
	__extension__ ({ \
		unlikely(condition) && \
		(!mmu_notifier_first_time() || \
		 mmu_notifier_warn(__FILE__, __LINE__, __func__, \
				   #condition)); \
	})
#endif

#ifndef WARN_ONCE
#define WARN_ONCE(condition, ...) \
	__extension__ ({ \
		unlikely(condition) && \
		(!mmu_notifier_first_time() || \
		 mmu_notifier_warn_format(__FILE__, __LINE__, __func__, \
					  __VA_ARGS__)); \
	})
#endif

/* Report and abort, if the condition holds. */
#ifndef BUG_ON
#define BUG_ON(condition) \
	do { \
		if (unlikely(condition)) \
			mmu_notifier_bug(__FILE__, __LINE__, __func__, \
					 #condition); \
	} while (0)
#endif

#ifndef BUG
#define BUG() \
	mmu_notifier_bug(__FILE__, __LINE__, __func__, "BUG")
#endif

#endif
