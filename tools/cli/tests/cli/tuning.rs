//! How kernels are tuned: what is asked for, what `quipu doctor` says of it, and that no text depends on it.

use super::{command, ended, quipu};

#[test]
fn doctor_says_how_kernels_are_tuned() {
    let caches = tempfile::tempdir().unwrap();
    let doctor = |args: &[&str], variable: Option<&str>| {
        let mut command = command([&["doctor", "--json", "-t", "1", "--isa", "portable"], args].concat());
        command.env("XDG_CACHE_HOME", caches.path());
        variable.map(|text| command.env("QUIPU_TUNING", text));
        ended(command).json()["tuning"].clone()
    };
    let measured = doctor(&[], None);
    assert_eq!((&measured["how"], &measured["chosen_by"]), (&"measured".into(), &"default".into()));
    #[cfg(not(any(windows, target_vendor = "apple")))]
    assert!(measured["file"].as_str().unwrap().starts_with(caches.path().to_str().unwrap()), "{measured}");
    assert_eq!(measured["types"]["Q4_0"]["from"], "default");
    assert!(
        std::fs::read_dir(caches.path()).unwrap().next().is_none(),
        "doctor measures no kernels and writes nothing"
    );

    let off = doctor(&["--no-tuning"], Some("panel=1"));
    assert_eq!((&off["how"], &off["chosen_by"]), (&"defaults".into(), &"--no-tuning".into()));
    assert_eq!(doctor(&[], Some("off"))["how"], "defaults");
    let given = doctor(&["--tuning", "q6_k.codes_ahead=4096,panel=77"], Some("panel=1"));
    assert_eq!((&given["how"], &given["chosen_by"]), (&"given".into(), &"--tuning".into()));
    assert_eq!((&given["types"]["Q6_K"]["codes_ahead"], &given["parameters"]["panel"]), (&4096.into(), &77.into()));
    assert_eq!(given["types"]["Q6_K"]["from"], "given");

    let mut text = command(["doctor", "-t", "1", "--isa", "portable"]);
    text.env("QUIPU_TUNING", "codes_ahead=4096");
    let text = ended(text).ok();
    assert!(text.contains("given, by QUIPU_TUNING") && text.contains("weights 4096 bytes ahead"), "{text}");
}

#[test]
fn settings_that_are_none_are_refused_by_name() {
    let message = quipu(["run", "demo", "Once", "--tuning", "panel=many"]).error();
    assert!(message.contains("--tuning") && message.contains("`many`"), "{message}");
    let mut wrong = command(["run", "demo", "Once"]);
    wrong.env("QUIPU_TUNING", "panl=1");
    let message = ended(wrong).error();
    assert!(
        message.contains("QUIPU_TUNING") && message.contains("panl") && message.contains("streamed_rows"),
        "{message}"
    );
    assert_eq!(quipu(["run", "demo", "Once", "--tuning", "panel=1", "--no-tuning"]).code, 2);
}

#[test]
fn texts_do_not_depend_on_tuning_or_on_a_place_to_keep_it() {
    let story = |change: &dyn Fn(&mut std::process::Command)| {
        let mut command = command(["run", "demo", "Once upon a time", "-n", "60", "--temp", "0"]);
        change(&mut command);
        ended(command).ok()
    };
    let expected = story(&|_| ());
    let nowhere = |command: &mut std::process::Command| {
        for variable in ["HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"] {
            command.env_remove(variable);
        }
    };
    assert_eq!(story(&nowhere), expected);
    let file = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(story(&|command| _ = command.env("XDG_CACHE_HOME", file.path())), expected);
    assert_eq!(story(&|command| _ = command.env("HOME", "/nowhere").env_remove("XDG_CACHE_HOME")), expected);
    for settings in ["off", "auto", "codes_ahead=0", "chunk_groups=0,chunks_per_thread=0,spin_us=0,widened=0,panel=0"] {
        assert_eq!(story(&|command| _ = command.env("QUIPU_TUNING", settings)), expected, "{settings}");
    }
}
