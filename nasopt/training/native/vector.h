// A vector of floats as wide as the instruction set's registers, and the functions of activations on it.
// GCC's and Clang's vector extensions: the same source for SSE, AVX2, AVX-512 and NEON.
#pragma once

#include <cstdint>
#if defined(__AVX__)
#include <immintrin.h>
#endif

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
INLINE Vector splat(float value) { return value - Vector{}; }  // a plain broadcast; adding 0 would turn -0 to 0

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

// Two vectors in lockstep: functions with long chains of dependent operations run a third faster in pairs.
struct Pair {
  Vector a, b;
};
#define PAIRWISE(op)                                                                        \
  INLINE Pair operator op(Pair x, Pair y) { return {x.a op y.a, x.b op y.b}; }              \
  INLINE Pair operator op(Pair x, float y) { return {x.a op y, x.b op y}; }                 \
  INLINE Pair operator op(float x, Pair y) { return {x op y.a, x op y.b}; }
PAIRWISE(+)
PAIRWISE(-)
PAIRWISE(*)
PAIRWISE(/)
#undef PAIRWISE

// A NaN passes through, as it must to reach the loss. What a comparison chooses is what MAXPS and MINPS give, but
// GCC does not see that.
INLINE Vector at_least(float low, Vector x) {
#if defined(__AVX512F__)
  return _mm512_max_ps(splat(low), x);
#elif defined(__AVX__)
  return _mm256_max_ps(splat(low), x);
#else
  return low > x ? splat(low) : x;
#endif
}
INLINE Vector at_most(float high, Vector x) {
#if defined(__AVX512F__)
  return _mm512_min_ps(splat(high), x);
#elif defined(__AVX__)
  return _mm256_min_ps(splat(high), x);
#else
  return high < x ? splat(high) : x;
#endif
}
INLINE Vector absolute(Vector x) {
  const Integers bits = reinterpret_cast<const Integers&>(x) & 0x7fffffff;
  return reinterpret_cast<const Vector&>(bits);
}
INLINE Vector where_positive(Vector x, Vector yes, Vector no) { return x > 0.0f ? yes : no; }
// 2^n of the n in the low bits of x.
INLINE Vector power_of_two(Vector x) {
  const Integers exponent = (reinterpret_cast<const Integers&>(x) + 127) << 23;
  return reinterpret_cast<const Vector&>(exponent);
}
INLINE Pair at_least(float low, Pair x) { return {at_least(low, x.a), at_least(low, x.b)}; }
INLINE Pair at_most(float high, Pair x) { return {at_most(high, x.a), at_most(high, x.b)}; }
INLINE Pair absolute(Pair x) { return {absolute(x.a), absolute(x.b)}; }
INLINE Pair power_of_two(Pair x) { return {power_of_two(x.a), power_of_two(x.b)}; }
INLINE Pair where_positive(Pair x, Pair yes, Pair no) {
  return {where_positive(x.a, yes.a, no.a), where_positive(x.b, yes.b, no.b)};
}

// e^x to 2 ulp for x up to 88, and no less than e^-87. Moshier (1989), Cephes; the polynomial in Estrin's scheme.
template <typename V>
INLINE V exp(V x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, in the low bits
  x = at_least(-87.0f, x);
  const V shifted = x * 1.44269504f + kRound;
  const V n = shifted - kRound;
  const V r = x - n * 0.693359375f + n * 2.12194440e-4f;
  const V s = r * r;
  const V high = (r * 1.9875691500e-4f + 1.3981999507e-3f) * s + (r * 8.3334519073e-3f + 4.1665795894e-2f);
  const V low = r * 1.6666665459e-1f + 5.0000001201e-1f;
  return ((high * s + low) * s + (r + 1.0f)) * power_of_two(shifted);
}

template <typename V>
INLINE V sigmoid(V x) {
  return 1.0f / (1.0f + exp(at_most(88.0f, 0.0f - x)));
}

// tanh as x * P(x^2) / Q(x^2), to some ulp: the coefficients of Eigen's generic_fast_tanh_float.
template <typename V>
INLINE V tanh(V x) {
  x = at_most(7.90531110763549805f, at_least(-7.90531110763549805f, x));
  const V s = x * x;
  V p = s * -2.76076847742355e-16f + 2.00018790482477e-13f;
  p = p * s + -8.60467152213735e-11f;
  p = p * s + 5.12229709037114e-08f;
  p = p * s + 1.48572235717979e-05f;
  p = p * s + 6.37261928875436e-04f;
  p = p * s + 4.89352455891786e-03f;
  V q = s * 1.19825839466702e-06f + 1.18534705686654e-04f;
  q = q * s + 2.26843463243900e-03f;
  q = q * s + 4.89352518554385e-03f;
  return x * p / q;
}

// The normal density at x, and in `cdf` the distribution function: its upper tail is the density's exponential
// times a polynomial in t = 1 / (1 + 0.23 |x|), fitted here to a relative error of 1.3e-7 (docs/engine.md).
template <typename V>
INLINE V normal(V x, V& cdf) {
  const V t = 1.0f / (1.0f + absolute(x) * 0.2316419f);
  const V s = t * t;
  const V high = (t * -0.0704257103f + 0.247693637f) * s + (t * -0.201673212f + 0.225266008f);
  const V low = (t * 0.0135445997f + 0.102652798f) * s + (t * 0.0904196644f + 0.0925222796f);
  const V bell = exp(x * x * -0.5f);
  const V tail = (high * (s * s) + low) * t * bell;
  cdf = where_positive(x, 1.0f - tail, tail);
  return bell * 0.398942280f;
}

}  // namespace
