//! Who is compared: ways to meet a conflict.

/// How conflicts are met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// Past Reprise, with the classic retry loop in the client.
    Loop,
    /// Through Reprise, without the governor.
    Replay,
    /// Through Reprise, with the governor.
    Governed,
    /// Through Reprise, without the governor, and only so many transactions at a time.
    Gate(usize),
}

impl Contender {
    pub(crate) fn all() -> Vec<Self> {
        [Self::Loop, Self::Replay, Self::Governed].into_iter().chain([1, 2, 4, 8].map(Self::Gate)).collect()
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::Loop => "loop".to_owned(),
            Self::Replay => "replay".to_owned(),
            Self::Governed => "governed".to_owned(),
            Self::Gate(width) => format!("gate{width}"),
        }
    }
}
