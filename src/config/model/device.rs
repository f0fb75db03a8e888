//! Settings of the device that a model runs on.

use std::collections::BTreeMap;
use toml::{Spanned, de::DeValue};

use super::setting::{SettingValue, entries, wrong};
use crate::config::{
    Device,
    document::{self, Document, Entry},
    provider_options,
};

impl SettingValue for Option<Device> {
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

impl SettingValue for Option<bool> {
    fn read(&mut self, key: &str, value: Spanned<DeValue<'_>>, _: u64, file: &mut Document<'_>) {
        match value.get_ref().as_bool() {
            Some(value) => *self = Some(value),
            None => wrong(key, &value, "true or false", file),
        }
    }

    fn written(&self, key: &str) -> String {
        self.map_or_else(|| format!("# {key} = true"), |value| format!("{key} = {value}"))
    }
}

/// Options of the execution provider.
impl SettingValue for BTreeMap<String, String> {
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

/// Positions in the file of the keys that have a meaning on one device only: options of the provider, and `cuda_graphs`.
#[derive(Default)]
pub(super) struct DeviceKeys {
    options: Vec<(String, usize)>,
    graphs: usize,
}

/// The places, before the values are read.
pub(super) fn places(entries: &[Entry<'_>]) -> DeviceKeys {
    let mut places = DeviceKeys::default();
    for entry in entries {
        let at = entry.value.span().start;
        match (entry.key.get_ref().as_str(), entry.value.get_ref()) {
            ("provider_options", DeValue::Table(table)) => {
                let options = document::entries(table.clone()).into_iter();
                places.options.extend(options.map(|option| (option.key.get_ref().clone(), option.key.span().start)));
            }
            ("cuda_graphs", _) => places.graphs = at,
            _ => {}
        }
    }
    places
}

/// Notes settings that the device does not take.
pub(super) fn check(
    device: Option<Device>,
    (options, cuda_graphs): (&BTreeMap<String, String>, Option<bool>),
    places: &DeviceKeys,
    file: &mut Document<'_>,
) {
    for (name, at) in &places.options {
        let Some(value) = options.get(name) else { continue };
        let checked = match device {
            Some(device) => provider_options::check(device, name, value),
            None => Err(format!(
                "'{name}' is an option of one device, and the file names none: write such as device = \"cuda\"; \"auto\" \
                 takes those of CUDA"
            )),
        };
        if let Err(why) = checked {
            file.problem(*at, format!("provider_options: {why}"));
        }
    }
    if cuda_graphs == Some(true)
        && let Some(device) = device.filter(|device| !device.may_be_nvidia())
    {
        file.problem(places.graphs, format!("cuda_graphs are of NVIDIA's GPUs, and device = \"{device}\" is none"));
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
