//! Options are made from their defaults, one setting after the other, so that new ones can join them.

/// A method for each field, that gives the options with another value of it.
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
