/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Who is told when the contract is broken: WARN and BUG.
 * Generated from the Rust sources: change them, then run `make headers`.
 */

#ifndef MMU_NOTIFIER_REPORT_H
#define MMU_NOTIFIER_REPORT_H

#include <stdbool.h>

/**
 * How bad it is.
 */
enum mmu_notifier_report_kind {
	/**
	 * Worth a line in a log. The default handler drops it.
	 */
	MMU_NOTIFIER_REPORT_INFO = 0,
	/**
	 * The contract was broken; the library goes on as the rule says.
	 */
	MMU_NOTIFIER_REPORT_WARN = 1,
	/**
	 * The contract was broken and the library cannot go on: the C face aborts after the handler has returned.
	 */
	MMU_NOTIFIER_REPORT_BUG = 2,
};

/**
 * One report. The struct and its strings are valid until the handler returns.
 */
struct mmu_notifier_report {
	/**
	 * How bad it is.
	 */
	enum mmu_notifier_report_kind kind;
	/**
	 * The rule of the specification, such as "RS-5".
	 */
	const char *rule;
	/**
	 * The function that was called, such as "mmu_notifier_unregister".
	 */
	const char *function;
	/**
	 * The op that the calling thread is inside of, such as "invalidate_range_start"; or NULL.
	 */
	const char *callback;
	/**
	 * What is wrong, in a sentence.
	 */
	const char *message;
	/**
	 * The object or function that the message speaks of, or NULL.
	 */
	const void *address;
	/**
	 * The number that the message speaks of, or 0.
	 */
	long value;
	/**
	 * The file of a driver's own WARN_ON or BUG_ON, or NULL.
	 */
	const char *file;
	/**
	 * The line in that file.
	 */
	int line;
};

/**
 * Receives reports, on the thread that caused them.
 */
typedef void (*mmu_notifier_report_handler)(const struct mmu_notifier_report *report, void *data);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Sends reports to `handler`, with `data`, from now on. NULL restores the default handler, which writes one line to
 * stderr (`mmu_notifier: warning: [RS-5] function: message`) and drops information.
 *
 * The handler is called on the thread that caused the report, with no lock of the library held, from any thread, possibly
 * on several at a time and possibly inside a callback. After a BUG has been handled the program is aborted.
 */
void mmu_notifier_set_report_handler(mmu_notifier_report_handler handler,
				     void *data);

/**
 * Reports that the calling thread calls `function`, a string that stays valid, if it does so inside a callback of an event,
 * where that may hang (LIVE-call). Says whether it is inside of one.
 *
 * For libmmu_notifier_debug.so, and for allocators and locks that want to say it themselves. Callable from anywhere.
 */
bool mmu_notifier_check_call(const char *function);

/**
 * Reports of this kind since the process began. Callable from anywhere.
 */
unsigned long mmu_notifier_report_count(enum mmu_notifier_report_kind kind);

/**
 * Reports since the process began that named this rule, such as "RS-5". Callable from anywhere.
 */
unsigned long mmu_notifier_report_rule_count(const char *rule);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* MMU_NOTIFIER_REPORT_H */
