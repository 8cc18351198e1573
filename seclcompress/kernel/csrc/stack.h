// A stack of layers over a tile, and over all tiles of a call. Included once for each instruction
// set, after simd.h, butterflies.h, passes.h, tile_io.h and ahead.h.

// Calls f(std::integral_constant<int, R>) for the radix R.
template <class F>
ACDC_INLINE void with_radix(int radix, F f) {
  switch (radix) {
    case 2: return f(std::integral_constant<int, 2>{});
    case 3: return f(std::integral_constant<int, 3>{});
    case 4: return f(std::integral_constant<int, 4>{});
    case 5: return f(std::integral_constant<int, 5>{});
    case 7: return f(std::integral_constant<int, 7>{});
    case 8: return f(std::integral_constant<int, 8>{});
    default: return;
  }
}

// A and D of all layers, in the order and form in which the passes read them.
template <class T>
struct Parameters {
  const T* a;         // (layers, n) in the order of FftPlan::input_channel
  const T* matrices;  // (layers, 3 * pairs), see multiply_pair

  static size_t bytes(const FftPlan<T>& plan, int layers) {
    return sizeof(T) * layers * (plan.n + 3 * plan.pairs.size());
  }

  // Those that have been prepared in this memory.
  Parameters(const FftPlan<T>& plan, int layers, const void* prepared)
      : a(static_cast<const T*>(prepared)), matrices(a + static_cast<size_t>(layers) * plan.n) {}

  // Prepares those of a call, in memory of `bytes`.
  Parameters(const FftPlan<T>& plan, const Call& call, void* memory) {
    T* to_a = static_cast<T*>(memory);
    T* to_matrix = to_a + static_cast<size_t>(call.layers) * plan.n;
    a = to_a;
    matrices = to_matrix;
    // 1 / n because neither FFT is scaled, 1 / 2 because multiply_pair forms twice the spectra.
    const T scale = static_cast<T>(0.5 / plan.n);
    for (int layer = 0; layer < call.layers; layer++) {
      const T* from_a = static_cast<const T*>(call.a) + static_cast<size_t>(layer) * plan.n;
      const T* d = static_cast<const T*>(call.d) + static_cast<size_t>(layer) * plan.n;
      for (int i = 0; i < plan.n; i++) *to_a++ = from_a[plan.input_channel[i]];
      for (const PairAngles& pair : plan.pairs) {
        const T p = d[pair.k] * scale, q = d[pair.mirror] * scale;
        const T cos2 = static_cast<T>(pair.cos2), sin2 = static_cast<T>(pair.sin2);
        *to_matrix++ = p * cos2 + q * sin2;
        *to_matrix++ = (p - q) * static_cast<T>(pair.cos_sin);
        *to_matrix++ = q * cos2 + p * sin2;
      }
    }
  }
};

// The gradients of A and D summed over positions, in the form in which the passes yield them: n
// sums for A, then three for each pair of frequencies.
template <class T>
struct GradientSums {
  static size_t layer_size(const FftPlan<T>& plan) { return plan.n + 3 * plan.pairs.size(); }

  // Writes the gradients of one layer in the order of a and d. The sums of a pair are the gradients
  // of its 2 x 2 matrix, whose entries Parameters computes from d_k and d_{N-k}.
  static void unpack(const FftPlan<T>& plan, const T* sums, T* a_grad, T* d_grad) {
    for (int i = 0; i < plan.n; i++) a_grad[plan.input_channel[i]] = sums[i];
    const T scale = static_cast<T>(0.5 / plan.n);
    const T* s = sums + plan.n;
    for (const PairAngles& pair : plan.pairs) {
      const T cos2 = static_cast<T>(pair.cos2), sin2 = static_cast<T>(pair.sin2);
      const T cross = static_cast<T>(pair.cos_sin) * s[1];
      d_grad[pair.k] = scale * (cos2 * s[0] + sin2 * s[2] + cross);
      if (pair.mirror != pair.k) {
        d_grad[pair.mirror] = scale * (sin2 * s[0] + cos2 * s[2] - cross);
      }
      s += 3;
    }
  }
};

// A stack on one tile. Each layer has three steps: begin (the first pass), middle (the programme)
// and end (the last pass).
template <class T>
class TileStack {
 public:
  TileStack(const FftPlan<T>& p, const Parameters<T>& q, Ahead* soon = nullptr)
      : plan(p), parameters(q), ahead(soon) {}

  // Runs a layer from one tile to another. With kRecord the spectrum before D goes to `kept`.
  template <Spectrum MODE>
  void forward_layer(int layer, const Row<T>* input, Row<T>* output, Row<T>* kept) const {
    begin<true>(input, output, plan.input_row.data(), a_of(layer));
    middle<MODE>(layer, output, kept, nullptr, nullptr);
    end<Last::kPlain>(output, output, nullptr, nullptr, nullptr, nullptr);
  }

  // Runs the transpose of a layer from one tile to another; overwrites the input, too. The forward
  // layer ends with its output in the order of the inverse FFT, so the transpose begins in that
  // order, in place, and its last pass does the transpose of multiplying by A and reordering.
  void transposed_layer(int layer, Row<T>* input, Row<T>* output) const {
    begin<false>(input, input, nullptr, nullptr);
    middle<Spectrum::kPlain>(layer, input, nullptr, nullptr, nullptr);
    end<Last::kTranspose>(input, output, plan.input_row.data(), a_of(layer), nullptr, nullptr);
  }

  // Runs all layers, or their transposes from the last to the first, from one tile to the other and
  // back. Returns the tile that holds the result.
  Row<T>* run(int layers, bool transposed, Row<T>* tile, Row<T>* other) const {
    for (int i = 0; i < layers; i++, std::swap(tile, other)) {
      if (transposed) {
        transposed_layer(layers - 1 - i, tile, other);
      } else {
        forward_layer<Spectrum::kPlain>(i, tile, other, nullptr);
      }
    }
    return tile;
  }

  // The reverse pass of a layer. Computes the gradient of its input from that of its output, which
  // is overwritten, and adds the gradients of A and D to `sums`. `layer_input` and `kept` are the
  // tiles that forward_layer read and recorded; `products` has room for 3 * plan.max_pairs vectors.
  void backward_layer(int layer, const Row<T>* layer_input, Row<T>* kept, Row<T>* output_grad,
                      Row<T>* input_grad, Vector<T>* products, T* sums) const {
    begin<false>(output_grad, output_grad, nullptr, nullptr);
    middle<Spectrum::kReplay>(layer, output_grad, kept, products, sums + plan.n);
    end<Last::kGradients>(output_grad, input_grad, plan.input_row.data(), a_of(layer), layer_input,
                          sums);
  }

 private:
  const T* a_of(int layer) const { return parameters.a + static_cast<size_t>(layer) * plan.n; }

  // Rows from one block of the first stage to the next, with padding.
  int pitch() const {
    const Stage& top = plan.stages.front();
    return top.span + (plan.rows - plan.n) / (top.radix - 1);
  }

  template <bool REORDER>
  void begin(const Row<T>* input, Row<T>* work, const int32_t* input_row, const T* a) const {
    if (plan.stages.size() == 1) {
      if constexpr (REORDER) copy_in(input, work, input_row, a, plan.n);
      return;
    }
    const Stage& top = plan.stages.front();
    with_radix(top.radix, [&](auto radix) {
      first_pass<decltype(radix)::value, REORDER>(input, work, input_row, a, top.span, pitch(),
                                                  plan.twiddles.data() + top.twiddles);
    });
  }

  template <Last MODE>
  void end(const Row<T>* work, Row<T>* output, const int32_t* input_row, const T* a,
           const Row<T>* layer_input, T* sums) const {
    if (plan.stages.size() == 1) {
      if constexpr (MODE != Last::kPlain) {
        copy_out<MODE>(work, output, input_row, a, layer_input, sums, plan.n);
      }
      return;
    }
    const Stage& top = plan.stages.front();
    with_radix(top.radix, [&](auto radix) {
      last_pass<decltype(radix)::value, MODE>(work, output, input_row, a, layer_input, sums,
                                              top.span, pitch(),
                                              plan.twiddles.data() + top.twiddles);
    });
  }

  template <Spectrum MODE>
  void middle(int layer, Row<T>* work, Row<T>* kept, Vector<T>* products, T* sums) const {
    const T* matrices = parameters.matrices + static_cast<size_t>(layer) * 3 * plan.pairs.size();
    for (const Instruction& step : plan.programme) {
      if (ahead != nullptr) ahead->step();
      const Stage& stage = plan.stages[step.stage];
      const T* twiddles = plan.twiddles.data() + stage.twiddles;
      if (step.step == Step::kForward) {
        with_radix(stage.radix, [&](auto radix) {
          stage_pass<decltype(radix)::value, false>(work + step.row, step.blocks, stage.span,
                                                    twiddles);
        });
      } else if (step.step == Step::kInverse) {
        with_radix(stage.radix, [&](auto radix) {
          stage_pass<decltype(radix)::value, true>(work + step.row, step.blocks, stage.span,
                                                   twiddles);
        });
      } else {
        spectrum<MODE>(stage.radix, work, kept, step, matrices + 3 * step.pair, products);
        if constexpr (MODE == Spectrum::kReplay) {
          add_lane_sums<T>(products, 3 * step.pair_count, sums + 3 * step.pair);
        }
      }
    }
  }

  template <Spectrum MODE>
  void spectrum(int last_radix, Row<T>* work, Row<T>* kept, const Instruction& step,
                const T* matrices, Vector<T>* products) const {
    const MirrorBlocks* mirrors = plan.mirrors.data() + step.mirror;
    if (last_radix == 1) {  // n = 1
      return spectrum_pass<1, MODE>(work, kept, mirrors, step.count, matrices, products);
    }
    with_radix(last_radix, [&](auto radix) {
      constexpr int kRadix = decltype(radix)::value;
      if constexpr (kRadix != 8) {  // never the last, see choose_radices
        spectrum_pass<kRadix, MODE>(work, kept, mirrors, step.count, matrices, products);
      }
    });
  }

  const FftPlan<T>& plan;
  const Parameters<T>& parameters;
  Ahead* const ahead;  // may be null
};

// The tiles of each thread, and the parameters that the calling thread prepares for all threads.
inline Scratch& tile_scratch() {
  static thread_local Scratch scratch;
  return scratch;
}
inline Scratch& call_scratch() {
  static thread_local Scratch scratch;
  return scratch;
}

inline void* reserve_or_throw(Scratch& scratch, size_t bytes) {
  void* memory = scratch.reserve(bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

// Advises large pages for a tensor of E that a call writes; it may have null data.
template <class E>
void advise_large_pages_for(const View& written, const Call& call) {
  advise_large_pages(written.data, sizeof(E) * call.batch * call.positions * written.channels);
}

// Loads and expands a tile of a tensor that a call reads. E is the type of the tensor's elements, T
// that of the computation.
template <class T, class E>
void load_view(const View& view, const Call& call, const FftPlan<T>& plan, int64_t first, int count,
               Row<T>* tile) {
  const int32_t* row_of_channel = plan.row_of_channel.data();
  if (view.data == nullptr) {
    return load_identity<T>(view.channels, first, count, call.n, row_of_channel, plan.rows, tile);
  }
  load_tile<T>(TileOfTensor<T, const E>(view, call.positions, first, count), call.n,
               row_of_channel, tile);
}

template <class T, class E>
class ForwardCall {
 public:
  explicit ForwardCall(const Call& c)
      : call(c),
        plan(get_fft_plan<T>(c.n, sizeof(Row<T>))),
        parameters(c.prepared != nullptr
                       ? Parameters<T>(plan, c.layers, c.prepared)
                       : Parameters<T>(plan, c,
                                       reserve_or_throw(call_scratch(),
                                                        Parameters<T>::bytes(plan, c.layers)))) {}

  static size_t prepared_bytes(const Call& c) {
    return Parameters<T>::bytes(get_fft_plan<T>(c.n, sizeof(Row<T>)), c.layers);
  }

  static void prepare(const Call& c, void* memory) {
    Parameters<T>(get_fft_plan<T>(c.n, sizeof(Row<T>)), c, memory);
  }

  void run() {
    advise_large_pages_for<E>(call.output, call);
    const int64_t total = call.batch * call.positions;
    const int64_t tiles = (total + kTile - 1) / kTile;
    run_parallel(call.threads, tiles, [](void* self, int64_t i) {
      static_cast<ForwardCall*>(self)->run_task(i);
    }, this);
    if (out_of_memory) throw std::bad_alloc();
  }

 private:
  static constexpr int kTile = 2 * kLanes<T>;

  void run_task(int64_t i) {
    const FlushSubnormals flush;
    auto* tile = static_cast<Row<T>*>(tile_scratch().reserve(2 * plan.rows * sizeof(Row<T>)));
    if (tile == nullptr) {
      out_of_memory = true;
      return;
    }
    const int64_t first = i * kTile, left = call.batch * call.positions - first;
    run_tile(tile, first, left < kTile ? static_cast<int>(left) : kTile);
  }

  void run_tile(Row<T>* tile, int64_t first, int count) {
    const TileOfTensor<T, E> to(call.output, call.positions, first, count);
    load_view<T, E>(call.input, call, plan, first, count, tile);
    Ahead ahead = what_comes_after(to, first + kTile);
    const TileStack<T> stack(plan, parameters, &ahead);
    const Row<T>* const result = stack.run(call.layers, call.transposed, tile, tile + plan.rows);
    const bool finite =
        store_tile<T>(to, call.n, plan.row_of_channel.data(), result,
                      static_cast<const T*>(call.scale), static_cast<const T*>(call.bias));
    // A value that is not finite spreads from one group of positions to the other, because one FFT
    // transforms both. So each group is computed again by itself.
    if (!finite && count > kLanes<T>) {
      run_tile(tile, first, kLanes<T>);
      run_tile(tile, first + kLanes<T>, count - kLanes<T>);
    }
  }

  // What to prefetch while a tile is computed: the rows of its output and of the next tile's input.
  // Nothing for small tiles and images: their memory arrives in time, and prefetching would cost
  // more than it gains.
  Ahead what_comes_after(const TileOfTensor<T, E>& output, int64_t next) const {
    constexpr size_t kLargeTile = 48 << 10;
    constexpr int64_t kLargeImage = 2 << 10;  // bytes of one channel
    Ahead ahead;
    const int64_t steps = call.layers * static_cast<int64_t>(plan.programme.size());
    if (plan.rows * sizeof(Row<T>) < kLargeTile || steps == 0) return ahead;
    const int64_t in_time = steps - steps / 4;
    if (output.dense && output.pitch() >= kLargeImage) ahead.output = RowsAhead(output, in_time);
    if (call.input.data != nullptr && next + kTile <= call.batch * call.positions) {
      const TileOfTensor<T, const E> input(call.input, call.positions, next, kTile);
      if (input.dense && input.pitch() >= kLargeImage) {
        ahead.next_input = RowsAhead(input, in_time);
      }
    }
    return ahead;
  }

  const Call& call;
  const FftPlan<T>& plan;
  const Parameters<T> parameters;
  std::atomic<bool> out_of_memory{false};
};
