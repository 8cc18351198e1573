// Runs the kernel over random sizes, layouts and alignments in buffers of exactly the size that it
// may touch, so that AddressSanitizer, UBSan or ThreadSanitizer finds every access outside them.
// Built and run by tests/kernel/Makefile. Values are checked as well, against the definition of
// each layer, so that a run that computes nothing would fail.
//
//   sanitize_kernel [rounds] [seed]

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include "kernel.h"
#include "fft_plan.h"

namespace {

using acdc::Call;
using acdc::Kernel;
using acdc::Type;
using acdc::View;

constexpr double kPi = 3.14159265358979323846;

std::mt19937_64 generator;

int64_t between(int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(generator);
}

// A tensor in a heap block of its own. The block ends with the tensor's last element, and the first
// element is often not aligned for vectors.
template <class E>
class Tensor {
 public:
  // The view has only every `step`-th row and column of the image.
  Tensor(int64_t batch, int64_t channels, int64_t rows, int64_t width, bool channels_last,
         int64_t step = 1)
      : offset_(between(0, 3)) {
    const int64_t full_rows = (rows - 1) * step + 1, full_width = (width - 1) * step + 1;
    const int64_t positions = full_rows * full_width;
    size_ = batch * channels * positions;
    block_ = static_cast<E*>(std::malloc(sizeof(E) * static_cast<size_t>(size_ + offset_)));
    const int64_t next = channels_last ? channels : 1;
    view = {data(), channels, channels * positions, channels_last ? 1 : positions, step * next,
            width, step * full_width * next};
  }
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;
  ~Tensor() { std::free(block_); }

  void fill_normal(double mean, double deviation) {
    std::normal_distribution<double> normal(mean, deviation);
    for (int64_t i = 0; i < size_; i++) data()[i] = static_cast<E>(normal(generator));
  }
  E& at(int64_t image, int64_t channel, int64_t position) {
    return data()[image * view.batch_stride + channel * view.channel_stride +
                  position / view.width * view.row_stride +
                  position % view.width * view.position_stride];
  }
  E* data() { return block_ + offset_; }
  int64_t size() const { return size_; }

  View view;

 private:
  int64_t size_, offset_;
  E* block_;
};

// Runs the stack at one position, by its definition.
std::vector<double> reference(std::vector<double> x, const Call& call, const double* a,
                              const double* d) {
  const int n = call.n, half = (n + 1) / 2;
  std::vector<double> spectrum(n), y(n);
  for (int layer = 0; layer < call.layers; layer++) {
    const double *al = a + layer * n, *dl = d + layer * n;
    for (int k = 0; k < n; k++) {
      double sum = 0;
      for (int i = 0; i < n; i++) sum += al[i] * x[i] * std::cos(kPi * k * (2 * i + 1) / (2 * n));
      spectrum[k] = sum * dl[k] * (k == 0 ? 1.0 : 2.0) / n;
    }
    for (int i = 0; i < n; i++) {
      double sum = 0;
      for (int k = 0; k < n; k++) sum += spectrum[k] * std::cos(kPi * k * (2 * i + 1) / (2 * n));
      y[i] = sum;
    }
    for (int i = 0; i < n; i++) x[i] = y[i % 2 == 0 ? i / 2 : half + i / 2];
  }
  return x;
}

bool check_position(const Call& call, Tensor<double>& x, Tensor<double>& y, const double* a,
                    const double* d) {
  const int64_t image = between(0, call.batch - 1), position = between(0, call.positions - 1);
  std::vector<double> column(call.n);
  for (int i = 0; i < call.n; i++) column[i] = x.at(image, i % x.view.channels, position);
  column = reference(column, call, a, d);
  for (int64_t c = 0; c < y.view.channels; c++) {
    double sum = 0;
    for (int64_t i = c; i < call.n; i += y.view.channels) sum += column[i];
    const double got = y.at(image, c, position);
    if (!(std::abs(got - sum) < 1e-8 * (1 + std::abs(sum)))) {
      std::fprintf(stderr, "n=%d layers=%d channel %ld: %.17g instead of %.17g\n", call.n,
                   call.layers, static_cast<long>(c), got, sum);
      return false;
    }
  }
  return true;
}

// One round of forward and backward calls on random sizes. E is the type of the tensors' elements,
// T that of the computation.
template <class E, class T>
bool round_of(const Kernel& kernel, Type type, bool large) {
  Call call = {};
  call.type = type;
  do {
    call.n = static_cast<int>(between(1, large ? 2600 : 300));
  } while (!acdc::fft_plan_exists(call.n));
  call.layers = static_cast<int>(between(1, 4));
  call.threads = static_cast<int>(between(1, 4));
  call.batch = between(1, 5);
  const int64_t rows = between(1, 9), width = between(1, between(1, large ? 48 : 30));
  call.positions = rows * width;
  Tensor<T> a(1, call.layers, 1, call.n, false), d(1, call.layers, 1, call.n, false);
  a.fill_normal(1, 0.3);
  d.fill_normal(1, 0.3);
  call.a = a.data();
  call.d = d.data();
  Tensor<E> x(call.batch, between(1, call.n), rows, width, between(0, 1), between(1, 3));
  Tensor<E> y(call.batch, between(1, call.n), rows, width, between(0, 1));
  if constexpr (sizeof(E) == 2) {  // random bits of bfloat16, NaN and infinity among them
    for (int64_t i = 0; i < x.size(); i++) x.data()[i] = static_cast<E>(generator());
  } else {
    x.fill_normal(0, 1);
  }
  Tensor<T> scale(1, y.view.channels, 1, 1, false), bias(1, y.view.channels, 1, 1, false);
  scale.fill_normal(1, 0);
  bias.fill_normal(0, 0);
  call.input = x.view;
  call.output = y.view;
  call.scale = between(0, 1) ? scale.data() : nullptr;
  call.bias = between(0, 1) ? bias.data() : nullptr;
  kernel.forward(call);
  if constexpr (sizeof(E) == 8) {
    if (call.n < 130 && !check_position(call, x, y, a.data(), d.data())) return false;
  }
  if (between(0, 3) == 0) {
    // A value that is not finite makes the kernel compute the groups of a tile again, each by
    // itself.
    const double special[] = {std::nan(""), std::numeric_limits<double>::infinity()};
    x.data()[between(0, x.size() - 1)] = static_cast<E>(special[between(0, 1)]);
    kernel.forward(call);
  }
  call.transposed = true;  // the transposed stack may also run between any two numbers of channels
  kernel.forward(call);
  Tensor<E> x_grad(call.batch, x.view.channels, rows, width, between(0, 1));
  Tensor<T> a_grad(1, call.layers, 1, call.n, false), d_grad(1, call.layers, 1, call.n, false);
  if (between(0, 3)) call.input_grad = x_grad.view;
  call.a_grad = a_grad.data();
  call.d_grad = d_grad.data();
  kernel.backward(call);
  return true;
}

// Compares the identity that null data means with one in memory, bit for bit.
bool identity_round(const Kernel& kernel) {
  Call call = {};
  call.type = Type::kFloat32;
  do {
    call.n = static_cast<int>(between(1, 300));
  } while (!acdc::fft_plan_exists(call.n));
  call.layers = static_cast<int>(between(1, 4));
  call.threads = static_cast<int>(between(1, 4));
  call.batch = 1;
  call.positions = between(1, call.n);
  Tensor<float> a(1, call.layers, 1, call.n, false), d(1, call.layers, 1, call.n, false);
  a.fill_normal(1, 0.3);
  d.fill_normal(1, 0.3);
  call.a = a.data();
  call.d = d.data();
  Tensor<float> eye(1, call.positions, 1, call.positions, between(0, 1));
  eye.fill_normal(0, 0);
  for (int64_t i = 0; i < call.positions; i++) eye.at(0, i, i) = 1;
  const View nothing = {nullptr, call.positions, 0, 0, 0, call.positions, 0};
  Tensor<float> grad(1, between(1, call.n), 1, call.positions, between(0, 1));
  grad.fill_normal(0, 1);
  std::vector<float> results[2];
  const bool on_input = between(0, 1);
  call.transposed = between(0, 1);
  for (int run = 0; run < 2; run++) {
    const View identity = run == 0 ? eye.view : nothing;
    Tensor<float> y(1, grad.view.channels, 1, call.positions, false);
    Tensor<float> a_grad(1, call.layers, 1, call.n, false), d_grad(1, call.layers, 1, call.n, false);
    call.input = identity;
    call.output = y.view;
    kernel.forward(call);
    call.input = on_input ? identity : grad.view;
    call.output = on_input ? grad.view : identity;
    call.a_grad = a_grad.data();
    call.d_grad = d_grad.data();
    kernel.backward(call);
    for (Tensor<float>* result : {&y, &a_grad, &d_grad}) {
      results[run].insert(results[run].end(), result->data(), result->data() + result->size());
    }
  }
  if (results[0] == results[1]) return true;
  std::fprintf(stderr, "n=%d layers=%d: the identity made no identity\n", call.n, call.layers);
  return false;
}

// The fused convolution on random sizes, against its definition at one output.
bool convolve_round(const Kernel& kernel) {
  acdc::ConvolveCall call = {};
  call.threads = static_cast<int>(between(1, 4));
  call.batch = between(1, 3);
  call.channels = between(1, between(1, 200));
  const bool filters = between(0, 2) > 0, mapped = !filters || between(0, 2) > 0;
  call.out_channels = mapped ? between(1, between(1, 200)) : call.channels;
  int64_t sizes[2], outs[2];
  for (int i = 0; i < 2; i++) {
    call.kernel[i] = filters ? between(1, 4) : 1;
    call.stride[i] = between(1, 3);
    call.padding[i] = between(0, 3);
    call.dilation[i] = between(1, 3);
    const int64_t reach = call.dilation[i] * (call.kernel[i] - 1) + 1;
    sizes[i] = std::max<int64_t>(1, reach - 2 * call.padding[i]) + between(0, 20);
    outs[i] = (sizes[i] + 2 * call.padding[i] - reach) / call.stride[i] + 1;
  }
  call.rows = sizes[0];
  call.columns = sizes[1];
  call.out_rows = outs[0];
  call.out_columns = outs[1];
  const int64_t blocks = (call.out_channels + acdc::kBlock - 1) / acdc::kBlock;
  Tensor<float> x(call.batch, call.channels, call.rows, call.columns, true);
  Tensor<float> y(call.batch, call.out_channels, call.out_rows, call.out_columns, true);
  Tensor<float> residual(call.batch, call.out_channels, call.out_rows, call.out_columns, true);
  Tensor<float> taps(1, call.channels, call.kernel[0], call.kernel[1], true);
  Tensor<float> tap_bias(1, call.channels, 1, 1, true), bias(1, call.out_channels, 1, 1, true);
  Tensor<float> matrix(blocks, acdc::kBlock, call.channels + 1, 1, true);
  for (Tensor<float>* one : {&x, &residual, &taps, &tap_bias, &bias, &matrix}) {
    one->fill_normal(0, 1);
  }
  call.input = x.data();
  call.filters = filters ? taps.data() : nullptr;
  call.filter_bias = filters && between(0, 1) ? tap_bias.data() : nullptr;
  call.matrix = mapped ? matrix.data() : nullptr;
  call.bias = mapped && between(0, 1) ? bias.data() : nullptr;
  call.residual = between(0, 1) ? residual.data() : nullptr;
  call.relu = between(0, 1);
  call.output = y.data();
  kernel.convolve(call);
  const int64_t image = between(0, call.batch - 1), out = between(0, call.out_channels - 1);
  const int64_t row = between(0, outs[0] - 1), column = between(0, outs[1] - 1);
  const int64_t at = row * outs[1] + column;
  double sum = 0, scale = 1;
  for (int64_t c = mapped ? 0 : out; c < (mapped ? call.channels : out + 1); c++) {
    double value = call.filter_bias == nullptr ? 0 : tap_bias.at(0, c, 0);
    for (int64_t i = 0; i < call.kernel[0]; i++) {
      for (int64_t j = 0; j < call.kernel[1]; j++) {
        const int64_t r = row * call.stride[0] - call.padding[0] + i * call.dilation[0];
        const int64_t q = column * call.stride[1] - call.padding[1] + j * call.dilation[1];
        if (r < 0 || r >= call.rows || q < 0 || q >= call.columns) continue;
        const double tap = filters ? taps.at(0, c, i * call.kernel[1] + j) : 1;
        value += tap * x.at(image, c, r * call.columns + q);
      }
    }
    const double weight = mapped ? matrix.at(out / acdc::kBlock, out % acdc::kBlock, c) : 1;
    sum += weight * value;
    scale += std::abs(weight * value);
  }
  if (call.bias != nullptr) sum += bias.at(0, out, 0);
  if (call.residual != nullptr) sum += residual.at(image, out, at);
  if (call.relu && sum < 0) sum = 0;
  const double got = y.at(image, out, at);
  if (std::abs(got - sum) <= 1e-5 * scale) return true;
  std::fprintf(stderr, "convolve, channel %ld: %.9g instead of %.9g\n", static_cast<long>(out), got,
               sum);
  return false;
}

bool rounds(int count, bool large) {
  for (int i = 0; i < count; i++) {
    for (const char* name : {"avx512", "avx2", "baseline"}) {
      const Kernel* kernel = acdc::find_kernel(name);
      if (kernel == nullptr) continue;
      if (!round_of<float, float>(*kernel, Type::kFloat32, large) ||
          !round_of<double, double>(*kernel, Type::kFloat64, large) ||
          !round_of<uint16_t, float>(*kernel, Type::kBFloat16, large) ||
          !identity_round(*kernel) || !convolve_round(*kernel)) {
        return false;
      }
    }
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  const int count = argc > 1 ? std::atoi(argv[1]) : 100;
  generator.seed(argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 0);
  if (!rounds(count, false) || !rounds(count / 20 + 1, true)) return 1;

  // Several callers at once, as from several Python threads.
  const Kernel* kernel = acdc::find_kernel(nullptr);
  std::vector<float> parameters(2 * 128, 1.0f), x(128 * 200, 1.0f);
  std::vector<std::vector<float>> results(4, std::vector<float>(x.size()));
  std::vector<std::thread> callers;
  for (auto& y : results) {
    callers.emplace_back([&, out = y.data()] {
      Call call = {};
      call.n = 128;
      call.layers = 2;
      call.threads = 3;
      call.batch = 1;
      call.positions = 200;
      call.a = call.d = parameters.data();
      call.input = {x.data(), 128, 128 * 200, 200, 1, 200, 0};
      call.output = {out, 128, 128 * 200, 200, 1, 200, 0};
      for (int i = 0; i < 20; i++) kernel->forward(call);
    });
  }
  for (std::thread& caller : callers) caller.join();
  for (const auto& y : results) {
    if (std::memcmp(y.data(), results[0].data(), sizeof(float) * y.size()) != 0) return 1;
  }
  std::printf("%d rounds: nothing found\n", count);
  return 0;
}
