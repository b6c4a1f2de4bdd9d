//! JSON objects that are written anew with one field changed: the others keep their order and their text,
//! letter for letter, whatever program wrote them and whatever they mean.

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use crate::error::{Error, Result};

/// The fields of an object, in order.
#[derive(Debug, Clone)]
pub(super) struct Fields(Vec<(String, Box<RawValue>)>);

impl Fields {
    /// Gives a field another value. One that is not there yet comes last.
    pub fn set(&mut self, name: &str, value: &impl Serialize) -> Result<()> {
        let value = to_raw_value(value).map_err(|cause| Error::internal(&cause))?;
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name.to_owned(), value)),
        }
        Ok(())
    }

    /// The field as it is read; nothing if it is not there.
    pub fn get<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Option<T> {
        let (_, value) = self.0.iter().find(|(known, _)| known == name)?;
        serde_json::from_str(value.get()).ok()
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    fields.push(entry);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_changed_keeps_order_and_letters() {
        let text = r#"{"z":"\u003c\\x00","a":1.50,"tags":null,"new":{"b": [1,  2]}}"#;
        let mut fields: Fields = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&fields).unwrap(), text);
        assert_eq!(fields.get::<Option<Vec<String>>>("tags"), Some(None));
        fields.set("a", &"tea").unwrap();
        fields.set("more", &7).unwrap();
        let changed = r#"{"z":"\u003c\\x00","a":"tea","tags":null,"new":{"b": [1,  2]},"more":7}"#;
        assert_eq!(serde_json::to_string(&fields).unwrap(), changed);
    }
}
