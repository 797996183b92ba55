/* Threads that help whoever has tickets to hand out.
 *
 * A job is a row of numbered tickets. The thread that brings it takes tickets like everybody else,
 * so it is done even where no helper ever gets to run: after a fork, or on a busy machine. Tickets
 * are taken in order; one may wait for earlier ones, which then are in work or done.
 */
#ifndef EDGE_CODEC_INT8_POOL_H
#define EDGE_CODEC_INT8_POOL_H

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#define MAX_HELPERS 15
#define SHORT_WAIT 4000 /* turns before a waiting thread lets others run, some 100 us */
#define LONG_WAIT 4100  /* turns before it sleeps */

typedef struct job {
    void (*work)(struct job *job, int64_t ticket);
    int64_t tickets;
    int wanted; /* helpers, at most */
    _Atomic int64_t next;
    _Atomic int inside; /* helpers at work */
    struct job *after;
} job;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t wake, left;
    job *jobs;
    int helpers;
    int watched; /* whether forks are looked out for */
} pool = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL, 0, 0};

/* Wait a little for another thread: at first at once, then in favor of others, then asleep, since
 * a thread of real-time priority would else keep the very thread from running that it waits for. */
static inline void pause_briefly(int *turns) {
    ++*turns;
    if (*turns < SHORT_WAIT) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#endif
    } else if (*turns < LONG_WAIT) {
        sched_yield();
    } else {
        nanosleep(&(struct timespec){0, 50000}, NULL);
        *turns = SHORT_WAIT;
    }
}

static void take_tickets(job *j) {
    for (;;) {
        const int64_t ticket = atomic_fetch_add(&j->next, 1);
        if (ticket >= j->tickets) return;
        j->work(j, ticket);
    }
}

static job *job_to_help(void) {
    for (job *j = pool.jobs; j; j = j->after)
        if (atomic_load(&j->inside) < j->wanted && atomic_load(&j->next) < j->tickets) return j;
    return NULL;
}

static void *help(void *nothing) {
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        job *j = job_to_help();
        if (!j) {
            pthread_cond_wait(&pool.wake, &pool.lock);
            continue;
        }
        atomic_fetch_add(&j->inside, 1);
        pthread_mutex_unlock(&pool.lock);
        take_tickets(j);
        pthread_mutex_lock(&pool.lock);
        atomic_fetch_sub(&j->inside, 1);
        pthread_cond_broadcast(&pool.left);
    }
    return nothing;
}

/* A forked child has none of the threads, and a lock that may have been held. */
static void begin_child(void) {
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pthread_cond_init(&pool.left, NULL);
    pool.jobs = NULL;
    pool.helpers = 0;
}

/* Called with the lock held. Fewer helpers than wanted is no failure. */
static void hire(int wanted) {
    sigset_t all, before;
    if (!pool.watched) pool.watched = pthread_atfork(NULL, NULL, begin_child) == 0;
    /* Signals are for the threads of the interpreter. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool.watched && pool.helpers < wanted && pool.helpers < MAX_HELPERS) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, help, NULL)) break;
        pthread_detach(thread);
        pool.helpers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Do all tickets of a job, on up to `threads` threads. */
static void run_job(job *j, int threads) {
    j->wanted = threads - 1;
    atomic_init(&j->next, 0);
    atomic_init(&j->inside, 0);
    if (threads <= 1) {
        take_tickets(j);
        return;
    }
    pthread_mutex_lock(&pool.lock);
    if (pool.helpers < j->wanted) hire(j->wanted);
    j->after = pool.jobs;
    pool.jobs = j;
    pthread_mutex_unlock(&pool.lock);
    for (int i = 0; i < j->wanted; i++) pthread_cond_signal(&pool.wake);
    take_tickets(j);
    for (int turns = 0; turns < SHORT_WAIT && atomic_load(&j->inside);) pause_briefly(&turns);
    pthread_mutex_lock(&pool.lock);
    job **link = &pool.jobs;
    while (*link != j) link = &(*link)->after;
    *link = j->after;
    while (atomic_load(&j->inside)) pthread_cond_wait(&pool.left, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
}

#endif
