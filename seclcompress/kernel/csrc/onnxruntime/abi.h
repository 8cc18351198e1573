// The part of ONNX Runtime's C interface that the operator uses, in our own words. Its packages for
// Python bring no headers, so a build cannot ask for them.
//
// The interface is a table of functions that only grows: a function keeps its position and its
// signature for ever (the runtime's sources assert it). So a position is a fact like a system call's
// number. tests/kernel/test_onnxruntime_library.py runs every function that is named here.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ort {

// The version of the table and of CustomOp's layout: that of ONNX Runtime 1.17, the first with
// shape inference and the session's threads. A runtime that is older has no such table and says so.
constexpr uint32_t kApiVersion = 17;
constexpr const char* kFirstRuntime = "1.17";

// What the runtime hands out, known by address only.
struct Status;  // null is success; whoever returns one gives it away
struct SessionOptions;
struct CustomOpDomain;
struct Value;
struct TensorInfo;
struct KernelInfo;
struct KernelContext;
struct ShapeInferContext;
struct OpAttribute;

enum ErrorCode : int { kFail = 1, kInvalidArgument = 2 };
enum ElementType : int { kFloat = 1 };
enum Characteristic : int { kRequired = 0, kOptional = 1 };
enum AttributeType : int { kInt = 1 };

template <int POSITION, class SIGNATURE>
struct Entry;
template <int POSITION, class RESULT, class... ARGUMENTS>
struct Entry<POSITION, RESULT(ARGUMENTS...)> {
  static constexpr int kPosition = POSITION;
  using Pointer = RESULT (*)(ARGUMENTS...);
};

// The table. `api.call<GetDimensions>(…)` calls the function at that position.
struct Api {
  const void* entries[1];  // as many as the version has

  template <class ENTRY, class... ARGUMENTS>
  auto call(ARGUMENTS... arguments) const {
    const void* entry = entries[ENTRY::kPosition];
    return reinterpret_cast<typename ENTRY::Pointer>(const_cast<void*>(entry))(arguments...);
  }
};

using CreateStatus = Entry<0, Status*(ErrorCode, const char* message)>;
using CreateCustomOpDomain = Entry<26, Status*(const char* name, CustomOpDomain**)>;
using CustomOpDomainAdd = Entry<27, Status*(CustomOpDomain*, const struct CustomOp*)>;
using AddCustomOpDomain = Entry<28, Status*(SessionOptions*, CustomOpDomain*)>;
using GetTensorMutableData = Entry<51, Status*(Value*, void**)>;
using CreateTensorInfo = Entry<57, Status*(TensorInfo**)>;
using SetElementType = Entry<58, Status*(TensorInfo*, ElementType)>;
using SetDimensions = Entry<59, Status*(TensorInfo*, const int64_t*, size_t count)>;
using GetDimensionsCount = Entry<61, Status*(const TensorInfo*, size_t*)>;
using GetDimensions = Entry<62, Status*(const TensorInfo*, int64_t*, size_t count)>;
using GetSymbolicDimensions = Entry<63, Status*(const TensorInfo*, const char**, size_t count)>;
using GetTensorInfo = Entry<65, Status*(const Value*, TensorInfo**)>;
using KernelInfoGetInt = Entry<86, Status*(const KernelInfo*, const char* name, int64_t*)>;
using GetInputCount = Entry<88, Status*(const KernelContext*, size_t*)>;
using GetInput = Entry<90, Status*(const KernelContext*, size_t index, const Value**)>;
using GetOutput =
    Entry<91, Status*(KernelContext*, size_t index, const int64_t*, size_t count, Value**)>;
using ReleaseTensorInfo = Entry<99, void(TensorInfo*)>;
using GetConstantInput =
    Entry<249, Status*(const KernelInfo*, size_t index, int* is_constant, const Value**)>;
using InferGetInput = Entry<268, Status*(const ShapeInferContext*, size_t index, TensorInfo**)>;
using InferGetAttribute =
    Entry<269, Status*(const ShapeInferContext*, const char* name, const OpAttribute**)>;
using InferSetOutput =
    Entry<270, Status*(const ShapeInferContext*, size_t index, const TensorInfo*)>;
using SetSymbolicDimensions = Entry<271, Status*(TensorInfo*, const char**, size_t count)>;
using ReadAttribute =
    Entry<272, Status*(const OpAttribute*, AttributeType, void*, size_t bytes, size_t* read)>;
using ParallelFor = Entry<274, Status*(const KernelContext*, void (*)(void*, size_t), size_t count,
                                       size_t batches, void*)>;

// What the runtime passes to a library: where its tables are.
struct ApiBase {
  const Api* (*get_api)(uint32_t version);  // null where the runtime has no such version
  const char* (*version)();
};

// An operator as the runtime sees it, laid out as version 17 of the interface has it. Functions that
// a later one has replaced are null.
struct CustomOp {
  uint32_t version;
  void* (*create_kernel)(const CustomOp*, const Api*, const KernelInfo*);  // replaced
  const char* (*name)(const CustomOp*);
  const char* (*provider)(const CustomOp*);  // null is the CPU
  ElementType (*input_type)(const CustomOp*, size_t index);
  size_t (*input_count)(const CustomOp*);
  ElementType (*output_type)(const CustomOp*, size_t index);
  size_t (*output_count)(const CustomOp*);
  void (*compute)(void* kernel, KernelContext*);  // replaced
  void (*destroy)(void* kernel);
  Characteristic (*input_characteristic)(const CustomOp*, size_t index);
  Characteristic (*output_characteristic)(const CustomOp*, size_t index);
  int (*input_memory)(const CustomOp*, size_t index);
  int (*variadic_inputs)(const CustomOp*);
  int (*variadic_inputs_alike)(const CustomOp*);
  int (*variadic_outputs)(const CustomOp*);
  int (*variadic_outputs_alike)(const CustomOp*);
  Status* (*create)(const CustomOp*, const Api*, const KernelInfo*, void** kernel);
  Status* (*run)(void* kernel, KernelContext*);
  Status* (*infer_shape)(const CustomOp*, ShapeInferContext*);
  int (*start_version)(const CustomOp*);
  int (*end_version)(const CustomOp*);
};

}  // namespace ort
