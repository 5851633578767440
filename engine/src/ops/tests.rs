//! Fixed-point functions against f64.

use super::{Rotation, exp2_neg, rope_frequencies, scaled_f32, swiglu};
use crate::simd;
use crate::simd::tests::Random;

#[test]
fn scaling_rounds_to_nearest_even() {
    let mut random = Random(11);
    for round in 0..20_000 {
        let value = random.next().cast_signed() >> (round % 63);
        let exponent = random.range(-90, 40) as i32;
        // Exact in f64 up to 53 bits; wider values are cut so that both see the same number.
        let value = value >> 11;
        let expected = (value as f64 * 2f64.powi(exponent)) as f32;
        assert_eq!(
            scaled_f32(value, exponent),
            expected,
            "{value} * 2^{exponent}"
        );
    }
    assert_eq!(scaled_f32(0, 5), 0.0);
    assert_eq!(scaled_f32(i64::MIN, 0), i64::MIN as f32);
    for value in [i64::MIN, -1, 1, i64::MAX] {
        for exponent in [i32::MIN, -200, 200, i32::MAX] {
            assert!(scaled_f32(value, exponent).is_finite());
        }
    }
}

#[test]
fn powers_of_two_are_near_enough() {
    for x in 0..12 << 16 {
        let found = f64::from(exp2_neg(x)) / 2f64.powi(30);
        let expected = (-f64::from(x) / 65_536.0).exp2();
        assert!((found / expected - 1.0).abs() < 8e-6, "{x}");
        if x < 1 << 16 {
            assert!((found / expected - 1.0).abs() < 2e-6, "{x}");
        }
    }
    assert_eq!(exp2_neg(0), 1 << 30);
    assert_eq!(exp2_neg(i32::MAX), 0);
}

#[test]
fn gates_are_near_enough() {
    for step in -4000..4000 {
        let x = step as f32 / 100.0;
        let found = swiglu(x, 2.0);
        let expected = 2.0 * f64::from(x) / (1.0 + (-f64::from(x)).exp());
        let error = (f64::from(found) - expected).abs();
        assert!(
            error < 2e-5 * expected.abs() + 1e-9,
            "{x}: {found} and {expected}"
        );
    }
    for x in [f32::MAX, f32::MIN, 1e-30, -0.0] {
        assert!(swiglu(x, 1.0).is_finite());
    }
}

#[test]
fn norms_have_unit_mean_square() {
    let mut random = Random(4);
    for length in [8, 64, 101] {
        let x: Vec<f32> = (0..length).map(|_| random.float() * 3.0).collect();
        let mut out = vec![0.0; length];
        (simd::select().norm)(&x, &vec![1.0; length], 0.0, &mut out);
        let mean: f32 = out.iter().map(|x| x * x).sum::<f32>() / length as f32;
        assert!((mean - 1.0).abs() < 1e-5);
    }
}

#[test]
fn rotation_keeps_angles_between_positions() {
    let frequencies = rope_frequencies(10_000.0, 32);
    assert_eq!(frequencies[0], 1.0);
    let head: Vec<f32> = (0..32).map(|i| (i as f32).sin()).collect();
    let turned = |position: usize| {
        let mut rotation = Rotation::default();
        rotation.set(position, &frequencies);
        let mut head = head.clone();
        rotation.apply(&mut head);
        head
    };
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    assert_eq!(turned(0), head);
    let near = dot(&turned(3), &turned(10));
    let far = dot(&turned(1003), &turned(1010));
    assert!((near - far).abs() < 1e-2 * near.abs().max(1.0));
}
