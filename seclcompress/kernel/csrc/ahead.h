// Prefetches the memory that a large tile will need soon, a few rows at every step of its
// programme, so that the memory arrives while the processor computes. Used by the forward pass
// only. Included once for each instruction set.

// Prefetches the rows of one tile of a tensor, from the first channel to the last.
class RowsAhead {
 public:
  RowsAhead() = default;

  // All rows will have been prefetched after `steps` calls of step().
  template <class T, class E>
  RowsAhead(const TileOfTensor<T, E>& tile, int64_t steps)
      : tile_row_(reinterpret_cast<uintptr_t>(&tile.at(0, 0))),
        pitch_(tile.pitch()),
        bytes_(tile.kRowBytes),
        left_(tile.view.channels),
        share_((left_ + steps - 1) / steps) {}

  void step() {
    for (int64_t i = 0; i < share_ && left_ > 0; i++, left_--) {
      fetch<false, 2>(reinterpret_cast<const void*>(tile_row_), bytes_);
      tile_row_ += pitch_;
    }
  }

 private:
  uintptr_t tile_row_ = 0;
  int64_t pitch_ = 0;
  size_t bytes_ = 0;
  int64_t left_ = 0, share_ = 0;
};

// The memory to which a tile will be stored, and from which the next one will be loaded.
struct Ahead {
  RowsAhead output, next_input;

  void step() {
    output.step();
    next_input.step();
  }
};
