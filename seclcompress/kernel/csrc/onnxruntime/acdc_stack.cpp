// The operator `seclcompress.AcdcStack` for ONNX Runtime: a stack of ACDC layers on the channels of
// an image, by the fused kernel. The library knows neither Python nor torch.
//
//   inputs      x      (batch, channels, *spatial), or (*anything, channels) with channels_last
//               a, d   (layers, N), the diagonals
//               bias   (out_channels,), optional
//               scale  (out_channels,), optional: multiplies the outputs before the bias is added
//   attributes  out_channels   from 1 to N
//               channels_last  0 (the default) or 1
//   output      as x, with out_channels channels
//
// All are float32. It computes what the operator `seclcompress::acdc_stack` of torch computes.
#include <exception>
#include <mutex>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "../fft_plan.h"
#include "../kernel.h"
#include "../scratch.h"
#include "abi.h"
#include "session_threads.h"

namespace {

using ort::Api;
using Shape = std::vector<int64_t>;

constexpr const char* kDomain = "seclcompress";
constexpr const char* kName = "AcdcStack";
constexpr const char* kOutChannels = "out_channels";
constexpr const char* kChannelsLast = "channels_last";
enum Input : size_t { kX, kA, kD, kBias, kScale, kInputs };

// A status of the runtime, on its way through functions that return something else.
struct Failed {
  ort::Status* status;
};

void check(ort::Status* status) {
  if (status != nullptr) throw Failed{status};
}

// What is wrong with a model, in words.
struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Runs a function; what it throws becomes the status that the runtime is given.
template <class F>
ort::Status* guarded(const Api& api, F f) noexcept {
  try {
    f();
    return nullptr;
  } catch (const Failed& failed) {
    return failed.status;
  } catch (const Refused& refused) {
    const std::string message = std::string(kDomain) + "." + kName + ": " + refused.what();
    return api.call<ort::CreateStatus>(ort::kInvalidArgument, message.c_str());
  } catch (const std::bad_alloc&) {
    return api.call<ort::CreateStatus>(ort::kFail, "seclcompress.AcdcStack: out of memory");
  } catch (const std::exception& error) {
    return api.call<ort::CreateStatus>(ort::kFail, error.what());
  }
}

std::string words(const Shape& shape) {
  std::ostringstream out;
  out << "(";
  for (size_t i = 0; i < shape.size(); i++) out << (i > 0 ? ", " : "") << shape[i];
  out << ")";
  return out.str();
}

// A tensor's type and shape, released with the object.
class Info {
 public:
  Info(const Api& api, ort::TensorInfo* info) : api_(api), info_(info) {}
  Info(const Info&) = delete;
  Info& operator=(const Info&) = delete;
  ~Info() { api_.call<ort::ReleaseTensorInfo>(info_); }
  ort::TensorInfo* get() const { return info_; }

 private:
  const Api& api_;
  ort::TensorInfo* const info_;
};

Shape shape_of(const Api& api, const ort::TensorInfo* info) {
  size_t count = 0;
  check(api.call<ort::GetDimensionsCount>(info, &count));
  Shape shape(count);
  check(api.call<ort::GetDimensions>(info, shape.data(), count));
  return shape;
}

Shape shape_of(const Api& api, const ort::Value* value) {
  ort::TensorInfo* raw = nullptr;
  check(api.call<ort::GetTensorInfo>(value, &raw));
  const Info info(api, raw);
  return shape_of(api, info.get());
}

float* data_of(const Api& api, const ort::Value* value) {
  void* data = nullptr;
  check(api.call<ort::GetTensorMutableData>(const_cast<ort::Value*>(value), &data));
  return static_cast<float*>(data);
}

int64_t product(const Shape& shape, size_t begin, size_t end) {
  int64_t result = 1;
  for (size_t i = begin; i < end; i++) result *= shape[i];
  return result;
}

// Which dimension of a shape holds the channels; refuses a shape that has none.
size_t channel_dimension(const Shape& shape, bool channels_last) {
  const size_t least = channels_last ? 1 : 2;
  if (shape.size() < least) {
    throw Refused("x has shape " + words(shape) + "; it must have at least " +
                  std::to_string(least) + " dimensions. Give it a batch dimension");
  }
  return channels_last ? shape.size() - 1 : 1;
}

// The diagonals of a stack; refuses shapes that are none.
acdc::Call stack_call(const Api& api, const ort::Value* a, const ort::Value* d) {
  const Shape of_a = shape_of(api, a), of_d = shape_of(api, d);
  if (of_a.size() != 2 || of_a != of_d || of_a[0] < 1) {
    throw Refused("a has shape " + words(of_a) + " and d " + words(of_d) +
                  "; both must be (layers, N) with at least one layer. Stack the diagonals of the "
                  "layers along dimension 0");
  }
  if (!acdc::fft_plan_exists(of_a[1])) {
    throw Refused("a has shape " + words(of_a) + "; N must have no prime factors but 2, 3, 5 and 7. "
                  "Export the layer with --execution dense");
  }
  acdc::Call call = {};
  call.type = acdc::Type::kFloat32;
  call.layers = static_cast<int32_t>(of_a[0]);
  call.n = static_cast<int32_t>(of_a[1]);
  call.a = data_of(api, a);
  call.d = data_of(api, d);
  return call;
}

void check_channels(const char* name, int64_t channels, const acdc::Call& call) {
  if (channels >= 1 && channels <= call.n) return;
  throw Refused(std::string(name) + " is " + std::to_string(channels) + "; it must be from 1 to N = " +
                std::to_string(call.n) + ". Give the stack a larger N");
}

// One node of a model.
class Stack {
 public:
  Stack(const Api& api, const ort::KernelInfo* info)
      : api_(api), kernel_(*acdc::find_kernel(nullptr)) {
    check(api_.call<ort::KernelInfoGetInt>(info, kOutChannels, &out_channels_));
    // A missing attribute is an error of the runtime's, which gives no other sign of it; so the
    // exporter always writes it.
    int64_t last = 0;
    check(api_.call<ort::KernelInfoGetInt>(info, kChannelsLast, &last));
    channels_last_ = last != 0;
    const ort::Value *a = constant(info, kA), *d = constant(info, kD);
    if (a != nullptr && d != nullptr) prepare(stack_call(api_, a, d));
  }

  const Api& api() const { return api_; }

  void run(ort::KernelContext* context) {
    acdc::Call call = stack_call(api_, input(context, kA), input(context, kD));
    if (prepared_) call.prepared = memory_.reserve(0);
    const ort::Value* x = input(context, kX);
    Shape shape = shape_of(api_, x);
    const size_t channel = channel_dimension(shape, channels_last_);
    const int64_t in_channels = shape[channel];
    check_channels("x's number of channels", in_channels, call);
    check_channels(kOutChannels, out_channels_, call);
    call.scale = affine(context, kScale, "scale");
    call.bias = affine(context, kBias, "bias");
    call.batch = channels_last_ ? 1 : shape[0];
    call.positions = channels_last_ ? product(shape, 0, channel) : product(shape, 2, shape.size());
    shape[channel] = out_channels_;
    ort::Value* y = nullptr;
    check(api_.call<ort::GetOutput>(context, 0, shape.data(), shape.size(), &y));
    if (call.batch * call.positions == 0) return;
    call.input = view(data_of(api_, x), in_channels, call.positions);
    call.output = view(data_of(api_, y), out_channels_, call.positions);
    const acdc::OnSessionThreads threads(api_, context);
    kernel_.forward(call);
    check(threads.status());
  }

 private:
  const ort::Value* constant(const ort::KernelInfo* info, Input place) const {
    int is_constant = 0;
    const ort::Value* value = nullptr;
    check(api_.call<ort::GetConstantInput>(info, place, &is_constant, &value));
    return is_constant != 0 ? value : nullptr;
  }

  // Brings constant diagonals into the form in which the kernel reads them, once.
  void prepare(const acdc::Call& call) {
    void* memory = memory_.reserve(kernel_.prepared_bytes(call));
    if (memory == nullptr) throw std::bad_alloc();
    kernel_.prepare(call, memory);
    prepared_ = true;
  }

  // An input; null for an optional one that is left out.
  const ort::Value* input(const ort::KernelContext* context, Input place) const {
    size_t count = 0;
    check(api_.call<ort::GetInputCount>(context, &count));
    const ort::Value* value = nullptr;
    if (place < count) check(api_.call<ort::GetInput>(context, place, &value));
    return value;
  }

  const float* affine(const ort::KernelContext* context, Input place, const char* name) const {
    const ort::Value* value = input(context, place);
    if (value == nullptr) return nullptr;
    const Shape shape = shape_of(api_, value);
    if (shape != Shape{out_channels_}) {
      throw Refused(std::string(name) + " has shape " + words(shape) +
                    "; it must have one number for each output channel, (" +
                    std::to_string(out_channels_) + ")");
    }
    return data_of(api_, value);
  }

  acdc::View view(float* data, int64_t channels, int64_t positions) const {
    if (channels_last_) return {data, channels, channels * positions, 1, channels, positions, 0};
    return {data, channels, channels * positions, positions, 1, positions, 0};
  }

  const Api& api_;
  const acdc::Kernel& kernel_;
  int64_t out_channels_ = 0;
  bool channels_last_ = false;
  acdc::Scratch memory_;
  bool prepared_ = false;
};

ort::Status* create(const ort::CustomOp*, const Api* api, const ort::KernelInfo* info,
                    void** kernel) {
  return guarded(*api, [&] { *kernel = new Stack(*api, info); });
}

ort::Status* run(void* kernel, ort::KernelContext* context) {
  Stack& stack = *static_cast<Stack*>(kernel);
  return guarded(stack.api(), [&] { stack.run(context); });
}

void destroy(void* kernel) { delete static_cast<Stack*>(kernel); }

int64_t attribute(const Api& api, const ort::ShapeInferContext* context, const char* name) {
  const ort::OpAttribute* found = nullptr;
  check(api.call<ort::InferGetAttribute>(context, name, &found));
  int64_t value = 0;
  size_t bytes = 0;
  check(api.call<ort::ReadAttribute>(found, ort::kInt, &value, sizeof(value), &bytes));
  return value;
}

// The output's shape is x's with other channels. Without it the runtime could not plan memory, nor
// simplify what comes behind the operator.
void infer(const Api& api, ort::ShapeInferContext* context) {
  ort::TensorInfo* x = nullptr;  // it belongs to the context
  check(api.call<ort::InferGetInput>(context, kX, &x));
  Shape shape = shape_of(api, x);
  std::vector<const char*> names(shape.size(), "");
  check(api.call<ort::GetSymbolicDimensions>(x, names.data(), names.size()));
  for (size_t i = 0; i < shape.size(); i++) {
    // A size that is unknown and has no name would be taken for -1, so the shape stays unknown.
    if (shape[i] < 0 && *names[i] == 0) return;
  }
  const bool last = attribute(api, context, kChannelsLast) != 0;
  const size_t channel = channel_dimension(shape, last);
  shape[channel] = attribute(api, context, kOutChannels);
  names[channel] = "";
  ort::TensorInfo* raw = nullptr;
  check(api.call<ort::CreateTensorInfo>(&raw));
  const Info y(api, raw);
  check(api.call<ort::SetElementType>(y.get(), ort::kFloat));
  check(api.call<ort::SetDimensions>(y.get(), shape.data(), shape.size()));
  check(api.call<ort::SetSymbolicDimensions>(y.get(), names.data(), names.size()));
  check(api.call<ort::InferSetOutput>(context, size_t{0}, y.get()));
}

// The runtime asks for shapes without saying which of its tables it uses; it is the one that has
// registered the library.
const Api* registered = nullptr;

ort::CustomOp new_operator() {
  ort::CustomOp op = {};
  op.version = ort::kApiVersion;
  op.name = [](const ort::CustomOp*) { return kName; };
  op.provider = [](const ort::CustomOp*) -> const char* { return nullptr; };
  op.input_type = [](const ort::CustomOp*, size_t) { return ort::kFloat; };
  op.input_count = [](const ort::CustomOp*) -> size_t { return kInputs; };
  op.output_type = [](const ort::CustomOp*, size_t) { return ort::kFloat; };
  op.output_count = [](const ort::CustomOp*) -> size_t { return 1; };
  op.destroy = destroy;
  op.input_characteristic = [](const ort::CustomOp*, size_t place) {
    return place < kBias ? ort::kRequired : ort::kOptional;
  };
  op.output_characteristic = [](const ort::CustomOp*, size_t) { return ort::kRequired; };
  op.input_memory = [](const ort::CustomOp*, size_t) { return 0; };  // where the CPU has it
  const auto none = [](const ort::CustomOp*) { return 1; };  // nothing is variadic
  op.variadic_inputs = op.variadic_inputs_alike = none;
  op.variadic_outputs = op.variadic_outputs_alike = none;
  op.create = create;
  op.run = run;
  op.infer_shape = [](const ort::CustomOp*, ort::ShapeInferContext* context) {
    return guarded(*registered, [&] { infer(*registered, context); });
  };
  op.start_version = [](const ort::CustomOp*) { return 1; };
  op.end_version = [](const ort::CustomOp*) { return 1; };
  return op;
}

// The domain with the operator. One serves all sessions, and lives as long as the process, because
// nothing says when the last session ends.
ort::CustomOpDomain* domain(const Api& api) {
  static std::mutex mutex;
  static ort::CustomOpDomain* made = nullptr;
  static const ort::CustomOp op = new_operator();
  const std::lock_guard<std::mutex> lock(mutex);
  if (made == nullptr || registered != &api) {
    ort::CustomOpDomain* one = nullptr;
    check(api.call<ort::CreateCustomOpDomain>(kDomain, &one));
    check(api.call<ort::CustomOpDomainAdd>(one, &op));
    made = one;
    registered = &api;
  }
  return made;
}

}  // namespace

// What ONNX Runtime looks for in the library (SessionOptions::RegisterCustomOpsLibrary).
extern "C" __attribute__((visibility("default"))) ort::Status* RegisterCustomOps(
    ort::SessionOptions* options, const ort::ApiBase* base) {
  const Api* const api = base->get_api(ort::kApiVersion);
  if (api == nullptr) {
    const std::string message =
        std::string("seclcompress.AcdcStack needs ONNX Runtime ") + ort::kFirstRuntime +
        " or later; this one is " + base->version();
    return base->get_api(1)->call<ort::CreateStatus>(ort::kFail, message.c_str());
  }
  return guarded(*api, [&] { check(api->call<ort::AddCustomOpDomain>(options, domain(*api))); });
}
