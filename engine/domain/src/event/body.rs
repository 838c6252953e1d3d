//! What the type of an event declares: its kind, its action, its fields and what it means.

use serde::Serialize;

use super::{Action, EventKind};

/// The details of one kind of event. Implemented by the types of the catalogue only.
pub trait EventBody: Details {
    /// The kind, and with it the name in the trail.
    const KIND: EventKind;

    /// What was done to the subject.
    const ACTION: Action;

    /// What happened, in a sentence.
    const MEANING: &'static str;
}

/// A set of fields that an event records. Several events may share one.
pub trait Details: Serialize {
    /// The fields by the names that the trail stores, in the order of their declaration.
    const FIELDS: &'static [&'static str];
}

/// Declares the type of one kind of event, with its action (`C`, `R`, `U`, `D`, `E`). Its fields
/// are
/// either its own or those of a type that [`details!`] declares.
macro_rules! event {
    ($(#[doc = $doc:literal])+ pub struct $name:ident: $action:ident {
        $($(#[doc = $field_doc:literal])+ $field:ident: $type:ty,)*
    }) => {
        $crate::event::body::details! {
            $(#[doc = $doc])+
            pub struct $name { $($(#[doc = $field_doc])+ $field: $type,)* }
        }
        $crate::event::body::event!(@body $name $action $($doc)+);
    };
    ($(#[doc = $doc:literal])+ pub struct $name:ident($details:ty): $action:ident;) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        pub struct $name(
            /// What the trail records of it.
            pub $details,
        );

        impl $crate::event::Details for $name {
            const FIELDS: &'static [&'static str] =
                <$details as $crate::event::Details>::FIELDS;
        }
        $crate::event::body::event!(@body $name $action $($doc)+);
    };
    (@body $name:ident $action:ident $($doc:literal)+) => {
        impl $crate::event::EventBody for $name {
            const KIND: $crate::event::EventKind = $crate::event::EventKind::$name;
            const ACTION: $crate::event::Action = $crate::event::Action::$action;
            const MEANING: &'static str = concat!($($doc),+);
        }
    };
}

/// Declares a set of fields that one or several events record.
macro_rules! details {
    ($(#[doc = $doc:literal])+ pub struct $name:ident {
        $($(#[doc = $field_doc:literal])+ $field:ident: $type:ty,)*
    }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        pub struct $name {
            $($(#[doc = $field_doc])+ pub $field: $type,)*
        }

        impl $crate::event::Details for $name {
            const FIELDS: &'static [&'static str] = &[$(stringify!($field)),*];
        }
    };
}

pub(super) use {details, event};
