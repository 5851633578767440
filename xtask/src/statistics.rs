//! What is made of repeated measurements.

/// The middle one of `values`, the upper of two; none of none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// The smallest of `values` that a `part` of them, from 0 to 1, does not exceed; none of none.
pub(crate) fn quantile(values: &[f64], part: f64) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let rank = (part * values.len() as f64).ceil() as usize;
    values.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occur() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        let of = |part| quantile(&values, part);
        assert_eq!(
            (of(0.0), of(0.5), of(0.99), of(1.0)),
            (Some(1.0), Some(100.0), Some(198.0), Some(200.0))
        );
        assert_eq!(quantile(&[], 0.5), None);
    }
}
