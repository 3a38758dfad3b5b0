/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Called by inlines of the driver's headers that no scenario gets to. */
#ifndef ENV_ASM_CACHEFLUSH_H
#define ENV_ASM_CACHEFLUSH_H

#define clflush(pointer)	((void)(pointer))
#define mb()			__atomic_thread_fence(__ATOMIC_SEQ_CST)

#endif
