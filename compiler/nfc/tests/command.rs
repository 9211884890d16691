//! The `nfc` command as a newcomer meets it, where no root is needed: pipes that end early,
//! standard input, odd files, and words that can be pasted.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn start(args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nfc"));
    command.args(args).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("nfc starts")
}

fn run(args: &[&str], stdin: &[u8]) -> Output {
    let mut child = start(args);
    let mut pipe = child.stdin.take().expect("a pipe");
    let stdin = stdin.to_vec();
    // A command that refuses its arguments does not wait for its input.
    let writer = std::thread::spawn(move || drop(pipe.write_all(&stdin)));
    let output = child.wait_with_output().expect("nfc ends");
    writer.join().expect("all was written");
    output
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("an exit code")
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// As many Services without endpoints, each worth a finding.
fn services(count: usize) -> String {
    let service = |i: usize| {
        let ip = format!("10.{}.{}.{}", 100 + (i >> 16), (i >> 8) & 255, i & 255);
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{i}}}\n\
             spec: {{clusterIP: {ip}, ports: [{{port: 80}}]}}\n---\n"
        )
    };
    (0..count).map(service).collect()
}

/// The exit code of a run whose output and words nobody reads beyond the first byte.
fn code_when_left(args: &[&str], stdin: &str) -> i32 {
    let mut child = start(args);
    let (mut out, mut err) = (child.stdout.take().expect("out"), child.stderr.take().expect("err"));
    child.stdin.take().expect("in").write_all(stdin.as_bytes()).expect("written");
    let reader = std::thread::spawn(move || {
        let _ = out.read(&mut [0]);
    });
    let _ = err.read(&mut [0]);
    drop(err);
    reader.join().expect("it reads");
    child.wait().expect("it ends").code().expect("an exit code")
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let bad = services(5_000).replace("clusterIP: ", "clusterIP: x");
    for subcommand in ["compile", "check"] {
        assert_eq!(code_when_left(&[subcommand, "-"], &bad), 1, "{subcommand}");
        assert_eq!(code_when_left(&[subcommand, "-"], &services(5_000)), 0, "{subcommand}");
    }
    assert_eq!(code_when_left(&["explain", "icmp"], ""), 1);
    assert_eq!(code_when_left(&["compile", "no-such-file"], ""), 1);
}

#[test]
fn standard_input_is_read_once() {
    let example = fs::read("../../examples/cluster-ip.yaml").expect("an example");
    for args in [
        &["diff", "-", "-"][..],
        &["compile", "-", "-"],
        &["check", "--config", "-", "-"],
        &["explain", "tcp 10.0.0.1 > 10.0.0.2:80", "--rules", "-", "-"],
        &["compile", "--backend", "iptables", "--family", "ipv4", "--replacing", "-", "-"],
    ] {
        let output = run(args, if args[0] == "check" { b"" } else { &example });
        assert_eq!(code(&output), 1, "{args:?}: {}", text(&output));
        let is_said = args[0] == "check" || words(&output).contains("`-` stands twice");
        assert!(is_said, "{args:?}: {}", words(&output));
    }
}

#[test]
fn what_replaces_rules_is_not_asked_for_services() {
    let args = ["compile", "-b", "iptables", "--emit", "ir", "--replacing", "no-such-dump", "-"];
    let output = run(&args, b"");
    assert_eq!((code(&output), text(&output).as_str()), (1, ""));
    assert!(words(&output).contains("--emit ir prints none"), "{}", words(&output));
}

/// The settings may come from a pipe, and what is odd about them is said once, however many
/// backends read them.
#[test]
fn settings_are_read_once_and_warned_of_once() {
    let settings = b"apiVersion: kubeproxy.config.k8s.io/v1alpha1\n\
                     kind: KubeProxyConfiguration\nclusterCidr: 10.244.0.0/16\n";
    let web = "docs/guide/web.yaml";
    let packet = "tcp 10.244.1.5 > 10.96.45.123:80";
    for args in [&["diff", web, web][..], &["explain", packet, web]] {
        let options = ["-b", "nft", "-b", "iptables", "-b", "ipvs", "--config", "-"];
        let output = run(&[args, &options].concat(), settings);
        let words = words(&output);
        assert_eq!((code(&output), words.matches("`clusterCidr`").count()), (0, 1), "{words}");
    }
}

#[test]
fn both_sides_of_a_difference_are_judged() {
    let bad = fs::read_to_string("../../docs/broken.yaml").expect("a manifest");
    let output = run(&["diff", "docs/broken.yaml", "-"], bad.as_bytes());
    let words = words(&output);
    assert_eq!(code(&output), 1, "{words}");
    assert!(words.contains("docs/broken.yaml:6:14") && words.contains("<stdin>:6:14"), "{words}");
    let output = run(&["diff", "no-such-old", "no-such-new"], b"");
    assert!(self::words(&output).contains("no-such-new"), "{}", self::words(&output));
}

/// What a kubectl that failed leaves in a pipe clears no node. Nothing is looked for in the
/// kernel before that is said: no namespace is where the arguments point at.
#[test]
fn rules_are_not_replaced_by_those_of_an_input_without_services() {
    let empty = r#"{"apiVersion": "v1", "kind": "List", "items": []}"#;
    for input in ["", empty, "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\n"] {
        for option in [&[][..], &["--dry-run"], &["--full"]] {
            let args = [&["apply", "--netns", "/dev/null", "-"], option].concat();
            let output = run(&args, input.as_bytes());
            assert_eq!(code(&output), 1, "{input:?}: {}", words(&output));
            assert!(words(&output).contains("nfc delete"), "{}", words(&output));
        }
        let output = run(&["doctor", "--netns", "/dev/null", "-"], input.as_bytes());
        assert_eq!(code(&output), 1, "{input:?}: {}", words(&output));
    }
}

/// What editors of other systems put into a file changes nothing.
#[test]
fn line_ends_and_byte_order_marks_do_not_matter() {
    let plain = fs::read_to_string("../../examples/hello-app.yaml").expect("an example");
    let compiled = run(&["compile", "-"], plain.as_bytes());
    assert_eq!(code(&compiled), 0, "{}", words(&compiled));
    let listing = text(&compiled);
    for altered in [plain.replace('\n', "\r\n"), format!("\u{feff}{plain}")] {
        let output = run(&["compile", "-"], altered.as_bytes());
        assert_eq!((text(&output), words(&output)), (listing.clone(), words(&compiled)));
        let checked = |text: &str| run(&["check", "-"], text.as_bytes()).stdout;
        assert_eq!(checked(&altered), checked(&plain));
    }
    let packet = "tcp 172.16.1.1 > 10.104.81.240:80";
    let followed = |listing: &str| {
        let output = run(&["explain", packet, "--rules", "-"], listing.as_bytes());
        assert_eq!(code(&output), 0, "{}", words(&output));
        text(&output)
    };
    assert_eq!(followed(&listing), followed(&listing.replace('\n', "\r\n")));
    assert_eq!(followed(&listing), followed(&format!("\u{feff}{listing}")));
}

#[test]
fn an_input_without_services_is_not_passed_over_in_silence() {
    for input in ["", "---\n", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n", "[]"] {
        for subcommand in ["compile", "check"] {
            let output = run(&[subcommand, "-"], input.as_bytes());
            assert_eq!(code(&output), 0, "{subcommand}: {input:?}");
            let words = words(&output);
            assert!(words.contains("nothing to"), "{subcommand}: {input:?}: {words}");
        }
    }
}

/// What is wrong with an argument is said with what it should be.
#[test]
fn refused_arguments_say_what_was_expected() {
    let web = "docs/guide/web.yaml";
    let iptables = ["compile", "--backend", "iptables", web];
    for (args, told) in [
        (&["compile", "--cluster-cidr", "10.0.0.0", web][..], "expected one like 10.0.0.0/8"),
        (&["compile", "--node-ip", "10.0.0.1,x", web], "expected one like 10.0.0.1"),
        (&["compile", "--service-cidrs", "10.0.0.0/33", web], "at most /32"),
        (&["compile", "--replacing", "docs/kube-proxy.nft", web], "add --backend iptables"),
        (
            &[&iptables[..], &["--replacing", "docs/kube-proxy.nft"]].concat(),
            "iptables-legacy-save",
        ),
        (&["explain", "icmp 10.0.0.1 > 10.0.0.2:80", web], "tcp, udp and sctp"),
        (&["explain", "tcp", "10.0.0.1", web], "the shell takes a bare `>` for itself"),
        (&["explain", "tcp 10.0.0.1 > web:80", web], "write an address and a port"),
        (&["explain", "tcp 10.0.0.1 > 10.0.0.2:80 from mars", web], "`from outside`"),
        (
            &["explain", "tcp 10.0.0.1 > 10.0.0.2:80", "--rules", web],
            "the output of nft list ruleset",
        ),
        (&["diff", web], "give the old and the new manifests"),
        (&["check", "--ignore", "NFC-999", web], "no finding has the code NFC-999"),
    ] {
        let output = run(args, b"");
        assert_eq!((code(&output), text(&output).as_str()), (1, ""), "{args:?}");
        assert!(words(&output).contains(told), "{args:?}: {}", words(&output));
    }
}

/// A finding for each of many Services takes no square of their number; and one that is
/// somewhere in a long line of JSON is shown with what is near it.
#[test]
fn findings_in_long_inputs_are_shown_in_time_and_in_part() {
    let begin = Instant::now();
    let output = run(&["check", "-"], services(10_000).as_bytes());
    assert!(text(&output).ends_with("0 errors, 10000 warnings, 0 notes\n"));
    let elapsed = begin.elapsed();
    assert!(elapsed < Duration::from_secs(20), "{elapsed:?}");
    let item = |i: usize| {
        format!(
            r#"{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"s{i}"}},"spec":{{
            "clusterIP":"10.1.{}.{}","ports":[{{"port":80}}]}}}}"#,
            i >> 8,
            i & 255
        )
        .replace('\n', "")
    };
    let items: Vec<_> = (0..5_000).map(item).collect();
    let list = format!(r#"{{"kind":"List","apiVersion":"v1","items":[{}]}}"#, items.join(","));
    let output = run(&["check", "-"], list.as_bytes());
    let told = text(&output);
    assert!(told.contains("5000 warnings"), "{told}");
    let longest = told.lines().map(str::len).max();
    assert!(longest < Some(200), "{longest:?}");
    let marks =
        told.lines().filter(|line| line.trim_start().starts_with("| ") && line.ends_with('^'));
    assert_eq!(marks.count(), 5_000);
}

/// The lines under `Examples:` of a subcommand's help, on a terminal so wide.
fn examples(subcommand: &str, columns: &str) -> Vec<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nfc"));
    if !subcommand.is_empty() {
        command.arg(subcommand);
    }
    let output = command.arg("--help").env("COLUMNS", columns).output().expect("nfc starts");
    let help = text(&output);
    let lines = help.lines().skip_while(|line| *line != "Examples:").skip(1);
    lines.take_while(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// An example that is wrapped by the terminal is no longer a command.
#[test]
fn examples_in_the_help_fit_on_a_terminal() {
    let commands = ["compile", "apply", "delete", "explain", "diff", "check", "lab", "doctor"];
    for subcommand in ["", "inspect", "completions", "man"].iter().chain(&commands) {
        let (narrow, wide) = (examples(subcommand, "80"), examples(subcommand, "110"));
        assert!(narrow.len() > 1, "{subcommand} has no examples");
        assert_eq!(narrow, wide, "{subcommand}");
    }
}

/// kube-proxy's name of the mode is understood too.
#[test]
fn nftables_is_nft() {
    let compiled = |backend| run(&["compile", "-b", backend, "docs/guide/web.yaml"], b"");
    assert_eq!(code(&compiled("nftables")), 0);
    assert_eq!(text(&compiled("nftables")), text(&compiled("nft")));
}

/// Names that would end a comment or a script are refused before any rule is made of them.
#[test]
fn a_name_cannot_add_rules_or_commands() {
    let hostile = "apiVersion: v1\nkind: Service\nmetadata: {name: \"a\\\"\\nEND\\nreboot\\n\"}\n\
                   spec: {clusterIP: 10.96.0.1, ports: [{port: 80, name: \"b\\nreboot\"}]}\n";
    for backend in ["nft", "iptables", "ipvs"] {
        let output = run(&["compile", "--backend", backend, "-"], hostile.as_bytes());
        assert_eq!((code(&output), text(&output).as_str()), (1, ""), "{backend}");
        assert!(words(&output).contains("is not a valid name"), "{}", words(&output));
    }
}

/// Whatever a manifest says, what is printed of it moves no cursor and sets no title.
#[test]
fn a_manifest_cannot_talk_to_the_terminal() {
    let hostile = r"\u001b]0;gotcha\u0007\n";
    let spec = r#"{"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}"#;
    for (kind, name, spec) in [
        ("Service", hostile, spec),
        (hostile, "web", spec),
        ("Service", "web", &spec.replace("10.96.0.1", hostile)),
        ("Service", "web", &spec.replace(r#"[{"port": 80}]"#, &format!("\"{hostile}\""))),
        ("Service", "web", &spec.replace("ports", &format!("{hostile}ports"))),
    ] {
        let input = format!(
            r#"{{"apiVersion": "v1", "kind": "{kind}", "metadata": {{"name": "{name}"}}, "spec": {spec}}}"#
        );
        for subcommand in ["compile", "check"] {
            let output = run(&[subcommand, "-"], input.as_bytes());
            let told = [text(&output), words(&output)].concat();
            let control = told.chars().find(|c| c.is_control() && !"\n\t".contains(*c));
            assert_eq!(control, None, "{subcommand}: {input}: {told}");
        }
    }
}
