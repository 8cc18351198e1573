// The passes of one layer over a tile. Included once for each instruction set.
//
// A layer reads the tile of its input once (first pass: its reordering, the product with A and the
// first stage of the forward FFT), works in place on blocks that stay in cache (Plan::programme)
// and writes the tile of its output once (last pass: the last stage of the inverse FFT).

// x times w = c + i s, or times its conjugate.
template <bool CONJUGATE, class T>
ACDC_INLINE Row<T> rotate(const Row<T>& x, T c, T s) {
  return CONJUGATE ? Row<T>{x.re * c + x.im * s, x.im * c - x.re * s}
                   : Row<T>{x.re * c - x.im * s, x.im * c + x.re * s};
}

// Butterfly and factors of column j of a block, and their inverse.
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

// Input tile -> work tile. `pitch` is the span with padding. With input_row, row n comes from
// input_row[n] and is multiplied by a[n]; without (gradients) rows are taken as they stand.
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
  kPlain,      // forward
  kTranspose,  // the transpose of first_pass's reordering: times A, and to input_row[n]
  kGradients,  // the same, and products[n] receives, lane by lane, what A's gradient is made of
};

// Work tile -> output tile. `layer_input` is what first_pass read; both it and products are for
// kGradients alone.
template <int R, Last MODE, class T>
void last_pass(const Row<T>* work, Row<T>* output, const int32_t* input_row, const T* a,
               const Row<T>* layer_input, Vector<T>* products, int span, int pitch, const T* w) {
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
          products[n] = x[m].re * layer_input[row].re + x[m].im * layer_input[row].im;
        }
        output[row] = {x[m].re * a[n], x[m].im * a[n]};
      }
    }
  }
}

enum class Spectrum {
  kPlain,   // forward, and its transpose: what D does to a pair is symmetric
  kRecord,  // forward, and keep the spectrum for kReplay
  kReplay,  // gradients: also yield D's from the kept spectrum
};

// The 2 x 2 matrix of Plan::pairs on the pair (z, y). D acts on the spectra of the two groups of
// positions, V = z + conj(y) (twice that of `re`) and (z - conj(y)) / i (twice that of `im`).
template <class T>
ACDC_INLINE void multiply_pair(Row<T>& z, Row<T>& y, const T* matrix) {
  const Vector<T> ar = z.re + y.re, ai = z.im - y.im, br = z.im + y.im, bi = y.re - z.re;
  // With (vr, vi) the matrix times (ar, ai): z = (vr - ui, ur + vi), y = (vr + ui, ur - vi).
  // Written as multiply-adds throughout: the butterflies around it keep the adders busy.
  const Vector<T> ur = matrix[0] * br + matrix[1] * bi, ui = matrix[1] * br + matrix[2] * bi;
  z = {matrix[0] * ar + (matrix[1] * ai - ui), matrix[1] * ar + (matrix[2] * ai + ur)};
  y = {matrix[0] * ar + (matrix[1] * ai + ui), (ur - matrix[2] * ai) - matrix[1] * ar};
}

// Products of a kept pair (z, y) with a gradient's pair (g, h), of which lane sums and Plan::pairs
// make D's gradient: re re, re im + im re, im im of the spectra as multiply_pair forms them.
template <class T>
ACDC_INLINE void pair_products(const Row<T>& z, const Row<T>& y, const Row<T>& g, const Row<T>& h,
                               Vector<T>* products) {
  const Vector<T> ar = z.re + y.re, ai = z.im - y.im, br = z.im + y.im, bi = y.re - z.re;
  const Vector<T> cr = g.re + h.re, ci = g.im - h.im, dr = g.im + h.im, di = h.re - g.re;
  products[0] = ar * cr + br * dr;
  products[1] = (ar * ci + ai * cr) + (br * di + bi * dr);
  products[2] = ai * ci + bi * di;
}

// The last stage of the forward FFT, D, and the first stage of the inverse, on mirror blocks.
// `matrices` and `products` advance by three for each pair, in the order of Plan::pairs.
template <int R, Spectrum MODE, class T>
void spectrum_pass(Row<T>* work, Row<T>* kept, const MirrorBlocks* mirrors, int count,
                   const T* matrices, Vector<T>* products) {
  for (const MirrorBlocks* block = mirrors; block < mirrors + count; block++) {
    Row<T>*const a = work + block->first, *const b = work + block->second;
    Row<T> x[R];
    ACDC_UNROLL
    for (int m = 0; m < R; m++) x[m] = a[m];
    butterfly<R, false>(x);
    if constexpr (MODE == Spectrum::kRecord) {
      ACDC_UNROLL
      for (int m = 0; m < R; m++) kept[block->first + m] = x[m];
    }
    if (block->first == block->second) {
      for (int m = 0; m < R; m++) {
        const int mirror = block->has_zero ? (R - m) % R : R - 1 - m;
        if (mirror < m) continue;
        if constexpr (MODE == Spectrum::kReplay) {
          const Row<T>*const z = kept + block->first;
          if (mirror == m) {
            products[0] = z[m].re * x[m].re + z[m].im * x[m].im;
            products[1] = products[2] = Vector<T>{};
          } else {
            pair_products(z[m], z[mirror], x[m], x[mirror], products);
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
    } else {
      Row<T> y[R];
      ACDC_UNROLL
      for (int m = 0; m < R; m++) y[m] = b[m];
      butterfly<R, false>(y);
      if constexpr (MODE == Spectrum::kRecord) {
        ACDC_UNROLL
        for (int m = 0; m < R; m++) kept[block->second + m] = y[m];
      }
      ACDC_UNROLL
      for (int m = 0; m < R; m++) {
        if constexpr (MODE == Spectrum::kReplay) {
          pair_products(kept[block->first + m], kept[block->second + R - 1 - m], x[m],
                        y[R - 1 - m], products + 3 * m);
        }
        multiply_pair(x[m], y[R - 1 - m], matrices + 3 * m);
      }
      matrices += 3 * R;
      if constexpr (MODE == Spectrum::kReplay) products += 3 * R;
      butterfly<R, true>(y);
      ACDC_UNROLL
      for (int m = 0; m < R; m++) b[m] = y[m];
    }
    butterfly<R, true>(x);
    ACDC_UNROLL
    for (int m = 0; m < R; m++) a[m] = x[m];
  }
}

// Lengths that are a single radix have no first and last stage: these take their place.
template <bool REORDER, class T>
void copy_in(const Row<T>* input, Row<T>* work, const int32_t* input_row, const T* a, int n) {
  for (int i = 0; i < n; i++) {
    const Row<T>& source = input[REORDER ? input_row[i] : i];
    work[i] = REORDER ? Row<T>{source.re * a[i], source.im * a[i]} : source;
  }
}
template <Last MODE, class T>
void copy_out(const Row<T>* work, Row<T>* output, const int32_t* input_row, const T* a,
              const Row<T>* layer_input, Vector<T>* products, int n) {
  for (int i = 0; i < n; i++) {
    if constexpr (MODE == Last::kPlain) {
      output[i] = work[i];
    } else {
      const int row = input_row[i];
      if constexpr (MODE == Last::kGradients) {
        products[i] = work[i].re * layer_input[row].re + work[i].im * layer_input[row].im;
      }
      output[row] = {work[i].re * a[i], work[i].im * a[i]};
    }
  }
}
