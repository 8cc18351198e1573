// Vectors of positions, written with the compiler's vector extensions (GCC, Clang), so that one
// source serves AVX-512, AVX2, SSE2 and NEON. Included once for each instruction set, inside an
// unnamed namespace: a template compiled for AVX-512 must never be merged by the linker with the
// same template compiled for the baseline.
//
// The including file defines ACDC_VECTOR_BYTES.

typedef float FloatV __attribute__((vector_size(ACDC_VECTOR_BYTES)));
typedef double DoubleV __attribute__((vector_size(ACDC_VECTOR_BYTES)));

#define ACDC_INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#define ACDC_UNROLL _Pragma("unroll")
#else
#define ACDC_UNROLL _Pragma("GCC unroll 16")
#endif

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  using type = FloatV;
};
template <>
struct VectorOf<double> {
  using type = DoubleV;
};
template <class T>
using Vector = typename VectorOf<T>::type;

template <class T>
constexpr int kLanes = ACDC_VECTOR_BYTES / static_cast<int>(sizeof(T));

// One channel of a tile. `re` holds one group of positions and `im` another: a complex FFT over
// the rows then transforms both groups of real numbers at once.
template <class T>
struct Row {
  Vector<T> re, im;
};

template <class T>
ACDC_INLINE Vector<T> load_vector(const T* p) {
  Vector<T> v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
template <class T>
ACDC_INLINE void store_vector(T* p, const Vector<T>& v) {
  std::memcpy(p, &v, sizeof(v));
}

// Exchanges lane groups of width W between two vectors: the step of which both the transpose and
// the lane sums below are made.
//   low:  a's lanes with bit W clear; into the others go b's lanes W places to the left
//   high: b's lanes with bit W set;   into the others go a's lanes W places to the right
template <class T, int W, int... I>
ACDC_INLINE Vector<T> exchange_low(const Vector<T>& a, const Vector<T>& b,
                                   std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, ((I & W) ? kLanes<T> + I - W : I)...);
}
template <class T, int W, int... I>
ACDC_INLINE Vector<T> exchange_high(const Vector<T>& a, const Vector<T>& b,
                                    std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, ((I & W) ? kLanes<T> + I : I + W)...);
}

// Transposes a square of kLanes vectors in place.
template <class T, int W = 1>
ACDC_INLINE void transpose(Vector<T>* v) {
  if constexpr (W < kLanes<T>) {
    using Lanes = std::make_integer_sequence<int, kLanes<T>>;
    ACDC_UNROLL
    for (int i = 0; i < kLanes<T>; i++) {
      if ((i & W) == 0) {
        const Vector<T> a = v[i], b = v[i + W];
        v[i] = exchange_low<T, W>(a, b, Lanes{});
        v[i + W] = exchange_high<T, W>(a, b, Lanes{});
      }
    }
    transpose<T, 2 * W>(v);
  }
}

// Lane i of the result is the sum of the lanes of v[i]. Overwrites v.
template <class T, int W = 1>
ACDC_INLINE Vector<T> lane_sums(Vector<T>* v) {
  if constexpr (W == kLanes<T>) {
    return v[0];
  } else {
    using Lanes = std::make_integer_sequence<int, kLanes<T>>;
    ACDC_UNROLL
    for (int i = 0; i < kLanes<T> / W; i += 2) {
      v[i / 2] = exchange_low<T, W>(v[i], v[i + 1], Lanes{}) +
                 exchange_high<T, W>(v[i], v[i + 1], Lanes{});
    }
    return lane_sums<T, 2 * W>(v);
  }
}

// sums[i] += the sum of the lanes of rows[i].
template <class T>
void add_lane_sums(const Vector<T>* rows, int count, T* sums) {
  constexpr int kWidth = kLanes<T>;
  for (int i = 0; i < count; i += kWidth) {
    Vector<T> v[kWidth];
    const int here = count - i < kWidth ? count - i : kWidth;
    for (int j = 0; j < kWidth; j++) v[j] = j < here ? rows[i + j] : Vector<T>{};
    const Vector<T> total = lane_sums<T>(v);
    if (here == kWidth) {
      store_vector<T>(sums + i, load_vector<T>(sums + i) + total);
    } else {
      for (int j = 0; j < here; j++) sums[i + j] += total[j];
    }
  }
}
