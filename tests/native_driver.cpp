// Runs the kernels over many shapes, for the sanitizers: `make sanitize` builds it with -fsanitize=address,undefined.
#include <cmath>
#include <cstdio>
#include <numeric>
#include <random>

#include "network.h"

using namespace nasopt;

namespace {

std::mt19937 rng(0);

int draw(int low, int high) { return std::uniform_int_distribution<int>(low, high)(rng); }

NetworkSpec draw_spec() {
  NetworkSpec spec;
  spec.image = {draw(1, 3), draw(4, 20), draw(4, 20)};
  const int n_layers = draw(2, 5), first = draw(0, n_layers - 2), second = draw(first + 1, n_layers - 1);
  int size = std::min(spec.image.rows, spec.image.cols);
  for (int i = 0; i < n_layers; i++) {
    const int stride = i == first || i == second ? 2 : 1;
    const int kernel = draw(1, stride == 2 ? std::min(7, size) : 7);
    spec.convolutions.push_back({stride, draw(1, 14), kernel, static_cast<Activation>(draw(0, kActivations - 1))});
    if (stride == 2) size = (size - kernel) / 2 + 1;
  }
  spec.hidden_units = draw(1, 70);
  spec.n_classes = draw(1, 12);
  spec.final_activation = static_cast<Activation>(draw(0, kActivations - 1));
  return spec;
}

// Buffers are exactly as long as the contract asks for, so that a read beyond one is seen.
bool run(const Kernels& kernels) {
  const NetworkSpec spec = draw_spec();
  Network network(kernels, spec);
  for (float& weight : network.weights()) weight = std::uniform_real_distribution<float>(-0.3f, 0.3f)(rng);
  const int n = draw(1, 100);
  const std::size_t n_pixels = static_cast<std::size_t>(n) * spec.image.channels * spec.image.rows * spec.image.cols;
  std::vector<std::uint8_t> bytes(n_pixels);
  for (auto& byte : bytes) byte = static_cast<std::uint8_t>(draw(0, 255));
  const std::vector<float> floats(bytes.begin(), bytes.end());
  std::vector<std::int64_t> labels(n), order(n);
  for (auto& label : labels) label = draw(0, spec.n_classes - 1);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), rng);
  const std::int64_t batch = draw(1, 70);
  const std::vector<double> rates((n - 1) / batch + 1, 1e-3);
  const auto go_on = [] { return true; };
  std::vector<bool> seen(spec.n_classes);
  double sum = 0;
  for (const Images& images : {Images{{bytes.data(), nullptr}, labels.data()}, Images{{nullptr, floats.data()}, labels.data()}}) {
    sum += network.train(images, order, batch, rates, {0.9, 0.999, 1e-7, 1e-9}, go_on).loss_sum;
    sum += network.evaluate(images, n, seen, go_on).loss_sum;
    for (float g : network.gradients(images, n)) sum += g;
  }
  for (double seconds : network.time_layer(draw(0, static_cast<int>(spec.convolutions.size()) + 1), 1)) sum += seconds;
  return std::isfinite(sum);
}

}  // namespace

int main() {
  constexpr int kShapes = 40;
  std::vector<const Kernels*> usable = {&generic::kernels};
#ifdef NASOPT_avx2
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) usable.push_back(&avx2::kernels);
#endif
#ifdef NASOPT_avx512
  usable.push_back(&avx512::kernels);  // built only where it can run
#endif
  for (const Kernels* kernels : usable) {
    for (int i = 0; i < kShapes; i++)
      if (!run(*kernels)) return std::printf("%s: a sum is not finite\n", kernels->isa), 1;
    std::printf("%s: %d networks, clean\n", kernels->isa, kShapes);
  }
  return 0;
}
