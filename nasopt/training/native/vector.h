// A vector of floats as wide as the instruction set's registers, and the functions of activations on it.
// GCC's and Clang's vector extensions: the same source for SSE, AVX2, AVX-512 and NEON.
#pragma once

#include <cstdint>

namespace {

#if defined(__AVX512F__)
constexpr int kVector = 16;
#elif defined(__AVX__)
constexpr int kVector = 8;
#else
constexpr int kVector = 4;
#endif
constexpr int kLanes = 2 * kVector;

typedef float Vector __attribute__((vector_size(4 * kVector), may_alias));
typedef std::int32_t Integers __attribute__((vector_size(4 * kVector), may_alias));
typedef std::uint8_t Bytes16 __attribute__((vector_size(16), may_alias));

#define INLINE static inline __attribute__((always_inline))

// body(0), ..., body(N - 1), unrolled by the language: arrays of vectors indexed in a loop that the compiler unrolls
// itself, too late, stay in memory (a fifth of the speed with GCC 12).
template <int N, typename Body>
INLINE void repeat(const Body& body) {
  if constexpr (N > 1) repeat<N - 1>(body);
  if constexpr (N > 0) body(N - 1);
}
#define UNROLLED(index) [&](int index) __attribute__((always_inline))

INLINE Vector load(const float* from) { return *reinterpret_cast<const Vector*>(from); }
INLINE void store(float* to, Vector value) { *reinterpret_cast<Vector*>(to) = value; }
INLINE Vector splat(float value) { return Vector{} + value; }

#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE16(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE16(a, b, ...) __builtin_shuffle(a, b, Bytes16{__VA_ARGS__})
#endif
INLINE Bytes16 interleave_low(Bytes16 a, Bytes16 b) {
  return SHUFFLE16(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
INLINE Bytes16 interleave_high(Bytes16 a, Bytes16 b) {
  return SHUFFLE16(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

// Comparisons are written so that a NaN falls through: it must reach the loss.
INLINE Vector clamp(Vector x, float low, float high) {
  x = x < low ? splat(low) : x;
  return x > high ? splat(high) : x;
}

// e^x to 2 ulp for x in [-87, 88], and clamped to these beyond. Moshier (1989), Cephes.
INLINE Vector exp(Vector x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, in the low bits
  x = clamp(x, -87.0f, 88.0f);
  const Vector shifted = x * 1.44269504f + kRound;
  const Vector n = shifted - kRound;
  const Vector r = x - n * 0.693359375f + n * 2.12194440e-4f;
  Vector y = r * 1.9875691500e-4f + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * (r * r) + r + 1.0f;
  const Integers exponent = (reinterpret_cast<const Integers&>(shifted) + 127) << 23;
  return y * reinterpret_cast<const Vector&>(exponent);
}

INLINE Vector sigmoid(Vector x) { return 1.0f / (1.0f + exp(-x)); }

// tanh as x * P(x^2) / Q(x^2), to some ulp: the coefficients of Eigen's generic_fast_tanh_float.
INLINE Vector tanh(Vector x) {
  x = clamp(x, -7.90531110763549805f, 7.90531110763549805f);
  const Vector s = x * x;
  Vector p = s * -2.76076847742355e-16f + 2.00018790482477e-13f;
  p = p * s + -8.60467152213735e-11f;
  p = p * s + 5.12229709037114e-08f;
  p = p * s + 1.48572235717979e-05f;
  p = p * s + 6.37261928875436e-04f;
  p = p * s + 4.89352455891786e-03f;
  Vector q = s * 1.19825839466702e-06f + 1.18534705686654e-04f;
  q = q * s + 2.26843463243900e-03f;
  q = q * s + 4.89352518554385e-03f;
  return x * p / q;
}

// The normal density at x, and in `cdf` the distribution function: its upper tail is the density's exponential
// times a polynomial in t = 1 / (1 + 0.23 |x|), fitted here to a relative error of 1.3e-7 (docs/engine.md).
INLINE Vector normal(Vector x, Vector& cdf) {
  const Vector z = x < 0.0f ? -x : x;
  const Vector t = 1.0f / (1.0f + z * 0.2316419f);
  Vector p = t * -0.0704257103f + 0.247693637f;
  p = p * t + -0.201673212f;
  p = p * t + 0.225266008f;
  p = p * t + 0.0135445997f;
  p = p * t + 0.102652798f;
  p = p * t + 0.0904196644f;
  p = p * t + 0.0925222796f;
  const Vector bell = exp(x * x * -0.5f);
  const Vector tail = p * t * bell;
  cdf = x > 0.0f ? 1.0f - tail : tail;
  return bell * 0.398942280f;
}

}  // namespace
