//! Trouble that lasts is told once, and then at growing intervals: what fails every second would else fill the disk, which may
//! be the trouble.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(600);
/// Words that are new are told at once, unless there have been so many: then each time has its own.
const MOST_WORDS: usize = 8;

/// What fails again and again, and how much of it was told.
#[derive(Debug, Default)]
pub struct Trouble {
    words: Vec<String>,
    times: u64,
    /// When it is told again, and how long after the last time.
    next: Option<(Instant, Duration)>,
}

impl Trouble {
    /// It failed, with these words; how often by now, if that is to be told.
    pub fn again(&mut self, now: Instant, words: &str) -> Option<u64> {
        self.times += 1;
        let is_new = self.words.len() < MOST_WORDS && self.words.iter().all(|known| known != words);
        if is_new {
            self.words.push(words.to_owned());
        }
        let is_due = self.next.is_none_or(|(at, _)| now >= at);
        if is_due {
            let pause = self.next.map_or(FIRST, |(_, pause)| (pause * 2).min(LONGEST));
            self.next = Some((now + pause, pause));
        }
        (is_new || is_due).then_some(self.times)
    }

    /// It worked; how often it failed before that.
    pub fn over(&mut self) -> u64 {
        std::mem::take(self).times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seconds, of so many, at which trouble that comes every second is told.
    fn told(trouble: &mut Trouble, start: Instant, seconds: u64) -> Vec<u64> {
        (0..seconds).filter(|s| trouble.again(start + Duration::from_secs(*s), "full").is_some()).collect()
    }

    #[test]
    fn the_same_is_told_at_growing_intervals_until_it_is_over() {
        let (mut trouble, start) = (Trouble::default(), Instant::now());
        let expected = [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 1_023, 1_623, 2_223];
        assert_eq!(told(&mut trouble, start, 2_600), expected);
        assert_eq!((trouble.over(), trouble.over()), (2_600, 0));
        assert_eq!(trouble.again(start, "full"), Some(1));
    }

    #[test]
    fn new_words_are_told_at_once_while_they_are_few() {
        let (mut trouble, now) = (Trouble::default(), Instant::now());
        assert_eq!(trouble.again(now, "full"), Some(1));
        assert_eq!(trouble.again(now, "read-only"), Some(2));
        assert_eq!(trouble.again(now, "full"), None);
        let many = (0..100).filter(|n| trouble.again(now, &n.to_string()).is_some()).count();
        assert_eq!(many, MOST_WORDS - 2);
    }
}
