//! Every language has every text, and every text that the code asks for is there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn folder(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Texts of a language.
fn texts(file: &Path) -> BTreeMap<String, String> {
    let content = fs::read_to_string(file).unwrap();
    let mut all = BTreeMap::new();
    for (number, line) in content.lines().enumerate() {
        let wrong = || panic!("{}:{}: {line}", file.display(), number + 1);
        let (key, value) = line.split_once('=').unwrap_or_else(wrong);
        let value = value
            .strip_prefix('"')
            .and_then(|v| v.strip_suffix('"'))
            .unwrap_or_else(|| wrong().0);
        assert!(!value.is_empty() && !value.contains('"'), "{key}: {value}");
        assert!(
            all.insert(key.to_owned(), value.to_owned()).is_none(),
            "{key} twice"
        );
    }
    all
}

#[test]
fn every_language_has_every_text() {
    let english = texts(&folder("data/locale/en-US.ini"));
    let mut languages = 0;
    for entry in fs::read_dir(folder("data/locale")).unwrap() {
        let path = entry.unwrap().path();
        let keys: Vec<String> = texts(&path).into_keys().collect();
        assert_eq!(
            keys,
            english.keys().cloned().collect::<Vec<_>>(),
            "{}",
            path.display()
        );
        languages += 1;
    }
    assert!(languages >= 7);
}

#[test]
fn every_key_in_the_code_has_a_text() {
    let english = texts(&folder("data/locale/en-US.ini"));
    let mut found = 0;
    for entry in fs::read_dir(folder("src")).unwrap() {
        let path = entry.unwrap().path();
        let code = fs::read_to_string(&path).unwrap();
        for literal in code.split('"').skip(1).step_by(2) {
            let group = literal.split('.').next().unwrap_or_default();
            let is_key = [
                "Status", "Remedy", "Button", "Group", "Model", "Backend", "Size", "File",
            ]
            .contains(&group)
                && literal.len() > group.len() + 1
                && literal
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '.');
            if is_key {
                assert!(
                    english.contains_key(literal),
                    "{}: {literal}",
                    path.display()
                );
                found += 1;
            }
        }
    }
    assert!(found > 40, "{found} keys were found");
}
