//! The shortest way from one sequence to another, as splices. Bounded: beyond a number of
//! differences the middle is replaced as a whole, which loses nothing that was inserted meanwhile.

use std::ops::Range;

/// How many differences are looked for before the middle is replaced.
const MAX_DIFFERENCES: usize = 512;

/// Replaces a range of the old sequence by a range of the new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Replace {
    pub(super) old: Range<usize>,
    pub(super) new: Range<usize>,
}

/// What makes `new` of `old`, from the front to the back.
pub(super) fn diff<T: PartialEq>(old: &[T], new: &[T]) -> Vec<Replace> {
    let front = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (&old[front..], &new[front..]);
    let back = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(a, b)| a == b).count();
    let (old_middle, new_middle) =
        (&old_rest[..old_rest.len() - back], &new_rest[..new_rest.len() - back]);
    if old_middle.is_empty() && new_middle.is_empty() {
        return vec![];
    }
    let whole = || vec![Replace { old: 0..old_middle.len(), new: 0..new_middle.len() }];
    let middle = if old_middle.is_empty() || new_middle.is_empty() {
        whole()
    } else {
        myers(old_middle, new_middle).unwrap_or_else(whole)
    };
    let shift = |range: Range<usize>| range.start + front..range.end + front;
    middle
        .into_iter()
        .map(|Replace { old, new }| Replace { old: shift(old), new: shift(new) })
        .collect()
}

/// Myers' greedy algorithm; none beyond [`MAX_DIFFERENCES`].
fn myers<T: PartialEq>(old: &[T], new: &[T]) -> Option<Vec<Replace>> {
    let most = MAX_DIFFERENCES.min(old.len() + new.len());
    let offset = most + 1;
    let mut furthest = vec![0_usize; 2 * most + 3];
    let mut trace: Vec<Vec<usize>> = Vec::new();
    for differences in 0..=most {
        trace.push(furthest[offset - differences..=offset + differences].to_vec());
        for step in 0..=differences {
            // The diagonal, shifted by the offset.
            let diagonal = offset - differences + 2 * step;
            let down = step == 0
                || (step != differences && furthest[diagonal - 1] < furthest[diagonal + 1]);
            let mut x = if down { furthest[diagonal + 1] } else { furthest[diagonal - 1] + 1 };
            // y = x - (diagonal - offset); a path may leave the grid at the bottom.
            let Some(mut y) = (x + offset).checked_sub(diagonal) else { continue };
            while x < old.len() && y < new.len() && old[x] == new[y] {
                (x, y) = (x + 1, y + 1);
            }
            furthest[diagonal] = x;
            if x >= old.len() && y >= new.len() {
                return Some(backtrack(&trace, old.len(), new.len()));
            }
        }
    }
    None
}

fn backtrack(trace: &[Vec<usize>], old: usize, new: usize) -> Vec<Replace> {
    let (mut x, mut y) = (old, new);
    let mut edits: Vec<Replace> = Vec::new();
    for (differences, furthest) in trace.iter().enumerate().rev() {
        if differences == 0 {
            break;
        }
        // `furthest` holds the diagonals -differences..=differences as they were before this step.
        let at = |diagonal: isize| furthest[(diagonal + differences as isize) as usize];
        let (d, k) = (differences as isize, x as isize - y as isize);
        let down = k == -d || (k != d && at(k - 1) < at(k + 1));
        let previous = if down { k + 1 } else { k - 1 };
        let from_x = at(previous);
        let from_y = (from_x as isize - previous) as usize;
        let edit = match down {
            true => Replace { old: from_x..from_x, new: from_y..from_y + 1 },
            false => Replace { old: from_x..from_x + 1, new: from_y..from_y },
        };
        (x, y) = (from_x, from_y);
        match edits.last_mut() {
            Some(last) if last.old.start == edit.old.end && last.new.start == edit.new.end => {
                last.old.start = edit.old.start;
                last.new.start = edit.new.start;
            }
            _ => edits.push(edit),
        }
    }
    edits.reverse();
    edits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apply(old: &[u8], new: &[u8], edits: &[Replace]) -> Vec<u8> {
        let mut out = old.to_vec();
        for edit in edits.iter().rev() {
            out.splice(edit.old.clone(), new[edit.new.clone()].iter().copied());
        }
        out
    }

    #[test]
    fn only_what_differs_is_touched() {
        let edits = diff(b"the quick fox", b"the slow fox");
        assert_eq!(apply(b"the quick fox", b"the slow fox", &edits), b"the slow fox");
        assert!(edits.iter().all(|edit| edit.old.start >= 4 && edit.old.end <= 9), "{edits:?}");
        assert_eq!(diff(b"same", b"same"), vec![]);
        let far: Vec<u16> = (0..2_000).collect();
        let other: Vec<u16> = (5_000..7_000).collect();
        assert_eq!(diff(&far, &other), vec![Replace { old: 0..2_000, new: 0..2_000 }]);
    }

    proptest! {
        #[test]
        fn the_edits_make_the_new_sequence(old in "[abc]{0,40}", new in "[abc]{0,40}") {
            let edits = diff(old.as_bytes(), new.as_bytes());
            prop_assert_eq!(apply(old.as_bytes(), new.as_bytes(), &edits), new.as_bytes());
        }
    }
}
