//! Measures what Service rules cost, and draws it.
//!
//! ```text
//! scenario -> plan -> topology -> load -> probe -> tally -> record -> report
//! ```
//!
//! The pure half decides and computes: what is measured in which order ([`scenario`],
//! [`plan`], [`load`], [`altered`]), what comes out of it ([`stats`], [`tally`], [`record`],
//! [`resume`], [`gate`]) and how it is shown ([`report`]). The acting half touches the kernel:
//! [`topology`], [`probe`], [`anatomy`], [`repeat`], [`update`], [`machine`], [`occupancy`],
//! [`stop`], [`guest`]. Only [`run`], [`measure`] and [`updates`] see both.

pub mod altered;
pub mod anatomy;
pub mod cli;
pub mod contender;
pub mod gate;
pub mod guest;
pub mod load;
pub mod machine;
pub mod measure;
pub mod metric;
pub mod occupancy;
pub mod peers;
pub mod plan;
pub mod probe;
pub mod progress;
pub mod record;
pub mod redraw;
pub mod repeat;
pub mod report;
pub mod resume;
pub mod run;
pub mod scenario;
pub mod stats;
pub mod stop;
pub mod tally;
pub mod topology;
pub mod update;
pub mod updates;
