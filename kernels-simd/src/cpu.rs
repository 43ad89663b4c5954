//! What this CPU can do.
//!
//! Asked of the hardware itself (CPUID and XGETBV), so that the answer does not depend on the standard library's feature
//! detection and covers what that lacks.

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::x86;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
    use std::sync::OnceLock;

    /// The instruction sets that kernels exist for.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct X86 {
        pub(crate) avx2: bool,
        pub(crate) avx512vnni: bool,
    }

    /// The features of this CPU, asked once.
    pub(crate) fn x86() -> X86 {
        static FEATURES: OnceLock<X86> = OnceLock::new();
        *FEATURES.get_or_init(detect)
    }

    #[target_feature(enable = "xsave")]
    fn xcr0() -> u64 {
        // SAFETY: register 0 always exists where XGETBV does.
        unsafe { _xgetbv(0) }
    }

    /// Bit positions: Intel SDM volume 2, CPUID.
    fn detect() -> X86 {
        let bit = |register: u32, n: u32| register >> n & 1 == 1;
        let highest_leaf = __cpuid(0).eax;
        let leaf1 = __cpuid(1);
        let osxsave = bit(leaf1.ecx, 27);
        if highest_leaf < 7 || !osxsave {
            return X86 { avx2: false, avx512vnni: false };
        }
        // SAFETY: OSXSAVE says that XGETBV may be used.
        let saved = unsafe { xcr0() };
        let ymm_saved = saved & 0b110 == 0b110;
        let zmm_saved = saved & 0b1110_0110 == 0b1110_0110;
        let leaf7 = __cpuid_count(7, 0);
        let fma = bit(leaf1.ecx, 12);
        let f16c = bit(leaf1.ecx, 29);
        let avx2 = ymm_saved && fma && f16c && bit(leaf7.ebx, 5);
        let [f, dq, bw, vl] = [16, 17, 30, 31].map(|n| bit(leaf7.ebx, n));
        let vnni = bit(leaf7.ecx, 11);
        X86 { avx2, avx512vnni: avx2 && zmm_saved && f && dq && bw && vl && vnni }
    }
}
