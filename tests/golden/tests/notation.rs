//! Every line of every recording survives the way through the typed message and through the bytes of the wire.

use golden::notation::{Action, Step};
use golden::{Backend, Frontend, Recording, Server, recordings};

fn all() -> Vec<Recording> {
    let recorded = |server| recordings(server).expect("the recordings are in the notation");
    [recorded(Server::CockroachDb), recorded(Server::Postgres)].concat()
}

fn steps() -> impl Iterator<Item = Step> {
    all().into_iter().flat_map(|recording| recording.cases).flat_map(|case| case.steps)
}

/// The words behind the sign and the connection of a line.
fn words(line: &str) -> &str {
    line.splitn(3, ' ').nth(2).unwrap_or_default()
}

#[test]
fn every_case_of_every_file_is_read_once() {
    let mut ids: Vec<String> =
        all().into_iter().flat_map(|recording| recording.cases).map(|case| case.id).collect();
    let written = |server| {
        let files = std::fs::read_dir(golden::folder(server)).unwrap();
        let texts = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
        texts.map(|text| text.lines().filter(|line| line.starts_with("@case ")).count()).sum::<usize>()
    };
    assert_eq!(ids.len(), written(Server::CockroachDb) + written(Server::Postgres));
    ids.sort();
    assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "an id names one case");
}

#[test]
fn client_lines_survive_text_and_bytes() {
    let is_startup = |message: &Frontend| {
        matches!(message, Frontend::Startup { .. } | Frontend::SslRequest | Frontend::GssEncRequest)
    };
    for step in steps() {
        let Action::Send { message, .. } = step.action else { continue };
        let line = words(&step.line);
        assert_eq!(message.to_string().trim_end_matches(" 0"), line.trim_end_matches(" 0"));
        let mut bytes = message.encode();
        let read = match &message {
            Frontend::CancelRequest { .. } | Frontend::Raw(_) => continue,
            _ if is_startup(&message) => Frontend::read_startup(&mut bytes),
            _ => Frontend::read(&mut bytes),
        };
        assert_eq!(read.as_ref(), Some(&message), "{line}");
        assert!(bytes.is_empty(), "{line}");
    }
}

#[test]
fn server_lines_survive_text_and_bytes() {
    let not_messages = ["Closed", "Timeout", "Silent", "Byte", "Bytes"];
    for answer in steps().flat_map(|step| step.answers) {
        let line = words(&answer);
        if not_messages.iter().any(|word| line.split(' ').next() == Some(word)) {
            continue;
        }
        let message = Backend::parse(line).expect("a recorded answer is in the notation");
        assert_eq!(message.to_string(), line);
        let mut bytes = message.encode();
        assert_eq!(Backend::read(&mut bytes).map(|read| read.to_string()).as_deref(), Some(line));
        assert!(bytes.is_empty(), "{line}");
    }
}

#[test]
fn incomplete_messages_wait_for_their_rest() {
    let whole = Frontend::Query("SELECT 1".into()).encode();
    for end in 0..whole.len() {
        let mut part = whole[..end].to_vec();
        assert_eq!(Frontend::read(&mut part), None);
        assert_eq!(part, whole[..end], "nothing is taken away");
    }
}

#[test]
fn malformed_messages_are_kept_as_they_are() {
    let mut bytes = b"T\0\0\0\x06\0\x09".to_vec();
    let message = Backend::read(&mut bytes).expect("it is framed well");
    assert_eq!(message, Backend::Unknown { tag: b'T', body: vec![0, 9] });
    assert_eq!(Frontend::decode(b'B', b"no end").encode(), b"B\0\0\0\x0ano end");
}
