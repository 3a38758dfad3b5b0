// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * READ_ONCE() and WRITE_ONCE() evaluate each argument once, also where they
 * are schedule points (MMU_NOTIFIER_EXPLORE): one between the load of what is
 * stored and the store, so that lost updates are found.  C and C++.
 */
#include <linux/compiler.h>

#include "check.h"

#ifdef MMU_NOTIFIER_EXPLORE
static const void *point;

void mmu_notifier_explore_point(unsigned int kind, const void *address)
{
	(void)kind;
	point = address;
}
#define CHECK_POINT(address)	CHECK(point == (address))
#else
#define CHECK_POINT(address)	((void)(address))
#endif

int main(void)
{
	int places[] = { 1, 2, 3 };
	const int *from = places;
	int *to = places, value = 7;

	CHECK(READ_ONCE(*from++) == 1);
	CHECK(from == &places[1]);
	CHECK_POINT(&places[0]);
	WRITE_ONCE(*to++, value++);
	CHECK(places[0] == 7 && value == 8 && to == &places[1]);
	CHECK_POINT(&places[0]);
	CHECK(READ_ONCE(places[READ_ONCE(places[1])]) == 3);
	WRITE_ONCE(places[2], READ_ONCE(places[1]) + 1);
	CHECK(places[2] == 3);
	CHECK_POINT(&places[2]);
	return check_result();
}
