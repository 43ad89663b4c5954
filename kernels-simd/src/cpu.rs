//! What this CPU can do.
//!
//! Asked of the hardware (CPUID and XGETBV) or the system (`getauxval`, `sysctlbyname`, `IsProcessorFeaturePresent`)
//! itself, so that the answer does not depend on the standard library's feature detection and covers what that lacks.

use std::sync::OnceLock;

#[cfg(target_arch = "aarch64")]
use aarch64 as arch;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
use other as arch;
#[cfg(target_arch = "x86_64")]
use x86_64 as arch;

/// A feature that an instruction set asks for, by the name in the manufacturer's manual, and whether it can be used
/// here: the CPU has it, and the system saves its registers.
pub type Feature = (&'static str, bool);

/// What this CPU says of itself: its name, if it tells one, and the features that matter here.
pub fn cpu() -> (Option<String>, Vec<Feature>) {
    (arch::name(), features().to_vec())
}

/// The features of this CPU, asked once.
pub(crate) fn features() -> &'static [Feature] {
    static FEATURES: OnceLock<Vec<Feature>> = OnceLock::new();
    FEATURES.get_or_init(arch::features)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod other {
    pub(super) fn name() -> Option<String> {
        None
    }

    pub(super) fn features() -> Vec<super::Feature> {
        Vec::new()
    }
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    /// What the system says of the features beside NEON, which is always there.
    #[derive(Default)]
    struct System {
        dotprod: bool,
        i8mm: bool,
    }

    pub(super) fn features() -> Vec<super::Feature> {
        let System { dotprod, i8mm } = ask();
        vec![("NEON", true), ("DotProd", dotprod), ("I8MM", i8mm)]
    }

    /// The CPU has no register with its name.
    pub(super) fn name() -> Option<String> {
        None
    }

    /// From the auxiliary vector; its numbers are part of Linux's system interface (`uapi/linux/auxvec.h`,
    /// `arch/arm64/include/uapi/asm/hwcap.h`). The kernel reports only what all cores have.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn ask() -> System {
        use std::ffi::c_ulong;
        unsafe extern "C" {
            safe fn getauxval(kind: c_ulong) -> c_ulong;
        }
        const AT_HWCAP: c_ulong = 16;
        const AT_HWCAP2: c_ulong = 26;
        const HWCAP_ASIMDDP: c_ulong = 1 << 20;
        const HWCAP2_I8MM: c_ulong = 1 << 13;
        System { dotprod: getauxval(AT_HWCAP) & HWCAP_ASIMDDP != 0, i8mm: getauxval(AT_HWCAP2) & HWCAP2_I8MM != 0 }
    }

    /// From `sysctl`. A system that is older than the name of a feature does not know it; then the feature is missing.
    #[cfg(target_vendor = "apple")]
    fn ask() -> System {
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
        System { dotprod: has(c"hw.optional.arm.FEAT_DotProd"), i8mm: has(c"hw.optional.arm.FEAT_I8MM") }
    }

    /// From the kernel; its numbers are those of `winnt.h`. A system that is older than the name of a feature does not
    /// know it; then the feature is missing.
    #[cfg(windows)]
    fn ask() -> System {
        #[link(name = "kernel32")]
        unsafe extern "system" {
            safe fn IsProcessorFeaturePresent(feature: u32) -> i32;
        }
        const PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE: u32 = 43;
        const PF_ARM_V82_I8MM_INSTRUCTIONS_AVAILABLE: u32 = 66;
        System {
            dotprod: IsProcessorFeaturePresent(PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE) != 0,
            i8mm: IsProcessorFeaturePresent(PF_ARM_V82_I8MM_INSTRUCTIONS_AVAILABLE) != 0,
        }
    }

    /// Systems that are not asked run on what every CPU has.
    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple", windows)))]
    fn ask() -> System {
        System::default()
    }
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

    #[target_feature(enable = "xsave")]
    fn xcr0() -> u64 {
        // SAFETY: register 0 always exists where XGETBV does.
        unsafe { _xgetbv(0) }
    }

    /// XCR0: the state components of tiles, their configuration and their contents.
    const TILES: u64 = 0b11 << 17;

    /// Asks the system to let this process, with all threads to come, use tiles. Linux gives the 8 KB for their
    /// contents only to those who ask (`Documentation/arch/x86/xstate.rst`); a process that may not have them runs on
    /// the instruction sets without.
    #[cfg(target_os = "linux")]
    fn tile_permission() -> bool {
        const ARCH_PRCTL: i64 = 158;
        const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
        const XTILEDATA: u64 = 18;
        let status: i64;
        // SAFETY: Linux's system call, which takes two numbers, touches no memory and leaves all registers but these
        // three.
        unsafe {
            std::arch::asm!(
                "syscall",
                inlateout("rax") ARCH_PRCTL => status,
                in("rdi") ARCH_REQ_XCOMP_PERM,
                in("rsi") XTILEDATA,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        status == 0
    }

    /// How other systems let a process use tiles is not known here.
    #[cfg(not(target_os = "linux"))]
    fn tile_permission() -> bool {
        false
    }

    /// Bit positions: Intel SDM volume 2, CPUID. A feature whose registers the system does not save (XCR0) counts as
    /// missing.
    pub(super) fn features() -> Vec<super::Feature> {
        let bit = |register: u32, n: u32| register >> n & 1 == 1;
        let leaf = |n: u32, sub: u32| if __cpuid(0).eax < n { None } else { Some(__cpuid_count(n, sub)) };
        let (ecx1, saved) = match leaf(1, 0).map(|leaf| leaf.ecx) {
            // SAFETY: OSXSAVE (bit 27) says that XGETBV may be used.
            Some(ecx) if bit(ecx, 27) => (ecx, unsafe { xcr0() }),
            _ => (0, 0),
        };
        let [ebx7, ecx7, edx7] = leaf(7, 0).map_or([0; 3], |leaf| [leaf.ebx, leaf.ecx, leaf.edx]);
        let eax71 = leaf(7, 1).map_or(0, |leaf| leaf.eax);
        let ymm = saved & 0b110 == 0b110;
        let zmm = saved & 0b1110_0110 == 0b1110_0110;
        // Tiles as the kernels configure them: palette 1 has eight of 16 rows of 64 bytes, and the products take all of
        // that.
        let palette = leaf(0x1d, 1).is_some_and(|leaf| leaf.ebx == 8 << 16 | 64 && leaf.ecx & 0xffff == 16);
        let products = leaf(0x1e, 0).is_some_and(|leaf| leaf.ebx & 0xff >= 16 && leaf.ebx >> 8 & 0xffff >= 64);
        let tile = saved & TILES == TILES && bit(edx7, 24) && palette;
        vec![
            ("AVX2", ymm && bit(ebx7, 5)),
            ("FMA", ymm && bit(ecx1, 12)),
            ("F16C", ymm && bit(ecx1, 29)),
            ("AVX_VNNI", ymm && bit(eax71, 4)),
            ("AVX512F", zmm && bit(ebx7, 16)),
            ("AVX512DQ", zmm && bit(ebx7, 17)),
            ("AVX512BW", zmm && bit(ebx7, 30)),
            ("AVX512VL", zmm && bit(ebx7, 31)),
            ("AVX512_VNNI", zmm && bit(ecx7, 11)),
            ("AMX_TILE", tile),
            ("AMX_INT8", tile && bit(edx7, 25) && products),
            ("XTILEDATA_PERM", tile && tile_permission()),
        ]
    }

    /// The brand string.
    pub(super) fn name() -> Option<String> {
        const FIRST: u32 = 0x8000_0002;
        if __cpuid(0x8000_0000).eax < FIRST + 2 {
            return None;
        }
        let leaves = (FIRST..=FIRST + 2).map(__cpuid);
        let bytes: Vec<u8> = leaves.flat_map(|l| [l.eax, l.ebx, l.ecx, l.edx]).flat_map(u32::to_le_bytes).collect();
        let name = String::from_utf8_lossy(&bytes);
        let name = name.trim_matches(|c: char| c == '\0' || c.is_whitespace());
        (!name.is_empty()).then(|| name.to_string())
    }
}
