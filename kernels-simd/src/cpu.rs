//! What this CPU can do.
//!
//! Asked of the hardware (CPUID and XGETBV) or the system (`getauxval`, `sysctlbyname`) itself, so that the answer does not
//! depend on the standard library's feature detection and covers what that lacks.

#[cfg(target_arch = "aarch64")]
pub(crate) use arm::arm;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::x86;

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::sync::OnceLock;

    /// The instruction sets that kernels exist for, beside NEON, which is always there.
    #[derive(Clone, Copy, Debug, Default)]
    pub(crate) struct ArmFeatures {
        pub(crate) dotprod: bool,
        pub(crate) i8mm: bool,
    }

    /// The features of this CPU, asked once.
    pub(crate) fn arm() -> ArmFeatures {
        static FEATURES: OnceLock<ArmFeatures> = OnceLock::new();
        *FEATURES.get_or_init(detect)
    }

    /// From the auxiliary vector; its numbers are part of Linux's system interface (`uapi/linux/auxvec.h`,
    /// `arch/arm64/include/uapi/asm/hwcap.h`). The kernel reports only what all cores have.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn detect() -> ArmFeatures {
        use std::ffi::c_ulong;
        unsafe extern "C" {
            safe fn getauxval(kind: c_ulong) -> c_ulong;
        }
        const AT_HWCAP: c_ulong = 16;
        const AT_HWCAP2: c_ulong = 26;
        const HWCAP_ASIMDDP: c_ulong = 1 << 20;
        const HWCAP2_I8MM: c_ulong = 1 << 13;
        ArmFeatures { dotprod: getauxval(AT_HWCAP) & HWCAP_ASIMDDP != 0, i8mm: getauxval(AT_HWCAP2) & HWCAP2_I8MM != 0 }
    }

    /// From the system's list of features, which newer names join as systems grow.
    #[cfg(target_vendor = "apple")]
    fn detect() -> ArmFeatures {
        use std::ffi::{CStr, c_char, c_int, c_void};
        use std::ptr::{from_mut, null_mut};
        unsafe extern "C" {
            fn sysctlbyname(
                name: *const c_char,
                old: *mut c_void,
                old_len: *mut usize,
                new: *mut c_void,
                new_len: usize,
            ) -> c_int;
        }
        let has = |name: &CStr| {
            let (mut value, mut len): (c_int, _) = (0, size_of::<c_int>());
            // SAFETY: `name` is a C string, `value` is as long as `len` says, and nothing is written into the system.
            let status = unsafe { sysctlbyname(name.as_ptr(), from_mut(&mut value).cast(), &mut len, null_mut(), 0) };
            status == 0 && value == 1
        };
        ArmFeatures { dotprod: has(c"hw.optional.arm.FEAT_DotProd"), i8mm: has(c"hw.optional.arm.FEAT_I8MM") }
    }

    /// Systems that are not asked run on what every CPU has.
    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    fn detect() -> ArmFeatures {
        ArmFeatures::default()
    }
}

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
