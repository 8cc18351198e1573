// The FFT plan: how a transform of N channels is cut into passes, and its tables. It depends on the
// length and on the width of a row alone, is built once for each and kept.
//
// A DCT of N real numbers is an FFT of the same length: reorder (even channels upwards, then odd
// channels downwards; Makhoul 1980), FFT, multiply the k-th value by exp(-i pi k / 2N). Here the
// forward FFT decimates in frequency (natural order in, digit-reversed order out) and the inverse
// one in time (digit-reversed order in, natural order out), so nothing is reordered between them:
// the spectrum pass, which multiplies the pairs of frequencies (k, N - k) by D, only needs to know
// where each frequency lies.
#pragma once

#include <cstdint>
#include <vector>

namespace acdc {

// In the forward FFT a stage cuts a block of `length` rows into `radix` blocks of `span` rows.
struct Stage {
  int radix;
  int length;
  int span;
  int twiddles;  // where its factors begin in FftPlan::twiddles
};

// Two blocks whose frequencies are each other's mirror images, k and N - k. The spectrum pass does
// the last stage of the forward FFT, the product with D and the first stage of the inverse on both.
struct MirrorBlocks {
  int32_t first, second;  // first rows; equal where a block is its own mirror image
  int32_t has_zero;       // 1 for the block that holds frequency 0
};

// How D acts on one pair of frequencies. V_k is turned by the angle pi k / 2N, its real part is
// multiplied by d_k and its imaginary part by d_{N-k}, and it is turned back: a symmetric 2 x 2
// matrix, whose entries are products of the two factors with cos^2, sin^2 and cos sin of the angle.
struct PairAngles {
  int32_t k, mirror;  // equal where a frequency is its own mirror image (0 and N / 2)
  double cos2, sin2, cos_sin;
};

enum class Step : int32_t { kForward, kSpectrum, kInverse };

// One step of the programme that a layer runs between its first and its last pass.
struct Instruction {
  Step step;
  int32_t stage;         // kForward, kInverse
  int32_t row, blocks;   // kForward, kInverse: that many blocks from this row on
  int32_t mirror, count; // kSpectrum: that many MirrorBlocks from this one on
  int32_t pair;          // kSpectrum: the first of their pairs in FftPlan::pairs
  int32_t pair_count;
};

template <class T>
struct FftPlan {
  int n = 0;
  int rows = 0;  // rows of a tile in memory: n and some padding
  // The stages of the forward FFT, longest blocks first. The first pass does the first one,
  // kSpectrum the last one and kForward those between; a length of a single radix has only the last
  // one.
  std::vector<Stage> stages;
  std::vector<Instruction> programme;
  std::vector<MirrorBlocks> mirrors;
  std::vector<PairAngles> pairs;
  std::vector<T> twiddles;  // cos, sin, cos, sin ...
  // The row of each channel in a tile that holds a layer's input or output.
  std::vector<int32_t> row_of_channel;
  // For the FFT's i-th input: the channel that it is, for A, and that channel's row in a tile.
  std::vector<int32_t> input_channel, input_row;
  int max_pairs = 0;  // the most pairs of one kSpectrum instruction
};

// Whether n is from 1 to 2^20 and has only the prime factors 2, 3, 5 and 7.
bool fft_plan_exists(int64_t n);

// The FFT plan for n channels; `row_bytes` is the size of one row of a tile. fft_plan_exists(n)
// must hold. Throws std::bad_alloc. The reference stays valid for the life of the process.
template <class T>
const FftPlan<T>& get_fft_plan(int n, int row_bytes);

}  // namespace acdc
