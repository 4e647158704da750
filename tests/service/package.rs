//! The package: built as the README says, and installed, upgraded and removed on a machine.

use std::fs;
use std::process::Command;
use std::sync::LazyLock;

use crate::support::available;
use crate::{PROJECT, boot};

/// Two packages, which differ only in their versions.
static PACKAGES: LazyLock<[String; 2]> = LazyLock::new(|| ["0.1.0-1", "0.1.0-2"].map(build));

fn build(version: &str) -> String {
    fs::create_dir_all(format!("{PROJECT}/target")).unwrap();
    for part in ["man", "bash", "zsh", "fish"] {
        let echod = env!("CARGO_BIN_EXE_echod");
        let output = Command::new(echod).args(["generate", part]).output();
        let path = format!("{PROJECT}/target/echod.{part}");
        fs::write(path, output.unwrap().stdout).unwrap();
    }
    let path = format!("{}/echod-{version}.deb", env!("CARGO_TARGET_TMPDIR"));
    let built = Command::new(env!("CARGO"))
        .args([
            "deb",
            "--locked",
            "--deb-version",
            version,
            "--output",
            &path,
        ])
        .current_dir(PROJECT)
        .output()
        .unwrap();
    assert!(built.status.success(), "{built:?}");
    path
}

#[test]
fn lintian_finds_nothing_wrong_with_the_package() {
    if !available(&["cargo-deb", "lintian"]) {
        return;
    }
    let output = Command::new("lintian")
        // The package is not for Debian's own archive.
        .args(["--suppress-tags", "initial-upload-closes-no-bugs"])
        .args(["--fail-on", "error,warning"])
        .arg(&PACKAGES[0])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn the_package_is_installed_upgraded_removed_and_purged() {
    if !available(&["cargo-deb", "dpkg", "nc"]) {
        return;
    }
    let [old, new] = &*PACKAGES;
    let copies = [
        format!("{old}:/root/old.deb"),
        format!("{new}:/root/new.deb"),
    ];
    boot("package.sh", &copies);
}
