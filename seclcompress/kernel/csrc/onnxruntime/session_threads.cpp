#include "session_threads.h"

#include "../threads.h"

namespace acdc {

thread_local OnSessionThreads* OnSessionThreads::current_ = nullptr;

OnSessionThreads::OnSessionThreads(const ort::Api& api, const ort::KernelContext* context)
    : api_(api), context_(context), before_(current_) {
  current_ = this;
}

OnSessionThreads::~OnSessionThreads() { current_ = before_; }

void OnSessionThreads::run(size_t count, void (*task)(void*, size_t), void* context) {
  constexpr size_t kOneByOne = 0;  // a thread takes the next index when it is free
  ort::Status* const status =
      current_->api_.call<ort::ParallelFor>(current_->context_, task, count, kOneByOne, context);
  if (status != nullptr) current_->status_ = status;
}

void run_parallel(int, int64_t count, void (*task)(void*, int64_t), void* context) {
  if (count == 1) return task(context, 0);
  struct Job {
    void (*task)(void*, int64_t);
    void* context;
  } job = {task, context};
  OnSessionThreads::run(static_cast<size_t>(count), [](void* self, size_t i) {
    const Job& mine = *static_cast<const Job*>(self);
    mine.task(mine.context, static_cast<int64_t>(i));
  }, &job);
}

// A session does not survive a fork, so the mutex need not either.
ForkSafeMutex& plan_mutex() {
  static auto* mutex = new ForkSafeMutex;
  return *mutex;
}

}  // namespace acdc
