//! The figures that a run yields, with their units.

/// A kind of figure. The first figure of a run is its rate, and a higher rate is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    Messages,
    Connections,
    Megabytes,
    P50,
    P99,
    P999,
    CpuEach,
    CpuPerKib,
    Resident,
    Connected,
    Echoed,
    SecondSyns,
    ResidentEach,
    IdleCpu,
    IdleSwitches,
    LastEcho,
}

impl Figure {
    /// Returns the name and the unit, for the header of a table.
    pub(crate) fn header(self) -> &'static str {
        match self {
            Self::Messages => "messages/s",
            Self::Connections => "connections/s",
            Self::Megabytes => "MB/s",
            Self::P50 => "p50 µs",
            Self::P99 => "p99 µs",
            Self::P999 => "p99.9 µs",
            Self::CpuEach => "CPU µs each",
            Self::CpuPerKib => "CPU ns/KiB",
            Self::Resident => "resident MB",
            Self::Connected => "connected s",
            Self::Echoed => "echoed s",
            Self::SecondSyns => "second SYNs",
            Self::ResidentEach => "resident KiB each",
            Self::IdleCpu => "idle CPU ms/s",
            Self::IdleSwitches => "idle switches/s",
            Self::LastEcho => "last echo ms",
        }
    }

    /// Formats a value with its significant digits.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::Messages | Self::Connections | Self::SecondSyns | Self::IdleSwitches => {
                format!("{value:.0}")
            }
            Self::Connected | Self::Echoed | Self::CpuEach => format!("{value:.2}"),
            Self::Megabytes | Self::CpuPerKib | Self::LastEcho => format!("{value:.0}"),
            Self::P50 | Self::P99 | Self::P999 if value >= 1000.0 => format!("{value:.0}"),
            _ => format!("{value:.1}"),
        }
    }
}

/// The figures of one run, in the order in which they are shown.
pub(crate) type Figures = Vec<(Figure, f64)>;
