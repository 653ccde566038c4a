//! Bytes as text.

/// Bytes in hexadecimal: two lower-case digits for each. A mail's copy is thousands of them, so nothing is formatted.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble });
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::hex;

    #[test]
    fn every_byte_has_the_digits_that_formatting_gives_it() {
        for byte in 0..=u8::MAX {
            assert_eq!(hex(&[byte, !byte]), format!("{byte:02x}{:02x}", !byte));
        }
    }
}
