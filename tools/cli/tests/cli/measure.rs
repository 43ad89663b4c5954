//! `quipu bench` and `quipu doctor`: figures differ from machine to machine, but how they hang together does not.

use serde_json::Value as Json;

use crate::quipu;

#[track_caller]
fn number(json: &Json, key: &str) -> f64 {
    let n = json[key].as_f64().unwrap_or_else(|| panic!("{key} in {json}"));
    assert!(n.is_finite() && n > 0.0, "{key} is {n}");
    n
}

#[track_caller]
fn close(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-6 * b.abs(), "{a} and {b}");
}

#[test]
fn bench_reports_each_test_beside_its_roof() {
    let args = ["bench", "demo", "-p", "40", "-n", "8", "-d", "0,100", "-t", "1", "-r", "3", "-b", "16", "--json"];
    let json = quipu(args).json();
    assert_eq!((json["model"].as_str(), json["batch"].as_u64()), (Some("demo"), Some(16)));
    let per_token = number(&json, "weight_bytes_per_token");
    let per_position = number(&json, "kv_bytes_per_position");
    let [run] = json["runs"].as_array().unwrap().as_slice() else { panic!("{json}") };
    assert_eq!(run["threads"], 1);
    assert!(number(run, "first_token_ms") > number(run, "load_ms"));
    // 100 + 40 positions take two pages of 128.
    assert_eq!(number(run, "kv_bytes"), 256.0 * per_position);
    if !run["peak_rss_bytes"].is_null() {
        assert!(number(run, "peak_rss_bytes") > number(&json, "weight_bytes"));
    }

    // The limits are the most that was seen, and all that was seen is there.
    for (most, samples) in [("read_bytes_per_s", "read_samples"), ("macs_per_s", "macs_samples")] {
        let samples: Vec<f64> = run["roof"][samples].as_array().unwrap().iter().map(|s| s.as_f64().unwrap()).collect();
        assert!(samples.len() >= 2 && samples.iter().all(|&s| s > 0.0 && s <= number(&run["roof"], most)), "{json}");
    }

    let results = run["results"].as_array().unwrap();
    let what: Vec<_> = results.iter().map(|r| (r["test"].as_str().unwrap(), r["depth"].as_u64().unwrap())).collect();
    assert_eq!(what, [("prefill", 0), ("decode", 0), ("prefill", 100), ("decode", 100)]);
    for result in results {
        let speed = number(result, "tokens_per_s");
        let mut samples: Vec<f64> = result["samples"].as_array().unwrap().iter().map(|s| s.as_f64().unwrap()).collect();
        samples.sort_by(f64::total_cmp);
        assert_eq!((samples.len(), samples[1]), (3, speed));
        if result["test"] == "prefill" {
            let roof = number(&run["roof"], "macs_per_s");
            close(number(result, "percent_of_peak"), 100.0 * number(result, "macs_per_s") / roof);
            assert!(number(result, "percent_of_peak") <= 100.0);
        } else {
            // Eight tokens see depth + 1 to depth + 8 positions: 4.5 more than the depth in the middle.
            let positions = result["depth"].as_f64().unwrap() + 4.5;
            let bytes = number(result, "bytes_per_s");
            close(bytes, speed * (per_token + positions * per_position));
            let roof = number(&run["roof"], "read_bytes_per_s");
            close(number(result, "percent_of_bandwidth"), 100.0 * bytes / roof);
        }
    }
}

/// Several prompts are tests of their own, in the order in which they are named; one alone is as ever.
#[test]
fn bench_takes_a_list_of_prompts() {
    let what = |prompts: &str| {
        let args = ["bench", "demo", "-p", prompts, "-n", "2", "-d", "0,8", "-t", "1", "-r", "1", "-b", "16", "--json"];
        let results = quipu(args).json()["runs"][0]["results"].take();
        let test = |r: &Json| {
            number(r, "tokens_per_s");
            (r["test"].as_str().unwrap().to_owned(), r["tokens"].as_u64().unwrap(), r["depth"].as_u64().unwrap())
        };
        results.as_array().unwrap().iter().map(test).collect::<Vec<_>>()
    };
    let test = |test: &str, tokens, depth| (test.to_owned(), tokens, depth);
    let after = |depth, prompts: &[u64]| {
        let prefill = prompts.iter().map(move |&tokens| test("prefill", tokens, depth));
        prefill.chain([test("decode", 2, depth)]).collect::<Vec<_>>()
    };
    assert_eq!(what("24,8"), [after(0, &[24, 8]), after(8, &[24, 8])].concat());
    assert_eq!(what("8"), [after(0, &[8]), after(8, &[8])].concat());
    assert_eq!(what("0,8"), [after(0, &[8]), after(8, &[8])].concat());
}

/// A step takes one token of each sequence, reads the weights once and every sequence's own keys and values.
#[test]
fn bench_decodes_sequences_together() {
    let args =
        ["bench", "demo", "-p", "0", "-n", "6", "-d", "0,130", "-t", "1", "-r", "3", "--sequences", "1,5", "--json"];
    let json = quipu(args).json();
    let [weights, position] = ["weight_bytes_per_token", "kv_bytes_per_position"].map(|key| number(&json, key));
    let run = &json["runs"][0];
    assert_eq!(run["results"].as_array().unwrap().len(), 2);
    let found = run["sequences"].as_array().unwrap();
    let what: Vec<_> =
        found.iter().map(|r| ["sequences", "tokens", "depth"].map(|key| r[key].as_u64().unwrap())).collect();
    assert_eq!(what, [[1, 6, 0], [5, 6, 0], [1, 6, 130], [5, 6, 130]]);
    for result in found {
        let [sequences, depth] = ["sequences", "depth"].map(|key| result[key].as_f64().unwrap());
        let speed = number(result, "tokens_per_s");
        assert_eq!(result["samples"].as_array().unwrap().len(), 3);
        let steps_per_s = speed / sequences;
        close(number(result, "ms_per_step"), 1e3 / steps_per_s);
        close(number(result, "bytes_per_s"), steps_per_s * (weights + sequences * (depth + 3.5) * position));
        let roof = |key| number(&run["roof"], key);
        close(number(result, "percent_of_bandwidth"), 100.0 * number(result, "bytes_per_s") / roof("read_bytes_per_s"));
        close(number(result, "percent_of_peak"), 100.0 * number(result, "macs_per_s") / roof("macs_per_s"));
    }

    let text = quipu(["bench", "demo", "-p", "8", "-n", "2", "-r", "1", "-t", "1", "--sequences", "1,12"]).ok();
    for word in ["prefill 8 ", "decode 2 ", "decode 2 × 1 sequence ", "decode 2 × 12 sequences ", "ms a step"] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
    let place = |line: &str| line.find('%').or(line.find("of what")).map(|at| line[..at].chars().count());
    let places: Vec<_> = text.lines().skip(2).take(5).map(|line| place(line).unwrap()).collect();
    assert!(places[1..].iter().all(|&at| at == places[1] && at == places[0] + 4), "{places:?} in\n{text}");
}

/// Numbers that no memory has room for are refused before anything is read; none wraps around.
#[test]
fn huge_numbers_are_refused_with_what_they_need() {
    let most = usize::MAX.to_string();
    let half = (usize::MAX / 2 + 1).to_string();
    let twice = format!("{half},{half}");
    for args in [
        &["-d", &most][..],
        &["-d", "0,18446744073709551000"],
        &["-d", &half, "-p", &half],
        &["-p", &twice, "-n", "0"],
        &["-p", &most, "-n", "1"],
        &["-n", &most, "-p", "0"],
        &["-n", "2", "-p", "0", "--sequences", &most],
        &["-d", "1000000000000"],
        &["-p", "100000000000"],
        &["-n", "100000000000"],
        &["-n", "2", "--sequences", "1,1000000000000"],
    ] {
        let message = quipu(["bench", "demo", "-t", "1"].iter().chain(args)).error();
        assert!(message.contains("keys and values"), "{args:?}: {message}");
        let told = message.contains("GB are available") && message.contains("-d");
        assert!(told || message.contains("more than any memory"), "{args:?}: {message}");
    }
    for context in [&most, &half] {
        let message = quipu(["doctor", "demo", "-t", "1", "-c", context]).error();
        assert!(message.contains("more than any memory"), "{message}");
    }
    // Much, but a number: the verdict is that it does not fit.
    if cfg!(target_os = "linux") {
        let text = quipu(["doctor", "demo", "-t", "1", "-c", "1000000000000"]).ok();
        assert!(text.contains("more than is available"), "{text}");
    }
}

#[test]
fn bench_prints_a_table_for_every_number_of_threads() {
    let text = quipu(["bench", "demo", "-p", "0", "-n", "4", "-r", "1", "-t", "1,1", "--isa", "portable"]).ok();
    assert!(text.lines().next().unwrap().ends_with("portable"), "{text}");
    assert_eq!(text.lines().filter(|l| l.contains("decode 4 ") && l.contains("GB/s")).count(), 2, "{text}");
    assert!(!text.contains("prefill"), "{text}");
    assert_eq!(text.lines().filter(|l| l.starts_with("1 thread: loaded in ")).count(), 2, "{text}");
}

#[test]
fn bench_refuses_what_it_cannot_measure() {
    for (args, word) in [
        (&["-t", "100000"][..], "100000"),
        (&["-t", "0"], "-t 0"),
        (&["-r", "0"], "-r 0"),
        (&["-p", "0", "-n", "0"], "nothing"),
        (&["--sequences", "0,1"], "--sequences 0"),
        (&["-n", "0", "--sequences", "2"], "-n 0"),
        (&["--isa", "mmx"], "mmx"),
        (&["-b", "0", "-p", "1"], "batch"),
    ] {
        let message = quipu(["bench", "demo"].iter().chain(args)).error();
        assert!(message.contains(word), "{message}");
    }
    assert!(quipu(["bench", "no/such.gguf"]).error().contains("no/such.gguf"));
}

#[test]
fn doctor_knows_the_machine() {
    let json = quipu(["doctor", "--json", "-t", "1"]).json();
    assert_eq!(json["cpu"]["architecture"], std::env::consts::ARCH);
    assert!(!json["cpu"]["name"].as_str().unwrap().is_empty());
    assert_eq!(json["isa"]["chosen_by"], "default");
    assert!(json["model"].is_null());
    let measured = json["measured"].as_array().unwrap();
    assert_eq!((measured.len(), measured[0]["threads"].as_u64()), (1, Some(1)));
    for key in ["read_bytes_per_s", "read_small_pages_bytes_per_s", "int8_macs_per_s", "f32_macs_per_s"] {
        number(&measured[0], key);
    }
    let threads = &json["threads"];
    assert_eq!(threads["used"], 1);
    assert!(number(threads, "allowed") >= number(threads, "default"));
    if cfg!(target_os = "linux") {
        let [cpus, fast] = ["cpus", "fast_cpus"].map(|key| threads[key].as_array().unwrap());
        assert!(!fast.is_empty() && fast.iter().all(|cpu| cpus.contains(cpu)), "{threads}");
    }
    // What is not here lacks something; what lacks nothing but is not in use is not better.
    let names: Vec<_> = json["isa"]["others"].as_array().unwrap().iter().map(|o| o["name"].as_str().unwrap()).collect();
    assert!(!names.contains(&json["isa"]["name"].as_str().unwrap()));
    if cfg!(target_os = "linux") {
        assert!(number(&json["memory"], "total_bytes") >= number(&json["memory"], "available_bytes"));
    }
}

#[test]
fn doctor_says_what_a_model_needs() {
    let json = quipu(["doctor", "demo", "--json", "-t", "1", "-c", "1000", "--isa", "portable"]).json();
    assert_eq!((json["isa"]["name"].as_str(), json["isa"]["chosen_by"].as_str()), (Some("portable"), Some("--isa")));
    let model = &json["model"];
    assert_eq!((model["path"].as_str(), model["packed"].as_bool()), (Some("demo"), Some(false)));
    assert_eq!(number(model, "kv_bytes"), 1000.0 * number(model, "kv_bytes_per_position"));
    // Vectors, which the weights leave out, are next to nothing.
    let (file, weights) = (number(model, "file_bytes"), number(model, "weight_bytes"));
    assert!(weights < file && file < 1.01 * weights, "{weights} of {file}");
    assert!(number(model, "decode_tokens_per_s") >= number(model, "decode_full_context_tokens_per_s"));
    number(model, "prefill_tokens_per_s");
    if cfg!(target_os = "linux") {
        assert_eq!(model["fits"], true);
    }

    let text = quipu(["doctor", "demo", "-t", "1", "--isa", "portable"]).ok();
    for word in [
        "CPU",
        "instruction set",
        "portable, asked for by --isa",
        "threads",
        "fast",
        "1 thread",
        "needs",
        "should reach",
    ] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
}
