/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ENV_LINUX_CACHE_H
#define ENV_LINUX_CACHE_H

#define cache_line_size()		64
#define ____cacheline_aligned_in_smp	__attribute__((__aligned__(64)))

#endif
