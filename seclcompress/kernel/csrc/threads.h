// Work on several threads: on torch's OpenMP threads where it has any, else on a pool of our own
// that lives as long as the process. Both survive fork: the child starts with an empty pool of our
// own, and a fork waits until the job that the pool is running has ended.
#pragma once

#include <cstdint>
#include <mutex>

namespace acdc {

// Calls task(context, i) for every i in [0, count), on up to `threads` threads (256 at most), the
// caller's included. It is not defined which thread takes which i. If another thread is using our
// pool, the caller does all the work itself. The task must not throw.
void run_parallel(int threads, int64_t count, void (*task)(void*, int64_t), void* context);

// A mutex that a fork takes before it copies the process, so that the child never finds it locked
// by a thread that does not exist there.
using ForkSafeMutex = std::mutex;
ForkSafeMutex& plan_mutex();

}  // namespace acdc
