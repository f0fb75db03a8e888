use super::*;

fn parse(text: &str) -> Result<ModelConfig, Vec<String>> {
    ModelConfig::parse(&"m/config.toml", text)
}

#[test]
fn model_config_reads_every_key() {
    let text = r#"
        batching = "off"
        max_batch_size = 8
        max_queue_delay = "2ms"
        max_queue_size = 9
        max_run_time = "90s"
        max_queue_time = "1s 500ms"
        priority_levels = 3
        default_priority = 2
        instances = 2
        intra_op_threads = 3
        max_run_memory = "1MiB"
        in_place = "off"
        isolation = "process"
        device = "cuda:1"
        cuda_graphs = true
        versions = { latest = 2 }
        routing_key_headers = ["X-User-Id", "x-session"]
        [priority.1]
        max_queue_time = "none"
        [priority.3]
        max_queue_size = 4
        max_queue_time = "50ms"
        [provider_options]
        gpu_mem_limit = 0x1000
        use_tf32 = false
        [aliases]
        stable = 2
        [weights]
        2 = 95
        3 = 4.5
        4 = 0
    "#;
    let expected = ModelConfig {
        aliases: BTreeMap::from([("stable".into(), 2)]),
        batching: Batching::Off,
        max_batch_size: 8,
        max_queue_delay: Duration::from_millis(2),
        max_queue_size: 9,
        max_run_time: Some(Duration::from_secs(90)),
        max_queue_time: Some(QueueTime::AtMost(Duration::from_millis(1500))),
        priority_levels: Some(3),
        default_priority: Some(2),
        priority: PriorityLimits(BTreeMap::from([
            (1, PriorityLimit { max_queue_size: None, max_queue_time: Some(QueueTime::Unlimited) }),
            (3, PriorityLimit { max_queue_size: Some(4), max_queue_time: "50ms".parse().ok() }),
        ])),
        instances: Some(2),
        intra_op_threads: Some(3),
        max_run_memory: Some(ByteSize(1 << 20)),
        in_place: InPlace::Off,
        isolation: Some(Isolation::Process),
        device: Some(Device::Cuda(Some(1))),
        cuda_graphs: Some(true),
        provider_options: BTreeMap::from([
            ("gpu_mem_limit".into(), "4096".into()),
            ("use_tf32".into(), "false".into()),
        ]),
        versions: Versions::Latest(2),
        routing_key_headers: vec!["x-user-id".into(), "x-session".into()],
        weights: Weights::new([(2, 95.0), (3, 4.5), (4, 0.0)].into()).unwrap(),
    };
    assert_eq!(parse(text), Ok(expected));
    assert_eq!(parse(""), Ok(ModelConfig::default()));
    assert_eq!(parse("aliases = { stable = 0x2 }").unwrap().aliases["stable"], 2);
    assert_eq!(parse("aliases.stable = 2").unwrap().aliases["stable"], 2);
    assert_eq!(parse("weights = { 7 = 0x10 }").unwrap().weights.of(7), 16.0);
    assert_eq!(parse("[aliases]\ncanary = 3\n'v2.1-b' = 2").unwrap().traffic().aliases.len(), 2);
}

#[test]
fn traffic_settings_do_not_affect_loads() {
    let text = "instances = 3\nrouting_key_headers = [\"a\"]\naliases.stable = 2\nweights.2 = 1";
    assert_eq!(parse(text).unwrap().for_load(), parse("instances = 3").unwrap());
}

#[test]
#[rustfmt::skip]
fn problems_name_place_key_and_expected_value() {
    for (text, expected) in [
        ("max_batch_sise = 8", "1:1: unknown key 'max_batch_sise'; did you mean 'max_batch_size'? known keys: batching, max_batch_size,"),
        ("\n  colour = 8", "2:3: unknown key 'colour'; known keys: batching,"),
        ("[batching]\nmax_rows = 3", "1:1: batching must be \"auto\", \"probed\", \"on\" or \"off\", got a table"),
        ("[dynamic]\nx = 1", "1:2: unknown key 'dynamic'; known"),
        ("max_batch_size = 0", "1:18: max_batch_size must be an integer from 1 to 16777216, got 0"),
        ("max_batch_size = -1", "1:18: max_batch_size must be an integer from 1 to 16777216, got -1"),
        ("max_batch_size = 99999999999999999999999", "1:18: max_batch_size must be an integer from 1 to 16777216, got 9999"),
        ("max_batch_size = 8.5", "max_batch_size must be an integer from 1 to 16777216, got 8.5"),
        ("max_batch_size = \"8\"", "max_batch_size must be an integer from 1 to 16777216, got the string \"8\""),
        ("max_batch_size = [8]", "got an array"),
        ("max_batch_size = true", "got true"),
        ("max_batch_size = 1979-05-27", "got a date"),
        ("instances = 1000000000", "1:13: instances must be an integer from 1 to 1024, got 1000000000"),
        ("max_queue_delay = \"fast\"", "1:19: max_queue_delay must be a duration such as \"2ms\", got the string \"fast\""),
        ("max_queue_delay = 2", "1:19: max_queue_delay must be a duration such as \"2ms\", got 2"),
        ("max_queue_delay = \"400000000years\"", "max_queue_delay must be"),
        ("max_queue_delay = \"25h\"", "max_queue_delay must be at most 1 day, got the string \"25h\""),
        ("max_run_time = 2", "1:16: max_run_time must be a duration such as \"2ms\", got 2"),
        ("max_queue_time = \"soon\"", "1:18: max_queue_time must be \"auto\", \"none\" or a duration such as \"500ms\", got the string \"soon\""),
        ("max_queue_time = 5", "1:18: max_queue_time must be \"auto\", \"none\" or a duration such as \"500ms\", got 5"),
        ("priority_levels = 65", "1:19: priority_levels must be an integer from 1 to 64, got 65"),
        ("priority_levels = 2\ndefault_priority = 3", "2:20: default_priority is 3, and priority_levels = 2"),
        ("default_priority = 1", "1:20: default_priority is 1, and the file gives no priority_levels: write such as priority_levels = 2"),
        ("priority = 1", "1:12: priority must be a table such as { 2 = { max_queue_size = 100, max_queue_time = \"100ms\" } }, got 1"),
        ("priority_levels = 2\n[priority]\n3 = {}", "3:1: priority.3 is the limit of a level that there is not: priority_levels = 2"),
        ("priority_levels = 2\n[priority]\nhigh = {}", "3:1: a priority level is an integer from 1 to 64, got 'high'"),
        ("priority_levels = 2\n[priority]\n1 = 5", "3:5: priority.1 must be a table such as { max_queue_size = 100, max_queue_time = \"100ms\" }, got 5"),
        ("priority_levels = 2\n[priority.1]\nmax_queue_size = 0", "3:18: priority.1.max_queue_size must be an integer from 1 to 4294967296, got 0"),
        ("priority_levels = 2\n[priority.1]\nmax_queue_tame = \"1s\"", "3:1: unknown key 'max_queue_tame'; did you mean 'max_queue_time'?"),
        ("batching = \"atuo\"", "1:12: batching must be \"auto\", \"probed\", \"on\" or \"off\" (did you mean \"auto\"?), got the string \"atuo\""),
        ("batching = false", "batching must be \"auto\", \"probed\", \"on\" or \"off\", got false"),
        ("isolation = \"proces\"", "1:13: isolation must be \"auto\", \"process\" or \"none\" (did you mean \"process\"?), got the string \"proces\""),
        ("in_place = \"of\"", "1:12: in_place must be \"auto\" or \"off\" (did you mean \"off\"?), got the string \"of\""),
        ("aliases = 2", "1:11: aliases must be a table such as { stable = 2 }, got 2"),
        ("[aliases]\nstable = 0", "2:10: alias 'stable' must be a version, an integer of at least 1, got 0"),
        ("[aliases]\nstable = \"2\"", "2:10: alias 'stable' must be a version, an integer of at least 1, got the string \"2\""),
        ("[aliases]\nstable = 2\nmax_batch_size = 8", "3:18: 'max_batch_size' stands below [aliases]"),
        ("[aliases]\n2 = 2", "2:1: an alias is a letter and up to 63 letters, digits, '-', '_' and '.', got '2'"),
        ("weights = 2", "1:11: weights must be a table such as { 2 = 95, 3 = 5 }, got 2"),
        ("[weights]\n2 = -1", "2:5: the weight of version 2 must be a finite number of at least 0, got -1"),
        ("[weights]\n2 = nan", "2:5: the weight of version 2 must be a finite number of at least 0, got NaN"),
        ("[weights]\n2 = inf", "2:5: the weight of version 2 must be a finite number of at least 0, got inf"),
        ("[weights]\n2 = 1e999", "2:5: the weight of version 2 must be a finite number of at least 0, got "),
        ("[weights]\n2 = \"5\"", "2:5: the weight of version 2 must be a finite number of at least 0, got the string \"5\""),
        ("[weights]\n2 = 0\n3 = 0.0", "1:1: at least one weight must be greater than 0, got only zeros"),
        ("[weights]\n2 = 1e308\n3 = 1e308", "1:1: the weights must have a finite sum"),
        ("[weights]\n0 = 1", "2:1: a version is an integer of at least 1, got '0'"),
        ("[weights]\n02 = 1", "2:1: a version is an integer of at least 1, got '02'"),
        ("[weights]\nstable = 1", "2:1: a version is an integer of at least 1, got 'stable'"),
        ("[weights]\n99999999999999999999 = 1", "2:1: a version is an integer of at least 1, got '99999999999999999999'"),
        ("[weights]\n2 = 1\ninstances = 8", "3:13: 'instances' stands below [weights]"),
        ("routing_key_headers = \"x\"", "1:23: routing_key_headers must be an array of names of headers such as [\"x-user-id\"], got the string \"x\""),
        ("routing_key_headers = [\"a\", 2]", "1:29: a header of routing_key_headers must be a string, got 2"),
        ("routing_key_headers = [\"a b\"]", "1:24: a header of routing_key_headers must be of letters, digits and !#$%&'*+-.^_`|~, got the string \"a b\""),
        ("routing_key_headers = [\"\"]", "1:24: a header of routing_key_headers must be of letters"),
        ("device = \"cudda\"", "1:10: device must be one of \"auto\", \"cpu\", \"cuda\", \"tensorrt\", \"openvino\", \"migraphx\", \"rocm\", \"coreml\", \"xnnpack\", or a GPU by its number such as \"cuda:0\" or \"tensorrt:0\" (did you mean \"cuda\"?), got the string \"cudda\""),
        ("device = 1", "1:10: device must be a string such as \"cuda\", got 1"),
        ("cuda_graphs = 1", "1:15: cuda_graphs must be true or false, got 1"),
        ("cuda_graphs = true\ndevice = \"cpu\"", "1:15: cuda_graphs are of NVIDIA's GPUs, and device = \"cpu\" is none"),
        ("provider_options = 1", "1:20: provider_options must be a table such as { use_tf32 = false }, got 1"),
        ("device = \"cuda\"\n[provider_options]\nuse_tf32 = [1]", "3:12: provider_options.use_tf32 must be a string, a number, true or false, got an array"),
        ("device = \"cuda\"\n[provider_options]\nuse_tf23 = 1", "3:1: provider_options: unknown option 'use_tf23' of device \"cuda\"; did you mean 'use_tf32'? known: arena_extend_strategy,"),
        ("[provider_options]\nuse_tf32 = 1", "2:1: provider_options: 'use_tf32' is an option of one device, and the file names none: write such as device = \"cuda\""),
        ("device = \"cpu\"\nprovider_options.use_tf32 = 1", "2:18: provider_options: 'use_tf32' is given, and device = \"cpu\" takes no options"),
        ("device = \"cuda\"\n[provider_options]\ninstances = 1", "3:13: 'instances' stands below [provider_options]"),
        ("instances = 1\ninstances = 2", "2:1: not valid TOML: duplicate key"),
        ("instances = ", "1:13: not valid TOML: "),
        ("instances", "not valid TOML: "),
        ("\0", "1:1: not valid TOML: "),
    ] {
        let problems = parse(text).unwrap_err();
        assert!(problems[0].contains(expected), "{text}: {problems:?}");
        assert!(problems.iter().all(|problem| problem.starts_with("m/config.toml:") && !problem.contains('\n')), "{problems:?}");
    }
}

#[test]
fn problems_are_reported_in_file_order() {
    let problems = parse("instances = 0\nx = 1\nbatching = 1\n[aliases]\na = 0\nb = -1").unwrap_err();
    let lines: Vec<_> = problems.iter().map(|problem| problem.split(':').nth(1).unwrap()).collect();
    assert_eq!(lines, ["1", "2", "3", "5", "6"], "{problems:?}");
}

#[test]
fn deeply_nested_config_is_rejected() {
    for text in [format!("x = {}", "[".repeat(100_000)), format!("[{}a]", "a.".repeat(100_000))] {
        assert!(parse(&text).is_err());
    }
}

/// Documented values are the defaults, and every key is documented.
#[test]
fn documented_config_equals_the_defaults() {
    let text = ModelConfig::documented();
    assert_eq!(parse(&text), Ok(ModelConfig::default()), "{text}");
    for key in ModelConfig::KEYS {
        let beginnings = [format!("\n{key} = "), format!("\n# {key} = "), format!("\n[{key}]")];
        assert!(beginnings.iter().any(|beginning| text.contains(beginning)), "{key} is not in\n{text}");
    }
}

#[test]
fn versions_setting_selects_latest_or_listed() {
    for (text, expected, written) in [
        ("versions = \"all\"", vec![1, 3, 4, 9], "versions = \"all\""),
        ("versions = { latest = 1 }", vec![9], "versions = { latest = 1 }"),
        ("versions.latest = 2", vec![4, 9], "versions = { latest = 2 }"),
        ("versions = { latest = 7 }", vec![1, 3, 4, 9], "versions = { latest = 7 }"),
        ("versions = [3, 8, 1]", vec![1, 3], "versions = [1, 3, 8]"),
    ] {
        let versions = ModelConfig::parse(&"config.toml", text).unwrap().versions;
        assert_eq!(versions.chosen([1, 3, 4, 9].into_iter()).into_iter().collect::<Vec<_>>(), expected, "{text}");
        assert_eq!(versions.written("versions"), written);
    }
    for (text, says) in [
        (
            "versions = \"latest\"",
            "1:12: versions must be \"all\", { latest = 2 }, or a list such as [1, 3], got the string",
        ),
        ("versions = []", "1:12: versions must be \"all\""),
        ("versions = 2", "got 2"),
        ("versions = { newest = 2 }", "got a table"),
        ("versions = { latest = 2, all = 1 }", "got a table"),
        ("versions = { latest = 0 }", "1:23: versions.latest must be an integer from 1 to 4294967295, got 0"),
        ("versions = [1, \"2\"]", "1:16: a version in versions must be an integer of at least 1, got the string \"2\""),
    ] {
        let problems = ModelConfig::parse(&"config.toml", text).unwrap_err();
        assert!(problems[0].contains(says), "{text}: {problems:?}");
    }
}
