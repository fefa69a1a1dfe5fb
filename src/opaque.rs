//! `Debug` for types that show a part of what they hold: the rest is secret, or long.

/// Shows the named values of a type, and that there is more.
macro_rules! opaque {
    ($Type:ty, $name:literal, |$it:ident| $($field:ident: $value:expr),* $(,)?) => {
        impl std::fmt::Debug for $Type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let $it = self;
                f.debug_struct($name)
                    $(.field(stringify!($field), &$value))*
                    .finish_non_exhaustive()
            }
        }
    };
}

pub(crate) use opaque;
