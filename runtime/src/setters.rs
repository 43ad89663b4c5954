//! Options are made from their defaults, one setting after the other, so that new ones can join them.

/// For each field, a method that returns the options with another value in it.
macro_rules! setters {
    ($options:ident { $($field:ident: $value:ty),* $(,)? }) => {
        impl $options {
            $(
                #[doc = concat!("These options with another `", stringify!($field), "`.")]
                pub fn $field(self, $field: $value) -> $options {
                    $options { $field: $field.into(), ..self }
                }
            )*
        }
    };
}

pub(crate) use setters;
