// A convolution split in two, one tile of positions after another: the filters write into memory that
// stays in the cache, and the product reads it there. Included once for each instruction set.

class FusedCall {
 public:
  explicit FusedCall(const ConvolveCall& call) : c_(call), filters_(call), product_(call) {
    positions_ = c_.batch * c_.out_rows * c_.out_columns;
    strided_ = c_.stride[0] != 1 || c_.stride[1] != 1 || c_.padding[0] != 0 || c_.padding[1] != 0;
    row_ = c_.channels + kBlock;  // not a power of two, or rows would share lines of the cache
    const int64_t most = std::max<int64_t>(kPositions, kTileBytes / (row_ * kFloat));
    const int64_t tiles = (positions_ + most - 1) / most;
    const int64_t even = (positions_ + tiles - 1) / tiles;
    tile_ = (even + kPositions - 1) / kPositions * kPositions;
    tiles_ = (positions_ + tile_ - 1) / tile_;
    parts_ = 1;
    if (c_.matrix != nullptr && c_.threads > 1) {
      // Too few tiles for the threads: each part of the output channels filters its tile anew.
      parts_ = std::min(Pointwise::groups(c_), (2 * c_.threads + tiles_ - 1) / tiles_);
    }
  }

  void run() {
    if (positions_ == 0) return;
    advise_large_pages(c_.output, positions_ * c_.out_channels * kFloat);
    run_parallel(c_.threads, tiles_ * parts_, [](void* self, int64_t task) {
      static_cast<FusedCall*>(self)->task(task);
    }, this);
    if (out_of_memory_) throw std::bad_alloc();
  }

 private:
  static constexpr int64_t kFloat = sizeof(float);
  static constexpr int64_t kTileBytes = 192 << 10;  // a fifth to a half of a second-level cache

  void task(int64_t task) {
    const int64_t begin = task / parts_ * tile_, part = task % parts_;
    const int64_t end = std::min(positions_, begin + tile_);
    if (c_.matrix == nullptr) {
      float* out = c_.output + begin * c_.channels;
      filter(begin, end, out, c_.channels);
      return finish_filters(begin, end, out);
    }
    Product p;
    p.channels = c_.channels;
    p.out = c_.output + begin * c_.out_channels;
    p.out_residual = c_.residual == nullptr ? nullptr : c_.residual + begin * c_.out_channels;
    p.out_stride = c_.out_channels;
    if (c_.filters == nullptr && !strided_) {
      p.in = c_.input + begin * c_.channels;
      p.in_stride = c_.channels;
    } else {
      static thread_local Scratch scratch;
      float* memory = static_cast<float*>(scratch.reserve(tile_ * row_ * kFloat));
      if (memory == nullptr) {
        out_of_memory_ = true;
        return;
      }
      filter(begin, end, memory, row_);
      p.in = memory;
      p.in_stride = row_;
    }
    const int64_t groups = Pointwise::groups(c_);
    product_.run(p, end - begin, part * groups / parts_, (part + 1) * groups / parts_);
  }

  // Computes the positions [begin, end) of the filters' output, one row of an image after another.
  void filter(int64_t begin, int64_t end, float* out, int64_t stride) const {
    while (begin < end) {
      const int64_t row = begin / c_.out_columns, column = begin % c_.out_columns;
      const int64_t last = std::min(c_.out_columns, column + end - begin);
      const Segment segment = {row / c_.out_rows, row % c_.out_rows, column, last, out, stride};
      c_.filters == nullptr ? gather(segment) : filters_.run(segment);
      out += (last - column) * stride;
      begin += last - column;
    }
  }

  // Without filters: the input at the output's positions; zero in the padding.
  void gather(const Segment& s) const {
    float* out = s.out;
    const int64_t row = s.row * c_.stride[0] - c_.padding[0];
    for (int64_t i = s.begin; i < s.end; i++, out += s.stride) {
      const int64_t column = i * c_.stride[1] - c_.padding[1];
      if (row < 0 || row >= c_.rows || column < 0 || column >= c_.columns) {
        std::memset(out, 0, c_.channels * kFloat);
        continue;
      }
      const int64_t position = (s.image * c_.rows + row) * c_.columns + column;
      std::memcpy(out, c_.input + position * c_.channels, c_.channels * kFloat);
    }
  }

  // Residual and ReLU where the filters' output is the result. It is still in the cache.
  void finish_filters(int64_t begin, int64_t end, float* out) const {
    if (c_.residual == nullptr && !c_.relu) return;
    const int64_t count = (end - begin) * c_.channels;
    const float* residual = c_.residual == nullptr ? nullptr : c_.residual + begin * c_.channels;
    for (int64_t i = 0; i < count; i += kLanes<float>) {
      const int64_t left = std::min<int64_t>(kLanes<float>, count - i);
      float values[kLanes<float>] = {};
      std::memcpy(values, out + i, left * kFloat);
      finish(load_vector(values), residual == nullptr ? nullptr : residual + i, c_.relu, left, out + i);
    }
  }

  const ConvolveCall& c_;
  const Depthwise filters_;
  const Pointwise product_;
  bool strided_;
  int64_t positions_, row_, tile_, tiles_, parts_;
  std::atomic<bool> out_of_memory_{false};
};

void convolve(const ConvolveCall& call) { FusedCall(call).run(); }
