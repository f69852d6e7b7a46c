//! JSON values read leniently: what is not of the type wanted reads as absent.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

/// Reads text by a function: text as it is, numbers as their digits (integers never by way of a float), and anything
/// else as the default, as which an absent one reads too.
pub(super) struct Text<F>(pub(super) F);

/// Reads an object of texts; anything else is an empty one.
pub(super) struct Texts;

impl<'de, T: Default, F: FnOnce(&str) -> T> DeserializeSeed<'de> for Text<F> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<T, D::Error> {
        json.deserialize_any(Any(self))
    }
}

impl<'de> DeserializeSeed<'de> for Texts {
    type Value = BTreeMap<String, String>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(Any(self))
    }
}

/// What is made of a value, by what it is: the default, unless something better is known.
trait Reading: Sized {
    type Read: Default;

    fn text(self, _: &str) -> Self::Read {
        Self::Read::default()
    }

    fn object<'de, A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Read, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::Read::default())
    }
}

impl<T: Default, F: FnOnce(&str) -> T> Reading for Text<F> {
    type Read = T;

    fn text(self, text: &str) -> T {
        let Self(read) = self;
        read(text)
    }
}

impl Reading for Texts {
    type Read = BTreeMap<String, String>;

    fn object<'de, A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Read, A::Error> {
        let mut texts = BTreeMap::new();
        while let Some(name) = entries.next_key()? {
            texts.insert(name, entries.next_value_seed(Text(str::to_owned))?);
        }
        Ok(texts)
    }
}

/// Takes any value.
struct Any<R>(R);

impl<'de, R: Reading> Visitor<'de> for Any<R> {
    type Value = R::Read;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("anything")
    }

    fn visit_str<E>(self, text: &str) -> Result<R::Read, E> {
        Ok(self.0.text(text))
    }

    fn visit_u64<E>(self, number: u64) -> Result<R::Read, E> {
        Ok(self.0.text(&number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<R::Read, E> {
        Ok(self.0.text(&number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<R::Read, E> {
        /// Below it a float has every whole number; at and above it, digits may have been lost on the way.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        /// As long as a number is on paper; written out, `1e-300` would have three hundred characters.
        const LONGEST: usize = 24;

        Ok(match number.to_string() {
            _ if number.abs() >= EXACT => R::Read::default(),
            text if text.len() > LONGEST => self.0.text(&format!("{number:e}")),
            text => self.0.text(&text),
        })
    }

    fn visit_bool<E>(self, _: bool) -> Result<R::Read, E> {
        Ok(R::Read::default())
    }

    fn visit_unit<E>(self) -> Result<R::Read, E> {
        Ok(R::Read::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<R::Read, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(R::Read::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<R::Read, A::Error> {
        self.0.object(entries)
    }
}

/// A small value of some type, or nothing when it is of another.
#[derive(Debug)]
pub(super) struct Lenient<T>(pub(super) Option<T>);

impl<T> Default for Lenient<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        Value::deserialize(json).map(|value| Self(serde_json::from_value(value).ok()))
    }
}
