// Part of kernels.cpp: the images of a batch, gathered, scaled and transposed into a map.
#pragma once

#include "kernels.h"
#include "vector.h"

namespace nasopt {
namespace {

constexpr float kByteScale = 1.0f / 255.0f;

// Eight bytes, in words, to floats from 0 to 1: 2^23 + b is a float whose lowest bits are b.
INLINE void store_scaled(float* to, Words8 bytes) {
  constexpr Words8 kExponent = {0x4b00, 0x4b00, 0x4b00, 0x4b00, 0x4b00, 0x4b00, 0x4b00, 0x4b00};
  const Words8 halves[2] = {interleave_low(bytes, kExponent), interleave_high(bytes, kExponent)};
  repeat<2>(UNROLLED(i) {
    reinterpret_cast<Floats4*>(to)[i] = (reinterpret_cast<const Floats4&>(halves[i]) - 8388608.0f) * kByteScale;
  });
}

#if defined(__AVX512F__)
// 16 pixels of 16 images. Quarter q of row i holds image 4 q + i: four by four words transposed within quarters leave
// four pixels of all 16 images, in order, in each row.
constexpr int kBlockImages = 16;
INLINE void load_block(const std::uint8_t* const* images, std::int64_t pixel, float* const* to, int lane) {
  const auto read = [&](int image) __attribute__((always_inline)) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(images[lane + image] + pixel));
  };
  __m512i row[4], half[4];
  repeat<4>(UNROLLED(i) {
    row[i] = _mm512_castsi128_si512(read(i));
    row[i] = _mm512_maskz_inserti32x4(0xffff, row[i], read(i + 4), 1);
    row[i] = _mm512_maskz_inserti32x4(0xffff, row[i], read(i + 8), 2);
    row[i] = _mm512_maskz_inserti32x4(0xffff, row[i], read(i + 12), 3);
  });
  repeat<2>(UNROLLED(i) {
    half[i] = _mm512_maskz_unpacklo_epi32(0xffff, row[2 * i], row[2 * i + 1]);
    half[i + 2] = _mm512_maskz_unpackhi_epi32(0xffff, row[2 * i], row[2 * i + 1]);
  });
  repeat<2>(UNROLLED(i) {
    row[2 * i] = _mm512_maskz_unpacklo_epi64(0xff, half[2 * i], half[2 * i + 1]);
    row[2 * i + 1] = _mm512_maskz_unpackhi_epi64(0xff, half[2 * i], half[2 * i + 1]);
  });
  repeat<16>(UNROLLED(i) {
    const Integers bytes = (reinterpret_cast<const Integers&>(row[i / 4]) >> (i % 4 * 8)) & 0xff;
    store(to[i] + lane, __builtin_convertvector(bytes, Vector) * kByteScale);
  });
}
#else
// 16 pixels of 8 images, transposed by three rounds of interleaving: 16 images would not fit 16 registers.
constexpr int kBlockImages = 8;
INLINE void load_block(const std::uint8_t* const* images, std::int64_t pixel, float* const* to, int lane) {
  constexpr int kBlock = kBlockImages;
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
#endif

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
      for (int lane = 0; lane < kLanes; lane += kBlockImages) load_block(images, p, to, lane);
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

}  // namespace
}  // namespace nasopt
