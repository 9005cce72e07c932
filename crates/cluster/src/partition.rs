//! Which partition a topic belongs to.

/// The partition of `topic`, of so many that there are.
///
/// The same on every node and in every release, since what is stored under a partition stays there: FNV-1a over the bytes
/// of the name (64 bits), the finalizer of `MurmurHash3` (`fmix64`), and the upper half of the product with the number of
/// partitions. It has no key: who may choose names can have them meet in one partition.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the product's upper half is below the number of partitions"
)]
pub fn of(topic: &str, partitions: usize) -> usize {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in topic.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    ((u128::from(mix(hash)) * partitions as u128) >> 64) as usize
}

/// `fmix64`: each bit of the result hangs on each of `number`, and no two numbers have the same.
pub fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    number = (number ^ (number >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    number ^ (number >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_in_every_release() {
        // A log that was written by an older release is read by this one: these may never change.
        for (topic, partition) in [
            ("orders", 12),
            ("orders.eu", 37),
            ("a", 32),
            ("ünïcode/€", 7),
            ("prices.EURUSD", 50),
        ] {
            assert_eq!(of(topic, 64), partition, "{topic}");
        }
    }

    #[test]
    fn alike_names_are_spread() {
        for partitions in [1_usize, 7, 64] {
            let mut counts = vec![0_u32; partitions];
            for number in 0..64_000 {
                counts[of(&format!("topic-{number}"), partitions)] += 1;
            }
            let even = 64_000 / u32::try_from(partitions).expect("small");
            assert!(
                counts.iter().all(|count| count.abs_diff(even) < even / 4),
                "{counts:?}"
            );
        }
    }
}
