use std::{fmt, str::FromStr};

use super::document;

/// Device that a model is configured to run on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Device {
    /// NVIDIA GPUs where they work, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// CUDA on the GPU of this number; every GPU without one.
    Cuda(Option<u32>),
    /// TensorRT on the GPU of this number; every GPU without one. What TensorRT does not take runs by CUDA.
    TensorRt(Option<u32>),
    /// Another execution provider of ONNX Runtime, where its library has it.
    Other(OtherProvider),
}

/// Execution providers that need nothing of this server but their name and options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OtherProvider {
    /// Intel's CPUs, GPUs and NPUs.
    OpenVino,
    /// AMD's GPUs by ROCm: MIGraphX has taken the place of the provider that was called ROCm.
    MiGraphX,
    /// Apple's.
    CoreMl,
    /// Kernels for the CPU.
    Xnnpack,
}

/// The words without a number. Two may mean the same: the first is how it is shown.
const WORDS: [(&str, Device); 9] = [
    ("auto", Device::Auto),
    ("cpu", Device::Cpu),
    ("cuda", Device::Cuda(None)),
    ("tensorrt", Device::TensorRt(None)),
    ("openvino", Device::Other(OtherProvider::OpenVino)),
    ("migraphx", Device::Other(OtherProvider::MiGraphX)),
    ("rocm", Device::Other(OtherProvider::MiGraphX)),
    ("coreml", Device::Other(OtherProvider::CoreMl)),
    ("xnnpack", Device::Other(OtherProvider::Xnnpack)),
];

impl Device {
    /// True if an NVIDIA GPU is requested, or taken where there is one.
    pub fn may_be_nvidia(self) -> bool {
        matches!(self, Device::Auto | Device::Cuda(_) | Device::TensorRt(_))
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, device)) = WORDS.iter().find(|(word, _)| *word == text) {
            return Ok(*device);
        }
        let (word, number) = text.split_once(':').map_or((text, None), |(word, number)| (word, Some(number)));
        let gpu = number.filter(|number| number.starts_with(|first: char| first.is_ascii_digit()));
        match (word, gpu.and_then(|gpu| gpu.parse().ok())) {
            ("cuda", Some(gpu)) => return Ok(Device::Cuda(Some(gpu))),
            ("tensorrt", Some(gpu)) => return Ok(Device::TensorRt(Some(gpu))),
            _ => {}
        }
        let words: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
        // Its letters are nearest to those of "cpu".
        let near = if word == "gpu" { Some("cuda") } else { document::nearest(word, &words) };
        let near = near.filter(|near| *near != word);
        let meant = near.map(|near| format!(" (did you mean \"{near}\"?)")).unwrap_or_default();
        let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
        Err(format!("one of {}, or a GPU by its number such as \"cuda:0\" or \"tensorrt:0\"{meant}", quoted.join(", ")))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |device| WORDS.iter().find(|(_, known)| *known == device).map_or("", |(word, _)| word);
        match self {
            Device::Cuda(Some(gpu)) => write!(f, "cuda:{gpu}"),
            Device::TensorRt(Some(gpu)) => write!(f, "tensorrt:{gpu}"),
            device => f.write_str(shown(*device)),
        }
    }
}

impl fmt::Display for OtherProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Device::Other(*self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_and_shown() {
        for (word, device) in WORDS {
            assert_eq!(word.parse(), Ok(device));
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        for (text, device) in [("cuda:0", Device::Cuda(Some(0))), ("tensorrt:12", Device::TensorRt(Some(12)))] {
            assert_eq!(text.parse(), Ok(device));
            assert_eq!(device.to_string(), text);
        }
    }

    #[test]
    fn unknown_device_suggests_the_nearest_name() {
        for (text, meant) in [
            ("cuds", Some("cuda")),
            ("CUDA", Some("cuda")),
            ("tensor-rt", Some("tensorrt")),
            ("gpu", Some("cuda")),
            ("gpu:1", Some("cuda")),
            ("cuda:", None),
            ("cuda:-1", None),
            ("cuda:+1", None),
            ("cuda:99999999999", None),
            ("cpu:0", None),
            ("", None),
        ] {
            let why = text.parse::<Device>().unwrap_err();
            assert!(why.starts_with("one of \"auto\", \"cpu\", \"cuda\","), "{why}");
            let suggestion = meant.map(|meant| format!("(did you mean \"{meant}\"?)"));
            assert!(suggestion.as_ref().is_none_or(|suggestion| why.ends_with(suggestion)), "{text}: {why}");
            assert_eq!(why.contains("did you mean"), suggestion.is_some(), "{text}: {why}");
        }
    }
}
