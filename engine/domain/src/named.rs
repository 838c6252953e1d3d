//! Enums whose variants have a name that is stored or sent: the name is written once.

/// Declares an enum whose variants have names, with `ALL`, `name()`, `parse()`, `Display` and serde
/// by
/// name. The names are what the database and the trail store: they do not change.
///
/// ```
/// domain::named_enum! {
///     /// A side of the body.
///     pub enum Side {
///         /// The patient's left.
///         Left = "left",
///         /// The patient's right.
///         Right = "right",
///     }
/// }
///
/// assert_eq!(Side::Left.name(), "left");
/// assert_eq!(Side::parse("right"), Some(Side::Right));
/// assert_eq!(Side::parse("front"), None);
/// ```
#[macro_export]
macro_rules! named_enum {
    ($(#[$attribute:meta])* pub enum $type:ident {
        $($(#[$variant_attribute:meta])* $variant:ident = $name:literal,)+
    }) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type {
            $($(#[$variant_attribute])* $variant,)+
        }

        impl $type {
            /// Every variant, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name that is stored.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// The variant of a stored name; `None` if no variant has this name.
            pub fn parse(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }

        impl ::std::fmt::Display for $type {
            fn fmt(&self, formatter: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                formatter.write_str(self.name())
            }
        }

        impl ::serde::Serialize for $type {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $type {
            fn deserialize<D>(deserializer: D) -> Result<Self, D::Error>
            where
                D: ::serde::Deserializer<'de>,
            {
                let name = <String as ::serde::Deserialize>::deserialize(deserializer)?;
                let unknown = || {
                    let message = format!("`{name}` is no {}", stringify!($type));
                    <D::Error as ::serde::de::Error>::custom(message)
                };
                Self::parse(&name).ok_or_else(unknown)
            }
        }
    };
}
