//! Arrays in JSON: serde knows only those of up to 32. One of another length, of an older version, is cut or filled with
//! zeros. Not for anything that may grow.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(super) fn serialize<S, T, const N: usize>(array: &[T; N], serializer: S) -> Result<S::Ok, S::Error>
where
    S: Serializer,
    T: Serialize,
{
    serializer.collect_seq(array)
}

pub(super) fn deserialize<'de, D, T, const N: usize>(deserializer: D) -> Result<[T; N], D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Copy + Default,
{
    let mut array = [T::default(); N];
    let read = Vec::<T>::deserialize(deserializer)?;
    array.iter_mut().zip(read).for_each(|(place, value)| *place = value);
    Ok(array)
}
