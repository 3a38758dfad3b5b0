/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * torture - everything at once, through the C ABI, for as long as one likes.
 *
 * Actors, more of them than processors or just a few, draw operations: all
 * kinds mixed, or one kind again and again.  What each kind checks is said in
 * its file: lists.c, intervals.c, spaces.c, life.c, domains.c.
 *
 * Signals hold threads up at any instruction, in the library or out of it.
 *
 * Every few milliseconds all have to come to rest, without anybody's help:
 * whoever still sleeps then has missed a wake-up, which under load the next
 * event would have made good.  At rest all counts are exact, mms end with
 * their members in place, and new ones are made.
 *
 * The first violation ends the program with status 1, so does a hang; then it
 * says what each thread did last, and what it sleeps on.  At the end a table
 * says what was done.  What was never done is a failure too.
 */
#include <dlfcn.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <time.h>

#include "torture.h"

struct actor actors[ACTORS];
int n_actors;
bool really_free, in_child;

static __thread struct actor *me;
static unsigned long seed = 1, began, hang_ms = 30000, deadline, rest_ms = 20;
static unsigned int seconds = 60, threads = 12;
static int shorts;			/* threads that come and go, now */
static int stopping;
static struct actor *all[ACTORS];	/* those that never go, by number */

static pthread_mutex_t rest_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t rest_over = PTHREAD_COND_INITIALIZER;
static int rest_wanted;

static const char *const names[] = {
#define X(name, text, needed) text,
	COUNTERS(X)
#undef X
};
static const bool needed[] = {
#define X(name, text, needed) needed,
	COUNTERS(X)
#undef X
};
static const char *const reasons[] = {
	"a lock", "mmap_lock", "the reverse-map lock", "read_begin", "remove",
	"a grace period", "free_notifier that is owed", "work",
};

unsigned long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ul + now.tv_nsec / 1000000;
}

unsigned long total(enum counter kind)
{
	unsigned long sum = 0;
	int i, n = acquire(&n_actors);

	for (i = 0; i < n; i++)
		sum += acquire(&actors[i].count[kind]);
	return sum;
}

/* ---- actors ---- */

static struct actor *claim(const char *name)
{
	static unsigned long claims;
	struct actor *a;
	int i, n;

	for (i = 0; i < ACTORS && !change(&actors[i].used, 0, 1); i++)
		;
	if (i == ACTORS)
		fail("too many threads");
	for (n = get(&n_actors); n <= i && !change(&n_actors, n, i + 1); n = get(&n_actors))
		;
	a = &actors[i];
	snprintf(a->name, sizeof(a->name), "%s %d", name, i);
	a->seed = (seed + add(&claims, 1ul) * 0x9e3779b97f4a7c15ul) | 1;
	for (n = 0; n < 8; n++)
		rnd(a);
	a->resting = false;
	a->n_notes = 0;
	a->began = 0;
	a->queue = NULL;
	a->op = "nothing";
	return a;
}

/* A thread that nobody has introduced is the library's. */
struct actor *self(void)
{
	if (!me)
		me = claim("library");
	return me;
}

static void leave(void)
{
	release(&me->used, 0);
	me = NULL;
}

void dawdle(struct actor *a, bool may_sleep)
{
	unsigned long i, what = rnd(a) % 1024;

	if (a->linger) {
		a->linger = false;
		for (i = 0; i < 4; i++)
			sched_yield();
		if (may_sleep)
			usleep(200);
		return;
	}
	if (what < 960)
		return;
	if (what < 1000) {
		for (i = rnd(a) % 2000; i; i--)
			__asm__ volatile("" ::: "memory");
	} else if (what < 1016 || !may_sleep) {
		sched_yield();
	} else {
		count(a, SLEPT);
		usleep(what == 1023 ? rnd(a) % 2000 : rnd(a) % 100);
	}
}

/* ---- what goes wrong ---- */

static void print_ages(FILE *to)
{
	static const char *const when[] = { "begins", "ends" };
	int w, age, i;

	fprintf(to, "ages that readers saw (1: unlinked, 2: a grace period ago, ...)\n");
	for (w = 0; w < 2; w++) {
		fprintf(to, "  as it %-7s", when[w]);
		for (age = 0; age <= PIPE; age++) {
			unsigned long sum = 0;

			for (i = 0; i < n_actors; i++)
				sum += get(&actors[i].ages[w][age]);
			fprintf(to, " %d:%lu", age, sum);
		}
		fputc('\n', to);
	}
}

static void print_threads(void)
{
	int i;

	for (i = 0; i < n_actors; i++) {
		struct actor *a = &actors[i];
		const void *queue = get(&a->queue);

		if (!acquire(&a->used))
			continue;
		fprintf(stderr, "  %-12s %-24s ", a->name, get(&a->op));
		if (queue)
			fprintf(stderr, "sleeps on %p for %s\n", queue, reasons[get(&a->reason) & 7]);
		else
			fprintf(stderr, "%s\n", get(&a->resting) ? "at rest" : "runs, or sleeps outside the library");
	}
}

void fail(const char *format, ...)
{
	static int failing;
	char message[512];
	va_list list;

	if (add(&failing, 1) && !in_child)
		for (;;)	/* another thread reports, and ends the process */
			pause();
	va_start(list, format);
	vsnprintf(message, sizeof(message), format, list);
	va_end(list);
	fflush(stdout);
	fprintf(stderr, "VIOLATION after %.2f s: %s (%s: %s; seed %lu)\n", (now_ms() - began) / 1e3, message,
		me ? me->name : "?", me ? me->op : "?", seed);
	if (!in_child)
		print_ages(stderr);
	_exit(1);
}

static void on_report(const struct mmu_notifier_report *report, void *data)
{
	(void)data;
	if (report->kind != MMU_NOTIFIER_REPORT_INFO)
		fail("the library reports [%s] %s: %s", report->rule, report->function, report->message);
}

#if SEES_FREE
/* A link that was followed too late leads anywhere. */
static void on_crash(int signal)
{
	fail("%s", strsignal(signal));
}

/* The library's free() too: sees the end of mms. */
void free(void *memory)
{
	static void (*next)(void *);

	if (!get(&next))
		set(&next, (void (*)(void *))dlsym(RTLD_NEXT, "free"));
	if (memory)
		mm_freed(memory);
	next(memory);
}
#endif

/* ---- the wait hook ---- */

static void wait_begin(void *data, const void *queue, enum mmu_notifier_wait_reason reason)
{
	struct actor *a = self();

	(void)data;
	set(&a->reason, (int)reason);
	set(&a->queue, queue);
	count(a, WAIT_LOCK + reason);
}

static void wait_end(void *data, const void *queue, enum mmu_notifier_wait_reason reason)
{
	(void)data, (void)queue, (void)reason;
	set(&self()->queue, NULL);
}

static const struct mmu_notifier_wait_hook hook = { .wait_begin = wait_begin, .wait_end = wait_end };

static void *watch(void *arg)
{
	(void)arg;
	while (!acquire(&stopping)) {
		usleep(50000);
		if (now_ms() < acquire(&deadline))
			continue;
		fprintf(stderr, "VIOLATION after %.2f s: no progress for %.0f s (seed %lu)\n",
			(now_ms() - began) / 1e3, hang_ms / 1e3, seed);
		print_threads();
		print_ages(stderr);
		_exit(1);
	}
	return NULL;
}

/* ---- operations ---- */

static struct space *some(struct actor *a)
{
	return &spaces[rnd(a) % SPACES];
}

static void op_walk(struct actor *a) { walk(a, some(a)); }
static void op_update(struct actor *a) { update(a, some(a)); }
static void op_get(struct actor *a) { get_and_put(a, some(a)); }
static void op_mutate(struct actor *a) { mutate(a, some(a)); }
static void op_fault(struct actor *a) { fault(a, some(a)); }
static void op_churn(struct actor *a) { churn(a, some(a)); }
static void op_nothing(struct actor *a) { (void)a; }
static void op_thread(struct actor *a);

/* What is done from one rest to the next: by weight, all at once or few kinds. */
enum theme { ALL, WALKS, INTERVALS, DOMAINS, LIVES, THEMES };

static const struct op {
	void (*run)(struct actor *a);
	unsigned int burst, weight[THEMES];
} ops[] = {
	{ op_walk, 32, { 20, 4, 0, 0, 0 } }, { op_update, 4, { 10, 4, 0, 0, 0 } },
	{ op_get, 2, { 4, 1, 0, 0, 0 } }, { op_mutate, 16, { 20, 0, 4, 0, 0 } },
	{ op_fault, 8, { 16, 0, 4, 0, 0 } }, { op_churn, 4, { 8, 0, 2, 0, 0 } },
	{ live, 4, { 8, 0, 0, 0, 1 } }, { domain_read, 32, { 8, 0, 0, 2, 0 } },
	{ domain_update, 2, { 3, 0, 0, 1, 0 } }, { op_thread, 4, { 1, 0, 0, 0, 0 } },
	{ fork_one, 1, { 1, 0, 0, 0, 0 } }, { op_nothing, 1, { 1, 0, 0, 0, 0 } },
};
static enum theme theme;
/* Few are awake at times: they really run at the same time, where processors are few. */
static unsigned int awake;

static const struct op *draw(struct actor *a)
{
	unsigned int i, sum = 0, at;

	for (i = 0; i < ARRAY_SIZE(ops); i++)
		sum += ops[i].weight[theme];
	at = rnd(a) % sum;
	for (i = 0; at >= ops[i].weight[theme]; i++)
		at -= ops[i].weight[theme];
	return &ops[i];
}

/* Comes, does one thing or nothing, and goes, right out of it. */
static void *short_thread(void *arg)
{
	struct actor *a = self();
	const struct op *op = draw(a);

	(void)arg;
	memcpy(a->name, "short", 5);
	if (op->run != op_thread && op->run != fork_one)
		op->run(a);
	count(a, THREAD);
	leave();
	add(&shorts, -1);
	return NULL;
}

static void op_thread(struct actor *a)
{
	pthread_t thread;

	doing(a, "pthread_create");
	if (get(&shorts) > 16)
		return;
	add(&shorts, 1);
	if (pthread_create(&thread, NULL, short_thread, NULL))
		fail("pthread_create");
	doing(a, "pthread_join");
	if (one_in(a, 2))
		pthread_join(thread, NULL);
	else
		pthread_detach(thread);
}

static void take_rest(struct actor *a)
{
	doing(a, "rest");
	pthread_mutex_lock(&rest_lock);
	release(&a->resting, true);
	while (rest_wanted || (a->number >= awake && !acquire(&stopping)))
		pthread_cond_wait(&rest_over, &rest_lock);
	release(&a->resting, false);
	pthread_mutex_unlock(&rest_lock);
}

static void *act(void *arg)
{
	const struct op *op, *mood = NULL;
	struct actor *a = me = claim("actor");
	unsigned int n;

	a->number = (unsigned long)arg;
	a->thread = pthread_self();
	release(&all[a->number], a);
	add(&shorts, -1);
	while (!acquire(&stopping)) {
		op = mood ? mood : draw(a);
		for (n = 1 + rnd(a) % op->burst; n && !acquire(&rest_wanted); n--)
			op->run(a);
		if (acquire(&rest_wanted)) {
			take_rest(a);
			mood = one_in(a, 2) ? draw(a) : NULL;
		}
	}
	leave();
	return NULL;
}

/* ---- holding threads up ---- */

/*
 * Runs on an actor, at whatever instruction it is: in the few between two that
 * should be one, if they exist.  No call of the library is interrupted by a
 * signal (ARCHITECTURE.md).
 */
static void hold_up(int signal)
{
	static unsigned int number;
	unsigned int n = add(&number, 1u);
	struct timespec time = { 0, n % 16 ? n % 16 * 20000l : 2000000l };
	int before = errno;

	(void)signal;
	if (me && !in_child) {
		nanosleep(&time, NULL);
		me->linger = true;
	}
	errno = before;
}

static void *hold_up_some(void *arg)
{
	struct actor *a = self();
	unsigned int i;

	memcpy(a->name, "holder ", 7);
	while (!acquire(&stopping)) {
		usleep(rnd(a) % 500);
		i = rnd(a) % threads;
		if (get(&all[i]) && !acquire(&rest_wanted)) {
			pthread_kill(get(&all[i])->thread, SIGUSR1);
			count(a, STALL);
		}
	}
	leave();
	return arg;
}

/* ---- rest ---- */

static bool all_rest(void)
{
	unsigned int resting = 0;
	int i;

	for (i = 0; i < n_actors; i++)
		resting += acquire(&actors[i].used) && acquire(&actors[i].resting);
	return resting == threads && !acquire(&shorts);
}

static void alive(void)
{
	release(&deadline, now_ms() + hang_ms);
}

static void rest(struct actor *a, bool last)
{
	alive();
	doing(a, "waits for all to rest");
	release(&rest_wanted, 1);
	while (!all_rest())
		usleep(200);
	alive();
	doing(a, "looks around at rest");
	lists_at_rest();
	life_at_rest(a, last);
	spaces_at_rest(a, last);
	domains_at_rest(a, last);
	count(a, REST);
	alive();
	pthread_mutex_lock(&rest_lock);
	if (last)
		release(&stopping, 1);
	theme = one_in(a, 2) ? ALL : 1 + rnd(a) % (THEMES - 1);
	awake = one_in(a, 2) ? threads : 2 + rnd(a) % 3;
	rest_wanted = 0;
	pthread_cond_broadcast(&rest_over);
	pthread_mutex_unlock(&rest_lock);
}

/* ---- main ---- */

static int print_table(double elapsed)
{
	int i, untaken = 0;

	print_ages(stdout);
	for (i = 0; i < N_COUNTERS; i++) {
		unsigned long n = total(i);
		bool missing = !n && needed[i];

		printf("%12lu %10.0f/s  %s%s\n", n, n / elapsed, names[i], missing ? "   <-- NEVER" : "");
		untaken += missing;
	}
	return untaken;
}

static void options(int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "t:j:s:H:l:f")) != -1) {
		switch (c) {
		case 't': seconds = atoi(optarg); break;
		case 'j': threads = atoi(optarg); break;
		case 's': seed = strtoul(optarg, NULL, 0); break;
		case 'H': hang_ms = strtoul(optarg, NULL, 0) * 1000; break;
		case 'l': rest_ms = strtoul(optarg, NULL, 0); break;
		case 'f': really_free = true; break;
		default:
			fprintf(stderr, "usage: torture [-t SECONDS] [-j THREADS] [-s SEED] [-H SECONDS]\n"
				"  [-l MILLISECONDS] [-f]\n"
				"  -H  a hang is this long    -l  time from rest to rest, at most\n"
				"  -f  memory is freed at once, for checkers that see its use\n");
			exit(2);
		}
	}
	if (!rest_ms)
		rest_ms = 1;
	if (!threads || threads > ACTORS / 2) {
		fprintf(stderr, "torture: -j 1 to %d\n", ACTORS / 2);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	struct sigaction on_hold_up = { .sa_handler = hold_up, .sa_flags = SA_RESTART };
	pthread_t watcher, holder, thread[ACTORS];
	unsigned int i;
	int untaken;

	if (getenv("SEED"))
		seed = strtoul(getenv("SEED"), NULL, 0);
	options(argc, argv);
	printf("torture: seed %lu, %u s, %u threads\n", seed, seconds, threads);
	fflush(stdout);
	began = now_ms();
	alive();
	me = claim("main");
#if SEES_FREE
	signal(SIGSEGV, on_crash);
	signal(SIGBUS, on_crash);
#endif
	mmu_notifier_set_report_handler(on_report, NULL);
	mmu_notifier_set_wait_hook(&hook);
	spaces_make();
	life_begin(me);
	sigaction(SIGUSR1, &on_hold_up, NULL);
	if (pthread_create(&watcher, NULL, watch, NULL) || pthread_create(&holder, NULL, hold_up_some, NULL))
		fail("pthread_create");
	shorts = awake = threads;
	for (i = 0; i < threads; i++)
		if (pthread_create(&thread[i], NULL, act, (void *)(unsigned long)i))
			fail("pthread_create");
	while (now_ms() - began < seconds * 1000ul) {
		/* Often: each rest is a chance for a missed wake-up to be the last one. */
		usleep(one_in(me, 4) ? rest_ms * 1000 : rnd(me) % (rest_ms * 250));
		rest(me, false);
	}
	rest(me, true);
	pthread_join(holder, NULL);
	for (i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
	pthread_join(watcher, NULL);
	untaken = print_table((now_ms() - began) / 1e3);
	printf("torture: %s\n", untaken ? "a path was never taken" : "ok");
	return untaken != 0;
}
