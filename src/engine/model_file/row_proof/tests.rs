use prost::Message;
use std::{fs, path::Path, time::Instant};

use super::{super::onnx::Model, RowProof, prove};

/// Prints the verdict on each model in the folder that ONNXD_MODELS names, and the time that it took.
#[test]
#[ignore = "a report for people: it needs models"]
#[expect(clippy::print_stdout, reason = "it is a report")]
fn verdicts_on_a_folder() {
    let Some(folder) = std::env::var_os("ONNXD_MODELS") else { return };
    let mut paths: Vec<_> = fs::read_dir(Path::new(&folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    paths.sort();
    for path in paths {
        let Ok(model) = Model::decode(bytes::Bytes::from(fs::read(&path).unwrap())) else {
            println!("{}: unreadable", path.display());
            continue;
        };
        let nodes = model.graph.as_ref().map_or(0, |graph| graph.nodes.len());
        let started = Instant::now();
        let (verdict, _) = prove(&model);
        let took = started.elapsed();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let (word, why) = match &verdict {
            RowProof::Proven => ("proven", String::new()),
            RowProof::Mixes(finding) => ("mixes", finding.why.clone()),
            RowProof::Unproven(finding) => ("unproven", finding.why.clone()),
        };
        println!("{word}\t{name}\t{nodes}\t{:.1} ms\t{why}", took.as_secs_f64() * 1e3);
    }
}
