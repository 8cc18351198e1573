#include "threads.h"

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <condition_variable>

namespace acdc {
namespace {

constexpr int kMaxWorkers = 255;

// Each thread has a range of consecutive indices of its own, so that it works on neighbouring
// memory. When its range is done, it takes indices from the ranges of the others.
class Job {
 public:
  Job(void (*task)(void*, int64_t), void* context, int64_t count, int threads)
      : task_(task), context_(context), threads_(threads) {
    int64_t begin = 0;
    for (int t = 0; t < threads; t++) {  // longer ranges first: the caller usually arrives first
      ranges_[t].next.store(begin, std::memory_order_relaxed);
      begin += count / threads + (t < count % threads ? 1 : 0);
      ranges_[t].end = begin;
    }
  }

  void work() {
    const int first = arrived_.fetch_add(1, std::memory_order_relaxed);
    for (int t = 0; t < threads_; t++) {
      Range& range = ranges_[(first + t) % threads_];
      for (int64_t i; (i = range.next.fetch_add(1, std::memory_order_relaxed)) < range.end;) {
        task_(context_, i);
      }
    }
  }

 private:
  struct alignas(64) Range {  // a cache line each
    std::atomic<int64_t> next;
    int64_t end;
  };

  void (*const task_)(void*, int64_t);
  void* const context_;
  const int threads_;
  std::atomic<int> arrived_{0};
  Range ranges_[kMaxWorkers + 1];  // the first threads_ are set
};

// Returns GNU OpenMP's entry point, to run on torch's own threads, where torch uses that library
// (Linux). Its threads go on spinning for some milliseconds after a parallel region, and other
// threads beside them would get no processor for that time. Null in a forked child: OpenMP's
// threads do not exist there, and it would wait for them for ever.
using OpenMpParallel = void (*)(void (*)(void*), void*, unsigned, unsigned);
std::atomic<bool> is_forked_child{false};

OpenMpParallel openmp_parallel() {
  static const auto found =
      reinterpret_cast<OpenMpParallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  return is_forked_child ? nullptr : found;
}

// Our own threads, used everywhere else.
struct Pool {
  std::mutex owner;  // held by the caller for as long as its job runs

  std::mutex state;  // guards what follows
  std::condition_variable wake, finished;
  int workers = 0;   // threads that exist
  int wanted = 0;    // workers that the present job may still take
  int running = 0;   // workers that have taken it and have not finished
  Job* job = nullptr;
};

Pool* new_pool();
Pool*& pool() {
  static Pool* instance = new_pool();  // never destroyed: its threads may outlive static storage
  return instance;
}

void before_fork() {
  plan_mutex().lock();
  pool()->owner.lock();
  pool()->state.lock();
}
void after_fork_in_parent() {
  pool()->state.unlock();
  pool()->owner.unlock();
  plan_mutex().unlock();
}
void after_fork_in_child() {
  is_forked_child = true;
  pool() = new Pool;  // the old one's threads are gone; its condition variables may have waiters
  plan_mutex().unlock();
}

Pool* new_pool() {
  pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
  return new Pool;
}

void* worker(void* argument) {
  Pool& p = *static_cast<Pool*>(argument);
  std::unique_lock<std::mutex> lock(p.state);
  for (;;) {
    p.wake.wait(lock, [&] { return p.wanted > 0; });
    p.wanted--;
    p.running++;
    Job* const job = p.job;
    lock.unlock();
    job->work();
    lock.lock();
    if (--p.running == 0) p.finished.notify_one();
  }
}

bool start_worker(Pool* p) {
  pthread_attr_t attributes;
  pthread_t thread;
  if (pthread_attr_init(&attributes) != 0) return false;
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  const bool started = pthread_create(&thread, &attributes, worker, p) == 0;
  pthread_attr_destroy(&attributes);
  return started;
}

void run_on_pool(Pool* p, int threads, Job* job) {
  const std::lock_guard<std::mutex> owner(p->owner, std::adopt_lock);
  {
    const std::lock_guard<std::mutex> lock(p->state);
    const int helpers = threads - 1;
    // If no thread can be started, the caller does more of the work itself.
    while (p->workers < helpers && start_worker(p)) p->workers++;
    p->job = job;
    p->wanted = helpers < p->workers ? helpers : p->workers;
  }
  p->wake.notify_all();
  job->work();
  std::unique_lock<std::mutex> lock(p->state);
  p->wanted = 0;  // a worker that has not woken yet must not take the job any more
  p->finished.wait(lock, [&] { return p->running == 0; });
}

}  // namespace

void run_parallel(int threads, int64_t count, void (*task)(void*, int64_t), void* context) {
  if (threads > kMaxWorkers + 1) threads = kMaxWorkers + 1;
  const int team = threads;
  if (threads > count) threads = static_cast<int>(count);
  if (threads <= 1) {
    for (int64_t i = 0; i < count; i++) task(context, i);
    return;
  }
  Job job(task, context, count, threads);
  Pool* const p = pool();  // also registers the fork handlers, on which openmp_parallel relies
  if (const OpenMpParallel parallel = openmp_parallel()) {
    // Uses all of torch's threads, even if some find nothing to do: GNU OpenMP ends the threads
    // that a region leaves out, and the next region would have to start them again.
    parallel([](void* j) { static_cast<Job*>(j)->work(); }, &job, team, 0);
  } else if (p->owner.try_lock()) {
    run_on_pool(p, threads, &job);
  } else {
    job.work();
  }
}

ForkSafeMutex& plan_mutex() {
  pool();  // registers the fork handlers that make the mutex safe
  static auto* mutex = new ForkSafeMutex;
  return *mutex;
}

}  // namespace acdc
