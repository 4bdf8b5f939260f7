//! Tests of the products: plain sums in f64, on every instruction set that the processor has.

use super::*;

fn values(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 37 + seed * 101) % 23) as f32 / 11.0 - 1.0).collect()
}

#[test]
fn products_equal_plain_sums_on_every_instruction_set() {
    for isa in Isa::available() {
        let k = Kernels::with(isa);
        for (taps, depth, columns, lines, pixels, stride) in
            [(1, 7, 5, 1, 9, 1), (9, 20, 33, 3, 7, 1), (9, 3, 64, 2, 11, 2), (1, 700, 130, 1, 13, 1)]
        {
            let (width, line) = (pixels * stride + 2, (pixels * stride + 2) * depth * stride);
            let input = values((lines * stride + 3) * width * depth, 1);
            let offsets: Vec<usize> = (0..taps).map(|t| (t / 3 * width + t % 3) * depth).collect();
            let window = Window { taps: &offsets, depth, pixel: stride * depth, line, lines, pixels };
            let matrix = values(taps * depth * columns, 2);
            let packed = k.pack(&matrix, taps, depth, columns, [depth * columns, columns, 1]);
            let row = columns + 3;
            let before = values(lines * pixels * row, 3);
            for add in [false, true] {
                let mut out = before.clone();
                k.multiply(&input, &window, &packed, &mut out, row, add);
                for (q, got) in out.chunks(row).enumerate() {
                    for n in 0..row {
                        let mut want = f64::from(before[q * row + n]);
                        if n < columns {
                            let at = q / pixels * line + q % pixels * stride * depth;
                            let sum: f64 = (0..taps * depth)
                                .map(|r| {
                                    let x = input[offsets[r / depth] + at + r % depth];
                                    f64::from(x) * f64::from(matrix[r * columns + n])
                                })
                                .sum();
                            want = sum + if add { want } else { 0.0 };
                        }
                        assert!((f64::from(got[n]) - want).abs() < 1e-3, "{isa} {taps} {depth} {columns}");
                    }
                }
            }
            // The transposed matrix packed by strides is the same.
            let turned: Vec<f32> = (0..columns * taps * depth)
                .map(|i| matrix[i % (taps * depth) * columns + i / (taps * depth)])
                .collect();
            let again = k.pack(&turned, taps, depth, columns, [depth, 1, taps * depth]);
            assert_eq!(packed.data.as_slice(), again.data.as_slice());

            let b = values(pixels * columns, 4);
            let mut out = values(depth * columns, 5);
            let start = out.clone();
            k.outer(&input, stride * depth, depth, &b, columns, pixels, &mut out, &mut Vec::new());
            for d in 0..depth {
                for n in 0..columns {
                    let sum: f64 = (0..pixels)
                        .map(|p| f64::from(input[p * stride * depth + d]) * f64::from(b[p * columns + n]))
                        .sum();
                    let want = sum + f64::from(start[d * columns + n]);
                    assert!((f64::from(out[d * columns + n]) - want).abs() < 1e-3);
                }
            }
        }
    }
}
