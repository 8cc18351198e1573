// Gradients of a stack, tile by tile. Included once for each instruction set, after stack.h.
//
// A tile is run forward once more, and each layer's input and spectrum are recorded in the thread's
// memory. Then the gradient of the output goes through the layers from the last to the first; each
// layer reads its two recorded tiles and adds to the sums for A and D.

template <class T, class E>
class BackwardCall {
 public:
  explicit BackwardCall(const Call& c)
      : call(c),
        plan(get_fft_plan<T>(c.n, sizeof(Row<T>))),
        sums_size(GradientSums<T>::layer_size(plan) * c.layers),
        tiles((c.batch * c.positions + kTile - 1) / kTile),
        chunks(choose_chunks()),
        memory(reserve_or_throw(call_scratch(), Parameters<T>::bytes(plan, c.layers) +
                                                    sizeof(T) * sums_size * chunks)),
        parameters(plan, c, memory),
        sums(reinterpret_cast<T*>(static_cast<char*>(memory) +
                                  Parameters<T>::bytes(plan, c.layers))) {}

  void run() {
    advise_large_pages_for<E>(call.input_grad, call);
    run_parallel(call.threads, chunks, [](void* self, int64_t i) {
      static_cast<BackwardCall*>(self)->run_chunk(i);
    }, this);
    if (out_of_memory) throw std::bad_alloc();
    run_parallel(call.threads, call.layers, [](void* self, int64_t i) {
      static_cast<BackwardCall*>(self)->reduce_layer(static_cast<int>(i));
    }, this);
  }

 private:
  static constexpr int kTile = 2 * kLanes<T>;

  // Each chunk of tiles has sums of its own, which are added up in order at the end. The number of
  // chunks depends on the sizes alone, so the results do not depend on the number of threads.
  int choose_chunks() const {
    constexpr int64_t kMost = 64, kLeast = 8, kBytes = 16 << 20;
    const int64_t fit = kBytes / static_cast<int64_t>(sizeof(T) * sums_size);
    const int64_t wanted = fit < kLeast ? kLeast : fit > kMost ? kMost : fit;
    return static_cast<int>(tiles < wanted ? tiles : wanted);
  }

  void run_chunk(int64_t chunk) {
    const FlushSubnormals flush;
    T* const chunk_sums = sums + chunk * sums_size;
    std::memset(chunk_sums, 0, sizeof(T) * sums_size);
    // Tiles for each layer's input and spectrum and for two gradients, then the products.
    const size_t tile_count = 2 * static_cast<size_t>(call.layers) + 2;
    auto* tile = static_cast<Row<T>*>(tile_scratch().reserve(
        tile_count * plan.rows * sizeof(Row<T>) + 3 * plan.max_pairs * sizeof(Vector<T>)));
    if (tile == nullptr) {
      out_of_memory = true;
      return;
    }
    const int64_t total = call.batch * call.positions;
    for (int64_t i = tiles * chunk / chunks; i < tiles * (chunk + 1) / chunks; i++) {
      const int64_t left = total - i * kTile;
      run_tile(tile, i * kTile, left < kTile ? static_cast<int>(left) : kTile, chunk_sums);
    }
  }

  void run_tile(Row<T>* tile, int64_t first, int count, T* chunk_sums) {
    const size_t rows = plan.rows;
    Row<T>* const inputs = tile;  // one for each layer; the last layer's output is not needed
    Row<T>* const spectra = inputs + call.layers * rows;
    Row<T>* gradient = spectra + call.layers * rows;
    Row<T>* next = gradient + rows;
    auto* const products = reinterpret_cast<Vector<T>*>(next + rows);
    const TileStack<T> stack(plan, parameters);

    load_view<T, E>(call.input, call, plan, first, count, inputs);
    for (int layer = 0; layer < call.layers; layer++) {
      Row<T>* const input = inputs + layer * rows;
      Row<T>* const output = layer + 1 < call.layers ? input + rows : gradient;
      stack.template forward_layer<Spectrum::kRecord>(layer, input, output,
                                                      spectra + layer * rows);
    }
    load_view<T, E>(call.output, call, plan, first, count, gradient);
    for (int layer = call.layers - 1; layer >= 0; layer--, std::swap(gradient, next)) {
      stack.backward_layer(layer, inputs + layer * rows, spectra + layer * rows, gradient, next,
                           products, chunk_sums + layer * GradientSums<T>::layer_size(plan));
    }
    if (call.input_grad.data == nullptr) return;
    if (!store_gradient(gradient, first, count) && count > kLanes<T>) {
      // See ForwardCall::run_tile. The sums over positions are not finite either way.
      run_input_grad(tile, first, kLanes<T>);
      run_input_grad(tile, first + kLanes<T>, count - kLanes<T>);
    }
  }

  // The input's gradient alone, without those of A and D: the transposed stack on the output's.
  void run_input_grad(Row<T>* tile, int64_t first, int count) {
    const TileStack<T> stack(plan, parameters);
    load_view<T, E>(call.output, call, plan, first, count, tile);
    store_gradient(stack.run(call.layers, true, tile, tile + plan.rows), first, count);
  }

  // Stores the input's gradient; returns whether all of it was finite.
  bool store_gradient(const Row<T>* tile, int64_t first, int count) const {
    return store_tile<T, E>(TileOfTensor<T, E>(call.input_grad, call.positions, first, count),
                            call.n, plan.row_of_channel.data(), tile, nullptr, nullptr);
  }

  void reduce_layer(int layer) {
    const FlushSubnormals flush;
    const size_t layer_size = GradientSums<T>::layer_size(plan);
    T* const total = sums + layer * layer_size;
    for (int chunk = 1; chunk < chunks; chunk++) {
      const T* const part = sums + chunk * sums_size + layer * layer_size;
      for (size_t i = 0; i < layer_size; i++) total[i] += part[i];
    }
    const size_t offset = static_cast<size_t>(layer) * plan.n;
    GradientSums<T>::unpack(plan, total, static_cast<T*>(call.a_grad) + offset,
                            static_cast<T*>(call.d_grad) + offset);
  }

  const Call& call;
  const FftPlan<T>& plan;
  const size_t sums_size;
  const int64_t tiles;
  const int chunks;
  void* const memory;
  const Parameters<T> parameters;
  T* const sums;
  std::atomic<bool> out_of_memory{false};
};
