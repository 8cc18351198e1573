// Memory that a large tile needs soon is asked for a little at every step of its programme, so that
// it comes while the processor computes. Included once for each instruction set.

// Rows of a tensor, from the first channel to the last.
class RowsAhead {
 public:
  RowsAhead() = default;

  // All of them in so many steps.
  template <class T, class E>
  RowsAhead(const TileOfTensor<T, E>& tile, int64_t steps)
      : row_(reinterpret_cast<const char*>(&tile.at(0, 0))),
        pitch_(tile.pitch()),
        bytes_(2 * kLanes<T> * static_cast<int64_t>(sizeof(E))),
        left_(tile.view.channels),
        share_((left_ + steps - 1) / steps) {}

  void step() {
    for (int64_t i = 0; i < share_ && left_ > 0; i++, left_--) {
      for (int64_t b = 0; b < bytes_; b += 64) __builtin_prefetch(row_ + b, 0, 2);
      row_ += pitch_;
    }
  }

 private:
  const char* row_ = nullptr;
  int64_t pitch_ = 0, bytes_ = 0, left_ = 0, share_ = 0;
};

// What a tile will be stored to, and where the next one will be loaded from.
struct Ahead {
  RowsAhead output, next_input;

  void step() {
    output.step();
    next_input.step();
  }
};
