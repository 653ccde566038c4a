//! DEFLATE (RFC 1951) of a text that is much like a preset dictionary: a mail beside sample mails of its kind. A
//! general encoder enters the whole dictionary into its tables for every mail, which takes longer than all the rest of
//! a copy; here it is entered once. What comes out is read by any inflate that is given the same dictionary.

/// The shortest run that is worth pointing to.
const SHORTEST: usize = 6;
/// As far back as can be pointed.
const FARTHEST: usize = 32 * 1024;
/// So many places with the same beginning are compared.
const TRIED: usize = 8;
const SLOTS: usize = 1 << 13;
const OWN_SLOTS: usize = 1 << 10;

/// A dictionary, entered.
pub(super) struct Preset {
    bytes: Vec<u8>,
    /// By the hash of what begins there: one more than the last such place.
    heads: Vec<u16>,
    /// Of each place: the one before it with the same hash, likewise.
    before: Vec<u16>,
}

impl Preset {
    /// Enters a dictionary; what lies beyond the reach of its pointers is left out.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        let (mut heads, mut before) = (vec![0; SLOTS], vec![0; bytes.len()]);
        for (at, before) in before.iter_mut().enumerate() {
            if let (Some(slot), Ok(place)) = (slot(&bytes[at..]), u16::try_from(at + 1)) {
                *before = std::mem::replace(&mut heads[slot], place);
            }
        }
        Self { bytes, heads, before }
    }

    /// The dictionary itself.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The text, deflated.
    pub(super) fn deflate(&self, text: &[u8]) -> Vec<u8> {
        let mut out = Bits { bytes: Vec::with_capacity(text.len() / 8 + 256), held: 0, count: 0 };
        // The one and last block, with the fixed codes.
        out.put(0b011, 3);
        // Where something begins that the dictionary does not have, by its hash, plus one: names and times come twice.
        let mut own = [0_usize; OWN_SLOTS];
        let mut at = 0;
        while let Some(&byte) = text.get(at) {
            let slot = slot(&text[at..]);
            let run = slot.and_then(|slot| self.longest(text, at, slot, own[slot % OWN_SLOTS]));
            if let Some((length, distance)) = run {
                out.copy(length, distance);
                at += length;
            } else {
                if let Some(slot) = slot {
                    own[slot % OWN_SLOTS] = at + 1;
                }
                out.symbol(usize::from(byte));
                at += 1;
            }
        }
        out.symbol(END);
        out.finish()
    }

    /// The longest run found that begins like the text at a place: its length, and how far back it is.
    fn longest(&self, text: &[u8], at: usize, slot: usize, own: usize) -> Option<(usize, usize)> {
        let rest = &text[at..];
        let mut best = own.checked_sub(1).map(|place| (common(&text[place..at], rest), at - place)).unwrap_or_default();
        let mut place = usize::from(self.heads[slot]);
        for _ in 0..TRIED {
            let Some(start) = place.checked_sub(1) else { break };
            let (length, distance) = (common(&self.bytes[start..], rest), at + self.bytes.len() - start);
            if length > best.0 && distance <= FARTHEST {
                best = (length, distance);
            }
            place = usize::from(self.before[start]);
        }
        Some(best).filter(|(length, distance)| *length >= SHORTEST && *distance <= FARTHEST)
    }
}

/// The hash of the first octets.
fn slot(text: &[u8]) -> Option<usize> {
    let octets = text.first_chunk::<8>()?;
    let hash = (u64::from_le_bytes(*octets) << 16).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from(hash >> 51).ok()
}

/// How many octets are alike from the beginning.
fn common(a: &[u8], b: &[u8]) -> usize {
    let many = a.chunks_exact(16).zip(b.chunks_exact(16)).take_while(|(a, b)| a == b).count() * 16;
    many + a[many..].iter().zip(&b[many..]).take_while(|(a, b)| a == b).count()
}

/// The symbol that ends a block.
const END: usize = 256;
/// Of each length code from 257 on: its extra bits, and the shortest length.
static LENGTHS: [(u32, usize); 29] = ranges::<29>(3, 4, 8);
/// Of each distance code: its extra bits, and the shortest distance.
static DISTANCES: [(u32, usize); 30] = ranges::<30>(1, 2, 4);

/// Codes of which `step` each have one extra bit more than those before, after `plain` without any.
const fn ranges<const N: usize>(first: usize, step: usize, plain: usize) -> [(u32, usize); N] {
    let (mut all, mut code, mut least) = ([(0, 0); N], 0, first);
    while code < N {
        let extra = if code < plain { 0 } else { (code / step) as u32 - 1 };
        all[code] = (extra, least);
        least += 1 << extra;
        code += 1;
    }
    all
}

struct Bits {
    bytes: Vec<u8>,
    held: u64,
    count: u32,
}

impl Bits {
    /// The lowest bits of a value, lowest first.
    fn put(&mut self, value: usize, bits: u32) {
        self.held |= (value as u64) << self.count;
        self.count += bits;
        while self.count >= 8 {
            self.bytes.push(self.held.to_le_bytes()[0]);
            self.held >>= 8;
            self.count -= 8;
        }
    }

    /// A symbol in the fixed code of literals and lengths, highest bit first.
    fn symbol(&mut self, symbol: usize) {
        let (code, bits) = match symbol {
            0..=143 => (0b0011_0000 + symbol, 8),
            144..=255 => (0b1_1001_0000 + symbol - 144, 9),
            256..=279 => (symbol - 256, 7),
            _ => (0b1100_0000 + symbol - 280, 8),
        };
        self.put(code.reverse_bits() >> (usize::BITS - bits), bits);
    }

    /// A run of any length: no pointer copies more than 258, and none less than 3.
    fn copy(&mut self, length: usize, distance: usize) {
        let mut left = length;
        while left > 0 {
            let now = if matches!(left, 259 | 260) { left - 3 } else { left.min(258) };
            // Code 285 alone stands for 258; the one before it ends at 257.
            let code = if now == 258 { 28 } else { LENGTHS[..28].partition_point(|(_, least)| *least <= now) - 1 };
            self.symbol(257 + code);
            if now < 258 {
                self.put(now - LENGTHS[code].1, LENGTHS[code].0);
            }
            let code = DISTANCES.partition_point(|(_, least)| *least <= distance) - 1;
            self.put(code.reverse_bits() >> (usize::BITS - 5), 5);
            self.put(distance - DISTANCES[code].1, DISTANCES[code].0);
            left -= now;
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.put(0, 7);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn inflated(preset: &Preset, deflated: &[u8]) -> Vec<u8> {
        super::super::copies::inflate(preset.bytes(), deflated).unwrap()
    }

    #[test]
    fn the_codes_are_those_of_rfc_1951() {
        assert_eq!(LENGTHS[..12].iter().map(|l| l.1).collect::<Vec<_>>(), [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17]);
        assert_eq!((LENGTHS[27], DISTANCES[29]), ((5, 227), (13, 24577)));
        assert_eq!(DISTANCES[..8].iter().map(|d| d.1).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 7, 9, 13]);
    }

    #[test]
    fn runs_of_every_length_and_far_places_read_back() {
        let bytes: Vec<u8> = (0..24_000_u32).flat_map(|n| n.to_string().into_bytes()).take(24 * 1024).collect();
        let preset = Preset::new(bytes.clone());
        for length in (0..600).chain([24 * 1024]) {
            let text = [&bytes[..length], b"#", &bytes[bytes.len() - length..], b"#"].concat();
            assert_eq!(inflated(&preset, &preset.deflate(&text)), text, "{length}");
        }
        let long = bytes.repeat(5);
        assert_eq!(inflated(&preset, &preset.deflate(&long)), long);
    }

    proptest! {
        #[test]
        fn whatever_is_deflated_reads_back(
            dictionary in prop::collection::vec(prop::sample::select(b"ab\n\xff".to_vec()), 0..3_000),
            text in prop::collection::vec(prop::sample::select(b"ab\n\xff".to_vec()), 0..3_000),
        ) {
            let preset = Preset::new(dictionary);
            prop_assert_eq!(inflated(&preset, &preset.deflate(&text)), text);
        }
    }
}
