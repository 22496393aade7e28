"""The C99 functions that an exported header is made of; ``$name`` is the header's prefix."""

CONVOLUTION = """\
/* out[f][y][x] = bias[f] + the sum of weight[f][c][i][j] * in[c][y * stride + i - pad][x * stride + j - pad];
 * what lies outside of the input counts as 0. */
static inline void ${name}_convolve(const float *in, int32_t channels, int32_t height, int32_t width,
                                    const float *weight, const float *bias, float *out, int32_t filters,
                                    int32_t out_height, int32_t out_width, int32_t kernel, int32_t stride,
                                    int32_t pad)
{
    for (int32_t f = 0; f < filters; f++) {
        for (int32_t y = 0; y < out_height; y++) {
            const int32_t top = y * stride - pad;
            const int32_t i_first = top < 0 ? -top : 0;
            const int32_t i_end = height - top < kernel ? height - top : kernel;
            for (int32_t x = 0; x < out_width; x++) {
                const int32_t left = x * stride - pad;
                const int32_t j_first = left < 0 ? -left : 0;
                const int32_t j_end = width - left < kernel ? width - left : kernel;
                float sum = bias[f];
                for (int32_t c = 0; c < channels; c++) {
                    for (int32_t i = i_first; i < i_end; i++) {
                        const float *w = weight + (c * kernel + i) * kernel;
                        const float *row = in + (c * height + top + i) * width;
                        for (int32_t j = j_first; j < j_end; j++) {
                            sum += w[j] * row[left + j];
                        }
                    }
                }
                *out++ = sum;
            }
        }
        weight += channels * kernel * kernel;
    }
}
"""

POOLING = """\
/* out[c] = the mean of in[c]. */
static inline void ${name}_pool(const float *in, int32_t channels, int32_t size, float *out)
{
    for (int32_t c = 0; c < channels; c++) {
        float sum = 0.0f;
        for (int32_t i = 0; i < size; i++) {
            sum += *in++;
        }
        out[c] = sum / (float)size;
    }
}
"""

DENSE = """\
/* out[i] = bias[i] + the sum of weight[i][j] * in[j]. */
static inline void ${name}_dense(const float *in, int32_t n_in, const float *weight, const float *bias,
                                 float *out, int32_t n_out)
{
    for (int32_t i = 0; i < n_out; i++) {
        float sum = bias[i];
        for (int32_t j = 0; j < n_in; j++) {
            sum += *weight++ * in[j];
        }
        out[i] = sum;
    }
}
"""

ACTIVATION = """\
static inline void ${name}_${activation}(float *values, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        const float x = values[i];
        values[i] = ${formula};
    }
}
"""

FORMULAS = {
    "relu": "x < 0.0f ? 0.0f : x",
    "sigmoid": "1.0f / (1.0f + expf(-x))",
    "tanh": "tanhf(x)",
    "swish": "x / (1.0f + expf(-x))",
    "gelu": "0.5f * x * (1.0f + erff(x * 0.70710678f))",
}
NEEDS_MATH = frozenset(FORMULAS) - {"relu"}

ARGMAX = """\
/* The class of the largest logit; the first one of equals. */
static inline int ${name}_argmax(const float *logits)
{
    int best = 0;
    for (int i = 1; i < ${NAME}_N_CLASSES; i++) {
        if (logits[i] > logits[best]) {
            best = i;
        }
    }
    return best;
}
"""
