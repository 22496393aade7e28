// The kernels, compiled once per instruction set with NASOPT_ISA naming its namespace; see kernels.h.
#include "kernels.h"

#include <cmath>

#include "pixels.h"
#include "vector.h"
#include "weights.h"

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
  if constexpr (F == Finish::tanh_slope) {
    const Vector slope = 1.0f - y * y;
    return slope > kLeastTanhSlope ? sum * slope : Vector{};
  }
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
