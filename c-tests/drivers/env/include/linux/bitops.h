/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ENV_LINUX_BITOPS_H
#define ENV_LINUX_BITOPS_H

#include <linux/types.h>

#define BITS_PER_LONG		64
#define DIV_ROUND_UP(n, d)	(((n) + (d) - 1) / (d))
#define BITS_TO_LONGS(bits)	DIV_ROUND_UP(bits, BITS_PER_LONG)
#define DECLARE_BITMAP(name, bits) unsigned long name[BITS_TO_LONGS(bits)]

#define ENV_WORD(map, bit)	((unsigned long *)(map) + (bit) / BITS_PER_LONG)
#define ENV_MASK(bit)		(1UL << (bit) % BITS_PER_LONG)

static inline bool test_bit(long bit, const void *map)
{
	return *ENV_WORD(map, bit) & ENV_MASK(bit);
}

static inline void __set_bit(long bit, void *map)
{
	*ENV_WORD(map, bit) |= ENV_MASK(bit);
}

static inline void __clear_bit(long bit, void *map)
{
	*ENV_WORD(map, bit) &= ~ENV_MASK(bit);
}

static inline void clear_bit(long bit, void *map)
{
	__atomic_fetch_and(ENV_WORD(map, bit), ~ENV_MASK(bit), __ATOMIC_SEQ_CST);
}

static inline bool test_and_set_bit(long bit, void *map)
{
	return __atomic_fetch_or(ENV_WORD(map, bit), ENV_MASK(bit), __ATOMIC_SEQ_CST) & ENV_MASK(bit);
}

/* The first set bit from `bit` on; `bits` if there is none. */
static inline unsigned long env_next_bit(const unsigned long *map, unsigned long bits, unsigned long bit)
{
	while (bit < bits && !test_bit(bit, map))
		bit++;
	return bit;
}

#define for_each_set_bit(bit, map, bits)				\
	for ((bit) = env_next_bit(map, bits, 0); (bit) < (bits);	\
	     (bit) = env_next_bit(map, bits, (bit) + 1))

/* The number of the highest set bit, from 1 on; 0 if there is none. */
static inline int fls(unsigned int word)
{
	return word ? 32 - __builtin_clz(word) : 0;
}

#endif
