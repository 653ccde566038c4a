//! Completions and manual pages.

use crate::shell::Shell;
use std::process::Command;

#[test]
fn every_shell_gets_a_script_and_bash_can_read_its_own() {
    // A broken configuration stands in nobody's way here.
    let shell = Shell::new("[nonsense]\n");
    for name in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let done = shell.run(&["completions", name]);
        assert_eq!(done.code, 0, "{}", done.err);
        assert!(done.out.contains("allclear") && done.out.contains("send-test"), "{name}: {}", done.out);
        std::fs::write(shell.path(name), done.out).unwrap();
    }
    assert_eq!(shell.run(&["completions", "tcsh"]).code, 2);
    let script = "source ./bash && COMP_WORDS=(allclear doc) COMP_CWORD=1 && _allclear allclear doc allclear && echo \"${COMPREPLY[@]}\"";
    match Command::new("bash").args(["-c", script]).current_dir(shell.0.path()).output() {
        Ok(done) => assert_eq!(String::from_utf8_lossy(&done.stdout).trim(), "doctor", "{done:?}"),
        Err(e) => println!("not checked: bash cannot be run ({e})"),
    }
}

#[test]
fn there_is_a_page_for_every_command() {
    let shell = Shell::new("[nonsense]\n");
    let done = shell.run(&["man", "--to", "pages"]);
    assert_eq!(done.code, 0, "{}", done.err);
    for page in ["allclear.1", "allclear-doctor.1", "allclear-put.1", "allclear-put-component.1"] {
        let text = std::fs::read_to_string(shell.path("pages").join(page)).unwrap();
        assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{page}: {text}");
    }
    let written = std::fs::read_dir(shell.path("pages")).unwrap().count();
    assert_eq!(done.out, format!("wrote {written} pages to pages\n"));
    assert_eq!(shell.run(&["man"]).out, std::fs::read_to_string(shell.path("pages/allclear.1")).unwrap());
    shell.run(&["man", "--to", "allclear.toml/pages"]).refused(1, "cannot be written to allclear.toml/pages", "folder");
}

#[test]
fn the_main_page_renders_with_examples_and_exit_codes() {
    let shell = Shell::new("");
    let page = shell.run(&["man"]).out;
    assert!(page.contains(".SH EXAMPLES") && page.contains(".SH \"EXIT STATUS\""), "{page}");
    std::fs::write(shell.path("allclear.1"), page).unwrap();
    let rendered =
        Command::new("groff").args(["-man", "-ww", "-Tutf8", "allclear.1"]).current_dir(shell.0.path()).output();
    match rendered {
        Ok(done) => {
            let text = String::from_utf8(done.stdout).unwrap();
            assert_eq!(String::from_utf8_lossy(&done.stderr), "");
            assert!(text.contains("allclear demo                                   see it work"), "{text}");
            assert!(text.contains("6 problems found, 75 try again later."), "{text}");
        }
        Err(e) => println!("not checked: groff cannot be run ({e})"),
    }
}
