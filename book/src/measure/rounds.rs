//! Taking turns, and what is kept of many rounds.

use crate::data::Row;
use anyhow::Result;
use std::{process::Command, time::Instant};

/// Who takes part: one row for each number that a turn gives, and the turn itself, told the round.
pub(super) struct Contestant<'a> {
    pub(super) rows: Vec<Row>,
    pub(super) turn: Box<dyn FnMut(usize) -> Result<Vec<f64>> + 'a>,
}

/// Lets everyone have a turn in each round, and another one be the first each time. `before` prepares a round,
/// and is not measured. The first round warms the caches up, and does not count.
pub(super) fn take_turns(
    rounds: usize,
    mut before: impl FnMut(usize) -> Result<()>,
    mut contestants: Vec<Contestant<'_>>,
) -> Result<Vec<Row>> {
    let count = contestants.len();
    let mut all: Vec<Vec<Vec<f64>>> =
        contestants.iter().map(|one| vec![Vec::new(); one.rows.len()]).collect();
    for round in 0..=rounds {
        before(round)?;
        for turn in 0..count {
            let at = (turn + round) % count;
            let numbers = (contestants[at].turn)(round)?;
            if round > 0 {
                all[at].iter_mut().zip(numbers).for_each(|(kept, number)| kept.push(number));
            }
        }
    }
    let rows = contestants.into_iter().map(|one| one.rows);
    Ok(rows.flatten().zip(all.into_iter().flatten()).map(|(row, numbers)| summary(row, numbers)).collect())
}

/// The row of many numbers: their median and quartiles.
pub(super) fn summary(row: Row, mut numbers: Vec<f64>) -> Row {
    numbers.sort_by(f64::total_cmp);
    // Between two numbers, in proportion.
    let at = |part: f64| {
        let place = part * numbers.len().saturating_sub(1) as f64;
        let (low, high) = (numbers[place.floor() as usize], numbers[place.ceil() as usize]);
        round(low + (high - low) * place.fract())
    };
    Row { value: at(0.5), quartiles: Some([at(0.25), at(0.75)]), ..row }
}

/// Four digits say all that can be known.
pub(super) fn round(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

/// How long a command takes, in milliseconds. It has to succeed.
pub(super) fn time(command: &mut Command) -> Result<f64> {
    let began = Instant::now();
    let output = command.output();
    let took = began.elapsed().as_secs_f64() * 1e3;
    super::peers::succeeded(command, output).map(|_| took)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn everyone_has_a_turn_in_each_round_and_the_first_round_is_not_counted() {
        let order = RefCell::new(String::new());
        let seen = &order;
        let one = |name: &'static str, of: fn(usize) -> f64| Contestant {
            rows: vec![Row { key: name.into(), ..Row::default() }],
            turn: Box::new(move |round| {
                seen.borrow_mut().push_str(name);
                Ok(vec![of(round)])
            }),
        };
        let say = |round: usize| {
            order.borrow_mut().push_str(&round.to_string());
            Ok(())
        };
        let contestants =
            vec![one("a", |round| round as f64), one("b", |round| 100.0 / (round * round) as f64)];
        let rows = take_turns(4, say, contestants).unwrap();
        assert_eq!(*order.borrow(), "0ab1ba2ab3ba4ab");
        assert_eq!((rows[0].value, rows[0].quartiles), (2.5, Some([1.75, 3.25])));
        assert_eq!(rows[1].value, round((25.0 + 100.0 / 9.0) / 2.0));
    }
}
