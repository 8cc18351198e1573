// Vectors of positions, written with the compiler's vector extensions (GCC, Clang), so that one
// source serves AVX-512, AVX2, SSE2 and NEON. Included once for each instruction set, inside an
// unnamed namespace: a template compiled for AVX-512 must never be merged by the linker with the
// same template compiled for the baseline.
//
// The including file defines ACDC_VECTOR_BYTES, and ACDC_SEPARATE_ADDERS: 1 if processors with this
// instruction set have FMA and may have adders beside their multipliers, else 0.

typedef float FloatV __attribute__((vector_size(ACDC_VECTOR_BYTES)));
typedef double DoubleV __attribute__((vector_size(ACDC_VECTOR_BYTES)));
typedef int BitsV __attribute__((vector_size(ACDC_VECTOR_BYTES)));
// The vectors in which lanes are summed: half as long, if half a vector is still one. The two
// halves are added first.
constexpr int kSumBytes = ACDC_VECTOR_BYTES > 16 ? ACDC_VECTOR_BYTES / 2 : ACDC_VECTOR_BYTES;
typedef float FloatSumV __attribute__((vector_size(kSumBytes)));
typedef double DoubleSumV __attribute__((vector_size(kSumBytes)));

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
  using to_sum = FloatSumV;
};
template <>
struct VectorOf<double> {
  using type = DoubleV;
  using to_sum = DoubleSumV;
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
// a where the bits of in_a are set, b where those of in_b are set, and zero elsewhere.
template <class V>
ACDC_INLINE V choose(const V& a, const V& in_a, const V& b, const V& in_b) {
  return (V)(((BitsV)a & (BitsV)in_a) | ((BitsV)b & (BitsV)in_b));
}
template <class T>
ACDC_INLINE void store_vector(T* p, const Vector<T>& v) {
  std::memcpy(p, &v, sizeof(v));
}

// All bits set in the lanes [begin, end), none in the others.
template <class T>
ACDC_INLINE Vector<T> lanes_between(int begin, int end) {
  T lanes[kLanes<T>];
  for (int l = 0; l < kLanes<T>; l++) {
    std::memset(lanes + l, begin <= l && l < end ? 0xff : 0, sizeof(T));
  }
  return load_vector<T>(lanes);
}

// A vector of ones that the compiler does not know to be ones, so that it keeps products with them.
template <class T>
ACDC_INLINE Vector<T> hidden_one() {
  Vector<T> one = Vector<T>{} + static_cast<T>(1);
#if ACDC_SEPARATE_ADDERS
  asm("" : "+v"(one));
#endif
  return one;
}

template <class V>
constexpr int kLanesOf = sizeof(V) / sizeof(V{}[0]);
template <class V>
using LanesOf = std::make_integer_sequence<int, kLanesOf<V>>;

// Exchanges groups of W lanes between two vectors. Both the transpose and the lane sums below
// consist of such steps, with W = 1, 2, 4, ...
//   low:  a's lanes with bit W clear; into the others go b's lanes W places to the left
//   high: b's lanes with bit W set;   into the others go a's lanes W places to the right
template <int W, class V, int... I>
ACDC_INLINE V exchange_low(const V& a, const V& b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, ((I & W) ? kLanesOf<V> + I - W : I)...);
}
template <int W, class V, int... I>
ACDC_INLINE V exchange_high(const V& a, const V& b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, ((I & W) ? kLanesOf<V> + I : I + W)...);
}

// Transposes a square of as many vectors as they have lanes, in place.
template <int W = 1, class V>
ACDC_INLINE void transpose(V* v) {
  if constexpr (W < kLanesOf<V>) {
    ACDC_UNROLL
    for (int i = 0; i < kLanesOf<V>; i++) {
      if ((i & W) == 0) {
        const V a = v[i], b = v[i + W];
        v[i] = exchange_low<W>(a, b, LanesOf<V>{});
        v[i + W] = exchange_high<W>(a, b, LanesOf<V>{});
      }
    }
    transpose<2 * W>(v);
  }
}

// Lane i of the result is the sum of the lanes of v[i]. Overwrites v.
template <int W = 1, class V>
ACDC_INLINE V lane_sums(V* v) {
  if constexpr (W == kLanesOf<V>) {
    return v[0];
  } else {
    ACDC_UNROLL
    for (int i = 0; i < kLanesOf<V> / W; i += 2) {
      v[i / 2] = exchange_low<W>(v[i], v[i + 1], LanesOf<V>{}) +
                 exchange_high<W>(v[i], v[i + 1], LanesOf<V>{});
    }
    return lane_sums<2 * W>(v);
  }
}

// The sum of a vector's halves; the vector itself if V is as long.
template <class V, class T>
ACDC_INLINE V sum_of_halves(const Vector<T>& vector) {
  V sum;
  std::memcpy(&sum, &vector, sizeof(V));
  if constexpr (sizeof(V) < sizeof(vector)) {
    V upper;
    std::memcpy(&upper, reinterpret_cast<const char*>(&vector) + sizeof(V), sizeof(V));
    sum += upper;
  }
  return sum;
}

// sums[i] += the sum of the lanes of rows[i].
template <class T>
void add_lane_sums(const Vector<T>* rows, int count, T* sums) {
  using V = typename VectorOf<T>::to_sum;
  constexpr int kWidth = kLanesOf<V>;
  int i = 0;
  for (; i + kWidth <= count; i += kWidth) {
    V v[kWidth], before;
    ACDC_UNROLL
    for (int j = 0; j < kWidth; j++) v[j] = sum_of_halves<V, T>(rows[i + j]);
    std::memcpy(&before, sums + i, sizeof(V));
    before += lane_sums(v);
    std::memcpy(sums + i, &before, sizeof(V));
  }
  for (; i < count; i++) {
    const V v = sum_of_halves<V, T>(rows[i]);
    for (int l = 0; l < kWidth; l++) sums[i] += v[l];
  }
}
