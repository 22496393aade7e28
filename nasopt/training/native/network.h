// One sequential network of the space: forward, backward, AdamW and evaluation, a chunk of images at a time.
//
// A chunk is as many images as two vectors hold, so a batch passes through the network in pieces that stay in the
// second cache, and gradients are added up over the pieces. All memory is allocated when the network is built.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "kernels.h"

namespace nasopt {

struct Shape {
  int channels, rows, cols;
};

struct LayerSpec {
  int stride, filters, kernel;  // stride 1 pads to the same size, stride 2 does not pad
  Activation activation;
};

struct NetworkSpec {
  Shape image;
  std::vector<LayerSpec> convolutions;
  int hidden_units, n_classes;
  Activation final_activation;
};

struct Images {
  Pixels pixels;
  const std::int64_t* labels;
};

struct Optimizer {
  double beta1, beta2, eps, weight_decay;
};

struct Totals {
  double loss_sum = 0;
  std::int64_t n_correct = 0;
  bool completed = true;
};

// Called after every step; training stops there when it returns false.
using KeepGoing = std::function<bool()>;

class Network {
 public:
  // Throws std::invalid_argument for a network that does not fit, std::overflow_error for one too large.
  Network(const Kernels& kernels, const NetworkSpec& spec);

  // Parameters in PyTorch's order and layout, one behind the other.
  std::vector<float>& weights() { return weights_; }

  // Trains once on the images that `order` names; learning_rates has one entry a batch.
  Totals train(const Images& images, const std::vector<std::int64_t>& order, std::int64_t batch_size,
               const std::vector<double>& learning_rates, const Optimizer& optimizer, const KeepGoing& keep_going);

  // `seen` has an entry a class, set to true where one is predicted.
  Totals evaluate(const Images& images, std::int64_t n, std::vector<bool>& seen, const KeepGoing& keep_going);

  // The gradient of the mean loss over the first n images.
  std::vector<float> gradients(const Images& images, std::int64_t n);

  // Seconds that `repeats` runs of each kernel of layer i take on the chunk in memory: forward (without its
  // activation's slope), gradient of the input, gradient of the weights.
  std::vector<double> time_layer(int layer, int repeats);

 private:
  // The dense layers' maps have a column, a slot, for each of several chunks: their weights have a single
  // pixel a chunk to learn from, too little to pay for loading and storing the sums each time.
  struct Chunk {
    const std::int64_t* index;
    int n, n_next, slot;
  };
  // The next chunk's images lie anywhere in memory: they are asked for a few cache lines at a time, between kernels.
  struct Ahead {
    const std::uint8_t* memory;
    std::int64_t image_bytes;
    const std::int64_t *index, *end;
    std::int64_t line;
    int n_lines;  // at a time: as many as a chunk has images, whose kernels take the longer the more it has
    void fetch();
  };
  struct Map {
    Shape shape;
    Strides strides;
    std::int64_t start;  // of the first pixel inside the border, in memory_
  };
  // One run of the backward kernel: all of an input for stride 1, pixels of one parity for stride 2.
  struct InputGradient {
    Conv conv;
    std::vector<std::int32_t> offsets, sources;  // where each packed weight comes from
    std::vector<float> packed;
  };
  struct Layer {
    Conv conv;
    Epilogue epilogue;
    WeightGradient gradient;
    std::int64_t first_weight;
    std::vector<std::int32_t> offsets, sources;
    std::vector<float> packed;
    std::vector<InputGradient> input_gradients;
  };

  Map make_map(Shape shape, int before, int after);
  Layer make_layer(const Map& in, const Map& out, const Map& delta, const LayerSpec& spec);
  void add_input_gradients(Layer& layer, const Map& in, const Map& in_delta, const Map& delta, const LayerSpec& spec,
                           Slope slope);  // of the values `in`
  void bind();  // turns offsets into memory_ to pointers, once memory_ stands
  void pack();  // copies weights_ to the order in which the kernels read them
  void forward(const Images& images, const Chunk& chunk, bool with_slopes);
  Loss loss(const Images& images, const Chunk& chunk, bool with_delta, float scale, std::int32_t* classes);
  void backward(const Chunk& chunk);
  void add_head_gradients(int n_slots);
  Totals accumulate(const Images& images, const std::int64_t* index, std::int64_t n);
  void update(double learning_rate, const Optimizer& optimizer);
  float* at(std::int64_t offset) { return memory_ + offset; }
  Maps maps_at(const Map& map) { return {at(map.start), map.shape.channels, map.shape.rows, map.shape.cols, map.strides}; }

  const Kernels& kernels_;
  NetworkSpec spec_;
  // Image, one a convolution, their means, hidden units, logits. Where a convolution's slopes are functions of its
  // values, its deltas take their place: the gradient of the weights, which needs the values, comes before.
  std::vector<Map> values_, deltas_;
  std::vector<Layer> layers_;         // convolutions, then two dense layers: convolutions of 1 x 1 maps
  std::int64_t memory_size_ = 0, n_weights_ = 0, probabilities_ = 0, sums_ = 0;
  std::unique_ptr<float[]> storage_;
  float* memory_ = nullptr;
  std::vector<float> weights_, gradient_, mean_, square_;
  std::int64_t n_steps_ = 0;
  Ahead ahead_ = {};
};

}  // namespace nasopt
