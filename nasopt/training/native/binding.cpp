// The extension module: networks to Python, with every size checked and the GIL released while they train.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <string>
#include <tuple>

#include "network.h"

namespace nb = nanobind;
using namespace nasopt;

namespace {

template <typename T, int N>
using Array = nb::ndarray<const T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;
using Flat = nb::ndarray<nb::numpy, float, nb::ndim<1>>;

// Best first.
std::vector<const Kernels*> usable_kernels() {
  std::vector<const Kernels*> found;
#ifdef NASOPT_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq"))
    found.push_back(&avx512::kernels);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&avx2::kernels);
#endif
  found.push_back(&generic::kernels);
  return found;
}

const Kernels& find_kernels(const std::string& isa) {
  for (const Kernels* kernels : usable_kernels())
    if (isa == kernels->isa) return *kernels;
  throw std::invalid_argument("this machine or build has no kernels for " + isa);
}

void check(bool good, const char* message) {
  if (!good) throw std::invalid_argument(message);
}

// Looks for Ctrl-C a few times a second; only the main thread hears of it.
class Interrupt {
 public:
  explicit Interrupt(bool listen) : listen_(listen) {}
  bool operator()() {
    const auto now = std::chrono::steady_clock::now();
    if (!listen_ || now - last_ < std::chrono::milliseconds(100)) return true;
    last_ = now;
    nb::gil_scoped_acquire locked;
    return PyErr_CheckSignals() == 0;
  }

 private:
  bool listen_;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

Flat to_array(const std::vector<float>& values) {
  auto* copy = new std::vector<float>(values);
  nb::capsule owner(copy, [](void* p) noexcept { delete static_cast<std::vector<float>*>(p); });
  return Flat(copy->data(), {copy->size()}, owner);
}

using LayerTuple = std::tuple<int, int, int, int>;  // stride, filters, kernel, activation

class Trainer {
 public:
  Trainer(const std::string& isa, std::tuple<int, int, int> image, const std::vector<LayerTuple>& layers,
          std::tuple<int, int, int> head)
      : spec_(make_spec(image, layers, head)), network_(find_kernels(isa), spec_) {}

  std::size_t n_weights() { return network_.weights().size(); }

  void set_weights(Array<float, 1> weights) {
    check(weights.shape(0) == n_weights(), "the number of weights is not that of the network");
    std::copy_n(weights.data(), n_weights(), network_.weights().begin());
  }

  Flat weights() { return to_array(network_.weights()); }

  template <typename T>
  std::tuple<double, std::int64_t> train(Array<T, 4> images, Array<std::int64_t, 1> labels,
                                         Array<std::int64_t, 1> order, Array<double, 1> rates, std::int64_t batch_size,
                                         std::tuple<double, double, double, double> optimizer, bool listen) {
    const std::vector<std::int64_t> classes = copied(labels);
    const Images split = checked(images, classes);
    const auto n = static_cast<std::int64_t>(images.shape(0)), n_order = static_cast<std::int64_t>(order.shape(0));
    check(batch_size >= 1 && n_order >= 1, "a batch and an order have at least one image");
    check(static_cast<std::int64_t>(rates.shape(0)) == (n_order - 1) / batch_size + 1,
          "there must be one learning rate a batch");
    // Copies, as of the labels: Python may change its arrays while the GIL is released, and these are used as indices.
    const std::vector<std::int64_t> indices = copied(order);
    const std::vector<double> schedule(rates.data(), rates.data() + rates.shape(0));
    for (std::int64_t i : indices) check(0 <= i && i < n, "the order names an image that is not there");
    const auto [beta1, beta2, eps, decay] = optimizer;
    Totals totals;
    {
      nb::gil_scoped_release unlocked;
      totals = network_.train(split, indices, batch_size, schedule, {beta1, beta2, eps, decay}, Interrupt(listen));
    }
    if (!totals.completed) throw nb::python_error();
    return {totals.loss_sum, totals.n_correct};
  }

  template <typename T>
  std::tuple<double, std::int64_t, int> evaluate(Array<T, 4> images, Array<std::int64_t, 1> labels, bool listen) {
    const std::vector<std::int64_t> classes = copied(labels);
    const Images split = checked(images, classes);
    std::vector<bool> seen(spec_.n_classes);
    Totals totals;
    {
      nb::gil_scoped_release unlocked;
      totals = network_.evaluate(split, images.shape(0), seen, Interrupt(listen));
    }
    if (!totals.completed) throw nb::python_error();
    return {totals.loss_sum, totals.n_correct, static_cast<int>(std::count(seen.begin(), seen.end(), true))};
  }

  template <typename T>
  Flat gradients(Array<T, 4> images, Array<std::int64_t, 1> labels) {
    const std::vector<std::int64_t> classes = copied(labels);
    const Images split = checked(images, classes);
    std::vector<float> gradients;
    {
      nb::gil_scoped_release unlocked;
      gradients = network_.gradients(split, images.shape(0));
    }
    return to_array(gradients);
  }

  std::vector<double> time_layer(int layer, int repeats) {
    nb::gil_scoped_release unlocked;
    return network_.time_layer(layer, repeats);
  }

 private:
  static NetworkSpec make_spec(std::tuple<int, int, int> image, const std::vector<LayerTuple>& layers,
                               std::tuple<int, int, int> head) {
    NetworkSpec spec;
    spec.image = {std::get<0>(image), std::get<1>(image), std::get<2>(image)};
    for (const auto& [stride, filters, kernel, activation] : layers)
      spec.convolutions.push_back({stride, filters, kernel, static_cast<Activation>(activation)});
    spec.hidden_units = std::get<0>(head);
    spec.n_classes = std::get<1>(head);
    spec.final_activation = static_cast<Activation>(std::get<2>(head));
    return spec;
  }

  static std::vector<std::int64_t> copied(const Array<std::int64_t, 1>& values) {
    return {values.data(), values.data() + values.shape(0)};
  }

  template <typename T>
  Images checked(const Array<T, 4>& images, const std::vector<std::int64_t>& labels) const {
    const Shape& image = spec_.image;
    check(images.shape(0) >= 1 && images.shape(0) == labels.size(), "images need as many labels, at least one");
    check(images.shape(1) == static_cast<std::size_t>(image.channels) &&
              images.shape(2) == static_cast<std::size_t>(image.rows) &&
              images.shape(3) == static_cast<std::size_t>(image.cols),
          "the images do not have the shape that the network was built for");
    const auto in_range = [&](std::int64_t label) { return 0 <= label && label < spec_.n_classes; };
    check(std::all_of(labels.begin(), labels.end(), in_range), "a label is not among the classes");
    Images split = {{nullptr, nullptr}, labels.data()};
    if constexpr (std::is_same_v<T, float>) split.pixels.floats = images.data();
    else split.pixels.bytes = images.data();
    return split;
  }

  NetworkSpec spec_;
  Network network_;
};

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "Trains small sequential convolutional networks on one CPU thread.";
  m.def("isas", [] {
    std::vector<std::string> names;
    for (const Kernels* kernels : usable_kernels()) names.emplace_back(kernels->isa);
    return names;
  });
  m.def("lanes", [](const std::string& isa) { return find_kernels(isa).lanes; });
  m.def("measure_peak", [](const std::string& isa, double seconds) {
    const Kernels& kernels = find_kernels(isa);
    nb::gil_scoped_release unlocked;
    std::vector<float> sums(kPeakChains, 0.5f);
    using Clock = std::chrono::steady_clock;
    const std::int64_t n_loops = 100000;
    double best = 0;
    for (const auto end = Clock::now() + std::chrono::duration<double>(seconds); Clock::now() < end;) {
      const auto began = Clock::now();
      kernels.multiply_adds(n_loops, sums.data());
      const double took = std::chrono::duration<double>(Clock::now() - began).count();
      best = std::max(best, 2e-9 * static_cast<double>(n_loops) * kPeakChains * kernels.vector / took);
    }
    return best;
  });
  const auto images = nb::arg("images").noconvert(), labels = nb::arg("labels").noconvert(),
             order = nb::arg("order").noconvert();
  nb::class_<Trainer>(m, "Trainer")
      .def(nb::init<const std::string&, std::tuple<int, int, int>, const std::vector<LayerTuple>&,
                    std::tuple<int, int, int>>(),
           nb::arg("isa"), nb::arg("image"), nb::arg("layers"), nb::arg("head"))
      .def_prop_ro("n_weights", &Trainer::n_weights)
      .def_prop_rw("weights", &Trainer::weights, &Trainer::set_weights, nb::for_getter(nb::rv_policy::move))
      // Not converted: floats would fit the first of two, as bytes.
      .def("train", &Trainer::train<std::uint8_t>, images, labels, order, nb::arg("rates"), nb::arg("batch_size"),
           nb::arg("optimizer"), nb::arg("listen"))
      .def("train", &Trainer::train<float>, images, labels, order, nb::arg("rates"), nb::arg("batch_size"),
           nb::arg("optimizer"), nb::arg("listen"))
      .def("evaluate", &Trainer::evaluate<std::uint8_t>, images, labels, nb::arg("listen"))
      .def("evaluate", &Trainer::evaluate<float>, images, labels, nb::arg("listen"))
      .def("gradients", &Trainer::gradients<std::uint8_t>, images, labels)
      .def("gradients", &Trainer::gradients<float>, images, labels)
      .def("time_layer", &Trainer::time_layer, nb::arg("layer"), nb::arg("repeats"));
}
