#include "network.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <stdexcept>

namespace nasopt {
namespace {

constexpr std::int64_t kMaxFloats = (std::int64_t{1} << 31) - 1;  // offsets are 32 bits wide
constexpr std::int64_t kMaxSize = 1 << 20;                         // of any one dimension
constexpr int kMaxLanes = 32;
constexpr int kSlots = 8;
constexpr std::int64_t kAlignment = 32;  // floats: two cache lines, and the widest chunk

void require(bool good, const char* what) {
  if (!good) throw std::invalid_argument(what);
}

bool is_size(std::int64_t n) { return 1 <= n && n <= kMaxSize; }

Activation checked(Activation activation) {
  const int number = static_cast<int>(activation);
  require(0 <= number && number < kActivations, "unknown activation");
  return activation;
}

}  // namespace

Network::Network(const Kernels& kernels, const NetworkSpec& spec) : kernels_(kernels), spec_(spec) {
  require(is_size(spec.image.channels) && is_size(spec.image.rows) && is_size(spec.image.cols) &&
              is_size(spec.n_classes) && is_size(spec.hidden_units) && !spec.convolutions.empty(),
          "image, classes and layers must have sizes from 1 to 2^20");
  checked(spec.final_activation);
  // The border of a map is what its readers need: the next layer of values, its own layer of deltas.
  Shape shape = spec.image;
  const auto border = [&](std::size_t i) {
    return i < spec.convolutions.size() && spec.convolutions[i].stride == 1 ? spec.convolutions[i].kernel : 1;
  };
  for (std::size_t i = 0; i <= spec.convolutions.size(); i++) {
    int before = (border(i) - 1) / 2, after = border(i) / 2;
    if (i == 0) {
      values_.push_back(make_map(shape, before, after));
      deltas_.push_back({});
      continue;
    }
    const LayerSpec& layer = spec.convolutions[i - 1];
    const int k = layer.kernel;
    require((layer.stride == 1 || layer.stride == 2) && 1 <= k && k <= 7 && is_size(layer.filters),
            "a layer has stride 1 or 2, a kernel from 1 to 7 and 1 to 2^20 filters");
    checked(layer.activation);
    require(layer.stride == 1 || (k <= shape.rows && k <= shape.cols), "a kernel exceeds its input");
    shape.channels = layer.filters;
    if (layer.stride == 2) shape.rows = (shape.rows - k) / 2 + 1, shape.cols = (shape.cols - k) / 2 + 1;
    const int delta_before = layer.stride == 1 ? k / 2 : (k - 1) / 2, delta_after = k - 1 - delta_before;
    const bool in_place = slope_of(layer.activation) != Slope::stored;
    if (in_place) before = std::max(before, delta_before), after = std::max(after, delta_after);
    values_.push_back(make_map(shape, before, after));
    deltas_.push_back(in_place ? values_.back() : make_map(shape, delta_before, delta_after));
  }
  for (int n : {shape.channels, spec.hidden_units, spec.n_classes}) {
    values_.push_back(make_map({n, 1, kSlots}, 0, 0));
    deltas_.push_back(make_map({n, 1, kSlots}, 0, 0));
  }
  const std::size_t n_conv = spec.convolutions.size();
  const auto slope = [&](std::size_t map) {
    if (map == n_conv + 1) return Slope::stored;  // means have no activation: `backward` stores a slope of 1
    return slope_of(map <= n_conv ? spec.convolutions[map - 1].activation : spec.final_activation);
  };
  for (std::size_t i = 0; i < n_conv + 2; i++) {
    const std::size_t from = i < n_conv ? i : i + 1;  // the dense layers start at the means
    const LayerSpec layer = i < n_conv ? spec.convolutions[i]
                                       : LayerSpec{1, values_[from + 1].shape.channels, 1, spec.final_activation};
    layers_.push_back(make_layer(values_[from], values_[from + 1], deltas_[from + 1], layer));
    if (i > 0) add_input_gradients(layers_[i], values_[from], deltas_[from], deltas_[from + 1], layer, slope(from));
    if (i >= n_conv) layers_[i].conv.cols = layers_[i].input_gradients[0].conv.cols = 1;  // a slot at a time
  }
  const auto reserve = [&](std::int64_t floats) {
    const std::int64_t start = memory_size_;
    memory_size_ += (floats + kAlignment - 1) / kAlignment * kAlignment;
    if (memory_size_ > kMaxFloats) throw std::overflow_error("the network needs more than 8 GiB");
    return start;
  };
  probabilities_ = reserve(std::int64_t{spec.n_classes} * kernels.lanes);
  sums_ = reserve(n_weights_ * kernels.vector);
  storage_ = std::make_unique<float[]>(memory_size_ + kAlignment);  // zeros: the borders stay so
  memory_ = storage_.get();
  while (reinterpret_cast<std::uintptr_t>(memory_) % (kAlignment * sizeof(float))) memory_++;
  for (auto* vector : {&weights_, &gradient_, &mean_, &square_}) vector->assign(n_weights_, 0.0f);
  bind();
}

Network::Map Network::make_map(Shape shape, int before, int after) {
  const double rows = shape.rows + before + after, cols = shape.cols + before + after;
  if (rows * cols * shape.channels * kMaxLanes > static_cast<double>(kMaxFloats))
    throw std::overflow_error("a feature map needs more than 8 GiB");
  Map map;
  map.shape = shape;
  map.strides.col = kernels_.lanes;
  map.strides.row = map.strides.col * static_cast<std::int64_t>(cols);
  // An odd number of pixels a plane, or the planes of an 8 x 8 map all fall on the same cache set.
  map.strides.plane = (static_cast<std::int64_t>(rows * cols) | 1) * map.strides.col;
  map.start = memory_size_ + before * (map.strides.row + map.strides.col);
  memory_size_ += (map.strides.plane * shape.channels + kAlignment - 1) / kAlignment * kAlignment;
  if (memory_size_ > kMaxFloats) throw std::overflow_error("the feature maps need more than 8 GiB");
  return map;
}

Network::Layer Network::make_layer(const Map& in, const Map& out, const Map& delta, const LayerSpec& spec) {
  const int k = spec.kernel, before = spec.stride == 1 ? (k - 1) / 2 : 0;
  Layer layer = {};
  for (int c = 0; c < in.shape.channels; c++)
    for (int i = 0; i < k; i++)
      for (int j = 0; j < k; j++)
        layer.offsets.push_back(static_cast<std::int32_t>(in.start + c * in.strides.plane +
                                                          (i - before) * in.strides.row + (j - before) * in.strides.col));
  const int n_taps = static_cast<int>(layer.offsets.size());
  const double n_weights = static_cast<double>(spec.filters) * (n_taps + 1.0);
  if ((static_cast<double>(n_weights_) + n_weights) * 16 > static_cast<double>(kMaxFloats))
    throw std::overflow_error("the network has more than 2^27 parameters");
  for (int f = 0, n; f < spec.filters; f += n) {
    n = next_block(spec.filters - f, kMaxFilters);
    for (int t = 0; t < n_taps; t++)
      for (int i = f; i < f + n; i++) layer.sources.push_back(i * n_taps + t);
  }
  layer.packed.resize(layer.sources.size());
  layer.first_weight = n_weights_;
  n_weights_ += static_cast<std::int64_t>(n_weights);

  const Strides steps = {in.strides.plane, in.strides.row * spec.stride, in.strides.col * spec.stride};
  layer.conv = {nullptr,       nullptr,        nullptr, nullptr,    nullptr, n_taps, spec.filters, out.shape.rows,
                out.shape.cols, steps, out.strides, Slope::stored, 0};
  layer.epilogue = {spec.activation, nullptr, delta.strides};
  layer.gradient = {nullptr, nullptr,        nullptr,        nullptr, nullptr, n_taps, spec.filters,
                    out.shape.rows, out.shape.cols, steps,   delta.strides};
  return layer;
}

void Network::add_input_gradients(Layer& layer, const Map& in, const Map& in_delta, const Map& delta,
                                  const LayerSpec& spec, Slope slope) {
  const int k = spec.kernel, s = spec.stride, before = s == 1 ? (k - 1) / 2 : 0;
  const int n_in = in_delta.shape.channels, n_out = delta.shape.channels;
  // An input pixel of stride 2 meets the kernel's rows and columns of its own parity only.
  for (int py = 0; py < std::min(s, in_delta.shape.rows); py++)
    for (int px = 0; px < std::min(s, in_delta.shape.cols); px++) {
      InputGradient part = {};
      std::vector<std::int32_t> taps;  // of the weight of input channel 0
      for (int f = 0; f < n_out; f++)
        for (int i = py; i < k; i += s)
          for (int j = px; j < k; j += s) {
            part.offsets.push_back(static_cast<std::int32_t>(delta.start + f * delta.strides.plane +
                                                             (before - (i - py) / s) * delta.strides.row +
                                                             (before - (j - px) / s) * delta.strides.col));
            taps.push_back(f * n_in * k * k + i * k + j);
          }
      for (int c = 0, n; c < n_in; c += n) {
        n = next_block(n_in - c, kMaxFilters);
        for (std::int32_t tap : taps)
          for (int i = c; i < c + n; i++) part.sources.push_back(tap + i * k * k);
      }
      part.packed.resize(part.sources.size());
      const Strides& to = in_delta.strides;
      part.conv = {nullptr, nullptr, nullptr, nullptr, nullptr, static_cast<int>(taps.size()), n_in,
                   (in_delta.shape.rows - py + s - 1) / s, (in_delta.shape.cols - px + s - 1) / s, delta.strides,
                   {to.plane, to.row * s, to.col * s}, slope, slope == Slope::stored ? 0 : in.start - in_delta.start};
      layer.input_gradients.push_back(std::move(part));
    }
}

void Network::bind() {
  const std::size_t n_conv = spec_.convolutions.size();
  for (std::size_t i = 0; i < layers_.size(); i++) {
    Layer& layer = layers_[i];
    const std::size_t from = i < n_conv ? i : i + 1;
    const float* bias = weights_.data() + layer.first_weight + static_cast<std::int64_t>(layer.sources.size());
    layer.conv.in = layer.gradient.in = memory_;
    layer.conv.out = at(values_[from + 1].start);
    layer.conv.bias = bias;
    layer.conv.weights = layer.packed.data();
    layer.conv.offsets = layer.gradient.offsets = layer.offsets.data();
    layer.gradient.delta = layer.epilogue.slope = at(deltas_[from + 1].start);
    layer.gradient.sums = at(sums_ + layer.first_weight * kernels_.vector);
    layer.gradient.bias_sums = at(sums_ + (bias - weights_.data()) * kernels_.vector);
    int part_number = 0;
    for (InputGradient& part : layer.input_gradients) {
      const int n_px = std::min(spec_.convolutions.size() > i ? spec_.convolutions[i].stride : 1, deltas_[from].shape.cols);
      const Strides& to = deltas_[from].strides;
      part.conv.in = memory_;
      part.conv.out = at(deltas_[from].start + part_number / n_px * to.row + part_number % n_px * to.col);
      part.conv.weights = part.packed.data();
      part.conv.offsets = part.offsets.data();
      part_number++;
    }
  }
}

void Network::pack() {
  for (Layer& layer : layers_) {
    const float* from = weights_.data() + layer.first_weight;
    for (std::size_t i = 0; i < layer.packed.size(); i++) layer.packed[i] = from[layer.sources[i]];
    for (InputGradient& part : layer.input_gradients)
      for (std::size_t i = 0; i < part.packed.size(); i++) part.packed[i] = from[part.sources[i]];
  }
}

void Network::Ahead::fetch() {
  for (int i = 0; i < n_lines && index < end; i++) {
    __builtin_prefetch(memory + *index * image_bytes + line);
    if ((line += 64) >= image_bytes) line = 0, index++;
  }
}

void Network::forward(const Images& images, const Chunk& chunk, bool with_slopes) {
  kernels_.load_images(images.pixels, chunk.index, chunk.n, maps_at(values_[0]));
  const std::size_t n_conv = spec_.convolutions.size();
  const int slot_start = chunk.slot * kernels_.lanes;
  for (std::size_t i = 0; i < layers_.size(); i++) {
    const Map& means = values_[n_conv + 1];
    if (i == n_conv) kernels_.pool(maps_at(values_[i]), at(means.start) + slot_start, means.strides.plane);
    Conv conv = layers_[i].conv;
    Epilogue epilogue = layers_[i].epilogue;
    if (i >= n_conv) conv.in += slot_start, conv.out += slot_start, epilogue.slope += slot_start;
    if (!with_slopes) epilogue.slope = nullptr;
    kernels_.forward(conv, epilogue);
    ahead_.fetch();
  }
}

Loss Network::loss(const Images& images, const Chunk& chunk, bool with_delta, float scale, std::int32_t* classes) {
  std::int32_t labels[kMaxLanes];
  for (int i = 0; i < chunk.n; i++) labels[i] = static_cast<std::int32_t>(images.labels[chunk.index[i]]);
  const int slot_start = chunk.slot * kernels_.lanes;
  const Map& logits = values_.back();
  return kernels_.loss({at(logits.start) + slot_start, slope_of(spec_.final_activation), with_delta ? at(deltas_.back().start) + slot_start : nullptr,
                        at(probabilities_), logits.strides.plane, spec_.n_classes, scale},
                       labels, chunk.n, classes);
}

void Network::backward(const Chunk& chunk) {
  const std::size_t n_conv = spec_.convolutions.size();
  const int slot_start = chunk.slot * kernels_.lanes;
  const Map& means = deltas_[n_conv + 1];
  for (int c = 0; c < means.shape.channels; c++)  // means have no activation: their slope is 1
    std::fill_n(at(means.start) + slot_start + c * means.strides.plane, kernels_.lanes, 1.0f);
  for (std::size_t i = layers_.size(); i-- > 0;) {
    if (i + 1 == n_conv) kernels_.unpool(maps_at(deltas_[n_conv]), slope_of(spec_.convolutions.back().activation), at(means.start) + slot_start, means.strides.plane);
    if (i < n_conv) kernels_.weight_gradient(layers_[i].gradient), ahead_.fetch();
    for (const InputGradient& part : layers_[i].input_gradients) {
      Conv conv = part.conv;
      if (i >= n_conv) conv.in += slot_start, conv.out += slot_start;
      kernels_.backward(conv);
      ahead_.fetch();
    }
  }
}

void Network::add_head_gradients(int n_slots) {
  for (std::size_t i = spec_.convolutions.size(); i < layers_.size(); i++) {
    WeightGradient gradient = layers_[i].gradient;
    gradient.cols = n_slots;
    kernels_.weight_gradient(gradient);
  }
}

Totals Network::accumulate(const Images& images, const std::int64_t* index, std::int64_t n) {
  Totals totals;
  pack();
  std::fill_n(at(sums_), n_weights_ * kernels_.vector, 0.0f);
  const auto size = [&](std::int64_t first) {
    return static_cast<int>(std::clamp<std::int64_t>(n - first, 0, kernels_.lanes));
  };
  const Pixels& pixels = images.pixels;
  const auto* memory = pixels.bytes ? pixels.bytes : reinterpret_cast<const std::uint8_t*>(pixels.floats);
  const Shape& image = spec_.image;
  const std::int64_t n_pixels = std::int64_t{image.channels} * image.rows * image.cols;
  Chunk chunk = {};
  for (std::int64_t first = 0; first < n; first += chunk.n) {
    chunk = {index + first, size(first), size(first + kernels_.lanes), chunk.slot};
    ahead_ = {memory, n_pixels * (pixels.bytes ? 1 : 4), chunk.index + chunk.n, chunk.index + chunk.n + chunk.n_next, 0, kernels_.lanes};
    forward(images, chunk, true);
    const Loss part = loss(images, chunk, true, 1.0f / static_cast<float>(n), nullptr);
    totals.loss_sum += part.sum;
    totals.n_correct += part.n_correct;
    backward(chunk);
    if (++chunk.slot < kSlots && chunk.n_next > 0) continue;
    add_head_gradients(chunk.slot);
    chunk.slot = 0;
  }
  kernels_.reduce(at(sums_), gradient_.data(), n_weights_);
  return totals;
}

void Network::update(double learning_rate, const Optimizer& o) {
  n_steps_++;
  const double bias1 = 1 - std::pow(o.beta1, static_cast<double>(n_steps_));
  const double bias2 = 1 - std::pow(o.beta2, static_cast<double>(n_steps_));
  const AdamW numbers = {static_cast<float>(1 - learning_rate * o.weight_decay),
                         static_cast<float>(o.beta2),
                         static_cast<float>(1 - o.beta1),
                         static_cast<float>(1 - o.beta2),
                         static_cast<float>(o.eps),
                         static_cast<float>(learning_rate / bias1),
                         static_cast<float>(std::sqrt(bias2))};
  kernels_.adamw(numbers, gradient_.data(), weights_.data(), mean_.data(), square_.data(), n_weights_);
}

Totals Network::train(const Images& images, const std::vector<std::int64_t>& order, std::int64_t batch_size,
                      const std::vector<double>& learning_rates, const Optimizer& optimizer,
                      const KeepGoing& keep_going) {
  Totals totals;
  const std::int64_t n = static_cast<std::int64_t>(order.size());
  for (std::int64_t first = 0, step = 0; first < n; first += batch_size, step++) {
    const Totals batch = accumulate(images, order.data() + first, std::min(batch_size, n - first));
    totals.loss_sum += batch.loss_sum;
    totals.n_correct += batch.n_correct;
    update(learning_rates[step], optimizer);
    if (!keep_going()) {
      totals.completed = false;
      break;
    }
  }
  return totals;
}

Totals Network::evaluate(const Images& images, std::int64_t n, std::vector<bool>& seen, const KeepGoing& keep_going) {
  Totals totals;
  std::int64_t index[kMaxLanes];
  std::int32_t classes[kMaxLanes];
  pack();
  for (std::int64_t first = 0; first < n && totals.completed; first += kernels_.lanes) {
    const int n_chunk = static_cast<int>(std::min<std::int64_t>(kernels_.lanes, n - first));
    std::iota(index, index + n_chunk, first);
    const Chunk chunk = {index, n_chunk, 0, 0};
    forward(images, chunk, false);
    const Loss part = loss(images, chunk, false, 0.0f, classes);
    totals.loss_sum += part.sum;
    totals.n_correct += part.n_correct;
    for (int i = 0; i < n_chunk; i++) seen[classes[i]] = true;
    totals.completed = keep_going();
  }
  return totals;
}

std::vector<float> Network::gradients(const Images& images, std::int64_t n) {
  std::vector<std::int64_t> index(n);
  std::iota(index.begin(), index.end(), 0);
  accumulate(images, index.data(), n);
  return gradient_;
}

std::vector<double> Network::time_layer(int layer, int repeats) {
  require(0 <= layer && layer < static_cast<int>(layers_.size()) && repeats > 0, "no such layer");
  pack();
  const auto seconds = [repeats](const auto& run) {
    const auto began = std::chrono::steady_clock::now();
    for (int i = 0; i < repeats; i++) run();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  };
  const Layer& l = layers_[layer];
  Epilogue relu = {Activation::relu, nullptr, {}};
  return {seconds([&] { kernels_.forward(l.conv, relu); }),
          seconds([&] { for (const InputGradient& part : l.input_gradients) kernels_.backward(part.conv); }),
          seconds([&] { kernels_.weight_gradient(l.gradient); })};
}

}  // namespace nasopt
