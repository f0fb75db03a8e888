//! Settings that say what a model runs on.

use std::collections::BTreeMap;
use toml::{Spanned, de::DeValue};

use super::{Setting, routing::entries, wrong};
use crate::config::{Device, document::Document};

impl Setting for Option<Device> {
    fn read(&mut self, key: &str, value: Spanned<DeValue<'_>>, _: u64, file: &mut Document<'_>) {
        match value.get_ref().as_str().map(str::parse) {
            Some(Ok(device)) => *self = Some(device),
            Some(Err(expected)) => wrong(key, &value, &expected, file),
            None => wrong(key, &value, "a string such as \"cuda\"", file),
        }
    }

    fn written(&self, key: &str) -> String {
        self.map_or_else(|| format!("# {key} = \"{}\"", Device::Auto), |device| format!("{key} = \"{device}\""))
    }
}

impl Setting for bool {
    fn read(&mut self, key: &str, value: Spanned<DeValue<'_>>, _: u64, file: &mut Document<'_>) {
        match value.get_ref().as_bool() {
            Some(value) => *self = value,
            None => wrong(key, &value, "true or false", file),
        }
    }

    fn written(&self, key: &str) -> String {
        format!("{key} = {self}")
    }
}

/// Options of the execution provider.
impl Setting for BTreeMap<String, String> {
    fn read(&mut self, key: &str, value: Spanned<DeValue<'_>>, _: u64, file: &mut Document<'_>) {
        for entry in entries(key, "options of the execution provider", "{ use_tf32 = false }", &value, file) {
            let name = entry.key.get_ref();
            match text_of(entry.value.get_ref()) {
                Some(text) => {
                    self.insert(name.clone(), text);
                }
                None => wrong(&format!("{key}.{name}"), &entry.value, "a string, a number, true or false", file),
            }
        }
    }

    fn written(&self, key: &str) -> String {
        let options = self.iter().map(|(name, value)| format!("\n{name} = {value:?}")).collect::<String>();
        if options.is_empty() { format!("[{key}]\n# gpu_mem_limit = 2147483648") } else { format!("[{key}]{options}") }
    }
}

/// The value as ONNX Runtime takes it: numbers in decimals.
fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        // It goes to C.
        DeValue::String(text) => (!text.contains('\0')).then(|| text.clone().into_owned()),
        DeValue::Integer(number) => {
            i128::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string())
        }
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}
