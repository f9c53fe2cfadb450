//! Denormal numbers are flushed to zero while the engine computes: they make the memory read up to 90 times slower.

#![allow(
    unsafe_code,
    reason = "the floating-point control register has no safe access"
)]

/// Flushes denormals on this thread until it is dropped.
#[derive(Debug)]
pub(crate) struct FlushDenormals {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    before: Control,
    // The register belongs to the thread: the guard must be dropped where it was made.
    _this_thread: std::marker::PhantomData<*const ()>,
}

#[cfg(target_arch = "x86_64")]
type Control = u32;
#[cfg(target_arch = "aarch64")]
type Control = u64;

#[cfg(target_arch = "x86_64")]
fn read() -> Control {
    let mut value: u32 = 0;
    // SAFETY: stores the 32-bit control and status register into a valid, aligned u32 and touches nothing else.
    unsafe {
        std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack, preserves_flags));
    };
    value
}

#[cfg(target_arch = "x86_64")]
fn write(value: Control) {
    // SAFETY: loads a value that was read from this register, with only the bits FTZ and DAZ changed; both exist on
    // every x86-64 processor. Rust assumes the default mode only for the results of denormal arithmetic, on which
    // nothing between the guard's creation and drop depends.
    unsafe {
        std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack, preserves_flags, readonly));
    };
}

/// FTZ (bit 15) and DAZ (bit 6).
#[cfg(target_arch = "x86_64")]
const FLUSH: Control = 1 << 15 | 1 << 6;

#[cfg(target_arch = "aarch64")]
fn read() -> Control {
    let value: u64;
    // SAFETY: reads the floating-point control register, which is always accessible from user space.
    unsafe {
        std::arch::asm!("mrs {}, fpcr", out(reg) value, options(nomem, nostack, preserves_flags))
    };
    value
}

#[cfg(target_arch = "aarch64")]
fn write(value: Control) {
    // SAFETY: writes a value that was read from this register, with only the bit FZ changed. See x86-64 for why Rust's
    // assumptions hold.
    unsafe {
        std::arch::asm!("msr fpcr, {}", in(reg) value, options(nomem, nostack, preserves_flags))
    };
}

/// FZ (bit 24).
#[cfg(target_arch = "aarch64")]
const FLUSH: Control = 1 << 24;

impl FlushDenormals {
    pub(crate) fn new() -> Self {
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        let before = read();
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        write(before | FLUSH);
        Self {
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            before,
            _this_thread: std::marker::PhantomData,
        }
    }
}

impl Drop for FlushDenormals {
    fn drop(&mut self) {
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        write((read() & !FLUSH) | (self.before & FLUSH));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[test]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn denormals_vanish_only_while_the_guard_lives() {
        let tiny = || black_box(f32::MIN_POSITIVE) * black_box(0.25);
        assert!(tiny() > 0.0);
        {
            let _guard = FlushDenormals::new();
            assert!(tiny() == 0.0);
        }
        assert!(tiny() > 0.0);
    }
}
