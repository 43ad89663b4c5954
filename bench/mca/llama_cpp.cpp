// One product by llama.cpp's kernels, for tools that watch instructions: product KIND TYPE OUTPUTS COLS ROWS.
//
// KIND is `rows` (a dot product for each output, what llama.cpp does without the dot product instructions) or the shape of repacked
// weights, as in `4x8`. The numbers mean nothing: the memory holds no real weights, and no kernel looks before it multiplies.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

// As repack.h and quants.h declare them.
#define REPACKED(name) \
    extern "C" void ggml_gemv_##name(int, float *, size_t, const void *, const void *, int, int); \
    extern "C" void ggml_gemm_##name(int, float *, size_t, const void *, const void *, int, int);
#define ROWS(name) \
    extern "C" void ggml_vec_dot_##name(int, float *, size_t, const void *, size_t, const void *, size_t, int);
REPACKED(q4_0_4x4_q8_0)
REPACKED(q4_0_4x8_q8_0)
REPACKED(q8_0_4x4_q8_0)
REPACKED(q8_0_4x8_q8_0)
REPACKED(q4_K_8x4_q8_K)
REPACKED(q4_K_8x8_q8_K)
REPACKED(q5_K_8x4_q8_K)
REPACKED(q5_K_8x8_q8_K)
REPACKED(q6_K_8x4_q8_K)
REPACKED(q6_K_8x8_q8_K)
ROWS(q4_0_q8_0)
ROWS(q8_0_q8_0)
ROWS(q4_K_q8_K)
ROWS(q5_K_q8_K)
ROWS(q6_K_q8_K)

using Repacked = void (*)(int, float *, size_t, const void *, const void *, int, int);
using Rows = void (*)(int, float *, size_t, const void *, size_t, const void *, size_t, int);

struct Kernel {
    const char * kind;
    const char * type;
    Repacked gemv, gemm;
    Rows row;
};
#define KERNEL(shape, type, act) {#shape, #type, ggml_gemv_##type##_##shape##_##act, ggml_gemm_##type##_##shape##_##act, nullptr}
#define ROW(type, act) {"rows", #type, nullptr, nullptr, ggml_vec_dot_##type##_##act}
static const Kernel KERNELS[] = {
    KERNEL(4x4, q4_0, q8_0), KERNEL(4x8, q4_0, q8_0), KERNEL(4x4, q8_0, q8_0), KERNEL(4x8, q8_0, q8_0),
    KERNEL(8x4, q4_K, q8_K), KERNEL(8x8, q4_K, q8_K), KERNEL(8x4, q5_K, q8_K), KERNEL(8x8, q5_K, q8_K),
    KERNEL(8x4, q6_K, q8_K), KERNEL(8x8, q6_K, q8_K),
    ROW(q4_0, q8_0), ROW(q8_0, q8_0), ROW(q4_K, q8_K), ROW(q5_K, q8_K), ROW(q6_K, q8_K),
};

// Where the watched part begins.
extern "C" __attribute__((noinline)) void product(
    const Kernel & k, int outputs, int cols, int rows, float * out, const char * weights, size_t row_bytes, const char * acts,
    size_t act_bytes) {
    if (k.row) {
        for (int m = 0; m < rows; m++) {
            for (int i = 0; i < outputs; i++) {
                k.row(cols, out + m * outputs + i, 0, weights + i * row_bytes, 0, acts + m * act_bytes, 0, 1);
            }
        }
    } else {
        // As ggml_compute_forward_mul_mat does for repacked weights: rows in fours, then one by one.
        int fours = rows - rows % 4;
        if (fours > 0) {
            k.gemm(cols, out, outputs, weights, acts, fours, outputs);
        }
        for (int m = fours; m < rows; m++) {
            k.gemv(cols, out + m * outputs, outputs, weights, acts + m * act_bytes, 1, outputs);
        }
    }
}

int main(int argc, char ** argv) {
    if (argc != 6) {
        return 2;
    }
    const int outputs = atoi(argv[3]), cols = atoi(argv[4]), rows = atoi(argv[5]);
    for (const Kernel & k : KERNELS) {
        if (k.kind == std::string(argv[1]) && k.type == std::string(argv[2])) {
            // More than any type takes: two bytes for each number.
            std::vector<char> weights(2 * outputs * cols, 1), acts(2 * rows * cols, 1);
            std::vector<float> out(outputs * rows);
            product(k, outputs, cols, rows, out.data(), weights.data(), cols, acts.data(), cols);
            printf("%f\n", out[0]);
            return 0;
        }
    }
    return 2;
}
