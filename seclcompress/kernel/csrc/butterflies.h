// Discrete Fourier transforms of 2, 3, 4, 5, 7 and 8 points on registers, in place, natural order
// in and out. With INVERSE the roots of unity are conjugated; nothing is divided by R. Included
// once for each instruction set.

template <class T>
ACDC_INLINE Row<T> operator+(const Row<T>& x, const Row<T>& y) {
  return {x.re + y.re, x.im + y.im};
}
template <class T>
ACDC_INLINE Row<T> operator-(const Row<T>& x, const Row<T>& y) {
  return {x.re - y.re, x.im - y.im};
}

// x + y and x - y. With SHARE they are computed by the multipliers where the processor has separate
// adders: an FMA with a factor of one rounds as the sum does. This is for passes in which the
// multipliers would wait for the adders.
template <bool SHARE, class T>
ACDC_INLINE Row<T> sum(const Row<T>& x, const Row<T>& y) {
  if constexpr (SHARE && ACDC_SEPARATE_ADDERS) {
    const Vector<T> one = hidden_one<T>();
    return {x.re * one + y.re, x.im * one + y.im};
  }
  return x + y;
}
template <bool SHARE, class T>
ACDC_INLINE Row<T> difference(const Row<T>& x, const Row<T>& y) {
  if constexpr (SHARE && ACDC_SEPARATE_ADDERS) {
    const Vector<T> one = hidden_one<T>();
    return {x.re * one - y.re, x.im * one - y.im};
  }
  return x - y;
}

// x - i y in the forward transform and x + i y in the inverse one; plus_i is the other way round.
template <bool INVERSE, class T>
ACDC_INLINE Row<T> minus_i(const Row<T>& x, const Row<T>& y) {
  return INVERSE ? Row<T>{x.re - y.im, x.im + y.re} : Row<T>{x.re + y.im, x.im - y.re};
}
template <bool INVERSE, class T>
ACDC_INLINE Row<T> plus_i(const Row<T>& x, const Row<T>& y) {
  return minus_i<!INVERSE>(x, y);
}

// cos and sin of 2 pi m / R for the odd radices, m = 0 .. (R - 1) / 2.
template <int R>
struct OddRoots;
template <>
struct OddRoots<3> {
  static constexpr double cos[2] = {1.0, -0.5};
  static constexpr double sin[2] = {0.0, 0.86602540378443864676};
};
template <>
struct OddRoots<5> {
  static constexpr double cos[3] = {1.0, 0.30901699437494742410, -0.80901699437494742410};
  static constexpr double sin[3] = {0.0, 0.95105651629515357212, 0.58778525229247312917};
};
template <>
struct OddRoots<7> {
  static constexpr double cos[4] = {1.0, 0.62348980185873353053, -0.22252093395631440429,
                                    -0.90096886790241912624};
  static constexpr double sin[4] = {0.0, 0.78183148246802980871, 0.97492791218182360702,
                                    0.43388373911755812048};
};
template <int R>
constexpr double odd_cos(int m) {
  m %= R;
  return OddRoots<R>::cos[m <= R / 2 ? m : R - m];
}
template <int R>
constexpr double odd_sin(int m) {
  m %= R;
  return m <= R / 2 ? OddRoots<R>::sin[m] : -OddRoots<R>::sin[R - m];
}

// Transforms x[0] to x[R - 1]. With SHARE, the multipliers compute half of the sums if R is 4.
template <int R, bool INVERSE, bool SHARE = false, class T>
ACDC_INLINE void butterfly(Row<T>* x) {
  if constexpr (R == 1) {
    return;
  } else if constexpr (R == 2) {
    const Row<T> a = x[0], b = x[1];
    x[0] = a + b;
    x[1] = a - b;
  } else if constexpr (R == 4) {
    const Row<T> a = x[0] + x[2], b = x[0] - x[2];
    const Row<T> c = sum<SHARE>(x[1], x[3]), d = difference<SHARE>(x[1], x[3]);
    x[0] = sum<SHARE>(a, c);
    x[2] = difference<SHARE>(a, c);
    x[1] = minus_i<INVERSE>(b, d);
    x[3] = plus_i<INVERSE>(b, d);
  } else if constexpr (R == 8) {
    const T half = static_cast<T>(0.70710678118654752440);
    Row<T> even[4], odd[4];
    ACDC_UNROLL
    for (int m = 0; m < 4; m++) {
      even[m] = x[m] + x[m + 4];
      odd[m] = x[m] - x[m + 4];
    }
    // The odd outputs need odd[m] times the m-th power of an eighth root of unity. The common
    // factor, the square root of a half, is applied after the sum and the difference, so that a
    // complex product takes two multiplications.
    const Row<T> s = minus_i<INVERSE>(odd[1], odd[1]);  // (1 - i) odd[1]
    const Row<T> t = plus_i<INVERSE>(odd[3], odd[3]);   // (1 + i) odd[3] = -(-1 - i) odd[3]
    const Row<T> u = {s.re - t.re, s.im - t.im}, v = {s.re + t.re, s.im + t.im};
    const Row<T> b = minus_i<INVERSE>(odd[0], odd[2]), c = plus_i<INVERSE>(odd[0], odd[2]);
    butterfly<4, INVERSE>(even);
    x[0] = even[0];
    x[2] = even[1];
    x[4] = even[2];
    x[6] = even[3];
    // (odd[1] w + odd[3] w^3) = half * u, and -i (odd[1] w - odd[3] w^3) = -i * half * v
    x[1] = {b.re + half * u.re, b.im + half * u.im};
    x[5] = {b.re - half * u.re, b.im - half * u.im};
    const Row<T> w = {half * v.re, half * v.im};
    x[3] = minus_i<INVERSE>(c, w);
    x[7] = plus_i<INVERSE>(c, w);
  } else {
    static_assert(R == 3 || R == 5 || R == 7, "no butterfly for this radix");
    constexpr int kHalf = R / 2;
    const Row<T> first = x[0];
    Row<T> sum[kHalf], difference[kHalf];
    ACDC_UNROLL
    for (int m = 1; m <= kHalf; m++) {
      sum[m - 1] = x[m] + x[R - m];
      difference[m - 1] = x[m] - x[R - m];
    }
    ACDC_UNROLL
    for (int m = 0; m < kHalf; m++) x[0] = x[0] + sum[m];
    ACDC_UNROLL
    for (int k = 1; k <= kHalf; k++) {
      Row<T> p = first, q = {};
      ACDC_UNROLL
      for (int m = 1; m <= kHalf; m++) {
        const T c = static_cast<T>(odd_cos<R>(k * m)), s = static_cast<T>(odd_sin<R>(k * m));
        p.re += c * sum[m - 1].re;
        p.im += c * sum[m - 1].im;
        q.re += s * difference[m - 1].re;
        q.im += s * difference[m - 1].im;
      }
      x[k] = minus_i<INVERSE>(p, q);
      x[R - k] = plus_i<INVERSE>(p, q);
    }
  }
}
