//! What this CPU can do, by two witnesses.

/// The standard library asks the hardware, too; it knows all that is asked for here but tiles and their permission.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[test]
fn the_standard_library_sees_the_same_features() {
    #[cfg(target_arch = "x86_64")]
    let known = [
        ("AVX2", is_x86_feature_detected!("avx2")),
        ("FMA", is_x86_feature_detected!("fma")),
        ("F16C", is_x86_feature_detected!("f16c")),
        ("AVX_VNNI", is_x86_feature_detected!("avxvnni")),
        ("AVX512F", is_x86_feature_detected!("avx512f")),
        ("AVX512DQ", is_x86_feature_detected!("avx512dq")),
        ("AVX512BW", is_x86_feature_detected!("avx512bw")),
        ("AVX512VL", is_x86_feature_detected!("avx512vl")),
        ("AVX512_VNNI", is_x86_feature_detected!("avx512vnni")),
    ];
    #[cfg(target_arch = "aarch64")]
    let known = [
        ("NEON", std::arch::is_aarch64_feature_detected!("neon")),
        ("DotProd", std::arch::is_aarch64_feature_detected!("dotprod")),
        ("I8MM", std::arch::is_aarch64_feature_detected!("i8mm")),
    ];
    let (_, features) = quipu_kernels::cpu();
    for feature in known {
        assert!(features.contains(&feature), "{feature:?}");
    }
}
