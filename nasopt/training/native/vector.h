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
typedef std::uint16_t Words8 __attribute__((vector_size(16), may_alias));
typedef float Floats4 __attribute__((vector_size(16), may_alias));

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

// By halves, in the same order everywhere. GCC 12 makes a detour through memory of the loop on 16 floats.
INLINE float sum_of(Vector x) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)x);
#else
  for (int half = kVector / 2; half; half /= 2)
    for (int j = 0; j < half; j++) x[j] += x[j + half];
  return x[0];
#endif
}

#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(type, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(type, a, b, ...) __builtin_shuffle(a, b, type{__VA_ARGS__})
#endif
INLINE Bytes16 interleave_low(Bytes16 a, Bytes16 b) {
  return SHUFFLE(Bytes16, a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
INLINE Bytes16 interleave_high(Bytes16 a, Bytes16 b) {
  return SHUFFLE(Bytes16, a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
INLINE Words8 words(Bytes16 bytes) { return reinterpret_cast<const Words8&>(bytes); }
INLINE Words8 interleave_low(Words8 a, Words8 b) { return SHUFFLE(Words8, a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
INLINE Words8 interleave_high(Words8 a, Words8 b) { return SHUFFLE(Words8, a, b, 4, 12, 5, 13, 6, 14, 7, 15); }

// N vectors in lockstep: the functions below are chains of dependent operations, and a core that sees only some
// dozens of instructions ahead (Zen 1: 36) cannot start on the next vector by itself.
template <int N>
struct Pack {
  Vector v[N];
};
#define EACH(expression)                                \
  Pack<N> result;                                       \
  repeat<N>(UNROLLED(i) { result.v[i] = expression; }); \
  return result
#define ELEMENTWISE(op)                                               \
  template <int N>                                                    \
  INLINE Pack<N> operator op(const Pack<N>& x, const Pack<N>& y) {    \
    EACH(x.v[i] op y.v[i]);                                           \
  }                                                                   \
  template <int N>                                                    \
  INLINE Pack<N> operator op(const Pack<N>& x, float y) {             \
    EACH(x.v[i] op y);                                                \
  }                                                                   \
  template <int N>                                                    \
  INLINE Pack<N> operator op(float x, const Pack<N>& y) {             \
    EACH(x op y.v[i]);                                                \
  }
ELEMENTWISE(+)
ELEMENTWISE(-)
ELEMENTWISE(*)
ELEMENTWISE(/)
#undef ELEMENTWISE

// A NaN passes through, as it must to reach the loss: MAXPS and MINPS return their second operand then, like the
// comparisons, from which GCC 12 does not make them.
INLINE Vector max(float low, Vector x) {
#if defined(__AVX512F__)
  return (Vector)_mm512_maskz_max_ps(0xffff, (__m512)splat(low), (__m512)x);
#elif defined(__AVX__)
  return _mm256_max_ps(splat(low), x);
#else
  return low > x ? splat(low) : x;
#endif
}
INLINE Vector min(float high, Vector x) {
#if defined(__AVX512F__)
  return (Vector)_mm512_maskz_min_ps(0xffff, (__m512)splat(high), (__m512)x);
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
// x * 2^n, of the n in the low bits of `shifted`, by adding to the exponent.
INLINE Vector scale(Vector x, Vector shifted) {
  const Integers bits = reinterpret_cast<const Integers&>(x) + (reinterpret_cast<const Integers&>(shifted) << 23);
  return reinterpret_cast<const Vector&>(bits);
}

template <int N>
INLINE Pack<N> at_least(float low, const Pack<N>& x) {
  EACH(max(low, x.v[i]));
}
template <int N>
INLINE Pack<N> at_most(float high, const Pack<N>& x) {
  EACH(min(high, x.v[i]));
}
template <int N>
INLINE Pack<N> absolute(const Pack<N>& x) {
  EACH(absolute(x.v[i]));
}
template <int N>
INLINE Pack<N> scale(const Pack<N>& x, const Pack<N>& shifted) {
  EACH(scale(x.v[i], shifted.v[i]));
}
template <int N>
INLINE Pack<N> where_positive(const Pack<N>& x, const Pack<N>& yes, const Pack<N>& no) {
  EACH(x.v[i] > 0.0f ? yes.v[i] : no.v[i]);
}
template <int N>
INLINE Pack<N> ones(const Pack<N>&) {
  EACH(splat(1.0f));
}
#undef EACH

// 2^x for x from -126 to 127, to a relative error of 2e-7 (by a polynomial fitted here). `factor` times x is rounded
// once only, where there are fused multiply-adds. Horner's scheme has the fewest operations: a Pack hides its latency.
template <typename V>
INLINE V exp2(const V& x, float factor) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, in the low bits
  const V shifted = x * factor + kRound;
  const V f = x * factor - (shifted - kRound);
  const V p = ((((f * 0.00132646994f + 0.00967150889f) * f + 0.0555073378f) * f + 0.240222421f) * f + 0.693146978f) * f + 1.0f;
  return scale(p, shifted);
}
constexpr float kLog2E = 1.44269504f;

// e^x for x up to 0; no less than e^-87.
template <typename V>
INLINE V exp(V x) {
  return exp2(at_least(-87.0f, x), kLog2E);
}

template <typename V>
INLINE V sigmoid(V x) {
  return 1.0f / (1.0f + exp2(at_most(87.0f, at_least(-87.0f, x)), -kLog2E));
}

// tanh as x * P(x^2) / Q(x^2), fitted here to a relative error of 1e-7 up to 7.6, where tanh is 1 - 5e-7.
// A slope below this counts as 0, so that what is saturated learns nothing any more: beyond 7.35, in float32 beyond 9.
constexpr float kLeastTanhSlope = 1.5e-6f;
template <typename V>
INLINE V tanh(V x) {
  x = at_most(7.6f, at_least(-7.6f, x));
  const V s = x * x;
  const V p = ((s * 45.6507886f + 11518.374f) * s + 499503.246f) * s + 3854090.96f;
  const V q = (((s + 940.5417f) * s + 92376.2154f) * s + 1784197.34f) * s + 3854091.32f;
  return x * p / q;
}

// GELU and its slope. With a = |x|, the upper tail of the normal distribution is (17 / p(a))^32: as it decays, the
// reciprocal of a power fits it, and needs no exponential. The slope's tail is that times a polynomial. Both were
// fitted here, to absolute errors of 1.6e-7 and 3.5e-7 up to a = 6, from where on both count as 0.
template <typename V>
INLINE V gelu(const V& x, V& slope) {
  V a = absolute(x);
  V tail = 17.0f / (((((a * 3.48215835e-4f - 1.40894798e-3f) * a + 0.0241945721f) * a + 0.178179905f) * a +
                     0.433158875f) * a + 17.3722515f);
  for (int i = 0; i < 5; i++) tail = tail * tail;
  const V y = x * where_positive(x, 1.0f - tail, tail);
  a = at_most(6.0f, a);  // or the polynomial overflows where the tail is 0
  tail = tail * ((((((a * 1.05127583e-4f - 2.45442567e-3f) * a + 0.0219136197f) * a - 0.110572599f) * a -
                   0.636198044f) * a - 0.797927201f) * a + 1.0000006f);
  slope = where_positive(x, 1.0f - tail, tail);
  return y;
}

}  // namespace
