// Loading and storing a tile: kLanes positions in `re` and the next kLanes in `im`, one row for
// each channel. Included once for each instruction set.
//
// There are four ways, from the quickest to the slowest. A full tile whose positions lie side by
// side is moved as whole vectors. A tile of one or two runs of such positions (the last tile of a
// call, or one that reaches over the end of a row or an image) is put together from vectors of both
// runs. With channels last, squares of positions and channels are transposed in registers.
// Everything else, and the channels that remain, is moved number by number.

struct BFloat16 {
  uint16_t bits;
};

template <class T, class E>
ACDC_INLINE T widen(E value) {
  return value;
}
template <>
ACDC_INLINE float widen<float, BFloat16>(BFloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}
template <class E, class T>
ACDC_INLINE E narrow(T value) {
  return value;
}
template <>
ACDC_INLINE BFloat16 narrow<BFloat16, float>(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const uint32_t rounded = bits + 0x7fff + ((bits >> 16) & 1);  // to nearest, ties to even
  const bool nan = (bits & 0x7fffffff) > 0x7f800000;
  return {static_cast<uint16_t>((nan ? bits | 0x400000 : rounded) >> 16)};
}

// kLanes consecutive elements as one vector, and back.
template <class T, class E>
ACDC_INLINE Vector<T> load_lanes(const E* p) {
  if constexpr (std::is_same<T, E>::value) {
    return load_vector<T>(p);
  } else {
    T lanes[kLanes<T>];
    for (int l = 0; l < kLanes<T>; l++) lanes[l] = widen<T>(p[l]);
    return load_vector<T>(lanes);
  }
}
template <class T, class E>
ACDC_INLINE void store_lanes(E* p, const Vector<T>& v) {
  if constexpr (std::is_same<T, E>::value) {
    store_vector<T>(p, v);
  } else {
    T lanes[kLanes<T>];
    store_vector<T>(lanes, v);
    for (int l = 0; l < kLanes<T>; l++) p[l] = narrow<E>(lanes[l]);
  }
}

// Where the positions [first, first + count) of a tensor lie. E is the type of its elements. A tile
// that ends early has fewer than 2 * kWidth positions; its other lanes are loaded as zero and not
// stored.
template <class T, class E>
struct TileOfTensor {
  static constexpr int kWidth = kLanes<T>;
  static constexpr size_t kRowBytes = 2 * kWidth * sizeof(E);  // of a full tile without gaps
  const View& view;
  int count;
  int split = 0;        // the number of positions that lie side by side from the first one on
  bool two_runs;        // the positions behind `split`, if any, lie side by side as well, NCHW
  bool dense;           // the tile is full and all its positions lie side by side
  E* lane[2 * kWidth];  // channel 0 of each position; beyond count: of the last position

  TileOfTensor(const View& tensor, int64_t positions, int64_t first, int positions_here)
      : view(tensor), count(positions_here) {
    const int64_t rows = positions / view.width;
    int64_t image = first / positions, row = first % positions / view.width;
    int64_t column = first % view.width;
    E* const data = static_cast<E*>(view.data);
    E* here = data;
    for (int l = 0; l < 2 * kWidth; l++) {
      if (l < count) {
        here = data + image * view.batch_stride + row * view.row_stride +
               column * view.position_stride;
      }
      lane[l] = here;
      if (++column < view.width) continue;
      column = 0;
      if (++row < rows) continue;
      row = 0;
      image++;
    }
    while (split < count && lane[split] == lane[0] + split) split++;
    int end = split;
    while (end < count && lane[end] == lane[split] + (end - split)) end++;
    two_runs = end == count && view.position_stride == 1 && view.channel_stride > 1;
    dense = split == 2 * kWidth;
  }

  // Where lane 0 would lie if all lanes lay side by side with the second run, so that a vector read
  // from here has the second run in its own lanes; lane 0 itself if there is no second run.
  E* second_run() const { return split < count ? lane[split] - split : lane[0]; }

  // For a tile of two runs: the number of channels, from the first one, whose vectors may be read
  // whole. Such a vector includes numbers before or after the run; they must lie within the tensor.
  int64_t channels_read_whole() const {
    E* const second = second_run();
    if (second < lane[0]) return 0;
    const int64_t room = &at(count - 1, view.channels - 1) + 1 - (second + 2 * kWidth);
    return room < 0 ? 0 : std::min(view.channels, room / view.channel_stride + 1);
  }

  E& at(int l, int64_t channel) const { return lane[l][channel * view.channel_stride]; }

  // Bytes from one channel to the next.
  int64_t pitch() const { return view.channel_stride * static_cast<int64_t>(sizeof(E)); }
};

// The channels of a large image lie far apart, and processors do not prefetch at such distances.
// Loads and stores then prefetch the row that lies kAhead channels further on.
constexpr int64_t kAhead = 32;
constexpr int64_t kFarApart = 512;  // bytes

inline int64_t channel_ahead(int64_t c, int64_t channels) {
  return c + kAhead < channels ? c + kAhead : channels - 1;
}

// Prefetches the cache lines of a row: into the first-level cache (NEAR = 3) or the second (2).
template <bool WRITE, int NEAR = 3>
ACDC_INLINE void fetch(const void* row, size_t bytes) {
  const uintptr_t first = reinterpret_cast<uintptr_t>(row), line = 64;
  for (uintptr_t p = first / line * line; p < first + bytes; p += line) {
    __builtin_prefetch(reinterpret_cast<const void*>(p), WRITE ? 1 : 0, NEAR);
  }
}

// Expands: writes channel c to the rows of all channels i of the stack with i = c modulo
// `channels`.
template <class T>
ACDC_INLINE void put_channel(const Row<T>& row, int64_t c, int64_t channels, int n,
                             const int32_t* row_of_channel, Row<T>* tile) {
  for (int64_t i = c; i < n; i += channels) tile[row_of_channel[i]] = row;
}

// Folds: the sum of the rows of all channels i of the stack with i = c modulo `channels`.
template <class T>
ACDC_INLINE Row<T> fold_channel(const Row<T>* tile, int64_t c, int64_t channels, int n,
                                const int32_t* row_of_channel) {
  Row<T> sum = tile[row_of_channel[c]];
  for (int64_t i = c + channels; i < n; i += channels) sum = sum + tile[row_of_channel[i]];
  return sum;
}

template <class T, class E>
void load_tile(const TileOfTensor<T, E>& from, int n, const int32_t* row_of_channel,
               Row<T>* tile) {
  constexpr int kWidth = kLanes<T>;
  const int64_t channels = from.view.channels;
  int64_t c = 0;
  if (from.dense) {
    const bool ask = from.pitch() >= kFarApart;
    for (; c < channels; c++) {
      if (ask) {
        const int64_t later = channel_ahead(c, channels);
        fetch<false>(&from.at(0, later), from.kRowBytes);
        fetch<true>(&tile[row_of_channel[later]], sizeof(Row<T>));
      }
      const E* p = &from.at(0, c);
      put_channel<T>({load_lanes<T>(p), load_lanes<T>(p + kWidth)}, c, channels, n,
                     row_of_channel, tile);
    }
  } else if (from.two_runs) {
    const int first = from.split, all = from.count;
    const Vector<T> re_first = lanes_between<T>(0, first), re_second = lanes_between<T>(first, all),
                    im_first = lanes_between<T>(-kWidth, first - kWidth),
                    im_second = lanes_between<T>(first - kWidth, all - kWidth);
    const E *p = from.lane[0], *q = from.second_run();
    for (const int64_t whole = from.channels_read_whole(); c < whole; c++) {
      put_channel<T>({choose(load_lanes<T>(p), re_first, load_lanes<T>(q), re_second),
                      choose(load_lanes<T>(p + kWidth), im_first, load_lanes<T>(q + kWidth),
                             im_second)},
                     c, channels, n, row_of_channel, tile);
      p += from.view.channel_stride;
      q += from.view.channel_stride;
    }
  } else if (from.view.channel_stride == 1) {
    for (; c + kWidth <= channels; c += kWidth) {
      Vector<T> re[kWidth], im[kWidth];
      for (int l = 0; l < kWidth; l++) {
        re[l] = l < from.count ? load_lanes<T>(from.lane[l] + c) : Vector<T>{};
        im[l] = kWidth + l < from.count ? load_lanes<T>(from.lane[kWidth + l] + c) : Vector<T>{};
      }
      transpose(re);
      transpose(im);
      for (int l = 0; l < kWidth; l++) {
        put_channel<T>({re[l], im[l]}, c + l, channels, n, row_of_channel, tile);
      }
    }
  }
  for (; c < channels; c++) {
    T lanes[2 * kWidth] = {};
    for (int l = 0; l < from.count; l++) lanes[l] = widen<T>(from.at(l, c));
    put_channel<T>({load_vector<T>(lanes), load_vector<T>(lanes + kWidth)}, c, channels, n,
                   row_of_channel, tile);
  }
}

// Loads a tile of the identity with this number of channels, which has no memory of its own: see
// Call.
template <class T>
void load_identity(int64_t channels, int64_t first, int count, int n, const int32_t* row_of_channel,
                   int rows, Row<T>* tile) {
  constexpr int kWidth = kLanes<T>;
  std::fill(tile, tile + rows, Row<T>{});
  for (int l = 0; l < count; l++) {
    for (int64_t i = first + l; i < n; i += channels) {
      Row<T>& row = tile[row_of_channel[i]];
      Vector<T>& group = l < kWidth ? row.re : row.im;
      group[l % kWidth] = 1;
    }
  }
}

// Stores y * scale + bias; returns whether all of y was finite.
template <class T, class E>
bool store_tile(const TileOfTensor<T, E>& to, int n, const int32_t* row_of_channel,
                const Row<T>* tile, const T* scale, const T* bias) {
  constexpr int kWidth = kLanes<T>;
  const int64_t channels = to.view.channels;
  int64_t c = 0;
  Vector<T> poison = {};  // x - x is 0, or NaN where x is not finite
  const auto folded = [&](int64_t channel) {
    Row<T> row = fold_channel(tile, channel, channels, n, row_of_channel);
    poison += (row.re - row.re) + (row.im - row.im);
    if (scale != nullptr) row = {row.re * scale[channel], row.im * scale[channel]};
    if (bias != nullptr) row = {row.re + bias[channel], row.im + bias[channel]};
    return row;
  };
  if (to.dense) {
    const bool ask = to.pitch() >= kFarApart;
    for (; c < channels; c++) {
      if (ask) fetch<true>(&to.at(0, channel_ahead(c, channels)), to.kRowBytes);
      const Row<T> row = folded(c);
      E* p = &to.at(0, c);
      store_lanes<T>(p, row.re);
      store_lanes<T>(p + kWidth, row.im);
    }
  } else if (to.two_runs) {
    for (; c < channels; c++) {
      const Row<T> row = folded(c);
      E lanes[2 * kWidth];
      store_lanes<T>(lanes, row.re);
      store_lanes<T>(lanes + kWidth, row.im);
      std::memcpy(&to.at(0, c), lanes, to.split * sizeof(E));
      if (to.split < to.count) {
        std::memcpy(&to.at(to.split, c), lanes + to.split, (to.count - to.split) * sizeof(E));
      }
    }
  } else if (to.view.channel_stride == 1) {
    for (; c + kWidth <= channels; c += kWidth) {
      Vector<T> re[kWidth], im[kWidth];
      for (int l = 0; l < kWidth; l++) {
        const Row<T> row = folded(c + l);
        re[l] = row.re;
        im[l] = row.im;
      }
      transpose(re);
      transpose(im);
      for (int l = 0; l < kWidth; l++) {
        if (l < to.count) store_lanes<T>(to.lane[l] + c, re[l]);
        if (kWidth + l < to.count) store_lanes<T>(to.lane[kWidth + l] + c, im[l]);
      }
    }
  }
  for (; c < channels; c++) {
    const Row<T> row = folded(c);
    T lanes[2 * kWidth];
    store_vector<T>(lanes, row.re);
    store_vector<T>(lanes + kWidth, row.im);
    for (int l = 0; l < to.count; l++) to.at(l, c) = narrow<E>(lanes[l]);
  }
  T sum = 0;
  for (int l = 0; l < kWidth; l++) sum += poison[l];
  return sum == 0;
}
