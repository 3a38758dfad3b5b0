// SPDX-License-Identifier: MIT OR Apache-2.0
// A thread is cancelled in fallocate(), which libc makes a point of cancellation: destructors run, as without live events, and no
// section stays open, for which who subscribes would wait.
#include <atomic>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/mmu_notifier.h>
#include <linux/sched/mm.h>
#include <mmu_notifier/live.h>

namespace {

constexpr long PAGE = 4096;
bool good_so_far = true;
unsigned passed, failed;
int memfd;
char *memory;
thread_local bool punches;
std::atomic<int> destroyed, inside, go_on, told;

void check(bool good, const char *what, int line)
{
	if (good)
		return;
	good_so_far = false;
	std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, line, what);
}
#define CHECK(condition) check((condition), #condition, __LINE__)

void stand()
{
	inside = 1;
	while (!go_on)
		sched_yield();
}

// Between the look and the call, which nobody watches.
void in_gap_of_call(void *)
{
	if (punches)
		stand();
}
const mmu_notifier_live_gap gap = { in_gap_of_call, nullptr };

bool invalidate(mmu_interval_notifier *sub, const mmu_notifier_range *, unsigned long seq)
{
	mmu_interval_set_seq(sub, seq);
	told++;
	stand();
	return true;
}
const mmu_interval_notifier_ops ops = { .invalidate = invalidate };

struct Guard {
	~Guard() { destroyed++; }
};

__attribute__((noinline)) void punch()
{
	Guard inner;

	fallocate(memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE);
	std::fprintf(stderr, "not cancelled\n");
}

void *punch_in_thread(void *)
{
	Guard outer;

	punches = true;
	punch();
	return nullptr;
}

void expect_unwound()
{
	pthread_t thread;
	void *result = nullptr;

	destroyed = inside = go_on = 0;
	memory[0] = 1;
	CHECK(!pthread_create(&thread, nullptr, punch_in_thread, nullptr));
	while (!inside)
		sched_yield();
	CHECK(!pthread_cancel(thread));
	go_on = 1;
	CHECK(!pthread_join(thread, &result));
	CHECK(result == PTHREAD_CANCELED);
	CHECK(destroyed == 2);
	CHECK(memory[0] == 0);
}

void between_look_and_call()
{
	mmu_notifier_live_set_gap(&gap);
	expect_unwound();
	mmu_notifier_live_set_gap(nullptr);
}

void announced()
{
	mmu_interval_notifier sub;

	// Nobody is waited for.
	CHECK(!mmu_interval_notifier_insert(&sub, current->mm, reinterpret_cast<unsigned long>(memory), PAGE, &ops));
	expect_unwound();
	CHECK(told == 1);
	mmu_interval_notifier_remove(&sub);
}

void run(const char *name, void (*test)())
{
	good_so_far = true;
	test();
	std::printf("%s %s\n", good_so_far ? "PASS" : "FAIL", name);
	(good_so_far ? passed : failed)++;
}

} // namespace

int main()
{
	alarm(60);
	memfd = memfd_create("file", MFD_CLOEXEC);
	CHECK(!ftruncate(memfd, PAGE));
	memory = static_cast<char *>(mmap(nullptr, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0));
	CHECK(!mmu_notifier_live_enable());
	if (good_so_far) {
		run("LIVE_a_thread_that_is_cancelled_in_fallocate_unwinds_and_leaves_nothing_open", between_look_and_call);
		run("LIVE_a_thread_that_is_cancelled_while_subscribers_are_told_unwinds_when_it_is_over", announced);
	}
	std::printf("%u passed, %u failed, 0 skipped\n", passed, failed);
	return failed || !good_so_far;
}
