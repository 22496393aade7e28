// The kernels, compiled once per instruction set with NASOPT_ISA naming its namespace; see kernels.h.
#include "kernels.h"

#include <cmath>

#include "vector.h"

namespace nasopt {
namespace {

// ---- Convolutions ---------------------------------------------------------------------------------------

// What becomes of a sum: activated, or left for it; multiplied by a slope, stored or of a value.
enum class Finish { none, relu, stored, relu_slope, sigmoid_slope, tanh_slope };
constexpr bool is_forward(Finish finish) { return finish <= Finish::relu; }

template <Finish F>
INLINE Vector finish(Vector sum, const float* at) {
  if constexpr (F == Finish::none) return sum;
  if constexpr (F == Finish::relu) return max(0.0f, sum);
  const Vector y = load(at);
  if constexpr (F == Finish::relu_slope) return y > 0.0f ? sum : Vector{};
  if constexpr (F == Finish::sigmoid_slope) return sum * (y - y * y);
  if constexpr (F == Finish::tanh_slope) return sum * (1.0f - y * y);
  return sum * y;
}

// Calls body(the backward Finish of a slope, as a constant).
template <Finish F>
struct Constant {
  static constexpr Finish value = F;
};
template <typename Body>
INLINE void with_slope(Slope slope, const Body& body) {
  switch (slope) {
    case Slope::relu: return body(Constant<Finish::relu_slope>{});
    case Slope::sigmoid: return body(Constant<Finish::sigmoid_slope>{});
    case Slope::tanh: return body(Constant<Finish::tanh_slope>{});
    default: return body(Constant<Finish::stored>{});
  }
}

// FB filters at XB neighbouring output pixels: FB * XB * 2 accumulators stay in registers over all taps.
template <int FB, int XB, Finish F>
INLINE void convolve_tile(const Conv& a, const float* in, float* out, const float* weights, const float* bias) {
  constexpr int kPixel = XB * 2;  // the vectors of XB pixels
  Vector sum[FB * kPixel];
  repeat<FB * kPixel>(UNROLLED(i) { sum[i] = is_forward(F) ? splat(bias[i / kPixel]) : Vector{}; });
  for (int t = 0; t < a.n_taps; t++) {
    const float* pixel = in + a.offsets[t];
    const auto value = UNROLLED(i) { return load(pixel + i / 2 * a.in_strides.col + i % 2 * kVector); };
    const auto weight = UNROLLED(f) { return splat(weights[t * FB + f]); };
    // The fewer operands stay in registers, the others pass through one: 16 registers hold it all.
    if constexpr (FB <= kPixel) {
      Vector kept[FB];
      repeat<FB>(UNROLLED(f) { kept[f] = weight(f); });
      repeat<kPixel>(UNROLLED(i) {
        const Vector passing = value(i);
        repeat<FB>(UNROLLED(f) { sum[f * kPixel + i] += kept[f] * passing; });
      });
    } else {
      Vector kept[kPixel];
      repeat<kPixel>(UNROLLED(i) { kept[i] = value(i); });
      repeat<FB>(UNROLLED(f) {
        const Vector passing = weight(f);
        repeat<kPixel>(UNROLLED(i) { sum[f * kPixel + i] += passing * kept[i]; });
      });
    }
  }
  repeat<FB * kPixel>(UNROLLED(i) {
    float* to = out + i / kPixel * a.out_strides.plane + i % kPixel / 2 * a.out_strides.col + i % 2 * kVector;
    store(to, finish<F>(sum[i], to + a.to_slope));
  });
}

template <int FB, int MaxXB, Finish F>
INLINE void convolve_row(const Conv& a, const float* in, float* out, const float* weights, const float* bias) {
  for (int x = 0, n; x < a.cols; x += n) {
    n = next_block(a.cols - x, MaxXB);
    const float* from = in + x * a.in_strides.col;
    float* to = out + x * a.out_strides.col;
    if (MaxXB >= 4 && n == 4) convolve_tile<FB, MaxXB >= 4 ? 4 : 1, F>(a, from, to, weights, bias);
    else if (MaxXB >= 3 && n == 3) convolve_tile<FB, MaxXB >= 3 ? 3 : 1, F>(a, from, to, weights, bias);
    else if (MaxXB >= 2 && n == 2) convolve_tile<FB, MaxXB >= 2 ? 2 : 1, F>(a, from, to, weights, bias);
    else convolve_tile<FB, 1, F>(a, from, to, weights, bias);
  }
}

template <Finish F>
INLINE void convolve(const Conv& a, int y) {
  const float* in = a.in + y * a.in_strides.row;
  const float* weights = a.weights;
  for (int f = 0, n; f < a.n_filters; f += n) {
    n = next_block(a.n_filters - f, kMaxFilters);
    float* out = a.out + f * a.out_strides.plane + y * a.out_strides.row;
    const float* bias = is_forward(F) ? a.bias + f : nullptr;
    // Fewer filters, more columns: eight accumulators or more hide the latency of a multiply-add.
    switch (n) {
      case 1: convolve_row<1, 4, F>(a, in, out, weights, bias); break;
      case 2: convolve_row<2, 3, F>(a, in, out, weights, bias); break;
      case 3: convolve_row<3, 2, F>(a, in, out, weights, bias); break;
      case 4: convolve_row<4, 1, F>(a, in, out, weights, bias); break;
      case 5: convolve_row<5, 1, F>(a, in, out, weights, bias); break;
      default: convolve_row<6, 1, F>(a, in, out, weights, bias); break;
    }
    weights += static_cast<std::int64_t>(n) * a.n_taps;
  }
}

// Kernels copy their arguments: stores through float pointers might change what a reference names.
void backward(const Conv& arguments) {
  const Conv a = arguments;
  with_slope(a.slope, [&](auto constant) __attribute__((always_inline)) {
    for (int y = 0; y < a.rows; y++) convolve<decltype(constant)::value>(a, y);
  });
}

// ---- Activations ----------------------------------------------------------------------------------------

template <Activation A, typename V>
INLINE V activation(const V& x, V& slope) {
  if constexpr (A == Activation::sigmoid) return sigmoid(x);
  if constexpr (A == Activation::tanh) return tanh(x);
  if constexpr (A == Activation::gelu) return gelu(x, slope);
  const V s = sigmoid(x), y = x * s;
  slope = s + y * (1.0f - s);
  return y;
}

// A run of pixels to activate in place: from pixel to pixel, steps in floats. Slopes are stored where there is a place.
struct Run {
  float* values;
  float* slopes;
  std::int64_t step, slope_step;
};

template <Activation A, int Pixels>
INLINE void activate_pixels(const Run& run, int first) {
  constexpr int N = 2 * Pixels;
  float* values = run.values + first * run.step;
  Pack<N> x, slope;
  repeat<N>(UNROLLED(i) { x.v[i] = load(values + i / 2 * run.step + i % 2 * kVector); });
  const Pack<N> y = activation<A>(x, slope);
  repeat<N>(UNROLLED(i) { store(values + i / 2 * run.step + i % 2 * kVector, y.v[i]); });
  if (slope_of(A) != Slope::stored || !run.slopes) return;
  float* slopes = run.slopes + first * run.slope_step;
  repeat<N>(UNROLLED(i) { store(slopes + i / 2 * run.slope_step + i % 2 * kVector, slope.v[i]); });
}

template <Activation A>
void activate(const Run& arguments, int n) {
  const Run run = arguments;
  constexpr int kPixels = A == Activation::tanh ? 2 : 3;  // as many as 16 registers bear
  int i = 0;
  for (; i + kPixels <= n; i += kPixels) activate_pixels<A, kPixels>(run, i);
  if (n - i == 2) activate_pixels<A, 2>(run, i);
  if (n - i == 1) activate_pixels<A, 1>(run, i);
}

using Activate = void (*)(const Run&, int);
constexpr Activate kActivate[kActivations] = {nullptr, activate<Activation::sigmoid>, activate<Activation::tanh>,
                                              activate<Activation::swish>, activate<Activation::gelu>};

void forward(const Conv& arguments, const Epilogue& e) {
  const Conv a = arguments;
  if (e.activation == Activation::relu) {
    for (int y = 0; y < a.rows; y++) convolve<Finish::relu>(a, y);
    return;
  }
  const Activate act = kActivate[static_cast<int>(e.activation)];
  for (int y = 0; y < a.rows; y++) {  // a row's sums are activated while they are in the first cache
    convolve<Finish::none>(a, y);
    const auto slopes = [&](int f) {
      return e.slope ? e.slope + f * e.slope_strides.plane + y * e.slope_strides.row : nullptr;
    };
    float* out = a.out + y * a.out_strides.row;
    if (a.cols == 1) {
      act({out, slopes(0), a.out_strides.plane, e.slope_strides.plane}, a.n_filters);
      continue;
    }
    for (int f = 0; f < a.n_filters; f++)
      act({out + f * a.out_strides.plane, slopes(f), a.out_strides.col, e.slope_strides.col}, a.cols);
  }
}

// ---- Gradients of weights -------------------------------------------------------------------------------

constexpr int most_taps(int filters) { return filters == 1 ? 8 : filters == 2 ? 6 : filters == 3 ? 4 : 3; }

// Whether a tile has registers for the biases' sums too, as one tap more.
constexpr bool has_room(int filters, int taps) { return filters * (taps + 1) <= 12; }

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
  for (std::int64_t i = 0; i < n; i++) {
    float part[kVector];
    for (int j = 0; j < kVector; j++) part[j] = sums[i * kVector + j];
    for (int half = kVector / 2; half; half /= 2)
      for (int j = 0; j < half; j++) part[j] += part[j + half];
    gradient[i] = part[0];
  }
}

void adamw(const AdamW& a, const float* __restrict gradient, float* __restrict weight, float* __restrict mean,
           float* __restrict square, std::int64_t n) {
  const float rest1 = 1 - a.beta1, rest2 = 1 - a.beta2;
  for (std::int64_t i = 0; i < n; i++) {
    const float g = gradient[i];
    const float m = mean[i] + rest1 * (g - mean[i]);
    const float s = a.beta2 * square[i] + rest2 * g * g;
    mean[i] = m;
    square[i] = s;
    weight[i] = weight[i] * a.decay - a.step_size * m / (sqrtf(s) / a.root_bias2 + a.eps);
  }
}

// ---- The head -------------------------------------------------------------------------------------------

void pool(const Maps& m, float* means, std::int64_t means_plane) {
  const float share = 1.0f / (static_cast<float>(m.rows) * static_cast<float>(m.cols));
  for (int c = 0; c < m.channels; c++) {
    Vector sum0 = {}, sum1 = {};
    for (int y = 0; y < m.rows; y++) {
      const float* row = m.values + c * m.strides.plane + y * m.strides.row;
      for (int x = 0; x < m.cols; x++, row += m.strides.col) {
        sum0 += load(row);
        sum1 += load(row + kVector);
      }
    }
    store(means + c * means_plane, sum0 * share);
    store(means + c * means_plane + kVector, sum1 * share);
  }
}

void unpool(const Maps& m, Slope slope, const float* means_delta, std::int64_t means_plane) {
  const float share = 1.0f / (static_cast<float>(m.rows) * static_cast<float>(m.cols));
  with_slope(slope, [&](auto constant) __attribute__((always_inline)) {
    for (int c = 0; c < m.channels; c++) {
      const Vector d0 = load(means_delta + c * means_plane) * share;
      const Vector d1 = load(means_delta + c * means_plane + kVector) * share;
      for (int y = 0; y < m.rows; y++) {
        float* row = m.values + c * m.strides.plane + y * m.strides.row;
        for (int x = 0; x < m.cols; x++, row += m.strides.col) {
          store(row, finish<decltype(constant)::value>(d0, row));
          store(row + kVector, finish<decltype(constant)::value>(d1, row + kVector));
        }
      }
    }
  });
}

// Writes the exponentials of the logits less their maximum; gives these, their sums and the predicted classes.
INLINE void softmax(const Logits& a, float* top, float* total, float* best) {
  for (int v = 0; v < kLanes; v += kVector) {
    Vector max = load(a.values + v), index = {};
    for (int k = 1; k < a.n_classes; k++) {
      const Vector x = load(a.values + k * a.plane + v);
      index = x > max ? splat(static_cast<float>(k)) : index;  // ties go to the first, as in torch
      max = x > max ? x : max;
    }
    Vector sum = {};
    for (int k = 0; k < a.n_classes; k++) {
      const Vector e = exp(Pack<1>{load(a.values + k * a.plane + v) - max}).v[0];
      store(a.probabilities + k * kLanes + v, e);
      sum += e;
    }
    store(top + v, max);
    store(best + v, index);
    store(total + v, sum);
  }
}

Loss loss(const Logits& a, const std::int32_t* labels, int n_valid, std::int32_t* classes) {
  alignas(Vector) float top[kLanes], total[kLanes], best[kLanes];
  softmax(a, top, total, best);
  Loss result = {0.0, 0};
  for (int i = 0; i < n_valid; i++) {
    const int predicted = static_cast<int>(best[i]);
    result.sum += logf(total[i]) + (top[i] - a.values[labels[i] * a.plane + i]);
    result.n_correct += predicted == labels[i];
    if (classes) classes[i] = predicted;
  }
  if (!a.delta) return result;
  for (int i = 0; i < kLanes; i++) total[i] = i < n_valid ? a.scale / total[i] : 0.0f;
  for (int k = 0; k < a.n_classes; k++)
    for (int v = 0; v < kLanes; v += kVector) {
      float* p = a.probabilities + k * kLanes + v;
      store(p, load(p) * load(total + v));
    }
  for (int i = 0; i < n_valid; i++) a.probabilities[labels[i] * kLanes + i] -= a.scale;
  const float* slopes = a.slope == Slope::stored ? a.delta : a.values;
  with_slope(a.slope, [&](auto constant) __attribute__((always_inline)) {
    for (int k = 0; k < a.n_classes; k++)
      for (int v = 0; v < kLanes; v += kVector)
        store(a.delta + k * a.plane + v,
              finish<decltype(constant)::value>(load(a.probabilities + k * kLanes + v), slopes + k * a.plane + v));
  });
  return result;
}

// ---- Input ----------------------------------------------------------------------------------------------

constexpr float kByteScale = 1.0f / 255.0f;

// Eight bytes, in words, to floats from 0 to 1: 2^23 + b is a float whose lowest bits are b.
INLINE void store_scaled(float* to, Words8 bytes) {
  constexpr Words8 kExponent = {0x4b00, 0x4b00, 0x4b00, 0x4b00, 0x4b00, 0x4b00, 0x4b00, 0x4b00};
  const Words8 halves[2] = {interleave_low(bytes, kExponent), interleave_high(bytes, kExponent)};
  repeat<2>(UNROLLED(i) {
    reinterpret_cast<Floats4*>(to)[i] = (reinterpret_cast<const Floats4&>(halves[i]) - 8388608.0f) * kByteScale;
  });
}

// 16 pixels of 8 images, transposed by three rounds of interleaving: 16 images would not fit 16 registers.
INLINE void load_block(const std::uint8_t* const* images, std::int64_t pixel, float* const* to, int lane) {
  constexpr int kBlock = 8;
  Bytes16 a[kBlock], b[kBlock];
  repeat<kBlock>(UNROLLED(i) { __builtin_memcpy(&a[i], images[lane + i] + pixel, 16); });
  repeat<3>([&](int) __attribute__((always_inline)) {
    repeat<kBlock / 2>(UNROLLED(i) {
      b[2 * i] = interleave_low(a[i], a[i + kBlock / 2]);
      b[2 * i + 1] = interleave_high(a[i], a[i + kBlock / 2]);
    });
    repeat<kBlock>(UNROLLED(i) { a[i] = b[i]; });
  });
  repeat<kBlock>(UNROLLED(i) {  // two pixels of 8 images each
    store_scaled(to[2 * i] + lane, words(interleave_low(a[i], Bytes16{})));
    store_scaled(to[2 * i + 1] + lane, words(interleave_high(a[i], Bytes16{})));
  });
}

void load_images(Pixels pixels, const std::int64_t* index, int n_valid, const Maps& map) {
  const std::int64_t n = static_cast<std::int64_t>(map.channels) * map.rows * map.cols;
  const std::int64_t row_gap = map.strides.row - map.cols * kLanes, plane_gap = map.strides.plane - map.rows * map.strides.row;
  float* at = map.values;
  int x = 0, y = 0;
  const auto next_pixel = [&] {
    float* here = at;
    at += kLanes;
    if (++x == map.cols) x = 0, y++, at += row_gap;
    if (y == map.rows) y = 0, at += plane_gap;
    return here;
  };
  const auto image = [&](int lane) { return index[lane < n_valid ? lane : n_valid - 1] * n; };
  if (pixels.bytes) {
    constexpr int kBlock = 16;
    const std::uint8_t* images[kLanes];
    for (int i = 0; i < kLanes; i++) images[i] = pixels.bytes + image(i);
    std::int64_t p = 0;
    for (; p + kBlock <= n; p += kBlock) {
      float* to[kBlock];
      for (float*& pixel : to) pixel = next_pixel();
      for (int lane = 0; lane < kLanes; lane += 8) load_block(images, p, to, lane);
    }
    for (; p < n; p++) {
      float* to = next_pixel();
      for (int i = 0; i < kLanes; i++) to[i] = images[i][p] * kByteScale;
    }
  } else {
    const float* images[kLanes];
    for (int i = 0; i < kLanes; i++) images[i] = pixels.floats + image(i);
    for (std::int64_t p = 0; p < n; p++) {
      float* to = next_pixel();
      for (int i = 0; i < kLanes; i++) to[i] = images[i][p];
    }
  }
}

// ---- Peak -----------------------------------------------------------------------------------------------

void multiply_adds(std::int64_t n_loops, float* out) {
  Vector sum[kPeakChains];
  repeat<kPeakChains>(UNROLLED(i) { sum[i] = splat(out[i]); });
  const Vector factor = splat(out[0]), term = splat(out[1]);
  for (std::int64_t n = 0; n < n_loops; n++)
    repeat<kPeakChains>(UNROLLED(i) { sum[i] = sum[i] * factor + term; });
  repeat<kPeakChains>(UNROLLED(i) { out[i] = sum[i][0]; });
}

}  // namespace

namespace NASOPT_ISA {
#define NASOPT_TEXT_(x) #x
#define NASOPT_TEXT(x) NASOPT_TEXT_(x)
extern const Kernels kernels = {NASOPT_TEXT(NASOPT_ISA), kLanes, kVector, forward, backward, weight_gradient, pool,
                                unpool, loss, load_images, reduce, adamw, multiply_adds};
}  // namespace NASOPT_ISA

}  // namespace nasopt
