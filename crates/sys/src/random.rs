//! Bytes that nobody guesses. Not for: numbers that only have to look like chance.

use std::io;

/// Returns 128 random bits.
///
/// # Errors
/// The kernel has none yet, or may not be asked.
pub fn bytes() -> io::Result<[u8; 16]> {
    let mut bytes = [0_u8; 16];
    loop {
        // SAFETY: the kernel writes so many bytes at most, to where so many are.
        let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        match usize::try_from(count) {
            Ok(count) if count == bytes.len() => return Ok(bytes),
            // So few come whole, unless a signal has come before.
            Ok(_) => {}
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn they_are_others_each_time() {
        assert_ne!(super::bytes().expect("random"), super::bytes().expect("random"));
    }
}
