// Filters over space, each on one channel: vectors of channels. Included once for each instruction set.

// The positions of an image that filters or products make in one go, and where they put them.
struct Segment {
  int64_t image, row, begin, end;  // output columns [begin, end) of one output row
  float* out;
  int64_t stride;  // between positions in `out`
};

// The taps of a filter, along one dimension, that meet the image.
struct Taps {
  int64_t first, last;  // [first, last)
};

inline Taps taps_inside(int64_t start, int64_t size, int64_t dilation, int64_t kernel) {
  const int64_t first = start >= 0 ? 0 : (-start + dilation - 1) / dilation;
  const int64_t room = size - start;  // taps t with t * dilation < room are inside
  const int64_t last = room <= 0 ? 0 : (room + dilation - 1) / dilation;
  return {std::min(first, kernel), std::max(std::min(first, kernel), std::min(last, kernel))};
}

class Depthwise {
 public:
  explicit Depthwise(const ConvolveCall& call) : c_(call) {
    // Columns of the output whose filters lie inside the image from left to right.
    const int64_t reach = (c_.kernel[1] - 1) * c_.dilation[1] - c_.padding[1];
    inner_begin_ = std::min(c_.out_columns, (c_.padding[1] + c_.stride[1] - 1) / c_.stride[1]);
    const int64_t room = c_.columns - reach;  // column * stride < room
    const int64_t end = room <= 0 ? 0 : (room + c_.stride[1] - 1) / c_.stride[1];
    inner_end_ = std::max(inner_begin_, std::min(c_.out_columns, end));
  }

  void run(const Segment& s) const {
    const int64_t top = s.row * c_.stride[0] - c_.padding[0];
    const Taps rows = taps_inside(top, c_.rows, c_.dilation[0], c_.kernel[0]);
    const float* image = c_.input + s.image * c_.rows * c_.columns * c_.channels;
    const float* first = image + (top + rows.first * c_.dilation[0]) * c_.columns * c_.channels;
    if (rows.first == rows.last) first = image;  // not read, but a pointer must stay inside
    int64_t column = s.begin;
    for (; column < std::min(s.end, inner_begin_); column++) one(s, rows, first, column);
    const int64_t end = std::min(s.end, inner_end_);
    if (c_.channels >= kWidth) {
      for (; column + 8 <= end; column += 8) several<8>(s, rows, first, column);
      for (; column + 4 <= end; column += 4) several<4>(s, rows, first, column);
      for (; column + 2 <= end; column += 2) several<2>(s, rows, first, column);
    }
    for (; column < s.end; column++) one(s, rows, first, column);
  }

 private:
  static constexpr int64_t kWidth = kLanes<float>;

  // Several neighbouring columns, all of whose taps are inside; one vector of channels at a time.
  template <int COLUMNS>
  void several(const Segment& s, Taps rows, const float* first, int64_t column) const {
    if (c_.kernel[1] == 3) return several_of<COLUMNS, 3>(s, rows, first, column);
    several_of<COLUMNS, 0>(s, rows, first, column);
  }

  template <int COLUMNS, int WIDTH>
  void several_of(const Segment& s, Taps rows, const float* first, int64_t column) const {
    const int64_t width = WIDTH > 0 ? WIDTH : c_.kernel[1];
    const int64_t step = c_.stride[1] * c_.channels, tap = c_.dilation[1] * c_.channels;
    const int64_t down = c_.dilation[0] * c_.columns * c_.channels;
    const float* left = first + (column * c_.stride[1] - c_.padding[1]) * c_.channels;
    float* out = s.out + (column - s.begin) * s.stride;
    for (int64_t at = 0; at < c_.channels; at += kWidth) {
      const int64_t channel = std::min(at, c_.channels - kWidth);  // the last two may overlap
      Vector<float> sum[COLUMNS];
      const Vector<float> start = bias(channel);
      ACDC_UNROLL
      for (int i = 0; i < COLUMNS; i++) sum[i] = start;
      const float* weight = c_.filters + rows.first * width * c_.channels + channel;
      const float* pixel = left + channel;
      for (int64_t y = rows.first; y < rows.last; y++, pixel += down) {
        const float* p = pixel;
        for (int64_t x = 0; x < width; x++, p += tap, weight += c_.channels) {
          const Vector<float> w = load_vector(weight);
          ACDC_UNROLL
          for (int i = 0; i < COLUMNS; i++) sum[i] += w * load_vector(p + i * step);
        }
      }
      ACDC_UNROLL
      for (int i = 0; i < COLUMNS; i++) store_vector(out + i * s.stride + channel, sum[i]);
    }
  }

  // One column, whose filters may reach over the image's edges; several vectors of channels at a time.
  void one(const Segment& s, Taps rows, const float* first, int64_t column) const {
    const int64_t left = column * c_.stride[1] - c_.padding[1];
    const Taps taps = taps_inside(left, c_.columns, c_.dilation[1], c_.kernel[1]);
    // Not read where no tap is inside; but a pointer must stay inside.
    const bool any = taps.first < taps.last;
    const float* pixels = first + (any ? left + taps.first * c_.dilation[1] : 0) * c_.channels;
    float* out = s.out + (column - s.begin) * s.stride;
    int64_t channel = 0;
    for (; channel + 4 * kWidth <= c_.channels; channel += 4 * kWidth) {
      vectors<4>(rows, taps, pixels, channel, out);
    }
    for (; channel + kWidth <= c_.channels; channel += kWidth) {
      vectors<1>(rows, taps, pixels, channel, out);
    }
    if (channel == c_.channels) return;
    if (c_.channels >= kWidth) return vectors<1>(rows, taps, pixels, c_.channels - kWidth, out);
    for (; channel < c_.channels; channel++) scalar(rows, taps, pixels, channel, out);
  }

  template <int VECTORS>
  void vectors(Taps rows, Taps taps, const float* pixels, int64_t channel, float* out) const {
    Vector<float> sum[VECTORS];
    ACDC_UNROLL
    for (int v = 0; v < VECTORS; v++) sum[v] = bias(channel + v * kWidth);
    for (int64_t y = rows.first; y < rows.last; y++) {
      const float* p = pixels + (y - rows.first) * c_.dilation[0] * c_.columns * c_.channels + channel;
      const float* w = c_.filters + (y * c_.kernel[1] + taps.first) * c_.channels + channel;
      for (int64_t x = taps.first; x < taps.last; x++) {
        ACDC_UNROLL
        for (int v = 0; v < VECTORS; v++) {
          sum[v] += load_vector(w + v * kWidth) * load_vector(p + v * kWidth);
        }
        p += c_.dilation[1] * c_.channels;
        w += c_.channels;
      }
    }
    ACDC_UNROLL
    for (int v = 0; v < VECTORS; v++) store_vector(out + channel + v * kWidth, sum[v]);
  }

  void scalar(Taps rows, Taps taps, const float* pixels, int64_t channel, float* out) const {
    float sum = c_.filter_bias == nullptr ? 0 : c_.filter_bias[channel];
    for (int64_t y = rows.first; y < rows.last; y++) {
      for (int64_t x = taps.first; x < taps.last; x++) {
        const int64_t away = (y - rows.first) * c_.dilation[0] * c_.columns +
                             (x - taps.first) * c_.dilation[1];
        sum += c_.filters[(y * c_.kernel[1] + x) * c_.channels + channel] *
               pixels[away * c_.channels + channel];
      }
    }
    out[channel] = sum;
  }

  ACDC_INLINE Vector<float> bias(int64_t channel) const {
    return c_.filter_bias == nullptr ? Vector<float>{} : load_vector(c_.filter_bias + channel);
  }

  const ConvolveCall& c_;
  int64_t inner_begin_, inner_end_;
};
