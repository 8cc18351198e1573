// The threads of the session that runs the operator, in the place of ../threads.cpp.
//
// ONNX Runtime's threads spin for a while after each of its operators. Threads of our own beside them
// would find no processor, and two pools of as many threads as there are cores are too many. So the
// tiles of a call go to the session's own pool, which has as many threads as the person has asked
// for (intra_op_num_threads). The pool belongs to the call, not to the process, so whoever calls the
// kernel names it first.
#pragma once

#include "abi.h"

namespace acdc {

// While an object lives, run_parallel on this thread uses the threads of a session's call.
class OnSessionThreads {
 public:
  OnSessionThreads(const ort::Api& api, const ort::KernelContext* context);
  ~OnSessionThreads();
  OnSessionThreads(const OnSessionThreads&) = delete;
  OnSessionThreads& operator=(const OnSessionThreads&) = delete;

  // What the runtime said where it could not run a task; null where all went well.
  ort::Status* status() const { return status_; }

  // Calls task(context, i) for every i below count, on the threads of this thread's call.
  static void run(size_t count, void (*task)(void*, size_t), void* context);

 private:
  static thread_local OnSessionThreads* current_;

  const ort::Api& api_;
  const ort::KernelContext* const context_;
  OnSessionThreads* const before_;
  ort::Status* status_ = nullptr;
};

}  // namespace acdc
