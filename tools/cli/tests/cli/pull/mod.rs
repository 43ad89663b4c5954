//! Models fetched by name, from a server of the tests that speaks the Hub's and ollama's protocols.

mod site;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use quipu_store::digest::Digest;
use serde_json::{Value as Json, json};

use self::site::{Asked, Reply, Site};
use crate::serve::Server;
use crate::{Ended, alone, ended, quipu};

static MODEL: LazyLock<Vec<u8>> =
    LazyLock::new(|| std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/tales.gguf")).unwrap());

fn sha256(bytes: &[u8]) -> String {
    let mut hasher = Digest::Sha256(String::new()).hasher(0);
    hasher.update(bytes);
    hasher.digits()
}

static DIGITS: LazyLock<String> = LazyLock::new(|| sha256(&MODEL));
const COMMIT: &str = "3b18e512dba79e4c8300dd08aeb37f8e728b8dad";
const TYPES: &str = "hf:me/tales-GGUF:Q4_0";

/// Both stores and a token, empty at first.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Home {
        Home(tempfile::tempdir().unwrap())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn set_up(&self, command: &mut Command, site: &str) {
        for variable in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE", "SSL_CERT_FILE"] {
            command.env_remove(variable);
        }
        for variable in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(variable);
        }
        command.env("OLLAMA_MODELS", self.path("ollama")).env("HF_HUB_CACHE", self.path("hub"));
        command.env("HF_HOME", self.path("home")).env("HF_ENDPOINT", site).env("OLLAMA_REGISTRY", site);
    }

    fn command(&self, site: &str, args: &[&str]) -> Command {
        let mut command = crate::command(args);
        self.set_up(&mut command, site);
        command
    }

    fn quipu(&self, site: &Site, args: &[&str]) -> Ended {
        ended(self.command(&site.url(), args))
    }

    fn blob(&self) -> PathBuf {
        self.path("hub/models--me--tales-GGUF/blobs").join(&*DIGITS)
    }

    fn incomplete(&self) -> PathBuf {
        self.path("hub/models--me--tales-GGUF/blobs").join(format!("{}.incomplete", *DIGITS))
    }
}

/// What the Hub says of a repository with two GGUFs.
fn repository(path: &str) -> Option<Reply> {
    let file = |name: &str, digits: &str| {
        let lfs = json!({"sha256": digits, "size": MODEL.len(), "pointerSize": 134});
        json!({"rfilename": name, "size": MODEL.len(), "blobId": COMMIT, "lfs": lfs})
    };
    let files = [file("tales-Q4_0.gguf", &DIGITS), file("tales-F16.gguf", &"0".repeat(64))];
    (path == "/api/models/me/tales-GGUF/revision/main?blobs=true")
        .then(|| Reply::text(json!({"sha": COMMIT, "siblings": files})))
}

/// The Hub with that repository, whose file is answered like this.
fn hub(file: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Site {
    Site::new(move |asked| match repository(&asked.path) {
        Some(reply) => reply,
        None if asked.path == format!("/me/tales-GGUF/resolve/{COMMIT}/tales-Q4_0.gguf") => file(asked),
        None => Reply::status(404),
    })
}

#[test]
fn what_was_cut_goes_on_and_lies_where_the_hubs_programs_look() {
    let home = Home::new();
    let site = hub(|asked| Reply { cut: MODEL.len() / 3 + 1, ..Reply::file(&MODEL, asked) });
    let pulled = home.quipu(&site, &["pull", TYPES, "--json"]).json();
    let repository = home.path("hub/models--me--tales-GGUF");
    let link = repository.join("snapshots").join(COMMIT).join("tales-Q4_0.gguf");
    assert_eq!(Path::new(pulled["path"].as_str().unwrap()), link);
    assert_eq!(link.read_link().unwrap(), Path::new("../../blobs").join(&*DIGITS));
    assert!(std::fs::read(home.blob()).unwrap() == *MODEL);
    assert_eq!(std::fs::read_to_string(repository.join("refs/main")).unwrap(), COMMIT);
    let third = MODEL.len() / 3 + 1;
    assert_eq!(site.asked().iter().map(Asked::from).collect::<Vec<_>>(), [0, 0, third, 2 * third]);
    // Once is enough.
    home.quipu(&site, &["pull", TYPES]).ok();
    assert_eq!(site.asked().len(), 1);
    // From here on nobody is asked.
    let run = |model: &str| home.quipu(&site, &["run", model, "Once", "-n", "3", "--temp", "0"]).ok();
    assert_eq!(run("hf:me/tales-GGUF"), quipu(["run", "demo", "Once", "-n", "3", "--temp", "0"]).ok());
    let listed = home.quipu(&site, &["list", "--json"]).json();
    assert_eq!((&listed["name"], listed["bytes"].as_u64()), (&json!("hf:me/tales-GGUF"), Some(MODEL.len() as u64)));
    assert!(home.quipu(&site, &["verify", TYPES]).ok().starts_with("whole "));
    assert!(home.quipu(&site, &["show", TYPES]).ok().contains("GGUF"));
    home.quipu(&site, &["rm", TYPES]).ok();
    assert!(!home.blob().exists() && !link.exists() && site.asked().is_empty());
    assert!(home.quipu(&site, &["rm", TYPES]).error().contains("incomplete download"));
    home.quipu(&site, &["rm", "hf:me/tales-GGUF"]).ok();
    assert_eq!(home.quipu(&site, &["list"]).ok(), "");
}

#[test]
fn a_server_without_ranges_and_one_that_is_busy_give_the_file_as_well() {
    static BUSY: AtomicUsize = AtomicUsize::new(0);
    let (home, first) = (Home::new(), AtomicUsize::new(0));
    let site = Site::new(move |asked| {
        if BUSY.fetch_add(1, Ordering::Relaxed) < 2 {
            return Reply { headers: vec![("Retry-After", "0".into())], ..Reply::status(503) };
        }
        let cut = if first.fetch_add(1, Ordering::Relaxed) == 1 { 1000 } else { usize::MAX };
        repository(&asked.path).unwrap_or_else(|| Reply { cut, body: MODEL.clone(), ..Reply::status(200) })
    });
    let ended = home.quipu(&site, &["pull", TYPES, "-v"]);
    assert!(ended.code == 0 && ended.stderr.contains("status 503; trying again in 0.0 s"), "{}", ended.stderr);
    assert!(std::fs::read(home.blob()).unwrap() == *MODEL);
    assert_eq!(site.asked().iter().map(Asked::from).collect::<Vec<_>>(), [0, 0, 0, 0, 1000]);
}

#[test]
fn something_else_than_the_file_is_not_kept() {
    let home = Home::new();
    let wrong: Vec<u8> = MODEL.iter().map(|byte| byte ^ 1).collect();
    for wrong in [wrong, [&MODEL[..], b"more"].concat()] {
        let site = hub(move |asked| Reply::file(&wrong, asked));
        assert!(home.quipu(&site, &["pull", TYPES]).error().contains("is not the file that was asked for"));
        assert!(!home.blob().exists() && !home.path("hub/models--me--tales-GGUF/refs").exists());
        // It may only be what was there before.
        std::fs::write(home.incomplete(), vec![1; MODEL.len() / 2]).unwrap();
    }
    let site = hub(|asked| Reply::file(&MODEL, asked));
    home.quipu(&site, &["pull", TYPES]).ok();
    assert!(std::fs::read(home.blob()).unwrap() == *MODEL);
    assert_eq!(site.asked().iter().map(Asked::from).collect::<Vec<_>>(), [0, MODEL.len() / 2, 0]);
}

#[test]
fn a_token_stays_with_the_hub() {
    let home = Home::new();
    let elsewhere = Site::new(|asked| Reply::file(&MODEL, asked));
    let url = format!("{}/tales?signed=1", elsewhere.url());
    let site = hub(move |_| Reply::to(url.clone()));
    std::fs::create_dir(home.path("home")).unwrap();
    std::fs::write(home.path("home/token"), "hf_secret\n").unwrap();
    home.quipu(&site, &["pull", TYPES]).ok();
    let token = |asked: &[Asked]| asked.iter().map(|a| a.header("authorization").map(String::from)).collect::<Vec<_>>();
    assert_eq!(token(&site.asked()), vec![Some("Bearer hf_secret".to_string()); 2]);
    assert_eq!(token(&elsewhere.asked()), [None]);
    // A variable goes before the file, and no message has it.
    let (home, site) = (Home::new(), Site::new(|_| Reply::status(401)));
    let mut pull = home.command(&site.url(), &["pull", TYPES, "-v"]);
    let error = ended({
        pull.env("HF_TOKEN", "hf_other");
        pull
    })
    .stderr;
    assert_eq!(token(&site.asked()), [Some("Bearer hf_other".to_string())]);
    assert!(error.contains("the token that there is may have ended") && !error.contains("hf_other"), "{error}");
}

#[test]
fn what_is_not_given_is_told_in_one_line() {
    let home = Home::new();
    for (status, expected) in [(401, "HF_TOKEN"), (403, "licence to be accepted"), (404, "no such model"), (418, "418")]
    {
        let site = Site::new(move |_| Reply::status(status));
        for name in ["hf:me/other", "ollama:other"] {
            let error = home.quipu(&site, &["pull", name]).error();
            assert!(error.contains(expected) && error.contains(&site.host), "{error}");
        }
    }
    let site = hub(|_| Reply::status(404));
    for (name, expected) in [
        ("hf:me/tales-GGUF", "say which, as the end of the name: tales-F16, tales-Q4_0"),
        ("hf:me/tales-GGUF:q8_0", "there are tales-F16, tales-Q4_0"),
        ("hf:me/tales-GGUF:Q4_0", "no such model"),
        ("hf:../x", "no name of a model"),
        ("ollama:a:b:c", "no name of a model"),
        ("tales", "no model of a store"),
    ] {
        let error = home.quipu(&site, &["pull", name]).error();
        assert!(error.contains(expected), "{error}");
    }
    for (text, expected) in [
        ("<html>", "no answer of the Hub"),
        (r#"{"sha": "../..", "siblings": []}"#, "is no commit"),
        (&json!({"sha": COMMIT, "siblings": []}).to_string(), "neither a GGUF"),
        (
            &json!({"sha": COMMIT, "siblings": [{"rfilename": "../x.gguf", "size": 1, "blobId": COMMIT}]}).to_string(),
            "no name of a file",
        ),
    ] {
        let text = text.to_string();
        let site = Site::new(move |_| Reply::text(&text));
        let error = home.quipu(&site, &["pull", "hf:me/x"]).error();
        assert!(error.contains(expected), "{error}");
    }
    let loops = Site::new(|asked| Reply::to(asked.path.clone()));
    assert!(home.quipu(&loops, &["pull", "hf:me/x"]).error().contains("leads from one address to the next"));
    let mut offline = home.command("ftp://x", &["pull", "hf:me/x"]);
    assert!(
        ended({
            offline.env("HF_HUB_OFFLINE", "1");
            offline
        })
        .error()
        .contains("HF_HUB_OFFLINE is set")
    );
    assert!(ended(home.command("ftp://x", &["pull", "hf:me/x"])).error().contains("is no address"));
    // Nothing of all this has left a file that is no lock.
    assert_eq!(std::fs::read_dir(home.path("hub/models--me--tales-GGUF/blobs")).unwrap().count(), 0);
}

#[test]
fn a_full_disk_keeps_what_came() {
    let (home, site) = (Home::new(), hub(|asked| Reply::file(&MODEL, asked)));
    let pull = home.command(&site.url(), &["pull", TYPES]);
    let mut shell = alone(Command::new("sh"), ["-c", r#"ulimit -f 1024; exec "$@""#, "sh"]);
    shell.arg(pull.get_program()).args(pull.get_args());
    home.set_up(&mut shell, &site.url());
    let error = ended(shell).error();
    assert!(error.contains("cannot write") && error.contains("the same command goes on"), "{error}");
    let kept = home.incomplete().metadata().unwrap().len() as usize;
    assert!(kept > 0 && kept < MODEL.len());
    home.quipu(&site, &["pull", TYPES]).ok();
    assert_eq!(site.asked().last().map(Asked::from), Some(kept));
}

#[test]
fn two_at_once_fetch_it_once() {
    let (home, site) = (
        Home::new(),
        hub(|asked| {
            std::thread::sleep(std::time::Duration::from_millis(500));
            Reply::file(&MODEL, asked)
        }),
    );
    let children = [(); 2].map(|()| home.command(&site.url(), &["pull", TYPES]).spawn().unwrap());
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    assert!(std::fs::read(home.blob()).unwrap() == *MODEL && !home.incomplete().exists());
    assert_eq!(site.asked().iter().filter(|asked| asked.path.contains("/resolve/")).count(), 1);
}

/// A registry with one model, whose licence another model has, too.
fn registry() -> Site {
    let licence = b"Tell it to everybody.".to_vec();
    let layer = |kind: &str, bytes: &[u8]| {
        let media_type = format!("application/vnd.ollama.image.{kind}");
        json!({"mediaType": media_type, "digest": format!("sha256:{}", sha256(bytes)), "size": bytes.len()})
    };
    let config = json!({"mediaType": "application/vnd.docker.container.image.v1+json",
        "digest": format!("sha256:{}", sha256(b"{}")), "size": 2});
    let manifest = |layers: Vec<Json>| json!({"schemaVersion": 2, "config": config, "layers": layers}).to_string();
    let tales = manifest(vec![layer("model", &MODEL), layer("license", &licence)]);
    let other = manifest(vec![layer("model", &MODEL[..MODEL.len() / 2]), layer("license", &licence)]);
    Site::new(move |asked| {
        let blob = |bytes: &[u8]| asked.path == format!("/v2/library/tales/blobs/sha256:{}", sha256(bytes));
        match asked.path.as_str() {
            "/v2/library/tales/manifests/8m" => Reply::text(&tales),
            "/v2/library/tales/manifests/other" => Reply::text(&other),
            _ if blob(&licence) => Reply::file(&licence, asked),
            _ if blob(b"{}") => Reply::text("{}"),
            _ if blob(&MODEL[..MODEL.len() / 2]) => Reply::file(&MODEL[..MODEL.len() / 2], asked),
            _ if blob(&MODEL) => Reply { cut: MODEL.len() / 2 + 1, ..Reply::file(&MODEL, asked) },
            _ => Reply::status(404),
        }
    })
}

#[test]
fn ollamas_models_lie_in_ollamas_store() {
    let (home, site) = (Home::new(), registry());
    home.quipu(&site, &["pull", "ollama:tales:8m", "ollama:tales:other"]).ok();
    let blob = home.path("ollama/blobs").join(format!("sha256-{}", *DIGITS));
    assert!(std::fs::read(&blob).unwrap() == *MODEL);
    assert!(home.path("ollama/manifests/registry.ollama.ai/library/tales/8m").is_file());
    let accept = site.asked()[0].header("accept").unwrap().to_string();
    assert_eq!(accept, "application/vnd.docker.distribution.manifest.v2+json");
    let run = home.quipu(&site, &["run", "ollama:tales:8m", "Once", "-n", "3", "--temp", "0"]);
    assert_eq!(run.ok(), quipu(["run", "demo", "Once", "-n", "3", "--temp", "0"]).ok());
    assert_eq!(home.quipu(&site, &["verify", "ollama:tales:8m"]).ok().matches("whole ").count(), 3);
    home.quipu(&site, &["rm", "ollama:tales:other"]).ok();
    // What the other model has, too, is still there.
    assert_eq!(home.quipu(&site, &["verify", "ollama:tales:8m"]).ok().matches("whole ").count(), 3);
    assert_eq!(std::fs::read_dir(home.path("ollama/blobs")).unwrap().count(), 3);
    let mut damaged = MODEL.clone();
    damaged[1000] ^= 1;
    std::fs::write(&blob, &damaged).unwrap();
    let verified = home.quipu(&site, &["verify", "ollama:tales:8m"]);
    assert!(verified.code == 1 && verified.stdout.contains("damaged "), "{}", verified.stdout);
    assert!(site.asked().is_empty());
    home.quipu(&site, &["rm", "ollama:tales:8m"]).ok();
    assert_eq!(std::fs::read_dir(home.path("ollama/blobs")).unwrap().count(), 0);
    assert!(!home.path("ollama/manifests/registry.ollama.ai").exists());
}

/// With a certificate of an authority that only the tests know.
#[test]
fn encrypted_lines_are_for_hosts_with_a_certificate() {
    let home = Home::new();
    let answer = |asked: &Asked| repository(&asked.path).unwrap_or_else(|| Reply::file(&MODEL, asked));
    let site = Site::encrypted(answer);
    let pull = |ca: Option<&str>| {
        let port = site.host.rsplit_once(':').unwrap().1;
        let mut command = home.command(&format!("https://localhost:{port}"), &["pull", TYPES]);
        if let Some(ca) = ca {
            command.env("SSL_CERT_FILE", ca);
        }
        ended(command)
    };
    let error = pull(None).error();
    assert!(error.contains("no encrypted line") && error.contains("UnknownIssuer"), "{error}");
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/pull/");
    pull(Some(&format!("{own}ca.pem"))).ok();
    assert!(std::fs::read(home.blob()).unwrap() == *MODEL);
    assert!(pull(Some(&format!("{own}server.key"))).error().contains("there is no certificate in it"));
    // From an encrypted address nothing leads to one that is not.
    let open = Site::new(answer);
    let url = open.url();
    let leads = Site::encrypted(move |asked| Reply::to(format!("{url}{}", asked.path)));
    let mut command = home.command(&format!("https://{}", leads.host), &["pull", TYPES]);
    command.env("SSL_CERT_FILE", format!("{own}ca.pem"));
    assert!(ended(command).error().contains("leads to an unencrypted address"));
    assert!(open.asked().is_empty());
}

#[test]
fn a_server_fetches_what_it_is_asked_for_only_if_it_may() {
    let (home, site) = (Home::new(), registry());
    let server =
        Server::of(home.command(&site.url(), &["serve", "demo", "--port", "0", "-v", "-t", "1", "--allow-pull"]));
    let server = server.unwrap_or_else(|ended| panic!("{}", ended.stderr));
    let said = server.send("/api/pull", &json!({"model": "tales:8m"})).unwrap();
    for line in [
        r#"{"status":"pulling manifest"}"#,
        &format!(r#""digest":"sha256:{0}","total":{1},"completed":{1}"#, *DIGITS, MODEL.len()),
        r#"{"status":"success"}"#,
    ] {
        assert!(said.contains(line), "{said}");
    }
    assert!(said.starts_with("HTTP/1.1 200") && said.contains("application/x-ndjson"), "{said}");
    let ask = |model: &str| json!({"model": model, "prompt": "Once", "max_tokens": 3, "temperature": 0});
    let (own, pulled) =
        (server.post("/v1/completions", &ask("demo")), server.post("/v1/completions", &ask("tales:8m")));
    assert_eq!(own["choices"][0]["text"], pulled["choices"][0]["text"]);
    let missing = server.post("/api/pull", &json!({"model": "nothing", "stream": false}));
    assert!(missing["error"].as_str().unwrap().contains("no such model"), "{missing}");
    assert!(server.post("/api/pull", &json!({}))["error"].as_str().unwrap().contains("model"));
    let wrong = server.send("/api/pull", &json!({"model": "../x"})).unwrap();
    assert!(wrong.contains(r#"{"error":"ollama:../x: this is no name of a model"#), "{wrong}");
}
