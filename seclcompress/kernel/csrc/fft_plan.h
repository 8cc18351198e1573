// What depends on the length alone: how a transform of N channels is cut into passes, and its
// tables. Built once for each length and kept.
//
// A DCT of N real numbers is an FFT of the same length: reorder (even channels upwards, then odd
// channels downwards; Makhoul 1980), FFT, turn the k-th value by exp(-i pi k / 2N). Here the
// forward FFT decimates in frequency (natural order in, digit-reversed order out) and the inverse
// one in time (the reverse), so nothing is ever reordered: what happens between the two, on the
// pairs of frequencies (k, N - k), only needs to know where each frequency lies.
#pragma once

#include <cstdint>
#include <vector>

namespace acdc {

// Forward, a block of `length` rows is cut into `radix` blocks of `span` rows.
struct Stage {
  int radix;
  int length;
  int span;
  int twiddles;  // where its factors begin in FftPlan::twiddles
};

// Two blocks whose frequencies are each other's mirror images, k and N - k: the last stage of the
// forward FFT, the product with D and the first stage of the inverse are one pass over them.
struct MirrorBlocks {
  int32_t first, second;  // first rows; equal where a block is its own mirror image
  int32_t has_zero;       // 1 for the block that holds frequency 0
};

// How D acts on one pair of frequencies: with angle = pi k / 2N the factors of (k, N - k) become
// a symmetric 2 x 2 matrix made of their products with cos^2, sin^2 and cos sin.
struct PairAngles {
  int32_t k, mirror;  // equal where a frequency is its own mirror image (0 and N / 2)
  double cos2, sin2, cos_sin;
};

enum class Step : int32_t { kForward, kSpectrum, kInverse };

// One entry of the programme that a layer runs between its first and its last pass.
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
  // The stages of the forward FFT, longest blocks first. The last is done in kSpectrum.
  std::vector<Stage> stages;
  std::vector<Instruction> programme;
  std::vector<MirrorBlocks> mirrors;
  std::vector<PairAngles> pairs;
  std::vector<T> twiddles;  // cos, sin, cos, sin ...
  // Where the channel lies in a tile that holds a layer's input (and output).
  std::vector<int32_t> row_of_channel;
  // For the FFT's n-th input: the channel whose factor of A it takes, and the row of a tile.
  std::vector<int32_t> input_channel, input_row;
  int max_pairs = 0;  // the longest kSpectrum instruction
};

// Whether n has only the factors 2, 3, 5 and 7, and is in range.
bool fft_plan_exists(int64_t n);

// The FFT plan for n channels; `row_bytes` is what one row of a tile takes. fft_plan_exists(n) must hold.
// Throws std::bad_alloc. The reference stays valid for ever.
template <class T>
const FftPlan<T>& get_fft_plan(int n, int row_bytes);

}  // namespace acdc
