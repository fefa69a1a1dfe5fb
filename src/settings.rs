//! Settings as a table.
//!
//! Each setting of a type stands in one place: its documentation, its name, its type and its
//! default. The field, the default and the method that sets it are made of that.

/// Declares a type of settings, its `Default`, the same as a constant, and a method for each
/// setting, which takes the type itself by value. A method takes what the setting is, unless
/// something else is named, and how the setting follows from it. `(const)` makes the methods
/// usable in constants.
///
/// ```text
/// settings! {
///     /// How something is done.
///     #[derive(Clone, Debug)]
///     pub struct Manner ()
///
///     /// How often. Default: once.
///     times: u32 = 1;
///     /// Where. Default: nowhere.
///     place(path: impl Into<PathBuf>): Option<PathBuf> = None => Some(path.into());
/// }
/// ```
macro_rules! settings {
    (
        $(#[$about:meta])*
        pub struct $Settings:ident $kind:tt

        $(
            $(#[$doc:meta])*
            $name:ident $(($($arg:ident: $given:ty),*))?: $type:ty = $default:expr $(=> $value:expr)?;
        )*
    ) => {
        $(#[$about])*
        pub struct $Settings {
            $(pub(crate) $name: $type,)*
        }

        impl $Settings {
            const DEFAULT: Self = Self {
                $($name: $default,)*
            };

            $($crate::settings::settings! {
                @method $kind [$(#[$doc])*] $name: $type $(, ($($arg: $given),*) => $value)?
            })*
        }

        impl Default for $Settings {
            fn default() -> Self {
                Self::DEFAULT
            }
        }
    };
    (@method $kind:tt $docs:tt $name:ident: $type:ty) => {
        $crate::settings::settings! { @method $kind $docs $name: $type, ($name: $type) => $name }
    };
    (
        @method ($($kind:ident)?) [$($docs:tt)*] $name:ident: $type:ty,
        ($($arg:ident: $given:ty),*) => $value:expr
    ) => {
        $($docs)*
        pub $($kind)? fn $name(mut self, $($arg: $given),*) -> Self {
            self.$name = $value;
            self
        }
    };
}

pub(crate) use settings;
