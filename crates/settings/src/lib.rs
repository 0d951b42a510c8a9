//! Every setting once: name, flags, type, default, documentation. Parser, help, reference page, schema, stub and
//! `--print-config` all come from the one table.
//!
//! What somebody *said* ([`Said`]) and what it *means* ([`Settings`]) are two types; [`resolve`] leads from one to the
//! other. Not for: reading the configuration file, asking the system, printing. What has to be known of the process
//! comes in as [`Surroundings`].
#![forbid(unsafe_code)]

mod address;
mod args;
mod broker;
mod check;
mod destination;
mod export;
mod help;
mod markdown;
mod name;
mod network;
mod number;
mod print;
mod resolve;
mod said;
mod secret;
mod setting;
mod surroundings;
mod table;
mod value;
mod warnings;
mod words;

pub use address::{BadAddress, BindAddress};
pub use args::{ParsedArgs, UsageError, Wanted, parse_args};
pub use broker::Broker;
pub use check::{Invalid, check};
pub use destination::{Destination, Form, shown, url_of};
pub use export::{export_json, python_stub, schema_json};
pub use help::{PROGRAM, help, usage};
pub use markdown::reference_markdown;
pub use name::{find, nearest};
pub use network::{AllowList, BadNetwork, Network};
pub use print::{print_config, told};
pub use resolve::{
    Celery, HeaderMap, Identity, Limit, Offload, OffloadRoute, Settings, Statsd, Webhooks, WorkerClass,
    resolve,
};
pub use said::{Said, Source, Spoken, merge};
pub use setting::{Circumstance, DefaultValue, Kind, Numeral, Origin, Secrecy, Served, Setting, Values};
pub use surroundings::{Surroundings, VARIABLES, Variable, environment};
pub use table::{SECTIONS, SETTINGS};
pub use value::Value;
pub use warnings::warnings;
pub use words::{BadQuoting, split_words};
