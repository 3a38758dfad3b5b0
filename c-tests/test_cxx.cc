// SPDX-License-Identifier: MIT OR Apache-2.0
// The headers from C++17: a round of register, insert, start, end, and back.
#include <cstdio>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include <linux/mmu_notifier.h>
#include <linux/sched/mm.h>
#include <linux/mm.h>
#include <linux/kthread.h>
#include <mmu_notifier/mm.h>
#include <mmu_notifier/report.h>
#include <mmu_notifier/wait.h>

namespace {

std::vector<std::string> calls;
unsigned passed, failed;

void check(bool good, const char *what, int line)
{
	if (good)
		return;
	std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, line, what);
	failed = 1;
}
#define CHECK(condition) check((condition), #condition, __LINE__)

struct Listener {
	mmu_notifier mn;
	const char *name;
};

struct Watch {
	mmu_interval_notifier sub;
	std::mutex user_lock;
};

int on_start(mmu_notifier *mn, const mmu_notifier_range *range)
{
	calls.push_back(std::string(container_of(mn, Listener, mn)->name) + ".start");
	CHECK(mmu_notifier_range_blockable(range));
	return 0;
}

void on_end(mmu_notifier *mn, const mmu_notifier_range *)
{
	calls.push_back(std::string(container_of(mn, Listener, mn)->name) + ".end");
}

void on_release(mmu_notifier *mn, mm_struct *)
{
	calls.push_back(std::string(container_of(mn, Listener, mn)->name) + ".release");
}

bool on_invalidate(mmu_interval_notifier *sub, const mmu_notifier_range *, unsigned long seq)
{
	std::lock_guard<std::mutex> guard(container_of(sub, Watch, sub)->user_lock);

	mmu_interval_set_seq(sub, seq);
	calls.push_back("inv " + std::to_string(seq));
	return true;
}

void on_report(const mmu_notifier_report *report, void *)
{
	std::fprintf(stderr, "[%s] %s: %s\n", report->rule, report->function, report->message);
	failed = 1;
}

void round_trip()
{
	mmu_notifier_ops ops{};
	mmu_interval_notifier_ops interval_ops{};
	mmu_notifier_range range;
	Listener listener{};
	Watch watch;
	mm_struct *mm = mm_alloc();
	unsigned long seq;

	ops.invalidate_range_start = on_start;
	ops.invalidate_range_end = on_end;
	ops.release = on_release;
	interval_ops.invalidate = on_invalidate;
	listener.name = "L";
	listener.mn.ops = &ops;
	CHECK(mmu_notifier_register(&listener.mn, mm) == 0);
	CHECK(mmu_interval_notifier_insert(&watch.sub, mm, 0x1000, 0x1000, &interval_ops) == 0);
	CHECK(atomic_read(&mm->mm_count) == 3);
	seq = mmu_interval_read_begin(&watch.sub);
	CHECK(!mmu_interval_read_retry(&watch.sub, seq));

	mmap_read_lock(mm);
	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, mm, 0x1000, 0x2000);
	mmu_notifier_invalidate_range_start(&range);
	mmu_notifier_invalidate_range_end(&range);
	mmap_read_unlock(mm);
	CHECK(mmu_interval_check_retry(&watch.sub, seq));
	CHECK(mmu_interval_read_begin(&watch.sub) == 3);

	mmu_interval_notifier_remove(&watch.sub);
	mmu_notifier_unregister(&listener.mn, mm);
	CHECK(atomic_read(&mm->mm_count) == 1);
	mmput(mm);
	mmu_notifier_synchronize();
	CHECK((calls == std::vector<std::string>{ "inv 3", "L.start", "L.end", "L.release" }));
	CHECK(current->mm != nullptr);
}

} // namespace

int main()
{
	mmu_notifier_set_report_handler(on_report, nullptr);
	round_trip();
	std::printf("%s S1_1_round_trip_from_cxx\n", failed ? "FAIL" : "PASS");
	passed = !failed;
	std::printf("%u passed, %u failed, 0 skipped\n", passed, failed);
	return failed ? 1 : 0;
}
