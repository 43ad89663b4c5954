use crate::{quipu, quipu_with_input};

fn vectors(text: &str) -> Vec<Vec<f64>> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn product(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn texts_become_vectors_of_length_one() {
    let texts = ["a king", "a queen", "an ant"];
    let found = vectors(&quipu(["embed", "demo"].iter().chain(&texts)).ok());
    assert_eq!(found.len(), 3);
    for vector in &found {
        assert!((product(vector, vector) - 1.0).abs() < 1e-6);
    }
    assert!(
        product(&found[0], &found[1]) > product(&found[0], &found[2]),
        "a queen is more like a king than an ant is"
    );

    // The same texts as lines.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lines.txt");
    std::fs::write(&path, texts.join("\n")).unwrap();
    assert_eq!(vectors(&quipu(["embed", "demo", "-f", path.to_str().unwrap()]).ok()), found);
    assert_eq!(vectors(&quipu_with_input(["embed", "demo"], &texts.join("\n")).ok()), found);
}

#[test]
fn pooling_and_length_are_choices() {
    let with = |options: &[&str]| vectors(&quipu(["embed", "demo", "a king"].iter().chain(options)).ok()).remove(0);
    let (mean, last) = (with(&[]), with(&["--pooling", "last"]));
    assert!(product(&mean, &last) < 0.999);
    let long = with(&["--pooling", "last", "--no-normalize"]);
    let length = product(&long, &long).sqrt();
    assert!(length > 2.0);
    assert!(long.iter().zip(&last).all(|(long, last)| (long / length - last).abs() < 1e-6));
}

#[test]
fn a_text_that_does_not_fit_is_named() {
    let message = quipu(["embed", "demo", "short", &"too long ".repeat(50), "-c", "30"]);
    assert!(message.stderr.contains("text 2") && message.stderr.contains("30"), "{}", message.stderr);
    assert_eq!((message.code, message.stdout.lines().count()), (1, 1));
}
