// A map of the channels: positions times a packed matrix. Included once for each instruction set.

// Positions and vectors of output channels that one pass of the inner loop keeps in registers.
constexpr int kPositions = 6;
constexpr int kVectors = ACDC_VECTOR_BYTES == 64 ? 4 : 2;

ACDC_INLINE Vector<float> relu(const Vector<float>& v) {
  const Vector<float> zero = {};
  return v < zero ? zero : v;  // not a number stays what it is, as in torch
}

// Writes `count` values: v, plus those of a residual (or null), behind ReLU if that is wanted.
ACDC_INLINE void finish(Vector<float> v, const float* residual, bool positive, int64_t count,
                        float* out) {
  if (count >= kLanes<float>) {
    if (residual != nullptr) v += load_vector(residual);
    store_vector(out, positive ? relu(v) : v);
    return;
  }
  float values[kLanes<float>] = {};
  if (residual != nullptr) {
    std::memcpy(values, residual, count * sizeof(float));
    v += load_vector(values);
  }
  store_vector(values, positive ? relu(v) : v);
  std::memcpy(out, values, count * sizeof(float));
}

// The addresses of a product's operands from the first position and output channel on.
struct Product {
  const float* in;
  int64_t in_stride, channels;
  const float* out_residual;  // or null; as far apart as the outputs
  float* out;
  int64_t out_stride;
};

class Pointwise {
 public:
  explicit Pointwise(const ConvolveCall& call) : c_(call) {}

  // The groups of vectors of output channels into which the product can be divided.
  static int64_t groups(const ConvolveCall& call) {
    const int64_t vectors = (call.out_channels + kWidth - 1) / kWidth;
    return (vectors + kVectors - 1) / kVectors;
  }

  // Maps `positions` positions to the output channels of the groups [begin, end).
  void run(const Product& p, int64_t positions, int64_t begin, int64_t end) const {
    const int64_t vectors = (c_.out_channels + kWidth - 1) / kWidth;
    for (int64_t group = begin; group < end; group++) {
      const int64_t first = group * kVectors;
      switch (std::min<int64_t>(kVectors, vectors - first)) {
        case 1: columns<1>(p, positions, first); break;
        case 2: columns<2>(p, positions, first); break;
        case 3: columns<3>(p, positions, first); break;
        default: columns<kVectors>(p, positions, first);
      }
    }
  }

 private:
  static constexpr int64_t kWidth = kLanes<float>;

  template <int VECTORS>
  void columns(Product p, int64_t positions, int64_t first) const {
    if constexpr (VECTORS <= kVectors) {
      for (; positions >= kPositions; positions -= kPositions) {
        registers<kPositions, VECTORS>(p, first);
        p.in += kPositions * p.in_stride;
        p.out += kPositions * p.out_stride;
        if (p.out_residual != nullptr) p.out_residual += kPositions * p.out_stride;
      }
      switch (positions) {
        case 1: return registers<1, VECTORS>(p, first);
        case 2: return registers<2, VECTORS>(p, first);
        case 3: return registers<3, VECTORS>(p, first);
        case 4: return registers<4, VECTORS>(p, first);
        case 5: return registers<5, VECTORS>(p, first);
        default: return;
      }
    }
  }

  // Vector number `first` of the output channels and those behind it, at POSITIONS positions.
  template <int POSITIONS, int VECTORS>
  void registers(const Product& p, int64_t first) const {
    const float* b[VECTORS];
    Vector<float> sums[POSITIONS * VECTORS];
    ACDC_UNROLL
    for (int v = 0; v < VECTORS; v++) {
      const int64_t channel = (first + v) * kWidth;
      b[v] = c_.matrix + channel / kBlock * (p.channels + 1) * kBlock + channel % kBlock;
    }
    multiply<POSITIONS, VECTORS>(p.in, p.in_stride, b, p.channels, sums);
    ACDC_UNROLL
    for (int v = 0; v < VECTORS; v++) {
      const int64_t channel = (first + v) * kWidth;
      const int64_t count = c_.out_channels - channel;
      const Vector<float> summand = bias(channel);
      for (int i = 0; i < POSITIONS; i++) {
        const int64_t at = i * p.out_stride + channel;
        const float* residual = p.out_residual == nullptr ? nullptr : p.out_residual + at;
        finish(sums[i * VECTORS + v] + summand, residual, c_.relu, count, p.out + at);
      }
    }
  }

  // sums[i][v] = the product of position i with the vectors of weights b[v]. A function of its own, so
  // that the compiler keeps all sums in registers: calls behind the loop would make it spill them.
  template <int POSITIONS, int VECTORS>
  static __attribute__((noinline)) void multiply(const float* in, int64_t stride,
                                                 const float* const* b, int64_t channels,
                                                 Vector<float>* sums) {
    Vector<float> sum[POSITIONS][VECTORS] = {};
    const float *a[POSITIONS], *weights[VECTORS];
    ACDC_UNROLL
    for (int i = 0; i < POSITIONS; i++) a[i] = in + i * stride;
    ACDC_UNROLL
    for (int v = 0; v < VECTORS; v++) weights[v] = b[v];
    for (int64_t k = 0; k < channels; k++) {
      Vector<float> w[VECTORS];
      ACDC_UNROLL
      for (int v = 0; v < VECTORS; v++) w[v] = load_vector(weights[v] + k * kBlock);
      ACDC_UNROLL
      for (int i = 0; i < POSITIONS; i++) {
        // Minus zero is an idiom: it changes no value, so that compilers make a broadcast of it.
        const Vector<float> value = a[i][k] - Vector<float>{};
        ACDC_UNROLL
        for (int v = 0; v < VECTORS; v++) sum[i][v] += value * w[v];
      }
    }
    ACDC_UNROLL
    for (int i = 0; i < POSITIONS; i++) {
      ACDC_UNROLL
      for (int v = 0; v < VECTORS; v++) sums[i * VECTORS + v] = sum[i][v];
    }
  }

  ACDC_INLINE Vector<float> bias(int64_t channel) const {
    if (c_.bias == nullptr) return Vector<float>{};
    if (channel + kWidth <= c_.out_channels) return load_vector(c_.bias + channel);
    float values[kWidth] = {};
    std::memcpy(values, c_.bias + channel, (c_.out_channels - channel) * sizeof(float));
    return load_vector(values);
  }

  const ConvolveCall& c_;
};
