// The kernels of the native engine: what they take, and the table through which they are called.
//
// Images lie batch-innermost, (channels, rows, columns, lanes): a pixel is `lanes` floats, one an image,
// so that every inner loop is a straight vector loop whatever the channels, the kernel or the stride.
// Maps carry a border of zeros as wide as the reader needs; no kernel tests for an edge.
//
// kernels.cpp is compiled once per instruction set and holds nothing with external linkage but its table:
// no standard-library template may be instantiated there, lest the linker pick its AVX copy for everyone.
#pragma once

#include <cstdint>

namespace nasopt {

enum class Activation : int { relu, sigmoid, tanh, swish, gelu };
constexpr int kActivations = 5;

// How the backward kernels get an activation's derivative, the slope: some are functions of the activated value, and
// then gradients take the values' place; the others are stored by `forward`, and gradients take theirs.
enum class Slope : int { stored, relu, sigmoid, tanh };
constexpr Slope slope_of(Activation a) {
  return a == Activation::relu ? Slope::relu : a == Activation::sigmoid ? Slope::sigmoid
         : a == Activation::tanh ? Slope::tanh : Slope::stored;
}

// Steps through a map, in floats.
struct Strides {
  std::int64_t plane, row, col;
};

// A convolution as a sum over taps: out[f][y][x] = bias[f] + sum over t of
// weights[t][f] * in[y * in.row + x * in.col + offsets[t]], all pixels of `lanes` floats.
struct Conv {
  const float* in;
  float* out;
  const float* bias;     // forward only
  const float* weights;  // in blocks of filters (see next_block), each (taps, filters of the block)
  const std::int32_t* offsets;
  int n_taps, n_filters, rows, cols;
  Strides in_strides, out_strides;
  Slope slope;            // backward only
  std::int64_t to_slope;  // backward only: from an output to its slope, or to the value that gives it
};

// Forward only: the activation of the output, and where its slope goes, if it is a stored one (null: not wanted).
struct Epilogue {
  Activation activation;
  float* slope;
  Strides slope_strides;
};

// sums[f][t] += delta[f] . in shifted by offsets[t], bias_sums[f] += sum of delta[f]; a vector each.
struct WeightGradient {
  const float* in;
  const float* delta;
  float* sums;
  float* bias_sums;
  const std::int32_t* offsets;
  int n_taps, n_filters, rows, cols;
  Strides in_strides, delta_strides;
};

struct Pixels {
  const std::uint8_t* bytes;  // one of the two is set
  const float* floats;
};

struct Maps {
  float* values;
  int channels, rows, cols;
  Strides strides;
};

struct Logits {
  const float* values;
  Slope slope;
  float* delta;  // stored slopes on entry, gradients times `scale` on return; null in an evaluation
  float* probabilities;
  std::int64_t plane;  // from class to class, in the first two; a chunk's lanes in the third
  int n_classes;
  float scale;
};

struct Loss {
  double sum;
  int n_correct;
};

struct AdamW {
  float decay, beta2, rest1, rest2, eps, step_size, root_bias2;  // rest: 1 - beta
};

struct Kernels {
  const char* isa;
  int lanes;   // images in a chunk
  int vector;  // floats in a vector
  void (*forward)(const Conv&, const Epilogue&);
  // out = convolution * slope of the layer before.
  void (*backward)(const Conv&);
  void (*weight_gradient)(const WeightGradient&);
  // Means of the maps' pixels; and back, multiplying by the slopes that the maps hold, or whose values they do.
  void (*pool)(const Maps& maps, float* means, std::int64_t means_plane);
  void (*unpool)(const Maps& delta, Slope slope, const float* means_delta, std::int64_t means_plane);
  Loss (*loss)(const Logits&, const std::int32_t* labels, int n_valid, std::int32_t* classes);
  // Lane i shows image index[i] of `pixels`; lanes from n_valid on repeat the last one.
  void (*load_images)(Pixels pixels, const std::int64_t* index, int n_valid, const Maps&);
  // Sums each of the n vectors to a scalar.
  void (*reduce)(const float* sums, float* gradient, std::int64_t n);
  void (*adamw)(const AdamW&, const float* gradient, float* weight, float* mean, float* square, std::int64_t n);
  // A loop of independent multiply-adds, to measure how many there can be.
  void (*multiply_adds)(std::int64_t n_loops, float* out);
};

// Independent sums in `multiply_adds`, which makes n_loops * kPeakChains * vector multiply-adds.
constexpr int kPeakChains = 12;

// At most this many filters share the loaded pixels: six times two vectors leave registers for the operands.
constexpr int kMaxFilters = 6;

// The size of the next block when `remaining` things are cut in even blocks of at most `most`.
static inline int next_block(int remaining, int most) {
  const int blocks = (remaining + most - 1) / most;
  return (remaining + blocks - 1) / blocks;
}

namespace generic {
extern const Kernels kernels;
}
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}

}  // namespace nasopt
