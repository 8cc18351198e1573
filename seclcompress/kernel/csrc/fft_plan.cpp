#include "fft_plan.h"

#include <cmath>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "threads.h"

namespace acdc {
namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr int kMaxLength = 1 << 20;
// Two mirror blocks that together take at most this many bytes go through all their stages, there
// and back, before the next two are touched: they stay in the first-level cache (32 KiB and more).
constexpr int kCacheBytes = 16 * 1024;
// Rows of padding between the blocks of the first stage. Without it, rows that one butterfly
// reads lie a power of two apart and fall into the same cache set.
constexpr int kPadding = 1;

// Radices of the forward FFT, in the order of its stages. The last one is small because the
// spectrum pass holds two butterflies in registers at once. Stages of 8 take a third fewer passes
// over memory than stages of 4.
std::vector<int> choose_radices(int n) {
  int twos = 0;
  std::vector<int> odd;
  for (; n % 2 == 0; n /= 2) twos++;
  for (int p : {7, 5, 3}) {
    for (; n % p == 0; n /= p) odd.push_back(p);
  }
  int last = 1;
  if (twos >= 2) {
    last = 4;
    twos -= 2;
  } else if (twos == 1) {
    last = 2;
    twos = 0;
  } else if (!odd.empty()) {
    last = odd.back();
    odd.pop_back();
  }
  std::vector<int> radices;
  // 2^twos as eights and fours, with a single two only if neither divides the rest.
  for (; twos >= 5 || twos == 3; twos -= 3) radices.push_back(8);
  for (; twos >= 2; twos -= 2) radices.push_back(4);
  if (twos == 1) radices.push_back(2);
  radices.insert(radices.end(), odd.begin(), odd.end());
  radices.push_back(last);
  return radices;
}

// Builds an FFT plan. Blocks are named by their first row and by the frequencies that they hold
// once they are transformed: all k = f modulo m. The whole tile is the block with f = 0 and m = 1.
template <class T>
class Builder {
 public:
  Builder(int n, int row_bytes) : cache_rows_(kCacheBytes / row_bytes) {
    plan_.n = n;
    int length = n;
    for (int radix : choose_radices(n)) {
      add_stage(radix, length);
      length /= radix;
    }
    top_span_ = plan_.stages.front().span;
    const bool single = plan_.stages.size() == 1;
    plan_.rows = single ? n : n + (plan_.stages.front().radix - 1) * kPadding;
    add_channel_order();
    if (single) {
      add_pass(0, 0, 0, 0, 1);
    } else {
      add_children(0, 0, 0, 0, 1, top_span_ + kPadding);
    }
  }

  std::unique_ptr<FftPlan<T>> take() { return std::make_unique<FftPlan<T>>(std::move(plan_)); }

 private:
  // The stage that cuts blocks of `length` rows into `radix` blocks, with its twiddle factors
  // exp(-2 pi i j m / length) for row j of child block m.
  void add_stage(int radix, int length) {
    const int span = length / radix;
    plan_.stages.push_back({radix, length, span, static_cast<int>(plan_.twiddles.size())});
    for (int j = 0; j < span; j++) {
      for (int m = 1; m < radix; m++) {
        const int64_t power = static_cast<int64_t>(j) * m % length;
        const double angle = -2 * kPi * static_cast<double>(power) / length;
        plan_.twiddles.push_back(static_cast<T>(std::cos(angle)));
        plan_.twiddles.push_back(static_cast<T>(std::sin(angle)));
      }
    }
  }

  // Where a row of the transform lies in a tile, with the padding between the first stage's blocks.
  int padded(int row) const {
    return plan_.stages.size() == 1 ? row : row + row / top_span_ * kPadding;
  }

  // A tile between two layers holds channel c where the inverse FFT of a layer leaves it: row i is
  // the i-th value in Makhoul's order before the riffle. Loading uses the same order, so all layers
  // are alike, and the first pass does riffle and reordering by one index, input_row.
  void add_channel_order() {
    const int n = plan_.n, half = (n + 1) / 2;
    std::vector<int> row_of_output(n);  // where the inverse DCT leaves its c-th value
    for (int i = 0; i < n; i++) {
      const int channel = i < half ? 2 * i : 2 * (n - 1 - i) + 1;
      plan_.input_channel.push_back(channel);
      row_of_output[channel] = padded(i);
    }
    for (int c = 0; c < n; c++) {  // the riffle: channel c comes from the first or second half
      plan_.row_of_channel.push_back(row_of_output[c % 2 == 0 ? c / 2 : half + c / 2]);
    }
    for (int i = 0; i < n; i++) {
      plan_.input_row.push_back(plan_.row_of_channel[plan_.input_channel[i]]);
    }
  }

  // Adds the passes over the children of two mirror blocks, after `stage` has cut both. Block a
  // holds the frequencies k = f modulo m, and block b those with k = -f modulo m; a == b if they
  // are the same. Child t of a block then holds k = f + m t modulo m * radix. The child of b that
  // mirrors it is the one at radix - 1 - t, because b begins with the frequency m - f; if f = 0, it
  // is the one at -t modulo radix, of the same block.
  void add_children(int stage, int a, int b, int f, int m, int pitch) {
    const int radix = plan_.stages[stage].radix;
    for (int t = 0; t < radix; t++) {
      int mirror = radix - 1 - t;
      if (f == 0) mirror = t == 0 ? 0 : radix - t;
      if (a == b && mirror < t) continue;  // this pair has been added as (mirror, t)
      add_pass(stage + 1, a + t * pitch, b + mirror * pitch, f + m * t, m * radix);
    }
  }

  // Adds everything from `stage` on, and back, for two mirror blocks: all at once if both fit the
  // cache, else this stage alone, then one pair of children after another, then its inverse.
  void add_pass(int stage, int a, int b, int f, int m) {
    const int last = static_cast<int>(plan_.stages.size()) - 1;
    const int length = plan_.stages[stage].length;
    if (2 * length > cache_rows_ && stage < last) {
      add_stages(Step::kForward, stage, a, b, 1);
      add_children(stage, a, b, f, m, plan_.stages[stage].span);
      add_stages(Step::kInverse, stage, a, b, 1);
      return;
    }
    for (int s = stage; s < last; s++) {
      add_stages(Step::kForward, s, a, b, length / plan_.stages[s].length);
    }
    const int first_mirror = static_cast<int>(plan_.mirrors.size());
    const int first_pair = static_cast<int>(plan_.pairs.size());
    add_mirrors(stage, a, b, f, m);
    const int pair_count = static_cast<int>(plan_.pairs.size()) - first_pair;
    plan_.programme.push_back({Step::kSpectrum, last, 0, 0, first_mirror,
                               static_cast<int>(plan_.mirrors.size()) - first_mirror, first_pair,
                               pair_count});
    if (pair_count > plan_.max_pairs) plan_.max_pairs = pair_count;
    for (int s = last - 1; s >= stage; s--) {
      add_stages(Step::kInverse, s, a, b, length / plan_.stages[s].length);
    }
  }

  // One stage over `blocks` consecutive blocks from row a, and over those from row b.
  void add_stages(Step step, int stage, int a, int b, int blocks) {
    plan_.programme.push_back({step, stage, a, blocks, 0, 0, 0, 0});
    if (a != b) plan_.programme.push_back({step, stage, b, blocks, 0, 0, 0, 0});
  }

  // Lists the mirror blocks of the last stage that two mirror blocks are cut into, by the same rule
  // as add_children.
  void add_mirrors(int stage, int a, int b, int f, int m) {
    const Stage& here = plan_.stages[stage];
    if (stage == static_cast<int>(plan_.stages.size()) - 1) {
      add_leaf(a, b, f, m, here.radix);
      return;
    }
    for (int t = 0; t < here.radix; t++) {
      int mirror = here.radix - 1 - t;
      if (f == 0) mirror = t == 0 ? 0 : here.radix - t;
      if (a == b && mirror < t) continue;
      add_mirrors(stage + 1, a + t * here.span, b + mirror * here.span, f + m * t,
                  m * here.radix);
    }
  }

  // Lists two mirror blocks of the last stage and their pairs of frequencies. After that stage, row
  // t of block a holds frequency f + m t. A frequency that is its own mirror image has cos2 = 2,
  // which cancels the 1/2 that Parameters puts into all matrices.
  void add_leaf(int a, int b, int f, int m, int radix) {
    plan_.mirrors.push_back({a, b, f == 0 ? 1 : 0});
    for (int t = 0; t < radix; t++) {
      const int mirror = f == 0 ? (radix - t) % radix : radix - 1 - t;
      if (a == b && mirror < t) continue;
      const int k = f + m * t;
      if (a == b && mirror == t) {
        plan_.pairs.push_back({k, k, 2.0, 0.0, 0.0});
      } else {
        const double angle = kPi * k / (2.0 * plan_.n);
        const double c = std::cos(angle), s = std::sin(angle);
        plan_.pairs.push_back({k, plan_.n - k, c * c, s * s, c * s});
      }
    }
  }

  FftPlan<T> plan_;
  int cache_rows_;
  int top_span_ = 0;
};

template <class T>
std::map<std::pair<int, int>, std::unique_ptr<FftPlan<T>>>& cache() {
  // Never destroyed: threads may still be at work when the process ends.
  static auto* plans = new std::map<std::pair<int, int>, std::unique_ptr<FftPlan<T>>>;
  return *plans;
}

}  // namespace

bool fft_plan_exists(int64_t n) {
  if (n < 1 || n > kMaxLength) return false;
  for (int p : {2, 3, 5, 7}) {
    while (n % p == 0) n /= p;
  }
  return n == 1;
}

template <class T>
const FftPlan<T>& get_fft_plan(int n, int row_bytes) {
  const std::lock_guard<ForkSafeMutex> lock(plan_mutex());
  std::unique_ptr<FftPlan<T>>& plan = cache<T>()[{n, row_bytes}];
  if (!plan) plan = Builder<T>(n, row_bytes).take();
  return *plan;
}

template const FftPlan<float>& get_fft_plan<float>(int, int);
template const FftPlan<double>& get_fft_plan<double>(int, int);

}  // namespace acdc
