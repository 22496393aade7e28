// Part of kernels.cpp: gradients of weights and biases, and the optimizer's step with them.
#pragma once

#include <cmath>

#include "kernels.h"
#include "vector.h"

namespace nasopt {
namespace {

#if defined(__AVX512F__)  // 32 registers
constexpr int kMostSums = 24;
constexpr int most_taps(int filters) { return filters <= 2 ? 8 : filters == 3 ? 7 : 5; }
#else
constexpr int kMostSums = 12;
constexpr int most_taps(int filters) { return filters == 1 ? 8 : filters == 2 ? 6 : filters == 3 ? 4 : 3; }
#endif

// Whether a tile has registers for the biases' sums too, as one tap more.
constexpr bool has_room(int filters, int taps) { return filters * (taps + 1) <= kMostSums; }

// FB filters by TB taps over the rows [y, end): FB * TB accumulators stay in registers.
template <int FB, int TB, bool kBias>
INLINE void weight_tile(const WeightGradient& a, int f, int t, int y, int end) {
  float* sums = a.sums + (static_cast<std::int64_t>(f) * a.n_taps + t) * kVector;
  const std::int64_t next_filter = static_cast<std::int64_t>(a.n_taps) * kVector;
  Vector sum[FB * TB];
  repeat<FB * TB>(UNROLLED(i) { sum[i] = load(sums + i / TB * next_filter + i % TB * kVector); });
  Vector bias[FB];
  if constexpr (kBias) repeat<FB>(UNROLLED(i) { bias[i] = load(a.bias_sums + (f + i) * kVector); });
  const float* in[TB];
  repeat<TB>(UNROLLED(j) { in[j] = a.in + a.offsets[t + j]; });
  for (; y < end; y++) {
    const float* delta = a.delta + f * a.delta_strides.plane + y * a.delta_strides.row;
    std::int64_t at = y * a.in_strides.row;
    for (int x = 0; x < a.cols; x++, at += a.in_strides.col, delta += a.delta_strides.col)
      repeat<2>(UNROLLED(v) {
        Vector values[TB];
        repeat<TB>(UNROLLED(j) { values[j] = load(in[j] + at + v * kVector); });
        repeat<FB>(UNROLLED(i) {
          const Vector d = load(delta + i * a.delta_strides.plane + v * kVector);
          repeat<TB>(UNROLLED(j) { sum[i * TB + j] += d * values[j]; });
          if constexpr (kBias) bias[i] += d;
        });
      });
  }
  repeat<FB * TB>(UNROLLED(i) { store(sums + i / TB * next_filter + i % TB * kVector, sum[i]); });
  if constexpr (kBias) repeat<FB>(UNROLLED(i) { store(a.bias_sums + (f + i) * kVector, bias[i]); });
}

template <int FB, int TB>
INLINE void weight_tile(const WeightGradient& a, int f, int t, int y, int end) {
  if constexpr (TB > most_taps(FB)) return;
  else if (has_room(FB, TB) && t == 0) weight_tile<FB, TB, has_room(FB, TB)>(a, f, t, y, end);
  else weight_tile<FB, TB, false>(a, f, t, y, end);
}

template <int FB>
INLINE void weight_tiles(const WeightGradient& a, int f, int y, int end) {
  for (int t = 0, n; t < a.n_taps; t += n) {
    n = next_block(a.n_taps - t, most_taps(FB));
    switch (n) {
      case 1: weight_tile<FB, 1>(a, f, t, y, end); break;
      case 2: weight_tile<FB, 2>(a, f, t, y, end); break;
      case 3: weight_tile<FB, 3>(a, f, t, y, end); break;
      case 4: weight_tile<FB, 4>(a, f, t, y, end); break;
      case 5: weight_tile<FB, 5>(a, f, t, y, end); break;
      case 6: weight_tile<FB, 6>(a, f, t, y, end); break;
      case 7: weight_tile<FB, 7>(a, f, t, y, end); break;
      default: weight_tile<FB, 8>(a, f, t, y, end); break;
    }
  }
}

void bias_gradient(const WeightGradient& a, int f, int y, int end) {
  Vector sum[4] = {load(a.bias_sums + f * kVector)};
  for (; y < end; y++) {
    const float* delta = a.delta + f * a.delta_strides.plane + y * a.delta_strides.row;
    int x = 0;
    for (; x + 2 <= a.cols; x += 2) repeat<4>(UNROLLED(v) { sum[v] += load(delta + x * kLanes + v * kVector); });
    if (x < a.cols) repeat<2>(UNROLLED(v) { sum[v] += load(delta + x * kLanes + v * kVector); });
  }
  store(a.bias_sums + f * kVector, (sum[0] + sum[1]) + (sum[2] + sum[3]));
}

void weight_gradient(const WeightGradient& arguments) {
  const WeightGradient a = arguments;
  // Groups of rows small enough that all tiles of a group find them in the second cache.
  constexpr std::int64_t kGroupBytes = 200 * 1024;
  const std::int64_t channels = (a.n_taps + 8) / 9;  // a guess: most kernels are 3 x 3
  const std::int64_t row_bytes = (a.n_filters * a.delta_strides.row + channels * a.in_strides.row) * 4;
  const int group = static_cast<int>(kGroupBytes / row_bytes) + 1;
  for (int y = 0; y < a.rows; y += group) {
    const int end = y + group < a.rows ? y + group : a.rows;
    for (int f = 0, n; f < a.n_filters; f += n) {
      n = next_block(a.n_filters - f, 4);
      switch (n) {
        case 1: weight_tiles<1>(a, f, y, end); break;
        case 2: weight_tiles<2>(a, f, y, end); break;
        case 3: weight_tiles<3>(a, f, y, end); break;
        default: weight_tiles<4>(a, f, y, end); break;
      }
      if (has_room(n, next_block(a.n_taps, most_taps(n)))) continue;
      for (int i = f; i < f + n; i++) bias_gradient(a, i, y, end);
    }
  }
}

void reduce(const float* sums, float* gradient, std::int64_t n) {
  for (std::int64_t i = 0; i < n; i++) gradient[i] = sum_of(load(sums + i * kVector));
}

void adamw(const AdamW& a, const float* __restrict gradient, float* __restrict weight, float* __restrict mean,
           float* __restrict square, std::int64_t n) {
  for (std::int64_t i = 0; i < n; i++) {
    const float g = gradient[i];
    const float m = mean[i] + a.rest1 * (g - mean[i]);
    const float s = a.beta2 * square[i] + a.rest2 * g * g;
    mean[i] = m;
    square[i] = s;
    weight[i] = weight[i] * a.decay - a.step_size * m / (sqrtf(s) / a.root_bias2 + a.eps);
  }
}

}  // namespace
}  // namespace nasopt
