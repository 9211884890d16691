//! Kubernetes objects and kube-proxy's configuration, read into [`Ir`](nfc_ir::Ir)s.
//!
//! ```
//! use nfc_manifest::{Document, Settings, load};
//!
//! let text = "
//! apiVersion: v1
//! kind: Service
//! metadata: {name: web, namespace: shop}
//! spec:
//!   clusterIP: 10.96.0.10
//!   ports: [{port: 80}]
//! ";
//! let document = Document { name: "web.yaml".to_owned(), text: text.to_owned() };
//! let loaded = load(&[document], &Settings::default()).unwrap();
//! let ir = &loaded.irs[&nfc_ir::Family::Ipv4];
//! assert_eq!(ir.services()[0].name.to_string(), "shop/web");
//! ```
//!
//! What is read: `Service` (v1), `EndpointSlice` (discovery.k8s.io/v1), `Endpoints` (v1,
//! for Services without a slice), `Node` (v1), `ServiceCIDR` (networking.k8s.io), alone,
//! in `List`s, in YAML documents or JSON, as `kubectl get -o yaml` and `-o json` print
//! them. Other kinds are counted and left out.
//!
//! # Annotations of our own
//!
//! - `nfc.dev/scheduler` on a Service: `random` (as kube-proxy does), `round-robin`,
//!   `source-hash` or `maglev`.
//! - `nfc.dev/weights` on an EndpointSlice: `10.0.0.1=3,10.0.0.2=1`, shares from 1 to
//!   65535; endpoints that are not named have 1.
//!
//! # Errors
//!
//! An input is read to its end whatever is wrong with it, and every error is given back
//! with its place. What kube-proxy would ignore is no error; what the API server would
//! refuse is one.
//!
//! Invariant: the only room that knows YAML, JSON and the shapes of Kubernetes objects;
//! none of them show in its public types.

mod address;
mod assemble;
mod config;
mod cut;
mod diagnostic;
mod json;
mod list;
mod load;
mod meta;
mod name;
mod node;
mod place;
mod reader;
mod report;
mod service;
mod settings;
mod slice;
pub mod source;
mod split;
pub mod synth;
mod tree;
mod warning;
mod window;
mod written;

pub use address::{AddressError, parse_address, parse_block};
pub use diagnostic::{Diagnostic, Place, render_all};
pub use load::{Counts, Loaded, Refused, WINDOW_BYTES, load, load_from, read_settings};
pub use settings::{
    DetectLocal, Ipvs, Masquerade, NodePortAddress, Overrides, SettingError, Settings,
};
pub use source::{Document, Source, SourceError};
pub use warning::{NodeNeed, NodeProblem, SliceProblem, Warning, render_warnings};
pub use written::{Written, WrittenObject, WrittenValue, written};
