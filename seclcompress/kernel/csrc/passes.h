// The passes of one layer over a tile. Included once for each instruction set.
//
// A layer reads the tile of its input once (first pass: reordering, product with A, first stage of
// the forward FFT) and writes another, the tile of its output. There it works in place: on blocks
// that stay in cache (FftPlan::programme), then once more on the whole tile (last pass: last stage
// of the inverse FFT). A transposed layer, and a layer of the reverse pass, begins in place, and
// its last pass writes the other tile.

// x times w = c + i s, or times its conjugate.
template <bool CONJUGATE, class T>
ACDC_INLINE Row<T> rotate(const Row<T>& x, T c, T s) {
  return CONJUGATE ? Row<T>{x.re * c + x.im * s, x.im * c - x.re * s}
                   : Row<T>{x.re * c - x.im * s, x.im * c + x.re * s};
}

// The butterfly of column j of a block and its twiddle factors, and the inverse of both.
template <int R, class T>
ACDC_INLINE void forward_column(Row<T>* x, const T* w) {
  butterfly<R, false>(x);
  ACDC_UNROLL
  for (int m = 1; m < R; m++) x[m] = rotate<false>(x[m], w[2 * m - 2], w[2 * m - 1]);
}
template <int R, class T>
ACDC_INLINE void inverse_column(Row<T>* x, const T* w) {
  ACDC_UNROLL
  for (int m = 1; m < R; m++) x[m] = rotate<true>(x[m], w[2 * m - 2], w[2 * m - 1]);
  butterfly<R, true>(x);
}

// One stage in place over consecutive blocks.
template <int R, bool INVERSE, class T>
void stage_pass(Row<T>* rows, int blocks, int span, const T* twiddles) {
  for (Row<T>* const end = rows + static_cast<int64_t>(blocks) * R * span; rows < end;
       rows += R * span) {
    const T* w = twiddles;
    for (int j = 0; j < span; j++, w += 2 * (R - 1)) {
      Row<T> x[R];
      ACDC_UNROLL
      for (int m = 0; m < R; m++) x[m] = rows[j + m * span];
      if constexpr (INVERSE) {
        inverse_column<R>(x, w);
      } else {
        forward_column<R>(x, w);
      }
      ACDC_UNROLL
      for (int m = 0; m < R; m++) rows[j + m * span] = x[m];
    }
  }
}

// Input tile -> work tile. `pitch` is the span with padding. With REORDER row n comes from
// input_row[n] and is multiplied by a[n]; without it (transposed layers) both tiles are the same.
template <int R, bool REORDER, class T>
void first_pass(const Row<T>* input, Row<T>* work, const int32_t* input_row, const T* a, int span,
                int pitch, const T* w) {
  for (int j = 0; j < span; j++, w += 2 * (R - 1)) {
    Row<T> x[R];
    ACDC_UNROLL
    for (int m = 0; m < R; m++) {
      if constexpr (REORDER) {
        const Row<T>& source = input[input_row[j + m * span]];
        const T factor = a[j + m * span];
        x[m] = {source.re * factor, source.im * factor};
      } else {
        x[m] = input[j + m * pitch];
      }
    }
    forward_column<R>(x, w);
    ACDC_UNROLL
    for (int m = 0; m < R; m++) work[j + m * pitch] = x[m];
  }
}

enum class Last {
  kPlain,      // forward: both tiles are the same
  kTranspose,  // the transpose of first_pass: row n is multiplied by a[n] and goes to input_row[n]
  kGradients,  // as kTranspose, and A's gradient is added to sums
};

// Work tile -> output tile. `layer_input`, the tile that first_pass read, and `sums` are used by
// kGradients alone: A's gradient is the product of the layer's input with the gradient of the first
// pass's product, summed over positions. The products of several columns are collected, so that
// their lanes are summed together.
template <int R, Last MODE, class T>
void last_pass(const Row<T>* work, Row<T>* output, const int32_t* input_row, const T* a,
               const Row<T>* layer_input, T* sums, int span, int pitch, const T* w) {
  constexpr int kColumns = MODE == Last::kGradients ? kLanes<T> : 1;
  Vector<T> products[R][kColumns];  // of the last columns; summed once there are kColumns of them
  for (int j = 0; j < span; j++, w += 2 * (R - 1)) {
    Row<T> x[R];
    ACDC_UNROLL
    for (int m = 0; m < R; m++) x[m] = work[j + m * pitch];
    inverse_column<R>(x, w);
    ACDC_UNROLL
    for (int m = 0; m < R; m++) {
      if constexpr (MODE == Last::kPlain) {
        output[j + m * pitch] = x[m];
      } else {
        const int n = j + m * span, row = input_row[n];
        if constexpr (MODE == Last::kGradients) {
          products[m][j % kColumns] =
              x[m].re * layer_input[row].re + x[m].im * layer_input[row].im;
        }
        output[row] = {x[m].re * a[n], x[m].im * a[n]};
      }
    }
    if constexpr (MODE == Last::kGradients) {
      const int column = j % kColumns;
      if (column + 1 < kColumns && j + 1 < span) continue;
      for (int m = 0; m < R; m++) {
        add_lane_sums<T>(products[m], column + 1, sums + m * span + j - column);
      }
    }
  }
}

enum class Spectrum {
  kPlain,   // forward and transposed layers alike: D's matrix of a pair is symmetric
  kRecord,  // forward, and keep the spectrum before D for kReplay
  kReplay,  // reverse pass: as kPlain on the gradient, and D's gradient from the kept spectrum
};

// Multiplies by D at the frequencies (k, N - k), of which z and y are the values of the complex
// FFT. The FFT has transformed both groups of positions at once: twice the spectrum of `re` is V =
// z + conj(y), twice that of `im` is U = (z - conj(y)) / i. The symmetric 2 x 2 matrix of the pair
// (see PairAngles) maps real and imaginary part of V, and those of U; the results are put together
// again as z = V + i U and y = conj(V - i U).
template <class T>
ACDC_INLINE void multiply_pair(Row<T>& z, Row<T>& y, const T* matrix) {
  const Vector<T> ar = z.re + y.re, ai = z.im - y.im, br = z.im + y.im, bi = y.re - z.re;
  const Vector<T> vr = matrix[0] * ar + matrix[1] * ai, vi = matrix[1] * ar + matrix[2] * ai;
  const Vector<T> ur = matrix[0] * br + matrix[1] * bi, ui = matrix[1] * br + matrix[2] * bi;
  z = {vr - ui, ur + vi};
  y = {vr + ui, ur - vi};
}

// Products of a kept pair (z, y) with a gradient's pair (g, h): re re, re im + im re and im im of
// the spectra that multiply_pair forms, added up over both groups. They are the gradients of the
// entries of the pair's 2 x 2 matrix; GradientSums::unpack makes D's gradient of their sums over
// the lanes.
template <class T>
ACDC_INLINE void pair_products(const Row<T>& z, const Row<T>& y, const Row<T>& g, const Row<T>& h,
                               Vector<T>* products) {
  const Vector<T> ar = z.re + y.re, ai = z.im - y.im, br = z.im + y.im, bi = y.re - z.re;
  const Vector<T> cr = g.re + h.re, ci = g.im - h.im, dr = g.im + h.im, di = h.re - g.re;
  products[0] = ar * cr + br * dr;
  products[1] = (ar * ci + ai * cr) + (br * di + bi * dr);
  products[2] = ai * ci + bi * di;
}

// The last stage of the forward FFT, D, and the first stage of the inverse FFT, on a block that is
// its own mirror image: after the butterfly, x[m] and x[mirror] are a pair (k, N - k). In the block
// with frequency 0, x[0] is that frequency and its own mirror. `matrices` and `products` advance by
// three for each pair.
template <int R, Spectrum MODE, bool HAS_ZERO, class T>
void own_mirror(Row<T>* rows, Row<T>* kept, const T*& matrices, Vector<T>*& products) {
  Row<T> x[R];
  ACDC_UNROLL
  for (int m = 0; m < R; m++) x[m] = rows[m];
  butterfly<R, false>(x);
  if constexpr (MODE == Spectrum::kRecord) {
    ACDC_UNROLL
    for (int m = 0; m < R; m++) kept[m] = x[m];
  }
  ACDC_UNROLL
  for (int m = 0; m < R; m++) {
    const int mirror = HAS_ZERO ? (R - m) % R : R - 1 - m;
    if (mirror < m) continue;
    if constexpr (MODE == Spectrum::kReplay) {
      if (mirror == m) {
        products[0] = kept[m].re * x[m].re + kept[m].im * x[m].im;
        products[1] = products[2] = Vector<T>{};
      } else {
        pair_products(kept[m], kept[mirror], x[m], x[mirror], products);
      }
      products += 3;
    }
    if (mirror == m) {
      x[m] = {x[m].re * matrices[0], x[m].im * matrices[0]};
    } else {
      multiply_pair(x[m], x[mirror], matrices);
    }
    matrices += 3;
  }
  butterfly<R, true>(x);
  ACDC_UNROLL
  for (int m = 0; m < R; m++) rows[m] = x[m];
}

// The same on two blocks that are each other's mirror images: x[m] of one and y[R - 1 - m] of the
// other are a pair. The products with D keep adders and multipliers equally busy, and there are too
// many of them for the processor to overlap them with the butterflies before and after. So those
// butterflies divide their own sums between adders and multipliers (SHARE).
template <int R, Spectrum MODE, class T>
ACDC_INLINE void mirror_pair(Row<T>* a, Row<T>* b, Row<T>* kept_a, Row<T>* kept_b,
                             const T*& matrices, Vector<T>*& products) {
  Row<T> x[R], y[R];
  ACDC_UNROLL
  for (int m = 0; m < R; m++) x[m] = a[m];
  butterfly<R, false, true>(x);
  ACDC_UNROLL
  for (int m = 0; m < R; m++) y[m] = b[m];
  butterfly<R, false, true>(y);
  if constexpr (MODE == Spectrum::kRecord) {
    ACDC_UNROLL
    for (int m = 0; m < R; m++) {
      kept_a[m] = x[m];
      kept_b[m] = y[m];
    }
  }
  ACDC_UNROLL
  for (int m = 0; m < R; m++, matrices += 3) {
    if constexpr (MODE == Spectrum::kReplay) {
      pair_products(kept_a[m], kept_b[R - 1 - m], x[m], y[R - 1 - m], products);
      products += 3;
    }
    multiply_pair(x[m], y[R - 1 - m], matrices);
  }
  butterfly<R, true, true>(y);
  ACDC_UNROLL
  for (int m = 0; m < R; m++) b[m] = y[m];
  butterfly<R, true, true>(x);
  ACDC_UNROLL
  for (int m = 0; m < R; m++) a[m] = x[m];
}

// The spectrum pass on `count` mirror blocks, in the order of FftPlan::pairs.
template <int R, Spectrum MODE, class T>
void spectrum_pass(Row<T>* work, Row<T>* kept, const MirrorBlocks* mirrors, int count,
                   const T* matrices, Vector<T>* products) {
  for (const MirrorBlocks* block = mirrors; block < mirrors + count; block++) {
    const int a = block->first, b = block->second;
    Row<T>* const kept_a = MODE == Spectrum::kPlain ? nullptr : kept + a;
    Row<T>* const kept_b = MODE == Spectrum::kPlain ? nullptr : kept + b;
    if (a != b) {
      mirror_pair<R, MODE>(work + a, work + b, kept_a, kept_b, matrices, products);
    } else if (block->has_zero) {
      own_mirror<R, MODE, true>(work + a, kept_a, matrices, products);
    } else {
      own_mirror<R, MODE, false>(work + a, kept_a, matrices, products);
    }
  }
}

// A length of a single radix has one stage, which the spectrum pass does. These two take the place
// of the first and the last pass that write another tile.
template <class T>
void copy_in(const Row<T>* input, Row<T>* work, const int32_t* input_row, const T* a, int n) {
  for (int i = 0; i < n; i++) {
    const Row<T>& source = input[input_row[i]];
    work[i] = {source.re * a[i], source.im * a[i]};
  }
}
template <Last MODE, class T>
void copy_out(const Row<T>* work, Row<T>* output, const int32_t* input_row, const T* a,
              const Row<T>* layer_input, T* sums, int n) {
  Vector<T> products[7];
  for (int i = 0; i < n; i++) {
    const int row = input_row[i];
    if constexpr (MODE == Last::kGradients) {
      products[i] = work[i].re * layer_input[row].re + work[i].im * layer_input[row].im;
    }
    output[row] = {work[i].re * a[i], work[i].im * a[i]};
  }
  if constexpr (MODE == Last::kGradients) add_lane_sums<T>(products, n, sums);
}
